"""What users give for options, shapes and color images, checked and made plain."""

from spalipy_astro._checks._calls import checked_call
from spalipy_astro._checks._colors import (
    colors_go_last,
    frame_of,
    luminance,
    mask_like,
    plane_of,
    with_colors_last,
    with_planes_first,
)
from spalipy_astro._checks._finders import check_finder, name_of_finder
from spalipy_astro._checks._flags import check_flags, flag_bits
from spalipy_astro._checks._matrix import flaw_of_wcs, require_sound_wcs, words_of_wcslib
from spalipy_astro._checks._options import (
    check_names,
    choice,
    detection_options,
    in_data_units,
    number,
    positive_number,
    refuse_single_scale,
    rotation_range,
    scale_range,
    whole_number,
)
from spalipy_astro._checks._plain import (
    check_hdu,
    check_mask,
    check_pixels,
    check_wcs,
    in_pixels,
    is_template,
    numbers_of_pixels,
    path_of,
    with_mask_apart,
)
from spalipy_astro._checks._room import check_room
from spalipy_astro._checks._shapes import (
    check_frames,
    check_image,
    check_shape,
    check_whole_offset,
    is_finite_pair,
    is_whole,
    shape_of,
)

__all__ = [
    "check_finder",
    "check_flags",
    "check_frames",
    "check_hdu",
    "check_image",
    "check_mask",
    "check_names",
    "check_pixels",
    "check_room",
    "check_shape",
    "check_wcs",
    "check_whole_offset",
    "checked_call",
    "choice",
    "colors_go_last",
    "detection_options",
    "flag_bits",
    "flaw_of_wcs",
    "frame_of",
    "in_data_units",
    "in_pixels",
    "is_finite_pair",
    "is_template",
    "is_whole",
    "luminance",
    "mask_like",
    "name_of_finder",
    "number",
    "numbers_of_pixels",
    "path_of",
    "plane_of",
    "positive_number",
    "refuse_single_scale",
    "require_sound_wcs",
    "rotation_range",
    "scale_range",
    "shape_of",
    "whole_number",
    "with_colors_last",
    "with_mask_apart",
    "with_planes_first",
    "words_of_wcslib",
]
