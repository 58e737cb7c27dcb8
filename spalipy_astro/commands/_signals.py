"""Signals that ask a command to end, heard from its first moment to its last."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

__all__ = ["CONTINUES", "Ended", "Heard", "end_at_once", "told"]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_PATIENCE = 3.0  # s: sooner, a second signal does not disturb what tidies up after the first


class Ended(BaseException):
    """A signal that asks for the end: no error, which a frame could have."""


CONTINUES = "the same command continues"


def told(number: int, then: str = CONTINUES) -> str:
    """Say that a signal ended the command, and what to do then."""
    end = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    return f"{end}; files are whole, and {then}"


class _AtOnce:
    """
    A handler that ends the process while there is nothing to tidy up, as while it imports.

    An exception would come out of an import as another one, or be swallowed.
    """

    def __init__(self, prog: str) -> None:
        self.prog = prog

    def __call__(self, number: int, frame: FrameType | None) -> None:
        sys.stderr.flush()
        os.write(2, f"{self.prog}: {told(number)}\n".encode())
        os._exit(128 + number)


def end_at_once(prog: str) -> None:
    """
    Let signals that ask for the end have it until `Heard` listens, and again after that.

    Parameters
    ----------
    prog : str
        What the command is called.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _numbers():
            signal.signal(number, _AtOnce(prog))


class Heard:
    """
    A block in which such a signal is an exception that runs through the blocks within, to tidy up.

    Attributes
    ----------
    number : int
        The signal that was heard last; 0 for none.
    """

    def __init__(self) -> None:
        self.number = 0
        self.time = -_PATIENCE
        self.before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._hear) for number in _numbers()}

    def __exit__(self, *error: object) -> None:
        for number, old in self.before.items():
            signal.signal(number, old)

    @property
    def just_now(self) -> bool:
        """Whether it was heard so shortly before that it is the reason of an error."""
        return time.monotonic() < self.time + _PATIENCE

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.just_now:
            return
        self.number, self.time = number, time.monotonic()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Ended


def _numbers() -> list[int]:
    """Return the signals to listen to: not those that are ignored, as by nohup, or handled."""
    known = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    usual = (signal.SIG_DFL, signal.default_int_handler)
    return [n for n in known if (old := signal.getsignal(n)) in usual or isinstance(old, _AtOnce)]
