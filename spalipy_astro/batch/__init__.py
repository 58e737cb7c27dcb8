"""
Many sources to one template, and what becomes of them.

What is asked for is imported then: a command that aligns one source needs a part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spalipy_astro._late import late

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
else:
    __getattr__, __dir__ = late(
        __name__,
        {
            "_batch": ("align_many",),
            "_figures": ("check_matched", "figures_of", "quality_of"),
            "_made": ("OWNER", "is_made"),
            "_names": ("expand", "stem_of"),
            "_sources": ("list_sources",),
            "_stacks": ("aligned_frames", "coadd_inputs", "stack_frames", "stack_weights"),
        },
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
