"""The functions that kernels call.

Numba makes machine code of every function that it compiles, and two wrappers by which Python may
call it; the code is made again in each kernel that uses the function. A part goes through numba's
front end alone: LLVM sees it in the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import _dynfunc  # pyright: ignore[reportAttributeAccessIssue]
from numba.core import codegen, types
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

OPTIONS: dict[str, Any] = {
    # A kernel raises no errors and counts no references.
    "nogil": True, "error_model": "numpy", "no_rewrites": True, "_nrt": False,
    "no_cfunc_wrapper": True,
}  # fmt: skip
"""Of kernels and parts."""


class _Library(codegen.JITCodeLibrary):
    """The code of a part, and of the parts that it calls, as numba's front end makes it."""

    def add_llvm_module(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout
        self._final_module.link_in(ll_module)

    def finalize(self) -> None:
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Numba's, into a :class:`_Library`."""

    def run_pass(self, state: Any) -> Any:
        context = state.targetctx
        state.library = _Library(context.codegen(), state.func_id.func_qualname)
        context.get_executable = _name
        try:
            return super().run_pass(state)
        finally:
            del context.get_executable


def _name(library: Any, description: Any, environment: Any) -> Any:
    """What numba knows a part by: a function that cannot be called."""
    library.finalize()
    module, name = description.lookup_module(), description.qualname.split(".")[-1]
    return _dynfunc.make_function(module, name, "a part of kernels", 0, environment, (library,))


class _Parts(Compiler):
    def define_pipelines(self) -> list[Any]:
        managers = super().define_pipelines()
        for manager in managers:
            manager.passes = [
                (_Lowering if each is NativeLowering else each, what)
                for each, what in manager.passes
            ]
            manager.finalize()
        return managers


def part(function: Callable[..., Any]) -> Any:
    """Decorate a function that kernels call.

    It is compiled once for each combination of types; the values of constants make no difference.
    """
    options = {**OPTIONS, "no_cpython_wrapper": True, "pipeline_class": _Parts}
    made: Any = numba.njit(**options)(function)
    template = made.get_call_template

    def of_any_value(arguments: Any, keywords: Any) -> Any:
        return template([types.unliteral(each) for each in arguments], keywords)

    made.get_call_template = of_any_value
    return made
