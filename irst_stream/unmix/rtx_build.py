"""Build one ONNX graph by TensorRT for RTX, without a GPU, in a process of its own: python rtx_build.py JOB.

JOB is a JSON object (see rtx_check); the answer is one line of JSON on standard output (rtx_check.Built). The two libraries
export only functions that create objects, whose methods are C++: here they are called through the tables of virtual
functions. A table that is not as expected crashes the process, so this program refuses versions whose tables it does not
know, and whoever asks runs it as a child. It imports nothing but the standard library.

A public object is two pointers: to a table that holds its destructor, and to its implementation, whose own table starts
with two destructors and the methods below. The parser is one object, with its methods in its own table.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections import Counter
from ctypes import c_bool, c_char_p, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any, NamedTuple

CHECKED_VERSIONS = (10701,)  # 1.7.1, as getInferLibVersion returns it; the tables below are those of this version
ERROR, WARNING = 1, 2  # severities, the gravest first: internal error 0, error 1, warning 2
MAX_MESSAGES = 8  # of each kind in an answer
MAX_DIMENSIONS = 8
STRONGLY_TYPED = 0  # flags of a network: the only kind there is


class Dims(ctypes.Structure):
    """A shape; -1 is an open dimension."""

    _fields_ = (("count", c_int32), ("sides", c_int64 * MAX_DIMENSIONS))

    def tolist(self) -> list[int]:
        """Return the shape as a list."""
        return list(self.sides[: self.count])


class Method(NamedTuple):
    """A method's place in its object's table, its result and its arguments."""

    place: int
    result: Any
    arguments: tuple[Any, ...] = ()


METHODS = {  # of objects with an implementation
    "builder.new_config": Method(5, c_void_p),
    "builder.new_network": Method(6, c_void_p, (c_uint32,)),
    "builder.new_profile": Method(7, c_void_p),
    "builder.build": Method(11, c_void_p, (c_void_p, c_void_p)),
    "config.set_flags": Method(6, None, (c_uint32,)),
    "config.add_profile": Method(23, c_int32, (c_void_p,)),
    "config.profile_count": Method(24, c_int32),
    "config.set_capability_count": Method(55, c_bool, (c_int32,)),
    "config.set_capability": Method(57, c_bool, (c_int32, c_int32)),
    "network.input_count": Method(14, c_int32),
    "network.input": Method(15, c_void_p, (c_int32,)),
    "network.output_count": Method(16, c_int32),
    "network.output": Method(17, c_void_p, (c_int32,)),
    "profile.set_shape": Method(2, c_bool, (c_char_p, c_int32, c_void_p)),
    "profile.shape": Method(3, Dims, (c_char_p, c_int32)),
    "profile.is_valid": Method(7, c_bool),
    "tensor.name": Method(3, c_char_p),
    "tensor.shape": Method(5, Dims),
    "tensor.type": Method(6, c_int32),
    "memory.size": Method(3, c_size_t),
}
PARSER_METHODS = {  # of objects without one
    "parser.parse": Method(0, c_bool, (c_char_p, c_size_t, c_char_p)),
    "parser.error_count": Method(3, c_int32),
    "parser.error": Method(4, c_void_p, (c_int32,)),
    "error.description": Method(1, c_char_p),
    "error.node": Method(6, c_char_p),
    "error.operator": Method(7, c_char_p),
}


class RefusedError(Exception):
    """TensorRT for RTX does not do what was asked; the message is one line."""


class Logger:
    """A logger for the libraries, which call the last entry of its table; it must outlive all they create."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: Counter[str] = Counter()
        self._log = ctypes.CFUNCTYPE(None, c_void_p, c_int32, c_char_p)(self._take)
        # before it stand the language, the interface's version and two destructors, which a logger is not asked for
        self._table = (c_void_p * 5)(0, 0, 0, 0, ctypes.cast(self._log, c_void_p).value)
        self._object = (c_void_p * 1)(ctypes.addressof(self._table))
        self.address = ctypes.addressof(self._object)

    def _take(self, _: int, severity: int, message: bytes) -> None:
        line = _first_line(message)
        if severity <= ERROR:
            self.errors.append(line)
        elif severity == WARNING:
            self.warnings[line.removeprefix("(foreignNode)").strip()] += 1


def call(target: int, name: str, *given: Any) -> Any:
    """Call a method of METHODS or PARSER_METHODS on the object at an address."""
    if name in METHODS:
        method, implementation = METHODS[name], ctypes.cast(target, ctypes.POINTER(c_void_p))[1]
    else:
        method, implementation = PARSER_METHODS[name], target
    table = ctypes.cast(implementation, ctypes.POINTER(ctypes.POINTER(c_void_p)))[0]
    return ctypes.CFUNCTYPE(method.result, c_void_p, *method.arguments)(table[method.place])(implementation, *given)


def function(library: ctypes.CDLL, name: str, *arguments: Any) -> Any:
    """Return a library's function that creates an object."""
    return ctypes.CFUNCTYPE(c_void_p, *arguments)((name, library))


def new(logger: Logger, what: str, address: int | None) -> int:
    """Return an object's address; refuse a null pointer."""
    if not address:
        raise RefusedError(f"{what}: {logger.errors[-1] if logger.errors else 'no error message'}")
    return address


def build(job: dict[str, Any]) -> dict[str, Any]:
    """Build the graph of a job; return what rtx_check.Built holds. Raises RefusedError."""
    runtime = ctypes.CDLL(job["runtime"], mode=ctypes.RTLD_GLOBAL)
    version = runtime.getInferLibVersion()
    if version not in CHECKED_VERSIONS:
        known = ", ".join(map(version_text, CHECKED_VERSIONS))
        raise RefusedError(f"version {version_text(version)} has an interface that is not known here; expected {known}")
    parsers = ctypes.CDLL(job["parser"])
    new_builder = function(runtime, "createInferBuilder_INTERNAL", c_void_p, c_int32)
    new_parser = function(parsers, "createNvOnnxParser_INTERNAL", c_void_p, c_void_p, c_int32)
    logger = Logger()
    began = time.perf_counter()
    builder = new(logger, "no builder", new_builder(logger.address, version))
    network = new(logger, "no network", call(builder, "builder.new_network", STRONGLY_TYPED))
    parser_version = parsers.getNvOnnxParserVersion()
    parser = new(logger, "no parser", new_parser(network, logger.address, parser_version))
    parse(parser, job["graph"])
    config = new(logger, "no configuration", call(builder, "builder.new_config"))
    configure(logger, builder, config, job)
    plan = new(logger, "no plan", call(builder, "builder.build", network, config))
    if logger.errors:
        raise RefusedError(logger.errors[-1])
    return {
        "version": version_text(version),
        "inputs": tensors(network, "input"),
        "outputs": tensors(network, "output"),
        "profiles": call(config, "config.profile_count"),
        "plan_bytes": call(plan, "memory.size"),
        "seconds": time.perf_counter() - began,
        "warnings": dict(logger.warnings),
    }


def parse(parser: int, path: str) -> None:
    """Parse an ONNX file; refuse it with the first nodes that the parser refuses."""
    graph = Path(path).read_bytes()
    if call(parser, "parser.parse", graph, len(graph), None):
        return
    faults = []
    for k in range(min(call(parser, "parser.error_count"), MAX_MESSAGES)):
        error = call(parser, "parser.error", k)
        node, operator, why = (_first_line(call(error, f"error.{part}")) for part in ("node", "operator", "description"))
        faults.append(f"node {node} ({operator}): {why}" if node else why)
    raise RefusedError(f"cannot parse the graph: {'; '.join(faults) or 'no error message'}")


def configure(logger: Logger, builder: int, config: int, job: dict[str, Any]) -> None:
    """Set flags, compute capabilities and profiles, and compare the profiles with what was asked."""
    call(config, "config.set_flags", 0)  # the defaults allow TF32
    capabilities = job["capabilities"]
    taken = call(config, "config.set_capability_count", len(capabilities))
    if not taken or not all(call(config, "config.set_capability", c, k) for k, c in enumerate(capabilities)):
        raise RefusedError(f"does not take the compute capabilities {capabilities}")
    for number, shapes in enumerate(job["profiles"]):
        profile = new(logger, "no profile", call(builder, "builder.new_profile"))
        for name, triple in shapes.items():
            for which, shape in enumerate(triple):
                dims = Dims(len(shape), (c_int64 * MAX_DIMENSIONS)(*shape))
                call(profile, "profile.set_shape", name.encode(), which, ctypes.addressof(dims))
                if call(profile, "profile.shape", name.encode(), which).tolist() != shape:
                    raise RefusedError(f"does not take {name} of {shape}")
        if not call(profile, "profile.is_valid") or call(config, "config.add_profile", profile) != number:
            raise RefusedError(f"does not take the profile {shapes}")


def tensors(network: int, kind: str) -> list[tuple[str, list[int], int]]:
    """Return name, shape and type of a network's inputs or outputs."""
    found = [call(network, f"network.{kind}", k) for k in range(call(network, f"network.{kind}_count"))]
    return [
        (call(one, "tensor.name").decode(), call(one, "tensor.shape").tolist(), call(one, "tensor.type")) for one in found
    ]


def version_text(version: int) -> str:
    """Turn 10701 into 1.7.1."""
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


def _first_line(message: bytes | None) -> str:
    lines = (message or b"").decode(errors="replace").strip().splitlines()
    return lines[0].strip() if lines else ""


if __name__ == "__main__":
    try:
        print(json.dumps(build(json.loads(sys.argv[1]))), flush=True)
    except (RefusedError, OSError) as error:
        print(json.dumps({"refused": str(error).partition("\n")[0]}), flush=True)
