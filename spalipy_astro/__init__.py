"""
Detection-based registration of astronomical images.

What is asked for is imported then: the whole takes a second, and a command hears Ctrl-C before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spalipy_astro._late import late
from spalipy_astro.version import __version__

if TYPE_CHECKING:
    from spalipy_astro import alignment as alignment
    from spalipy_astro import batch as batch
    from spalipy_astro import catalogs as catalogs
    from spalipy_astro import errors as errors
    from spalipy_astro import example as example
    from spalipy_astro import groups as groups
    from spalipy_astro import io as io
    from spalipy_astro import models as models
    from spalipy_astro import registration as registration
    from spalipy_astro import report as report
    from spalipy_astro import resampling as resampling
    from spalipy_astro import visualization as visualization
    from spalipy_astro import wcs as wcs
    from spalipy_astro.alignment import Alignment, Coverage
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
else:
    __getattr__, __dir__ = late(
        __name__,
        {
            "alignment": ("Alignment", "Coverage"),
            "batch": ("align_many",),
            "catalogs": ("StarFlag", "read_catalog"),
            "errors": (
                "AlignmentError",
                "AmbiguousMatchError",
                "CatalogError",
                "ExportError",
                "FormatError",
                "ImageError",
                "NoMatchError",
                "NotCompiledWarning",
                "TooFewStarsError",
            ),
            "example": (),
            "groups": ("GroupAlignment", "align_group"),
            "io": (),
            "models": (
                "FITSWCSTransform",
                "InverseSplineDistortion2D",
                "NumericalInverse2D",
                "SplineDistortion2D",
            ),
            "registration": ("align", "detect_stars", "find_alignment", "fit_alignment"),
            "report": (),
            "resampling": (),
            "visualization": (),
            "wcs": (),
        },
    )

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
