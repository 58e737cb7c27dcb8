"""
Loops in machine code that outlives the process that compiled it.

numba compiles a loop when it is first called with arguments of some types. To load what numba keeps
on disk itself, a process must import numba with its tables of types and implementations: half a
second and 120 MB, whatever is loaded. Object code needs LLVM alone: 50 ms and 40 MB.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from collections.abc import Callable
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from spalipy_astro._files import whole_file

__all__ = ["Loop"]

_ENTRY = "loop"  # what the function is called in its object file
# functions of the C library that object code may call
_LIBRARY = {"exp", "expf", "hypot", "hypotf", "memcpy", "memmove", "memset", "sqrt", "sqrtf"}

_C_TYPES = {"f": ctypes.c_float, "d": ctypes.c_double, "i": ctypes.c_int64, "?": ctypes.c_int64}
_Bytes: Any = ctypes.c_char * 0
_OTHER = "other"  # kind of arrays that are not in C order and of the machine's own types
_ENGINES: list[Any] = []  # code lives as long as its engine
_HERE = Path(__file__).parent


class Loop:
    """
    A compiled function of arrays, numbers and tuples of these; it returns nothing.

    Parameters
    ----------
    module, name : str
        Where it is written; the module is imported only to compile it.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name
        self._lock = Lock()
        self._known: dict[tuple[Any, ...], Callable | None] = {}

    def __call__(self, *arguments: Any) -> None:
        values: list[Any] = []
        kinds = tuple(_flatten(argument, values) for argument in arguments)
        if kinds not in self._known:
            with self._lock:
                if kinds not in self._known:
                    self._known[kinds] = self._find(kinds)
        function = self._known[kinds]
        if function is None:
            self._by_numba(*arguments)
        else:
            function(*values)

    def _find(self, kinds: tuple[Any, ...]) -> Callable | None:
        """Load or compile the function for some kinds of arguments; None if only numba can."""
        if not _supported() or _OTHER in repr(kinds):
            return None
        code = _read_or_compile(self._module, self._name, kinds)
        return None if code is None else _load(code, kinds)

    @cached_property
    def _by_numba(self) -> Callable:
        """What numba makes of it, for all that object code is not used for."""
        import numba

        from spalipy_astro._loops._parts import OPTIONS

        function = _function(self._module, self._name)
        try:
            return numba.njit(function, nogil=True, cache=True, **OPTIONS)
        except RuntimeError:  # there is no directory in which the cache could be written
            return numba.njit(function, nogil=True, **OPTIONS)


@cache
def _supported() -> bool:
    """
    Whether object code is used; it was tried on Linux alone.

    It is not where numba is told to leave functions in Python, as it is to measure coverage. LLVM
    ends the process if it does not find a function of the library.
    """
    if sys.platform != "linux" or os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return False
    library = ctypes.CDLL(None)
    return all(hasattr(library, name) for name in _LIBRARY)


def _function(module: str, name: str) -> Callable:
    """Return what is to be compiled."""
    return getattr(import_module(f"{__package__}.{module}"), name)


def _flatten(argument: Any, values: list[Any]) -> Any:
    """
    Append pointers, lengths and numbers to a list, and say of what kind they are.

    The kind of an array is the letter of its type and the number of dimensions, that of a number
    one letter.
    """
    if isinstance(argument, np.ndarray):
        flags = argument.flags
        if not (flags.c_contiguous and flags.aligned and argument.dtype.isnative):
            return _OTHER
        # in a third of the time that numpy's ``ctypes.data`` takes: there are many arguments
        values.append(
            ctypes.addressof(_Bytes.from_buffer(argument))
            if flags.writeable
            else argument.ctypes.data
        )
        values.extend(argument.shape)
        return argument.dtype.char + str(argument.ndim)
    if isinstance(argument, tuple):
        return tuple(_flatten(part, values) for part in argument)
    values.append(argument)
    if isinstance(argument, bool | np.bool_):
        return "?"
    if isinstance(argument, int | np.integer):
        return "i"
    return "f" if isinstance(argument, np.float32) else "d"


def _c_types(kind: Any) -> list[Any]:
    """Types of what `_flatten` appends for an argument of a kind."""
    if isinstance(kind, tuple):
        return [type_ for part in kind for type_ in _c_types(part)]
    if kind in _C_TYPES:
        return [_C_TYPES[kind]]
    return [ctypes.c_void_p] + [ctypes.c_int64] * int(kind[1:])


def _read_or_compile(module: str, name: str, kinds: tuple[Any, ...]) -> bytes | None:
    """Return object code that stands alone, from the disk or made and kept; None if none does."""
    key = hashlib.sha256(repr((_build(), module, name, kinds)).encode()).hexdigest()[:16]
    path = _folder() / f"{module}.{name}-{key}.loop"
    if (code := _read(path)) is not None:
        return code
    from spalipy_astro._loops._compiling import object_code

    code, needed = object_code(_function(module, name), kinds, _machine(), _ENTRY)
    if needed - _LIBRARY:  # such as numba's memory and exceptions
        return None
    _keep(path, code)
    return code


def _read(path: Path) -> bytes | None:
    """Read object code; None if there is none or the file is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    check, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == check else None


def _keep(path: Path, code: bytes) -> None:
    """Write object code where the next process finds it, if anything can be written there."""
    try:
        path.parent.mkdir(exist_ok=True)
        with whole_file(path, overwrite=True) as partial:
            partial.write_bytes(hashlib.sha256(code).digest() + code)
    except OSError:
        pass


@cache
def _folder() -> Path:
    """Return the folder for object code: beside the package's byte code, or the user's."""
    folder = _HERE / "__pycache__"
    if os.access(folder if folder.exists() else _HERE, os.W_OK):
        return folder
    from astropy.config import get_cache_dir_path

    try:
        return get_cache_dir_path("spalipy_astro")
    except (OSError, RuntimeError):  # there is no home, or nothing can be written there
        return folder


@cache
def _build() -> tuple[str, ...]:
    """Return what object code depends on: sources, compilers and processor."""
    import llvmlite.binding as llvm

    sources = hashlib.sha256()
    for path in sorted(_HERE.glob("*.py")):
        sources.update(path.read_bytes())
    return (
        sources.hexdigest(),
        version("numba"),
        version("llvmlite"),
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
    )


def _machine() -> Any:
    """Make LLVM's model of this processor; an engine owns its own."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        codemodel="jitdefault",
        jit=True,
    )


def _load(code: bytes, kinds: tuple[Any, ...]) -> Callable:
    """Make object code callable; it runs without the interpreter's lock."""
    import llvmlite.binding as llvm

    # one for each: names within object files may be the same
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    prototype = ctypes.CFUNCTYPE(None, *(t for kind in kinds for t in _c_types(kind)))
    _ENGINES.append(engine)
    return prototype(engine.get_function_address(_ENTRY))
