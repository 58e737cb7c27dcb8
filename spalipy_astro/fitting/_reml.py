"""How smooth a map is: the weights of its penalties, by restricted maximum likelihood (REML)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from spalipy_astro.fitting._smoothing import Expansion, Point, System
from spalipy_astro.fitting._splinespace import SplineSpace

__all__ = ["choose_smoothing", "evidence_of"]

# 1-sigma width of the prior on the penalty: twice 0.78, a factor of six in length
_PRIOR_DEX = 1.55
_SMOOTHEST = 48  # functions with which the search begins
_REACH = 2.0  # longest step, powers of ten
_INSIGNIFICANT = 0.01  # of -2 log likelihood
_STIFF = 7.6  # log10 of the largest weights, above those that are neither small nor large


def _log_penalty(space: SplineSpace, amplitude: float) -> float:
    """Return the log10 of the low-order weight that goes with a departure from the affine map."""
    (x_lo, x_hi), (y_lo, y_hi) = space.bounds
    half2 = ((x_hi - x_lo) ** 2 + (y_hi - y_lo) ** 2) / 4
    return float(-2 * np.log10(2 * amplitude * space.step**2 / half2))


def choose_smoothing(
    system: System,
    *,
    amplitude: float | None = None,
    start: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """
    Choose the weights of both penalties by restricted maximum likelihood.

    Parameters
    ----------
    system : System
    amplitude : float, optional
        How far the map is expected to depart from an affine one, in the unit of the values, within
        a factor of six (1 sigma). Where there are few points, this keeps the fit from following
        their errors and from claiming that there is no distortion.
    start : tuple of float, optional
        Weights that were chosen for almost the same points: the search begins there.

    Returns
    -------
    low, high : float
        Weights of the squared second and fourth differences of the coefficients.

    Notes
    -----
    By Newton's method in the logarithms of both weights, with the derivatives of Wood (2011), from
    the best of several starts.

    References
    ----------
    .. [1] Patterson, H. D. & Thompson, R. 1971, Biometrika, 58, 545, doi:10.1093/biomet/58.3.545
    .. [2] Wood, S. N. 2011, J. R. Stat. Soc. B, 73, 3, doi:10.1111/j.1467-9868.2010.00749.x
    """
    center = system.center
    expected = np.inf if amplitude is None else _log_penalty(system.space, amplitude)

    def prior(low: float) -> float:
        return 0.0 if amplitude is None else ((low - expected) / _PRIOR_DEX) ** 2

    def criterion(point: Point, size: int | None = None) -> float:
        return system.criterion(*point, size) + prior(point[0])

    def expansion(point: Point, size: int | None = None) -> Expansion:
        value, (low, high), (xx, xy, yy) = system.expansion(*point, size)
        if amplitude is not None:
            value += prior(point[0])
            low += 2 * (point[0] - expected) / _PRIOR_DEX**2
            xx += 2 / _PRIOR_DEX**2
        return value, (low, high), (xx, xy, yy)

    limits = center - 10.6, center + _STIFF
    if start is not None:
        best = float(np.log10(start[0])), float(np.log10(start[1]))
    else:
        # There may be several minima, such as one for each of the penalties alone. They are sought
        # with the smoothest functions, from "no distortion at all" to interpolation.
        found = []
        for high in (-4.0, 1.0, 6.0):
            line = [(center + low, center + high) for low in np.arange(-9.0, 6.1, 3.0).tolist()]
            lowest = min(line, key=partial(criterion, size=_SMOOTHEST))
            found.append(_descend(partial(expansion, size=_SMOOTHEST), lowest, limits))
        best = min(found, key=criterion)
    best = _descend(expansion, best, limits)
    return 10.0 ** best[0], 10.0 ** best[1]


def evidence_of(system: System, smoothing: tuple[float, float]) -> float:
    """Return twice the log of how much likelier a smoothing is than an affine map, by REML."""
    stiff = system.center + _STIFF
    chosen = float(np.log10(smoothing[0])), float(np.log10(smoothing[1]))
    return system.criterion(stiff, stiff) - system.criterion(*chosen)


def _descend(
    expansion: Callable[[Point], Expansion], start: Point, limits: tuple[float, float]
) -> Point:
    """Find a minimum by Newton's method, with shorter steps after one that has not led down."""
    best = _within(start, limits)
    value, slope, hessian = expansion(best)
    reach = _REACH
    for _ in range(40):
        step = _newton_step(best, slope, hessian, limits)
        length = math.hypot(*step)
        part = min(1.0, reach / max(length, 1e-300))
        point = _within((best[0] + part * step[0], best[1] + part * step[1]), limits)
        moved = point[0] - best[0], point[1] - best[1]
        length = math.hypot(*moved)
        if -(moved[0] * slope[0] + moved[1] * slope[1]) < _INSIGNIFICANT:
            break
        new = expansion(point)
        if new[0] < value:
            best, (value, slope, hessian) = point, new
            reach = min(2 * reach, _REACH)
        else:
            reach = length / 4
    return best


def _within(point: Point, limits: tuple[float, float]) -> Point:
    """Return the point within the limits of both coordinates."""
    low, high = limits
    return min(max(point[0], low), high), min(max(point[1], low), high)


def _newton_step(
    point: Point,
    slope: Point,
    hessian: tuple[float, float, float],
    limits: tuple[float, float],
) -> Point:
    """Return the step to where the expansion is flat; down, too, from where it is curved down."""
    # a coordinate that has met a limit stays there
    free = [
        limits[0] < x < limits[1] or (x <= limits[0] and s < 0) or (x >= limits[1] and s > 0)
        for x, s in zip(point, slope, strict=True)
    ]
    xx, xy, yy = hessian
    angle = 0.5 * math.atan2(2 * xy, xx - yy) if all(free) else 0.0
    step = [0.0, 0.0]
    for cos, sin in ((math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))):
        down = cos * slope[0] * free[0] + sin * slope[1] * free[1]
        curvature = abs(cos * cos * xx + 2 * cos * sin * xy + sin * sin * yy)
        step[0] -= down * cos / max(curvature, 1e-6)
        step[1] -= down * sin / max(curvature, 1e-6)
    return step[0], step[1]
