"""The steps of a group that many workers share: one function on many items, and what it tells."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from spalipy_astro._blas import available_cores, one_blas_thread
from spalipy_astro._workers import (
    Processes,
    Progress,
    Told,
    connected,
    describe,
    heard,
    no_collection,
    reuse_arrays,
    run,
    started,
)

__all__ = ["Done", "Work", "working"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """
    What became of an item.

    Attributes
    ----------
    value : object
        What the function returned; None if it failed.
    reason : str
        Why it failed; empty if it did not.
    notes : tuple of str
        What a worker process would have warned of.
    """

    value: Any = None
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """
    Where the work is done, and whether it is shown; by default here, and in silence.

    Attributes
    ----------
    n_workers, executor, client
        As for `spalipy_astro._workers.run`.
    progress : bool, None or callable
        As for `align_group`.
    """

    n_workers: int = 1
    executor: str | Executor | Processes = "processes"
    client: Any = field(default=None, repr=False)
    progress: bool | Told | None = False

    def each(
        self,
        function: Callable[[Any, Any], Any],
        shared: Any,
        items: Iterable[Any],
        *,
        step: str,
        total: int | None,
        row: Callable[[int, Done], Mapping[str, Any]],
    ) -> Iterator[tuple[int, Done]]:
        """
        Apply a function to items.

        Parameters
        ----------
        function : callable
            Of what all items share, and of one item. It lies at the top of a module.
        shared : object
            Sent to each worker once.
        items : iterable
        step : str
            What is done, in a word.
        total : int or None
            The number of items, if it is known.
        row : callable
            Returns what to tell the user's function of an item.

        Yields
        ------
        index : int
        done : Done
            In order of completion.
        """
        shown = Progress(self.progress, total)
        results = run(
            partial(_guarded, function, shared),
            items,
            n_workers=self.n_workers,
            executor=self.executor,
            client=self.client,
        )
        with closing(results):
            for index, result in shown.bar(results, total, step):
                done = Done(reason=describe(result)) if isinstance(result, Exception) else result
                for words in done.notes:
                    log.warning("%s", words)
                yield index, done
                shown.tell({"step": step, **row(index, done)})


def _guarded(function: Callable[[Any, Any], Any], shared: Any, item: Any) -> Done:
    """Do the work on one item; whatever goes wrong becomes a reason."""
    reuse_arrays()
    value, reason = None, ""
    with heard() as notes:
        try:
            with one_blas_thread(), no_collection():
                value = function(shared, item)
        except Exception as error:  # a bad frame must never stop the others
            reason = describe(error)
    return Done(value, reason, tuple(notes))


@contextmanager
def working(
    n_workers: int | None,
    executor: str | Executor,
    client: Any,
    progress: bool | Told | None,
    *,
    most: int | None,
    modules: tuple[str, ...],
) -> Iterator[Work]:
    """
    Start the workers, if there are to be any, for all steps.

    Parameters
    ----------
    n_workers, executor, client, progress
        As for `align_group`.
    most : int or None
        The number of images, if it is known.
    modules : tuple of str
        What worker processes import while the caller still does other things.

    Yields
    ------
    Work
    """
    number = available_cores() if n_workers is None else n_workers
    with (
        connected(client) as cluster,
        started(executor, number, client=cluster, most=most, modules=modules) as workers,
    ):
        yield Work(number, workers, cluster, progress)
