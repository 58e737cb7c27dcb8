"""Many sources to one template: one row for each, whatever happens to it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io.fits import HDUList
from astropy.table import QTable, Table

from spalipy_astro._checks import (
    check_hdu,
    check_mask,
    check_names,
    check_shape,
    checked_call,
    path_of,
    refuse_single_scale,
    whole_number,
)
from spalipy_astro._files import require_file
from spalipy_astro._workers import (
    Told,
    check_progress,
    check_workers,
)
from spalipy_astro.batch._chips import align_chips
from spalipy_astro.batch._grid import (
    pixels_of,
)
from spalipy_astro.batch._reject import Reject, check_reject
from spalipy_astro.batch._run import Request, run_batch
from spalipy_astro.batch._sources import check_weights, list_sources, masks_each
from spalipy_astro.batch._task import (
    Settings,
)
from spalipy_astro.catalogs import is_catalog
from spalipy_astro.errors import FormatError
from spalipy_astro.io import OBSERVATORY, Extension, image_hdus, is_file_like
from spalipy_astro.registration import (
    FindOptions,
    find_alignment,
)
from spalipy_astro.typing import AlignmentOptions, CatalogLike, ImageLike

if TYPE_CHECKING:
    from spalipy_astro.resampling import Kernel

__all__ = ["align_many"]


@checked_call
def align_many(
    sources: Iterable[Any],
    template: ImageLike | CatalogLike | SkyCoord,
    *,
    output: str | os.PathLike[str] | None = None,
    resample: bool = True,
    alignments: bool = True,
    overwrite: bool = False,
    grid: str = "template",
    grid_scale: float = 1,
    wcs: Any = None,
    shape: tuple[int, int] | None = None,
    method: str | Kernel = "lanczos3",
    conserve_flux: bool | None = None,
    fill_value: float = np.nan,
    pixfrac: float | None = None,
    kernel: str | None = None,
    weights: str | None = None,
    scale_flux: bool = False,
    match_background: bool = False,
    reject: Reject | None = None,
    target: Table | str | os.PathLike[str] | None = None,
    hdu: Extension | None = None,
    template_hdu: Extension | None = None,
    source_mask: Any = None,
    ignore_flags: Any = OBSERVATORY,
    flag_name_map: Any = None,
    min_matched: int = 0,
    n_workers: int | None = 1,
    executor: str | Executor = "processes",
    client: Any = None,
    progress: bool | Told | None = None,
    **options: Unpack[AlignmentOptions],
) -> QTable:
    """
    Align many images to one template.

    Parameters
    ----------
    sources : iterable, folder, pattern, or `ccdproc.ImageFileCollection`
        Images of any kind that `find_alignment` takes: paths, HDUs, HDULists, CCDData, NDData or
        arrays of shape (ny, nx), which are read one by one; where nothing is resampled catalogs of
        stars, too. The path of a folder stands for the FITS files in it, a pattern such as
        ``"raw/*.fits"`` for the files that match, in the order of their names. Color images and
        cubes, (ny, nx, 3) or (k, ny, nx), are aligned on all planes together and keep their layout.
        PNG, JPEG and TIFF files are read as (3, ny, nx).
    template : path, HDU, HDUList, CCDData, NDData, array_like, catalog or "best"
        As for `find_alignment`, but no catalog of sky positions. With ``"best"`` it is one of the
        sources: the deepest, sharpest and roundest one, as far as it shows the field of the others.
    output : path-like, optional
        Folder to write to, created if needed: for each source ``NAME_alignment.asdf``, which
        `Alignment.read` opens, and ``NAME_aligned.fits``, which has the data and the extensions
        ``MASK`` and ``UNCERT`` as CCDData writes them. NAME is that of the source; where it belongs
        to a source in another folder, that of the folder and a number made of the whole path follow
        it. Without it nothing is resampled or written.
    resample : bool, optional
        Whether to write aligned images, or only the alignments.
    alignments : bool, optional
        Whether to write alignments, or only the aligned images, which takes a tenth less time;
        their headers then show a later run that they are done.
    overwrite : bool, optional
        Whether to replace existing files. By default those of the same source, template and
        options count as done, and others are an error in their row.
    grid : {"template", "union", "intersection"}, optional
        The grid of all aligned images: the template's, that grid enlarged to hold all frames, or
        its largest rectangle that lies on all of them.
    grid_scale : float, optional
        Pixels of the grid per template pixel along each axis: 2 for a grid twice as fine.
    wcs : `astropy.wcs.WCS`, `gwcs.WCS`, `~astropy.io.fits.Header` or (WCS, shape), optional
        Any grid on the sky instead, if the template has a celestial WCS.
    shape : tuple of int, optional
        Shape ``(ny, nx)`` of the grid if the template is a catalog, or ``wcs`` has none.
    method, conserve_flux, fill_value, pixfrac, kernel
        How to resample; see `Alignment.resample`. With ``method="drizzle"`` aligned images have
        an extension ``WHT``, the weight map.
    weights : "ivar", optional
        For drizzle: whether pixels have weights of 1 / variance, by their uncertainty.
    scale_flux, match_background : bool, optional
        Whether to bring the aligned images to the fluxes and to the sky of the template; see
        `Alignment.resample`. Without them the cards ``FLXSCALE`` and ``ALGNBACK`` tell how to.
    reject : mapping or callable, optional
        Which frames are bad; they are not resampled. A mapping from names of columns to limits: a
        number; ``"3 sigma"``, for clipping on the bad side of the night's median; ``"1.5 median"``;
        or ``"80 %"``, the share of the best ones that is kept. For ``n_stars``, ``n_matched`` and
        ``flux_ratio`` a number up to 1 is a share of the median: ``{"fwhm": "3 sigma", "n_stars":
        0.5, "ellipticity": 0.4}``. What depends on the exposure time is compared with frames of
        the same one. Or a function that takes the table and returns True for each bad row.
    target : Table, data frame, path or `~astropy.coordinates.SkyCoord`, optional
        Where a comet or an asteroid is: two rows or more with ``time`` (MJD, JD, ISO or
        `~astropy.time.Time`; UTC unless it says otherwise) and ``x``, ``y`` (template px) or a
        `~astropy.coordinates.SkyCoord`, or one with ``obstime``. It is interpolated to the middle
        of each exposure, and aligned images show it where it is at the time of the template; their
        WCS is right for it, not for the stars. Frames that do not show it fail.
    hdu : int, str or (str, int), optional
        Extension of files, of the sources and of the template; by default the first image. With
        ``"all"`` every image of a file is a source, a chip of a camera, say: the first of each goes
        with the first of the template, the second with the second, unless the template has only
        one. There is a row for each, with a column ``hdu``, and what is made of files with several
        images is in folders ``hdu1``, ``hdu2`` and so on of ``output``.
    template_hdu : int, str or (str, int), optional
        Extension of the template, where it is not that of the sources.
    source_mask : array_like, path, HDU or HDUList, or list of them, optional
        Bad pixels in addition to the images' own: of all sources, or a list with one (or None) for
        each. Every non-zero pixel of a file is bad, unless it holds flags of a known observatory.
    ignore_flags, flag_name_map : optional
        Which bits of flags in files do not make a pixel bad, as
        `astropy.nddata.bitmask.bitfield_to_boolean_mask` takes them; by default
        (``"observatory"``) those that are harmless in the images of the observatory.
    min_matched : int, optional
        Smallest number of matched stars; by default only the odds against chance decide.
    n_workers : int, optional
        How many sources to work on at a time; 1 by default, None for as many as there are cores.
    executor : {"processes", "threads"} or `concurrent.futures.Executor`, optional
        How to run them if ``n_workers`` is not 1. Worker processes take a second to start; a pool
        of your own (of processes that are spawned) serves many calls.
    client : `dask.distributed.Client` or str, optional
        A cluster to work on instead, or its address. Its workers must find the files at the same
        paths.
    progress : bool or callable, optional
        Whether to show a bar (with tqdm); by default on a terminal and in a notebook. A function is
        called as ``progress(done, total, row)`` when a source is done: with the number of those
        that are, of all (None if it is not known yet) and a mapping of the columns below.
    **options
        How to find the transforms; see `find_alignment`.

    Returns
    -------
    `~astropy.table.QTable`
        One row for each source, in their order: ``source`` (path or number), ``status`` ("ok",
        "failed" or "rejected"), ``reason`` (in words, unless ok), ``n_matched``, ``error``,
        ``rms``, ``log_odds``, ``shift_x``, ``shift_y``, ``rotation``, ``scale``, ``parity`` (as in
        `Alignment.summary`; NaN or 0 if failed), the quality of the source: ``n_stars``, ``fwhm``
        (px), ``fwhm_arcsec``, ``ellipticity``, ``orientation`` (deg), ``background``, ``noise``,
        ``depth`` (flux at a signal-to-noise ratio of 5), ``flux_ratio`` (source over template) and
        ``flux_ratio_err``, ``exptime`` (s; NaN where not known),
        ``time`` (seconds) and ``resumed`` (done by an earlier run). With
        ``output``: ``aligned`` and ``asdf``, the paths of the files (empty if there is none; no
        ``asdf`` without ``alignments``); else
        ``alignment``, the `Alignment` or None. ``meta`` has ``template`` (its path, or number among
        the sources), ``template_reason`` (why it is the best, if that was asked for), and
        ``shape`` (ny, nx) and ``offset`` (x, y; template px) of the grid.

    Raises
    ------
    AlignmentError
        If the template cannot be used. Problems with a source are reported in its row.
    TypeError, ValueError
        If an argument is invalid. All are checked before the first frame is read.
    FileNotFoundError, FormatError
        If the template or a mask cannot be opened, or a folder or pattern stands for no file.
    FileExistsError
        If ``output`` is a file.
    ImportError
        If ``progress`` is requested and tqdm is not installed.

    Notes
    -----
    Files are written whole or not at all. What a run that was killed has left is removed by the
    next; several runs may work on one folder at the same time. Worker processes end when this
    one does.

    The stars of the template are found and indexed once. Results are the same, bit for bit, on
    all machines with the same software and kind of processor. Memory use does not depend on the
    number of sources, except for the alignments in the table,
    about 0.3 MB each, if there is no ``output``, and for the stars of all frames with
    ``template="best"``.

    Worker processes start anew: a script must call this within ``if __name__ == "__main__":``.

    Examples
    --------
    >>> import numpy as np
    >>> from spalipy_astro import align_many
    >>> from spalipy_astro.example import example_pair
    >>> source, template = example_pair()
    >>> table = align_many([source, np.full(source.shape, 7.0)], template)
    >>> print(table["source", "status", "parity"])
    source status parity
    ------ ------ ------
         0     ok      1
         1 failed      0
    >>> print(table["reason"][1])  # doctest: +ELLIPSIS
    the source cannot be searched for stars: all 803712 good pixels ... have the same value 7...
    """
    from spalipy_astro.resampling import check_method, drops_of

    n_workers = check_workers(executor, n_workers)
    _check(min_matched, options)
    check_reject(reject)
    check_method(method, fill_value)
    shape = None if shape is None else check_shape(shape)
    pixels, grid_shape = pixels_of(grid, grid_scale, wcs, shape)
    drops_of(method, pixfrac=pixfrac, kernel=kernel, weights=weights)
    in_two_steps = grid != "template" or reject is not None
    if not alignments and output is not None and (not resample or in_two_steps):
        raise ValueError(
            "alignments=False leaves nothing to write without resample=True, and other grids than "
            "the template's, and reject=, have to read the alignments again at the end; leave it "
            "out."
        )
    check_hdu(hdu)
    progress = check_progress(progress)
    sources = list_sources(sources)
    check_weights(weights, sources)
    for mask in masks_each(source_mask) or [source_mask]:
        if isinstance(mask, str | os.PathLike):
            _require("source_mask", mask)
        elif mask is not None and not is_file_like(mask):
            check_mask(mask, name="source_mask")
    best = isinstance(template, str) and template == "best"
    if not best and isinstance(template, str | os.PathLike):
        _require("template", template)
    if hdu == "all":
        chips = None if template_hdu is None else [template_hdu]
        is_file = isinstance(template, str | os.PathLike | HDUList) and not best
        if chips is None and is_file and not is_catalog(template):
            chips = list(image_hdus(template))
        whole = {
            "resample": resample,
            "alignments": alignments,
            "overwrite": overwrite,
            "grid": grid,
            "grid_scale": grid_scale,
            "wcs": wcs,
            "shape": shape,
            "method": method,
            "conserve_flux": conserve_flux,
            "fill_value": fill_value,
            "pixfrac": pixfrac,
            "kernel": kernel,
            "weights": weights,
            "scale_flux": scale_flux,
            "match_background": match_background,
            "reject": reject,
            "target": target,
            "ignore_flags": ignore_flags,
            "flag_name_map": flag_name_map,
            "min_matched": min_matched,
            "n_workers": n_workers,
            "executor": executor,
            "client": client,
            "progress": progress,
        }
        return align_chips(
            align_many,
            sources,
            template,
            output=output,
            source_mask=source_mask,
            template_hdus=chips,
            options={**whole, **options},
        )
    folder = None if output is None else Path(path_of("output", output)).absolute()
    if folder is not None:
        _check_folder(folder, output)
    drizzle = {"pixfrac": pixfrac, "kernel": kernel, "weights": weights}
    settings = Settings(
        find={key: value for key, value in options.items() if key != "template_mask"},
        resample={
            "method": method,
            "conserve_flux": conserve_flux,
            "fill_value": fill_value,
            **({"scale_flux": True} if scale_flux else {}),
            **({"match_background": True} if match_background else {}),
            **{name: value for name, value in drizzle.items() if value is not None},
        },
        hdu=hdu,
        min_matched=min_matched,
        overwrite=overwrite,
        reuse=not overwrite,
        alignments=alignments,
        flags={"ignore_flags": ignore_flags, "flag_name_map": flag_name_map},
        grid=grid,
        pixels=pixels,
    )
    request = Request(
        sources=sources,
        template=template,
        options=options,
        template_hdu=template_hdu,
        source_mask=source_mask,
        folder=folder,
        resample=resample,
        grid_shape=grid_shape,
        reject=reject,
        target=target,
        n_workers=n_workers,
        executor=executor,
        client=client,
        progress=progress,
    )
    return run_batch(request, settings)


def _check(min_matched: Any, options: Mapping[str, Any]) -> None:
    """Raise for arguments that make no sense."""
    whole_number("min_matched", min_matched, "a number of stars", least=0)
    own = set(signature(align_many).parameters)
    known = set(signature(find_alignment).parameters) - {"source"}
    check_names("align_many()", options, (own | known) - {"options"})
    refuse_single_scale(options)
    FindOptions(**{name: value for name, value in options.items() if name != "template_mask"})


def _require(name: str, path: str | os.PathLike[str]) -> None:
    """Raise, with the argument's name, unless there is a file."""
    try:
        require_file(path)
    except (FileNotFoundError, FormatError) as error:
        raise type(error)(f"{name}: {error}") from error


def _check_folder(folder: Path, output: Any) -> None:
    """Raise unless a folder can be written to, or made."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    rule = f"output is the folder to write to; got {os.fspath(output)!r}"
    if not os.fspath(output):
        raise ValueError(f"{rule}; '.' is the one that you are in.")
    rule += f", but {os.fspath(there)!r}"
    if not there.is_dir():
        raise FileExistsError(f"{rule} is not a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{rule} cannot be written to.")
