"""An image onto another grid."""

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
    "resample",
    "resample_flags",
]
