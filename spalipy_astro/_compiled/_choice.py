"""Compiled loops where they are installed, numpy where they are not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from typing import Any

from spalipy_astro.errors import NotCompiledWarning

__all__ = ["choose"]


def choose(module: str, name: str) -> Callable[..., Any]:
    """
    Return a loop.

    Parameters
    ----------
    module : str
        The compiled module in this folder; that in numpy has ``_numpy`` behind its name.
    name : str
        The loop.
    """
    try:
        return getattr(import_module(f"{__package__}.{module}"), name)
    except ImportError as error:
        reason = str(error)
    loop = getattr(import_module(f"{__package__}.{module}_numpy"), name)

    @wraps(loop)
    def slow(*arguments: Any) -> Any:
        _warn(reason)
        return loop(*arguments)

    return slow


@cache
def _warn(reason: str) -> None:
    """Say once what is missing, when it is first needed."""
    warnings.warn(
        "The pixel loops are not compiled: numpy replaces them, which is 10 to 50 times slower "
        "and gives the same images. Install a C compiler (on Debian and Ubuntu the packages "
        "gcc and python3-dev, on macOS the Xcode command line tools, on Windows the Build Tools "
        "for Visual Studio) and reinstall spalipy_astro, or install one of its wheels. In a folder "
        "with its sources, start Python with -P, so that it finds the installed package. "
        f"({reason})",
        NotCompiledWarning,
        stacklevel=2,
    )
