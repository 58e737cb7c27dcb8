"""The work on one frame of a batch: read it, find its transform, put it on the grid, write both."""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData, NDData

from spalipy_astro import _geometry
from spalipy_astro._blas import one_blas_thread
from spalipy_astro._checks import name_of_finder
from spalipy_astro._files import refuse_existing, require_file, whole_file
from spalipy_astro.alignment import Alignment
from spalipy_astro.batch._memory import no_collection, reuse_arrays
from spalipy_astro.errors import AlignmentError, NoMatchError
from spalipy_astro.io import (
    Extension,
    is_complete,
    is_fits,
    read_image,
    read_plane,
    to_hdus,
    write_hdus,
)
from spalipy_astro.registration import StarFrame, find_alignment, prepare

__all__ = [
    "DETECTION",
    "FIGURES",
    "Outcome",
    "Settings",
    "Task",
    "Window",
    "align_frame",
    "check_matched",
    "describe",
    "find_frame",
    "guarded",
    "stem_of",
]

Window = tuple[tuple[int, int], tuple[int, int]]
"""Template pixel ``(x, y)`` of a grid's first pixel, and its shape ``(ny, nx)``."""

_KEY = "ALGNKEY"
FIGURES = {
    "n_matched": ("ALGNNMAT", "stars that match"),
    "rms": ("ALGNRMS", "[px] rms distance of the fitted stars"),
    "log_odds": ("ALGNODDS", "ln odds against chance"),
    "shift_x": ("ALGNDX", "[px] shift of the center along x"),
    "shift_y": ("ALGNDY", "[px] shift of the center along y"),
    "rotation": ("ALGNROT", "[deg] rotation"),
    "scale": ("ALGNSCAL", "scale"),
    "parity": ("ALGNPAR", "-1 if mirrored"),
}
"""What the table of a batch tells of an alignment, and the cards of aligned images for it."""
DETECTION = ("threshold", "fwhm", "gain", "saturation", "finder", "select")
"""Those options of `find_alignment` that say how to find stars."""


@dataclass(frozen=True)
class Task:
    """
    One source.

    Attributes
    ----------
    index : int
        Row of the table.
    image : path, CCDData, NDData or array
    mask : path or array, optional
    stem : Path, optional
        Where to write: the path without ``_aligned.fits`` and ``_alignment.asdf``.
    label : str or int
        What to call it in the table.
    frame : StarFrame, optional
        Its stars, if they were found before.
    """

    index: int
    image: Any
    mask: Any = None
    stem: Path | None = None
    label: str | int = 0
    frame: StarFrame | None = None

    @property
    def asdf(self) -> Path | None:
        """Where the alignment goes."""
        return (
            None if self.stem is None else self.stem.with_name(f"{self.stem.name}_alignment.asdf")
        )

    @property
    def aligned(self) -> Path | None:
        """Where the aligned image goes."""
        return None if self.stem is None else self.stem.with_name(f"{self.stem.name}_aligned.fits")


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


@dataclass(frozen=True)
class Outcome:
    """
    What became of a source.

    Attributes
    ----------
    index : int
    reason : str
        Why it failed; empty if it did not.
    figures : mapping
        Those of the alignment's summary that are in the table.
    alignment : Alignment, optional
        Unless something was written to a file.
    union : Window, optional
        The grid that holds the source and the template.
    seconds : float
    resumed : bool
        Whether it was done before.
    """

    index: int
    reason: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    alignment: Alignment | None = None
    union: Window | None = None
    seconds: float = 0.0
    resumed: bool = False


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
    try:
        with one_blas_thread(), no_collection():
            return function(settings, task)
    except Exception as error:  # a bad frame must never stop the others
        return Outcome(task.index, describe(error), seconds=time.perf_counter() - start)


def describe(error: BaseException) -> str:
    """Say in words what went wrong."""
    text = " ".join(str(error).split())
    if isinstance(error, AlignmentError | FileExistsError | FileNotFoundError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def find_frame(settings: Settings, task: Task) -> StarFrame:
    """Find the stars of a source."""
    image = _image(task, settings)
    detection = {key: settings.find[key] for key in DETECTION if key in settings.find}
    return prepare(image, name="source", **detection)


def align_frame(settings: Settings, task: Task) -> Outcome:
    """Find the transform of a source and, if a grid is given, put it there."""
    start = time.perf_counter()
    source = _Source(task, settings)
    key = _digest(
        _identity_of_template(settings.template), _lasting(settings.find), source.identity
    )
    key_of_image = _digest(key, settings.resample, settings.window)
    wanted = task.aligned if settings.window is not None else None
    header = fits.Header() if wanted is None else _header_of(wanted)
    written = header.get(_KEY) == key_of_image
    if wanted is not None and written and settings.reuse and not settings.alignments:
        figures = {name: header[card] for name, (card, _) in FIGURES.items() if card in header}
        # an image that was written before there were these cards is made again
        if "n_matched" in figures and is_complete(wanted):
            check_matched(figures, settings.min_matched)
            seconds = time.perf_counter() - start
            return Outcome(task.index, figures=figures, seconds=seconds, resumed=True)
    asdf = task.asdf if settings.alignments else None
    alignment = _found_before(asdf, key, settings)
    resumed = alignment is not None
    if alignment is not None:
        check_matched(alignment.summary(), settings.min_matched)
    if wanted is not None and not written:
        _refuse_foreign(wanted, settings)
    if alignment is None:
        stars = source.image if task.frame is None else task.frame
        alignment = find_alignment(stars, settings.template, **settings.find)
        alignment = replace(alignment, provenance={**alignment.provenance, "batch": key})
        check_matched(alignment.summary(), settings.min_matched)
        if asdf is not None:
            alignment.write(asdf, overwrite=settings.overwrite)
    if wanted is not None and not (resumed and written and is_complete(wanted)):
        resumed = False
        aligned = _resampled(alignment, source.image, settings, key_of_image)
        with whole_file(wanted, overwrite=settings.overwrite or written) as part:
            write_hdus(to_hdus(aligned), part)
    return Outcome(
        task.index,
        figures=_row(alignment),
        alignment=alignment if task.stem is None else None,
        union=_union(alignment) if settings.window is None else None,
        seconds=time.perf_counter() - start,
        resumed=resumed,
    )


def check_matched(summary: Mapping[str, Any], least: int) -> None:
    """Raise NoMatchError for fewer matched stars than are asked for."""
    number = summary["n_matched"]
    if number < least:
        raise NoMatchError(
            f"{number} stars match, with log-odds {summary['log_odds']:.1f}, but at least {least} "
            "are required. A lower threshold finds fainter stars."
        )


def _row(alignment: Alignment) -> dict[str, Any]:
    """Return the entries of an alignment in the table."""
    summary = alignment.summary()
    return {name: summary[name] for name in FIGURES}


class _Source:
    """The image of a task, read when it is first needed."""

    def __init__(self, task: Task, settings: Settings) -> None:
        self.task, self.settings = task, settings

    @cached_property
    def image(self) -> CCDData:
        return _image(self.task, self.settings)

    @cached_property
    def identity(self) -> str:
        """A short name for the source as it is now."""
        if self.task.stem is None:
            return ""  # nothing is written that could be compared
        return _digest(_state(self.task.image), _state(self.task.mask), self.settings.hdu)


def _digest(*parts: Any) -> str:
    """Return a short name for all that something was made from."""
    total = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(repr((part.shape, part.dtype.str)).encode())
            total.update(np.ascontiguousarray(part).view(np.uint8).data)
        elif isinstance(part, Mapping):
            total.update(repr(sorted(part.items())).encode())
        else:
            total.update(repr(part).encode())
    return total.hexdigest()


def _lasting(find: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options with a finder as words, which another run writes the same way."""
    return {**find, "finder": name_of_finder(find["finder"])} if "finder" in find else find


def _identity_of_template(template: StarFrame | None) -> str:
    """Return a short name for a template's stars, grid and WCS."""
    if template is None:
        return ""
    wcs = template.wcs
    words = wcs.to_header_string(relax=True) if hasattr(wcs, "to_header_string") else repr(wcs)
    return _digest(template.stars.xy, template.shape, words)


def stem_of(path: str | os.PathLike[str]) -> str:
    """Return the name of a file without its suffixes of format and compression."""
    name = Path(path)
    if name.suffix.lower() in (".gz", ".fz", ".bz2", ".xz", ".z", ".lzma"):
        name = name.with_suffix("")
    return name.stem


def _image(task: Task, settings: Settings) -> CCDData:
    """Read a source."""
    mask = task.mask
    if isinstance(mask, str | os.PathLike):
        mask = read_plane(mask) != 0
    if isinstance(task.image, str | os.PathLike):
        return read_image(task.image, hdu=settings.hdu, mask=mask)
    image = task.image
    if not isinstance(image, NDData):
        image = CCDData(np.ma.getdata(image), unit="adu", mask=np.ma.getmask(image))
        image.mask = None if image.mask is np.ma.nomask else image.mask
    elif not isinstance(image, CCDData):
        image = CCDData(image, unit=image.unit or "adu")
    if mask is not None:
        both = np.asarray(mask, bool) if image.mask is None else image.mask | np.asarray(mask, bool)
        image = CCDData(image, mask=both, unit=image.unit)
    return image


def _state(thing: Any) -> Any:
    """Return what changes whenever a file or an image changes."""
    if isinstance(thing, str | os.PathLike):
        require_file(thing)
        state = os.stat(thing)
        return os.path.abspath(thing), state.st_size, state.st_mtime_ns
    if isinstance(thing, NDData):
        parts = [thing.data, thing.mask, getattr(thing.uncertainty, "array", None)]
        return _digest(*(None if part is None else np.asarray(part) for part in parts))
    return None if thing is None else _digest(np.asarray(thing))


def _union(alignment: Alignment) -> Window | None:
    """Return the grid that holds the source and the template, if both have a shape."""
    if alignment.source_shape is None or alignment.template_shape is None:
        return None
    return _geometry.union(alignment.transform, alignment.source_shape, alignment.template_shape)


def _found_before(path: Path | None, key: str, settings: Settings) -> Alignment | None:
    """Return the alignment of an earlier run; None if it is to be made anew."""
    if path is None or not os.path.lexists(path):
        return None
    try:
        alignment = Alignment.read(path)
    except (AlignmentError, OSError):
        alignment = None
    if alignment is not None and alignment.provenance.get("batch") == key:
        return alignment if settings.reuse else None
    _refuse_foreign(path, settings)
    return None


def _refuse_foreign(path: Path, settings: Settings) -> None:
    """Raise for a file that was not made from the same inputs, or is not a regular file."""
    refuse_existing(path, overwrite=True)
    if not settings.overwrite and os.path.lexists(path):
        raise FileExistsError(
            f"{path} exists, but was not made from the current source with this template and these "
            "options; overwrite=True replaces it, another output folder keeps it"
        )


def _header_of(path: Path) -> fits.Header:
    """Return the header of an aligned image; an empty one if it cannot be read."""
    try:
        if path.is_file() and is_fits(path):
            with open(path, "rb") as stream:
                return fits.Header.fromfile(stream)
    except (EOFError, OSError, ValueError, zlib.error):
        pass
    return fits.Header()


def _resampled(alignment: Alignment, image: CCDData, settings: Settings, key: str) -> CCDData:
    """Put an image on the grid."""
    from spalipy_astro.resampling import resample

    assert settings.window is not None
    offset, shape = settings.window
    about_key = "source, template and options of alignment"
    cards = {
        card: (figure, comment)
        for (card, comment), figure in zip(FIGURES.values(), _row(alignment).values(), strict=True)
        if np.isfinite(figure)
    }
    return resample(
        image,
        alignment.transform.inverse,
        shape=shape,
        offset=offset,
        wcs=alignment._wcs_of_window(offset, shape),
        provenance={**alignment._cards(), **cards, _KEY: (key, about_key)},
        n_threads=1,
        **settings.resample,
    )
