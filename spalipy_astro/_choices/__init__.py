"""
The names that options take.

Command lines show them before anything is imported that takes a while; the subpackages whose
options they are take them from here.
"""

from __future__ import annotations

__all__ = ["COMBINE", "DRIZZLE_KERNELS", "INTERPOLATIONS", "KINDS", "METHODS", "OBSERVATORY"]

KINDS = {"shift": 1, "rigid": 2, "similarity": 2, "affine": 3}
"""Kinds of linear maps, and how many pairs of points determine one."""

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3")
"""Names of the kernels that pixels are interpolated with."""

METHODS = (*INTERPOLATIONS, "adaptive", "exact", "drizzle")
"""Names of the methods of `~spalipy_astro.resampling.resample`."""

DRIZZLE_KERNELS = ("square", "gaussian", "point", "turbo", "lanczos2", "lanczos3")
"""Names of the shapes that the package drizzle knows."""

COMBINE = ("mean", "median", "sum", "min", "max", "first", "last")
"""How pixels that several frames show can be combined."""

OBSERVATORY = "observatory"
"""Value of ``ignore_flags``: the bits that the observatory says are harmless."""
