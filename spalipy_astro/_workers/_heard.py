"""What is said in worker processes, brought to the process that started them."""

from __future__ import annotations

import logging
import multiprocessing
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["heard"]


class _Notes(logging.Handler):
    """Keeps warnings in a list."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.notes: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.notes.append(record.getMessage())


@contextmanager
def heard() -> Iterator[list[str]]:
    """
    Collect what is warned of in a worker process; elsewhere nothing.

    Yields
    ------
    list of str
        The messages of log records and of warnings, in their order, each once. The other process
        knows what its user wants to be told, and where; this one would write to the terminal.
    """
    if multiprocessing.parent_process() is None:
        yield []
        return
    logger, handler = logging.getLogger("spalipy_astro"), _Notes()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    notes: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield notes
            handler.notes += [str(warning.message) for warning in caught]
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        notes += dict.fromkeys(" ".join(note.split()) for note in handler.notes)
