"""What `align_many` has made, handed to the packages that make one image of many."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import ArrayLike, NDArray

from spalipy_astro._checks import check_image, checked_call, positive_number
from spalipy_astro.alignment import Alignment
from spalipy_astro.errors import AlignmentError
from spalipy_astro.io import Extension, open_fits, read_image

__all__ = ["aligned_frames", "coadd_inputs", "stack_frames", "stack_weights"]

_BY = ("depth", "noise", "exptime", "equal")
_BYTES = 60  # per pixel of a strip: the frames, in double precision, their masks, and copies
_OWN = ("ALGN", "SIMPLE", "BITPIX", "NAXIS", "EXTEND", "COMMENT", "HISTORY")
_GRID = ("NAXIS1", "NAXIS2", "BUNIT", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
_TIMES = ("DATE-OBS", "DATE-BEG", "DATE-AVG", "DATE-END", "MJD-OBS", "MJD-BEG", "MJD-AVG")


def aligned_frames(table: Table) -> Iterator[CCDData]:
    """
    Read the aligned images of a batch, one by one.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table from `align_many`, or some rows of it; failed ones are skipped.

    Yields
    ------
    `~astropy.nddata.CCDData`
        Images on one grid, with mask, uncertainty and WCS; as `ccdproc.Combiner` takes them.

    Raises
    ------
    ValueError
        If the batch did not write aligned images.

    Examples
    --------
    >>> from ccdproc import Combiner  # doctest: +SKIP
    >>> stack = Combiner(list(aligned_frames(table))).median_combine()  # doctest: +SKIP
    """
    for row in _good_rows(table, "aligned", "align_many(..., output=FOLDER)"):
        yield read_image(row["aligned"])


@checked_call
def coadd_inputs(
    table: Table, *, hdu: Extension | None = None
) -> tuple[list[tuple[np.ndarray, Any]], Any, tuple[int, int]]:
    """
    Gather inputs for `reproject.mosaicking.reproject_and_coadd`: raw frames and their WCS.

    The frames are interpolated once, by reproject, instead of being read from aligned images.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table from `align_many` for files, or some rows of it; failed ones are skipped.
    hdu : int, str or (str, int), optional
        Extension of the files, as passed to `align_many`.

    Returns
    -------
    inputs : list of (ndarray, `gwcs.WCS`)
        Bad pixels are NaN.
    output_projection : object
        The WCS of the template's grid.
    shape_out : tuple of int
        Shape ``(ny, nx)`` of that grid.

    Raises
    ------
    AlignmentError
        If no source was aligned.
    ValueError
        If the template has no shape, or a source no longer has the shape with which it was aligned.

    Examples
    --------
    >>> from reproject import reproject_interp  # doctest: +SKIP
    >>> from reproject.mosaicking import reproject_and_coadd  # doctest: +SKIP
    >>> inputs, projection, shape = coadd_inputs(table)  # doctest: +SKIP
    >>> image, footprint = reproject_and_coadd(
    ...     inputs, projection, shape_out=shape, reproject_function=reproject_interp
    ... )  # doctest: +SKIP
    """
    inputs: list[tuple[np.ndarray, Any]] = []
    alignment = None
    for row in _good_rows(table, "source", "files as sources"):
        alignment = Alignment.read(row["asdf"]) if "asdf" in table.colnames else row["alignment"]
        image = read_image(row["source"], hdu=hdu)
        name = repr(str(row["source"]))
        check_image(image, alignment.source_shape, name=name, frame="source")
        data = np.array(image.data, np.result_type(image.data, np.float32))
        if image.mask is not None:
            data[image.mask] = np.nan
        inputs.append((data, alignment.wcs))
    if alignment is None:
        raise AlignmentError(f"none of the {len(table)} sources was aligned; see their reasons.")
    if alignment.template_shape is None:
        raise ValueError("the template was a catalog and has no shape.")
    return inputs, alignment.template_wcs, alignment.template_shape


def _check_table(table: Any) -> None:
    """Raise for what is not the table of a batch."""
    if not isinstance(table, Table):
        raise TypeError(
            f"table is what align_many returns, or rows of it; got {type(table).__name__}."
        )
    if "status" not in table.colnames:
        raise ValueError(
            "table is what align_many returns, or rows of it; got one without the column 'status'."
        )


def _good_rows(table: Table, column: str, remedy: str) -> list[Any]:
    """Return the rows of aligned sources, if the column has their paths."""
    _check_table(table)
    rows = [row for row in table if row["status"] == "ok"]
    if column not in table.colnames or not all(isinstance(row[column], str) for row in rows):
        raise ValueError(f"the table has no paths in a column {column!r}; that takes {remedy}.")
    if not all(row[column] for row in rows):
        raise ValueError(f"some rows of {column!r} are empty; that takes {remedy}.")
    return rows


@checked_call
def stack_weights(table: Table, *, by: str = "depth") -> NDArray[np.float64]:
    """
    Return the weights with which frames are averaged.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table from `align_many`, or some rows of it.
    by : {"depth", "noise", "exptime", "equal"}, optional
        ``"depth"``: the best signal-to-noise ratio of stars, 1 / (depth / flux_ratio)**2.
        ``"noise"``: that of the sky and of what is extended, 1 / (noise / flux_ratio)**2. Both
        are for frames on one flux scale, ``align_many(..., scale_flux=True)``. ``"exptime"``:
        the time of the exposure. ``"equal"``: 1.

    Returns
    -------
    ndarray, shape (N,)
        A weight for each row, of mean 1 over those that are ok; 0 for others.

    Raises
    ------
    ValueError
        If ``by`` is unknown, or a frame that is ok has no such figure.
    """
    if by not in _BY:
        raise ValueError(f"by is one of {', '.join(_BY)}; got {by!r}.")
    _check_table(table)
    good = np.asarray(table["status"]) == "ok"
    if by == "equal":
        return good.astype(float)
    value = np.asarray(table[by], float)
    weight = value if by == "exptime" else (np.asarray(table["flux_ratio"], float) / value) ** 2
    bad = good & ~(np.isfinite(weight) & (weight > 0))
    if bad.any():
        names = ", ".join(str(name) for name in np.asarray(table["source"])[bad][:3])
        raise ValueError(f"by={by!r}: {np.count_nonzero(bad)} frames do not tell it: {names}.")
    weight = np.where(good, weight, 0.0)
    return weight / weight[good].mean() if good.any() else weight


@checked_call
def stack_frames(
    table: Table,
    *,
    combine: str = "mean",
    sigma: float | None = 4.0,
    weights: ArrayLike | str | None = None,
    mem_limit: float = 2e9,
) -> CCDData:
    """
    Combine the aligned images of a batch with `ccdproc.Combiner`, strip by strip.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table from `align_many` with ``output=``, or some rows of it; others than those that
        are ok are skipped.
    combine : {"mean", "median", "sum"}, optional
        How pixels are combined. A sum stands for all frames: where some have no good pixel, the
        others are scaled up.
    sigma : float, optional
        Pixels farther than that from the median of all frames, in units of their scatter, are left
        out: cosmic rays, satellites, and stars where the frames follow a moving target. None: none.
    weights : array_like or {"depth", "noise", "exptime", "equal"}, optional
        One for each row, or as `stack_weights` has them; for the mean only. By default equal.
    mem_limit : float, optional
        Bytes of memory to be used. It does not depend on the number of frames.

    Returns
    -------
    `~astropy.nddata.CCDData`
        With the WCS of the grid; masked where no frame has a good pixel. Its uncertainty is the
        scatter of the frames over the root of their number, NaN where there is one frame only; for
        a sum, that times their number. The header has what is the same in all
        frames, ``NCOMBINE``, their total ``EXPTIME``, and the first and the last time.

    Raises
    ------
    AlignmentError
        If no frame is ok.
    ValueError
        If the batch did not write aligned images, frames differ in unit or grid, or an option makes
        no sense.
    ImportError
        If ccdproc is not installed.
    """
    if combine not in ("mean", "median", "sum"):
        raise ValueError(f"combine is 'mean', 'median' or 'sum'; got {combine!r}.")
    sigma = None if sigma is None else positive_number("sigma", sigma, "a positive number, or None")
    mem_limit = positive_number("mem_limit", mem_limit, "a number of bytes")
    rows = _good_rows(table, "aligned", "align_many(..., output=FOLDER)")
    if not rows:
        raise AlignmentError(f"none of the {len(table)} sources was aligned; see their reasons.")
    share = None
    if weights is not None:
        by_row = stack_weights(table, by=weights) if isinstance(weights, str) else weights
        share = np.asarray(by_row, float)
        if combine != "mean" or share.shape != (len(table),):
            raise ValueError(
                f"weights are for combine='mean', one for each of {len(table)} rows; got "
                f"combine={combine!r} and weights of shape {share.shape}."
            )
        share = share[np.asarray(table["status"]) == "ok"]
        if not (np.isfinite(share).all() and (share >= 0).all() and share.any()):
            raise ValueError(
                f"weights are numbers from 0 up, at least one of them larger; got {share.tolist()}."
            )
    try:
        import ccdproc  # noqa: F401
    except ImportError as error:
        raise ImportError("stacks are made by ccdproc: pip install ccdproc") from error
    paths = [str(row["aligned"]) for row in rows]
    headers = [_header(path) for path in paths]
    _check_grids(paths, headers)
    first = read_image(paths[0])
    ny, nx = first.shape
    height = max(1, int(mem_limit / (_BYTES * nx * len(paths))))
    data, spread = np.empty((ny, nx), first.data.dtype), np.empty((ny, nx), np.float32)
    mask = np.empty((ny, nx), bool)
    for start in range(0, ny, height):
        part = slice(start, min(start + height, ny))
        strips = [_strip(path, part, first.unit) for path in paths]
        data[part], spread[part], mask[part] = _combined(strips, combine, sigma, share)
    header = _common_header(headers)
    return CCDData(
        data,
        unit=first.unit,
        mask=mask,
        uncertainty=StdDevUncertainty(spread),
        wcs=first.wcs,
        meta=header,
    )


def _check_grids(paths: list[str], headers: list[fits.Header]) -> None:
    """Raise for frames of other batches: of another unit, shape, or place on the sky."""
    for path, header in zip(paths[1:], headers[1:], strict=True):
        for name in _GRID:
            mine, first = header.get(name), headers[0].get(name)
            if mine != first:
                raise ValueError(
                    f"{path} has {name} = {mine!r}, the first frame {first!r}; a stack takes the "
                    "frames of one batch."
                )


def _strip(path: str, part: slice, unit: Any) -> CCDData:
    """Read some rows of an aligned image; bad pixels are NaN."""
    with open_fits(path) as hdus:
        data = np.array(hdus[0].section[part, :], np.float64)
        if "MASK" in hdus:
            data[np.asarray(hdus["MASK"].section[part, :], bool)] = np.nan
    return CCDData(data, unit=unit, mask=~np.isfinite(data))


def _header(path: str) -> fits.Header:
    with open_fits(path) as hdus:
        return hdus[0].header


def _combined(
    strips: list[CCDData], combine: str, sigma: float | None, weights: NDArray[np.float64] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Combine strips: data, uncertainty, mask."""
    from ccdproc import Combiner

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # of pixels that no frame has
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", AstropyUserWarning)
        combiner = Combiner(strips)
        if sigma is not None and len(strips) > 2:
            combiner.sigma_clipping(
                low_thresh=sigma, high_thresh=sigma, func="median", dev_func="mad_std"
            )
        if weights is not None:
            # pixel by pixel: the sum of weights must not count what is left out
            combiner.weights = weights[:, None, None] * ~combiner.data_arr.mask
        method = {"mean": "average_combine", "median": "median_combine", "sum": "sum_combine"}
        out = getattr(combiner, method[combine])()
        spread = out.uncertainty.array
        number = np.count_nonzero(~combiner.data_arr.mask, axis=0)
        spread = np.where(number > 1, spread, np.nan)
        if combine == "sum":
            missing = len(strips) / number
            out.data, spread = out.data * missing, spread * missing
    mask = np.asarray(out.mask, bool) | ~np.isfinite(out.data)
    return np.where(mask, np.nan, out.data), np.where(mask, np.nan, spread), mask


def _common_header(headers: list[fits.Header]) -> fits.Header:
    """Return the cards that all frames agree on, and what the stack is made of."""
    out = fits.Header()
    for card in headers[0].cards:
        same = all(header.get(card.keyword) == card.value for header in headers[1:])
        if same and card.keyword and not card.keyword.startswith(_OWN):
            out.append(card)
    out["NCOMBINE"] = (len(headers), "frames combined")
    times = [header.get("EXPTIME") for header in headers]
    if all(isinstance(time, int | float) for time in times):
        out["EXPTIME"] = (float(sum(times)), "[s] total of the frames")
    for name in _TIMES:
        known = [header[name] for header in headers if name in header]
        if len(known) == len(headers) and len({type(value) for value in known}) == 1:
            pick = max if name.endswith("END") else min
            out[name] = (pick(known), "of the frames combined")
    return out
