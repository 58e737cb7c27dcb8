"""What is shown of a batch while it is at work."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Progress", "Told", "check_progress"]

Told = Callable[[int, int | None, Mapping[str, Any]], Any]
"""Called with the number of sources that are done, their total and the row of the last one."""


def check_progress(progress: Any) -> Any:
    """
    Return what is to be shown.

    Raises
    ------
    TypeError
        If it is neither True, False, None nor a function.
    """
    if progress is None or isinstance(progress, bool) or callable(progress):
        return progress
    raise TypeError(
        "progress is True, False, None or a function that is called as progress(done, total, row) "
        f"for each source; got {progress!r}."
    )


@dataclass
class Progress:
    """
    A bar, or a function of the user's.

    Attributes
    ----------
    wanted : bool, None or callable
        As `align_many` takes it.
    total : int or None
        The number of sources; None while it is not known.
    done : int
        How many are done.
    """

    wanted: bool | Told | None
    total: int | None = None
    done: int = field(default=0, init=False)

    def bar(self, results: Iterable[Any], total: int | None, title: str) -> Iterable[Any]:
        """Show a bar where somebody can see it, and asked for it."""
        shown = self.wanted
        if callable(shown):
            return results
        if shown is None:
            shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
            shown = sys.stderr.isatty() or type(shell).__name__ == "ZMQInteractiveShell"
        if not shown:
            return results
        try:
            with warnings.catch_warnings():
                # a notebook without ipywidgets gets a bar of text
                warnings.filterwarnings("ignore", message="IProgress not found")
                from tqdm.auto import tqdm
        except ImportError as error:
            if self.wanted:
                raise ImportError("a progress bar needs tqdm: pip install tqdm") from error
            return results
        return tqdm(results, total=total, desc=title, unit="frame")

    def tell(self, row: Mapping[str, Any]) -> None:
        """Tell the function of the user's that a source is done."""
        self.done += 1
        if callable(self.wanted):
            self.wanted(self.done, self.total, row)
