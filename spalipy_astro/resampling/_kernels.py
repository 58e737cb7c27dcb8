"""The interpolation kernels: their weights, as the compiled loops take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["KERNELS", "Kernel"]

FloatArray = NDArray[np.float64]

_STEPS = 2048  # of the tables: linear interpolation between them is good to 2e-7


def _box(t: FloatArray) -> FloatArray:
    """Return the nearest-neighbor kernel."""
    return np.ones_like(t)


def _triangle(t: FloatArray) -> FloatArray:
    """Return the linear kernel."""
    return np.maximum(1 - t, 0)


def _keys(t: FloatArray) -> FloatArray:
    """Return the cubic convolution kernel with a = -1/2, exact for parabolas (Keys 1981)."""
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0))


def _lanczos(t: FloatArray) -> FloatArray:
    """Return the sinc function windowed by its own central lobe, three times as wide."""
    return np.where(t < 3, np.sinc(t) * np.sinc(t / 3), 0)


@dataclass(frozen=True)
class Kernel:
    """
    A separable interpolation kernel.

    Its weights are the profile's, plus a smooth window times the polynomial that makes them
    reproduce polynomials up to a degree. That adds nothing to the cubic kernel. The plain Lanczos
    kernel shifts a star by 0.013 px (rms over phases, FWHM 2.2 to 3 px), the corrected one by less
    than 0.001 px, with the same sharpness.

    Attributes
    ----------
    taps : int
        Number of weights along each axis.
    lanes : int
        The same, rounded up to a power of two.
    degree : int
        Degree of the polynomials.
    profile : callable
        Weight by distance in pixels.
    """

    taps: int
    lanes: int
    degree: int
    profile: Callable[[FloatArray], FloatArray]

    @property
    def radius(self) -> float:
        """Half of the support in pixels."""
        return self.taps / 2

    def _weights(self, steps: int) -> FloatArray:
        """Weights by phase, (steps + 1, taps)."""
        phase = np.arange(steps + 1) / steps
        t = np.arange(self.taps) - (self.taps - 1) // 2 - phase[:, np.newaxis]
        weights = self.profile(np.abs(t))
        weights /= weights.sum(axis=1, keepdims=True)
        if self.degree > 0:
            powers = t[..., np.newaxis] ** np.arange(self.degree + 1)
            window = np.maximum(np.sinc(t / self.radius), 0)[..., np.newaxis] * powers
            missing = np.eye(self.degree + 1)[0] - np.einsum("ptk,pt->pk", powers, weights)
            moments = np.einsum("ptk,ptl->pkl", powers, window)
            factors = np.linalg.solve(moments, missing[..., np.newaxis])
            weights += (window @ factors)[..., 0]
        weights[np.abs(weights) < 1e-14] = 0  # the sinc function at integers
        return weights

    def table(self) -> FloatArray:
        """Weights by phase, (steps + 2, lanes), for linear interpolation."""
        weights = self._weights(_STEPS if self.taps > 2 else 1)  # linear weights need no steps
        # one more row: positions just under the next pixel can round up to it
        return np.pad(weights, ((0, 1), (0, self.lanes - self.taps)), mode="edge") * (
            np.arange(self.lanes) < self.taps
        )

    def factors(self, steps: int) -> FloatArray:
        """
        Return the weights to average with, at ``steps`` steps to an output pixel.

        They run from the center of a pixel to both sides. Their sums over all output pixels are
        the same for each step: no flux is lost. Linear interpolation goes with a linear kernel,
        which has no negative weights, the others with the cubic one, which keeps second moments,
        and so the widths of stars.
        """
        profile, radius = (_triangle, 1) if self.taps == 2 else (_keys, 2)
        ends = radius * steps - 1 if steps > 1 else 0
        return profile(np.abs(np.arange(-ends, ends + 1)) / steps) / steps


KERNELS = {
    "nearest": Kernel(1, 1, 0, _box),
    "bilinear": Kernel(2, 2, 0, _triangle),
    "bicubic": Kernel(4, 4, 2, _keys),
    "lanczos3": Kernel(6, 8, 3, _lanczos),
}
