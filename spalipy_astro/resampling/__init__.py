"""An image onto another grid."""

from spalipy_astro.resampling._brightness import conserves_flux
from spalipy_astro.resampling._kernels import Kernel
from spalipy_astro.resampling._resample import (
    METHODS,
    check_method,
    resample,
    resample_flags,
)

__all__ = [
    "METHODS",
    "Kernel",
    "check_method",
    "conserves_flux",
    "resample",
    "resample_flags",
]
