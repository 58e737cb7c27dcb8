"""The ratio of fluxes of two images, from the stars that match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

__all__ = ["flux_ratio", "profile_error"]

FloatArray = NDArray[np.float64]

_LEAST = 3
_NEIGHBORS = 21  # stars of like flux from which the scatter is taken
_WORST = 3.0  # times the smallest scatter: fainter stars are those that noise made bright
_ROUNDS = 20
_TUKEY = 6.0  # sigma: where Tukey's biweight falls to zero
_NORMAL = 1.4826
# How well the aperture correction of a frame is known: measured on trails of 5 to 12 px, on discs
# of 3 to 8 px in radius and on rings, of which the corrections are 1 to 14 %.
_CORRECTION_ERROR = 0.15
_WINGS_ERROR = 0.12  # of the light that only the fitted profile tells


def flux_ratio(matches: QTable) -> tuple[float, float]:
    """
    Return how much brighter the stars are in the source than in the template.

    Parameters
    ----------
    matches : `~astropy.table.QTable`
        As `Alignment.matches`.

    Returns
    -------
    ratio, error : float
        Flux in the source over flux in the template, and its standard error; NaN if less than
        three matched stars have fluxes.

    Notes
    -----
    A weighted mean of the logarithms with Tukey's biweight (Beaton & Tukey 1974, Technometrics,
    16, 147, doi:10.1080/00401706.1974.10489171), which variable stars and blends do not move. The
    scatter of a star is that of the stars of like flux. Those whose scatter is more than three
    times the smallest are left out: near the limit of a frame only the ones are seen that noise
    made brighter.
    """
    source, template = (
        np.asarray(matches[f"flux_{side}"], float) for side in ("source", "template")
    )
    with np.errstate(invalid="ignore"):
        good = (
            (source > 0)
            & (template > 0)
            & np.isfinite(source)
            & np.isfinite(template)
            & np.asarray(matches["used"], bool)
        )
    if np.count_nonzero(good) < _LEAST:
        return np.nan, np.nan
    source, template = np.log(source[good]), np.log(template[good])
    order = np.argsort(-(source + template), kind="stable")
    value = (source - template)[order]
    scatter = _scatter(value)
    value, scatter = (array[scatter <= _WORST * scatter.min()] for array in (value, scatter))
    center = float(np.median(value))
    for _ in range(_ROUNDS):
        u = (value - center) / (_TUKEY * scatter)
        weight = np.where(np.abs(u) < 1, (1 - u**2) ** 2, 0.0) / scatter**2
        before, center = center, float(np.sum(weight * value) / np.sum(weight))
        if abs(center - before) < 1e-9:
            break
    u = np.clip((value - center) / (_TUKEY * scatter), -1, 1)
    # of an M-estimator: Huber 1981, Robust Statistics, section 6.3
    influence = np.sum(((value - center) * (1 - u**2) ** 2 / scatter**2) ** 2)
    slope = np.sum((1 - u**2) * (1 - 5 * u**2) / scatter**2)
    n = len(value)
    ratio = float(np.exp(center))
    return ratio, ratio * float(np.sqrt(influence * n / max(n - 1, 1)) / max(slope, 1e-300))


def profile_error(quality: Mapping[str, Mapping[str, Any]]) -> float:
    """
    Return the error of a flux ratio that all stars have in common.

    Parameters
    ----------
    quality : mapping
        Of the ``source`` and the ``template``, as `Alignment.provenance` has it.

    Returns
    -------
    float
        Relative standard error: that of the aperture corrections, from the scatter among the stars
        that told them; and, as far as both images differ, how well apertures tell the correction at
        all, and profiles the light beyond them. 0 where these are not known.
    """
    pairs = [_flux_scale(quality.get(side) or {}) for side in ("source", "template")]
    values, errors, wings = np.array(pairs).T
    if not (values > 0).all():
        return 0.0
    different = _CORRECTION_ERROR * np.log(values[0] / values[1]), _WINGS_ERROR * np.diff(wings)[0]
    return float(np.linalg.norm([*different, *(errors / values)]))


def _flux_scale(known: Mapping[str, Any]) -> list[float]:
    """Return an image's aperture correction (NaN if not known), its error, and light beyond."""
    names = {"aperture_correction": np.nan, "aperture_correction_err": 0.0, "wings": 0.0}
    values = {name: float(known.get(name) or np.nan) for name in names}
    return [values[name] if np.isfinite(values[name]) else none for name, none in names.items()]


def _scatter(value: FloatArray) -> FloatArray:
    """Return the scatter of values around those of their neighbors; it does not fall."""
    n = len(value)
    middle = float(np.median(value))
    size = min(_NEIGHBORS, n)
    first = np.clip(np.arange(n) - size // 2, 0, n - size)
    windows = np.lib.stride_tricks.sliding_window_view(np.abs(value - middle), size)[first]
    local = _NORMAL * np.median(windows, axis=1)
    # fainter stars scatter more; two equal stars do not make a scatter of zero
    floor = max(1e-4, 0.1 * _NORMAL * float(np.median(np.abs(value - middle))))
    return np.maximum(np.maximum.accumulate(local), floor)
