"""Image to star catalog: positions with realistic errors, fluxes, widths and flags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

from spalipy_astro._checks import check_finder, name_of_finder
from spalipy_astro._lines import on_lines
from spalipy_astro._neighbors import Neighbors, neighbor_lists, neighbor_pairs
from spalipy_astro.catalogs import UNUSABLE, StarFlag
from spalipy_astro.detection._apertures import light_in_wings, missed_light
from spalipy_astro.detection._background import estimate_background, with_common_noise
from spalipy_astro.detection._bayer import is_mosaic, lone_phase, luminance
from spalipy_astro.detection._exposure import Exposure
from spalipy_astro.detection._finders import ask_finder, describes_stars, less_sky
from spalipy_astro.detection._hot import find_hot_pixels, with_hot_pixels
from spalipy_astro.detection._medians import median
from spalipy_astro.detection._peaks import Peaks, find_peaks
from spalipy_astro.detection._pixels import PixelSource
from spalipy_astro.detection._probe import (
    first_flux,
    fit_all,
    measure_profile,
    noise_law,
    window_radius,
)
from spalipy_astro.detection._psf import Profile
from spalipy_astro.detection._slopes import without_slopes
from spalipy_astro.detection._sources import find_objects
from spalipy_astro.detection._starfit import Fits
from spalipy_astro.detection._steps import without_steps
from spalipy_astro.detection._stripes import without_stripes
from spalipy_astro.detection._trails import find_trails, on_trails
from spalipy_astro.errors import ImageError

__all__ = ["find_stars"]

# Of narrower stars a hot pixel cannot be told.
_UNDERSAMPLED = 1.3
# A star on a trail is told by this many times the flux of the trail's peaks, and its shape.
_BRIGHTER = 2.5
# Share of the core's pixels that must be good for a position.
_LEAST_GOOD = 0.2
# A sky lower than that many times its noise has been subtracted, or is that of the electronics.
_LOW_SKY = 3.0
# Ellipticity of stars that are trailed, by 4 px and more: no elliptical profile describes them.
_TRAILED = 0.18
# Among so many of the brightest sources chains of dashes are sought.
_DASHES = 40
# As many objects of a segmentation make an alignment.
_LEAST = 3


def find_stars(
    data: NDArray,
    *,
    mask: NDArray | None = None,
    error: NDArray | None = None,
    gain: float | None = None,
    threshold: float = 5.0,
    fwhm: float | None = None,
    saturation: float | None = None,
    finder: str | Callable[..., Any] = "auto",
) -> QTable:
    """Find and measure the stars of an image.

    Parameters
    ----------
    data : array_like, shape (ny, nx)
        The image: any real dtype and byte order. Non-finite pixels are bad.
    mask : array_like of bool, shape (ny, nx), optional
        True where a pixel is bad.
    error : array_like, shape (ny, nx), optional
        Standard deviation of each pixel; pixels without a positive finite one are bad.
    gain : float, optional
        Electrons per data unit. By default estimated from the noise of the bright stars; not
        used if ``error`` is given, which should include the photon noise of the stars.
    threshold : float, optional
        Smallest signal-to-noise ratio of a star.
    fwhm : float, optional
        Approximate full width at half maximum of the stars in px, for images whose width
        cannot be measured automatically.
    saturation : float, optional
        Data value at and above which a pixel is saturated. By default where values
        pile up at the top.
    finder : {"auto", "stars", "sources"} or callable, optional
        What finds the stars, see `spalipy_astro.detect_stars`.

    Returns
    -------
    `~astropy.table.QTable`
        One row per source, brightest first:

        ``x``, ``y``
            Position, 0-based px, pixel centers on integers.
        ``x_err``, ``y_err``
            Standard errors, px: from sky and photon noise, and from how well the PSF fits.
        ``flux``, ``flux_err``
            Total flux, that of the fitted PSF, and its error.
        ``fwhm``
            Full width at half maximum, px.
        ``snr``
            Signal-to-noise ratio.
        ``flag``
            Bits of `~spalipy_astro.catalogs.StarFlag`.

        ``meta`` holds ``background`` and ``noise`` (medians of the sky, per pixel), ``fwhm`` (that
        of the PSF, before the pixels integrate it), its ``ellipticity`` (1 - b/a) and
        ``orientation`` (of the long axis, deg from +x to +y), ``threshold``, ``shape`` (of the
        image), ``n_detected``, ``gain`` (estimated if not given), ``model_error`` (relative
        error of the PSF, from the residuals), ``aperture_correction`` with
        ``aperture_correction_err`` (the light in apertures over that of the fits, a factor that
        ``flux`` contains; 1 where it differs by chance), ``wings`` (share of the light beyond
        apertures, by the profile) and ``finder`` ("stars", "sources" or the
        name of a function).

    Raises
    ------
    ImageError
        If the image is not 2-D, has no or hardly any good pixels, or is constant.
    ValueError
        If an option is out of its range.

    Notes
    -----
    The sky is estimated on a mesh, peaks are found in the image convolved with the width of the
    stars, and every source is fitted with the image's own PSF, an elliptical Moffat profile
    measured on sources that agree with each other, after the light of its neighbors has been
    taken away. A second look at the residuals finds close companions. Trails, bad columns, bleeds
    and spikes, whose light is continuous along a straight line, are found in the pixels before the
    PSF is measured, and chains of dashes among the 40 brightest sources by their positions. Hot
    pixels that outnumber the stars are masked before, stripes and the steps between amplifiers or
    chips taken away, and a sky that changes within a cell of the mesh by more than its noise is
    made level. Frames behind a color filter
    array are recognized and measured on the mean of 2 x 2 pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from spalipy_astro.detection import find_stars
    >>> rng = np.random.default_rng(1)
    >>> y, x = np.mgrid[:120, :160]
    >>> image = rng.normal(100, 5, (120, 160))
    >>> for x0, y0 in [(30.2, 40.6), (70.5, 90.1), (110.8, 60.3), (130.1, 20.4)]:
    ...     image += 900 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.3**2))
    >>> stars = find_stars(image)
    >>> len(stars)
    4
    >>> print(sorted(stars["x"].round(1).tolist()))
    [30.2, 70.5, 110.8, 130.1]
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, not {threshold}")
    if gain is not None and not gain > 0:
        raise ValueError(f"gain must be positive, not {gain}")
    if fwhm is not None and not 0.5 <= fwhm <= 100:
        raise ValueError(f"fwhm must lie between 0.5 and 100 px, not {fwhm}")
    check_finder(finder)
    image = _pixel_source(data, mask, error)
    phase = lone_phase(image)
    if phase is not None:
        return _in_between(
            data,
            mask,
            error,
            phase,
            gain,
            threshold,
            fwhm=fwhm,
            saturation=saturation,
            finder=finder,
        )
    mosaic = is_mosaic(image)
    source, limit = image, np.inf
    if saturation is not None:
        limit = (saturation - image.pedestal) / image.scale
    if mosaic:
        source, limit = luminance(image, limit)
    background = estimate_background(source)
    source, background, limit = without_steps(source, background, limit)
    source, background, limit = without_slopes(source, background, limit)
    if not mosaic:
        source, background = without_stripes(source, background)
    hot = None if mosaic or callable(finder) else find_hot_pixels(source, background)
    whole = source
    if hot is not None:
        source = source.without(hot)
    level = image.pedestal + image.scale * median(background.level)
    noise = image.scale * median(background.noise)
    if error is not None:
        inverse_gain = 0.0
    elif gain is not None:
        inverse_gain = 1 / (gain * image.scale)
    else:
        # of a sky without bias level; the bright stars will tell better
        inverse_gain = noise**2 / level / image.scale if level > _LOW_SKY * noise else 0.0
    if callable(finder):
        light, _, good = less_sky(source, background)
        table = ask_finder(finder, light * image.scale, ~good)
    else:
        trails = () if finder == "sources" else find_trails(source, background)
        frame = Exposure(
            source, background, inverse_gain, limit, trails=trails, hot=hot is not None
        )
        fixed_gain = gain is not None or error is not None
        table = _with_finder(frame, finder, threshold, fwhm, fixed_gain)
        if hot is not None:
            table = with_hot_pixels(table, whole, background, hot)
    if mosaic:
        table["x"] += 0.5
        table["y"] += 0.5
    if not callable(finder):
        if image.scale != 1:
            table["flux"] *= image.scale
            table["flux_err"] *= image.scale
        table.meta["gain"] /= image.scale
        table.meta["threshold"] = threshold
    table.meta.setdefault("finder", name_of_finder(finder))
    table.meta.update(
        background=level,
        noise=noise,
        shape=np.shape(data),
        n_detected=len(table),
    )
    return table


def _in_between(
    data: Any,
    mask: Any,
    error: Any,
    phase: tuple[int, int],
    gain: float | None,
    threshold: float,
    *,
    fwhm: float | None,
    saturation: float | None,
    finder: Any,
) -> QTable:
    """Find the stars in an image of which one pixel in four is good: on these alone."""
    part = tuple(slice(first, None, 2) for first in phase)
    table = find_stars(
        np.asanyarray(data)[part],
        mask=None if mask is None else np.asarray(mask)[part],
        error=None if error is None else np.asarray(error)[part],
        gain=gain,
        threshold=threshold,
        fwhm=None if fwhm is None else max(fwhm / 2, 0.5),
        saturation=saturation,
        finder=finder,
    )
    for name, first in zip(("y", "x"), phase, strict=True):
        table[name] = 2 * table[name] + first
    # a finder of the user's has not all of these columns
    for name, factor in (("x_err", 2), ("y_err", 2), ("fwhm", 2), ("flux", 4), ("flux_err", 4)):
        if name in table.colnames:
            table[name] = factor * table[name]
    if "fwhm" in table.meta:
        table.meta["fwhm"] *= 2
    table.meta["shape"] = np.shape(data)
    return table


def _with_finder(
    frame: Exposure, finder: str, threshold: float, fwhm: float | None, fixed_gain: bool
) -> QTable:
    """Find stars with the PSF, or objects by segmentation where it does not describe them."""
    if finder == "sources":
        return find_objects(frame, threshold)
    frame, profile = measure_profile(frame, fwhm, fixed_gain)
    background = with_common_noise(frame.source, frame.background, profile.fwhm)
    frame = frame._replace(background=background)
    peaks = find_peaks(frame.source, frame.background, fwhm=profile.fwhm, threshold=threshold)
    table, described = _measure(frame, peaks, profile, threshold, fixed_gain)
    if described or finder == "stars":
        return table
    objects = find_objects(frame, threshold)
    usable = np.count_nonzero((objects["flag"] & int(UNUSABLE)) == 0)
    return objects if usable >= _LEAST else table


def _pixel_source(data: Any, mask: Any, error: Any) -> PixelSource:
    """Check the arrays and wrap them."""
    if isinstance(data, np.ma.MaskedArray):
        hidden = np.ma.getmaskarray(data)
        mask = hidden if mask is None else hidden | np.asarray(mask, dtype=bool)
        data = data.data
    data = np.asarray(data)
    if data.ndim != 2:
        raise ImageError(
            f"an image has 2 dimensions, this array has {data.ndim} (shape {data.shape}); "
            "pass one plane of it"
        )
    if data.dtype.kind not in "iufb":
        raise ImageError(f"an image has real numbers, this array has dtype {data.dtype}")
    arrays = []
    for name, other in (("mask", mask), ("error", error)):
        other = None if other is None else np.asarray(other)
        if other is not None and other.shape != data.shape:
            raise ImageError(
                f"{name} has the shape {other.shape}, the image {data.shape}; they must agree"
            )
        arrays.append(other)
    ny, nx = data.shape
    if min(ny, nx) < 8:
        raise ImageError(f"the image of shape {data.shape} is too small; the minimum is 8 x 8 px")
    source = PixelSource(data, arrays[0], arrays[1])
    values = source.sample()
    levels = source.levels_of(values)
    plain = source.without_wild_pixels(levels)
    if plain is not source:
        source, values = plain, plain.sample()
        levels = source.levels_of(values)
    if values.size:
        low, middle, high = levels
        # what single precision cannot hold: large constants, and squares of strange units
        spread = max(high - low, values.max() - middle)
        wide = data.dtype.itemsize > (4 if data.dtype.kind == "f" else 2)
        pedestal = float(middle) if wide else 0.0
        strange = spread > 0 and not 1e-5 < spread < 1e9
        scale = float(2.0 ** np.round(np.log2(spread / 1e3))) if strange else 1.0
        source = source._replace(pedestal=pedestal, scale=scale)
        source = source._replace(blank=source.find_blank())
    if values.size == 0 or values.min() == values.max():
        _check_all(source)
    return source


def _check_all(source: PixelSource) -> None:
    """Complain of an image without good pixels or with a single value."""
    n_good, low, high = 0, np.inf, -np.inf
    for start in range(0, source.shape[0], 64):
        rows = source.rows(slice(start, start + 64))
        rows = rows[np.isfinite(rows)]
        if rows.size:
            n_good += rows.size
            low, high = min(low, float(rows.min())), max(high, float(rows.max()))
    if n_good == 0:
        raise ImageError(
            f"all {source.data.size} pixels of the image are bad (masked, NaN or infinite); "
            "check the mask and the file"
        )
    if low == high:
        raise ImageError(
            f"all {n_good} good pixels of the image have the same value "
            f"{source.pedestal + source.scale * low:g}; "
            "there is nothing to detect"
        )


def _measure(
    frame: Exposure, peaks: Peaks, profile: Profile, threshold: float, fixed_gain: bool
) -> tuple[QTable, bool]:
    """
    Fit all peaks and those hidden beside them, drop what is not there, flag the rest.

    Return them, and whether the PSF describes them.
    """
    fwhm = profile.fwhm
    order = np.argsort(-peaks.snr, kind="stable")
    pixel = np.column_stack((peaks.x, peaks.y))[order]
    trailed = on_trails(frame.trails, *pixel.T)
    frame = frame.find_saturation(pixel[~trailed])
    fits, saturated, bad, pixel = _fit(frame, profile, pixel, peaks.snr[order], threshold)
    x, y = fits.position.T
    ny, nx = frame.source.shape
    keep = (fits.flux > 0) & (fits.errors[:, 2] > 0) & (fits.snr > 0.7 * threshold)
    keep &= (x > -0.5) & (y > -0.5) & (x < nx - 0.5) & (y < ny - 0.5)
    keep[keep] = _without_doubles(fits[keep], 0.5 * fwhm)
    fits, saturated, bad, pixel = fits[keep], saturated[keep], bad[keep], pixel[keep]
    edge = np.minimum(pixel, np.array([nx - 1, ny - 1]) - pixel).min(axis=1) < 1.2 * fwhm
    flag = np.zeros(len(fits), dtype=np.int64)
    flag[saturated] |= StarFlag.SATURATED
    flag[edge] |= StarFlag.EDGE
    flag[bad & ~edge] |= StarFlag.BAD_PIXELS
    flag[~fits.converged | (fits.good < _LEAST_GOOD)] |= StarFlag.UNSTABLE
    flag[_is_artifact(fits, saturated, fwhm)] |= StarFlag.ARTIFACT
    flag[_is_extended(fits)] |= StarFlag.EXTENDED
    flag[_is_blended(fits, 1.5 * fwhm)] |= StarFlag.BLENDED
    flag[fits.foreign > 0.05] |= StarFlag.NEIGHBOR
    flag[_is_trail(frame, fits, flag)] |= StarFlag.TRAIL
    errors, meta = _position_errors(frame, fits, flag, fwhm, fixed_gain)
    clean = (flag & ~int(StarFlag.NEIGHBOR)) == 0
    elongated = profile.ellipticity > _TRAILED
    more, more_err = missed_light(frame, fits.position, fits.flux, clean, profile, always=elongated)
    described = describes_stars(frame, fits, flag, profile, meta["model_error"])
    meta |= {
        "fwhm": fwhm,
        "ellipticity": profile.ellipticity,
        "orientation": profile.orientation,
        "aperture_correction": more,
        "aperture_correction_err": more_err,
        "wings": light_in_wings(profile),
        "finder": "stars",
    }
    columns = {
        "x": fits.position[:, 0],
        "y": fits.position[:, 1],
        "x_err": errors[:, 0],
        "y_err": errors[:, 1],
        "flux": more * fits.flux,
        "flux_err": more * fits.errors[:, 2],
        "fwhm": fits.width * fwhm,
        "snr": fits.snr,
        "flag": flag,
    }
    rows = np.argsort(-fits.flux, kind="stable")
    return QTable({name: values[rows] for name, values in columns.items()}, meta=meta), described


def _fit(
    frame: Exposure, profile: Profile, pixel: NDArray, snr: NDArray, threshold: float
) -> tuple[Fits, NDArray, NDArray, NDArray]:
    """Fit stars at peaks, then those found in the residuals with the stars around them.

    Return the fits, whether the core has saturated or bad pixels, and the pixels of all peaks.
    """
    fwhm = profile.fwhm
    radius = window_radius(fwhm)
    noise = frame.background.at(*pixel.T)[1]
    fits = Fits.start(pixel, first_flux(snr * noise, fwhm))
    saturated, bad = fit_all(frame, profile, fits, pixel, radius, search=True)
    # what is left of a trail when stars were fitted to it is no star either
    spoiled = saturated | bad | on_trails(frame.trails, *pixel.T)
    hidden = _companions(fits, spoiled, threshold, fwhm)
    if len(hidden) == 0:
        return fits, saturated, bad, pixel
    strength, place = fits.companion[hidden, 0], fits.companion[hidden, 1:]
    more = np.round(place).astype(np.int64)
    pixel = np.concatenate((pixel, more))
    noise = frame.background.at(*more.T)[1]
    fits = fits.append(Fits.start(place, first_flux(strength * noise, fwhm)))
    reach = 1.5 * radius
    near = np.flatnonzero(Neighbors(place).nearest(fits.position)[0] < reach)
    full, broken = fit_all(frame, profile, fits, pixel, radius, members=near, passes=8)
    none = np.zeros(len(hidden), dtype=bool)
    return fits, np.append(saturated, none) | full, np.append(bad, none) | broken, pixel


def _position_errors(
    frame: Exposure, fits: Fits, flag: NDArray, fwhm: float, fixed_gain: bool
) -> tuple[NDArray, dict[str, Any]]:
    """Errors of x and y, shape (N, 2), with the noise seen in the residuals, and that noise."""
    clean = flag & ~StarFlag.NEIGHBOR == 0
    inverse_gain, model_error = noise_law(frame, fits[clean], fixed_gain)
    # a wrong PSF shifts all stars equally, except for their position within the pixel
    model_error *= float(np.clip(2 / fwhm, 0.4, 1)) ** 2
    errors = fits.position_errors(inverse_gain - frame.inverse_gain, model_error)
    # the noise that makes a faint star's flux too large makes its error too small
    errors *= np.sqrt(1 + 16 / np.maximum(fits.snr, 1) ** 2)[:, None]
    # what looks less like the PSF than others, a star with a hidden companion say, is less certain
    bright = fits.chi2[clean & (fits.snr > 20)]
    typical = max(median(bright), 1.0) if len(bright) else 1.0
    errors *= np.sqrt(np.maximum(fits.chi2 / (1.5 * typical), 1))[:, None]
    return errors, {"gain": 1 / max(inverse_gain, 1e-30), "model_error": model_error}


def _is_artifact(fits: Fits, saturated: NDArray, fwhm: float) -> NDArray:
    """Tell hot pixels, cosmic rays and pieces of bleeding trails."""
    if fwhm > _UNDERSAMPLED:
        narrow = (fits.width * fwhm < 0.45 * fwhm + 0.4) & (1 - fits.width > 3 * fits.width_error)
        sharp = narrow | (fits.sharpness > 4.5)
    else:
        sharp = np.zeros(len(fits), dtype=bool)
    unlike = ~fits.converged | (np.abs(fits.width - 1) > 0.2) | (fits.chi2 > 8)
    return sharp | (saturated & unlike)


def _is_trail(frame: Exposure, fits: Fits, flag: NDArray) -> NDArray:
    """Find sources on a trail, except for stars that stand out from it, and chains of dashes."""
    out = np.zeros(len(fits), dtype=bool)
    for trail in frame.trails:
        rows = np.flatnonzero(trail.holds(*fits.position.T))
        if len(rows):
            excess = fits.flux[rows] / median(fits.flux[rows])
            like = (np.abs(fits.width[rows] - 1) < 0.2) & (fits.chi2[rows] < excess)
            out[rows[~like | (excess < _BRIGHTER)]] = True
    # the lights of an aircraft are as bright as the brightest stars
    rows = np.flatnonzero(~out & (flag & int(UNUSABLE) == 0))
    rows = rows[np.argsort(-fits.flux[rows], kind="stable")[:_DASHES]]
    out[rows[on_lines(fits.position[rows]) >= 0]] = True
    return out


def _companions(fits: Fits, spoiled: NDArray, threshold: float, fwhm: float) -> NDArray:
    """List the stars next to which the residuals have a peak that is no star yet."""
    strength, x, y = fits.companion.T
    rows = np.flatnonzero((strength > threshold) & ~spoiled & (fits.sharpness < 4.5))
    if len(rows) == 0:
        return rows
    place = np.column_stack((x, y))[rows]
    one, two = neighbor_pairs(np.concatenate((fits.position, place)), 0.6 * fwhm)
    known = two[one < len(fits)] - len(fits)
    new = np.ones(len(rows), dtype=bool)
    new[known[known >= 0]] = False
    rows, place = rows[new], place[new]
    one, two = neighbor_pairs(place, fwhm)
    weaker = np.where(strength[rows[one]] < strength[rows[two]], one, two)
    return np.delete(rows, weaker)


def _is_extended(fits: Fits) -> NDArray:
    """Find galaxies: sources wider than stars, allowing for variation of the PSF.

    How much stars differ is seen on those that are narrower than the PSF, which no galaxy is.
    """
    below = fits.width[(fits.snr > 30) & (fits.width < 1) & (fits.sharpness < 4.5)]
    scatter = 1.4826 * median(1 - below) if len(below) >= 5 else 0.0
    excess = fits.width - 1
    return (excess > max(0.3, 3 * scatter)) & (excess > 4 * fits.width_error)


def _is_blended(fits: Fits, reach: float) -> NDArray:
    """Tell stars with another, of at least a twentieth of their flux, close by."""
    pointer, other = neighbor_lists(fits.position, reach)
    me = np.repeat(np.arange(len(fits)), np.diff(pointer))
    out = np.zeros(len(fits), dtype=bool)
    out[me[fits.flux[other] > 0.05 * fits.flux[me]]] = True
    return out


def _without_doubles(fits: Fits, reach: float) -> NDArray:
    """Return False for the fainter of two detections of one star."""
    keep = np.ones(len(fits), dtype=bool)
    one, two = neighbor_pairs(fits.position, reach)
    keep[np.where(fits.flux[one] >= fits.flux[two], two, one)] = False
    return keep
