"""The whole method: detect, match, fit, wrap, resample."""

from spalipy_astro.registration._detect import detect_stars
from spalipy_astro.registration._findoptions import FindOptions
from spalipy_astro.registration._pairs import fit_alignment
from spalipy_astro.registration._prepare import StarFrame, open_side, prepare
from spalipy_astro.registration._registration import align, find_alignment

__all__ = [
    "FindOptions",
    "StarFrame",
    "align",
    "detect_stars",
    "find_alignment",
    "fit_alignment",
    "open_side",
    "prepare",
]
