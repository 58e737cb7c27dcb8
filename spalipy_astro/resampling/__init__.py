"""An image onto another grid."""

from spalipy_astro.resampling._kernels import Kernel
from spalipy_astro.resampling._resample import METHODS, resample, resample_flags, warm_up

__all__ = [
    "METHODS",
    "Kernel",
    "resample",
    "resample_flags",
    "warm_up",
]
