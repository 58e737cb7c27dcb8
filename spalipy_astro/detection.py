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
    from spalipy_astro.centroids import Profile
    from spalipy_astro.peaks import Peaks
    from spalipy_astro.probe import Frame

__all__ = ["find_stars"]


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
    from spalipy_astro.peaks import find_peaks
    from spalipy_astro.probe import Frame, measure_profile

    if not threshold > 0:
        raise ValueError(f"threshold must be positive, not {threshold}")
    if gain is not None and not gain > 0:
        raise ValueError(f"gain must be positive, not {gain}")
    if fwhm is not None and not 0.5 <= fwhm <= 100:
        raise ValueError(f"fwhm must lie between 0.5 and 100 px, not {fwhm}")
    source = _pixel_source(data, mask, error)
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
    table = _measure(frame, peaks, profile, threshold)
    table.meta.update(
        background=level, noise=noise, fwhm=profile.fwhm, threshold=threshold,
        shape=source.shape, n_detected=len(table), gain=1 / max(frame.inverse_gain, 1e-30),
        model_error=frame.model_error, response=frame.response,
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
    probe = PixelSource(data, *arrays, 0.0)
    values = probe.rows(np.arange(0, ny, max(1, ny // 16)))
    values = values[np.isfinite(values)]
    if values.size == 0 or values.min() == values.max():
        _check_all(probe)
    wide = data.dtype.kind == "f" and data.dtype.itemsize > 4
    wide = wide or (data.dtype.kind in "iu" and data.dtype.itemsize > 2)
    pedestal = float(np.median(values)) if wide and values.size else 0.0
    return PixelSource(data, *arrays, pedestal)


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


def _measure(frame: Frame, peaks: Peaks, profile: Profile, threshold: float) -> QTable:
    """Fit all peaks, drop what is not there, flag the rest."""
    from spalipy_astro.centroids import fit_stars
    from spalipy_astro.probe import first_guess, neighbor_lists

    fwhm = profile.fwhm
    radius = int(np.ceil(max(2 * fwhm, 3)))
    order = np.argsort(-peaks.snr, kind="stable")
    x, y, peak_snr = peaks.x[order], peaks.y[order], peaks.snr[order].astype(float)
    stamps, variance, saturated = frame.cutouts(x, y, radius)
    noise = np.sqrt(variance.mean(axis=(1, 2)))
    flag = np.zeros(len(x), dtype=np.int64)
    yy, xx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    core = np.hypot(xx, yy) <= max(fwhm, 1.5)
    flag[saturated[:, core].any(axis=1)] |= StarFlag.SATURATED
    ny, nx = frame.source.shape
    edge = np.minimum.reduce([x, y, nx - 1 - x, ny - 1 - y]) < 1.2 * fwhm
    flag[edge] |= StarFlag.EDGE
    bad = (np.isnan(stamps) & ~saturated)[:, core].any(axis=1) & ~edge
    flag[bad] |= StarFlag.BAD_PIXELS
    start = first_guess(x, y, peak_snr * noise, fwhm)
    fits = fit_stars(
        stamps, variance, np.column_stack((x - radius, y - radius)), start, profile,
        inverse_gain=frame.inverse_gain, model_error=frame.model_error, radius=radius,
        neighbors=neighbor_lists(x, y, radius + 3 * fwhm), passes=2,
    )
    flag[~fits.converged] |= StarFlag.UNSTABLE
    width_error = fits.errors[:, 4]
    flag[(fits.width > 1.3) & (fits.width - 1 > 4 * width_error)] |= StarFlag.EXTENDED
    flag[_too_sharp(stamps, noise, frame.inverse_gain, profile)] |= StarFlag.ARTIFACT
    keep = (fits.flux > 0) & (fits.errors[:, 2] > 0) & (fits.snr > 0.7 * threshold)
    keep &= (fits.x > -0.5) & (fits.y > -0.5) & (fits.x < nx - 0.5) & (fits.y < ny - 0.5)
    keep[keep] = _without_doubles(fits.x[keep], fits.y[keep], fits.flux[keep], 0.5 * fwhm)
    flux = np.where(keep, fits.flux, 0)
    pointer, other = neighbor_lists(fits.x, fits.y, 3 * fwhm)
    me = np.repeat(np.arange(len(x)), np.diff(pointer))
    distance = np.hypot(fits.x[me] - fits.x[other], fits.y[me] - fits.y[other])
    close = (distance < 1.5 * fwhm) & (flux[other] > 0.05 * flux[me])
    flag[me[close]] |= StarFlag.BLENDED
    near = flux[other] * np.exp(-((distance / fwhm) ** 2)) > 0.02 * flux[me]
    flag[me[near]] |= StarFlag.NEIGHBOR
    # the noise that makes a faint star's flux too large makes its error too small
    scatter = np.sqrt(1 + 16 / np.maximum(fits.snr, 1) ** 2)
    columns = {
        "x": fits.x, "y": fits.y,
        "x_err": fits.errors[:, 0] * scatter, "y_err": fits.errors[:, 1] * scatter,
        "flux": fits.flux, "flux_err": fits.errors[:, 2], "fwhm": fits.width * fwhm,
        "snr": fits.snr, "flag": flag,
    }
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(-fits.flux[rows], kind="stable")]
    return QTable({name: values[rows] for name, values in columns.items()})


def _without_doubles(x: NDArray, y: NDArray, flux: NDArray, reach: float) -> NDArray:
    """False for the fainter of two detections of one star."""
    keep = np.ones(len(x), dtype=bool)
    pairs = cKDTree(np.column_stack((x, y))).query_pairs(reach, output_type="ndarray")
    if len(pairs):
        brighter = flux[pairs[:, 0]] >= flux[pairs[:, 1]]
        keep[np.where(brighter, pairs[:, 1], pairs[:, 0])] = False
    return keep


def _too_sharp(stamps: NDArray, noise: NDArray, inverse_gain: float, profile: Any) -> NDArray:
    """Tell hot pixels and cosmic rays, which stand out from their neighbors more than a star can.

    Of all stars one that is centered on a pixel has the faintest neighbors, in each of the four
    directions; thin lines miss them in at least one direction, single pixels in all.
    """
    table, step = profile.table()
    center = stamps.shape[1] // 2
    n = len(stamps)
    block = np.nan_to_num(stamps[:, center - 1 : center + 2, center - 1 : center + 2])
    best = block.reshape(n, 9).argmax(axis=1)
    cy, cx = center - 1 + best // 3, center - 1 + best % 3
    me = np.arange(n)
    peak = stamps[me, cy, cx].astype(float)
    result = np.zeros(n, dtype=bool)
    excess_all = np.zeros(n)
    expected_all = 0.0
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        k = (dx * dx + dy * dy) / step
        share = np.interp(k, np.arange(len(table)), table) / table[0]
        pair = 0.5 * (stamps[me, cy + dy, cx + dx] + stamps[me, cy - dy, cx - dx]).astype(float)
        variance = (0.5 + share**2) * noise**2 + inverse_gain * share * np.maximum(peak, 0)
        variance = variance + (0.2 * share * peak) ** 2
        with np.errstate(invalid="ignore"):
            result |= share * peak - pair > 4.5 * np.sqrt(variance)
        excess_all += pair / 4
        expected_all += share / 4
    variance = (0.125 + expected_all**2) * noise**2 + (0.15 * expected_all * peak) ** 2
    variance = variance + inverse_gain * expected_all * np.maximum(peak, 0)
    with np.errstate(invalid="ignore"):
        result |= expected_all * peak - excess_all > 4.0 * np.sqrt(variance)
    return result
