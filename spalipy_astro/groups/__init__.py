"""Frames that overlap each other: one solution of all."""

from spalipy_astro.groups._coadd import COMBINE
from spalipy_astro.groups._group import align_group
from spalipy_astro.groups._result import Canvas, GroupAlignment

__all__ = ["COMBINE", "Canvas", "GroupAlignment", "align_group"]
