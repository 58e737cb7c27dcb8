"""The whole method: detect, match, fit, wrap, resample."""

from spalipy_astro.registration._prepare import Frame, prepare
from spalipy_astro.registration._registration import align, detect_stars, find_alignment

__all__ = [
    "Frame",
    "align",
    "detect_stars",
    "find_alignment",
    "prepare",
]
