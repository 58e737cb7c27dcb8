"""An image onto another grid."""

from spalipy_astro._choices import DRIZZLE_KERNELS, METHODS
from spalipy_astro.resampling._brightness import conserves_flux
from spalipy_astro.resampling._drops import drops_of, require_uncertainty
from spalipy_astro.resampling._kernels import Kernel
from spalipy_astro.resampling._resample import (
    bytes_of_pixel,
    check_method,
    resample,
    resample_flags,
)

__all__ = [
    "DRIZZLE_KERNELS",
    "METHODS",
    "Kernel",
    "bytes_of_pixel",
    "check_method",
    "conserves_flux",
    "drops_of",
    "require_uncertainty",
    "resample",
    "resample_flags",
]
