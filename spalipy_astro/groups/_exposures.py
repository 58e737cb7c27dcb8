"""Groups back to files: one for each exposure, with its chips as extensions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import QTable

from spalipy_astro._checks import checked_call, path_of
from spalipy_astro._files import clear_partial, free_name, whole_file
from spalipy_astro._workers import Told, check_progress, check_workers
from spalipy_astro.alignment import Alignment
from spalipy_astro.batch import stem_of
from spalipy_astro.errors import FormatError
from spalipy_astro.groups._sources import Sheet, image_of, opened
from spalipy_astro.groups._tiles import window_of
from spalipy_astro.groups._work import Done, Work, working
from spalipy_astro.io import Extension, image_names, open_fits, to_hdus, write_hdus, write_with_wcs

if TYPE_CHECKING:
    from spalipy_astro.groups._result import GroupAlignment
    from spalipy_astro.resampling import Kernel

__all__ = ["write_images"]


@checked_call
def write_images(
    self: GroupAlignment,
    images: Any,
    folder: str | os.PathLike[str],
    *,
    resample: bool = True,
    grid: str = "frame",
    component: int = 0,
    overwrite: bool = False,
    method: str | Kernel = "lanczos3",
    conserve_flux: bool | None = None,
    n_workers: int | None = 1,
    executor: str | Executor = "processes",
    client: Any = None,
    progress: bool | Told | None = None,
) -> QTable:
    """
    Write the frames of a component to files, one for each file that was given.

    Parameters
    ----------
    images : sequence, folder or pattern
        What was given to `align_group`.
    folder : path-like
        Where to write; it is created if needed. Files are called ``NAME_aligned.fits`` or
        ``NAME_wcs.fits`` after their source (with its number where two have one name), or by
        the number of an image that is no file.
    resample : bool, optional
        Whether to write aligned images, with ``MASK`` and ``UNCERT`` as CCDData does. Without
        it files are copied, and the WCS of each image is replaced by that of the solution, with
        its distortions as SIP; other images of a file, which are not in the component, keep
        theirs.
    grid : {"frame", "canvas"}, optional
        The pixels of an aligned image: that part of the canvas where it lies, or all of it.
        The cards ``ALGNX0`` and ``ALGNY0`` are the place of its first pixel on the group's
        grid.
    component : int, optional
        Which component, as in the table.
    overwrite : bool, optional
        Whether to replace existing files.
    method, conserve_flux : optional
        How to resample; see `Alignment.resample`.
    n_workers, executor, client, progress : optional
        As for `align_group`; ``row["step"]`` is "files".

    Returns
    -------
    `~astropy.table.QTable`
        A row for each file: ``source``, ``status`` ("ok" or "failed"), ``reason``, ``n_images``
        (how many are in it) and ``file`` (its path). If all images of files were aligned
        (``hdu="all"``), those of a file are extensions of one, by their names; without names
        they are called ``SCI``.

    Raises
    ------
    TypeError, ValueError
        If an argument makes no sense, there is not one image per frame, or there is no sky for
        ``resample=False``. Problems with a file are reported in its row.
    """
    from spalipy_astro.resampling import check_method

    check_method(method, np.nan)
    n_workers = check_workers(executor, n_workers)
    progress = check_progress(progress)
    if grid not in ("frame", "canvas"):
        raise ValueError(f"grid is 'frame' or 'canvas'; got {grid!r}.")
    path = Path(path_of("folder", folder)).absolute()
    placed = self._images(images, component, None)
    canvas = self.canvas(component)
    if not resample and placed[0][2].original_wcs is None:
        raise ValueError(
            "resample=False: there is no sky, since the reference has no WCS; name one that "
            "has, as reference= of align_group."
        )
    hdu = self.provenance.get("hdu")
    output = _Output(
        path,
        resample,
        canvas.shape,
        canvas.offset,
        extensions=len(set(self.table["source"])) < len(self.table) and hdu == "all",
        whole=grid == "canvas",
        overwrite=overwrite,
        options={"method": method, "conserve_flux": conserve_flux},
    )
    modules = (__name__,)
    most = len(placed)
    with working(n_workers, executor, client, progress, most=most, modules=modules) as work:
        return _write_exposures(placed, output, work)


@dataclass(frozen=True)
class _Output:
    """
    What the files of exposures are to hold.

    Attributes
    ----------
    folder : Path
    resample : bool
        Aligned images, or those of the source with another WCS.
    shape, offset : tuple of int
        ``(ny, nx)`` and ``(x0, y0)`` of the canvas.
    extensions : bool
        Whether aligned images are extensions, by the names that they have in their files.
    whole : bool
        Whether each image is to have the shape of the canvas, or that of its own part of it.
    overwrite : bool
    options : mapping
        Keyword arguments of `Alignment.resample`.
    """

    folder: Path
    resample: bool
    shape: tuple[int, int]
    offset: tuple[int, int]
    extensions: bool
    whole: bool
    overwrite: bool
    options: Mapping[str, Any]


@dataclass(frozen=True)
class _Exposure:
    """
    The images of one file, or one image.

    Attributes
    ----------
    rows : list of int
        Rows of the group's table.
    sheets : list of Sheet
    alignments : list of Alignment
    path : Path
        The file to write.
    """

    rows: list[int]
    sheets: list[Sheet]
    alignments: list[Alignment]
    path: Path


def _write_exposures(
    placed: Sequence[tuple[int, Sheet, Alignment]], output: _Output, work: Work
) -> QTable:
    """
    Write a file for each exposure.

    Parameters
    ----------
    placed : sequence of (int, Sheet, Alignment)
        Row, image and alignment of each frame.
    output : _Output
    work : Work

    Returns
    -------
    QTable
        A row for each file: ``source``, ``status``, ``reason``, ``n_images`` and ``file``.
    """
    exposures = _exposures(placed, output)
    if output.folder.exists() and not output.folder.is_dir():
        raise ValueError(f"folder is one to write to; {os.fspath(output.folder)!r} is a file.")
    output.folder.mkdir(parents=True, exist_ok=True)
    clear_partial(output.folder)

    def row(index: int, done: Done) -> dict[str, Any]:
        exposure = exposures[index]
        return {
            "source": exposure.sheets[0].label,
            "status": "failed" if done.reason else "ok",
            "reason": done.reason,
            "n_images": 0 if done.reason else len(exposure.rows),
            "file": "" if done.reason else os.fspath(exposure.path),
        }

    items = (
        _Exposure(one.rows, [opened(s) for s in one.sheets], one.alignments, one.path)
        for one in exposures
    )
    found: dict[int, dict[str, Any]] = {}
    total = len(exposures)
    for index, done in work.each(_write, output, items, step="files", total=total, row=row):
        found[index] = row(index, done)
    clear_partial(output.folder)
    names = ("source", "status", "reason", "n_images", "file")
    return QTable(
        rows=[[found[k][name] for name in names] for k in range(total)],
        names=names,
        dtype=(str, str, str, int, str),
    )


def _exposures(placed: Sequence[tuple[int, Sheet, Alignment]], output: _Output) -> list[_Exposure]:
    """Put images of one file together, and choose the names of files."""
    by_source: dict[int, list[tuple[int, Sheet, Alignment]]] = {}
    for one in placed:
        by_source.setdefault(one[1].source, []).append(one)
    every = (sheet.image for _, sheet, _ in placed)
    own = {os.path.realpath(image) for image in every if isinstance(image, str | os.PathLike)}
    taken: set[str] = set()
    exposures = []
    for source, images in by_source.items():
        image = images[0][1].image
        name = stem_of(image) if isinstance(image, str | os.PathLike) else f"{source:05d}"
        if name.lower() in taken:  # of another folder
            name = f"{name}-{source}"
        name = free_name(name, taken)
        path = output.folder / f"{name}_{'aligned' if output.resample else 'wcs'}.fits"
        if os.path.realpath(path) in own:
            raise ValueError(
                f"folder: {path} would replace one of the images; write to another folder."
            )
        rows, sheets, alignments = (list(part) for part in zip(*images, strict=True))
        exposures.append(_Exposure(rows, sheets, alignments, path))
    return exposures


def _write(output: _Output, exposure: _Exposure) -> None:
    """Write the file of one exposure."""
    for sheet in exposure.sheets:
        if isinstance(sheet.image, Exception):
            raise sheet.image
    if output.resample:
        hdus = _aligned(output, exposure)
        with whole_file(exposure.path, overwrite=output.overwrite) as part:
            write_hdus(hdus, part)
        return
    image = exposure.sheets[0].image
    if not isinstance(image, str | os.PathLike):
        raise FormatError("it is no file, to which another WCS could be given.")
    first = next(iter(image_names(image)))
    headers: dict[Extension, fits.Header] = {
        first if sheet.hdu is None else sheet.hdu: alignment.to_fits_header().header
        for sheet, alignment in zip(exposure.sheets, exposure.alignments, strict=True)
    }
    write_with_wcs(image, headers, exposure.path, overwrite=output.overwrite)


def _aligned(output: _Output, exposure: _Exposure) -> list[Any]:
    """Return the HDUs of the aligned images of one exposure."""
    image = exposure.sheets[0].image
    names = image_names(image) if isinstance(image, str | os.PathLike) else {}
    hdus: list[Any] = []
    if output.extensions and names:
        with open_fits(image) as file:
            header = file[0].header.copy(strip=True)
        hdus.append(fits.PrimaryHDU(header=header))
    versions = [ver for _, ver in names.values()]
    own = len(set(versions)) == len(versions)
    for row, sheet, alignment in zip(
        exposure.rows, exposure.sheets, exposure.alignments, strict=True
    ):
        aligned = _resampled(output, row, sheet, alignment)
        if not (output.extensions and names):
            return to_hdus(aligned)
        assert isinstance(sheet.hdu, int)
        name, ver = names[sheet.hdu]
        place = 1 + list(names).index(sheet.hdu)
        hdus += to_hdus(aligned, name=name or "SCI", ver=ver if own else place)
    return hdus


def _resampled(output: _Output, row: int, sheet: Sheet, alignment: Alignment) -> CCDData:
    """Put one image on the grid."""
    image = image_of(row, sheet, alignment)
    offset, shape = output.offset, output.shape
    if not output.whole:
        rows, columns = window_of(alignment, shape, offset)
        offset = (offset[0] + columns.start, offset[1] + rows.start)
        shape = (rows.stop - rows.start, columns.stop - columns.start)
    aligned = alignment.resample(image, shape=shape, offset=offset, n_threads=1, **output.options)
    if not isinstance(aligned, CCDData):
        plain = np.asarray(getattr(aligned, "data", aligned))
        aligned = CCDData(plain, unit=getattr(aligned, "unit", None) or "adu")
    aligned.header["ALGNX0"] = (offset[0], "[px] x of the first pixel on the group's grid")
    aligned.header["ALGNY0"] = (offset[1], "[px] y of the first pixel on the group's grid")
    return aligned
