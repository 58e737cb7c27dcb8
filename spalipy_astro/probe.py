"""What the stars of an image look like: PSF, photon noise, saturation; private to detection."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spalipy_astro.background import Background, PixelSource
from spalipy_astro.centroids import (
    Fits,
    Profile,
    fit_profile,
    fit_stars,
    noise_law,
    phase_response,
)
from spalipy_astro.peaks import find_peaks

__all__ = ["Frame", "first_guess", "measure_profile", "neighbor_lists"]

_FIRST_FWHM = 2.8
_SHARP_FWHM = 1.0
_MAX_FWHM = 30.0
# Single pixels fitted with a star are narrower than this; stars rarely are.
_SHARPEST = 1.4
_PROBE_STARS = 600
_PSF_STARS = 50


@dataclass(frozen=True)
class Frame:
    """The image and what is known of it."""

    source: PixelSource
    background: Background
    inverse_gain: float
    saturation: float | None
    model_error: float = 0.01
    response: tuple[float, ...] = (1.0,)

    def phases(self, x: NDArray, y: NDArray, radius: int) -> NDArray:
        """Which pixel of the color filter array every pixel of a square is."""
        offset = np.arange(-radius, radius + 1)
        row = 2 * ((y[:, None] + offset) % 2)[:, :, None]
        return row + ((x[:, None] + offset) % 2)[:, None, :]

    def cutouts(self, x: NDArray, y: NDArray, radius: int) -> tuple[NDArray, NDArray, NDArray]:
        """Squares around pixels less the sky, their sky variance, and where they saturate.

        Bad and saturated pixels are NaN.
        """
        stamps = self.source.stamps(x, y, radius)
        saturated = self._saturated(stamps, x - radius, y - radius)
        stamps[saturated] = np.nan
        level, noise = self.background.at(x, y)
        if level.shape[1] == 1:
            level, variance = level[:, :, None], noise[:, :, None] ** 2
        else:
            phase = self.phases(x, y, radius)
            me = np.arange(len(x))[:, None, None]
            level, variance = level[me, phase], noise[me, phase] ** 2
        if self.source.error is not None:
            variance = self.source.variances(x, y, radius)
        stamps -= level.astype(np.float32)
        if len(self.response) == 4:
            response = np.array(self.response, dtype=np.float32)[phase]
            stamps /= response
            variance = variance / response**2
        return stamps, variance.astype(np.float32), saturated

    def _saturated(self, stamps: NDArray, x0: NDArray, y0: NDArray) -> NDArray:
        """Tell which pixels saturate.

        Without a known level it is the largest value if several pixels have it, or if it is the
        end of an integer range.
        """
        limit = self.saturation
        if limit is not None:
            limit -= self.source.pedestal
        elif np.isfinite(stamps).any():
            largest = np.nanmax(stamps)
            dtype = self.source.data.dtype
            top = np.iinfo(dtype).max - self.source.pedestal if dtype.kind in "iu" else np.inf
            k, i, j = np.nonzero(stamps == largest)
            # squares overlap: count pixels, not their copies
            pixels = {(int(a), int(b)) for a, b in zip(x0[k] + j, y0[k] + i, strict=True)}
            if len(pixels) >= 3 or largest >= top:
                sky = float(np.median(self.background.level))
                limit = sky + 0.98 * (float(largest) - sky)
        if limit is None:
            return np.zeros(stamps.shape, dtype=bool)
        with np.errstate(invalid="ignore"):
            return stamps >= limit


def neighbor_lists(x: NDArray, y: NDArray, reach: float) -> tuple[NDArray, NDArray]:
    """For every star the others within ``reach``, as pointers into one index array."""
    pairs = cKDTree(np.column_stack((x, y))).query_pairs(reach, output_type="ndarray")
    first = np.concatenate((pairs[:, 0], pairs[:, 1])).astype(np.int64)
    second = np.concatenate((pairs[:, 1], pairs[:, 0])).astype(np.int64)
    order = np.lexsort((second, first))
    counts = np.bincount(first, minlength=len(x))
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int64), second[order]


@dataclass(frozen=True)
class _Probe:
    """The brightest peaks, ready to be fitted."""

    x: NDArray
    y: NDArray
    start: NDArray
    radius: int
    around: tuple[NDArray, NDArray]

    def fit(
        self, frame: Frame, profile: Profile, start: NDArray, *, inverse_gain: float,
        model_error: float, passes: int,
    ) -> tuple[Fits, NDArray, NDArray, NDArray]:
        """Fit them; return also their stamps, the variance and whether they saturate."""
        n = min(len(self.x), _PROBE_STARS)
        x, y = self.x[:n], self.y[:n]
        stamps, variance, saturated = frame.cutouts(x, y, self.radius)
        fits = fit_stars(
            stamps, variance, np.column_stack((x, y)) - self.radius, start, profile,
            model_error=model_error, radius=self.radius, inverse_gain=inverse_gain,
            neighbors=self.around, passes=passes,
        )
        return fits, stamps, variance, saturated.any(axis=(1, 2))


def _probe(frame: Frame, fwhm: float, threshold: float, every: int) -> _Probe:
    """Find peaks with a filter of the given width."""
    peaks = find_peaks(
        frame.source, frame.background, fwhm=fwhm, threshold=2 * threshold, every=every
    )
    order = np.argsort(-peaks.snr, kind="stable")
    x, y = peaks.x[order], peaks.y[order]
    noise = frame.background.at(x, y)[1].mean(axis=1)
    radius = int(np.ceil(max(2 * fwhm, 3)))
    return _Probe(
        x, y, first_guess(x, y, peaks.snr[order] * noise, fwhm), radius,
        neighbor_lists(x, y, radius + 3 * fwhm),
    )


def measure_profile(
    frame: Frame, threshold: float, fwhm: float | None, fixed_gain: bool
) -> tuple[Frame, Profile]:
    """Measure PSF and noise on the brightest sources that look like stars.

    A cosmic ray or hot pixel is narrower than the PSF or does not fit it, galaxies and blends
    are wider, each in its own way; so the width at which the sources crowd is that of the stars,
    be there ever so few.
    """
    guess = _FIRST_FWHM if fwhm is None else fwhm
    sharpest = _SHARPEST if fwhm is None else 0.5 * fwhm
    every = 4 if frame.source.shape[0] >= 1024 else 1
    while True:
        probe = _probe(frame, guess, threshold, every)
        if len(frame.background.level) == 4:
            frame = replace(frame, response=_first_response(frame, probe))
        fits, stamps, variance, saturated = probe.fit(
            frame, Profile(guess), probe.start.copy(), inverse_gain=0, model_error=0.2, passes=2
        )
        widths = fits.width * guess
        sound = (fits.good > 0.9) & (fits.flux > 0) & ~saturated & (fits.errors[:, 4] < 0.2)
        good = sound & (fits.chi2 < 3) & (widths > sharpest)
        if every > 1 and (good & (fits.snr > 20)).sum() < 60:
            every = 1
        elif good.sum() < 3:
            if fwhm is None and guess != _SHARP_FWHM and _is_undersampled(stamps[sound]):
                guess, sharpest = _SHARP_FWHM, 0.4
                continue
            return frame, Profile(guess)
        else:
            size = _densest(widths[good], (fits.errors[:, 4] / fits.width)[good])
            if fwhm is not None or size < 1.6 * guess or guess >= _MAX_FWHM:
                break
            guess = min(2 * guess, _MAX_FWHM)
    profile = Profile(guess)
    n = len(fits.x)
    start = probe.start.copy()
    for tolerance in (0.2, 0.1):
        spread = np.hypot(tolerance, 2 * fits.errors[:, 4] / fits.width)
        like = good & (np.abs(np.log(fits.width * profile.fwhm / size)) < spread)
        alone = like & (fits.neighbors < 0.05)
        chosen = np.flatnonzero(alone if alone.sum() >= 15 else like)[:_PSF_STARS]
        if len(chosen) < 3:
            break
        x, y = probe.x[chosen], probe.y[chosen]
        place = np.column_stack((fits.x[chosen] - x, fits.y[chosen] - y))
        place = np.column_stack((place, fits.flux[chosen], fits.sky[chosen]))
        profile = fit_profile(
            stamps[chosen], variance[chosen], place, replace(profile, fwhm=size),
            inverse_gain=frame.inverse_gain,
        )
        if len(frame.response) == 4:
            gains = frame.response * phase_response(
                stamps[chosen], variance[chosen], frame.phases(x, y, probe.radius), place, profile
            )
            frame = replace(frame, response=tuple(gains / gains.mean()))
        size = profile.fwhm
        start[:n] = np.column_stack((fits.x, fits.y, fits.flux, fits.sky, np.ones(n)))
        fits, stamps, variance, saturated = probe.fit(
            frame, profile, start, inverse_gain=frame.inverse_gain, model_error=0.1, passes=1
        )
        good = (fits.chi2 < 3) & (fits.good > 0.9) & (fits.flux > 0) & ~saturated
        good &= np.abs(np.log(fits.width)) < 0.4
    inverse_gain, model_error = noise_law(
        fits[good], inverse_gain=frame.inverse_gain, fixed_gain=fixed_gain
    )
    return replace(frame, inverse_gain=inverse_gain, model_error=model_error), profile


def first_guess(x: NDArray, y: NDArray, amplitude: NDArray, fwhm: float) -> NDArray:
    """Start of the fit from a peak in the matched-filter image."""
    out = np.zeros((len(x), 5))
    out[:, 0], out[:, 1], out[:, 4] = x, y, 1
    # the filtered peak of a Gaussian star of flux F is F / (sqrt(4 pi) sigma)
    out[:, 2] = amplitude * np.sqrt(4 * np.pi) * fwhm / 2.3548
    return out


def _densest(widths: NDArray, errors: NDArray) -> float:
    """Width at which the most, and the best measured, sources agree.

    Stars all have the width of the PSF, while galaxies, blends and cosmic rays spread.
    """
    value = np.log(widths)
    grid = np.arange(value.min() - 0.01, value.max() + 0.02, 0.01)
    sigma = np.hypot(errors, 0.05)
    offset = (grid - value[:, None]) / sigma[:, None]
    density = (np.exp(-0.5 * offset**2) / sigma[:, None]).sum(axis=0)
    return float(np.exp(grid[density.argmax()]))


def _is_undersampled(stamps: NDArray) -> bool:
    """Tell stars that are narrower than a pixel from hot pixels and cosmic rays.

    Such a star shares its light with the one neighbor it lies next to; a hot pixel shares it
    with none, a cosmic ray with both of its sides.
    """
    if len(stamps) < 20:
        return False
    c = stamps.shape[1] // 2
    core = stamps[:, c - 1 : c + 2, c - 1 : c + 2]
    peak = core[:, 1, 1]
    left, right, low, high = core[:, 1, 0], core[:, 1, 2], core[:, 0, 1], core[:, 2, 1]
    one_sided = np.zeros(len(stamps), dtype=bool)
    both_sides = np.zeros(len(stamps), dtype=bool)
    for a, b in ((left, right), (low, high)):
        one_sided |= (np.maximum(a, b) > 0.2 * peak) & (np.minimum(a, b) < 0.15 * peak)
        both_sides |= np.minimum(a, b) > 0.3 * peak
    return bool(np.mean(one_sided & ~both_sides) > 0.35)


def _first_response(frame: Frame, probe: _Probe) -> tuple[float, ...]:
    """Sensitivity of the pixels of a color filter array to star light, before the PSF is known.

    In a square of whole 2 x 2 blocks around a star every filter has as many pixels.
    """
    n = min(len(probe.x), _PROBE_STARS)
    x, y = probe.x[:n] // 2 * 2, probe.y[:n] // 2 * 2
    stamps = replace(frame, response=(1.0,)).cutouts(x, y, 4)[0][:, :8, :8]
    parts = np.stack([stamps[:, i::2, j::2].sum(axis=(1, 2)) for i in (0, 1) for j in (0, 1)])
    parts = parts[:, np.isfinite(parts).all(axis=0)]
    parts = parts[:, parts.min(axis=0) > 0]
    if parts.shape[1] < 8:
        return (1.0, 1.0, 1.0, 1.0)
    share = np.median(parts / parts.mean(axis=0), axis=1)
    return tuple(float(v) for v in share / share.mean())
