"""Detection-based registration of astronomical images."""

from spalipy_astro.alignment import Alignment, Coverage
from spalipy_astro.alignment import supply as _supply
from spalipy_astro.batch import align_many
from spalipy_astro.catalogs import StarFlag, read_catalog
from spalipy_astro.errors import (
    AlignmentError,
    AmbiguousMatchError,
    CatalogError,
    ExportError,
    FormatError,
    ImageError,
    NoMatchError,
    NotCompiledWarning,
    TooFewStarsError,
)
from spalipy_astro.groups import GroupAlignment, align_group
from spalipy_astro.models import (
    FITSWCSTransform,
    InverseSplineDistortion2D,
    NumericalInverse2D,
    SplineDistortion2D,
)
from spalipy_astro.registration import align, detect_stars, find_alignment, fit_alignment
from spalipy_astro.version import __version__

__all__ = [
    "Alignment",
    "AlignmentError",
    "AmbiguousMatchError",
    "CatalogError",
    "Coverage",
    "ExportError",
    "FITSWCSTransform",
    "FormatError",
    "GroupAlignment",
    "ImageError",
    "InverseSplineDistortion2D",
    "NoMatchError",
    "NotCompiledWarning",
    "NumericalInverse2D",
    "SplineDistortion2D",
    "StarFlag",
    "TooFewStarsError",
    "__version__",
    "align",
    "align_group",
    "align_many",
    "detect_stars",
    "find_alignment",
    "fit_alignment",
    "read_catalog",
]

# made by rooms above the alignment, which are imported when the method is called
_supply("open_image", "spalipy_astro.io", "open_image")
_supply("open_mask", "spalipy_astro.io", "open_mask")
_supply("picture", "spalipy_astro.visualization", "picture_of")
_supply("plot", "spalipy_astro.visualization", "plot_alignment")
_supply("report", "spalipy_astro.report", "report_alignment")
_supply("read", "spalipy_astro.io", "read_alignment")
_supply("write", "spalipy_astro.io", "write_alignment")
