"""From pairs of stars that are matched already to an alignment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spalipy_astro._blas import one_blas_thread
from spalipy_astro._checks import check_shape, check_wcs, checked_call
from spalipy_astro.alignment import Alignment, rescaled
from spalipy_astro.catalogs import Stars, as_table, translate
from spalipy_astro.errors import CatalogError, TooFewStarsError
from spalipy_astro.fitting import KINDS, Fit, agreement, consensus, fit_backward
from spalipy_astro.matching import StarField
from spalipy_astro.models import jacobian_determinant
from spalipy_astro.registration._findoptions import FindOptions
from spalipy_astro.registration._pixels import SQUARE, units_of
from spalipy_astro.registration._prepare import StarFrame
from spalipy_astro.registration._result import alignment_of
from spalipy_astro.typing import CatalogLike

__all__ = ["fit_alignment"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_LEAST_ERROR = 1e-9  # of the width of the field: a smaller error is a rounding error
_CLEARLY = np.log(100.0)  # odds against chance, and by which some pairs must do better than all
_MOST, _CLOSE = 0.75, 0.02  # share of all pairs, and share of the field: what needs no second look
_FEW = 6  # pairs below which there may be no such odds
_ROUNDS = 4  # of fits to pairs that agree with the last one


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
        Wrong pairs are clipped, even if they are the most: ``matches["used"]`` tells. Its
        ``summary()`` has no figures of a search: ``log_odds``, ``n_expected`` and ``hypotheses``.

    Raises
    ------
    CatalogError
        If positions or errors are none, no more pairs agree on a transform than would by chance, or
        it folds the plane over.
    TooFewStarsError
        If there are fewer pairs than the kind of transform takes.
    TypeError, ValueError
        If both lists are not of one length, or an argument is invalid.

    Notes
    -----
    Where a fit of all pairs leaves a large scatter, the set of pairs is sought that agree on a
    linear map more closely than chance explains (a contrario RANSAC; Moisan & Stival 2004,
    doi:10.1023/B:VISI.0000013094.38752.54), and the transform is fitted to it and what agrees with
    that. The same pairs give the same result.

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
    fit = _fit_what_agrees(one.stars, two.stars, relative, options)
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


def _fit_what_agrees(
    source: Stars, template: Stars, relative: FloatArray | None, options: Mapping[str, Any]
) -> Fit:
    """Fit all pairs, or those that agree, if a fit of all does not show their transform."""
    n = len(source)
    extent = np.ptp(source.xy, axis=0)
    of_all = _fit(source, template, relative, options)
    folds = _folds(of_all, template.xy)
    if n <= KINDS[of_all.kind]:
        return of_all
    # ln of how many transforms chance would have that as many pairs follow as closely
    alarms, kept, scatter = agreement(of_all.residuals, extent, of_all.freedom)
    if not folds and kept.mean() > _MOST and scatter < _CLOSE * extent.max():
        return of_all  # the others are too few to agree better
    widths = [np.asarray(sizes, dtype=float) for sizes in options["pixels"]]
    kinds = tuple(dict.fromkeys((of_all.kind, "similarity", "affine")))
    best, among, radius = consensus(source.xy * widths[0], template.xy * widths[1], kinds)
    if min(best, alarms) > (0.0 if n < _FEW else -_CLEARLY):
        raise CatalogError(
            f"of {n} pairs no more agree on a transform than pairs of different stars would by "
            "chance. Are the rows of both lists the same stars, in the same order? find_alignment "
            "matches lists that are not."
        )
    # a distortion is dearer than a linear map, but nearer to what agrees on one
    near = np.hypot(*of_all.residuals[among].T * max(widths[0])).max(initial=0.0) <= radius
    if not folds and (near or among.all() or best > alarms - _CLEARLY):
        return of_all
    for _ in range(_ROUNDS):
        fit = _fit(source, template, relative, options, among)
        more = among | agreement(fit.residuals, extent, fit.freedom).agree
        if np.array_equal(more, among):
            break
        among = more
    if _folds(fit, template.xy[fit.used]):
        raise CatalogError(
            f"the transform through {n} pairs folds the plane over between them; "
            "affine='similarity' or spline_order=0 fits one that cannot. Are these pairs the same "
            "stars?"
        )
    return fit


def _fit(
    source: Stars,
    template: Stars,
    relative: FloatArray | None,
    options: Mapping[str, Any],
    among: BoolArray | None = None,
) -> Fit:
    """Fit pairs, by their errors or by weights."""
    if relative is None:
        return fit_backward(
            source.xy,
            template.xy,
            source_err=source.err,
            template_err=template.err,
            among=among,
            **options,
        )
    # the errors are known but for a factor: it is that of the residuals
    width = float(np.ptp(source.xy, axis=0).max()) or 1.0
    wide = fit_backward(source.xy, template.xy, source_err=relative * width, among=among, **options)
    distance2 = np.sum(wide.residuals**2, axis=1) / relative**2
    median = float(np.median(distance2 if among is None else distance2[among]))
    errors = np.maximum(relative * np.sqrt(median / (2 * np.log(2.0))), _LEAST_ERROR * width)
    return fit_backward(source.xy, template.xy, source_err=errors, among=among, **options)


def _folds(fit: Fit, template_xy: FloatArray) -> bool:
    """Tell whether a map folds the plane over at stars."""
    determinant = jacobian_determinant(fit.backward, *template_xy.T)
    return bool(np.any(np.sign(determinant) != np.sign(np.linalg.det(fit.matrix))))
