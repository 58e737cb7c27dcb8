"""Similarities that two star lists propose, and the evidence of the stars around each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.matching._bounds import Bounds
from spalipy_astro.matching._quads import Patterns
from spalipy_astro.matching._starfield import StarField, comparable, hope_of, log_ratios

__all__ = ["Hypotheses", "ask_witnesses", "from_pairs", "from_patterns"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
Query = Callable[[FloatArray, float], tuple[IntArray, IntArray, FloatArray]]

_MANY_PATTERNS = 100_000  # from which on a smaller radius is tried first
_WITNESSES = 16  # stars around a pattern that are asked about it
_MORE_WITNESSES = 48  # ... where most of them know nothing
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
    order = np.lexsort((j, i, flip, distance))[:most]
    i, j, flip = i[order], j[order], flip[order]
    found = _similarities(
        source, template, patterns.stars[i], known.stars[j], flip, patterns.level[i]
    )
    return found[np.flatnonzero(bounds.allow(found.a, found.b, found.mirrored))[:budget]]


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
    z = source.xy[p] @ (1, 1j)
    t = template.xy[q] @ (1, 1j)
    z = np.where(flip[:, np.newaxis], z.conj(), z)
    z0, t0 = z.mean(axis=1), t.mean(axis=1)
    zc, tc = z - z0[:, np.newaxis], t - t0[:, np.newaxis]
    a = np.sum(zc.conj() * tc, axis=1) / np.sum(np.abs(zc) ** 2, axis=1)
    b = t0 - a * z0
    rms = np.sqrt(np.mean(np.abs(tc - a[:, np.newaxis] * zc) ** 2, axis=1))
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
    Sum the log-ratios of the stars around each pattern.

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
    number = _MORE_WITNESSES if hopeful else _WITNESSES
    near, n_template = _witnesses(source, template, h, number)
    own = np.any(near[:, :, np.newaxis] == h.source[:, np.newaxis, :], axis=2)
    z = source.xy[near] @ (1, 1j)
    z = np.where(h.mirrored[:, np.newaxis], z.conj(), z)
    image = h.a[:, np.newaxis] * z + h.b[:, np.newaxis]
    pattern = template.xy[h.template] @ (1, 1j)
    middle = pattern.mean(axis=1)
    size = np.sqrt(np.mean(np.abs(pattern - middle[:, np.newaxis]) ** 2, axis=1))
    points = np.stack((image.real, image.imag), axis=-1)
    distance, nearest = np.empty(near.shape), np.empty(near.shape, np.intp)
    for size_t in np.unique(n_template):
        rows = np.flatnonzero(n_template == size_t)
        distance[rows], nearest[rows] = template.neighbors(int(size_t)).nearest(points[rows])
    scale = np.abs(h.a)[:, np.newaxis]
    noise = np.sqrt(
        (scale * source.err[near]) ** 2
        + template.err[nearest] ** 2
        + h.rms[:, np.newaxis] ** 2
        + 0.1**2
    )
    away = np.abs(image - middle[:, np.newaxis])
    sigma = noise * (1 + away / size[:, np.newaxis])
    sigma = np.hypot(sigma, 0.05 / (half * scale) * away**2)
    density = template.density[nearest] * n_template[:, np.newaxis] / len(template)
    ratios = log_ratios(distance, density, sigma)
    silent = own | np.any((points < frame[0]) | (points > frame[1]), axis=-1)
    ratios = np.where(silent, 0.0, ratios)
    return hope_of(ratios) if hopeful else np.sum(ratios, axis=1)


def _witnesses(
    source: StarField, template: StarField, h: Hypotheses, number: int
) -> tuple[IntArray, IntArray]:
    """Return the stars around each pattern, and among how many template stars to seek them."""
    near = np.repeat(h.source[:, :1], number + 1, axis=1)  # itself where there are no more
    n_template = np.empty(len(h), np.intp)
    # Steps of two in the depth of the template keep its trees few.
    depth = np.round(np.log2(np.abs(h.a)))
    for level in np.unique(h.level):
        rows = np.flatnonzero(h.level == level)
        found = source.levels.neighbors(int(level), number)[h.source[rows, 0]]
        near[rows, : found.shape[1]] = found
        size = source.levels.sizes[level]
        for step in np.unique(depth[rows]):
            among = comparable(source, template, size, float(2.0**step))
            n_template[rows[depth[rows] == step]] = among
    return near, n_template
