"""Objects of any shape by photutils' image segmentation: trails, rings and galaxies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

from spalipy_astro.catalogs import StarFlag

if TYPE_CHECKING:
    from spalipy_astro.detection._exposure import Exposure

__all__ = ["find_objects"]

_FIRST_FWHM = 3.0  # px: of the filter with which the size of the objects is measured
_MOST_FWHM = 60.0  # px
# Filter's width per width of the objects: wide enough that a ring has its maximum in the middle.
_FILTER = 0.8
_ROUNDS = 4
_TRAILED = 2.0  # times as long as wide: all objects in the same direction
_THINNEST = 1.2  # px
_BRIGHT = 40  # objects that tell the size
_ISOPHOTE = 2.5  # noise of the filtered image: what belongs to an object
# Share of the pixels that are brighter in a crowd, where all objects would be one; and of those
# that belong to objects there.
_CROWD, _OF_CROWD = 0.3, 0.1
_LEAST_AREA = 5  # px
_CONTRAST = 0.02  # light of the smaller part of an object that is taken apart
_APART = 0.05  # of the width: error of the position of an object that was taken apart
_TRUNCATED = 1.3  # pixels at an object's rim belong to it or not as their noise will have it
_MOST_WINDOWED = 2000  # brightest objects: one takes some ms
_MOST_BAD = 0.1  # part of an object
_ONE_PIXEL = 0.6  # of the light in one pixel: a hot pixel or a cosmic ray
_CELL = 128.0  # px: of the mesh of the sky, which objects of 50 px must not fill

_COLUMNS = ("x", "y", "x_err", "y_err", "flux", "flux_err", "fwhm", "snr", "flag")


class _Field(NamedTuple):
    """An image less its sky, and the variance of its pixels; bad pixels are 0 and not good."""

    light: NDArray[np.float64]
    noise: NDArray[np.float64]
    good: NDArray[np.bool_]


def find_objects(frame: Exposure, threshold: float) -> QTable:
    """
    Segment an image into objects, and measure where their light is centered.

    Parameters
    ----------
    frame : Exposure
        The image. Its sky is estimated again, on a mesh of 128 px.
    threshold : float
        Smallest signal-to-noise ratio of an object's maximum in the filtered image.

    Returns
    -------
    `~astropy.table.QTable`
        As `find_stars` returns it, brightest first; the position is the center of the light and
        ``fwhm`` that of a Gaussian with the object's second moments. ``meta`` has the ``fwhm``,
        ``ellipticity`` and ``orientation`` of the bright ones by their second moments.

    Notes
    -----
    The image is filtered with a Gaussian as wide as the brightest objects, so that a ring is one
    object, and as long as these where all of them are long in one direction, as trails are. Pixels
    above 2.5 times the noise that the filtered image has itself, in a crowd the brightest tenth,
    are segmented
    (`photutils.segmentation.detect_sources`) and taken apart (``deblend_sources``).
    Positions are the centroids of photutils' ``SourceCatalog``, and their errors follow from the
    noise of the pixels.
    """
    field = _field_of(frame)
    sigma = _FIRST_FWHM / 2.3548
    filtered = _filtered(field, sigma)
    most = min(_MOST_FWHM / 2.3548, min(field.light.shape) / 20)
    spreads = []
    for _ in range(_ROUNDS):
        size, spread = _size(filtered, sigma, threshold)
        spreads.append(spread)
        size *= _FILTER
        if not size > 1.25 * sigma:
            break
        sigma = min(size, most)
        filtered = _filtered(field, sigma)
    # a filter too narrow or too wide leaves a part of a trail below the isophote
    spread = max(spreads, key=lambda moments: np.linalg.eigvalsh(moments)[1])
    across, along = np.sqrt(np.maximum(np.linalg.eigvalsh(spread), 0.0))
    across = max(_FILTER * across, _THINNEST)
    if along > _TRAILED * across:
        # a trail may be brighter at its ends, and a round filter makes two objects of it
        along = min(along, most)
        filtered, sigma = _filtered_along(field, spread, along, across), np.sqrt(along * across)
    return _measure(frame, field, filtered, sigma * 2.3548, threshold)


def _field_of(frame: Exposure) -> _Field:
    """Subtract the sky and tell the noise of each pixel."""
    from spalipy_astro.detection._background import estimate_background
    from spalipy_astro.detection._finders import less_sky

    return _Field(*less_sky(frame.source, estimate_background(frame.source, cell=_CELL)))


def _filtered(field: _Field, sigma: float) -> NDArray[np.float64]:
    """Filter the light with a Gaussian; in units of the noise that the result has itself."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(field.light / field.noise, sigma, mode="constant", truncate=3.0)
    if not field.good.all():
        weight = gaussian_filter(field.good.astype(np.float64), sigma, mode="nearest", truncate=3.0)
        smooth /= np.maximum(weight, 0.25)
    return _in_noise(smooth, field, sigma)


def _filtered_along(
    field: _Field, spread: NDArray, along: float, across: float
) -> NDArray[np.float64]:
    """Filter the light with a Gaussian that is long in the direction in which the objects are."""
    from scipy import fft

    axes = np.linalg.eigh(spread)[1]  # of columns: across, along
    ny, nx = field.light.shape
    reach = int(np.ceil(3 * along))
    shape = tuple(fft.next_fast_len(n + reach, real=True) for n in (ny, nx))
    fy, fx = np.meshgrid(fft.fftfreq(shape[0]), fft.rfftfreq(shape[1]), indexing="ij")
    turned = [fx * axis[0] + fy * axis[1] for axis in axes.T]
    transfer = np.exp(-2 * np.pi**2 * ((across * turned[0]) ** 2 + (along * turned[1]) ** 2))

    def smoothed(values: NDArray) -> NDArray[np.float64]:
        return fft.irfft2(fft.rfft2(values, shape) * transfer, shape)[:ny, :nx]

    smooth = smoothed(field.light / field.noise)
    if not field.good.all():
        smooth /= np.maximum(smoothed(field.good.astype(np.float64)), 0.25)
    return _in_noise(smooth, field, float(np.sqrt(along * across)))


def _in_noise(smooth: NDArray, field: _Field, sigma: float) -> NDArray[np.float64]:
    """Divide a filtered image by the noise that it has itself."""
    # of white noise; what neighboring pixels have in common is seen below the sky, without stars
    white = 1 / (2 * np.sqrt(np.pi) * sigma)
    below = smooth[(smooth < 0) & field.good]
    seen = 1.4826 * float(np.median(-below)) if len(below) else 0.0
    return smooth / max(white, seen)


def _segments(filtered: NDArray, threshold: float) -> Any:
    """Segment what is brighter than the threshold; None if nothing is."""
    from photutils.segmentation import detect_sources

    # of one pixel, as photutils warns where it finds none; small ones are left out later
    return detect_sources(filtered, threshold, 1) if (filtered > threshold).any() else None


def _isophote(filtered: NDArray) -> float:
    """Return the value of the filtered image from which on a pixel belongs to an object."""
    if np.count_nonzero(filtered > _ISOPHOTE) < _CROWD * filtered.size:
        return _ISOPHOTE
    return float(np.quantile(filtered, 1 - _OF_CROWD))


def _size(filtered: NDArray, sigma: float, threshold: float) -> tuple[float, NDArray[np.float64]]:
    """
    Measure the width of the bright objects: rms distance of their light along an axis, px.

    And their second moments in common, shape (2, 2).
    """
    none = 0.0, np.zeros((2, 2))
    isophote = _isophote(filtered)
    segments = _segments(filtered, isophote)
    if segments is None:
        return none
    label = segments.data
    y, x = np.nonzero(label)
    weight = filtered[y, x]
    label = label[y, x]
    x, y = x.astype(float), y.astype(float)
    light, sx, sy, sxx, sxy, syy = (
        np.bincount(label, weights=weight * power)
        for power in (np.ones(len(x)), x, y, x**2, x * y, y**2)
    )
    # specks of noise have no maximum above the threshold
    light[_largest(filtered, segments.data) <= threshold] = 0
    # the brightest in a crowd are clusters, or the glow of a nebula
    bright = np.argsort(-light, kind="stable")[: _BRIGHT if isophote == _ISOPHOTE else None]
    bright = bright[light[bright] > threshold * _LEAST_AREA]
    if not len(bright):
        return none
    light, sx, sy, sxx, sxy, syy = (sums[bright] for sums in (light, sx, sy, sxx, sxy, syy))
    mx, my = sx / light, sy / light
    xx, xy, yy = sxx / light - mx**2, sxy / light - mx * my, syy / light - my**2
    spread = np.array([[np.median(xx), np.median(xy)], [np.median(xy), np.median(yy)]])
    size = float(np.sqrt(max(np.median(xx + yy) / 2 - sigma**2, 0.0)))
    return size, spread - sigma**2 * np.eye(2)


def _measure(
    frame: Exposure, field: _Field, filtered: NDArray, fwhm: float, threshold: float
) -> QTable:
    """Take objects apart and measure them."""
    from photutils.segmentation import SourceCatalog, deblend_sources

    gain = 1 / max(frame.inverse_gain, 1e-30)
    meta = {"finder": "sources", "fwhm": fwhm, "gain": gain, "model_error": 0.0}
    segments = _segments(filtered, _isophote(filtered))
    if segments is not None:
        high = _largest(filtered, segments.data) > threshold
        high &= np.bincount(segments.data.ravel()) >= _LEAST_AREA
        high[0] = False
        segments.keep_labels(np.flatnonzero(high))
    if segments is None or not high.any():
        return _table({name: np.empty(0) for name in _COLUMNS}, meta)
    whole = segments.data.copy()
    segments = deblend_sources(
        filtered, segments, _LEAST_AREA, contrast=_CONTRAST, progress_bar=False
    )
    catalog = SourceCatalog(field.light, segments, mask=~field.good)
    variance = field.noise**2 + frame.inverse_gain * np.maximum(field.light, 0)
    light = _Light(field.light, variance, segments.data)
    position, errors = light.centers(np.atleast_2d(catalog.centroid), catalog.labels)
    _take_windowed(catalog, light, position, errors)
    flux = np.atleast_1d(catalog.segment_flux)
    flux_err = np.sqrt(light.sums(variance, catalog.labels))
    flag = _flags(frame, field, segments.data, whole, catalog)
    # the light of a neighbor that was taken apart wrongly moves both
    width = np.atleast_1d(catalog.fwhm.value)
    shape, (more, more_err) = _shape(frame, catalog, position, flux, flag)
    meta |= shape | {"aperture_correction": more, "aperture_correction_err": more_err}
    flux, flux_err = more * flux, more * flux_err
    errors = np.hypot(errors, _APART * width[:, None] * ((flag & StarFlag.BLENDED) > 0)[:, None])
    keep = (flux > 0) & np.isfinite(position).all(axis=1) & np.isfinite(errors).all(axis=1)
    keep &= (errors > 0).all(axis=1) & (flux_err > 0)
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(-flux[rows], kind="stable")]
    columns = (*position.T, *errors.T, flux, flux_err, width, flux / flux_err, flag)
    named = dict(zip(_COLUMNS, columns, strict=True))
    return _table({name: values[rows] for name, values in named.items()}, meta)


def _shape(
    frame: Exposure, catalog: Any, position: NDArray, flux: NDArray, flag: NDArray
) -> tuple[dict[str, float], tuple[float, float]]:
    """Measure the shape of bright objects; also their light over that in segments, its error."""
    from spalipy_astro.detection._apertures import missed_light
    from spalipy_astro.detection._psf import Profile

    clean = (flag == 0) & np.isfinite(position).all(axis=1) & (flux > 0)
    some = np.flatnonzero(clean if clean.any() else flux > 0)
    some = some[np.argsort(-flux[some], kind="stable")[:_BRIGHT]]
    if not len(some):
        return {}, (1.0, 0.0)
    moments = np.atleast_3d(catalog.covariance.value).reshape(-1, 2, 2)[some]
    xx, xy, yy = (float(np.nanmedian(moments[:, i, j])) for i, j in ((0, 0), (0, 1), (1, 1)))
    mean, half = (xx + yy) / 2, float(np.hypot((xx - yy) / 2, xy))
    long, short = np.sqrt(mean + half), np.sqrt(max(mean - half, 1e-6))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    shape = {
        "fwhm": 2.3548 * float(np.sqrt(long * short)),
        "ellipticity": float(1 - short / long),
        "orientation": float(np.degrees(angle)),
    }
    stretch = np.log(short / long) * np.array([np.cos(2 * angle), np.sin(2 * angle)])
    profile = Profile(shape["fwhm"], 0.0, (float(stretch[0]), float(stretch[1])))
    return shape, missed_light(frame, position, flux, clean, profile, always=True)


def _table(columns: dict[str, NDArray], meta: dict[str, Any]) -> QTable:
    """Make the table; flags are whole numbers."""
    return QTable({**columns, "flag": columns["flag"].astype(np.int64)}, meta=meta)


class _Light(NamedTuple):
    """The light of each pixel, its variance, and the object it belongs to."""

    light: NDArray[np.float64]
    variance: NDArray[np.float64]
    label: NDArray[np.int32]

    def sums(self, values: NDArray, labels: NDArray) -> NDArray[np.float64]:
        """Sum values over each object."""
        return np.bincount(self.label.ravel(), weights=values.ravel())[labels]

    def centers(self, center: NDArray, labels: NDArray) -> tuple[NDArray, NDArray]:
        """Return centers of light, shape (N, 2), and how far the pixels' noise moves them."""
        y, x = np.nonzero(self.label)
        label = self.label[y, x]
        row = np.searchsorted(labels, label)
        light, variance = self.light[y, x], self.variance[y, x]
        flux = np.bincount(row, weights=light)
        errors = np.empty_like(center)
        for k, place in enumerate((x, y)):
            moved = np.bincount(row, weights=variance * (place - center[row, k]) ** 2)
            errors[:, k] = np.sqrt(moved) / np.where(flux > 0, flux, np.nan)
        return center.copy(), _TRUNCATED * errors

    def windowed_error(self, center: NDArray, sigma: float) -> NDArray[np.float64]:
        """
        Return how far the noise moves a center at which the light under a Gaussian balances.

        It is that of the balance, divided by how fast the balance tips: a trail or a ring hardly
        tips it, and a point does.
        """
        radius = int(np.ceil(3 * sigma))
        x, y = center
        ny, nx = self.light.shape
        rows = np.arange(max(0, round(y) - radius), min(ny, round(y) + radius + 1))
        columns = np.arange(max(0, round(x) - radius), min(nx, round(x) + radius + 1))
        box = np.ix_(rows, columns)
        dy, dx = np.meshgrid(rows - y, columns - x, indexing="ij")
        weight = np.exp(-0.5 * (dx**2 + dy**2) / sigma**2)
        light, variance = weight * self.light[box], weight**2 * self.variance[box]
        tips = np.empty((2, 2))
        noise = np.empty((2, 2))
        for i, one in enumerate((dx, dy)):
            for j, two in enumerate((dx, dy)):
                tips[i, j] = (light * (float(i == j) - one * two / sigma**2)).sum()
                noise[i, j] = (variance * one * two).sum()
        if not np.linalg.eigvalsh(tips)[0] > 0:
            return np.full(2, np.inf)
        inverse = np.linalg.inv(tips)
        return np.sqrt(np.diag(inverse @ noise @ inverse))


def _take_windowed(catalog: Any, light: _Light, position: NDArray, errors: NDArray) -> None:
    """Replace centers of light by windowed centroids where these are the more certain."""
    flux = np.nan_to_num(np.atleast_1d(catalog.segment_flux))
    some = np.sort(np.argsort(-flux, kind="stable")[:_MOST_WINDOWED])
    few = catalog[some]
    # photutils 3 has given the radius another name
    radius = getattr(few, "flux_radius", None) or few.fluxfrac_radius
    sigma = 2 * np.atleast_1d(getattr(radius(0.5), "value", radius(0.5))) / 2.3548
    for row, center, width in zip(some, np.atleast_2d(few.centroid_win), sigma, strict=True):
        if not (np.isfinite(center).all() and width > 0):
            continue
        found = light.windowed_error(center, max(width, 0.5))
        if (found**2).sum() < (errors[row] ** 2).sum():
            position[row], errors[row] = center, found


def _flags(
    frame: Exposure, field: _Field, label: NDArray, whole: NDArray, catalog: Any
) -> NDArray[np.int64]:
    """Flag what is cut off, blended, saturated or no object of the sky."""
    labels = catalog.labels
    flag = np.zeros(len(labels), dtype=np.int64)
    rim = np.unique(np.concatenate((label[0], label[-1], label[:, 0], label[:, -1])))
    # half an object has its center elsewhere
    flag[np.isin(labels, rim)] |= StarFlag.EDGE | StarFlag.UNSTABLE
    area = np.bincount(label.ravel())
    bad = np.bincount(label[~field.good], minlength=len(area)) / np.maximum(area, 1)
    flag[bad[labels] > _MOST_BAD] |= StarFlag.BAD_PIXELS
    parent = np.zeros(len(area), dtype=np.int64)
    parent[label.ravel()] = whole.ravel()
    parent = parent[labels]
    flag[np.bincount(parent)[parent] > 1] |= StarFlag.BLENDED
    top = _largest(field.light, label)[labels]
    flag[top > _ONE_PIXEL * np.atleast_1d(catalog.segment_flux)] |= StarFlag.ARTIFACT
    if np.isfinite(frame.saturation):
        full = _largest(frame.source.rows(slice(None)), label)[labels]
        flag[full >= frame.saturation] |= StarFlag.SATURATED
    return flag


def _largest(values: NDArray, label: NDArray) -> NDArray[np.float64]:
    """Return the largest value under each label, from 0."""
    out = np.full(int(label.max()) + 1, -np.inf)
    np.fmax.at(out, label.ravel(), values.ravel())
    return out
