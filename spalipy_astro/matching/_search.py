"""Two star lists -> matched pairs, with the odds that they are no chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.errors import NoMatchError, TooFewStarsError
from spalipy_astro.matching._growth import Growth, grow
from spalipy_astro.matching._quads import Patterns, find_patterns
from spalipy_astro.matching._starfield import StarField, comparable, log_ratios

__all__ = ["MIN_LOG_ODDS", "Match", "Priors", "StarField", "match_stars"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

MIN_LOG_ODDS = np.log(1e6)
"""Natural logarithm of the odds at which a match is accepted."""

_DECISIVE = 60.0  # log-odds at which no better hypothesis is looked for
_MIN_STARS = 4
_FIRST_BATCH = 64  # in most pairs of images the first hypotheses are true
_BATCH = 512  # hypotheses tested at once
_MANY_PATTERNS = 100_000  # from which on a smaller radius is tried first
_WITNESSES = 16  # stars around a pattern that are asked about it
_CONVINCING = 12.0  # log-ratio of the witnesses for which a hypothesis is grown at once
_PROMISING = 6.0  # ... or at the end of the stage, after better ones
_MAX_GROWN = 20  # hypotheses grown in a stage
_MAX_TRIES = 3  # hypotheses grown that are one transform


@dataclass(frozen=True)
class _Stage:
    """How widely to search: stars, patterns and tolerance."""

    stars: int
    neighbors: int
    radius: float
    budget: int


_STAGES = (
    _Stage(110, 5, 0.01, 1_500),
    _Stage(280, 6, 0.02, 5_000),
    _Stage(720, 7, 0.03, 12_000),
    _Stage(4700, 7, 0.03, 20_000),
)


@dataclass(frozen=True)
class Priors:
    """
    What is known of the transform beforehand.

    Attributes
    ----------
    scale : tuple of float
        Smallest and largest template px per source px.
    rotation : tuple of float, optional
        Angle and tolerance, degrees counter-clockwise from source to template (for a mirrored
        transform: of the image of the source's x axis).
    parity : {1, -1}, optional
        -1 for a mirrored transform.
    max_shift : float, optional
        Largest distance of the source frame's center from ``target``, px.
    target : tuple of float, optional
        Where in the template the center of the source frame is expected; by default the center.
    """

    scale: tuple[float, float] = (0.1, 10.0)
    rotation: tuple[float, float] | None = None
    parity: int | None = None
    max_shift: float | None = None
    target: tuple[float, float] | None = None


@dataclass(frozen=True)
class Match:
    """
    Matched stars.

    Attributes
    ----------
    source, template : ndarray of int, shape (M,)
        Indices into both lists.
    log_odds : float
        Natural logarithm of the odds against chance, paid for all hypotheses that could have been
        tried.
    expected : int
        Source stars that the template should show.
    parity : {1, -1}
    hypotheses : int
        Number of hypotheses that were tested.
    """

    source: IntArray
    template: IntArray
    log_odds: float
    expected: int
    parity: int
    hypotheses: int


@dataclass(frozen=True)
class _Hypotheses:
    """Similarities ``a * z + b`` (of the conjugate where mirrored) from pairs of patterns."""

    a: NDArray[np.complex128]
    b: NDArray[np.complex128]
    mirrored: NDArray[np.bool_]
    source: IntArray
    template: IntArray
    level: IntArray
    rms: FloatArray

    def __getitem__(self, item: object) -> _Hypotheses:
        return _Hypotheses(*(getattr(self, name)[item] for name in self.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.a)


def match_stars(
    source: StarField,
    template: StarField,
    *,
    priors: Priors | None = None,
    source_shape: tuple[int, int] | None = None,
    template_shape: tuple[int, int] | None = None,
) -> Match:
    """
    Match two star lists by quads.

    Parameters
    ----------
    source, template : StarField
        A `StarField` may be used again: its index is made once.
    priors : Priors, optional
    source_shape, template_shape : tuple of int, optional
        Shapes ``(ny, nx)`` of the images, for lists that do not fill them.

    Returns
    -------
    Match

    Raises
    ------
    TooFewStarsError
        If a list has fewer than four stars.
    NoMatchError
        If no transform is better than chance by `MIN_LOG_ODDS`.

    Notes
    -----
    The method of Lang et al. (2010, AJ, 139, 1782, doi:10.1088/0004-6256/139/5/1782), between two
    images: patterns of equal code propose similarities, both parities alike; the stars around the
    pattern bear witness for or against them; the best are grown over the frame and accepted by the
    odds of all their stars. A union bound over the pairs of stars that can fix a similarity is
    subtracted from the log-odds, so that they hold whatever the number of stars.
    """
    priors = priors or Priors()
    for name, field in (("source", source), ("template", template)):
        if len(field) < _MIN_STARS:
            raise TooFewStarsError(
                f"the {name} has {len(field)} usable stars; matching takes at least {_MIN_STARS}. "
                "Lower the detection threshold, or check the image and its mask."
            )
    search = _Search(source, template, priors, source_shape, template_shape)
    return search.run()


class _Search:
    """One search: the best hypothesis so far, and what has been spent."""

    def __init__(
        self,
        source: StarField,
        template: StarField,
        priors: Priors,
        source_shape: tuple[int, int] | None,
        template_shape: tuple[int, int] | None,
    ) -> None:
        self.source, self.template, self.priors = source, template, priors
        self.center = _center(source.xy, source_shape)
        self.target = priors.target or tuple(_center(template.xy, template_shape))
        self.frame = _frame(template.xy, template_shape)
        self.half = 0.5 * float(np.hypot(*np.ptp(source.xy, axis=0)))
        n_s, n_t = len(source), len(template)
        self.log_trials = float(np.log(2.0 * n_s * (n_s - 1) * n_t * (n_t - 1)))
        self.tested = self.grown = 0
        self.best: tuple[float, Growth, int] | None = None
        self.seen: dict[tuple[int, ...], int] = {}

    def run(self) -> Match:
        few = min(len(self.source), len(self.template))
        done = 0
        for stage in _STAGES:
            size = max(len(self.source), len(self.template))
            if done and done >= size:
                break
            done = stage.stars
            if self._run_stage(stage, 4):
                break
        if few < 8 and not self._accepted():
            self._run_stage(_Stage(4700, 7, 0.03, 20_000), 3)
        if self.best is None or not self._accepted():
            best = -np.inf if self.best is None else self.best[0]
            raise NoMatchError(self._complaint(), float(best))
        log_odds, growth, parity = self.best
        return Match(growth.source, growth.template, log_odds, growth.expected, parity, self.tested)

    def _accepted(self) -> bool:
        return self.best is not None and self.best[0] >= MIN_LOG_ODDS

    def _complaint(self) -> str:
        best = "none was worth a closer look"
        if self.best is not None:
            best = (
                f"the best one matches {len(self.best[1].source)} of "
                f"{self.best[1].expected} expected stars with log-odds {self.best[0]:.1f}"
            )
        return (
            f"no transform matches {len(self.source)} source stars to {len(self.template)} "
            f"template stars: of {self.tested} hypotheses {best}, where {MIN_LOG_ODDS:.1f} is "
            "required. Check that both images show the same sky; a lower detection threshold "
            "gives more stars, and scale=, rotation= or parity= narrow the search."
        )

    def _run_stage(self, stage: _Stage, k: int) -> bool:
        """Search one stage; True where the search is over."""
        last = _last_level(self.source, stage.stars), _last_level(self.template, stage.stars)
        neighbors = stage.neighbors if min(len(self.source), len(self.template)) > 12 else 11
        patterns = find_patterns(self.source.levels, k=k, neighbors=neighbors, last=last[0])
        index = self.template.index(k, neighbors, last[1])
        hypotheses = self._propose(patterns, index.patterns, index.query, stage)
        scores = np.full(len(hypotheses), -np.inf)
        self.grown = 0
        start, size = 0, _FIRST_BATCH
        while start < len(hypotheses):
            rows = slice(start, start + size)
            start, size = start + size, min(2 * size, _BATCH)
            batch = hypotheses[rows]
            scores[rows] = self._ask_witnesses(batch)
            self.tested += len(batch)
            if self._grow_best(batch, scores[rows], _CONVINCING, 2):
                return True
        # Among many hypotheses some look promising by chance: the best of all of them first.
        return self._grow_best(hypotheses, scores, _PROMISING, _MAX_GROWN) or self._accepted()

    def _grow_best(
        self, hypotheses: _Hypotheses, scores: FloatArray, threshold: float, most: int
    ) -> bool:
        """Grow the best hypotheses in turn; True where a result is decisive."""
        for i in np.argsort(-scores, kind="stable"):
            if scores[i] < threshold or most == 0 or self.grown >= _MAX_GROWN:
                break
            before = self.grown
            if self._grow(hypotheses[slice(i, i + 1)]):
                return True
            most -= self.grown - before
        return False

    def _propose(self, patterns: Patterns, known: Patterns, query, stage: _Stage) -> _Hypotheses:  # type: ignore[no-untyped-def]
        """Turn pairs of patterns with equal codes into similarities, the likeliest first."""
        most = 4 * stage.budget
        # Among many patterns, half the radius gives enough pairs for a tenth of the work.
        many = len(patterns.codes) > _MANY_PATTERNS
        for radius in (stage.radius / 2, stage.radius) if many else (stage.radius,):
            i, j, distance, flip = self._equal_codes(patterns, query, radius)
            if len(i) >= most:
                break
        if len(i) > most:  # the rest need not be sorted
            near = np.flatnonzero(distance <= np.partition(distance, most)[most])
            i, j, distance, flip = i[near], j[near], distance[near], flip[near]
        order = np.lexsort((j, i, flip, distance))[:most]
        i, j, flip = i[order], j[order], flip[order]
        p, q = patterns.stars[i], known.stars[j]
        z = self.source.xy[p] @ (1, 1j)
        t = self.template.xy[q] @ (1, 1j)
        z = np.where(flip[:, np.newaxis], z.conj(), z)
        z0, t0 = z.mean(axis=1), t.mean(axis=1)
        zc, tc = z - z0[:, np.newaxis], t - t0[:, np.newaxis]
        a = np.sum(zc.conj() * tc, axis=1) / np.sum(np.abs(zc) ** 2, axis=1)
        b = t0 - a * z0
        rms = np.sqrt(np.mean(np.abs(tc - a[:, np.newaxis] * zc) ** 2, axis=1))
        found = _Hypotheses(a, b, flip, p, q, patterns.level[i], rms)
        return found[np.flatnonzero(self._allowed(found))[: stage.budget]]

    def _equal_codes(self, patterns: Patterns, query, radius: float):  # type: ignore[no-untyped-def]
        """Pair patterns whose codes differ by less than a radius, of both parities if allowed."""
        parts = []
        for mirrored in (False, True):
            if self.priors.parity == (1 if mirrored else -1):
                continue
            codes = patterns.codes.copy()
            if mirrored:
                codes[:, 1::2] *= -1
            i, j, distance = query(codes, radius)
            parts.append((i, j, distance, np.full(len(i), mirrored)))
        return (np.concatenate(column) for column in zip(*parts, strict=True))

    def _allowed(self, h: _Hypotheses) -> NDArray[np.bool_]:
        """Apply the priors."""
        scale = np.abs(h.a)
        good = (scale >= self.priors.scale[0]) & (scale <= self.priors.scale[1])
        if self.priors.rotation is not None:
            angle, tolerance = self.priors.rotation
            off = np.rad2deg(np.angle(h.a * np.exp(-1j * np.deg2rad(angle))))
            good &= np.abs(off) <= tolerance
        if self.priors.max_shift is not None:
            center = complex(*self.center)
            image = h.a * np.where(h.mirrored, center.conjugate(), center) + h.b
            good &= np.abs(image - complex(*self.target)) <= self.priors.max_shift
        return good

    def _ask_witnesses(self, h: _Hypotheses) -> FloatArray:
        """Sum the log-ratios of the stars around each pattern."""
        near, n_template = self._witnesses(h)
        own = np.any(near[:, :, np.newaxis] == h.source[:, np.newaxis, :], axis=2)
        z = self.source.xy[near] @ (1, 1j)
        z = np.where(h.mirrored[:, np.newaxis], z.conj(), z)
        image = h.a[:, np.newaxis] * z + h.b[:, np.newaxis]
        pattern = self.template.xy[h.template] @ (1, 1j)
        middle = pattern.mean(axis=1)
        size = np.sqrt(np.mean(np.abs(pattern - middle[:, np.newaxis]) ** 2, axis=1))
        points = np.stack((image.real, image.imag), axis=-1)
        distance, nearest = np.empty(near.shape), np.empty(near.shape, np.intp)
        for number in np.unique(n_template):
            rows = np.flatnonzero(n_template == number)
            distance[rows], nearest[rows] = self.template.tree(int(number)).query(points[rows])
        scale = np.abs(h.a)[:, np.newaxis]
        noise = np.sqrt(
            (scale * self.source.err[near]) ** 2
            + self.template.err[nearest] ** 2
            + h.rms[:, np.newaxis] ** 2
            + 0.1**2
        )
        away = np.abs(image - middle[:, np.newaxis])
        sigma = noise * (1 + away / size[:, np.newaxis])
        sigma = np.hypot(sigma, 0.05 / (self.half * scale) * away**2)
        density = self.template.density[nearest] * n_template[:, np.newaxis] / len(self.template)
        ratios = log_ratios(distance, density, sigma)
        outside = np.any((points < self.frame[0]) | (points > self.frame[1]), axis=-1)
        return np.sum(np.where(own | outside, 0.0, ratios), axis=1)

    def _witnesses(self, h: _Hypotheses) -> tuple[IntArray, IntArray]:
        """Return the stars around each pattern, and among how many template stars to seek them."""
        near = np.repeat(h.source[:, :1], _WITNESSES + 1, axis=1)  # itself where there are no more
        n_template = np.empty(len(h), np.intp)
        # Steps of two in the depth of the template keep its trees few.
        depth = np.round(np.log2(np.abs(h.a)))
        for level in np.unique(h.level):
            rows = np.flatnonzero(h.level == level)
            found = self.source.levels.neighbors(int(level), _WITNESSES)[h.source[rows, 0]]
            near[rows, : found.shape[1]] = found
            size = self.source.levels.sizes[level]
            for step in np.unique(depth[rows]):
                number = comparable(self.source, self.template, size, float(2.0**step))
                n_template[rows[depth[rows] == step]] = number
        return near, n_template

    def _grow(self, h: _Hypotheses) -> bool:
        """Grow one hypothesis; True where the result is decisive."""
        key = (
            *np.round(np.angle(h.a) / 0.02).astype(int),
            *np.round(h.b.view(float) / 8).astype(int),
        )
        # The same transform from another pattern may grow where this one did not, but not for ever.
        key = (*key, int(h.mirrored[0]))
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] > _MAX_TRIES:
            return False
        self.grown += 1
        growth = grow(
            self.source,
            self.template,
            (h.source[0], h.template[0]),
            float(np.abs(h.a[0])),
            self.frame,
            int(self.source.levels.sizes[h.level[0]]),
        )
        if growth is None:
            return False
        log_odds = growth.evidence - self.log_trials
        before = -np.inf if self.best is None else self.best[0]
        if log_odds > before:
            self.best = (log_odds, growth, -1 if h.mirrored[0] else 1)
        if before > _DECISIVE and log_odds > 0.9 * before:
            return True  # two patterns lead to the same: there is no more to be found
        return log_odds > _DECISIVE and len(growth.source) > 0.3 * growth.expected


def _last_level(field: StarField, stars: int) -> int:
    """Return the end of the range of levels with at most that many stars, at least one level."""
    return max(1, int(np.searchsorted(field.levels.sizes, stars, side="right")))


def _frame(xy: FloatArray, shape: tuple[int, int] | None) -> FloatArray:
    """Return the corners of the frame: of the image, or of the box around the stars."""
    if shape is not None:
        return np.array([[-0.5, -0.5], [shape[1] - 0.5, shape[0] - 0.5]])
    return np.array([xy.min(axis=0), xy.max(axis=0)])


def _center(xy: FloatArray, shape: tuple[int, int] | None) -> FloatArray:
    """Return the middle of the frame."""
    return _frame(xy, shape).mean(axis=0)
