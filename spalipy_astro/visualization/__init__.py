"""Figures of an alignment, and of the images that it aligns."""

from spalipy_astro.visualization._canvas import pixels_of, sky_of
from spalipy_astro.visualization._drift import plot_drift, plot_sequence
from spalipy_astro.visualization._group import plot_group, plot_group_residuals
from spalipy_astro.visualization._maps import plot_coverage, plot_distortion, plot_error
from spalipy_astro.visualization._notebook import picture_of
from spalipy_astro.visualization._overview import (
    plot_alignment,
    plot_difference,
    plot_image,
    plot_matches,
)
from spalipy_astro.visualization._residuals import (
    plot_residuals,
    plot_residuals_by_flux,
    plot_residuals_by_position,
)

__all__ = [
    "picture_of",
    "pixels_of",
    "plot_alignment",
    "plot_coverage",
    "plot_difference",
    "plot_distortion",
    "plot_drift",
    "plot_error",
    "plot_group",
    "plot_group_residuals",
    "plot_image",
    "plot_matches",
    "plot_residuals",
    "plot_residuals_by_flux",
    "plot_residuals_by_position",
    "plot_sequence",
    "sky_of",
]
