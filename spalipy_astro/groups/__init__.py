"""Frames that overlap each other: one solution of all."""

from spalipy_astro.groups._group import align_group
from spalipy_astro.groups._result import GroupAlignment

__all__ = ["GroupAlignment", "align_group"]
