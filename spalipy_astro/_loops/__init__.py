"""
The loops over pixels, in machine code.

Each is a Python function of one of these modules, which are imported only to compile it.
"""

from __future__ import annotations

from spalipy_astro._loops._machinecode import Loop

__all__ = [
    "average_tile",
    "difference_widths",
    "fit_batch",
    "flags_tile",
    "interpolate_tile",
    "mesh_row",
    "psf_equations",
    "source_extent",
    "spline_tile",
    "strip_peaks",
]

average_tile = Loop("interpolation", "average_tile")
difference_widths = Loop("mesh", "difference_widths")
fit_batch = Loop("starfit", "fit_batch")
flags_tile = Loop("positions", "flags_tile")
interpolate_tile = Loop("interpolation", "interpolate_tile")
mesh_row = Loop("mesh", "mesh_row")
psf_equations = Loop("psf", "psf_equations")
source_extent = Loop("positions", "source_extent")
spline_tile = Loop("positions", "spline_tile")
strip_peaks = Loop("peaks", "strip_peaks")
