"""How inner loops are compiled: cached, without the GIL, and so that they can be vectorized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["compiled", "vectorized"]


def _compile(function: Callable, **options: Any) -> Callable:
    # with Python's error model every division is checked, and no such loop is vectorized
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # there is no directory in which the cache could be written
        return numba.njit(function, **options)


def compiled(function: Callable) -> Callable:
    """Compile a function."""
    return _compile(function)


def vectorized(function: Callable) -> Callable:
    """
    Compile a function whose sums may be reordered; NaN and infinity keep their meaning.

    It becomes part of each compiled function that calls it. LLVM optimizes a function once for
    itself and once more within its caller; in which order it sums may differ. Which of the two a
    process runs would depend on whether it compiled the caller or found it in the cache.
    """
    return _compile(function, fastmath={"contract", "reassoc", "nsz", "arcp"}, forceinline=True)
