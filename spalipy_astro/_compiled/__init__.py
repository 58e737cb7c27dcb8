"""
The loops over pixels, stars and patterns, in C.

They are compiled when the package is installed. Where there was no compiler, functions of the same
names in ``_detection_numpy``, ``_matching_numpy``, ``_neighbors_numpy``, ``_resampling_numpy`` and
``_splines_numpy`` take their place: these say what each does, and the tests compare the two.
"""

from __future__ import annotations

from spalipy_astro._compiled._choice import choose

__all__ = [
    "accept_uncertainties",
    "average_tile",
    "bright_lines",
    "count_on_lines",
    "count_points",
    "cut_squares",
    "difference_widths",
    "encode_patterns",
    "equal_codes",
    "find_neighbors",
    "fit_batch",
    "fit_similarities",
    "flags_tile",
    "form_patterns",
    "interpolate_part",
    "interpolate_tile",
    "invert_factor",
    "level_squares",
    "list_points",
    "load_window",
    "mesh_row",
    "mesh_values",
    "nearest_points",
    "penalized_figures",
    "psf_equations",
    "source_extent",
    "spline_basis",
    "spline_equations",
    "spline_extent",
    "spline_points",
    "spline_sums",
    "spline_tile",
    "spline_variance",
    "strip_peaks",
    "witness_scores",
]

bright_lines = choose("_detection", "bright_lines")
cut_squares = choose("_detection", "cut_squares")
difference_widths = choose("_detection", "difference_widths")
find_neighbors = choose("_detection", "find_neighbors")
fit_batch = choose("_detection", "fit_batch")
level_squares = choose("_detection", "level_squares")
mesh_row = choose("_detection", "mesh_row")
mesh_values = choose("_detection", "mesh_values")
psf_equations = choose("_detection", "psf_equations")
strip_peaks = choose("_detection", "strip_peaks")

count_on_lines = choose("_matching", "count_on_lines")
encode_patterns = choose("_matching", "encode_patterns")
equal_codes = choose("_matching", "equal_codes")
fit_similarities = choose("_matching", "fit_similarities")
form_patterns = choose("_matching", "form_patterns")
witness_scores = choose("_matching", "witness_scores")

count_points = choose("_neighbors", "count_points")
list_points = choose("_neighbors", "list_points")
nearest_points = choose("_neighbors", "nearest_points")

accept_uncertainties = choose("_resampling", "accept_uncertainties")
average_tile = choose("_resampling", "average_tile")
flags_tile = choose("_resampling", "flags_tile")
interpolate_part = choose("_resampling", "interpolate_part")
interpolate_tile = choose("_resampling", "interpolate_tile")
load_window = choose("_resampling", "load_window")
source_extent = choose("_resampling", "source_extent")
spline_extent = choose("_resampling", "spline_extent")
spline_tile = choose("_resampling", "spline_tile")

invert_factor = choose("_splines", "invert_factor")
penalized_figures = choose("_splines", "penalized_figures")
spline_basis = choose("_splines", "spline_basis")
spline_equations = choose("_splines", "spline_equations")
spline_points = choose("_splines", "spline_points")
spline_sums = choose("_splines", "spline_sums")
spline_variance = choose("_splines", "spline_variance")
