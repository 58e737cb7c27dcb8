"""
Many sources to one template, and what becomes of them.

What is asked for is imported then: a command that aligns one source needs a part of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spalipy_astro.batch._batch import align_many
    from spalipy_astro.batch._figures import check_matched, figures_of, quality_of
    from spalipy_astro.batch._made import OWNER, is_made
    from spalipy_astro.batch._names import expand, stem_of
    from spalipy_astro.batch._sources import list_sources
    from spalipy_astro.batch._stacks import (
        aligned_frames,
        coadd_inputs,
        stack_frames,
        stack_weights,
    )

__all__ = [
    "OWNER",
    "align_many",
    "aligned_frames",
    "check_matched",
    "coadd_inputs",
    "expand",
    "figures_of",
    "is_made",
    "list_sources",
    "quality_of",
    "stack_frames",
    "stack_weights",
    "stem_of",
]

_MODULES = {
    "OWNER": "_made",
    "align_many": "_batch",
    "aligned_frames": "_stacks",
    "check_matched": "_figures",
    "coadd_inputs": "_stacks",
    "expand": "_names",
    "figures_of": "_figures",
    "is_made": "_made",
    "list_sources": "_sources",
    "quality_of": "_figures",
    "stack_frames": "_stacks",
    "stack_weights": "_stacks",
    "stem_of": "_names",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
