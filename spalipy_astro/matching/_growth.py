"""From one matched pattern outwards: match and fit in turns until all stars have their partners."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro._neighbors import Neighbors
from spalipy_astro.matching._maps import BENDING, LinearMap, Smoothness, SplineMap, fit_pairs
from spalipy_astro.matching._starfield import (
    PARTNERS,
    StarField,
    comparable,
    hope_of,
    log_ratios,
    match_ratios,
)

__all__ = ["Growth", "grow"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_GATE = 4.0  # sigma: how far from its predicted position a partner may lie
_MAX_CHANCE = 0.15  # expected number of strangers inside a gate that may decide
_FEW = 40  # matched stars below which an affine map is tried too
_VERY_FEW = 12  # ... and a similarity
_HOPELESS = -20.0  # hope below which a growth that does not gain is given up
_CROWD = 600  # stars that growth begins with: more would only crowd the gates
_STRAIGHT = 0.6  # share of expected stars matched for which an affine map will do to begin with
_SUPPORT = 8  # neighbors that tell how common matches are around a star
_FLOOR = 0.05  # px: position errors below this are not believed when gates are set


class Growth(NamedTuple):
    """
    Matched pairs and the evidence for them.

    Attributes
    ----------
    source, template : ndarray of int, shape (M,)
        Stars that are matched, one to one.
    predicted : ndarray, shape (N, 2)
        All source stars in template pixels.
    sigma : ndarray, shape (N,)
        Error of the predictions and positions together, px.
    evidence : float
        Sum of the log-likelihood ratios over all predicted stars, except for the best ones,
        which pay for the fit.
    hope : float
        That of the expected and matched stars for the share of distractors that suits it best:
        whether to go on.
    expected : int
        Source stars inside the template's frame that it should show too: no more than it has.
    freedom : float
        Effective number of parameters of each axis.
    gain : ndarray, shape (M,)
        Log-likelihood ratios of the matched stars.
    loss : float
        Sum of those of the stars without a partner.
    """

    source: IntArray
    template: IntArray
    predicted: FloatArray
    sigma: FloatArray
    evidence: float
    hope: float
    expected: int
    freedom: float
    gain: FloatArray
    loss: float

    def evidence_without(self, left_out: NDArray[np.bool_]) -> float:
        """Return the evidence where some matches count for two parameters and nothing else."""
        gain = np.sort(self.gain[~left_out])
        paid = max(int(np.ceil(self.freedom - 1e-6)) - 2, 0)
        return self.loss + float(gain[: max(len(gain) - paid, 0)].sum())


def grow(
    source: StarField,
    template: StarField,
    pairs: tuple[IntArray, IntArray],
    scale: float,
    frame: FloatArray,
    size: int = 0,
    parity: int = 1,
) -> Growth | None:
    """
    Extend a few matched stars to all of both lists.

    Parameters
    ----------
    source, template : StarField
    pairs : tuple of ndarray of int
        Matched stars to begin with, at least two.
    scale : float
        Template px per source px.
    frame : ndarray, shape (2, 2)
        Corners (lower, upper) of the template's frame.
    size : int, optional
        Number of source stars, brightest first, among which the pairs were found.
    parity : {1, -1}, optional
        -1 for a mirrored transform.

    Returns
    -------
    Growth or None
        None where the pairs do not even support each other.

    Notes
    -----
    Each turn fits a penalized spline to the pairs matched so far and predicts all stars, each with
    the error of its prediction: small among matched stars, growing away from them. A star joins
    where its gate holds one candidate, nearest to each other both ways. So the search radius
    follows from the fit itself, and the matched region grows outwards by as much as the stars can
    answer for.
    """
    grown = []
    if len(pairs[0]) > 2:
        flexible = _grow(source, template, pairs, scale, frame, size, rigid=False)
        if flexible is not None and len(flexible.source) >= _FEW:
            return flexible
        if flexible is not None and flexible.hope < _HOPELESS:
            return flexible
        # Among few stars a flexible map can follow a false one: the odds tell.
        rigid = _grow(source, template, pairs, scale, frame, size, rigid=True)
        grown = [growth for growth in (flexible, rigid) if growth is not None]
    if max((len(growth.source) for growth in grown), default=0) < _VERY_FEW:
        sizes = (len(source), len(template))
        similar = _converge(source, template, pairs, scale, frame, sizes, parity, bending=0.0)
        grown += [similar] if similar is not None else []
    return max(grown, key=lambda growth: growth.evidence, default=None)


def _grow(
    source: StarField,
    template: StarField,
    pairs: tuple[IntArray, IntArray],
    scale: float,
    frame: FloatArray,
    size: int,
    *,
    rigid: bool,
) -> Growth | None:
    """Grow with a spline, or with an affine map (rigid)."""
    smoothness = Smoothness(rigid)
    n_source = min(len(source), max(size, _CROWD))
    among = comparable(source, template, np.array([n_source]), np.array([scale]))
    sizes = (n_source, int(among[0]))
    first = None
    if not rigid:
        # Most frames are hardly distorted: an affine map gets there in a third of the time. In
        # others it matches a part of them, too one-sided to go on from.
        stiff = Smoothness(rigid=True)
        first = _converge(source, template, pairs, scale, frame, sizes, stiff, bending=0.0)
        if first is not None and len(first.source) < max(_STRAIGHT * first.expected, _FEW):
            first = None
    if first is None:
        first = _converge(source, template, pairs, scale, frame, sizes, smoothness, bending=1.0)
    if first is None or first.hope < _HOPELESS:
        return first
    # What the stars themselves say of the map's bending now replaces the guess at it: narrower
    # gates, and more decisions.
    pairs = (first.source, first.template)
    everyone = (len(source), len(template))
    last = _converge(
        source, template, pairs, scale, frame, everyone, smoothness, bending=0.0, converged=True
    )
    if everyone != sizes:
        return last
    grown = [growth for growth in (first, last) if growth is not None]
    return max(grown, key=lambda growth: growth.evidence)


def _converge(
    source: StarField,
    template: StarField,
    pairs: tuple[IntArray, IntArray],
    scale: float,
    frame: FloatArray,
    sizes: tuple[int, int],
    kind: Smoothness | int,
    *,
    bending: float,
    converged: bool = False,
) -> Growth | None:
    """
    Take turns until the number of matched stars stays; the pairs may have `converged` before.

    The `kind` of map is a spline of that smoothness, or a similarity of that parity.
    """
    best = len(pairs[0]) if converged else -1
    patience = 1
    hope = -np.inf
    for _ in range(15):
        state = _turn(source, template, pairs, sizes, scale, frame, kind, bending)
        if state is None or len(state.source) < 3:
            return None
        pairs = (state.source, state.template)
        if len(pairs[0]) <= 1.01 * best:
            # Most of the stars have partners: a turn more would change next to nothing.
            if patience == 0 or len(pairs[0]) > 0.5 * state.expected >= 0.5 * _FEW:
                break
            patience -= 1
        best = max(best, len(pairs[0]))
        if state.hope < min(hope, _HOPELESS):
            break
        hope = state.hope
    return state


def _turn(
    source: StarField,
    template: StarField,
    pairs: tuple[IntArray, IntArray],
    sizes: tuple[int, int],
    scale: float,
    frame: FloatArray,
    kind: Smoothness | int,
    bending: float,
) -> Growth | None:
    """Fit the pairs, predict the stars, match again."""
    known, values = source.xy[pairs[0]], template.xy[pairs[1]]
    half = 0.5 * float(np.hypot(*np.ptp(source.xy, axis=0)))
    noise2 = _noise2(source.err[pairs[0]], template.err[pairs[1]], scale)
    fit: SplineMap | LinearMap
    if isinstance(kind, int):
        fit = LinearMap.through(known, values, 1 / noise2, kind)
        leverage = np.clip(fit.predict(known)[1] / (fit.noise * noise2), 0.0, 0.9999)
    else:
        fit, leverage = fit_pairs(known, values, noise2, scale, half, kind)

    xy = source.xy[: sizes[0]]
    predicted, error2 = fit.predict(xy)
    if fit.freedom < 0.5 * len(known):
        # A star must be predicted by the others: one far from all of them would vouch for itself.
        error2[pairs[0]] /= 1 - leverage
    unseen: FloatArray | float = 0.0
    if bending > 0:
        away = Neighbors(known).nearest(xy)[0]
        unseen = bending * 0.5 * BENDING * scale / half * away**2
    own2 = max(fit.noise, 0.25) * _noise2(source.err[: sizes[0]], 0.0, scale)
    sigma = np.sqrt(own2 + error2 + unseen**2)
    reach = 3 * np.sqrt(own2)[:, np.newaxis]
    inside = np.all((predicted > frame[0] - reach) & (predicted < frame[1] + reach), axis=1)
    inside &= np.isfinite(sigma)
    if not inside.any():
        return None
    index = np.flatnonzero(inside)
    source_match, template_match, ratios = _match(
        template, predicted[index], sigma[index], sizes[1]
    )
    return _account(
        index,
        source_match,
        template_match,
        ratios,
        predicted,
        sigma,
        fit.freedom,
        sizes[1],
        template,
    )


def _noise2(source_err: FloatArray, template_err: FloatArray | float, scale: float) -> FloatArray:
    """Variance of a pair's distance along one axis, template px**2."""
    return (scale * source_err) ** 2 + np.square(template_err) + _FLOOR**2


def _match(
    template: StarField, predicted: FloatArray, sigma: FloatArray, n_template: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """Match predictions to stars one to one; ratios are those of all predictions."""
    k = min(2, n_template)
    distance, nearest = template.neighbors(n_template).nearest(predicted, k)
    first = nearest[:, 0]
    density = template.density[first] * n_template / len(template)
    sigma = np.hypot(sigma, template.err[first])
    gate = _GATE * sigma
    ratios = log_ratios(distance[:, 0], density, sigma)
    good = (distance[:, 0] < gate) & (np.pi * density * gate**2 < _MAX_CHANCE)
    if k == 2:  # two candidates in one gate: undecided, unless one is far closer
        good &= (distance[:, 1] > gate) | (distance[:, 1] > 3 * distance[:, 0] + sigma)
    # One to one: the closest of the predictions that want a star gets it, if it is far closer.
    order = np.lexsort((distance[:, 0], first))
    order = order[distance[order, 0] < gate[order]]
    taken = first[order]
    leads = np.ones(len(order), bool)
    leads[1:] = taken[1:] != taken[:-1]
    rival = np.full(len(order), np.inf)
    followed = np.flatnonzero(~leads[1:] & leads[:-1])
    rival[followed] = distance[order[followed + 1], 0]
    clear = rival > 3 * distance[order, 0] + sigma[order]
    matched = np.sort(order[leads & clear & good[order]])
    # Evidence comes from matched stars only: a prediction without a partner can but count against.
    alone = np.ones(len(ratios), bool)
    alone[matched] = False
    ratios[alone] = np.minimum(ratios[alone], 0.0)
    return matched, first[matched], ratios


def _account(
    index: IntArray,
    source_match: IntArray,
    template_match: IntArray,
    ratios: FloatArray,
    predicted: FloatArray,
    sigma: FloatArray,
    freedom: float,
    n_template: int,
    template: StarField,
) -> Growth:
    """Add up the evidence of the stars that the template should show."""
    # No more source stars than there are template stars in their region: fainter ones cannot have
    # partners. Stars are sorted by brightness.
    margin = _GATE * float(np.median(sigma[index]))
    lower, upper = predicted[index].min(axis=0) - margin, predicted[index].max(axis=0) + margin
    candidates = template.xy[:n_template]
    room = int(np.count_nonzero(np.all((candidates >= lower) & (candidates <= upper), axis=1)))
    expected = max(min(len(index), max(room, 3)), len(source_match))
    counted = np.zeros(len(index), bool)
    counted[:expected] = True
    counted[source_match] = True
    supported = _supported(predicted[index], source_match, ratios, counted)
    ratios = ratios.copy()
    ratios[source_match[~supported]] = 0.0
    source_match, template_match = source_match[supported], template_match[supported]
    # Stars that fix the parameters fit by construction: the best ones pay for them.
    paid = int(np.ceil(freedom - 1e-6))
    hope = hope_of(np.sort(ratios[counted])[: max(np.count_nonzero(counted) - paid, 0)])
    worth = ratios
    if len(index) > max(room, 3):
        # Each of the many predictions has had its chance of a neighbor: all of them count, with
        # the share of partners that there can be at most.
        share = PARTNERS * max(room, 3) / len(index)
        worth = np.log(1 - share + share * match_ratios(ratios))
    earned = np.sort(worth)[: max(len(index) - paid, 0)]
    gain = worth[source_match]
    return Growth(
        index[source_match],
        template_match,
        predicted,
        sigma,
        float(earned.sum()),
        float(hope),
        expected,
        freedom,
        gain,
        float(worth.sum() - gain.sum()),
    )


def _supported(
    predicted: FloatArray, matched: IntArray, ratios: FloatArray, counted: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """
    Tell matches that their neighborhood makes likely from strays.

    Where hardly any star has a partner - outside the overlap, or where the map has gone astray - a
    match needs better evidence than among matched stars: its posterior odds, with the share of
    matched stars around it as the prior, must be better than even.
    """
    pool = np.flatnonzero(counted)
    supported = np.ones(len(matched), bool)
    if len(pool) <= 2 * _SUPPORT or not len(matched):
        return supported
    evidence = match_ratios(ratios[matched])
    least = 0.5 / (_SUPPORT + 1)  # the prior where no neighbor has a partner
    doubtful = np.flatnonzero(evidence * least <= 1 - least)
    if not len(doubtful):
        return supported
    has_partner = np.zeros(len(predicted), bool)
    has_partner[matched] = True
    _, near = Neighbors(predicted[pool]).nearest(predicted[matched[doubtful]], k=_SUPPORT + 1)
    others = np.count_nonzero(has_partner[pool[near]], axis=1) - 1
    prior = (others + 0.5) / (_SUPPORT + 1)
    supported[doubtful] = evidence[doubtful] * prior > 1 - prior
    return supported
