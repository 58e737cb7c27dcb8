"""Which of many frames is the best template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spalipy_astro._geometry import inside, spread
from spalipy_astro.alignment import flux_ratio
from spalipy_astro.errors import AlignmentError, NoMatchError
from spalipy_astro.fitting import fit_linear
from spalipy_astro.matching import Match, match_stars
from spalipy_astro.registration import StarFrame

__all__ = ["Choice", "best_template"]

_JURY = 5  # frames spread over the sequence that others are matched with
_CANDIDATES = 8  # of the frames that look best by themselves
_GRID = 24  # positions along a side at which the overlap of frames is counted


@dataclass(frozen=True)
class Choice:
    """
    The template that was chosen.

    Attributes
    ----------
    key : int
        Which frame.
    reason : str
        Why, in words.
    """

    key: int
    reason: str


@dataclass(frozen=True)
class _Candidate:
    """A frame of the right sky, and what speaks for it."""

    key: int
    common: int  # stars in common with the jury
    overlap: float  # mean share of the jury's frames that it shows
    fwhm: float  # px of the hub
    ellipticity: float
    depth: float  # in flux of the hub

    @property
    def score(self) -> tuple[bool, float]:
        """
        How good it is: whether that is known, and its natural logarithm.

        Without pixels common stars decide; a frame that does not tell comes after those that do.
        """
        own = _merit(self.fwhm, self.ellipticity, self.depth)
        if np.isfinite(own):
            return True, own + float(np.log(max(self.overlap, 1e-9)))
        return False, float(np.log(max(self.common, 1)))


def best_template(frames: Mapping[int, StarFrame]) -> Choice:
    """
    Choose the frame to which the others are best aligned.

    Parameters
    ----------
    frames : mapping of int to StarFrame
        At least one.

    Returns
    -------
    Choice

    Raises
    ------
    NoMatchError
        If no two of the frames that were tried show the same sky.

    Notes
    -----
    Frames that look best by themselves may be those of another field, or full of artifacts. So a
    few frames, spread over the sequence, are matched with each other; the one that has most stars
    in common with the others is asked of which sky a frame is. Among the frames of that sky that
    look best, the one is chosen whose product of depth (on one flux scale, so that clouds count),
    sharpness, roundness and overlap with the few is largest. Of lists of stars, which have no
    depth, it is the one with most stars in common with the few.
    """
    if len(frames) == 1:
        return Choice(next(iter(frames)), "the only frame with stars")
    keys = sorted(frames)
    places = np.unique(np.linspace(0, len(keys) - 1, _JURY).round().astype(int))
    jury = [keys[place] for place in places]
    votes = np.zeros((len(jury), len(jury)), int)
    for i, one in enumerate(jury):
        for j in range(i):
            votes[i, j] = votes[j, i] = _common_stars(frames[one], frames[jury[j]])
    place = int(votes.sum(axis=1).argmax())
    if not votes[place].any():
        raise NoMatchError(
            f"no two of {len(jury)} frames, spread evenly over the sequence, show the same stars; "
            "name the template."
        )
    hub = frames[jury[place]]
    jury = [jury[k] for k in np.flatnonzero(votes[place])] + [jury[place]]
    onto_hub = {key: _placed(frames[key], hub) for key in jury}
    candidates: list[_Candidate] = []
    for key in sorted(keys, key=lambda key: _promise(frames[key]), reverse=True):
        seen = onto_hub[key] if key in onto_hub else _placed(frames[key], hub)
        if seen is None:
            continue
        others = [frames[other] for other in jury if other != key]
        common = [_common_stars(frames[key], other) for other in others]
        seats = [onto for onto in onto_hub.values() if onto is not None]
        candidates.append(
            _Candidate(
                key,
                sum(common) * len(jury) // len(common),
                float(np.mean([_overlap(seen, seat) for seat in seats])),
                frames[key].quality.get("fwhm", np.nan) * seen.scale,
                frames[key].quality.get("ellipticity", np.nan),
                frames[key].quality.get("depth", np.nan) / seen.flux_ratio,
            )
        )
        if len(candidates) == _CANDIDATES:
            break
    best = max(candidates, key=lambda one: (one.score, -one.key))
    return Choice(best.key, _why(best, candidates, len(frames)))


def _promise(frame: StarFrame) -> tuple[bool, float]:
    """Tell from a frame alone how good it may be: many stars, sharp, round, little noise."""
    number = float(np.log(max(len(frame.stars), 1)))
    own = _merit(*(frame.quality.get(name, np.nan) for name in ("fwhm", "ellipticity", "depth")))
    return (True, number + own) if np.isfinite(own) else (False, number)


def _merit(fwhm: float, ellipticity: float, depth: float) -> float:
    """Return the logarithm of how sharp, round and deep a frame is; NaN where that is not known."""
    with np.errstate(divide="ignore", invalid="ignore"):
        merit = float(-np.log(depth) - np.log(fwhm) + np.log1p(-ellipticity))
    return merit if np.isfinite(merit) else np.nan


@dataclass(frozen=True)
class _Placed:
    """How a frame lies on the hub."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    box: tuple[int, int]
    flux_ratio: float

    @property
    def scale(self) -> float:
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))


def _placed(frame: StarFrame, hub: StarFrame) -> _Placed | None:
    """Match a frame with the hub; None if it shows another sky."""
    box = frame.shape
    if box is None:
        nx, ny = np.ceil(frame.stars.xy.max(axis=0)).astype(int) + 1
        box = (int(ny), int(nx))
    if frame is hub:
        return _Placed(np.eye(2), np.zeros(2), box, 1.0)
    match = _matched(frame, hub)
    if match is None:
        return None
    one, two = frame.stars.take(match.source), hub.stars.take(match.template)
    matrix, offset = fit_linear(one.xy, two.xy, kind="similarity")
    pairs = Table(
        {
            "flux_source": one.flux,
            "flux_template": two.flux,
            "used": np.ones(len(one), bool),
        }
    )
    return _Placed(matrix, offset, box, flux_ratio(pairs)[0])


def _overlap(seen: _Placed, seat: _Placed) -> float:
    """Return the share of a juror's frame that a frame shows."""
    on_hub = np.column_stack(spread(seat.box, _GRID)) @ seat.matrix.T + seat.offset
    x, y = np.linalg.solve(seen.matrix, (on_hub - seen.offset).T)
    return float(np.mean(inside(x, y, seen.box)))


def _matched(one: StarFrame, two: StarFrame) -> Match | None:
    try:
        return match_stars(one.field, two.field, source_shape=one.shape, template_shape=two.shape)
    except AlignmentError:
        return None


def _common_stars(one: StarFrame, two: StarFrame) -> int:
    """Return how many stars two frames have in common."""
    match = _matched(one, two)
    return 0 if match is None else len(match.source)


def _why(best: _Candidate, candidates: list[_Candidate], n_frames: int) -> str:
    """Say what speaks for the frame that was chosen."""
    of = f"best of {len(candidates)} candidates among {n_frames} frames"
    if not np.isfinite(best.depth * best.fwhm):
        return f"{of}: about {best.common} stars in common with frames spread over the sequence"
    middle = {
        name: float(np.nanmedian([getattr(one, name) for one in candidates]))
        for name in ("fwhm", "depth")
    }
    return (
        f"{of}: FWHM {best.fwhm:.2f} px (median of the candidates {middle['fwhm']:.2f}), limiting "
        f"flux {best.depth / middle['depth']:.2f} of their median, ellipticity "
        f"{best.ellipticity:.2f}, overlap {best.overlap:.0%}"
    )
