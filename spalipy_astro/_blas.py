"""Cores; one thread for linear algebra: as fast for small matrices, the same bits everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from threadpoolctl import threadpool_limits

__all__ = ["available_cores", "one_blas_thread"]

_lock = Lock()
_users = 0
_limits: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """
    Keep BLAS libraries to one thread within the block.

    Notes
    -----
    How BLAS shares a product among threads changes its last bits, and with them those of a fit; and
    threads that wait for each other on a busy machine take many times as long as one alone. The
    limit holds for the whole process, so that blocks in several threads share it: it is lifted when
    the last one is left.
    """
    global _users, _limits
    with _lock:
        if _users == 0:
            _limits = threadpool_limits(1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limits.restore_original_limits()
                _limits = None


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
