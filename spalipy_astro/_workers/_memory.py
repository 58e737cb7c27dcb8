"""Memory while one frame after another is worked on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

import numpy as np

__all__ = ["no_collection", "reuse_arrays"]

_lock = Lock()
_frames = 0
_paused = False


@contextmanager
def no_collection() -> Iterator[None]:
    """
    Put off the collection of reference cycles to the end of the block.

    Notes
    -----
    Writing an ASDF file makes a hundred thousand short-lived objects. The collections that these
    set off go through all that the process has imported, again and again: a fifth of the time of
    a small frame. The switch is that of the whole process. Where several threads work on frames
    there might never be an end, so that collection goes on; where it is off anyway it stays off.
    """
    global _frames, _paused
    with _lock:
        _frames += 1
        if _frames == 1 and gc.isenabled():
            gc.disable()
            _paused = True
        elif _frames > 1:
            _resume()
    try:
        yield
    finally:
        with _lock:
            _frames -= 1
            _resume()


def _resume() -> None:
    """Collect again, if it is for us to say."""
    global _paused
    if _paused:
        _paused = False
        gc.enable()


@cache
def reuse_arrays() -> None:
    """
    Let the memory of one frame's arrays serve the next.

    Notes
    -----
    glibc hands large blocks that are freed back to the system, which fills each page with zeros
    when it is needed again: a fifteenth of the time of a small frame. It no longer does for blocks
    as large as one that it has had to hand back, up to 32 MB. This block is never touched. Other
    allocators, and glibc with thresholds set by the environment, take no notice.
    """
    np.empty(31 << 20, np.uint8)
