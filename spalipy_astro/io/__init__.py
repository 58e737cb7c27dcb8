"""
Images and alignments, read from files and written to them.

What needs gwcs is imported when it is asked for: that takes a while, and not every call needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spalipy_astro._late import late
from spalipy_astro.io._asdf_text import check_asdf_name, peek_alignment
from spalipy_astro.io._datamodels import is_datamodel_file
from spalipy_astro.io._door import is_file_like, open_image, open_mask
from spalipy_astro.io._fits import (
    Extension,
    chip_of,
    image_hdus,
    image_names,
    read_image,
    read_mask,
    read_plane,
    read_uncertainty,
    to_hdus,
    write_hdus,
)
from spalipy_astro.io._grids import read_grid
from spalipy_astro.io._headers import as_header
from spalipy_astro.io._images import Image, as_image
from spalipy_astro.io._open import head_of, is_complete, is_fits, open_fits
from spalipy_astro.io._pictures import is_picture, read_picture
from spalipy_astro.io._planes import OBSERVATORY
from spalipy_astro.io._solved import write_with_wcs
from spalipy_astro.io._times import exposure_time, mid_exposure

if TYPE_CHECKING:
    from spalipy_astro.io._asdf_file import (
        read_alignment,
        read_tree,
        require_inverse,
        require_writable,
        write_alignment,
    )
else:
    __getattr__, __dir__ = late(
        __name__,
        {
            "_asdf_file": (
                "read_alignment",
                "read_tree",
                "require_inverse",
                "require_writable",
                "write_alignment",
            ),
        },
    )

__all__ = [
    "OBSERVATORY",
    "Extension",
    "Image",
    "as_header",
    "as_image",
    "check_asdf_name",
    "chip_of",
    "exposure_time",
    "head_of",
    "image_hdus",
    "image_names",
    "is_complete",
    "is_datamodel_file",
    "is_file_like",
    "is_fits",
    "is_picture",
    "mid_exposure",
    "open_fits",
    "open_image",
    "open_mask",
    "peek_alignment",
    "read_alignment",
    "read_grid",
    "read_image",
    "read_mask",
    "read_picture",
    "read_plane",
    "read_tree",
    "read_uncertainty",
    "require_inverse",
    "require_writable",
    "to_hdus",
    "write_alignment",
    "write_hdus",
    "write_with_wcs",
]
