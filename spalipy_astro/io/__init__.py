"""Images and alignments, read from files and written to them."""

from spalipy_astro.io._fits import (
    Extension,
    head_of,
    image_hdus,
    is_complete,
    is_fits,
    read_image,
    read_plane,
    to_hdus,
    write_hdus,
)
from spalipy_astro.io._images import as_image

__all__ = [
    "Extension",
    "as_image",
    "head_of",
    "image_hdus",
    "is_complete",
    "is_fits",
    "read_image",
    "read_plane",
    "to_hdus",
    "write_hdus",
]
