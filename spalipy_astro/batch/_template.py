"""Which of many frames is the best template."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from spalipy_astro.errors import AlignmentError, NoMatchError
from spalipy_astro.matching import match_stars
from spalipy_astro.registration import StarFrame

__all__ = ["best_template"]

_JURY = 5  # frames spread over the sequence that others are matched with
_CANDIDATES = 3  # of the frames with most stars


def best_template(frames: Mapping[int, StarFrame]) -> int:
    """
    Choose the frame that has most stars in common with others.

    Parameters
    ----------
    frames : mapping of int to StarFrame
        At least one.

    Returns
    -------
    int
        A key of `frames`.

    Raises
    ------
    NoMatchError
        If no two of the frames that were tried show the same sky.

    Notes
    -----
    Frames with most stars may be those of another field, or full of artifacts. So a few frames are
    matched with each other; the one that has most stars in common with the others is asked of which
    sky a frame is, and of those with most stars that pass, the one that the few have most stars in
    common with is the best.
    """
    if len(frames) == 1:
        return next(iter(frames))
    keys = sorted(frames)
    places = np.unique(np.linspace(0, len(keys) - 1, _JURY).round().astype(int))
    jury = [keys[place] for place in places]
    votes = np.zeros((len(jury), len(jury)), int)
    for i, one in enumerate(jury):
        for j in range(i):
            votes[i, j] = votes[j, i] = _common_stars(frames[one], frames[jury[j]])
    hub = int(votes.sum(axis=1).argmax())
    if not votes[hub].any():
        raise NoMatchError(
            f"no two of {len(jury)} frames, spread evenly over the sequence, show the same stars; "
            "name the template."
        )
    jury = [jury[k] for k in np.flatnonzero(votes[hub])] + [jury[hub]]
    scores: dict[int, int] = {}
    for key in sorted(keys, key=lambda key: (-len(frames[key].stars), key)):
        if key == jury[-1] or _common_stars(frames[key], frames[jury[-1]]):
            others = [frames[other] for other in jury if other != key]
            common = [_common_stars(frames[key], other) for other in others]
            scores[key] = sum(common) * len(jury) // len(common)
        if len(scores) == _CANDIDATES:
            break
    return max(scores, key=lambda key: (scores[key], -key))


def _common_stars(one: StarFrame, two: StarFrame) -> int:
    """Return how many stars two frames have in common."""
    try:
        match = match_stars(one.field, two.field, source_shape=one.shape, template_shape=two.shape)
    except AlignmentError:
        return 0
    return len(match.source)
