"""The result: a transform, what supports it, and what can be done with it."""

from spalipy_astro.alignment._alignment import Alignment, Coverage
from spalipy_astro.alignment._error import ErrorTerm
from spalipy_astro.alignment._summary import Summary

__all__ = [
    "Alignment",
    "Coverage",
    "ErrorTerm",
    "Summary",
]
