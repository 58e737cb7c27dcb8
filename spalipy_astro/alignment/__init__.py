"""The result: a transform, what supports it, and what can be done with it."""

from spalipy_astro.alignment._alignment import Alignment
from spalipy_astro.alignment._coverage import Coverage
from spalipy_astro.alignment._derive import rescaled
from spalipy_astro.alignment._error import ErrorTerm, error_over
from spalipy_astro.alignment._flux import flux_ratio
from spalipy_astro.alignment._output import check_grid, finer_shape, output_of, resampled
from spalipy_astro.alignment._summary import (
    Summary,
    box_of,
    center_of,
    figures_of,
    provenance,
    scale_of,
)

__all__ = [
    "Alignment",
    "Coverage",
    "ErrorTerm",
    "Summary",
    "box_of",
    "center_of",
    "check_grid",
    "error_over",
    "figures_of",
    "finer_shape",
    "flux_ratio",
    "output_of",
    "provenance",
    "resampled",
    "rescaled",
    "scale_of",
]
