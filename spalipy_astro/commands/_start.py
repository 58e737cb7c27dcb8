"""Where the commands start: they listen to signals, and then import what takes a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from spalipy_astro.commands import _collector
from spalipy_astro.commands._signals import end_at_once

__all__ = ["align_fits", "align_fits_simple", "align_group", "main"]


def align_fits(arguments: Sequence[str] | None = None, *, prog: str = "align-fits") -> int:
    """
    Run ``align-fits``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` by default.
    prog : str, optional
        What the command is called in messages.

    Returns
    -------
    int
        The exit status.
    """
    return _run("_align_fits", "align_fits", arguments, prog)


def align_fits_simple(
    arguments: Sequence[str] | None = None, *, prog: str = "align-fits-simple"
) -> int:
    """
    Run ``align-fits-simple``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` by default.
    prog : str, optional
        What the command is called in messages.

    Returns
    -------
    int
        The exit status.
    """
    return _run("_align_fits", "align_fits_simple", arguments, prog)


def align_group(arguments: Sequence[str] | None = None, *, prog: str = "align-group") -> int:
    """
    Run ``align-group``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` by default.
    prog : str, optional
        What the command is called in messages.

    Returns
    -------
    int
        The exit status.
    """
    return _run("_align_group", "align_group", arguments, prog)


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m spalipy_astro") -> int:
    """
    Run ``python -m spalipy_astro``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` by default.
    prog : str, optional
        What the command is called in messages.

    Returns
    -------
    int
        The exit status.
    """
    return _run("_demo", "main", arguments, prog)


def _run(module: str, name: str, arguments: Sequence[str] | None, prog: str) -> int:
    """Run a command; one that is a process of its own may be ended at any time."""
    if arguments is not None:
        return _command(module, name)(arguments, prog=prog)
    end_at_once(prog)
    _collector.begin()
    try:
        return _command(module, name)(None, prog=prog)
    finally:
        _collector.end()


def _command(module: str, name: str) -> Callable[..., int]:
    """Import a command."""
    return getattr(import_module(f"spalipy_astro.commands.{module}"), name)
