"""How good a frame is: what its stars and its sky say of seeing, tracking and depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.wcs.utils import proj_plane_pixel_scales

from spalipy_astro.io import Image, exposure_time

__all__ = ["measure_quality"]

_DEPTH_SNR = 5.0
_FAINT_SNR = 15.0  # below it the noise of the sky decides how well a flux is known
_LEAST_FAINT = 10
_FLUX_SCALE = ("aperture_correction", "aperture_correction_err", "wings")


def measure_quality(
    table: Table, n_stars: int, image: Image, header: Mapping[str, Any]
) -> dict[str, float]:
    """
    Describe a frame by what the detection of its stars has measured.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Its stars, as `~spalipy_astro.detect_stars` returns them.
    n_stars : int
        How many of them can be used.
    image : Image
        The frame; its WCS gives the scale.
    header : mapping
        Its header, which may tell the time of the exposure.

    Returns
    -------
    dict
        ``fwhm`` (px), ``fwhm_arcsec``, ``ellipticity`` (1 - b/a) and ``orientation`` of the PSF's
        long axis (deg, counter-clockwise from +x to +y, from -90 to 90), ``background`` and
        ``noise`` of the sky (per pixel), ``n_stars``, ``depth`` (flux of a signal-to-noise ratio
        of 5), ``aperture_correction`` (a factor, which the fluxes contain) with
        ``aperture_correction_err``, ``wings`` (share of the light that the PSF has beyond the
        apertures) and ``exptime`` (s). NaN where it is not known.
    """
    meta = table.meta
    fwhm = float(meta.get("fwhm", np.nan))
    return {
        "fwhm": fwhm,
        "fwhm_arcsec": fwhm * _arcsec_per_pixel(image.wcs),
        "ellipticity": float(meta.get("ellipticity", np.nan)),
        "orientation": float(meta.get("orientation", np.nan)),
        "background": float(meta.get("background", np.nan)),
        "noise": float(meta.get("noise", np.nan)),
        "n_stars": float(n_stars),
        "depth": _depth(table, fwhm),
        **{name: float(meta.get(name, np.nan)) for name in _FLUX_SCALE},
        "exptime": exposure_time(header),
    }


def _depth(table: Table, fwhm: float) -> float:
    """Return the flux of a star of a signal-to-noise ratio of 5."""
    if "snr" in table.colnames and "flux" in table.colnames:
        snr, flux = (np.asarray(table[name], float) for name in ("snr", "flux"))
        faint = (snr > 0) & (snr < _FAINT_SNR) & (flux > 0)
        if np.count_nonzero(faint) >= _LEAST_FAINT:
            return _DEPTH_SNR * float(np.median(flux[faint] / snr[faint]))
    # the noise in the area of a Gaussian, as a filter of its shape sees it
    sigma = np.hypot(fwhm / 2.3548, 1 / np.sqrt(12))
    return _DEPTH_SNR * float(table.meta.get("noise", np.nan)) * np.sqrt(4 * np.pi) * float(sigma)


def _arcsec_per_pixel(wcs: Any) -> float:
    """Return the scale of a celestial FITS WCS; NaN without one."""
    celestial = getattr(wcs, "celestial", None)
    if celestial is None or celestial.naxis != 2:
        return np.nan
    scales = proj_plane_pixel_scales(celestial) * 3600
    return float(np.sqrt(np.prod(scales)))
