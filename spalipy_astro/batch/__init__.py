"""Many sources to one template, and what becomes of them."""

from spalipy_astro.batch._batch import align_many
from spalipy_astro.batch._figures import figures_of, quality_of
from spalipy_astro.batch._made import OWNER
from spalipy_astro.batch._sources import expand, list_sources, stem_of
from spalipy_astro.batch._stacks import aligned_frames, coadd_inputs, stack_frames, stack_weights
from spalipy_astro.batch._task import check_matched

__all__ = [
    "OWNER",
    "align_many",
    "aligned_frames",
    "check_matched",
    "coadd_inputs",
    "expand",
    "figures_of",
    "list_sources",
    "quality_of",
    "stack_frames",
    "stack_weights",
    "stem_of",
]
