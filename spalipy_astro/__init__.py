"""Detection-based registration of astronomical images."""

from spalipy_astro.alignment import Alignment, Coverage
from spalipy_astro.batch import align_many
from spalipy_astro.catalog import StarFlag, read_catalog
from spalipy_astro.errors import (
    AlignmentError,
    CatalogError,
    ExportError,
    FormatError,
    ImageError,
    NoMatchError,
    NotCompiledWarning,
    TooFewStarsError,
)
from spalipy_astro.models import (
    FITSWCSTransform,
    InverseSplineDistortion2D,
    SplineDistortion2D,
)
from spalipy_astro.registration import align, detect_stars, find_alignment

try:
    from spalipy_astro._version import __version__
except ImportError:  # a checkout that was never installed
    __version__ = "0.0.dev0"

__all__ = [
    "Alignment",
    "AlignmentError",
    "CatalogError",
    "Coverage",
    "ExportError",
    "FITSWCSTransform",
    "FormatError",
    "ImageError",
    "InverseSplineDistortion2D",
    "NoMatchError",
    "NotCompiledWarning",
    "SplineDistortion2D",
    "StarFlag",
    "TooFewStarsError",
    "__version__",
    "align",
    "align_many",
    "detect_stars",
    "find_alignment",
    "read_catalog",
]
