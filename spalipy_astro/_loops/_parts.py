"""How functions that the loops call are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["OPTIONS", "part", "vectorized"]

# with Python's error model every division is checked, and no such loop is vectorized
OPTIONS: dict[str, Any] = {"error_model": "numpy"}

# what compiled code alone calls needs no way in from Python
_PART: dict[str, Any] = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def part(function: Callable) -> Callable:
    """Compile a function that compiled ones call."""
    return numba.njit(function, **_PART)


def vectorized(function: Callable) -> Callable:
    """
    Compile a function whose sums may be reordered; NaN and infinity keep their meaning.

    It becomes part of each compiled function that calls it. LLVM optimizes a function once for
    itself and once more within its caller; in which order it sums may differ. Which of the two a
    process runs would depend on whether it compiled the caller or found it in the cache.
    """
    return numba.njit(
        function, fastmath={"contract", "reassoc", "nsz", "arcp"}, forceinline=True, **_PART
    )
