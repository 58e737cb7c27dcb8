"""Which pairs of points agree on one transform, where most of them may be wrong."""

from __future__ import annotations

from itertools import combinations
from math import comb, log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.fitting._linear import KINDS, fit_linear

__all__ = ["Agreement", "agreement", "consensus"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_SAMPLES = 1000  # three right pairs of a fifth that is right come eight times
_JUDGED = 400  # pairs by which a sample is judged
_ROUNDS = 10  # of fitting a line to the pairs that agree with the last one
_EXACT = 1e-9  # of the width of the field: what is nearer is a rounding error
_FLAT = 1e-3  # area of a sample over that of the field below which it determines no affine map


class Agreement(NamedTuple):
    """
    Pairs that agree on a transform.

    Attributes
    ----------
    log_alarms : float
        Natural logarithm of the number of sets, among all of as many pairs, that would agree as
        well by chance; infinite if there is none.
    agree : ndarray of bool, shape (N,)
    radius : float
        Distance from the transform of the last one of them, source px.
    """

    log_alarms: float
    agree: BoolArray
    radius: float


def agreement(residuals: FloatArray, extent: FloatArray, needed: float) -> Agreement:
    """
    Find the pairs that agree with a transform, at the scatter that chance explains worst.

    Parameters
    ----------
    residuals : ndarray, shape (N, 2)
        Observed minus mapped positions, px.
    extent : ndarray, shape (2,)
        Width and height of the field of the observed positions, px.
    needed : float
        How many pairs determine such a transform.

    Returns
    -------
    Agreement
        That is least likely where wrong pairs lie anywhere in the field.
    """
    distances = np.hypot(*residuals.T)
    score, best = _alarms(distances[np.newaxis], extent, needed)
    radius = np.sort(distances)[best[0] - 1] if best[0] else -1.0
    return Agreement(float(score[0]), distances <= radius, float(radius))


def consensus(source_xy: FloatArray, template_xy: FloatArray, kinds: tuple[str, ...]) -> Agreement:
    """
    Find the pairs that agree on a linear map of the template to the source.

    Parameters
    ----------
    source_xy, template_xy : ndarray, shape (N, 2)
        Positions ``(x, y)`` of pairs, some or most of which are wrong.
    kinds : tuple of str
        Those of `KINDS` to try.

    Returns
    -------
    Agreement

    Notes
    -----
    Random samples of the fewest pairs that determine a map (all of them, if they are few) are
    judged by all pairs, and the best one is fitted to the pairs that agree (RANSAC; Fischler &
    Bolles 1981, doi:10.1145/358669.358692). No threshold is needed: the number of agreeing pairs
    and their scatter are those that are least likely by chance (Moisan & Stival 2004,
    doi:10.1023/B:VISI.0000013094.38752.54). The samples are the same ones in each call.
    """
    n = len(source_xy)
    extent = np.ptp(source_xy, axis=0)
    judged = np.linspace(0, n - 1, min(n, _JUDGED)).astype(np.intp)
    best = Agreement(np.inf, np.zeros(n, dtype=bool), -1.0)
    for kind in kinds:
        if n <= KINDS[kind]:
            continue
        matrices, offsets = _sampled(source_xy, template_xy, kind)
        if not len(matrices):
            continue
        s, t = source_xy[judged], template_xy[judged]
        mapped = np.einsum("hij,nj->hni", matrices, t) + offsets[:, np.newaxis]
        distances = np.hypot(*np.moveaxis(s - mapped, -1, 0))
        first = int(np.argmin(_alarms(distances, extent, KINDS[kind])[0]))
        linear = matrices[first], offsets[first]
        for _ in range(_ROUNDS):
            residuals = source_xy - template_xy @ linear[0].T - linear[1]
            found = agreement(residuals, extent, KINDS[kind])
            if not found.log_alarms < best.log_alarms:
                break
            best = found
            s, t = source_xy[found.agree], template_xy[found.agree]
            if not np.ptp(t, axis=0).max() > 0:
                break
            linear = fit_linear(t, s, kind=kind)
    return best


def _sampled(
    source_xy: FloatArray, template_xy: FloatArray, kind: str
) -> tuple[FloatArray, FloatArray]:
    """Return the linear maps through samples of pairs: matrices and offsets."""
    rows = _samples(len(source_xy), KINDS[kind])
    s, t = source_xy[rows], template_xy[rows]  # sample, pair of it, axis
    if kind == "shift":
        matrices = np.tile(np.eye(2), (len(rows), 1, 1))
    elif kind == "affine":
        sides, images = (np.swapaxes(xy[:, 1:] - xy[:, :1], 1, 2) for xy in (t, s))
        area = np.prod(np.ptp(template_xy, axis=0))
        good = np.abs(np.linalg.det(sides)) > _FLAT * area
        s, t = s[good], t[good]
        matrices = images[good] @ np.linalg.inv(sides[good])
    else:
        ds, dt = ((xy[:, 1] - xy[:, 0]) @ np.array([1, 1j]) for xy in (s, t))
        good = dt != 0
        if kind == "rigid":
            good &= ds != 0
        s, t, ds, dt = s[good], t[good], ds[good], dt[good]
        proper, mirrored = ds / dt, ds / np.conj(dt)
        if kind == "rigid":
            proper, mirrored = proper / np.abs(proper), mirrored / np.abs(mirrored)
        matrices = np.concatenate([_turned(proper, 1.0), _turned(mirrored, -1.0)])
        s, t = np.concatenate([s, s]), np.concatenate([t, t])
    middle_s, middle_t = s.mean(axis=1), t.mean(axis=1)
    return matrices, middle_s - np.einsum("hij,hj->hi", matrices, middle_t)


def _turned(number: NDArray[np.complex128], parity: float) -> FloatArray:
    """Return the matrices that multiply points, or mirrored ones, by complex numbers."""
    a, b = number.real, number.imag
    return np.stack(
        [np.stack([a, -parity * b], axis=-1), np.stack([b, parity * a], axis=-1)], axis=-2
    )


def _samples(n: int, size: int) -> NDArray[np.intp]:
    """Return rows of samples: all of them, if they are few."""
    if comb(n, size) <= _SAMPLES:
        return np.array(list(combinations(range(n), size)), dtype=np.intp)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, n, (_SAMPLES, size))
    ordered = np.sort(rows, axis=1)
    return rows[(np.diff(ordered, axis=1) > 0).all(axis=1)]


def _alarms(
    distances: FloatArray, extent: FloatArray, needed: float
) -> tuple[FloatArray, NDArray[np.intp]]:
    """Return, for each row of distances, log of the false alarms of its best set and its size."""
    n = distances.shape[1]
    sizes = np.arange(1, n + 1)
    chosen = sizes[sizes > needed]
    if not len(chosen):
        return np.full(len(distances), np.inf), np.zeros(len(distances), np.intp)
    width = max(float(extent.max()), 1e-300)
    r = np.maximum(np.sort(distances, axis=1)[:, n - len(chosen) :], _EXACT * width)
    # chance of a point to be in the square of that radius; a field may be a line, of one dimension
    alpha = np.ones_like(r)
    for side in extent:
        alpha *= np.minimum(2 * r / max(float(side), 1e-300), 1.0)
    tests = log(n) + _log_choose(n, chosen) + _log_choose(chosen, needed)
    score = tests + (chosen - needed) * np.log(alpha)
    best = np.argmin(score, axis=1)
    return score[np.arange(len(score)), best], chosen[best]


def _log_choose(n: int | NDArray[np.intp], k: float | NDArray[np.intp]) -> FloatArray:
    """Return the logarithm of how many sets of k there are among n."""
    from scipy.special import gammaln  # takes a while to import, and is rarely needed

    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0))
