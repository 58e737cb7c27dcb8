"""What the priors allow, of hypotheses and of results, and how many hypotheses they leave."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from spalipy_astro._checks import choice, positive_number, rotation_range, scale_range
from spalipy_astro.matching._starfield import StarField

__all__ = ["Bounds", "Priors"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# What a pattern of a few stars may miss the priors by; what comes of it may not.
_SLACK_SCALE = 1.05
_SLACK_ROTATION = 3.0  # degrees
_SLACK_SHIFT = 0.05  # of the half diagonal of the source
# What a result may miss them by: a prior is rarely meant to the last digit.
_SCALE_TOLERANCE = 1.005
_ROTATION_TOLERANCE = 0.5  # degrees
_SHIFT_TOLERANCE = 0.5  # px
# The logarithm of the ratio of the distances of two random pairs of points has nowhere a larger
# density: at most 0.55 in a square, 0.50 in a normal cluster, 0.34 on a line (simulated).
_RATIO_DENSITY = 0.6


@dataclass(frozen=True)
class Priors:
    """
    What is known of the transform beforehand.

    Quantities are converted to plain numbers.

    Attributes
    ----------
    scale : tuple of float
        Smallest and largest template px per source px.
    rotation : tuple of float, optional
        Smallest and largest angle, degrees counter-clockwise from source to template (for a
        mirrored transform: of the image of the source's x axis). Angles that differ by 360 are
        one.
    parity : {1, -1}, optional
        -1 for a mirrored transform.
    max_shift : float, optional
        Largest distance of the source frame's center from ``target``, px; of lists without a
        frame, the largest distance of the image of a position from that position, where it is
        smallest.
    target : tuple of float, optional
        Where in the template the center of the source frame is expected; by default the center.

    Raises
    ------
    TypeError, ValueError
        If one of them makes no sense.
    """

    scale: tuple[float, float] = (0.1, 10.0)
    rotation: tuple[float, float] | None = None
    parity: int | None = None
    max_shift: float | None = None
    target: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        plain: dict[str, object] = {"scale": scale_range(self.scale)}
        if self.rotation is not None:
            plain["rotation"] = rotation_range(self.rotation)
        plain["parity"] = choice("parity", self.parity, (None, 1, -1), "1, -1 or None")
        if self.max_shift is not None:
            distance = "a positive distance in px"
            plain["max_shift"] = positive_number("max_shift", self.max_shift, distance, u.pix)
        for name, value in plain.items():
            object.__setattr__(self, name, value)


class Bounds:
    """
    Priors, applied to two star lists.

    Parameters
    ----------
    priors : Priors
    source, template : StarField
    source_shape, template_shape : tuple of int, optional
        Shapes ``(ny, nx)`` of the images, for lists that do not fill them.

    Attributes
    ----------
    frame : ndarray, shape (2, 2)
        Corners (lower, upper) of the template's frame.
    """

    def __init__(
        self,
        priors: Priors,
        source: StarField,
        template: StarField,
        source_shape: tuple[float, float] | None,
        template_shape: tuple[float, float] | None,
    ) -> None:
        self.priors = priors
        self.frame = _frame(template.xy, template_shape)
        self._sizes = len(source), len(template)
        self._source_frame = source_frame = _frame(source.xy, source_shape)
        self.center = source_frame.mean(axis=0)
        self._extents = np.ptp(source_frame, axis=0), np.ptp(self.frame, axis=0)
        self._half = 0.5 * float(np.hypot(*self._extents[0]))
        self._target = None
        if priors.target is not None:
            self._target = complex(*priors.target)
        elif source_shape is not None and template_shape is not None:
            self._target = complex(*self.frame.mean(axis=0))
        grid = np.linspace(source_frame[0], source_frame[1], 9)
        x, y = np.meshgrid(grid[:, 0], grid[:, 1])
        self._positions = (x + 1j * y).ravel()

    def narrowed(self, priors: Priors, n_source: int, n_template: int) -> Bounds:
        """Return the same frames with other priors and numbers of stars."""
        other = copy(self)
        other.priors, other._sizes = priors, (n_source, n_template)
        return other

    def allow(
        self, a: NDArray[np.complex128], b: NDArray[np.complex128], mirrored: BoolArray
    ) -> BoolArray:
        """Tell which similarities ``a * z + b`` may lead to a result within the priors."""
        scale = np.abs(a)
        low, high = self.priors.scale
        good = (scale >= low / _SLACK_SCALE) & (scale <= high * _SLACK_SCALE)
        good &= self._turned_by(np.rad2deg(np.angle(a))) <= _SLACK_ROTATION
        if self.priors.max_shift is not None:
            shift = np.full(len(a), np.inf)
            rows = np.flatnonzero(good)
            shift[rows] = self._shifts(a[rows], b[rows], mirrored[rows])
            good &= shift <= self.priors.max_shift + _SLACK_SHIFT * self._half * np.maximum(
                scale, 1
            )
        return good

    def objection(self, matrix: FloatArray, offset: FloatArray, tolerance: float) -> str | None:
        """
        Say which of the priors a result breaks.

        Parameters
        ----------
        matrix : ndarray, shape (2, 2)
        offset : ndarray, shape (2,)
            The result is ``template = matrix @ source + offset`` about the middle of the source.
        tolerance : float
            Relative error of the matrix.

        Returns
        -------
        str or None
            None where it keeps to all of them.
        """
        scales = np.linalg.svd(matrix, compute_uv=False)
        low, high = self.priors.scale
        slack = _SCALE_TOLERANCE + 3 * tolerance
        if scales[1] * slack < low or scales[0] > high * slack:
            return f"its scale of {np.sqrt(scales.prod()):.4g} is outside scale=({low:g}, {high:g})"
        parity = 1 if np.linalg.det(matrix) > 0 else -1
        if self.priors.parity is not None and parity != self.priors.parity:
            return f"its parity is {parity}"
        angle = float(np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0])))
        if self._turned_by(np.array([angle]))[0] > _ROTATION_TOLERANCE + np.rad2deg(3 * tolerance):
            low, high = self.priors.rotation or (0, 360)
            return f"its rotation of {angle:.2f} degrees is outside rotation=({low:g}, {high:g})"
        if self.priors.max_shift is not None:
            shift = self._shift_of(matrix, offset)
            allowance = _SHIFT_TOLERANCE + 3 * tolerance * self._half * float(scales[0])
            if shift > self.priors.max_shift + allowance:
                return f"its shift of {shift:.1f} px is above max_shift={self.priors.max_shift:g}"
        return None

    def log_trials(self) -> float:
        """
        Return the logarithm of the number of hypotheses that are possible by chance.

        Notes
        -----
        Two stars of each list fix a similarity: 2 n (n - 1) m (m - 1) of both parities. Chance
        meets what is known of rotation, scale and shift with a probability that follows from the
        frames: at most the range's share of the circle, the width of the range of the scale's
        logarithm times the largest density that the ratio of two random distances has, and the
        area that the shift leaves over that of the larger frame. The expected number of hypotheses
        may be far below one: what is known of the transform is evidence.
        """
        n, m = self._sizes
        trials = 2.0 * n * (n - 1) * m * (m - 1)
        low, high = self.priors.scale
        trials *= min(1.0, _RATIO_DENSITY * np.log(high / low * _SLACK_SCALE**2))
        if self.priors.parity is not None:
            trials /= 2
        widest = np.pi
        if self.priors.rotation is not None:
            low, high = self.priors.rotation
            trials *= min(1.0, (high - low + 2 * _SLACK_ROTATION) / 360)
            ends = np.deg2rad([low, high])
            if high - low < 180 and self.priors.parity != -1:
                widest = float(np.abs(np.angle(np.exp(1j * ends))).max())
        if self.priors.max_shift is not None:
            reach = self.priors.max_shift + _SLACK_SHIFT * self._half
            if self._target is None:
                # that the shift is small somewhere tells less of the center's
                stretch = max(abs(s - 1) for s in self.priors.scale)
                reach += self._half * (2 * np.sin(widest / 2) + stretch)
            smallest = self.priors.scale[0] * float(self._extents[0].min())
            area = float(np.prod(np.maximum(self._extents[1], smallest)))
            trials *= min(1.0, np.pi * reach**2 / max(area, 1e-12))
        return float(np.log(trials))

    def _shift_of(self, matrix: FloatArray, offset: FloatArray) -> float:
        """Distance of the center's image from its target, or the smallest of any position."""
        if self._target is not None:
            image = matrix @ self.center + offset
            return float(abs(complex(*image) - self._target))
        points = np.column_stack((self._positions.real, self._positions.imag))
        # the displacement is smallest at the fixed point, or about where that is nearest
        fixed = np.linalg.lstsq(np.eye(2) - matrix, offset, rcond=1e-9)[0]
        points = np.vstack((points, np.clip(fixed, *self._source_frame)))
        return float(np.hypot(*(points @ (matrix - np.eye(2)).T + offset).T).min())

    def _turned_by(self, angle: FloatArray) -> FloatArray:
        """How far angles lie outside the range of rotations, degrees."""
        if self.priors.rotation is None:
            return np.zeros(len(angle))
        low, high = self.priors.rotation
        middle, reach = (low + high) / 2, (high - low) / 2
        return np.maximum(np.abs((angle - middle + 180) % 360 - 180) - reach, 0.0)

    def _shifts(
        self, a: NDArray[np.complex128], b: NDArray[np.complex128], mirrored: BoolArray
    ) -> FloatArray:
        """Distance of the center's image from its target, or the smallest of any position."""
        if self._target is not None:
            center = complex(*self.center)
            image = a * np.where(mirrored, center.conjugate(), center) + b
            return np.abs(image - self._target)
        z = np.repeat(self._positions[np.newaxis], len(a), axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            fixed = np.where(mirrored | (a == 1), self._positions[0], b / (1 - a))
        (left, low), (right, high) = self._source_frame
        fixed = np.clip(fixed.real, left, right) + 1j * np.clip(fixed.imag, low, high)
        z = np.column_stack((z, fixed))
        images = a[:, np.newaxis] * np.where(mirrored[:, np.newaxis], z.conj(), z)
        return np.abs(images + b[:, np.newaxis] - z).min(axis=1)


def _frame(xy: FloatArray, shape: tuple[float, float] | None) -> FloatArray:
    """Return the corners of the frame: of the image, or of the box around the stars."""
    if shape is not None:
        return np.array([[-0.5, -0.5], [shape[1] - 0.5, shape[0] - 0.5]])
    return np.array([xy.min(axis=0), xy.max(axis=0)])
