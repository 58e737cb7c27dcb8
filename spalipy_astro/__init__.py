"""
Detection-based registration of astronomical images.

What is asked for is imported then: the whole takes a second, and a command hears Ctrl-C before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spalipy_astro.version import __version__

if TYPE_CHECKING:
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

_ROOMS = {
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
}
_PLACES = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in _PLACES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message, name=name, obj=import_module(__name__))
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value  # the next time it is found without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
