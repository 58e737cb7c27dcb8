"""Similarities that two star lists propose, and the evidence of the stars around each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _compiled
from spalipy_astro.matching._bounds import Bounds
from spalipy_astro.matching._quads import Patterns
from spalipy_astro.matching._starfield import DISTRACTORS, SHARES, StarField, comparable

__all__ = ["Hypotheses", "ask_witnesses", "from_pairs", "from_patterns"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
Query = Callable[[FloatArray, float], tuple[IntArray, IntArray, FloatArray]]

_MANY_PATTERNS = 100_000  # from which on a smaller radius is tried first
_WITNESSES = 16  # stars around a pattern that are asked about it
_MORE_WITNESSES = 48  # ... where most of them know nothing
_BENDING = 0.05  # px per px**2 from the pattern, over the half diagonal: what distortion may do
_PAIRS = 400_000  # pairs of pairs of stars that are looked at


@dataclass(frozen=True)
class Hypotheses:
    """
    Similarities ``a * z + b`` (of the conjugate where mirrored) from pairs of patterns.

    Attributes
    ----------
    a, b : ndarray of complex, shape (H,)
    mirrored : ndarray of bool, shape (H,)
    source, template : ndarray of int, shape (H, k)
        Stars of the patterns.
    level : ndarray of int, shape (H,)
        Brightness level of the source's pattern.
    rms : ndarray, shape (H,)
        How well the patterns agree, template px.
    """

    a: NDArray[np.complex128]
    b: NDArray[np.complex128]
    mirrored: NDArray[np.bool_]
    source: IntArray
    template: IntArray
    level: IntArray
    rms: FloatArray

    def __getitem__(self, item: object) -> Hypotheses:
        return Hypotheses(*(getattr(self, name)[item] for name in self.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.a)

    @staticmethod
    def joined(parts: list[Hypotheses]) -> Hypotheses:
        """Return the hypotheses of one or more parts, one after the other."""
        names = Hypotheses.__dataclass_fields__
        return Hypotheses(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def from_patterns(
    source: StarField,
    template: StarField,
    patterns: Patterns,
    known: Patterns,
    query: Query,
    bounds: Bounds,
    radius: float,
    budget: int,
) -> Hypotheses:
    """
    Turn pairs of patterns with equal codes into similarities, the likeliest first.

    Parameters
    ----------
    source, template : StarField
    patterns, known : Patterns
        Of the source and of the template.
    query : callable
        Finds the template's codes around the source's, as `PatternIndex.query` does.
    bounds : Bounds
        Which similarities are possible.
    radius : float
        Largest distance of two codes.
    budget : int
        How many to return at most.
    """
    most = 4 * budget
    # Among many patterns, half the radius gives enough pairs for a tenth of the work.
    many = len(patterns.codes) > _MANY_PATTERNS
    for reach in (radius / 2, radius) if many else (radius,):
        i, j, distance, flip = _equal_codes(patterns, query, reach, bounds.priors.parity)
        if len(i) >= most:
            break
    if len(i) > most:  # the rest need not be sorted
        near = np.flatnonzero(distance <= np.partition(distance, most)[most])
        i, j, distance, flip = i[near], j[near], distance[near], flip[near]
    order = np.argsort(distance)
    if np.any(distance[order[1:]] == distance[order[:-1]]):  # whose order must be the same always
        order = np.lexsort((j, i, flip, distance))
    order = order[:most]
    i, j, flip = i[order], j[order], flip[order]
    parts, number = [], 0
    for start in range(0, max(len(i), 1), budget):
        rows = slice(start, start + budget)
        s, t = i[rows], j[rows]
        found = _similarities(
            source, template, patterns.stars[s], known.stars[t], flip[rows], patterns.level[s]
        )
        parts.append(found[bounds.allow(found.a, found.b, found.mirrored)])
        number += len(parts[-1])
        if number >= budget:
            break
    return Hypotheses.joined(parts)[:budget]


def from_pairs(
    source: StarField, template: StarField, bounds: Bounds, budget: int
) -> Hypotheses | None:
    """
    Turn pairs of stars into all similarities that the priors allow.

    Parameters
    ----------
    source, template : StarField
    bounds : Bounds
    budget : int
        Largest number of similarities.

    Returns
    -------
    Hypotheses or None
        None where there would be more than the budget, or too many pairs to look at.
    """
    n, m = len(source), len(template)
    if n * (n - 1) * m * (m - 1) > _PAIRS:
        return None
    one, two = np.triu_indices(n, 1)
    p = np.column_stack((one, two))
    one, two = np.nonzero(~np.eye(m, dtype=bool))
    q = np.column_stack((one, two))
    i, j, flip = (g.ravel() for g in np.meshgrid(np.arange(len(p)), np.arange(len(q)), [0, 1]))
    level = np.full(len(i), len(source.levels.sizes) - 1)
    if bounds.priors.parity is not None:
        rows = flip == (bounds.priors.parity < 0)
        i, j, flip, level = i[rows], j[rows], flip[rows], level[rows]
    found = _similarities(source, template, p[i], q[j], flip.astype(bool), level)
    found = found[np.flatnonzero(bounds.allow(found.a, found.b, found.mirrored))]
    return found if len(found) <= budget else None


def _equal_codes(patterns: Patterns, query: Query, radius: float, parity: int | None):  # type: ignore[no-untyped-def]
    """Pair patterns whose codes differ by less than a radius, of both parities if allowed."""
    parts = []
    for mirrored in (False, True):
        if parity == (1 if mirrored else -1):
            continue
        codes = patterns.codes.copy()
        if mirrored:
            codes[:, 1::2] *= -1
        i, j, distance = query(codes, radius)
        parts.append((i, j, distance, np.full(len(i), mirrored)))
    return (np.concatenate(column) for column in zip(*parts, strict=True))


def _similarities(
    source: StarField,
    template: StarField,
    p: IntArray,
    q: IntArray,
    flip: NDArray[np.bool_],
    level: IntArray,
) -> Hypotheses:
    """Fit a similarity to each pair of patterns, by least squares."""
    p, q = (np.ascontiguousarray(stars, dtype=np.int64) for stars in (p, q))
    a, b = np.empty((2, len(p)), dtype=complex)
    rms = np.empty(len(p))
    parts = (t.view(float).reshape(-1, 2) for t in (a, b))
    _compiled.fit_similarities(source.xy, template.xy, p, q, flip, *parts, rms)
    return Hypotheses(a, b, flip, p, q, level, rms)


def ask_witnesses(
    source: StarField,
    template: StarField,
    h: Hypotheses,
    frame: FloatArray,
    *,
    hopeful: bool = False,
) -> FloatArray:
    """
    Sum the log-ratios of the stars around each pattern, see `log_ratios` and `hope_of`.

    Parameters
    ----------
    source, template : StarField
    h : Hypotheses
    frame : ndarray, shape (2, 2)
        Corners (lower, upper) of the template's frame; stars that fall outside say nothing.
    hopeful : bool, optional
        Whether to take for each the share of distractors that suits it best, where most of the
        stars have no partner.

    Returns
    -------
    ndarray, shape (H,)
    """
    half = 0.5 * float(np.hypot(*np.ptp(source.xy, axis=0)))
    most = _MORE_WITNESSES if hopeful else _WITNESSES
    near, n_template = _witnesses(source, template, h, most)
    pattern = template.xy[h.template] @ (1, 1j)
    middle = pattern.mean(axis=1)
    size = np.sqrt(np.mean(np.abs(pattern - middle[:, np.newaxis]) ** 2, axis=1))
    turned = np.where(h.mirrored, -1.0, 1.0)
    parts = (h.a.real, h.a.imag, h.b.real, h.b.imag, turned, h.rms, middle.real, middle.imag, size)
    similarity = np.column_stack(parts)
    shares = np.array(SHARES if hopeful else (DISTRACTORS,))
    own = h.source.astype(np.int64, copy=False)
    # those that ask as many template stars are judged at once
    order = np.argsort(n_template, kind="stable")
    numbers, counts = np.unique(n_template, return_counts=True)
    similarity, near, own = similarity[order], near[order], own[order]
    sorted_scores = np.empty(len(h))
    for number, count, end in zip(numbers.tolist(), counts, np.cumsum(counts), strict=True):
        rows = slice(end - count, end)
        density = template.density[:number] * number / len(template)
        _compiled.witness_scores(
            template.cells(number),
            (source.xy, source.err, template.err[:number], density),
            frame,
            shares,
            _BENDING / half,
            similarity[rows],
            near[rows],
            own[rows],
            sorted_scores[rows],
        )
    scores = np.empty(len(h))
    scores[order] = sorted_scores
    return scores


def _witnesses(
    source: StarField, template: StarField, h: Hypotheses, number: int
) -> tuple[IntArray, IntArray]:
    """Return the stars around each pattern, and among how many template stars to seek them."""
    near = np.repeat(h.source[:, :1].astype(np.int64), number + 1, axis=1)  # itself: no more
    for level in np.unique(h.level):
        rows = np.flatnonzero(h.level == level)
        found = source.levels.neighbors(int(level), number)[h.source[rows, 0]]
        near[rows, : found.shape[1]] = found
    # Steps of two in the depth of the template keep its grids few.
    scale = np.asarray(2.0 ** np.round(np.log2(np.abs(h.a))), dtype=float)
    sizes = np.array(source.levels.sizes)[h.level]
    return near, comparable(source, template, sizes, scale)
