"""What a grown match must satisfy beyond its odds before it is believed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _compiled
from spalipy_astro.fitting import fit_linear
from spalipy_astro.matching._bounds import Bounds
from spalipy_astro.matching._growth import Growth
from spalipy_astro.matching._starfield import StarField

__all__ = ["DOUBT", "Candidate", "contradict", "examine", "same_transform"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

_ANISOTROPY = 1.25  # ratio of a map's largest to smallest scale: no camera's is larger
_FEW = 6  # matches below which an affine map would follow the noise
_SAMPLE = 64  # matched stars whose lines are looked at
_LINE_WIDTH = 1.5  # px from a line, either side
_SHORTEST = 8 * _LINE_WIDTH  # two points that are closer show no direction
_CHANCE = 1e-3  # expected number of lines that chance would make
_STILL = 0.5  # px: rms motion of what stands still on the detector
_COMMON = 0.2  # share of pairs in common from which two results are one transform
DOUBT = np.log(1e3)  # log-odds of stars that move among artifacts that do not
_PART = 0.3  # of the stars of the best: so many others are a part of the frame of its own
_MOST = 0.7  # share of the other's matches that makes a rival of a transform of the same stars


class Candidate(NamedTuple):
    """
    A grown match that may be the answer.

    Attributes
    ----------
    growth : Growth
    log_odds : float
        Natural logarithm of the odds against chance.
    matrix, offset : ndarray, shape (2, 2) and (2,)
        Its linear part, source px to template px.
    parity : {1, -1}
    objection : str or None
        What speaks against it however good the odds.
    still : bool
        Whether all of its stars have the same positions in both frames, as artifacts of a detector
        have.
    """

    growth: Growth
    log_odds: float
    matrix: FloatArray
    offset: FloatArray
    parity: int
    objection: str | None
    still: bool

    @property
    def pairs(self) -> set[tuple[int, int]]:
        """The matched pairs."""
        return set(zip(self.growth.source.tolist(), self.growth.template.tolist(), strict=True))

    def describe(self) -> str:
        """Say in words which transform this is."""
        scale = np.sqrt(abs(np.linalg.det(self.matrix)))
        angle = np.rad2deg(np.arctan2(self.matrix[1, 0], self.matrix[0, 0]))
        mirrored = ", mirrored" if self.parity < 0 else ""
        return (
            f"scale {scale:.4g}, rotation {angle:.2f} degrees{mirrored}, offset "
            f"({self.offset[0]:.1f}, {self.offset[1]:.1f}) px, with {len(self.growth.source)} stars"
        )


def examine(
    growth: Growth,
    source: StarField,
    template: StarField,
    bounds: Bounds,
    parity: int,
    log_trials: float,
    required: float,
) -> Candidate:
    """
    Judge a grown match.

    Parameters
    ----------
    growth : Growth
    source, template : StarField
    bounds : Bounds
        The priors, which the result must keep to.
    parity : {1, -1}
        That of the hypothesis that was grown.
    log_trials : float
        Logarithm of the number of hypotheses that the match pays for.
    required : float
        Log-odds from which on a match is accepted.

    Returns
    -------
    Candidate
    """
    xy, image = source.xy[growth.source], template.xy[growth.template]
    few = len(xy) < _FEW
    kind = "similarity" if few else "affine"
    matrix, offset = fit_linear(xy, image, kind=kind, parity=parity)
    scales = np.linalg.svd(matrix, compute_uv=False)
    log_odds = growth.evidence - log_trials
    # relative error of the matrix: that of the positions over the lever arm that they have
    spread = np.linalg.svd(xy - xy.mean(axis=0), compute_uv=False)[-1 if not few else 0]
    noise = float(np.median(growth.sigma[growth.source]))
    tolerance = min(noise / max(float(spread * scales[0]), 1e-9), 1.0)
    objection = None
    if np.sign(np.linalg.det(matrix)) != parity:
        objection = "it turns the stars inside out"
    elif scales[0] > _ANISOTROPY * scales[1] * (1 + 3 * tolerance):
        objection = (
            f"it stretches one axis {scales[0] / max(scales[1], 1e-12):.2f} times the other, as "
            "where pixels are not square (source_pixels= and template_pixels= tell their sizes)"
        )
    else:
        objection = bounds.objection(matrix, offset, tolerance)
    if objection is None and len(xy) >= 4:
        strung = _on_few_lines(xy) | _on_few_lines(image)
        if strung.any() and growth.evidence_without(strung) - log_trials < required:
            objection = (
                f"{np.count_nonzero(strung)} of its {len(xy)} stars lie on straight lines, as "
                "those of a satellite's trail or a bad column do, and the others do not bear it out"
            )
    motion = xy @ matrix.T + offset - xy
    still = bool(np.sqrt(np.mean(np.sum(motion**2, axis=1))) < _STILL)
    return Candidate(growth, log_odds, matrix, offset, parity, objection, still)


def _on_few_lines(xy: FloatArray) -> BoolArray:
    """
    Tell which points are strung along a line, more of them than chance puts there.

    Parameters
    ----------
    xy : ndarray, shape (N, 2)

    Returns
    -------
    ndarray of bool, shape (N,)
        False for points that lie on lines of two directions, as those of a lattice do.

    Notes
    -----
    A straight line through two of n points in an area A has by chance a Poisson number of the
    others in it, with the mean (n - 2) 2 w L / A for its half width w and the length L of the
    area. Of the n (n - 1) / 2 lines less than `_CHANCE` are expected to have as many as are
    flagged.
    """
    n = len(xy)
    sample = np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(int))
    points = xy[sample]
    m = len(points)
    length = float(np.hypot(*np.ptp(xy, axis=0)))
    area = max(float(np.prod(np.ptp(xy, axis=0))), length * _LINE_WIDTH)
    counts = np.empty(m * (m - 1) // 2, dtype=np.int64)
    x, y = np.ascontiguousarray(points.T)
    _compiled.count_on_lines(x, y, _LINE_WIDTH, _SHORTEST, counts)
    number = np.count_nonzero(counts >= 0)
    if not number:
        return np.zeros(n, bool)
    mean = (m - 2) * min(2 * _LINE_WIDTH * length / area, 1.0)
    surplus = number * _at_least(mean)[np.maximum(counts - 2, 0)] < _CHANCE
    lines = np.flatnonzero(surplus & (counts >= 4))
    if not len(lines):
        return np.zeros(n, bool)
    first, second = (ends[lines] for ends in np.triu_indices(m, 1))
    along = points[second] - points[first]
    normal = np.column_stack((-along[:, 1], along[:, 0])) / np.hypot(*along.T)[:, np.newaxis]
    start = np.sum(normal * points[first], axis=1)
    distance = np.abs(normal @ xy.T - start[:, np.newaxis]) < _LINE_WIDTH
    # of a point's lines, the angle between the most different two
    twice = np.exp(2j * np.arctan2(along[:, 1], along[:, 0]))
    mean_direction = np.abs(twice @ distance) / np.maximum(distance.sum(axis=0), 1)
    return distance.any(axis=0) & (mean_direction > np.cos(np.deg2rad(20)))


def _at_least(mean: float) -> FloatArray:
    """Return the chances of at least 0, 1, 2, ... of a Poisson number of less than `_SAMPLE`."""
    # by hand, because scipy.special takes as long to import as the stars of a small frame to find
    ratios = mean / np.arange(1, 4 * _SAMPLE)
    chance = np.exp(-mean) * np.cumprod(np.append(1.0, ratios))
    return np.cumsum(chance[::-1])[::-1]


def contradict(best: Candidate, other: Candidate, required: float) -> bool:
    """
    Tell whether another transform is so good that the best one is not certain.

    Parameters
    ----------
    best, other : Candidate
    required : float
        Log-odds that a transform must have, and by which the best must be ahead.

    Returns
    -------
    bool

    Notes
    -----
    A transform of the same stars is judged on the stars that both match: those that only one of
    them matches lie near the edge of a lattice, where dots end for reasons of their own. One that
    matches far fewer of them loses by its odds. A transform of other stars that is accepted by
    itself shows that the two frames hold two patterns which moved differently. If it is nearly the
    same, it is no rival where it matches few stars, which distortion may have hidden from the best,
    or other images of the stars of the best, as after a jump of the telescope; but where it matches
    many others, a part of the frame, such as a chip, lies elsewhere in the other frame.
    """
    if other.log_odds < 0 or same_transform(best, other):
        return False
    shared = np.isin(other.growth.source, best.growth.source)
    if np.count_nonzero(shared) < 0.3 * len(shared):
        if best.still != other.still:
            return other.log_odds >= DOUBT
        if other.log_odds < required:
            return False
        apart = ~np.isin(other.growth.template, best.growth.template)
        is_part = np.count_nonzero(apart) > max(0.7 * len(apart), _PART * len(best.growth.template))
        return bool(is_part) or not _near(best, other)
    if len(other.growth.source) < _MOST * len(best.growth.source):
        return best.log_odds - other.log_odds < required
    mine = dict(zip(best.growth.source.tolist(), best.growth.gain.tolist(), strict=True))
    lead = sum(
        mine[s] - g
        for s, g in zip(other.growth.source.tolist(), other.growth.gain.tolist(), strict=True)
        if s in mine
    )
    return lead < required


def same_transform(one: Candidate, two: Candidate) -> bool:
    """Whether two results share so many pairs that they are one transform."""
    smaller = min(len(one.growth.source), len(two.growth.source))
    return len(one.pairs & two.pairs) > _COMMON * smaller


def _near(one: Candidate, two: Candidate) -> bool:
    """Whether two transforms may be one, of which distortion hid a part from either."""
    if one.parity != two.parity:
        return False
    size = np.linalg.norm(one.matrix)
    middle = one.growth.predicted.mean(axis=0)
    center = np.linalg.solve(one.matrix, middle - one.offset)
    away = np.hypot(*(two.matrix @ center + two.offset - middle))
    reach = np.hypot(*np.ptp(one.growth.predicted, axis=0))
    return bool(np.linalg.norm(one.matrix - two.matrix) < 0.1 * size and away < 0.05 * reach)
