"""What went wrong with one item, in the words of its row."""

from __future__ import annotations

from spalipy_astro.errors import AlignmentError

__all__ = ["describe"]


def describe(error: BaseException) -> str:
    """Say in words what went wrong."""
    text = " ".join(str(error).split())
    if isinstance(error, AlignmentError | FileExistsError | FileNotFoundError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
