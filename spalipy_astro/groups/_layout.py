"""What frames share, and the maps to start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.alignment import Alignment
from spalipy_astro.fitting import SplineSpace
from spalipy_astro.groups._graph import apply, compose, invert
from spalipy_astro.groups._solution import Layout, Solution
from spalipy_astro.registration import StarFrame

__all__ = ["Labels", "frame_of", "start"]

FloatArray = NDArray[np.float64]

_CELLS, _DEGREE = 3, 3
_SKY = -1  # the number of the chip, the exposure and the camera of a catalog
_IDENTITY = np.vstack((np.zeros(2), np.eye(2)))


@dataclass(frozen=True)
class Labels:
    """
    What frames share.

    Attributes
    ----------
    cameras, chips, exposures : sequence of int or None
        A number per frame. Without them a frame has its own.
    known : mapping of int to Alignment
        Of some cameras the distortion, which is not solved for.
    sky : int, optional
        The index at which a catalog of the sky stands among the frames.
    """

    cameras: Sequence[int] | None = None
    chips: Sequence[int] | None = None
    exposures: Sequence[int] | None = None
    known: Mapping[int, Alignment] = field(default_factory=dict)
    sky: int | None = None

    @property
    def apart(self) -> bool:
        """Whether frames are related to the reference's pixels, not to those of a flat camera."""
        return self.cameras is None and self.chips is None

    def exposure(self, k: int) -> int:
        return _SKY if k == self.sky else k if self.exposures is None else self.exposures[k]

    def chip(self, k: int) -> int:
        return _SKY if k == self.sky else 0 if self.chips is None else self.chips[k]

    def camera(self, k: int) -> int:
        if k == self.sky:
            return _SKY
        if self.cameras is not None:
            return self.cameras[k]
        return k if self.chips is None else self.chips[k]


def frame_of(frames: Sequence[StarFrame | None], k: int) -> StarFrame:
    """Return a frame that is there."""
    frame = frames[k]
    assert frame is not None
    return frame


def start(
    frames: Sequence[StarFrame | None],
    placed: Mapping[int, FloatArray],
    root: int,
    labels: Labels,
) -> Solution:
    """
    Return affine maps of frames that are placed, in the form of what they share.

    Parameters
    ----------
    frames : sequence of StarFrame or None
    placed : mapping of int to ndarray, shape (3, 2)
        The affine map of each frame, px of the root.
    root : int
        The reference.
    labels : Labels

    Returns
    -------
    Solution
    """
    names = sorted(placed)
    exposure = {k: labels.exposure(k) for k in names}
    chip = {k: labels.chip(k) for k in names}
    camera = {k: labels.camera(k) for k in names}
    middle, radius, half = _sides(frames, camera, labels.sky)
    straight = {_SKY, *labels.known}
    if labels.apart:
        straight.add(camera[root])
    plain = {
        k: np.vstack((apply(placed[k], middle[k][np.newaxis]), radius * placed[k][1:]))
        for k in names
    }
    first = {exposure[root]: plain[root]}
    second = {_SKY: _IDENTITY}
    fixed = {_SKY}
    while True:
        before = len(first), len(second)
        for k in names:
            if exposure[k] in first and chip[k] not in second and len(second) > 1:
                second[chip[k]] = compose(plain[k], invert(first[exposure[k]]))
            elif chip[k] in second and exposure[k] not in first:
                first[exposure[k]] = compose(invert(second[chip[k]]), plain[k])
        if (len(first), len(second)) != before:
            continue
        # of chips that no exposure relates to the others one stays where it is, too
        loose = next((k for k in (root, *names) if chip[k] not in second), None)
        if loose is None:
            break
        fixed.add(chip[loose])
        second[chip[loose]] = _IDENTITY
    layout = Layout(
        exposure,
        chip,
        camera,
        exposure[root],
        frozenset(fixed),
        frozenset(straight),
        {c: a.transform for c, a in labels.known.items()},
        middle,
        radius,
        half / radius,
        SplineSpace.covering(np.vstack((-half, half)) / radius, _CELLS, _DEGREE),
    )
    return Solution(layout, first, second)


def _sides(
    frames: Sequence[StarFrame | None], camera: Mapping[int, int], sky: int | None
) -> tuple[dict[int, FloatArray], float, FloatArray]:
    """Return the middle of each frame, half their diagonal, and half their width and height."""
    box: dict[int, list[FloatArray]] = {}
    for k, name in camera.items():
        frame = frame_of(frames, k)
        if frame.shape is None:
            corners = np.vstack((frame.stars.xy.min(axis=0), frame.stars.xy.max(axis=0)))
        else:
            corners = np.array([[0.0, 0.0], [frame.shape[1] - 1.0, frame.shape[0] - 1.0]])
        box.setdefault(name, []).append(corners)
    sides = {
        c: np.vstack((np.min([b[0] for b in all_], axis=0), np.max([b[1] for b in all_], axis=0)))
        for c, all_ in box.items()
    }
    middle = {k: sides[c].mean(axis=0) for k, c in camera.items()}
    half = np.max(
        [(s[1] - s[0]) / 2 for c, s in sides.items() if sky is None or c != camera.get(sky)],
        axis=0,
    )
    return middle, float(np.hypot(*half)), half
