"""Output files of the commands: never overwrite an input, and appear complete or not at all."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from irst_stream.config import Config, files_of
from irst_stream.errors import LossError, OutputError, UsageError
from irst_stream.io.jsonl import JsonLines
from irst_stream.io.media.sidecar import is_configuration, sidecar_path
from irst_stream.io.suffixes import suffix_fault
from irst_stream.types import Detections, Tracks

__all__ = ["LinesOutput", "atomic_folder", "atomic_output", "check_outputs", "config_inputs", "write_bytes"]


def check_outputs(args: argparse.Namespace, *more_inputs: Path, **suffixes: str | tuple[str, ...]) -> None:
    """Raise before any work if an output of a command cannot be written, lacks its suffix, or would change an input.

    suffixes: the options that name outputs, each with the suffix it must have, "" for any; several: those of its format,
    for any suffix that promises no other. All other paths that the command was given are inputs, with their sidecars and
    the configuration; more_inputs: inputs that are no arguments of the command. A configuration (.toml) may take the name
    of an input's sidecar, as long as no sidecar is there.
    """
    given = [value for name, value in vars(args).items() if name not in suffixes]
    inputs = [*more_inputs, *(path for value in given for path in _paths(value))]
    if isinstance(config := getattr(args, "config", None), str):
        inputs.append(Path(config))
    sidecars = {sidecar_path(path): path for path in inputs if path.name}
    outputs: dict[Path, str] = {}
    for name, suffix in suffixes.items():
        if (out := getattr(args, name)) is not None:
            option = f"--{name}"
            if (other := outputs.setdefault(out.resolve(), option)) != option:
                raise UsageError(f"{option}, {other}: {out} is named twice")
            _check_output(out, inputs, suffix)
            _check_sidecars(out, sidecars, suffix)


def config_inputs(config: Config) -> list[Path]:
    """Return the files and folders that a configuration names."""
    return [Path(name) for name in (*files_of(config).values(), config.engine) if name]


def _paths(value: object) -> list[Path]:
    if isinstance(value, Path):
        return [value]
    return [path for path in value if isinstance(path, Path)] if isinstance(value, list | tuple) else []


def _check_output(out: Path, inputs: Sequence[Path], suffix: str | tuple[str, ...]) -> None:
    if isinstance(suffix, str) and suffix and out.suffix.lower() != suffix:
        raise UsageError(f"{out}: expected a name that ends in {suffix}")
    if out.is_dir():
        raise OutputError(f"{out}: cannot be written: is a folder")
    if not out.resolve().parent.is_dir():
        raise OutputError(f"{out}: cannot be written: no folder {out.resolve().parent}")
    for given in inputs:
        same = any(_is_same(path, given) for path in (out, _part_path(out), _partial_path(out)))
        within = given.is_dir() and given.resolve() in out.resolve().parents
        if same or (within and (suffix == ".png" or (out.exists() and suffix != ".html"))):  # no input is HTML
            raise OutputError(f"{out}: would change the input {given}; choose another place")
    if isinstance(suffix, tuple) and (fault := suffix_fault(out.name, suffix)):
        raise UsageError(f"{out}: {fault}")
    if not out.exists() or out.is_file():
        _check_writable(out)


def _check_sidecars(out: Path, sidecars: Mapping[Path, Path], suffix: str | tuple[str, ...]) -> None:
    """Raise if an output would change a sidecar, or be taken for one; sidecars: each with the input that it describes."""
    for sidecar, described in sidecars.items():
        if not any(_is_same(path, sidecar) for path in (out, _part_path(out), _partial_path(out))):
            continue
        if sidecar.exists() and not (suffix == ".toml" and is_configuration(sidecar)):
            raise OutputError(f"{out}: would change the input {sidecar}, which describes {described}; choose another place")
        if suffix != ".toml":
            raise OutputError(f"{out}: would be read as what the frames of {described} are; choose another name")


def _check_writable(out: Path) -> None:
    """Create and remove the file that atomic_output() writes to, so that a fault shows before hours of work."""
    part = _part_path(out)
    existed = part.exists()
    try:
        part.open("ab").close()
        if not existed:
            part.unlink()
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error


def _is_same(out: Path, given: Path) -> bool:
    """Whether writing to `out` would write to a given path, which may be a link, or not exist yet."""
    if out.exists() and given.exists():
        return not out.is_char_device() and out.samefile(given)
    return out.resolve() == given.resolve()


def _part_path(out: Path) -> Path:
    """The temporary file next to `out`."""
    return out.with_name(f"{out.name}.part")


def _partial_path(out: Path) -> Path:
    """Where output stands that is not whole, until it is, and for good after a failure."""
    return out.with_name(f"{out.name}.partial")


@contextmanager
def atomic_output(out: Path) -> Iterator[Path]:
    """Yield a temporary path next to `out`, renamed to `out` on success and removed on failure."""
    direct = out.exists() and not out.is_file()  # a device or a pipe cannot be replaced
    part = out if direct else _part_path(out)
    try:
        yield part
        if not direct:
            part.replace(out)
    except BrokenPipeError:  # the reader of a pipe closed it: not an error
        raise
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        if not direct:
            part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Yield a new folder next to `out`, renamed to `out` on success and removed on failure; `out` may exist if empty."""
    part = _part_path(out)
    try:
        if part.exists():
            shutil.rmtree(part)  # of a run that was killed
        part.mkdir(parents=True)
        yield part
        part.replace(out)  # over an empty folder too
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


class LinesOutput:
    """JSON lines that stand in `out` once finish() was called; before, and for good after a failure, in OUT.partial.

    `path`: where they stand.
    """

    def __init__(self, out: Path) -> None:
        self._out, self._direct = out, out.exists() and not out.is_file()  # a device or a pipe cannot be replaced
        self.path = out if self._direct else _partial_path(out)
        self._lines = JsonLines(self.path)

    def write(self, record: Detections | Tracks) -> None:
        """Write one record as one line; raise a LossError if that fails."""
        with self._losses():
            self._lines.write(record)

    def finish(self) -> None:
        """Close the file and give it its final name."""
        with self._losses():
            self._lines.close()
            if not self._direct:
                self.path = self.path.replace(self._out)

    def close(self) -> None:
        """Close the file, which keeps the name it has; may be called twice."""
        with self._losses():
            self._lines.close()

    @contextmanager
    def _losses(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except (OSError, OutputError) as error:
            reason = str(error).removeprefix(f"{self.path}: ")
            where = "" if self._direct else f"; {self.path} holds what was written before"
            raise LossError(f"{self._out}: {reason}{where}") from error


def write_bytes(out: Path, data: bytes) -> None:
    """Write a file atomically."""
    with atomic_output(out) as part:
        part.write_bytes(data)
