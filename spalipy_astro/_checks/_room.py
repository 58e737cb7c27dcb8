"""Whether there is memory for an image, before the work on it begins."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

__all__ = ["check_room"]

_UNKNOWN = 2**40  # bytes, where the system does not tell
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def check_room(name: str, shape: tuple[int, int], pixel: int = 4) -> None:
    """
    Raise for an image that this machine has no memory for.

    Parameters
    ----------
    name : str
        The argument that makes it so large.
    shape : tuple of int
        Shape ``(ny, nx)``.
    pixel : int, optional
        Bytes of a pixel: data, uncertainty and what else there is. By default those of float32.

    Raises
    ------
    ValueError
        With the shape, the bytes it takes and those there are.
    """
    size = int(shape[0]) * int(shape[1]) * pixel
    if size > (most := memory()):
        raise ValueError(
            f"{name} asks for an image of shape ({shape[0]}, {shape[1]}), which takes "
            f"{in_words(size)}; this machine has {in_words(most)}. Ask for fewer pixels, or for a "
            "window of them."
        )


@cache
def memory() -> int:
    """Return the bytes of memory that this machine, or its container, has."""
    most = _UNKNOWN
    try:
        most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # as on Windows
        pass
    for path in _LIMITS:
        try:
            most = min(most, int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such limit, or "max"
            continue
    return most


def in_words(size: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    step = 0
    while size >= 1000 and step < len(_UNITS) - 1:
        size, step = size / 1000, step + 1
    return f"{size:.3g} {_UNITS[step]}"
