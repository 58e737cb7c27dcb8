"""What `align_many` has made, handed to the packages that make one image of many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from astropy.nddata import CCDData
from astropy.table import Table

from spalipy_astro._checks import check_image
from spalipy_astro.alignment import Alignment
from spalipy_astro.errors import AlignmentError
from spalipy_astro.io import Extension, read_image

__all__ = ["aligned_frames", "coadd_inputs"]


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


def _good_rows(table: Table, column: str, remedy: str) -> list[Any]:
    """Return the rows of aligned sources, if the column has their paths."""
    rows = [row for row in table if row["status"] == "ok"]
    if column not in table.colnames or not all(isinstance(row[column], str) for row in rows):
        raise ValueError(f"the table has no paths in a column {column!r}; that takes {remedy}.")
    if not all(row[column] for row in rows):
        raise ValueError(f"some rows of {column!r} are empty; that takes {remedy}.")
    return rows
