"""An image and its known properties: sky, noise, gain and saturation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _compiled
from spalipy_astro.detection._background import Background
from spalipy_astro.detection._medians import median
from spalipy_astro.detection._pixels import PixelSource, find_pile_up
from spalipy_astro.detection._trails import Trail

__all__ = ["PROBE_STARS", "Exposure", "Squares"]

PROBE_STARS = 400

_PEAK_RADIUS = 4

Squares = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]


class Exposure(NamedTuple):
    """The image and its known properties; ``hot`` if it has more hot pixels than stars."""

    source: PixelSource
    background: Background
    inverse_gain: float
    saturation: float
    model_error: float = 0.01
    trails: tuple[Trail, ...] = ()
    hot: bool = False

    def cutouts(self, pixel: NDArray, radius: int) -> Squares:
        """Squares around pixels less the sky, their sky variance, and where they saturate.

        Bad and saturated pixels are NaN.
        """
        x, y = pixel.T
        stamps = self.source.squares(x, y, radius)
        saturated = np.empty(stamps.shape, dtype=bool)
        level, noise = self.background.at(x, y)
        _compiled.level_squares(stamps, level.astype(np.float32), self.saturation, saturated)
        if self.source.error is not None:
            variance = self.source.variances(x, y, radius)
        else:
            variance = (noise.astype(np.float32) ** 2)[:, None, None]
        return stamps, variance, saturated

    def find_saturation(self, pixel: NDArray) -> Exposure:
        """Set the saturation level, if it is not known, from the brightest sources."""
        if np.isfinite(self.saturation) or len(pixel) == 0:
            return self
        x, y = pixel[:PROBE_STARS].T
        stamps = self.source.stamps(x, y, _PEAK_RADIUS)
        sky = median(self.background.level)
        largest = float(np.fmax.reduce(stamps, axis=None))
        if not largest > sky:
            return self
        bright = np.flatnonzero(stamps >= sky + 0.5 * (largest - sky))
        k, i, j = np.unravel_index(bright, stamps.shape)
        # squares overlap: count pixels, not their copies
        _, first = np.unique((y[k] + i) * 2**32 + x[k] + j, return_index=True)
        values = stamps.ravel()[bright[first]]
        return self._replace(saturation=find_pile_up(values, sky, self.source))
