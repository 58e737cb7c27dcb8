"""A batch at work: its template first, then each source, in one step or in two."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from astropy.table import QTable

from spalipy_astro._blas import available_cores, one_blas_thread
from spalipy_astro._files import clear_partial
from spalipy_astro._workers import Processes, Progress, Told, connected, describe, run, started
from spalipy_astro.batch._grid import common_window, shape_of_grid, window_of_template
from spalipy_astro.batch._reject import Reject, rejected
from spalipy_astro.batch._sources import make_tasks
from spalipy_astro.batch._table import make_table, row_of
from spalipy_astro.batch._target import target_of
from spalipy_astro.batch._task import (
    DETECTION,
    Outcome,
    Settings,
    Task,
    Window,
    align_frame,
    find_frame,
    guarded,
)
from spalipy_astro.batch._template import best_template
from spalipy_astro.catalogs import is_catalog, is_sky_catalog
from spalipy_astro.errors import AlignmentError, CatalogError, TooFewStarsError
from spalipy_astro.io import Extension, open_mask
from spalipy_astro.registration import StarFrame, find_alignment, open_side, prepare

__all__ = ["Request", "run_batch"]

log = logging.getLogger(__name__)

_KEPT = 500  # alignments, of 0.3 MB each, that are kept from the first step for the second


@dataclass(frozen=True)
class Request:
    """
    What is asked for of all sources together; `Settings` has what each of them needs.

    Attributes
    ----------
    sources, template, template_hdu, source_mask, reject, target, n_workers, executor, client
        As for `align_many`.
    options : mapping
        Its ``**options``.
    folder : Path or None
        Where to write.
    resample : bool
        Whether to write aligned images.
    grid_shape : tuple of int or None
        Shape ``(ny, nx)`` of the grid, where it was given.
    progress : bool, None or callable
        As for `align_many`.
    """

    sources: Iterable[Any]
    template: Any
    options: Mapping[str, Any]
    template_hdu: Extension | None
    source_mask: Any
    folder: Path | None
    resample: bool
    grid_shape: tuple[int, int] | None
    reject: Reject | None
    target: Any
    n_workers: int | None
    executor: str | Executor
    client: Any
    progress: bool | Told | None

    @property
    def best(self) -> bool:
        """Whether the template is one of the sources, which is yet to be chosen."""
        return isinstance(self.template, str) and self.template == "best"


@dataclass
class _Record:
    """
    What has become of the sources so far.

    Attributes
    ----------
    tasks : list of Task
        Those that were made so far, without their pixels.
    files : tuple of str
        Which files are to be written: "aligned", "asdf".
    progress : Progress
    outcomes : dict
        By the index of the task.
    """

    tasks: list[Task]
    files: tuple[str, ...]
    progress: Progress
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def note(self, results: Iterable[tuple[int, Any]], *, last: bool) -> None:
        """Note what became of sources, and tell of those to which no more is done."""
        for index, new in results:
            if index in self.outcomes:  # a second step adds its time to that of the first
                old = self.outcomes[index]
                new = replace(
                    new,
                    seconds=new.seconds + old.seconds,
                    resumed=new.resumed and old.resumed,
                    alignment=new.alignment or old.alignment,
                )
            for words in new.notes:
                log.warning("%s", words)
            self.outcomes[index] = new
            if last or new.reason:
                self.tell(index)

    def reject(self, rule: Reject) -> None:
        """Note which of the sources are bad."""
        table = make_table(self.tasks, self.outcomes, (), {})
        for index, reason in rejected(rule, table).items():
            self.outcomes[index] = replace(self.outcomes[index], reason=reason, rejected=True)
            self.tell(index)

    def tell(self, index: int) -> None:
        """Tell the user's function of a source."""
        self.progress.tell(row_of(self.tasks[index], self.outcomes[index], self.files))


def run_batch(request: Request, settings: Settings) -> QTable:
    """
    Align all sources to the template.

    Parameters
    ----------
    request : Request
    settings : Settings
        Without what follows from the template.

    Returns
    -------
    QTable
        As `align_many` returns it.

    Raises
    ------
    AlignmentError
        If the template cannot be used.
    ValueError
        If the template has no shape, or another argument does not go with it.
    """
    folder = request.folder
    in_two_steps = settings.grid != "template" or request.reject is not None
    files = ("aligned", "asdf") if settings.alignments else ("aligned",)
    seen: list[Task] = []
    tasks: Iterable[Task] = make_tasks(
        request.sources, request.source_mask, folder, settings.hdu, settings.flags, seen
    )
    if request.best or in_two_steps or isinstance(request.sources, Sequence):
        tasks = list(tasks)
    most = len(tasks) if isinstance(tasks, list) else None
    record = _Record(seen, () if folder is None else files, Progress(request.progress, most))
    n_workers = available_cores() if request.n_workers is None else request.n_workers
    modules = [find_frame.__module__]
    with (
        _tidied(folder),
        one_blas_thread(),
        connected(request.client) as cluster,
        started(request.executor, n_workers, client=cluster, most=most, modules=modules) as workers,
    ):
        work = _Work(n_workers, workers, cluster, record.progress)
        meta: dict[str, Any] = {}
        if request.best:
            frames = _frames(work, settings, tasks, record)
            tasks = [
                replace(task, frame=frames[task.index]) for task in tasks if task.index in frames
            ]
            chosen = best_template(frames)
            label, frame = seen[chosen.key].label, frames[chosen.key]
            meta["template_reason"] = chosen.reason
        else:
            label, frame = _given(request, settings)
        _rehearse(frame, settings)
        if folder is not None and settings.alignments and frame.wcs is not None:
            from spalipy_astro.io import require_writable  # gwcs comes in with it

            require_writable(frame.wcs)
        settings = replace(settings, template=frame)
        if request.target is not None:
            target = target_of(request.target, frame.wcs, frame.header)
            settings = replace(settings, target=target)
        window = window_of_template(frame, request.grid_shape, settings.pixels)
        write = folder is not None and request.resample
        if write and window is None:
            raise ValueError(
                "the template is a catalog and has no shape; give that of the aligned images as "
                "shape=(ny, nx)."
            )
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            clear_partial(folder)
        if in_two_steps:
            assert isinstance(tasks, list)
            window = _in_two_steps(request, settings, tasks, work, record, window)
        else:
            settings = replace(settings, window=window if write else None)
            record.note(work.each(align_frame, settings, tasks, "align"), last=True)
    meta["template"] = label
    if window is not None:
        meta.update(offset=window[0], shape=shape_of_grid(window, settings.pixels))
    return make_table(seen, record.outcomes, record.files, meta)


def _in_two_steps(
    request: Request,
    settings: Settings,
    tasks: list[Task],
    work: _Work,
    record: _Record,
    window: Window | None,
) -> Window | None:
    """
    Align all sources, then put those that are good on the grid that they have in common.

    Returns
    -------
    Window or None
        That grid.
    """
    keep = len(tasks) <= _KEPT
    record.note(work.each(align_frame, replace(settings, keep=keep), tasks, "align"), last=False)
    if request.reject is not None:
        record.reject(request.reject)
    outcomes = record.outcomes
    good = [outcome for outcome in outcomes.values() if not outcome.reason]
    window = common_window(settings.grid, window, good, settings.pixels.get("scale", 1))
    tasks = [
        replace(task, alignment=outcomes[task.index].alignment)
        for task in tasks
        if not outcomes[task.index].reason
    ]
    if request.folder is not None and request.resample:
        settings = replace(settings, window=window, keep=keep, reuse=True)
        record.note(work.each(align_frame, settings, tasks, "resample"), last=True)
    else:
        for task in tasks:
            record.tell(task.index)
    return window


@dataclass(frozen=True)
class _Work:
    """Where the work is done, and whether it is shown."""

    n_workers: int
    executor: str | Executor | Processes
    client: Any
    progress: Progress

    def each(
        self,
        function: Callable[[Settings, Task], Any],
        settings: Settings,
        tasks: Iterable[Task],
        title: str,
    ) -> Iterator[tuple[int, Any]]:
        """Yield the index of each task and what comes of it, in order of completion."""
        total = len(tasks) if isinstance(tasks, list) else None
        results = run(
            partial(guarded, function, settings),
            tasks,
            n_workers=self.n_workers,
            executor=self.executor,
            client=self.client,
        )
        with closing(results):
            for place, result in self.progress.bar(results, total, title):
                index = tasks[place].index if isinstance(tasks, list) else place
                if isinstance(result, Exception):
                    result = Outcome(index, describe(result))
                yield index, result


@contextmanager
def _tidied(folder: Path | None) -> Iterator[None]:
    """Remove in the end what workers that died, or were ended, have left."""
    try:
        yield
    finally:
        if folder is not None:
            clear_partial(folder)


def _given(request: Request, settings: Settings) -> tuple[Any, StarFrame]:
    """Find the stars of the template that is given; return what to call it, too."""
    template, options = request.template, request.options
    hdu = settings.hdu if request.template_hdu is None else request.template_hdu
    label = f"{'a catalog' if is_catalog(template) else 'an image'} in memory"
    if isinstance(template, str | os.PathLike):
        label = os.fspath(template)
    template = open_side(template, name="template", hdu=hdu, **settings.flags)
    if is_sky_catalog(template):
        raise CatalogError(
            "the template of a sequence cannot be a catalog of sky positions, because each source "
            "would get its own pixel grid; use find_alignment for each source, or align them to "
            "one of them."
        )
    detection = {key: options[key] for key in DETECTION if key in options}
    given = options.get("template_mask")
    mask = open_mask(given, name="template_mask", hdu=hdu, **settings.flags)
    return label, prepare(template, name="template", mask=mask, **detection)


def _rehearse(template: StarFrame, settings: Settings) -> None:
    """
    Align the template to itself.

    Options that make no sense raise here, once for all sources, and the template's index is made.
    """
    try:
        find_alignment(template, template, **settings.find)
    except AlignmentError:  # as with a scale that is not 1
        pass


def _frames(
    work: _Work, settings: Settings, tasks: Iterable[Task], record: _Record
) -> dict[int, StarFrame]:
    """Find the stars of all sources, of which one is to be the template."""
    frames: dict[int, StarFrame] = {}

    def without_stars() -> Iterator[tuple[int, Outcome]]:
        for index, result in work.each(find_frame, settings, tasks, "stars"):
            if isinstance(result, Outcome):
                yield index, result
            else:
                frames[index] = result

    record.note(without_stars(), last=True)
    if not frames and not record.outcomes:
        raise TooFewStarsError("sources is empty: no frame can be the template.")
    if not frames:
        reasons = "; ".join(sorted({outcome.reason for outcome in record.outcomes.values()})[:3])
        raise TooFewStarsError(
            f"none of {len(record.outcomes)} sources can be a template. Reasons are: {reasons}"
        )
    return frames
