"""
The garbage collector in a process that is a command.

Modules make some hundred thousand objects that stay. A collector that goes through them again and
again while they are made, and once more when the process ends, takes a third of the time in which
two small frames are aligned. So a command switches it off until all is imported, lets it pass over
what is there by then, and leaves what is there at the end to the system. Files do not depend on it:
they are closed by those who write them.
"""

from __future__ import annotations

import gc

__all__ = ["begin", "end", "imported"]

_waits = False


def begin() -> None:
    """Do not collect until all is imported. Only for a process of the package's own."""
    global _waits
    _waits = True
    gc.disable()


def imported() -> None:
    """Collect from now on, but not what is there; without `begin` nothing happens."""
    global _waits
    if _waits:
        _waits = False
        gc.freeze()
        gc.enable()


def end() -> None:
    """Leave what is there to the end of the process."""
    gc.freeze()
