"""Cores; one thread for linear algebra: as fast for small matrices, the same bits everywhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock, local
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["available_cores", "one_blas_thread"]

_lock = Lock()
_inside = local()
_users = 0
_before: dict[str, int] = {}


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """
    Keep BLAS libraries to one thread within the block.

    Notes
    -----
    How BLAS shares a product among threads changes its last bits, and with them those of a fit; and
    threads that wait for each other on a busy machine take many times as long as one alone. The
    limit of most libraries holds for the whole process, so that blocks in several threads share
    it: it is lifted when the last one is left. That of libraries with OpenMP is one of each thread.
    """
    global _users
    if getattr(_inside, "block", False):
        yield
        return
    with _lock:
        libraries = _libraries(len(sys.modules))
        if _users == 0:
            _before.clear()
        for library in libraries:
            number = library.get_num_threads()
            if number is not None:
                _before.setdefault(library.filepath, number)
                _limit(library, 1)
        _users += 1
    _inside.block = True
    try:
        yield
    finally:
        _inside.block = False
        with _lock:
            _users -= 1
            for library in libraries:
                if library.filepath in _before and (_users == 0 or _is_of_threads(library)):
                    _limit(library, _before[library.filepath])
                    _free(library)


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> list[Any]:
    """Return the BLAS libraries of this process, to which an import may add others."""
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


def _is_of_threads(library: Any) -> bool:
    """Tell whether each thread has a limit of its own."""
    return getattr(library, "threading_layer", None) == "openmp"


def _limit(library: Any, number: int) -> None:
    """Set the number of threads."""
    _free(library)
    library.set_num_threads(number)


def _free(library: Any) -> None:
    """
    Let any thread set the limit.

    As of threadpoolctl 3.8 only the thread that was the first to do so can, without a word to the
    others, until it ends or says that it has done.
    """
    if hasattr(library, "clear_controlling_thread"):
        library.clear_controlling_thread(force=True)


def _renew_lock() -> None:
    """Forget who holds the lock: in a forked process that thread does not exist."""
    global _lock
    _lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
