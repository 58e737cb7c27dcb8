"""What users give for options and shapes, checked and made plain."""

from spalipy_astro._checks._finders import check_finder, name_of_finder
from spalipy_astro._checks._options import (
    check_names,
    choice,
    detection_options,
    in_data_units,
    number,
    positive_number,
    rotation_range,
    scale_range,
    whole_number,
)
from spalipy_astro._checks._shapes import (
    check_frames,
    check_image,
    check_shape,
    check_whole_offset,
    is_finite_pair,
    is_whole,
)

__all__ = [
    "check_finder",
    "check_frames",
    "check_image",
    "check_names",
    "check_shape",
    "check_whole_offset",
    "choice",
    "detection_options",
    "in_data_units",
    "is_finite_pair",
    "is_whole",
    "name_of_finder",
    "number",
    "positive_number",
    "rotation_range",
    "scale_range",
    "whole_number",
]
