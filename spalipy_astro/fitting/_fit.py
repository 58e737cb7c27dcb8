"""
Matched pairs of stars -> the backward map (template px -> source px) and its errors.

The map is fitted as one penalized spline from template to source positions and then taken apart
into ``SplineDistortion2D | AffineTransformation2D``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from astropy.modeling import Model
from astropy.modeling.models import AffineTransformation2D
from numpy.typing import ArrayLike, NDArray

from spalipy_astro.errors import TooFewStarsError
from spalipy_astro.fitting._bending import Pairs
from spalipy_astro.fitting._covariance import PARAMETERS, Covariance, covariance_of, rigid_factor
from spalipy_astro.fitting._linear import KINDS, fit_linear
from spalipy_astro.fitting._reml import choose_smoothing, evidence_of
from spalipy_astro.fitting._smoothing import Posterior, System, solve
from spalipy_astro.fitting._splinespace import Design, SplineSpace
from spalipy_astro.models import SplineDistortion2D

__all__ = ["Covariance", "Fit", "Pixels", "fit_backward"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Linear = tuple[FloatArray, FloatArray]
Pixels = tuple[tuple[float, float], tuple[float, float]]
"""Width and height of the source's and of the template's pixels, in one unit."""

# Squared distance in units of its variance (chi-squared with two degrees of freedom) beyond which
# a pair is clipped: one good pair in 5000 is lost.
CLIP = 17.0
_CHI2_MEDIAN = 2 * np.log(2.0)  # of two degrees of freedom
_AMPLITUDE = (
    0.5  # px: typical distortion between two images; a prior that a few dozen stars outvote
)
_PRIOR_COUNT = 40.0  # how many residuals the catalogs' own position errors are worth
_FEW = 6  # pairs below which an affine map would follow the noise
_BENT = 8  # pairs below which the scatter around a map that bends is not measured
_MOST_BENT = 0.5  # share of the freedom that an affine map leaves
_EVIDENT = 10.0  # twice the log of the ratio of likelihoods; scatter gives 9 in one of 200 draws
_SHEARED = 1e-3  # probability of residuals that a similarity has by chance, and an affine map not
_THIN = 1e-6  # width over length of what is a line
_GUESS, _GUESS_COUNT = 0.1, 0.3  # px: errors where there are none, and what that guess is worth


class Fit(NamedTuple):
    """
    A fitted backward map.

    Attributes
    ----------
    backward : astropy.modeling.Model
        Template px -> source px, ``SplineDistortion2D | AffineTransformation2D`` or the affine
        model alone.
    matrix, offset : ndarray, shape (2, 2) and (2,)
        The affine part, ``source = matrix @ template + offset``.
    used : ndarray of bool, shape (N,)
        Pairs that were not clipped.
    sigma : ndarray, shape (N,)
        Expected 1-sigma scatter of each pair along each axis, in source px.
    residuals : ndarray, shape (N, 2)
        Observed minus mapped source positions, px.
    freedom : float
        Effective number of parameters of each axis; 3 for an affine map.
    smoothing : tuple of float
        Weights of the two penalties.
    floor : float
        Scatter that the catalogs' errors do not explain, source px.
    noise : float
        Variance of the normalized residuals: 1 where the errors are right.
    covariance : Covariance
        For the error map.
    kind : str
        That of the linear part: one of `KINDS`.
    """

    backward: Model
    matrix: FloatArray
    offset: FloatArray
    used: BoolArray
    sigma: FloatArray
    residuals: FloatArray
    freedom: float
    smoothing: tuple[float, float]
    floor: float
    noise: float
    covariance: Covariance
    kind: str = "affine"


def fit_backward(
    source_xy: FloatArray,
    template_xy: FloatArray,
    *,
    source_err: ArrayLike | None = None,
    template_err: ArrayLike | None = None,
    affine: str = "affine",
    spline_order: int = 5,
    smoothing: float | None = None,
    polynomial: int | None = None,
    clip: float = CLIP,
    parity: int | None = None,
    pixels: Pixels = ((1.0, 1.0), (1.0, 1.0)),
    among: BoolArray | None = None,
) -> Fit:
    """
    Fit the map from template to source positions.

    Parameters
    ----------
    source_xy, template_xy : ndarray, shape (N, 2)
        Positions ``(x, y)`` of the same stars in both images, px.
    source_err, template_err : array_like, shape (N,), optional
        1-sigma errors of the positions along each axis, px. Those of one side alone give the
        weights; unknown on both (None) means equal ones.
    affine : {"auto", "affine", "similarity", "rigid", "shift"}
        Kind of the linear part. All but the affine one admit no distortion. "auto" chooses by the
        number of pairs: a shift for one, a similarity for up to five (unless four or five show
        a shear that noise cannot make) and for any number on a line, else affine.
    spline_order : int, optional
        Degree of the distortion spline, 1 to 5; 0 fits the linear part alone.
    smoothing : float, optional
        Weight of the squared second differences, instead of the one that restricted maximum
        likelihood chooses; the larger, the smoother.
    polynomial : int, optional
        Fit polynomials of this total degree (1 to 5) instead of a penalized spline.
    clip : float, optional
        Squared normalized distance beyond which pairs are clipped.
    parity : {1, -1}, optional
        That of a similarity or rigid map; by default the one that fits better.
    pixels : pair of (width, height), optional
        Sizes of the source's and of the template's pixels, for maps that cannot shear; square and
        equal by default.
    among : ndarray of bool, shape (N,), optional
        Pairs that may be used; the others are clipped, whatever their residuals.

    Returns
    -------
    Fit

    Raises
    ------
    TooFewStarsError
        If there are fewer pairs than the linear part needs.

    Notes
    -----
    Robust in three steps: reweighted least squares (Tukey's biweight) on a polynomial of low
    degree, where outliers cannot hide behind a flexible function; then the spline on what is left;
    then clipping and readmission in turns until the set of used pairs stays.

    Second differences (which vanish for affine maps) and fourth differences are penalized together
    (Eilers & Marx 1996, doi:10.1214/ss/1038425655); both weights come from restricted maximum
    likelihood. The high order lets smooth optical distortions through almost unsmoothed; the low
    order reduces the fit to an affine map if there is no distortion.
    """
    if among is not None and not among.all():
        some = fit_backward(
            source_xy[among],
            template_xy[among],
            source_err=_of_rows(source_err, among),
            template_err=_of_rows(template_err, among),
            affine=affine,
            spline_order=spline_order,
            smoothing=smoothing,
            polynomial=polynomial,
            clip=clip,
            parity=parity,
            pixels=pixels,
        )
        return _with_the_others(some, source_xy, template_xy, among, (source_err, template_err))
    n = len(source_xy)
    if affine == "auto":
        affine = _kind_for(source_xy, template_xy, pixels)
    needed = KINDS[affine]
    if n < needed:
        raise TooFewStarsError(
            f"{n} matched stars do not determine a transform of kind {affine!r}; it takes {needed}."
        )
    if affine != "affine" or n < _FEW:
        spline_order = 0
    rule = _Rule(affine, parity, pixels)
    # Without errors all pairs weigh the same, and the scatter itself is the error.
    known = source_err is not None or template_err is not None
    variance = _pair_variance(source_xy, template_xy, source_err, template_err)
    residuals = _robust_start(source_xy, template_xy, variance, kind=affine)
    used, floor = _admit(residuals, variance, np.zeros(n), clip, needed)
    space = _choose_space(template_xy, spline_order, polynomial, n)
    design = space.at(template_xy)
    mean = source_xy.mean(axis=0)
    prior = (_PRIOR_COUNT if known else 0.0, 1.0)
    weights: tuple[float, float] | None = None
    linear: Linear | None = None
    for iteration in range(8):
        sigma2 = variance + floor**2
        system = System(design, source_xy - mean, np.where(used, 1 / sigma2, 0.0), prior)
        if weights is None or iteration == 1:
            weights = _weights(system, spline_order, smoothing, polynomial, weights)
            chosen = spline_order > 0 and smoothing is None and polynomial is None
            if chosen and not known and _may_be_scatter(system, weights):
                weights = np.inf, np.inf
        if affine == "affine":
            posterior = solve(system, weights)
        else:
            linear = rule.through(template_xy, source_xy - mean, system.weights)
            posterior = _without_shear(system, template_xy, linear, rule)
        residuals = source_xy - mean - design.evaluate(posterior.coefficients)
        leverage = _leverage(design, posterior, sigma2, used)
        before, (used, floor) = (used, floor), _admit(residuals, variance, leverage, clip, needed)
        if np.array_equal(before[0], used) and abs(before[1] - floor) < 1e-3:
            break  # the next fit would be the same
    used, floor = before
    if not known:  # all of the variance is scatter then, and a guess at it in units of that
        variance, prior = sigma2, (_GUESS_COUNT, _GUESS**2 / float(np.median(sigma2[used])))
    pairs = Pairs(template_xy, source_xy - mean, variance, floor if known else 0.0, used, prior)
    fit = _take_apart(design, posterior, template_xy, used, mean, linear)
    return fit._replace(
        used=used,
        sigma=np.sqrt(sigma2),
        residuals=residuals,
        floor=floor,
        covariance=covariance_of(design, posterior, pairs, residuals, known=known, kind=affine),
        kind=affine,
    )


class _Rule(NamedTuple):
    """What a map that cannot shear has to be: its kind, its parity, and the pixels it is for."""

    kind: str
    parity: int | None
    pixels: Pixels

    def through(self, points: FloatArray, values: FloatArray, weights: FloatArray) -> Linear:
        """Fit ``values = matrix @ points + offset``, from the template to the source."""
        after, before = (np.asarray(sizes, dtype=float) for sizes in self.pixels)
        matrix, offset = fit_linear(
            points * before, values * after, weights, kind=self.kind, parity=self.parity
        )
        return matrix * before / after[:, np.newaxis], offset / after


def _of_rows(err: ArrayLike | None, rows: BoolArray) -> FloatArray | None:
    """Return the errors of some pairs."""
    return None if err is None else np.broadcast_to(np.asarray(err, float), rows.shape)[rows]


def _with_the_others(
    fit: Fit,
    source_xy: FloatArray,
    template_xy: FloatArray,
    among: BoolArray,
    errors: tuple[ArrayLike | None, ArrayLike | None],
) -> Fit:
    """Return the fit of some pairs as one of all, of which the others are clipped."""
    used = np.zeros(len(among), dtype=bool)
    used[among] = fit.used
    area = abs(float(np.linalg.det(fit.matrix)))
    return fit._replace(
        used=used,
        sigma=np.sqrt(_variance_of(len(among), area, *errors) + fit.floor**2),
        residuals=source_xy - np.column_stack(fit.backward(*template_xy.T)),
    )


def _kind_for(source_xy: FloatArray, template_xy: FloatArray, pixels: Pixels) -> str:
    """Choose the kind of a linear map by the number of pairs."""
    n = len(source_xy)
    if n <= 1:
        return "shift"
    spread = np.linalg.svd(template_xy - template_xy.mean(axis=0), compute_uv=False)
    if n < 4 or spread[1] < _THIN * spread[0]:
        return "similarity"
    if n >= _FEW:
        return "affine"
    misfit = []
    for kind in ("similarity", "affine"):
        matrix, offset = _Rule(kind, None, pixels).through(template_xy, source_xy, np.ones(n))
        misfit.append(np.sum((source_xy - template_xy @ matrix.T - offset) ** 2))
    free = 2 * n - PARAMETERS["affine"]
    rounding = (1e-12 * np.ptp(source_xy, axis=0).max()) ** 2
    ratio = (misfit[0] - misfit[1]) / (misfit[1] + free * rounding)
    # of a ratio of variances of which the first has two degrees of freedom
    by_chance = (1 + max(ratio, 0.0)) ** (-0.5 * free)
    return "affine" if by_chance < _SHEARED else "similarity"


def _pair_variance(
    source_xy: FloatArray,
    template_xy: FloatArray,
    source_err: ArrayLike | None,
    template_err: ArrayLike | None,
) -> FloatArray:
    """Variance of source minus mapped template position along one axis, source px**2."""
    n, area = len(source_xy), 1.0
    if template_err is not None:
        matrix, _ = fit_linear(template_xy, source_xy, kind="affine" if n > 3 else "similarity")
        area = abs(float(np.linalg.det(matrix)))
    return _variance_of(n, area, source_err, template_err)


def _variance_of(
    n: int, area: float, source_err: ArrayLike | None, template_err: ArrayLike | None
) -> FloatArray:
    """Variance of a pair along one axis, by how many source px2 a template px2 becomes."""
    if source_err is None and template_err is None:
        return np.full(n, 1e-8)  # next to nothing: the floor takes up the scatter
    # of the side without errors the floor takes up the scatter, and the weights are the other's
    variance = np.zeros(n) if source_err is None else np.asarray(source_err, float) ** 2
    if template_err is not None:
        variance = variance + area * np.asarray(template_err, float) ** 2
    return variance


def _robust_start(
    source_xy: FloatArray, template_xy: FloatArray, variance: FloatArray, *, kind: str
) -> FloatArray:
    """Residuals from a low-degree polynomial fitted by Tukey's biweight."""
    n = len(source_xy)
    center = np.median(template_xy, axis=0)
    u, v = ((template_xy - center) / max(np.ptp(template_xy, axis=0).max(), 1e-9)).T
    degree = 1 if n < 20 or kind != "affine" else 2 if n < 40 else 3
    design = np.column_stack(
        [u**i * v**j for i in range(degree + 1) for j in range(degree + 1 - i)]
    )
    weights = 1 / (variance + np.median(variance))
    robust = np.ones(n)
    for _ in range(12):
        w = np.sqrt(weights * robust)[:, np.newaxis]
        coefficients = np.linalg.lstsq(design * w, source_xy * w, rcond=1e-10)[0]
        residuals = source_xy - design @ coefficients
        distance2 = np.sum(residuals**2, axis=1)
        cut = 4.685**2 * max(_median(distance2) / _CHI2_MEDIAN, 1e-12)
        before, robust = robust, np.clip(1 - distance2 / cut, 0, None) ** 2 + 1e-6
        if np.max(np.abs(robust - before)) < 1e-2:
            break
    return residuals


def _admit(
    residuals: FloatArray,
    variance: FloatArray,
    leverage: FloatArray,
    clip: float,
    needed: int,
) -> tuple[BoolArray, float]:
    """Choose the pairs to use and the scatter that the catalogs' errors leave unexplained."""
    # A pair that the fit follows shows less of its error: the residual's variance is (1 - h); one
    # that it does not follow shows the error of the map as well.
    distance2 = np.sum(residuals**2, axis=1) / np.maximum(1 - leverage, 0.2)
    floor = _excess_scatter(distance2, variance)
    used = distance2 <= clip * (variance + floor**2)
    if np.count_nonzero(used) < max(needed, len(used) // 3):
        used = (
            distance2
            <= np.partition(distance2, max(needed, len(used) // 2) - 1)[
                max(needed, len(used) // 2) - 1
            ]
        )
    return used, floor


def _excess_scatter(distance2: FloatArray, variance: FloatArray) -> float:
    """
    Solve median(distance**2 / (variance + floor**2)) = its expectation, for the floor.

    A ratio exceeds the expectation where ``distance**2 / expectation - variance`` exceeds floor**2:
    half of them do where floor**2 is the median of that.
    """
    return float(np.sqrt(max(_median(distance2 / _CHI2_MEDIAN - variance), 0.0)))


def _median(values: FloatArray) -> float:
    """Return the median, several times as fast as numpy's own on a few hundred values."""
    low, high = (len(values) - 1) // 2, len(values) // 2
    parted = np.partition(values, [low, high])
    return float(parted[low] + parted[high]) / 2


def _choose_space(
    template_xy: FloatArray, spline_order: int, polynomial: int | None, n: int
) -> SplineSpace:
    """Return the spline space: as fine as the number of stars can make use of."""
    if polynomial is not None:
        return SplineSpace.covering(template_xy, 1, max(polynomial, 1), null_order=polynomial + 1)
    if spline_order == 0:
        return SplineSpace.covering(template_xy, 1, 1)
    # About three stars a coefficient, and never more than eight cells: the finer structure would be
    # no distortion of an optical system.
    cells = int(np.clip(np.sqrt(n / 3) - spline_order, 3, 8))
    return SplineSpace.covering(template_xy, cells, spline_order)


def _weights(
    system: System,
    spline_order: int,
    smoothing: float | None,
    polynomial: int | None,
    start: tuple[float, float] | None,
) -> tuple[float, float]:
    """Return the penalties' weights: given, infinite, or by restricted maximum likelihood."""
    if polynomial is not None or spline_order == 0:
        return np.inf, np.inf
    if smoothing is not None:
        return float(smoothing), 0.0
    if start is not None and np.isinf(start[0]):
        start = None
    return choose_smoothing(system, amplitude=_AMPLITUDE, start=start)


def _may_be_scatter(system: System, weights: tuple[float, float]) -> bool:
    """
    Tell whether a map bends after what may be scatter alone, of pairs whose errors are unknown.

    It does where too few are left to measure the scatter, and where it has most of the freedom that
    an affine map leaves without being much likelier: then it is an interpolation, px off between
    the pairs, with residuals next to none.
    """
    number = int(np.count_nonzero(system.weights))
    if number < _BENT:
        return True
    bending = solve(system, weights).freedom - system.n_null
    if bending <= _MOST_BENT * (number - system.n_null):
        return False
    return evidence_of(system, weights) < _EVIDENT


def _leverage(
    design: Design, posterior: Posterior, sigma2: FloatArray, used: BoolArray
) -> FloatArray:
    """Diagonal of the hat matrix, and less than zero for pairs that are not in the fit.

    To their own variance comes that of the map, which may be large where they are alone.
    """
    variance = design.variance(posterior.factor)
    share = variance / (max(posterior.noise, 1e-12) * sigma2)
    return np.where(used, np.clip(share, 0.0, 1.0), -share)


def _without_shear(
    system: System, template_xy: FloatArray, linear: Linear, rule: _Rule
) -> Posterior:
    """Return a linear map that cannot shear as if it were a solution of the system."""
    space, used = system.space, system.weights > 0
    matrix, offset = linear
    misfit = system.misfit_of(offset + template_xy @ matrix.T)
    measured = 2 * int(np.count_nonzero(used)) - PARAMETERS[rule.kind]
    count = max(measured, 0) + system.prior_count
    noise = (misfit + system.prior_count * system.prior_noise) / max(count, 1e-9)
    noise = max(noise, 1e-300)
    factor = rigid_factor(space, template_xy, system.weights, rule.kind)
    return Posterior(
        coefficients=space.plane(offset, matrix),
        factor=np.sqrt(noise) * factor,
        freedom=PARAMETERS[rule.kind] / 2,
        smoothing=(np.inf, np.inf),
        noise=noise,
    )


def _take_apart(
    design: Design,
    posterior: Posterior,
    template_xy: FloatArray,
    used: BoolArray,
    mean: FloatArray,
    linear: Linear | None,
) -> Fit:
    """Split the map into distortion and affine part, as models; it may be `linear`."""
    space = design.space
    if linear is None:
        linear = fit_linear(template_xy[used], design.evaluate(posterior.coefficients)[used])
    matrix, offset = linear
    rest = posterior.coefficients - space.plane(offset, matrix)
    affine = AffineTransformation2D(matrix=matrix, translation=offset + mean, name="affine")
    backward: Model = affine
    if np.max(np.abs(rest)) > 1e-9:
        shift = rest @ np.linalg.inv(matrix).T
        shape = (space.n_y, space.n_x)
        distortion = SplineDistortion2D(
            shift[:, 0].reshape(shape),
            shift[:, 1].reshape(shape),
            bounds=space.bounds,
            degree=space.degree,
            name="distortion",
        )
        backward = distortion | affine
    empty = np.empty(0)
    return Fit(
        backward=backward,
        matrix=matrix,
        offset=offset + mean,
        used=used,
        sigma=empty,
        residuals=empty,
        freedom=posterior.freedom,
        smoothing=posterior.smoothing,
        floor=0.0,
        noise=posterior.noise,
        covariance=Covariance(space, posterior.factor),
    )
