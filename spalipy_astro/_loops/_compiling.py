"""Object code of a loop, made by numba."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import types

from spalipy_astro._loops._parts import OPTIONS

__all__ = ["object_code"]

_POINTER = ir.IntType(8).as_pointer()
_SCALARS = {"f": types.float32, "d": types.float64, "i": types.int64, "?": types.int64}


def object_code(
    function: Callable, kinds: tuple[Any, ...], machine: Any, name: str
) -> tuple[bytes, set[str]]:
    """
    Compile a loop for arguments of some kinds.

    Parameters
    ----------
    function : callable
        Returns nothing. What it needs are arrays and numbers that it is given: memory that it would
        allocate and exceptions that it would raise need the interpreter.
    kinds : tuple
        What `_machinecode._flatten` says of the arguments.
    machine : llvmlite.binding.TargetMachine
        The processor.
    name : str
        What the function is to be called.

    Returns
    -------
    code : bytes
        An object file. The function takes a pointer and the lengths for each array, one number for
        all else.
    needed : set of str
        What it does not define itself.
    """
    entry, signature = _entry(function, kinds)
    compiled = numba.cfunc(signature, forceinline=True, **OPTIONS)(entry)
    module = llvm.parse_assembly(compiled.inspect_llvm())
    module.link_in(llvm.parse_assembly(str(_definitions(module.triple))))
    module.get_function(compiled.native_name).name = name
    return machine.emit_object(module), _needs(module)


def _entry(function: Callable, kinds: tuple[Any, ...]) -> tuple[Callable, Any]:
    """Make a function of pointers and numbers only, and its signature."""
    names: list[str] = []
    signature: list[Any] = []
    inner = numba.njit(function, forceinline=True, **OPTIONS)
    scope: dict[str, Any] = {"function": inner, "carray": numba.carray}

    def add(type_: Any) -> str:
        names.append(f"a{len(names)}")
        signature.append(type_)
        return names[-1]

    def expression(kind: Any) -> str:
        if isinstance(kind, tuple):
            return f"({''.join(f'{expression(part)}, ' for part in kind)})"
        if kind in _SCALARS:
            return f"{add(_SCALARS[kind])}{' != 0' if kind == '?' else ''}"
        pointer, dtype = add(types.voidptr), f"dtype{len(names)}"
        scope[dtype] = np.dtype(kind[0])
        shape = "".join(f"{add(types.int64)}, " for _ in range(int(kind[1:])))
        return f"carray({pointer}, ({shape}), {dtype})"

    call = ", ".join(expression(kind) for kind in kinds)
    exec(f"def entry({', '.join(names)}):\n    function({call})", scope)
    return scope["entry"], types.void(*signature)


def _definitions(triple: str) -> ir.Module:
    """Define what is only declared in the modules that numba makes."""
    module = ir.Module()
    module.triple = triple
    # for memory that was allocated; there is none, but LLVM does not see that in all places
    release = ir.Function(
        module, ir.FunctionType(ir.VoidType(), [_POINTER]), "NRT_MemInfo_call_dtor"
    )
    ir.IRBuilder(release.append_basic_block()).unreachable()
    return module


def _needs(module: Any) -> set[str]:
    """Return the names that a module does not define itself."""

    def declared() -> Iterator[str]:
        for values in (module.functions, module.global_variables):
            yield from (value.name for value in values if value.is_declaration)

    return {name for name in declared() if not name.startswith("llvm.")}
