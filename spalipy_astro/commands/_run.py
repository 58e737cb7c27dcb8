"""How the commands begin and end: signals and errors become a line and an exit status."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from spalipy_astro.commands._console import Console, in_options
from spalipy_astro.commands._signals import CONTINUES, Ended, Heard, told
from spalipy_astro.errors import AlignmentError
from spalipy_astro.version import __version__

__all__ = ["STATUS", "Parser", "UsageError", "add_telling", "run"]

STATUS = (
    "Exit status: 0 all went well; 1 the work failed, of several sources for at least one; 2 the "
    "command was not understood; 130 interrupted by Ctrl-C; 143 ended by SIGTERM, 129 by SIGHUP. "
    "Files are written whole or not at all, and after an interruption "
)
_UNKNOWN = "unrecognized arguments: "
_EXPECTED = (AlignmentError, ImportError, MemoryError, OSError, ValueError)


class UsageError(Exception):
    """Options that do not go together."""


class Parser(argparse.ArgumentParser):
    """
    A parser whose errors take two lines, and that has an option ``--version``.

    Parameters
    ----------
    then : str, optional
        What does the rest of the work after an interruption.
    **options
        As for `argparse.ArgumentParser`.
    """

    def __init__(self, *, then: str = CONTINUES, **options: Any) -> None:
        # of an abbreviation nobody knows what it will mean: --scale would be --scale-flux
        super().__init__(epilog=f"{STATUS}{then}.", allow_abbrev=False, **options)
        self.then = then
        self.add_argument(
            "--version", action="version", version=f"{self.prog} (spalipy_astro) {__version__}"
        )

    def error(self, message: str) -> Any:
        """Say what was not understood, and where to read more; end with status 2."""
        if message.startswith(_UNKNOWN):
            from difflib import get_close_matches

            word = message.removeprefix(_UNKNOWN).split()[0].partition("=")[0]
            near = get_close_matches(word, self._option_string_actions, n=1)
            message += f"; did you mean {near[0]}?" if near else ""
        self.exit(2, f"{self.prog}: {message}\nTry '{self.prog} --help'.\n")


def add_telling(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is told, and where."""
    telling = parser.add_argument_group("what is told")
    add = telling.add_argument
    add(
        "--json",
        action="store_true",
        help="print a JSON object for each frame, one a line, with the columns of align_many's "
        "table, in place of a line of text; NaN is null",
    )
    add("-q", "--quiet", action="store_true", help="tell nothing but errors")
    add("-v", "--verbose", action="count", default=0, help="tell more; -vv still more")
    add("--log-file", metavar="FILE", help="file to add everything to, with the time")


def run(
    parser: Parser,
    options: argparse.Namespace,
    work: Callable[[argparse.Namespace, Console], int],
) -> int:
    """
    Do the work of a command.

    Parameters
    ----------
    parser : Parser
        It says what was not understood, and ends the process.
    options : `argparse.Namespace`
    work : callable
        What to do; it returns the exit status.

    Returns
    -------
    int
        The exit status.
    """
    try:
        console = Console(
            parser.prog,
            verbose=options.verbose,
            quiet=options.quiet,
            as_json=options.json,
            log_file=options.log_file,
        )
    except OSError as error:
        print(f"{parser.prog}: the log cannot be written: {error}", file=sys.stderr)
        return 1
    signals = Heard()
    with console:
        try:
            with signals:
                return work(options, console)
        except UsageError as error:
            words = str(error)
        except (KeyboardInterrupt, Ended):
            return _ended(signals, console, parser.then)
        except Exception as error:
            if signals.just_now:  # in an import it comes out as an error of another kind
                return _ended(signals, console, parser.then)
            if isinstance(error, _EXPECTED):
                console.error(f"{type(error).__name__}: {error or 'no reason is known'}")
                return 1
            if options.verbose > 1:
                traceback.print_exc()
            console.error(
                f"unexpected {type(error).__name__}: {error}; with -vv the place is shown, for a "
                "report"
            )
            return 1
    return parser.error(in_options(words))


def _ended(signals: Heard, console: Console, then: str) -> int:
    """Say that a signal ended the command; return the exit status."""
    number = signals.number or signal.SIGINT
    console.error(told(number, then))
    return 128 + number
