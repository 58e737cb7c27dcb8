"""Last look at a fitted transform: what cannot be defended is refused in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spalipy_astro._geometry import inside, spread
from spalipy_astro.errors import NoMatchError
from spalipy_astro.fitting import Fit
from spalipy_astro.models import jacobian_determinant

__all__ = ["Box", "good_box", "verify"]

FloatArray = NDArray[np.float64]
Box = tuple[float, float, float, float]

_LOOKED_AT = 2000  # brightest stars at which the error is predicted
_GRID = 17  # points along each side of the template at which a transform is looked at
_MOST_ERROR = 5.0  # px: median predicted error over the overlap
_MOST_ERROR_RIGID = 20.0  # ... of a similarity, which says that there is no distortion to miss
_STILL = 0.5  # px: rms motion of what stands still on the detector
_CONFINED = 0.1  # probability that stars spread over the frame leave as much of it empty
_STEP = 8  # rows and columns looked at for where good pixels are


def good_box(data: NDArray, mask: NDArray[np.bool_] | None) -> Box:
    """
    Return where an image has good pixels.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
    mask : ndarray of bool or None
        True where a pixel is bad.

    Returns
    -------
    tuple of float
        Smallest x, smallest y, largest x and largest y, px, to within a few pixels.
    """
    some = np.s_[::_STEP, ::_STEP]
    good = np.isfinite(data[some])
    if mask is not None:
        good &= ~mask[some]
    rows, columns = np.flatnonzero(good.any(axis=1)), np.flatnonzero(good.any(axis=0))
    if not len(rows):
        return -0.5, -0.5, data.shape[1] - 0.5, data.shape[0] - 0.5
    low = columns[0] * _STEP, rows[0] * _STEP
    high = (
        min((columns[-1] + 1) * _STEP, data.shape[1]) - 1,
        min((rows[-1] + 1) * _STEP, data.shape[0]) - 1,
    )
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def verify(
    fit: Fit,
    source_xy: FloatArray,
    template_xy: FloatArray,
    *,
    source_shape: tuple[int, int] | None,
    template_shape: tuple[int, int] | None,
    boxes: tuple[Box, Box] | None,
    log_odds: float,
    rigid: bool = False,
) -> None:
    """
    Raise unless a fitted transform can be believed where the two frames overlap.

    Parameters
    ----------
    fit : Fit
    source_xy, template_xy : ndarray, shape (M, 2)
        The matched stars.
    source_shape, template_shape : tuple of int or None
        Shapes of the images; of lists None, and then the region of the matched stars counts.
    boxes : tuple of Box or None
        Where both images have good pixels, for frames that might show what stands still on a
        detector; None where it is known that the frames show the same part of the sky.
    log_odds : float
        Of the match, for the error.
    rigid : bool, optional
        Whether the user knows that the transform is a similarity.

    Raises
    ------
    NoMatchError
        If the transform folds the image over, if its error is predicted to be large, or if all that
        was matched stands still and lies in one part of the frame, as a landscape does.
    """
    points = _overlap(fit, template_xy, source_shape, template_shape)
    determinant = jacobian_determinant(fit.backward, *points.T)
    scale = 1 / np.sqrt(abs(np.linalg.det(fit.matrix)))
    n = len(source_xy)
    if np.any(np.sign(determinant) != np.sign(np.linalg.det(fit.matrix))):
        raise NoMatchError(
            f"the transform through {n} matched stars folds the image over where the two overlap; "
            "affine='similarity' or spline_order=0 fits one that cannot.",
            log_odds,
        )
    some = np.concatenate((points[: min(n, _LOOKED_AT)], points[n:]))
    error = float(np.median(fit.covariance.error(some))) * np.sqrt(2) * scale
    if not error <= (_MOST_ERROR_RIGID if rigid else _MOST_ERROR) * max(scale, 1.0):
        raise NoMatchError(
            f"the transform through {n} matched stars is uncertain by {error:.1f} px over the "
            "overlap of the two frames; a lower detection threshold gives more stars, and "
            "affine='similarity' or spline_order=0 needs fewer of them.",
            log_odds,
        )
    motion = fit.matrix @ template_xy.T + fit.offset[:, np.newaxis] - template_xy.T
    still = np.sqrt(np.mean(np.sum(motion**2, axis=0))) < _STILL
    if boxes is not None and still and _confined(template_xy, boxes):
        low, high = template_xy.min(axis=0), template_xy.max(axis=0)
        raise NoMatchError(
            f"all {n} matched stars stand still, and lie between x = {low[0]:.0f} and "
            f"{high[0]:.0f}, y = {low[1]:.0f} and {high[1]:.0f}: this may be a landscape or "
            "something else that does not move with the sky. Give a mask that hides it, or "
            "max_shift=1 if the frames are aligned already.",
            log_odds,
        )


def _overlap(
    fit: Fit,
    template_xy: FloatArray,
    source_shape: tuple[int, int] | None,
    template_shape: tuple[int, int] | None,
) -> FloatArray:
    """Return template positions in the overlap, shape (N, 2), the stars' among them."""
    if source_shape is None or template_shape is None:
        return template_xy
    x, y = spread(template_shape, _GRID)
    source_x, source_y = fit.backward(x, y)
    there = inside(source_x, source_y, source_shape)
    return np.concatenate((template_xy, np.column_stack((x, y))[there]))


def _confined(xy: FloatArray, boxes: tuple[Box, Box]) -> bool:
    """Whether positions leave more of a frame empty on one side than chance does."""
    low = np.maximum(boxes[0][:2], boxes[1][:2])
    high = np.minimum(boxes[0][2:], boxes[1][2:])
    size = np.maximum(high - low, 1.0)
    empty = np.concatenate(((xy.min(axis=0) - low) / size, (high - xy.max(axis=0)) / size))
    filled = 1 - float(np.clip(empty.max(), 0.0, 1.0))
    return 4 * filled ** len(xy) < _CONFINED and filled < 0.75
