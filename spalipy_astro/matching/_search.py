"""Two star lists -> matched pairs, with their odds against chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.errors import AmbiguousMatchError, NoMatchError, TooFewStarsError
from spalipy_astro.matching._acceptance import DOUBT, Candidate, contradict, examine, same_transform
from spalipy_astro.matching._bounds import Bounds, Priors
from spalipy_astro.matching._growth import grow
from spalipy_astro.matching._hypotheses import Hypotheses, ask_witnesses, from_pairs, from_patterns
from spalipy_astro.matching._quads import find_patterns
from spalipy_astro.matching._starfield import StarField, log_ratios

__all__ = ["MIN_LOG_ODDS", "Match", "Priors", "StarField", "match_stars"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

MIN_LOG_ODDS = np.log(1e6)
"""Natural logarithm of the odds at which a match is accepted."""

_DECISIVE = 60.0  # log-odds at which no better hypothesis is looked for
_MIN_STARS = 3
_FIRST_BATCH = 64  # in most pairs of images the first hypotheses are true
_BATCH = 512  # hypotheses tested at once
_CONVINCING = 12.0  # log-ratio of the witnesses for which a hypothesis is grown at once
_PROMISING = 6.0  # ... or at the end of the stage, after better ones
_PROMISING_PAIR = 0.0  # ... where there are so few stars that all pairs can be tried
_MAX_GROWN = 20  # hypotheses grown in a stage
_MAX_TRIES = 3  # hypotheses grown that are one transform
_BUDGET_OF_PAIRS = 20_000  # hypotheses from pairs of stars, where these are few
_PERSEVERANCE = 400  # brightest stars among which partners are sought where few have any
_PATTERNS = 60_000  # ... and how many patterns of them
_RIVALS = 256  # further hypotheses that are tested once there is a result, at least
_MAX_RIVALS = 4  # ... and grown
_SAME = 3.0  # px from where a result puts a pattern: the same hypothesis
_MAX_MOVES = 4  # times that a better shift is taken up
_SHIFTED = 150  # stars that are tried at a shift
_MAX_SHIFTS = 6  # shifts from which growth begins
_OWN_SHIFT = 0.2  # px: error of a shift
_SCALES = (0.5, 2.0, 1 / 3, 3.0)  # at which every second or third dot of a lattice falls on another
_OUTVOTED = 0.25  # share of what stands still that moving stars must reach to be believed


class _Stage(NamedTuple):
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


class Match(NamedTuple):
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


def match_stars(
    source: StarField,
    template: StarField,
    *,
    priors: Priors | None = None,
    source_shape: tuple[float, float] | None = None,
    template_shape: tuple[float, float] | None = None,
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
        If a list has fewer than three stars.
    NoMatchError
        If no transform is better than chance by `MIN_LOG_ODDS`, or something else speaks against
        each that is.
    AmbiguousMatchError
        If two transforms are.

    Notes
    -----
    The method of Lang et al. (2010, AJ, 139, 1782, doi:10.1088/0004-6256/139/5/1782), between two
    images: patterns of equal code propose similarities of either parity; the stars around the
    pattern bear witness for or against them; the best are grown over the frame and accepted by the
    odds of all their stars. A union bound over the pairs of stars that can fix a similarity within
    the priors is subtracted from the log-odds, so that they hold whatever the number of stars.
    What is accepted must also span two dimensions, keep to the priors, and have no rival.
    """
    for name, field in (("source", source), ("template", template)):
        if len(field) < _MIN_STARS:
            raise TooFewStarsError(
                f"the {name} has {len(field)} usable stars; matching takes at least {_MIN_STARS}, "
                "and five if scale=, rotation=, parity= and max_shift= are not known. "
                "Lower the detection threshold, or check the image and its mask."
            )
    bounds = Bounds(priors or Priors(), source, template, source_shape, template_shape)
    search = _Search(source, template, bounds)
    search.run()
    while True:
        try:
            best = search.settle()
            break
        except AmbiguousMatchError:
            if not search.run():  # more stars may tell two transforms apart
                raise
    return Match(
        best.growth.source,
        best.growth.template,
        best.log_odds,
        best.growth.expected,
        best.parity,
        search.tested,
    )


class _Search:
    """One search: the transforms that were found, and what has been spent."""

    def __init__(self, source: StarField, template: StarField, bounds: Bounds) -> None:
        self.source, self.template, self.bounds = source, template, bounds
        self.log_trials = bounds.log_trials()
        self.tested = self.grown = 0
        self.found: list[Candidate] = []
        self.seen: dict[tuple[int, ...], int] = {}
        self._stages = self._all_stages()

    @property
    def best(self) -> Candidate | None:
        """The best transform that nothing speaks against."""
        sound = [candidate for candidate in self.found if candidate.objection is None]
        return max(sound, key=lambda candidate: candidate.log_odds, default=None)

    def run(self) -> bool:
        """Search, or search on; False where all stages have been tried without a result."""
        return any(stage() for stage in self._stages)

    def _all_stages(self) -> Iterator[Callable[[], bool]]:
        """Yield what to try, one after the other."""
        few, many = sorted((len(self.source), len(self.template)))
        for number, stage in enumerate(_STAGES):
            if number and _STAGES[number - 1].stars >= many:
                break
            yield partial(self._run_stage, stage, 4)
        if few < 8:
            yield partial(self._run_stage, _Stage(4700, 7, 0.03, 20_000), 3)
        pairs = from_pairs(self.source, self.template, self.bounds, _BUDGET_OF_PAIRS)
        if pairs is not None:
            yield partial(self._test, pairs, promising=_PROMISING_PAIR)
        # Where hardly any star has a partner, few patterns do: triangles, and more witnesses.
        yield partial(self._run_stage, _Stage(_PERSEVERANCE, 11, 0.003, 12_000), 3, hopeful=True)
        neighbors = _neighbors_for(min(many, _PERSEVERANCE))
        stage = _Stage(_PERSEVERANCE, neighbors, 0.01, 12_000)
        yield partial(self._run_stage, stage, 4, hopeful=True)

    def settle(self) -> Candidate:
        """
        Return the best transform, if nothing else is nearly as good.

        Raises
        ------
        NoMatchError
            If none is good enough.
        AmbiguousMatchError
            If two are.
        """
        best = self.best
        if best is None or best.log_odds < MIN_LOG_ODDS:
            raise self._complaint()
        for _ in range(_MAX_MOVES):
            self._try_shifts(best)
            self._try_scales(best)
            if self.best is best:
                break
            best = self.best or best
        if best.still:
            self._try_without(best)
        sound = [candidate for candidate in self.found if candidate.objection is None]
        rivals = [
            other for other in sound if other is not best and contradict(best, other, MIN_LOG_ODDS)
        ]
        if not rivals:
            return best
        rival = max(rivals, key=lambda candidate: candidate.log_odds)
        # What stands still is on the detector, and stars move: unless they are too few to tell.
        for still, moving in ((best, rival), (rival, best)):
            if (
                still.still
                and not moving.still
                and moving.log_odds >= MIN_LOG_ODDS
                and len(moving.growth.source) > _OUTVOTED * len(still.growth.source)
                and not np.isin(moving.growth.source, still.growth.source).any()
            ):
                return moving
        raise AmbiguousMatchError(
            f"two transforms explain the {len(self.source)} source and {len(self.template)} "
            f"template stars: {best.describe()}; and {rival.describe()}. Give scale=, rotation=, "
            "parity= or max_shift= to exclude one of them, or a mask for whatever does not move.",
            best.log_odds,
            rival.log_odds,
        )

    def _complaint(self) -> NoMatchError:
        """Return the error for a search that found nothing, with its figures."""
        details: dict[str, Any] = {
            "n_source": len(self.source),
            "n_template": len(self.template),
            "hypotheses": self.tested,
            "log_odds": -np.inf if self.best is None else self.best.log_odds,
            "required": float(MIN_LOG_ODDS),
        }
        if self.found:
            best = max(self.found, key=lambda candidate: candidate.log_odds)
            refused = best.objection is not None and best.log_odds >= MIN_LOG_ODDS
            details |= {
                "log_odds": float(best.log_odds),
                "matched": len(best.growth.source),
                "expected": int(best.growth.expected),
                "best": best.describe(),
                "objection": best.objection if refused else None,
            }
        return NoMatchError(
            f"no transform matches {len(self.source)} source stars to {len(self.template)} "
            "template stars.",
            -np.inf if self.best is None else self.best.log_odds,
            details=details,
        )

    def _run_stage(self, stage: _Stage, k: int, *, hopeful: bool = False) -> bool:
        """Search one stage; True where the search is over."""
        last = _last_level(self.source, stage.stars), _last_level(self.template, stage.stars)
        neighbors = stage.neighbors
        if min(len(self.source), len(self.template)) <= 12:
            neighbors = max(neighbors, 11)
        patterns = find_patterns(self.source.levels, k=k, neighbors=neighbors, last=last[0])
        index = self.template.index(k, neighbors, last[1])
        hypotheses = from_patterns(
            self.source,
            self.template,
            patterns,
            index.patterns,
            index.query,
            self.bounds,
            stage.radius,
            stage.budget,
        )
        return self._test(hypotheses, hopeful=hopeful)

    def _test(
        self, hypotheses: Hypotheses, *, hopeful: bool = False, promising: float = _PROMISING
    ) -> bool:
        """Ask witnesses about hypotheses and grow the best; True where the search is over."""
        scores = np.full(len(hypotheses), -np.inf)
        self.grown = 0
        start, size = 0, _FIRST_BATCH
        while start < len(hypotheses):
            rows = slice(start, start + size)
            start, size = start + size, min(2 * size, _BATCH)
            batch = hypotheses[rows]
            scores[rows] = ask_witnesses(
                self.source, self.template, batch, self.bounds.frame, hopeful=hopeful
            )
            self.tested += len(batch)
            if self._grow_best(batch, scores[rows], _CONVINCING, 2):
                self._look_for_rivals(hypotheses, scores, start)
                return True
        # Among many hypotheses some look promising by chance: the best of all of them first.
        if self._grow_best(hypotheses, scores, promising, _MAX_GROWN):
            return True
        return self.best is not None and self.best.log_odds >= MIN_LOG_ODDS

    def _grow_best(
        self, hypotheses: Hypotheses, scores: FloatArray, threshold: float, most: int
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

    def _look_for_rivals(self, hypotheses: Hypotheses, scores: FloatArray, start: int) -> None:
        """
        Grow what else the witnesses are convinced of, once there is a transform beyond doubt.

        A rival with about as many stars shows itself among as many hypotheses as the best did.
        """
        stop = start + max(start, _RIVALS)
        rest = np.flatnonzero(~self._agree(hypotheses[:stop]))
        new = rest[rest >= start]
        scores[new] = ask_witnesses(self.source, self.template, hypotheses[new], self.bounds.frame)
        self.tested += len(new)
        self.grown = 0
        for i in rest[np.argsort(-scores[rest], kind="stable")]:
            if scores[i] < _CONVINCING or self.grown >= _MAX_RIVALS:
                break
            self._grow(hypotheses[slice(i, i + 1)])

    def _agree(self, h: Hypotheses) -> NDArray[np.bool_]:
        """Tell which hypotheses are the best transform, near enough."""
        best = self.best
        if best is None:
            return np.zeros(len(h), bool)
        predicted = best.growth.predicted
        known = np.all(h.source < len(predicted), axis=1)
        expected = predicted[np.where(known[:, np.newaxis], h.source, 0)].mean(axis=1)
        image = self.template.xy[h.template].mean(axis=1)
        near = np.hypot(*(image - expected).T) < _SAME * max(
            1.0, float(np.sqrt(abs(np.linalg.det(best.matrix))))
        )
        return known & near & (h.mirrored == (best.parity < 0))

    def _try_shifts(self, best: Candidate) -> None:
        """Try the best transform followed by each shift that brings the template onto itself."""
        growth, shifts = best.growth, self.template.own_shifts
        shifts = shifts[[self._may_shift(best, shift) for shift in shifts]]
        if not len(shifts):
            return
        used = growth.source[:_SHIFTED]
        self._try_moved(best, used, growth.predicted[used] + shifts[:, np.newaxis])

    def _try_scales(self, best: Candidate) -> None:
        """Try the best transform at scales, and shifts, at which a lattice falls onto itself."""
        growth, own = best.growth, self.template.own_shifts
        if not len(own):
            return
        used = np.arange(min(len(growth.predicted), _SHIFTED))
        image = growth.predicted[growth.source]
        fixed = image[np.argmin(np.hypot(*(image - image.mean(axis=0)).T))]
        shifts = np.concatenate((np.zeros((1, 2)), own))
        for factor in _SCALES:
            matrix, offset = factor * best.matrix, fixed + factor * (best.offset - fixed)
            may = [self.bounds.objection(matrix, offset + shift, 0.0) is None for shift in shifts]
            moved = fixed + factor * (growth.predicted[used] - fixed)
            self._try_moved(best, used, moved + shifts[may][:, np.newaxis], factor)

    def _try_moved(
        self,
        best: Candidate,
        used: IntArray,
        moved: FloatArray,
        factor: float = 1.0,
    ) -> None:
        """Grow the most credible of some maps, of which it is known where they put some stars."""
        if not len(moved):
            return
        growth = best.growth
        distance, nearest = self.template.neighbors().nearest(moved)
        sigma = np.sqrt(growth.sigma[used] ** 2 + self.template.err[nearest] ** 2 + _OWN_SHIFT**2)
        ratios = log_ratios(distance, self.template.density[nearest], sigma)
        scores = ratios.sum(axis=1)
        scale = factor * float(np.sqrt(abs(np.linalg.det(best.matrix))))
        for i in np.argsort(-scores, kind="stable")[:_MAX_SHIFTS]:
            if scores[i] > _CONVINCING:
                good = ratios[i] > 0
                self._record((used[good], nearest[i][good]), scale, best.parity)

    def _may_shift(self, best: Candidate, shift: FloatArray) -> bool:
        """Whether the priors allow the best transform followed by a shift."""
        return self.bounds.objection(best.matrix, best.offset + shift, 0.0) is None

    def _try_without(self, best: Candidate) -> None:
        """Search once more without the stars that the best transform matches."""
        source, s_rows = _without(self.source, best.growth.source)
        template, t_rows = _without(self.template, best.growth.template)
        if min(len(source), len(template)) < _MIN_STARS:
            return
        # Two frames of one detector, as it seems: of one scale and parity.
        low, high = self.bounds.priors.scale
        known = replace(self.bounds.priors, scale=(max(low, 0.95), min(high, 1.05)), parity=1)
        bounds = self.bounds.narrowed(known, len(source), len(template))
        other = _Search(source, template, bounds)
        other._run_stage(_STAGES[0], 4)
        pairs = from_pairs(source, template, bounds, _BUDGET_OF_PAIRS)
        if other.best is None and pairs is not None:
            other._test(pairs, promising=_PROMISING_PAIR)
        self.tested += other.tested
        found = other.best
        if found is not None and found.log_odds >= DOUBT:
            s, t = s_rows[found.growth.source], t_rows[found.growth.template]
            growth = found.growth._replace(source=s, template=t)
            self.found.append(found._replace(growth=growth))

    def _grow(self, h: Hypotheses) -> bool:
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
        before = self.best
        candidate = self._record(
            (h.source[0], h.template[0]),
            float(np.abs(h.a[0])),
            -1 if h.mirrored[0] else 1,
            int(self.source.levels.sizes[h.level[0]]),
        )
        if candidate is None or candidate.objection is not None:
            return False
        if before is not None and before.log_odds > _DECISIVE:
            if candidate.log_odds > 0.9 * before.log_odds and same_transform(before, candidate):
                return True  # two patterns lead to the same: there is no more to be found
        enough = len(candidate.growth.source) > 0.3 * candidate.growth.expected
        return candidate.log_odds > _DECISIVE and enough

    def _record(
        self, pairs: tuple[IntArray, IntArray], scale: float, parity: int, size: int = 0
    ) -> Candidate | None:
        """Grow matched pairs and keep what comes of them."""
        growth = grow(self.source, self.template, pairs, scale, self.bounds.frame, size, parity)
        if growth is None:
            return None
        candidate = examine(
            growth, self.source, self.template, self.bounds, parity, self.log_trials, MIN_LOG_ODDS
        )
        self.found.append(candidate)
        return candidate


def _without(field: StarField, matched: IntArray) -> tuple[StarField, IntArray]:
    """Return the stars that are not matched, and their indices."""
    rows = np.setdiff1d(np.arange(len(field)), matched)
    return StarField(field.xy[rows], field.err[rows]), rows


def _last_level(field: StarField, stars: int) -> int:
    """Return the end of the range of levels with at most that many stars, at least one level."""
    return max(1, int(np.searchsorted(field.levels.sizes, stars, side="right")))


def _neighbors_for(stars: int) -> int:
    """Return among how many neighbors the patterns of so many stars are sought."""
    neighbors = 11
    while neighbors < stars - 1 and stars * comb(neighbors + 1, 3) <= _PATTERNS:
        neighbors += 1
    return neighbors
