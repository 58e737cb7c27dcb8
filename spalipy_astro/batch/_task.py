"""The work on one frame of a batch: read it, find its transform, put it on the grid, write both."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.nddata import CCDData, NDData
from numpy.typing import NDArray

from spalipy_astro import _geometry
from spalipy_astro._blas import one_blas_thread
from spalipy_astro._checks import check_pixels, mask_like
from spalipy_astro._files import whole_file
from spalipy_astro._workers import describe, heard, no_collection, reuse_arrays
from spalipy_astro.alignment import Alignment, output_of, resampled
from spalipy_astro.batch._figures import (
    FIGURES,
    cards_of,
    check_matched,
    figures_of,
    quality_of,
)
from spalipy_astro.batch._identity import (
    digest,
    identity_of_pixels,
    identity_of_template,
    lasting,
    state_of_source,
)
from spalipy_astro.batch._made import KEY, OWNER, Made
from spalipy_astro.batch._target import Target, on_target
from spalipy_astro.catalogs import is_catalog
from spalipy_astro.errors import AlignmentError, FormatError, ImageError
from spalipy_astro.io import (
    Extension,
    as_header,
    open_mask,
    read_image,
    to_hdus,
    write_hdus,
)
from spalipy_astro.registration import StarFrame, find_alignment, prepare

__all__ = [
    "DETECTION",
    "Outcome",
    "Settings",
    "Task",
    "Window",
    "align_frame",
    "figures_of",
    "files_of",
    "find_frame",
    "guarded",
]

Window = tuple[tuple[int, int], tuple[int, int]]
"""Template pixel ``(x, y)`` of a grid's first pixel, and its shape ``(ny, nx)``."""

DETECTION = ("threshold", "fwhm", "gain", "saturation", "finder", "select")
"""Those options of `find_alignment` that say how to find stars."""
_NO_PIXELS = "A catalog cannot be resampled; resample=False writes alignments alone."


@dataclass(frozen=True)
class Task:
    """
    One source.

    Attributes
    ----------
    index : int
        Row of the table.
    image : path, CCDData, NDData, array, catalog or Exception
        An exception where it could not be opened.
    mask : path or array, optional
    stem : Path, optional
        Where to write: the path without ``_aligned.fits`` and ``_alignment.asdf``.
    label : str or int
        What to call it in the table.
    frame : StarFrame, optional
        Its stars, if they were found before.
    owner : str
        A short name for the path of the source, whatever is in the file: it is noted in the files
        that are made of it, which no other source replaces. Empty for images that are no files.
    alignment : Alignment, optional
        Its alignment, if that was found and written a moment ago.
    """

    index: int
    image: Any
    mask: Any = None
    stem: Path | None = None
    label: str | int = 0
    frame: StarFrame | None = None
    owner: str = ""
    alignment: Alignment | None = None

    @property
    def aligned(self) -> Path | None:
        """Where the aligned image goes."""
        return None if self.stem is None else files_of(self.stem)[0]

    @property
    def asdf(self) -> Path | None:
        """Where the alignment goes."""
        return None if self.stem is None else files_of(self.stem)[1]


def files_of(stem: Path) -> tuple[Path, Path]:
    """Return where the aligned image and the alignment of a source go."""
    aligned, asdf = f"{stem.name}_aligned.fits", f"{stem.name}_alignment.asdf"
    return stem.with_name(aligned), stem.with_name(asdf)


@dataclass(frozen=True)
class Settings:
    """
    What is the same for all sources.

    Attributes
    ----------
    find : mapping
        Keyword arguments of `find_alignment`.
    template : StarFrame, optional
    resample : mapping
        Keyword arguments of `spalipy_astro.resampling.resample`.
    window : Window, optional
        The grid of aligned images; None if there are to be none.
    hdu : int, str or tuple, optional
    min_matched : int
        Fewer matched stars are a failure.
    overwrite : bool
        Replace files.
    reuse : bool
        Take files of the same making for done.
    alignments : bool
        Write alignments.
    flags : mapping
        ``ignore_flags`` and ``flag_name_map`` of `spalipy_astro.io.read_image`.
    grid : {"template", "union", "intersection"}
        What is asked for of the frames together.
    pixels : mapping
        ``scale`` or ``wcs`` of `output_of`, where the pixels of the grid are not the template's.
    keep : bool
        Hand alignments back even though they are written to files.
    target : Target, optional
        What aligned images stand on, instead of the stars.
    """

    find: Mapping[str, Any]
    template: StarFrame | None = None
    resample: Mapping[str, Any] = field(default_factory=dict)
    window: Window | None = None
    hdu: Extension | None = None
    min_matched: int = 0
    overwrite: bool = False
    reuse: bool = True
    alignments: bool = True
    flags: Mapping[str, Any] = field(default_factory=dict)
    grid: str = "template"
    pixels: Mapping[str, Any] = field(default_factory=dict)
    keep: bool = False
    target: Target | None = None


@dataclass(frozen=True)
class Outcome:
    """
    What became of a source.

    Attributes
    ----------
    index : int
    reason : str
        Why it failed or was rejected; empty if it is good.
    figures : mapping
        What the table tells of it.
    alignment : Alignment, optional
        Unless something was written to a file.
    union : Window, optional
        The grid that holds the source and the template.
    outline : ndarray, optional
        Where the edge of the source lies on the template, shape (N, 2).
    seconds : float
    resumed : bool
        Whether it was done before.
    notes : tuple of str
        What a worker process would have warned of.
    rejected : bool
        Whether it is aligned, but too bad to be used.
    """

    index: int
    reason: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    alignment: Alignment | None = None
    union: Window | None = None
    outline: NDArray[np.float64] | None = None
    seconds: float = 0.0
    resumed: bool = False
    notes: tuple[str, ...] = ()
    rejected: bool = False

    @property
    def status(self) -> str:
        """As in the table."""
        return "rejected" if self.rejected else "failed" if self.reason else "ok"


def guarded(function: Callable[[Settings, Task], Any], settings: Settings, task: Task) -> Any:
    """
    Do the work on one source; whatever goes wrong becomes an `Outcome` with a reason.

    Parameters
    ----------
    function : callable
        `find_frame` or `align_frame`.
    settings : Settings
    task : Task

    Returns
    -------
    object
        What ``function`` returns, or an `Outcome`.
    """
    start = time.perf_counter()
    reuse_arrays()
    with heard() as notes:
        try:
            with one_blas_thread(), no_collection():
                result = function(settings, task)
        except Exception as error:  # a bad frame must never stop the others
            result = Outcome(task.index, describe(error), seconds=time.perf_counter() - start)
    return replace(result, notes=tuple(notes)) if notes and isinstance(result, Outcome) else result


def find_frame(settings: Settings, task: Task, image: CCDData | None = None) -> StarFrame:
    """Find the stars of a source, which is read unless its image is given."""
    image = _image(task, settings) if image is None else image
    detection = {key: settings.find[key] for key in DETECTION if key in settings.find}
    return prepare(image, name="source", **detection)


def align_frame(settings: Settings, task: Task) -> Outcome:
    """Find the transform of a source and, if a grid is given, put it there."""
    start = time.perf_counter()
    source = _Source(task, settings)
    key = digest(identity_of_template(settings.template), lasting(settings.find), source.identity)
    if settings.target is not None:
        key = digest(key, settings.target.time, settings.target.xy, settings.target.reference)
    made = Made(
        task.aligned if settings.window is not None else None,
        task.asdf if settings.alignments else None,
        key,
        digest(
            key,
            settings.resample,
            settings.window,
            *identity_of_pixels(settings.pixels, settings.window),
        ),
        settings.overwrite,
    )
    wanted = settings.grid if settings.window is None else "template"
    if settings.reuse and (before := made.before(wanted)) is not None:
        figures, union = before
        check_matched(figures, settings.min_matched)
        seconds = time.perf_counter() - start
        return Outcome(task.index, figures=figures, union=union, seconds=seconds, resumed=True)
    remnants = made.refuse_foreign()
    alignment = task.alignment or (made.alignment() if settings.reuse else None)
    resumed = made.aligned is None and alignment is not None
    first = settings.window is None  # of two steps; between them a common grid is found
    wants_union = first and settings.grid == "union"
    union = None
    if alignment is None:
        stars = find_frame(settings, task, source.image) if task.frame is None else task.frame
        try:
            alignment = find_alignment(stars, settings.template, **settings.find)
        except AlignmentError as error:
            return Outcome(
                task.index,
                describe(error),
                figures=quality_of(stars.quality),
                seconds=time.perf_counter() - start,
            )
        if settings.target is not None:
            alignment = on_target(alignment, settings.target, source.image)
        figures = figures_of(alignment)
        union = _union(alignment) if wants_union else None
        notes = _notes(union, figures, key, task.owner)
        alignment = alignment._noted(notes)
        check_matched(figures, settings.min_matched)
        if made.asdf is not None:
            with made.by_others(made.has_alignment, made.asdf):
                # an alignment that is there, and was not taken, cannot be read
                replaced = settings.reuse and made.has_alignment()
                replaced = replaced or settings.overwrite or made.asdf in remnants
                _write(alignment, made.asdf, overwrite=replaced)
    else:
        figures = figures_of(alignment)
        check_matched(figures, settings.min_matched)
    if made.aligned is not None:
        hdus = _resampled(alignment, figures, source.image, settings, task.owner, made.key_of_image)
        replaced = settings.overwrite or made.aligned in remnants or made.has_image()
        with (
            made.by_others(made.has_image, made.aligned),
            whole_file(made.aligned, overwrite=replaced) as part,
        ):
            write_hdus(hdus, part)
    return Outcome(
        task.index,
        figures=figures,
        alignment=alignment if task.stem is None or settings.keep else None,
        union=(union or _union(alignment)) if wants_union else None,
        outline=_outline(alignment) if first and settings.grid == "intersection" else None,
        seconds=time.perf_counter() - start,
        resumed=resumed,
    )


def _write(alignment: Alignment, path: Path, *, overwrite: bool) -> None:
    """Write an alignment with a template whose WCS is known to be one that can be written."""
    from spalipy_astro.io import write_alignment  # gwcs comes in with it

    write_alignment(alignment, path, overwrite=overwrite, validate=False)


class _Source:
    """The image of a task, read when it is first needed."""

    def __init__(self, task: Task, settings: Settings) -> None:
        self.task, self.settings = task, settings

    @cached_property
    def image(self) -> NDData:
        return _image(self.task, self.settings)

    @cached_property
    def identity(self) -> str:
        """A short name for the source as it is now."""
        if self.task.stem is None:
            return ""  # nothing is written that could be compared
        flags = {key: str(value) for key, value in self.settings.flags.items()}
        return digest(
            state_of_source(self.task.image),
            state_of_source(self.task.mask),
            self.settings.hdu,
            flags,
        )


def _image(task: Task, settings: Settings) -> Any:
    """Read a source: an image, or a catalog where nothing is to be resampled."""
    image = task.image
    if isinstance(image, Exception):
        raise image
    mask = open_mask(task.mask, name="source_mask", hdu=settings.hdu, **settings.flags)
    if isinstance(image, str | os.PathLike):
        try:
            return read_image(image, hdu=settings.hdu, mask=mask, **settings.flags)
        except FormatError as error:
            if not is_catalog(image):
                raise
            if settings.window is not None:
                raise FormatError(f"{error} {_NO_PIXELS}") from error
    if is_catalog(image):
        if settings.window is not None:
            raise ImageError(f"the source is a catalog. {_NO_PIXELS}")
        return image
    if not isinstance(image, NDData):
        check_pixels(image, name="the source")
        image = CCDData(np.ma.getdata(image), unit="adu", mask=np.ma.getmask(image))
        image.mask = None if image.mask is np.ma.nomask else image.mask
    if mask is not None:
        both = mask_like(mask, image.data.shape)
        if image.mask is not None:
            both = image.mask | both
        image = copy.copy(image)
        image.mask = both
    return _writable(image, task) if settings.window is not None else image


def _writable(image: NDData, task: Task) -> NDData:
    """Leave out, before the work, what cannot be written of an image's metadata after it."""
    image = copy.copy(image)
    image.meta = as_header(image.meta, f"source {task.label}")
    return image


def _as_ccddata(image: NDData) -> CCDData:
    """Turn an image into one that can be written; its WCS, which may be a gwcs, stays behind."""
    if isinstance(image, CCDData):
        return image
    plain = CCDData(
        image.data,
        unit=image.unit or "adu",
        mask=image.mask,
        uncertainty=image.uncertainty,
        meta=image.meta,
    )
    plain.flags = getattr(image, "flags", None)  # NDData of a data model has some
    return plain


def _union(alignment: Alignment) -> Window | None:
    """Return the grid that holds the source and the template, if both have a shape."""
    if alignment.source_shape is None or alignment.template_shape is None:
        return None
    offset, shape = _geometry.union(
        alignment.transform, alignment.source_shape, alignment.template_shape
    )
    return (int(offset[0]), int(offset[1])), (int(shape[0]), int(shape[1]))


def _outline(alignment: Alignment) -> NDArray[np.float64] | None:
    """Return where the edge of the source lies on the template, if it has a shape."""
    if alignment.source_shape is None:
        return None
    return _geometry.outline(alignment.transform, alignment.source_shape)


def _notes(
    union: Window | None, figures: Mapping[str, Any], key: str, owner: str
) -> dict[str, Any]:
    """Return what an alignment's file has to tell a later run, which does not read the rest."""
    notes = {"batch": key, "source": owner, "union": union}
    known = {
        name: FIGURES[name].kind(value) for name, value in figures.items() if np.isfinite(value)
    }
    return {name: note for name, note in notes.items() if note} | {"figures": known}


def _resampled(
    alignment: Alignment,
    figures: Mapping[str, Any],
    image: Any,
    settings: Settings,
    owner: str,
    key: str,
) -> list[Any]:
    """Put an image on the grid, and turn it into HDUs."""
    assert settings.window is not None
    image = _as_ccddata(image)
    offset, shape = settings.window
    cards = cards_of(figures)
    if "target_shift" in alignment.provenance:
        dx, dy = alignment.provenance["target_shift"]
        cards["ALGNTGX"] = (dx, "[px] shift in x that holds the target")
        cards["ALGNTGY"] = (dy, "[px] shift in y that holds the target")
    cards[KEY] = (key, "source, template and options of alignment")
    cards[OWNER] = (owner, "the source's path in short")
    grid = output_of(alignment, shape=shape, offset=offset, **settings.pixels)
    drizzled = settings.resample.get("method") == "drizzle"
    found = resampled(
        alignment,
        image,
        grid,
        cards=cards,
        n_threads=1,
        return_weights=drizzled,
        **settings.resample,
    )
    aligned, weights = found if drizzled else (found, None)
    if "wcs" in settings.pixels and aligned.mask is not None and np.all(aligned.mask):
        raise AlignmentError(
            "the frame has no pixel on the grid of wcs=, which may be elsewhere on the sky."
        )
    return to_hdus(aligned, weights=weights)
