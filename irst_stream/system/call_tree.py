"""Compile a function and all that it calls as one: lower each function once, optimise and generate code for the root alone.

numba generates machine code for every function, and links each callee into all of its callers, which it optimises and
generates again: a deep tree of calls takes a minute, most of it for code that nobody runs. Here a function that compiled
code calls is only lowered to intermediate code. The functions that Python calls, the roots, link the intermediate code of
all that they call, and only these are optimised as a whole and generated.

This relies on internals of numba, whose version pyproject.toml bounds for that reason.
"""

# mypy: disable-error-code="attr-defined, misc, no-any-return, no-untyped-call, no-untyped-def"
# numba's internals are not typed

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite.binding.newpassmanagers import create_new_module_pass_manager
from numba.core.codegen import CPUCodegen, JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder, Flags
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.dispatcher import _FunctionCompiler
from numba.core.environment import lookup_environment
from numba.core.registry import CPUDispatcher
from numba.core.runtime import rtsys
from numba.core.typed_passes import DumpParforDiagnostics, InlineOverloads, NopythonRewrites
from numba.core.types import unliteral
from numba.core.typing import make_concrete_template
from numba.core.untyped_passes import InlineClosureLikes, InlineInlinables, WithLifting
from numba.extending import overload
from numba.np import arrayobj

__all__ = ["TreeDispatcher"]

FLAGS_HASH = hash(Flags())  # the same for all flags
UNUSED_PASSES = {
    DumpParforDiagnostics,
    InlineClosureLikes,
    InlineInlinables,
    InlineOverloads,
    NopythonRewrites,
    WithLifting,
}


class TreeDispatcher(CPUDispatcher):
    """A compiled function into which all that it calls is compiled."""

    def __init__(self, py_func, locals=None, targetoptions=None):  # noqa: A002, numba rebuilds a pickled dispatcher so
        super().__init__(py_func, locals, targetoptions, _TreeCompiler)
        self._compiler.__class__ = _RootCompiler
        rtsys.initialize(self.targetctx)  # before any tree, because all of them link numba's own run-time functions
        self._callee = _CalleeCompiler(
            py_func, self.targetdescr, self.targetoptions, self.locals, self._compiler.pipeline_class
        )

    def compile(self, sig):
        """Compile the function for a call from Python with these types; return its entry point."""
        with _trees(self.targetctx.codegen()):
            known = self.overloads.get(tuple(sig))
            if known is not None and isinstance(known.entry_point, _NoEntryPoint):
                del self.overloads[tuple(sig)]
            return super().compile(sig)

    def get_call_template(self, args, kws):
        """Lower the function for a call from compiled code with these types; return what numba asks of the call."""
        pysig, types = self._compiler.fold_argument_types(
            [unliteral(given) for given in args], kws
        )  # once for all constants
        with _trees(self.targetctx.codegen()):
            if tuple(types) not in self.overloads:
                lowered = self._callee.compile(tuple(types), None)._replace(entry_point=_NoEntryPoint())
                self.targetctx.insert_user_function(lowered.entry_point, lowered.fndesc, [lowered.library])
                self.overloads[tuple(lowered.signature.args)] = lowered
        name = self.py_func.__name__
        return make_concrete_template(name, key=name, signatures=self.nopython_signatures), pysig, types, {}


class _NoEntryPoint:
    """Identifies a function that has been lowered for compiled code and that Python cannot call yet."""


class _TreeCompiler(CompilerBase):
    """numba's passes, without those for what is not used here: closures, comprehensions, fused array expressions."""

    def define_pipelines(self):
        """Define the one pipeline."""
        usual = DefaultPassBuilder.define_nopython_pipeline(self.state).passes
        passes = PassManager("tree")
        for each, description in usual:
            if each not in UNUSED_PASSES:
                passes.add_pass(each, description)
        passes.finalize()
        return [passes]


class _RootCompiler(_FunctionCompiler):
    """Types, lowers and generates a function that Python calls."""

    def _customize_flags(self, flags):
        return _QuickFlags(flags)


class _CalleeCompiler(_FunctionCompiler):
    """Types and lowers a function, without the wrappers that Python and C call, and without machine code."""

    def _customize_flags(self, flags):
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        return _QuickFlags(flags)


class _QuickFlags(Flags):
    """Flags that are compared in one step: numba looks up by them whatever a function calls."""

    __slots__ = ()

    def __hash__(self):
        return FLAGS_HASH

    def __eq__(self, other):
        return isinstance(other, Flags) and (self._values == other._values or super().__eq__(other))


class _TreeLibrary(JITCodeLibrary):
    """The code of one function. Machine code is generated, with all that is called, when it is first asked for."""

    _generated = False

    def _optimize_functions(self, module: Any) -> None:
        """What numba would do here, function by function, `finalize` does with all of them at once, for half the time."""
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Simplify the function's own code, which callers then link."""
        self._raise_if_finalized()
        # Loops that call functions are simplified before these are inlined, or else they would not be vectorised.
        passes = create_new_module_pass_manager()
        passes.add_sroa_pass()
        passes.add_simplify_cfg_pass()
        passes.add_instruction_combine_pass()
        passes.add_loop_rotate_pass()
        passes.add_jump_threading_pass()
        passes.add_refprune_pass()
        passes.run(self._final_module, self._codegen._pass_builder(opt=0, loop_vectorize=False, slp_vectorize=False))
        self._finalized = True

    def _optimize_final_module(self) -> None:
        """Optimise the linked module in full; `finalize` has run the cheap passes on each function before."""
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)

    def get_pointer_to_function(self, name: str) -> int:
        """The address of a function, 0 where the library has none of that name; generates the code if that is needed."""
        self._ensure_finalized()
        if not self._generated:
            if all(function.is_declaration or function.name != name for function in self._final_module.functions):
                return 0
            self._generate()
        return super().get_pointer_to_function(name)

    @property
    def codegen(self) -> _TreeLibrary:
        """What numba asks to set an environment: the library itself, which does so when there is code."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Set the environment, the constants and names that a function refers to, where the code has been generated."""
        if self._generated:
            self._codegen.set_env(name, environment)

    def _generate(self) -> None:
        """Link all that is called, optimise the whole, and generate its machine code."""
        self._codegen._check_llvm_bugs()
        for library in self._callees():
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._shared_module = None  # it would lack the callees
        self._optimize_final_module()
        self._final_module.verify()
        self._finalize_final_module()

    def _finalize_final_module(self) -> None:
        """Generate machine code, or load it from the cache, and set the environments of all functions in it."""
        super()._finalize_final_module()
        self._generated = True
        for variable in self._final_module.global_variables:
            if environment := lookup_environment(variable.name):
                self.set_env(variable.name, environment)

    def _callees(self) -> list[Any]:
        """The libraries of all functions that are called, directly or by a callee, each once."""
        found: dict[Any, None] = {}
        waiting = list(self._linking_libraries)
        while waiting:
            library = waiting.pop(0)
            if library not in found:
                found[library] = None
                if isinstance(library, _TreeLibrary) and not library._generated:
                    waiting += library._linking_libraries
        return list(found)


def _refuse_shapes(_from, _into):
    """Raise the error of a slice that is assigned an array of another shape."""


@overload(_refuse_shapes)
def _compile_refuse_shapes(_from, _into):
    def refuse(_from, _into):
        raise ValueError("cannot assign an array to a slice of another shape")

    return refuse


@contextmanager
def _trees(codegen: CPUCodegen) -> Iterator[None]:
    """Let numba compile trees in this context; other functions of the program, in other threads too, are not affected."""
    with global_compiler_lock:
        usual = codegen._library_class, arrayobj.raise_with_shape_context
        codegen._library_class = _TreeLibrary
        arrayobj.raise_with_shape_context = _refuse_shapes  # numba's own compiles for a second, to format the shapes
        try:
            yield
        finally:
            codegen._library_class, arrayobj.raise_with_shape_context = usual
