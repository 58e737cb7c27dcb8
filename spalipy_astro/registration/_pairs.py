"""From pairs of stars that are matched already to an alignment."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spalipy_astro._blas import one_blas_thread
from spalipy_astro._checks import check_shape, check_wcs, checked_call
from spalipy_astro.alignment import Alignment, rescaled
from spalipy_astro.catalogs import Stars, as_table, translate
from spalipy_astro.errors import CatalogError, TooFewStarsError
from spalipy_astro.fitting import Fit, fit_backward
from spalipy_astro.matching import StarField
from spalipy_astro.models import jacobian_determinant
from spalipy_astro.registration._findoptions import FindOptions
from spalipy_astro.registration._pixels import SQUARE, units_of
from spalipy_astro.registration._prepare import StarFrame
from spalipy_astro.registration._result import alignment_of
from spalipy_astro.typing import CatalogLike

__all__ = ["fit_alignment"]

FloatArray = NDArray[np.float64]

_LEAST_ERROR = 1e-9  # of the width of the field: a smaller error is a rounding error


@checked_call
@one_blas_thread()
def fit_alignment(
    source_xy: CatalogLike,
    template_xy: CatalogLike,
    *,
    source_err: ArrayLike | None = None,
    template_err: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    affine: str = "auto",
    spline_order: int = 5,
    smoothing: float | None = None,
    polynomial: int | None = None,
    source_pixels: tuple[float, float] | None = None,
    template_pixels: tuple[float, float] | None = None,
    source_shape: tuple[int, int] | None = None,
    template_shape: tuple[int, int] | None = None,
    wcs: Any = None,
) -> Alignment:
    """
    Fit the transform of stars that are matched already.

    Parameters
    ----------
    source_xy, template_xy : array_like, shape (N, 2), or `~astropy.table.Table`
        Positions of the same stars in both images, 0-based px, row by row. Tables have columns
        ``x`` and ``y``, optionally ``x_err``, ``y_err`` and ``flux``, or those of another program
        that `read_catalog` knows. Rows with a position that is not finite on either side are left
        out. Any unit will do.
    source_err, template_err : float or array_like, shape (N,) or (N, 2), optional
        1-sigma errors along each axis; by default those of the tables. Of one side alone they are
        the weights, and the scatter tells the other side's.
    weights : array_like, shape (N,), optional
        In place of errors: weights of the pairs, proportional to one over the variance. The scatter
        of the residuals tells the rest.
    affine : {"auto", "shift", "rigid", "similarity", "affine"}, optional
        Kind of the linear part, as for `find_alignment`; "auto" takes a shift for one pair and a
        similarity for pairs on one line.
    spline_order, smoothing, polynomial, source_pixels, template_pixels : optional
        As for `find_alignment`; pixels are square by default.
    source_shape, template_shape : tuple of int, optional
        Shapes ``(ny, nx)`` of the images. `Alignment.resample` needs the template's.
    wcs : `astropy.wcs.WCS` or `gwcs.WCS`, optional
        The template's.

    Returns
    -------
    Alignment
        Wrong pairs are clipped as by `find_alignment`: ``matches["used"]`` tells. Its ``summary()``
        has no figures of a search: ``log_odds``, ``n_expected`` and ``hypotheses``.

    Raises
    ------
    CatalogError
        If positions or errors are none, or the transform through them folds the plane over.
    TooFewStarsError
        If there are fewer pairs than the kind of transform takes.
    TypeError, ValueError
        If both lists are not of one length, or an argument is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from spalipy_astro import fit_alignment
    >>> source = np.array([[10.0, 20.0], [200.0, 40.0], [120.0, 190.0]])
    >>> alignment = fit_alignment(source, 2 * source + [5, -3])
    >>> print(np.round(alignment.transform(100.0, 100.0), 6))
    [205. 197.]
    """
    start = time.perf_counter()
    given = FindOptions(
        affine=affine,
        spline_order=spline_order,
        smoothing=smoothing,
        polynomial=polynomial,
        source_pixels=source_pixels,
        template_pixels=template_pixels,
    )
    shapes = [
        None if shape is None else check_shape(shape, name=name)
        for name, shape in (("source_shape", source_shape), ("template_shape", template_shape))
    ]
    check_wcs(wcs)
    sides = [
        _side(xy, name, err)
        for xy, name, err in (
            (source_xy, "source", source_err),
            (template_xy, "template", template_err),
        )
    ]
    rows = _common_rows(sides)
    relative = _relative_errors(weights, sides, rows)
    units = [
        1.0 if shape else units_of(side.xy[rows])[-1]
        for shape, side in zip(shapes, sides, strict=True)
    ]
    if given.affine in ("shift", "rigid"):  # which know no scale between two units
        units[1] = units[0] = max(units) if shapes == [None, None] else 1.0
    one, two = (
        _frame(side, rows, unit, shape)
        for side, unit, shape in zip(sides, units, shapes, strict=True)
    )
    options = {
        "pixels": (given.source_pixels or SQUARE, given.template_pixels or SQUARE),
        **given.fit,
    }
    s, t = one.stars, two.stars
    if relative is None:
        fit = fit_backward(s.xy, t.xy, source_err=s.err, template_err=t.err, **options)
    else:
        fit = _fit_by_weights(s.xy, t.xy, relative, options)
    _check_fold(fit, t.xy)
    two = replace(two, wcs=wcs)
    times = {"fit": time.perf_counter() - start}
    found = alignment_of(fit, None, one, two, times=times, options=given.fit)
    if wcs is not None:
        found.wcs  # noqa: B018  # raises for what is no WCS, now and not at first use
    return found if units == [1.0, 1.0] else rescaled(found, source=units[0], template=units[1])


def _side(positions: Any, name: str, err: Any) -> Stars:
    """Return the positions of one side, with errors and fluxes where there are any; all rows."""
    table = translate(as_table(positions, name=name), name=name)
    xy = np.column_stack((np.asarray(table["x"]), np.asarray(table["y"])))
    flux = (
        np.asarray(table["flux"], float) if "flux" in table.colnames else np.full(len(xy), np.nan)
    )
    errors = None
    if err is not None:
        errors = _given_errors(err, f"{name}_err", len(xy))
    elif {"x_err", "y_err"} <= set(table.colnames):
        errors = np.hypot(np.asarray(table["x_err"]), np.asarray(table["y_err"])) / np.sqrt(2)
    return Stars(xy, errors, flux, np.zeros(len(xy), np.int64), np.arange(len(xy)))


def _given_errors(err: Any, name: str, n: int) -> FloatArray:
    """Return errors as one number for each pair."""
    values = np.asarray(getattr(err, "value", err), dtype=float)
    if values.ndim == 0:
        values = np.full(n, float(values))
    if values.shape not in ((n,), (n, 2)):
        raise ValueError(
            f"{name} is a number, or an array of shape ({n},) or ({n}, 2), as there are {n} pairs; "
            f"got shape {values.shape}."
        )
    bad = int(np.count_nonzero(~(np.isfinite(values) & (values > 0))))
    if bad:
        raise ValueError(
            f"{name} is positive and finite, 1-sigma in the unit of the positions; {bad} of "
            f"{values.size} values are not."
        )
    return values if values.ndim == 1 else np.hypot(*values.T) / np.sqrt(2)


def _common_rows(sides: list[Stars]) -> NDArray[np.intp]:
    """Return the pairs whose positions are finite on both sides."""
    lengths = [len(side) for side in sides]
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"source_xy and template_xy are the same stars, row by row; got {lengths[0]} and "
            f"{lengths[1]} of them. find_alignment matches lists."
        )
    good = np.logical_and.reduce([np.isfinite(side.xy).all(axis=1) for side in sides])
    if not good.any():
        raise TooFewStarsError(f"of {lengths[0]} pairs none has finite positions on both sides.")
    rows = np.flatnonzero(good)
    for name, side in zip(("source", "template"), sides, strict=True):
        if len(rows) > 1 and not np.ptp(side.xy[rows], axis=0).max() > 0:
            raise CatalogError(f"all {len(rows)} positions in the {name} are one.")
    return rows


def _relative_errors(weights: Any, sides: list[Stars], rows: NDArray[np.intp]) -> FloatArray | None:
    """Return errors in a unit that is not known, by the weights."""
    if weights is None:
        return None
    n = len(sides[0])
    try:
        values = np.asarray(weights, dtype=float)
    except (TypeError, ValueError):
        raise TypeError(f"weights are numbers, one for each pair; got {weights!r}.") from None
    if values.shape != (n,):
        raise ValueError(f"weights has a value for each of {n} pairs; got shape {values.shape}.")
    bad = int(np.count_nonzero(~(np.isfinite(values) & (values > 0))))
    if bad:
        raise ValueError(
            f"weights are positive and finite; {bad} of {n} are not. Leave out pairs that do not "
            "count."
        )
    if any(side.err is not None for side in sides):
        raise ValueError(
            "weights and errors exclude each other: pairs of known errors weigh one over their "
            "squares. Leave out one of them."
        )
    return 1 / np.sqrt(values[rows] / values[rows].max())


def _frame(
    side: Stars, rows: NDArray[np.intp], unit: float, shape: tuple[int, int] | None
) -> StarFrame:
    """Return one side of the pairs, in units like those of pixels."""
    stars = side.take(rows)
    xy = stars.xy * unit
    err = stars.err
    if err is not None:
        extent = float(np.ptp(xy, axis=0).max()) or 1.0
        err = np.clip(err * unit, _LEAST_ERROR * extent, extent)
    stars = Stars(xy, err, stars.flux, stars.flag, stars.row)
    return StarFrame(stars, StarField(xy, stars.search_err), shape, None, len(side), unit=unit)


def _fit_by_weights(
    source_xy: FloatArray, template_xy: FloatArray, relative: FloatArray, options: Any
) -> Fit:
    """Fit pairs whose errors are known but for a factor: it is that of the residuals."""
    width = float(np.ptp(source_xy, axis=0).max()) or 1.0
    wide = fit_backward(source_xy, template_xy, source_err=relative * width, **options)
    distance2 = np.sum(wide.residuals**2, axis=1) / relative**2
    factor = np.sqrt(float(np.median(distance2)) / (2 * np.log(2.0)))
    errors = np.maximum(relative * factor, _LEAST_ERROR * width)
    return fit_backward(source_xy, template_xy, source_err=errors, **options)


def _check_fold(fit: Fit, template_xy: FloatArray) -> None:
    """Raise CatalogError for a map that folds the plane over at its own stars."""
    determinant = jacobian_determinant(fit.backward, *template_xy.T)
    if np.any(np.sign(determinant) != np.sign(np.linalg.det(fit.matrix))):
        raise CatalogError(
            f"the transform through {len(template_xy)} pairs folds the plane over between them; "
            "affine='similarity' or spline_order=0 fits one that cannot. Are these pairs the same "
            "stars?"
        )
