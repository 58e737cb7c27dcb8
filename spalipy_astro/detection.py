"""Image to star catalog: positions with honest errors, fluxes, widths and flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spalipy_astro.catalog import StarFlag
from spalipy_astro.errors import ImageError

if TYPE_CHECKING:
    from spalipy_astro.background import PixelSource
    from spalipy_astro.centroids import Fits
    from spalipy_astro.peaks import Peaks
    from spalipy_astro.probe import Frame
    from spalipy_astro.psf import Profile

__all__ = ["find_stars"]

# Of narrower stars a hot pixel cannot be told.
_UNDERSAMPLED = 1.3


def find_stars(
    data: NDArray,
    *,
    mask: NDArray | None = None,
    error: NDArray | None = None,
    gain: float | None = None,
    threshold: float = 5.0,
    fwhm: float | None = None,
    saturation: float | None = None,
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
        Electrons per data unit. Estimated from the sky noise by default.
    threshold : float, optional
        Smallest signal-to-noise ratio of a star.
    fwhm : float, optional
        Full width at half maximum of the stars in px. Measured by default.
    saturation : float, optional
        Data value from which on a pixel is saturated. By default the largest value of the image
        if several pixels have it or if it is the end of an integer range.

    Returns
    -------
    `~astropy.table.QTable`
        One row per source, brightest first: ``x``, ``y`` (0-based px, pixel centers on
        integers), ``x_err``, ``y_err``, ``flux``, ``flux_err``, ``fwhm`` (px), ``snr`` and
        ``flag`` (bits of `~spalipy_astro.catalog.StarFlag`). ``meta`` holds ``background``,
        ``noise``, ``fwhm``, ``threshold``, ``shape`` and ``n_detected``.

    Raises
    ------
    ImageError
        If the image is not 2-D, has no or hardly any good pixels, or is constant.
    """
    # numba comes in with these, and only when stars are sought
    from spalipy_astro.background import estimate_background
    from spalipy_astro.mosaic import is_mosaic, luminance
    from spalipy_astro.peaks import find_peaks
    from spalipy_astro.probe import Frame, measure_profile

    if not threshold > 0:
        raise ValueError(f"threshold must be positive, not {threshold}")
    if gain is not None and not gain > 0:
        raise ValueError(f"gain must be positive, not {gain}")
    if fwhm is not None and not 0.5 <= fwhm <= 100:
        raise ValueError(f"fwhm must lie between 0.5 and 100 px, not {fwhm}")
    source = _pixel_source(data, mask, error)
    mosaic = is_mosaic(source)
    if mosaic:
        source = luminance(source)
    background = estimate_background(source)
    level = float(np.median(background.level)) + source.pedestal
    noise = float(np.median(background.noise))
    if error is not None:
        inverse_gain = 0.0
    elif gain is not None:
        inverse_gain = 1 / gain
    else:
        inverse_gain = noise**2 / level if level > 0 else 0.0
    frame = Frame(source, background, inverse_gain, saturation)
    fixed_gain = gain is not None or error is not None
    frame, profile = measure_profile(frame, threshold, fwhm, fixed_gain)
    peaks = find_peaks(source, background, fwhm=profile.fwhm, threshold=threshold)
    table = _measure(frame, peaks, profile, threshold, fixed_gain)
    if mosaic:
        table["x"] += 0.5
        table["y"] += 0.5
    table.meta.update(
        background=level,
        noise=noise,
        fwhm=profile.fwhm,
        threshold=threshold,
        shape=np.shape(data),
        n_detected=len(table),
    )
    return table


def _pixel_source(data: Any, mask: Any, error: Any) -> PixelSource:
    """Check the arrays and wrap them."""
    from spalipy_astro.background import PixelSource

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
        raise ImageError(f"the image of shape {data.shape} is too small; 8 x 8 px is the least")
    probe = PixelSource(data, arrays[0], arrays[1], 0.0)
    values = probe.rows(np.arange(0, ny, max(1, ny // 16)))
    values = values[np.isfinite(values)]
    if values.size == 0 or values.min() == values.max():
        _check_all(probe)
    wide = data.dtype.kind == "f" and data.dtype.itemsize > 4
    wide = wide or (data.dtype.kind in "iu" and data.dtype.itemsize > 2)
    pedestal = float(np.median(values)) if wide and values.size else 0.0
    return PixelSource(data, arrays[0], arrays[1], pedestal)


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
            f"all {n_good} good pixels of the image have the same value {low:g}; "
            "there is nothing to detect"
        )


def _measure(
    frame: Frame, peaks: Peaks, profile: Profile, threshold: float, fixed_gain: bool
) -> QTable:
    """Fit all peaks and those hidden beside them, drop what is not there, flag the rest."""
    from spalipy_astro.centroids import Fits
    from spalipy_astro.probe import first_flux, fit_all, noise_law, window_radius

    fwhm = profile.fwhm
    ny, nx = frame.source.shape
    radius = window_radius(fwhm)
    order = np.argsort(-peaks.snr, kind="stable")
    x, y = peaks.x[order], peaks.y[order]
    noise = frame.background.at(x, y)[1]
    fits = Fits.start(x, y, first_flux(peaks.snr[order] * noise, fwhm))
    fits, saturated, bad = fit_all(frame, profile, fits, x, y, radius, search=True)
    hidden = _companions(fits, saturated | bad, threshold, fwhm)
    if len(hidden):
        x = np.concatenate((x, np.round(fits.companion[hidden, 1]).astype(np.int64)))
        y = np.concatenate((y, np.round(fits.companion[hidden, 2]).astype(np.int64)))
        noise = frame.background.at(x, y)[1][-len(hidden) :]
        more = Fits.start(
            x[-len(hidden) :],
            y[-len(hidden) :],
            first_flux(fits.companion[hidden, 0] * noise, fwhm),
        )
        fits = fits.append(more)
        near = cKDTree(more.position).query(fits.position)[0] < 1.5 * radius
        again, full, broken = fit_all(
            frame, profile, fits, x, y, radius, members=np.flatnonzero(near), passes=2
        )
        saturated = np.append(saturated, np.zeros(len(hidden), dtype=bool)) | full
        bad = np.append(bad, np.zeros(len(hidden), dtype=bool)) | broken
        fits = again
    edge = np.minimum.reduce([x, y, nx - 1 - x, ny - 1 - y]) < 1.2 * fwhm
    flag = np.zeros(len(x), dtype=np.int64)
    flag[saturated] |= StarFlag.SATURATED
    flag[edge] |= StarFlag.EDGE
    flag[bad & ~edge] |= StarFlag.BAD_PIXELS
    flag[~fits.converged] |= StarFlag.UNSTABLE
    narrow = (fits.width * fwhm < 0.45 * fwhm + 0.4) & (1 - fits.width > 3 * fits.width_error)
    if fwhm > _UNDERSAMPLED:
        flag[narrow | (fits.sharpness > 4.5)] |= StarFlag.ARTIFACT
    flag[(fits.width > 1.3) & (fits.width - 1 > 4 * fits.width_error)] |= StarFlag.EXTENDED
    px, py = fits.position.T
    keep = (fits.flux > 0) & (fits.errors[:, 2] > 0) & (fits.snr > 0.7 * threshold)
    keep &= (px > -0.5) & (py > -0.5) & (px < nx - 0.5) & (py < ny - 0.5)
    keep[keep] = _without_doubles(fits[keep], 0.5 * fwhm)
    _flag_neighbors(fits, np.where(keep, fits.flux, 0), fwhm, flag)
    clean = keep & (flag & ~StarFlag.NEIGHBOR == 0)
    inverse_gain, model_error = noise_law(frame, fits[clean], fixed_gain)
    # a wrong PSF shifts all stars alike, but for their place within the pixel
    model_error *= np.clip(2 / fwhm, 0.4, 1) ** 2
    errors = fits.position_errors(inverse_gain - frame.inverse_gain, model_error)
    # the noise that makes a faint star's flux too large makes its error too small
    errors *= np.sqrt(1 + 16 / np.maximum(fits.snr, 1) ** 2)[:, None]
    # what looks less like the PSF than others, a star with a hidden companion say, is less certain
    bright = fits.chi2[clean & (fits.snr > 20)]
    typical = max(float(np.median(bright)), 1.0) if len(bright) else 1.0
    errors *= np.sqrt(np.maximum(fits.chi2 / (1.5 * typical), 1))[:, None]
    columns = {
        "x": px,
        "y": py,
        "x_err": errors[:, 0],
        "y_err": errors[:, 1],
        "flux": fits.flux,
        "flux_err": fits.errors[:, 2],
        "fwhm": fits.width * fwhm,
        "snr": fits.snr,
        "flag": flag,
    }
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(-fits.flux[rows], kind="stable")]
    meta = {"gain": 1 / max(inverse_gain, 1e-30), "model_error": model_error}
    return QTable({name: values[rows] for name, values in columns.items()}, meta=meta)


def _companions(fits: Fits, spoiled: NDArray, threshold: float, fwhm: float) -> NDArray:
    """Stars next to which the residuals have a peak that is no star yet."""
    strength, x, y = fits.companion.T
    rows = np.flatnonzero((strength > threshold) & ~spoiled & (fits.sharpness < 4.5))
    if len(rows) == 0:
        return rows
    place = np.column_stack((x, y))[rows]
    known = cKDTree(fits.position).query(place)[0] < 0.6 * fwhm
    rows, place = rows[~known], place[~known]
    if len(rows) == 0:
        return rows
    pairs = cKDTree(place).query_pairs(fwhm, output_type="ndarray")
    weaker = np.where(strength[rows[pairs[:, 0]]] < strength[rows[pairs[:, 1]]], *pairs.T)
    return np.delete(rows, weaker)


def _flag_neighbors(fits: Fits, flux: NDArray, fwhm: float, flag: NDArray) -> None:
    """Set the flags of stars that others blend with or shine into."""
    from spalipy_astro.probe import neighbor_lists

    pointer, other = neighbor_lists(fits.position, 1.5 * fwhm)
    me = np.repeat(np.arange(len(flux)), np.diff(pointer))
    close = flux[other] > 0.05 * flux[me]
    flag[me[close]] |= StarFlag.BLENDED
    flag[fits.foreign > 0.05] |= StarFlag.NEIGHBOR


def _without_doubles(fits: Fits, reach: float) -> NDArray:
    """Return False for the fainter of two detections of one star."""
    keep = np.ones(len(fits), dtype=bool)
    pairs = cKDTree(fits.position).query_pairs(reach, output_type="ndarray")
    if len(pairs):
        brighter = fits.flux[pairs[:, 0]] >= fits.flux[pairs[:, 1]]
        keep[np.where(brighter, pairs[:, 1], pairs[:, 0])] = False
    return keep
