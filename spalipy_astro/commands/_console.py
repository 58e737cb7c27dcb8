"""What a command tells: lines for people, objects for pipelines, a log."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any, TextIO

__all__ = ["Console", "in_options"]

log = logging.getLogger(__name__)

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_IN_OPTIONS = {
    "overwrite=True": "--overwrite",
    "shape=(ny, nx)": "--output-shape NX,NY",
    "resample=False": "align_many(..., resample=False) in Python",
    ", alignment.resample(source).": ", OUTPUT.",
    "sources: ": "",
    "source_mask: ": "--mask: ",
    "output is the folder": "OUTPUT is the folder",
    "min_matched=": "--min-n-match ",
    "threshold=": "--threshold",
}


def in_options(words: str) -> str:
    """Turn the arguments that an error of the library names into options of the command."""
    for argument, option in _IN_OPTIONS.items():
        words = words.replace(argument, option)
    return words


class Console:
    """
    Where a command tells what it does.

    Lines about frames and their objects go to the standard output, everything else to the standard
    error. A terminal has a line that shows how far the work is, in place of a line for each frame.

    Parameters
    ----------
    name : str
        What the command is called.
    verbose : int, optional
        0 tells of warnings, 1 of more, 2 of everything.
    quiet : bool, optional
        Whether to tell nothing but errors.
    as_json : bool, optional
        Whether to print an object for each frame in place of its line.
    log_file : str, optional
        A file to which everything is added that is told, with the time.

    Raises
    ------
    OSError
        If the log cannot be written to.
    """

    def __init__(
        self,
        name: str,
        *,
        verbose: int = 0,
        quiet: bool = False,
        as_json: bool = False,
        log_file: str | None = None,
    ) -> None:
        self.name, self.verbose, self.quiet, self.as_json = name, verbose, quiet, as_json
        self.logger = logging.getLogger("spalipy_astro")
        self.level = logging.ERROR if quiet else _LEVELS[min(verbose, 2)]
        self.shows_status = sys.stderr.isatty() and not quiet
        self.status = ""
        self.failed = 0
        self.began = time.monotonic()
        self.file: logging.Handler | None = None
        if log_file is not None:
            self.file = logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace")
            self.file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
        self.handler: logging.Handler = _Handler(self)

    def __enter__(self) -> Console:
        self.before = self.logger.level, self.logger.propagate, warnings.showwarning
        self.logger.propagate = False
        self.logger.setLevel(min(self.level, logging.INFO) if self.file else self.level)
        for handler in (self.handler, self.file):
            if handler is not None:
                self.logger.addHandler(handler)
        self.handler.setLevel(self.level)
        warnings.showwarning = self._show_warning
        return self

    def __exit__(self, *error: object) -> None:
        self._show_status("")
        for handler in (self.handler, self.file):
            if handler is not None:
                self.logger.removeHandler(handler)
                handler.close()
        level, self.logger.propagate, warnings.showwarning = self.before
        self.logger.setLevel(level)

    def frame(self, row: Mapping[str, Any], done: int = 1, total: int | None = 1) -> None:
        """
        Tell what became of a frame.

        Parameters
        ----------
        row : mapping
            A row of the table of `align_many`; a single frame has ``output`` in place of files.
        done, total : int, optional
            How many frames are done, and how many there are.
        """
        failed = row["status"] != "ok"
        self.failed += failed
        words = in_options(_line(row))
        if failed:
            log.error("%s", words, extra={"told": True})
            if not (self.as_json and total == 1):
                self._print(words, sys.stderr)
        else:
            log.info("%s", words, extra={"told": True})
        if self.as_json:
            self._print(json.dumps({key: _plain(value) for key, value in row.items()}), sys.stdout)
        elif not failed and not self.quiet and (total == 1 or not self.shows_status):
            self._print(words, sys.stdout)
        if total != 1:
            self._show_status("" if done == total else self._describe(done, total))

    def step(self, words: str, done: int, total: int | None) -> None:
        """Tell a terminal how far some work is that comes before the frames are done."""
        of = "" if total is None else f" of {total}"
        self._show_status("" if done == total else f"{words}: {done}{of}")

    def say(self, words: str) -> None:
        """Tell something that is neither a frame nor an error."""
        if not self.quiet and not self.as_json:
            self._print(words, sys.stdout)

    def note(self, words: str) -> None:
        """Tell something beside the work."""
        if not self.quiet:
            self._print(f"note: {words}", sys.stderr)

    def error(self, words: str) -> None:
        """Tell what went wrong, in one line."""
        words = " ".join(in_options(words).split())
        log.error("%s", words, extra={"told": True})
        self._print(f"{self.name}: {words}", sys.stderr)

    def _describe(self, done: int, total: int | None) -> str:
        """Say how far the work is."""
        words = f"{done} frames" if total is None else f"{done} of {total} frames"
        if self.failed:
            words += f", {self.failed} failed"
        if total is not None:
            left = (time.monotonic() - self.began) / done * (total - done)
            words += f", about {int(left) // 60}:{int(left) % 60:02d} left"
        return words

    def _show_status(self, words: str) -> None:
        """Show a line that the next one replaces."""
        if self.shows_status and words != self.status:
            self.status = words
            self._write(f"\r\x1b[K{words}", sys.stderr)

    def _print(self, words: str, stream: TextIO) -> None:
        status = self.status
        self._show_status("")
        self._write(f"{words}\n", stream)
        self._show_status(status)

    @staticmethod
    def _write(text: str, stream: TextIO) -> None:
        # names of files may have bytes that are no text, or that the terminal cannot show
        encoding = stream.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            stream.write(text)
            stream.flush()
        except BrokenPipeError:
            # nobody reads any more, as behind "| head": the work goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    def _show_warning(self, message: Any, *others: Any, **more: Any) -> None:
        self.logger.warning("%s", " ".join(str(message).split()))


class _Handler(logging.Handler):
    """Shows what modules log, unless a line has told it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "told", False):
            words = f"{record.levelname.lower()}: {record.getMessage()}"
            self.console._print(words, sys.stderr)


def _line(row: Mapping[str, Any]) -> str:
    """Describe a frame in a line."""
    if row["status"] != "ok":
        return f"{row['source']}: {row['reason']}"
    made = row.get("output") or os.path.relpath(row.get("aligned") or row["asdf"])
    done = " (done before)" if row.get("resumed") else ""
    # a transform that was given has no stars
    to = f"aligned to {row['error']:.2g} px, " if "error" in row else ""
    stars = f": {to}{row['n_matched']} stars, rms {row['rms']:.3f} px" if "rms" in row else ""
    return f"{row['source']} -> {made}{stars}{done}"


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, which knows no NaN."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):  # bytes of names that are no text
        return value.encode("utf-8", "backslashreplace").decode()
    return value
