"""What the stars of an image look like: PSF, photon noise, saturation; private to detection."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro._neighbors import neighbor_lists
from spalipy_astro.detection._exposure import PROBE_STARS, Exposure, Squares
from spalipy_astro.detection._medians import median
from spalipy_astro.detection._peaks import find_peaks
from spalipy_astro.detection._psf import Profile, fit_profile
from spalipy_astro.detection._starfit import Fits, fit_stars
from spalipy_astro.detection._trails import on_trails

__all__ = [
    "changed_light",
    "first_flux",
    "fit_all",
    "measure_profile",
    "noise_law",
    "overlap",
    "window_radius",
]


_FIRST_FWHM = 2.8
_SHARP_FWHM = 1.0
_MAX_FWHM = 30.0
# Single pixels fitted with a star are narrower than this; stars rarely are.
_SHARPEST = 1.4
# Share of the sources that lie between two pixels, where they are stars; of so few, and of more.
_BETWEEN = {3: 0.5, 6: 0.35}
# For stars between the sharp scale and the first one.
_MIDDLE_FWHM = 1.6
_NARROWEST = 1.0
# Narrower than this, the sources may be hot pixels.
_HOT_PIXELS = 1.1
# Stars of such a width are measured as well as pixels allow by the narrower of two filters.
_NARROW = 1.8
_LIKE_GALAXIES = 3.3  # px: the width of stars, or of galaxies among stars narrower than 1.8 px
_AS_STARS = 0.75  # share of stars that agree in width, less what chance may do
_AGREE = 0.12
_LEAST_AGREEING = 7
_LEAST_FAINT = 3
_PROBE_SNR = 10.0
_FAINT_SNR = 6.0  # where these are hardly any
_PSF_STARS = 50
_LAW_STARS = 400
# Those that are tried first, and then around the best of these.
_MANY_GAINS, _GAINS, _NEAR_GAINS = (
    np.exp(np.linspace(*steps)) for steps in ((-10, 5, 40), (-3, 3, 16), (-0.4, 0.4, 11))
)
_MODEL_ERRORS = np.exp(np.linspace(np.log(0.003), np.log(0.4), 16))
_NEAR_MODEL_ERRORS = np.exp(np.linspace(-0.3, 0.3, 9))
_BATCH_PIXELS = 400_000  # that are fitted at once, and fit the processor's cache
_KEPT_PIXELS = 6_000_000  # that are kept from pass to pass where most stars are fitted again
_FEW_PASSES = 3
_FITTED = 3.5  # numbers that are fitted to the pixels of a core
_LEAST_FREEDOM = 0.2  # of these pixels after the fit
# A star is fitted again if the light of its neighbors changes by more than this share of its noise.
_RESTLESS = 0.01
# Pixels from which on a part of the image is looked at first.
_LARGE = 2_000_000


def window_radius(fwhm: float) -> int:
    """Radius in pixels of the window in which stars are fitted."""
    return int(np.ceil(max(2 * fwhm, 3)))


def overlap(profile: Profile, position: NDArray, me: NDArray, other: NDArray) -> NDArray:
    """Share of a neighbor's light that the fit of a star sees: as of two Gaussians."""
    table, step = profile.table()
    x, y = np.ascontiguousarray(position.T)
    q = 0.5 * ((x[me] - x[other]) ** 2 + (y[me] - y[other]) ** 2)
    return table[np.minimum((q / step).astype(np.int64), len(table) - 1)] / table[0]


def changed_light(before: NDArray, after: NDArray, fwhm: float) -> NDArray:
    """How much of each star's light is elsewhere than before: of ``x``, ``y`` and flux."""
    step = np.abs(after - before)
    moved = np.minimum(2 * np.maximum(step[:, 0], step[:, 1]) / fwhm, 1)
    return step[:, 2] + np.abs(after[:, 2]) * moved


def first_flux(amplitude: NDArray, fwhm: float) -> NDArray:
    """Flux of a star from its peak in the filtered image: that of a Gaussian."""
    return amplitude * np.sqrt(4 * np.pi) * fwhm / 2.3548


def fit_all(
    frame: Exposure,
    profile: Profile,
    fits: Fits,
    pixel: NDArray,
    radius: int,
    *,
    members: NDArray | None = None,
    squares: Squares | None = None,
    passes: int = _FEW_PASSES,
    search: bool = False,
) -> tuple[NDArray, NDArray]:
    """Fit stars around pixels, again if the light of a neighbor has changed; update ``fits``.

    ``squares`` are those around the members, if they have been cut out before.

    Returns
    -------
    saturated, bad : `~numpy.ndarray` of bool, shape (N,)
        Whether a pixel of the core saturates or is bad.
    """
    pointer, index = neighbor_lists(fits.position, radius + 3 * profile.fwhm)
    members = np.arange(len(fits)) if members is None else members
    if passes > 1:
        me, other = _pairs_of(members, pointer, index)
        seen = overlap(profile, fits.position, me, other)
    offset = np.arange(-radius, radius + 1)
    core = np.flatnonzero(np.hypot(offset, offset[:, None]) <= max(profile.fwhm, 1.5))
    pixels = len(offset) ** 2
    saturated = np.zeros(len(fits), dtype=bool)
    bad = np.zeros(len(fits), dtype=bool)
    batch = max(64, _BATCH_PIXELS // pixels)
    most = _KEPT_PIXELS if passes > _FEW_PASSES else _BATCH_PIXELS
    kept = squares
    if kept is None and len(members) * pixels <= most:
        kept = frame.cutouts(pixel[members], radius)
    rows = np.arange(len(members))
    for k in range(passes):
        fitted = members[rows]
        before = fits.parameters[fitted, :3]
        for start in range(0, len(rows), batch):
            some = slice(start, start + batch)
            part = members[rows[some]]
            if kept is None:
                stamps, variance, full = frame.cutouts(pixel[part], radius)
            else:
                # of all there are views
                place = some if len(rows) == len(members) else rows[some]
                stamps, variance = kept[0][place], kept[1][place]
            if k == 0:
                full = full if kept is None else kept[2][place]
                over = full.reshape(len(part), -1).take(core, axis=1)
                values = stamps.reshape(len(part), -1).take(core, axis=1)
                saturated[part] = over.any(axis=1)
                bad[part] = (np.isnan(values) & ~over).any(axis=1)
            fit_stars(
                fits,
                part,
                stamps,
                variance,
                pixel[part] - radius,
                profile,
                (pointer, index),
                inverse_gain=frame.inverse_gain,
                model_error=frame.model_error,
                search=search,
            )
        if k == passes - 1:
            break
        # once more those in which the light of their neighbors has changed noticeably
        change = np.zeros(len(fits))
        change[fitted] = changed_light(before, fits.parameters[fitted, :3], profile.fwhm)
        noise = np.abs(fits.flux[fitted]) / np.maximum(fits.snr[fitted], 1)
        foreign = np.bincount(me, change[other] * seen, len(fits))
        rows = rows[foreign[fitted] > _RESTLESS * noise]
    return saturated, bad


def _pairs_of(
    members: NDArray[np.intp], pointer: NDArray[np.int64], index: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return all pairs of a member and a neighbor, by member."""
    wanted = np.zeros(len(pointer) - 1, dtype=bool)
    wanted[members] = True
    number = np.diff(pointer)
    me = np.repeat(np.flatnonzero(wanted), number[wanted])
    return me, index if len(me) == len(index) else index[np.repeat(wanted, number)]


class _Sample(NamedTuple):
    """The brightest sources found with a filter of one width, and which look like stars."""

    guess: float
    pixel: NDArray
    squares: Squares | None  # around the brightest, as wide as the guess has it
    fits: Fits
    sound: NDArray
    good: NDArray
    size: float
    seen: Exposure  # with the saturation that these pixels show

    @property
    def agreeing(self) -> int:
        """How many sources have the width at which most crowd."""
        widths = self.fits.width[: len(self.good)][self.good] * self.guess
        return int(np.count_nonzero(np.abs(np.log(widths / self.size)) < _AGREE))

    @property
    def fits_its_scale(self) -> bool:
        """Whether the sources are about as wide as the filter, and not bumps on wider ones."""
        if not self.size < 1.6 * self.guess:
            return False
        stars = self.fits[: len(self.good)][self.good]
        below = stars.sky * (stars.width * self.guess) ** 2 / stars.flux
        return median(below) < 0.15


def _sample(frame: Exposure, guess: float, sharpest: float, least: float = _PROBE_SNR) -> _Sample:
    """Find and fit the brightest sources, in a part of the image if that is enough."""
    large = frame.source.shape[0] * frame.source.shape[1] > _LARGE
    whole = frame
    for every in (4, 1) if large else (1,):
        peaks = find_peaks(frame.source, frame.background, fwhm=guess, threshold=least, every=every)
        order = np.argsort(-peaks.snr, kind="stable")
        if frame.trails:
            # no stars: neither their width nor where they saturate says anything
            order = order[~on_trails(frame.trails, peaks.x[order], peaks.y[order])]
        pixel = np.column_stack((peaks.x, peaks.y))[order]
        noise = frame.background.at(*pixel.T)[1]
        fits = Fits.start(pixel, first_flux(peaks.snr[order] * noise, guess))
        number = min(len(pixel), PROBE_STARS)
        seen = whole.find_saturation(pixel)
        if not np.isfinite(frame.saturation):
            frame = seen
        # uniform weights make the width of a wrong profile independent of the flux
        tolerant = frame._replace(inverse_gain=0.0, model_error=0.2)
        radius = window_radius(guess)
        squares = _few_squares(frame, pixel[:number], radius)
        saturated, _ = fit_all(
            tolerant,
            Profile(guess),
            fits,
            pixel,
            radius,
            members=np.arange(number),
            squares=squares,
        )
        bright = fits[:number]
        widths = bright.width * guess
        sound = (bright.good > _whole(bright)) & (bright.flux > 0) & (bright.width_error < 0.2)
        sound &= ~saturated[:number]
        good = sound & (bright.chi2 < 3) & (widths > sharpest)
        if guess != _SHARP_FWHM:
            good &= bright.sharpness < 3
        if (good & (bright.snr > 20)).sum() >= 60:
            break
    size = np.nan
    if good.sum() >= 3:
        size = _densest(widths[good], (bright.width_error / bright.width)[good])
    if frame.saturation != seen.saturation:
        squares = None
    return _Sample(guess, pixel, squares, fits, sound, good, size, seen)


def _few_squares(frame: Exposure, pixel: NDArray, radius: int) -> Squares | None:
    """Cut squares out around pixels; None if they are so large that they are not to be kept."""
    few = len(pixel) * (2 * radius + 1) ** 2 <= _BATCH_PIXELS
    return frame.cutouts(pixel, radius) if few else None


def _whole(bright: Fits) -> float:
    """Share of good pixels above which a core is as whole as others of the frame."""
    if len(bright) == 0:
        return 0.9
    return min(0.9, 0.8 * median(bright.good))


def measure_profile(
    frame: Exposure, fwhm: float | None, fixed_gain: bool
) -> tuple[Exposure, Profile]:
    """Measure PSF and noise on the brightest sources that look like stars.

    A cosmic ray or hot pixel is narrower than the PSF or does not fit it, galaxies and blends
    are wider, each in its own way; so the width at which the sources crowd is that of the stars,
    however few there are.
    """
    if fwhm is None:
        sample = _sample_at_scale(frame)
    else:
        sample = _sample(frame, fwhm, 0.5 * fwhm)
    if not np.isfinite(sample.size):
        return frame, Profile(sample.guess)
    return _refine(frame, sample, fixed_gain)


def _sample_at_scale(frame: Exposure) -> _Sample:
    """Choose the width of the filter to which the sources answer."""
    first = _sample(frame, _FIRST_FWHM, _SHARPEST)
    narrow = first.good.sum() < 0.5 * first.sound.sum()
    # galaxies differ in width
    number = max(int(first.good.sum()), 1)
    alike = first.agreeing / number - 0.4 / np.sqrt(number)
    galaxies = first.size > _LIKE_GALAXIES and alike < _AS_STARS
    if first.fits_its_scale and not (narrow or galaxies):
        return first
    if narrow:
        # most are too narrow; what is wide enough may be galaxies, or bumps on a nebula
        if not frame.hot and _is_undersampled(_seen(frame, first)):
            return _sample(frame, _SHARP_FWHM, 0.4)
        # or too narrow for this scale only, unless single pixels are the most
        middle = _sample(frame, _MIDDLE_FWHM, _NARROWEST)
        most = max(first.good.sum(), 0.5 * middle.sound.sum())
        if middle.fits_its_scale and middle.good.sum() > most:
            return middle
    if galaxies and not frame.hot:
        narrower = _narrower(frame, first)
        if narrower is not None:
            return narrower
    if first.fits_its_scale:
        return first
    if first.size < _NARROW or not np.isfinite(first.size):
        # between the two scales: that on which more sources agree
        sharp = _sample(frame, _SHARP_FWHM, 0.4)
        if sharp.agreeing > max(first.agreeing, _LEAST_AGREEING) and (
            (sharp.size > _HOT_PIXELS and sharp.agreeing > 0.25 * np.count_nonzero(sharp.sound))
            or (not frame.hot and _is_undersampled(_seen(frame, sharp)))
        ):
            return sharp
    guess = 2 * _FIRST_FWHM
    while guess < _MAX_FWHM and guess < min(frame.source.shape) / 8:
        wider = _sample(frame, guess, 0.4 * guess)
        if wider.fits_its_scale:
            return wider
        guess *= 2
    if not (np.isfinite(first.size) or frame.hot):
        # a wide filter sees few of the stars that are narrower than a pixel
        sharp = _sample(frame, _SHARP_FWHM, 0.4, least=_FAINT_SNR)
        if sharp.agreeing >= _LEAST_FAINT and _is_undersampled(_seen(frame, sharp)):
            return sharp
    return first


def _narrower(frame: Exposure, first: _Sample) -> _Sample | None:
    """Find stars too narrow for the first scale, on which galaxies agree; None if not."""
    middle = _sample(frame, _MIDDLE_FWHM, _NARROWEST)
    if (
        middle.size < _NARROW
        and middle.fits_its_scale
        and middle.agreeing > first.agreeing
        and middle.good.sum() > 0.5 * middle.sound.sum()
    ):
        return middle
    sharp = _sample(frame, _SHARP_FWHM, 0.4)
    if sharp.agreeing > 2 * first.agreeing and _is_undersampled(_seen(frame, sharp)):
        return sharp
    return None


def _seen(frame: Exposure, sample: _Sample) -> NDArray:
    """Cut out the sources of a sample."""
    rows = np.flatnonzero(sample.sound)
    return frame.cutouts(sample.pixel[rows], window_radius(sample.guess))[0]


def _refine(frame: Exposure, sample: _Sample, fixed_gain: bool) -> tuple[Exposure, Profile]:
    """Fit the PSF to the stars among the bright sources, and to these the noise."""
    pixel, fits, good = sample.pixel, sample.fits, sample.good
    profile, size = Profile(sample.guess), sample.size
    top = np.arange(len(good))
    seen = sample.seen
    radius = window_radius(size)
    squares = sample.squares
    if squares is None or radius != window_radius(sample.guess):
        squares = _few_squares(seen, pixel[top], radius)
    # the first round finds out which of them are stars
    for tolerance, most in ((0.2, _PSF_STARS // 2), (0.1, _PSF_STARS)):
        bright = fits[: len(good)]
        spread = np.hypot(tolerance, 2 * bright.width_error / bright.width)
        like = good & (np.abs(np.log(bright.width * profile.fwhm / size)) < spread)
        alone = like & (bright.foreign < 0.05)
        chosen = top[alone if alone.sum() >= 15 else like][:most]
        if len(chosen) < 3:
            break
        if squares is None:
            stamps, variance, _ = seen.cutouts(pixel[chosen], radius)
        else:
            stamps, variance = squares[0][chosen], squares[1][chosen]
        place = bright.parameters[chosen, :4]
        place[:, :2] -= pixel[chosen]
        profile = fit_profile(
            stamps,
            variance,
            place,
            profile._replace(fwhm=size),
            inverse_gain=frame.inverse_gain,
        )
        size = profile.fwhm
        fits.parameters[top, 4] = 1
        saturated, _ = fit_all(
            seen._replace(model_error=0.1),
            profile,
            fits,
            pixel,
            radius,
            members=top,
            squares=squares,
            passes=1,
        )
        bright = fits[: len(good)]
        good = (bright.chi2 < 3) & (bright.good > _whole(bright)) & (bright.flux > 0)
        good &= ~saturated[: len(good)]
        good &= np.abs(np.log(bright.width)) < 0.4
        if sample.guess != _SHARP_FWHM:
            good &= bright.sharpness < 3
        if good.any():
            good &= bright.chi2 < max(1.0, 2.5 * median(bright.chi2[good]))
    if not fixed_gain and _is_contradicted(frame, fits[top[good]]):
        frame = frame._replace(inverse_gain=0.0)
    inverse_gain, model_error = noise_law(frame, fits[top[good]], fixed_gain)
    return frame._replace(inverse_gain=inverse_gain, model_error=model_error), profile


def _is_contradicted(frame: Exposure, fits: Fits) -> bool:
    """Whether bright stars scatter far less than the photon noise of the frame's gain.

    They may scatter more, since the PSF does not fit them exactly, but not less.
    """
    number, square, sky, light, _ = fits.sums.T
    inverse_gain = frame.inverse_gain
    use = (number >= 6) & (fits.flux > 0) & (inverse_gain * light > sky)
    if use.sum() < 3:
        return False
    observed = _scatter(square[use], number[use], frame.background.growth)
    return median(observed / (sky[use] + inverse_gain * light[use])) < 0.5


def _scatter(square: NDArray | float, number: NDArray, growth: float) -> NDArray[np.float64]:
    """Return what squared residuals tell of the noise of sums of pixels.

    Of pixels that have noise in common, a sum has more of it than their scatter, by ``growth``
    squared, and a fit takes as much more away.
    """
    freedom = np.maximum(1 - _FITTED * growth**2 / number, _LEAST_FREEDOM)
    return square * growth**2 / freedom


def noise_law(frame: Exposure, fits: Fits, fixed_gain: bool) -> tuple[float, float]:
    """Photon variance per unit of light and relative error of the model, from the residuals.

    They are those for which the squared residuals in the cores of bright stars deviate the least
    from what is expected; the mean absolute deviation of their logarithms is insensitive to
    blends.
    """
    number, square, sky, light, light2 = fits.sums.T
    inverse_gain = frame.inverse_gain
    use = (fits.snr > 20) & (number >= 6) & (fits.flux > 0) & (fits.foreign < 0.05)
    # galaxies and blends are not what the PSF should fit
    spread = np.hypot(0.08, 2 * fits.width_error / fits.width)
    use &= (np.abs(np.log(fits.width)) < spread) & (fits.sharpness < 4.5)
    if use.sum() < 8:
        return inverse_gain, 0.01
    use = np.flatnonzero(use)
    use = use[np.argsort(-fits.snr[use], kind="stable")[:_LAW_STARS]]
    growth = frame.background.growth
    logarithm = np.log(np.maximum(_scatter(square[use], number[use], growth), 1e-30))
    sky, light = sky[use], light[use]
    # what the model leaves is seen as it is
    light2 = _scatter(light2[use], number[use], growth) / _scatter(1.0, number[use], 1.0)
    # with few stars the gain cannot be told from the model's error
    gains = np.array([inverse_gain])
    if not fixed_gain and len(use) >= 20 and inverse_gain == 0:
        # the sky tells nothing: from where it hides the photon noise to where there is no other
        gains = median(sky / light) * _MANY_GAINS
    elif not fixed_gain and len(use) >= 20:
        start = max(inverse_gain, 1e-3 * median(sky / light))
        gains = start * _GAINS
    relative = _MODEL_ERRORS
    # in single precision, which is enough to tell which is the least
    plain = [values.astype(np.float32) for values in (logarithm, sky, light, light2)]
    logarithm, sky, light, light2 = plain
    for _ in range(2):
        some, square = (t.astype(np.float32)[:, None] for t in (gains, relative**2))
        expected = (sky + some * light)[:, None] + square * light2
        # in place: to allocate large arrays takes as long as to fill them
        np.log(expected, out=expected)
        np.subtract(logarithm, expected, out=expected)
        misfit = np.abs(expected, out=expected).mean(axis=2)
        i, j = np.unravel_index(misfit.argmin(), misfit.shape)
        best_gain, best_relative = gains[i], relative[j]
        if len(gains) > 1:
            gains = best_gain * _NEAR_GAINS
        relative = np.maximum(best_relative * _NEAR_MODEL_ERRORS, 0.003)
    return float(best_gain), float(best_relative)


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
    least = [share for fewest, share in _BETWEEN.items() if len(stamps) >= fewest]
    if not least:
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
    return bool(np.mean(one_sided & ~both_sides) > least[-1])
