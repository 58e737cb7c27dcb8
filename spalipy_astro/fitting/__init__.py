"""Matched pairs to a transform and its errors."""

from spalipy_astro.fitting._bending import N_TERMS
from spalipy_astro.fitting._consensus import agreement, consensus
from spalipy_astro.fitting._covariance import Covariance
from spalipy_astro.fitting._fit import Fit, Pixels, fit_backward
from spalipy_astro.fitting._linear import KINDS, fit_linear
from spalipy_astro.fitting._reml import choose_smoothing
from spalipy_astro.fitting._smoothing import Posterior, System, solve
from spalipy_astro.fitting._splinespace import Design, SplineSpace

__all__ = [
    "KINDS",
    "N_TERMS",
    "Covariance",
    "Design",
    "Fit",
    "Pixels",
    "Posterior",
    "SplineSpace",
    "System",
    "agreement",
    "choose_smoothing",
    "consensus",
    "fit_backward",
    "fit_linear",
    "solve",
]
