"""Stars of an image: where they are, how bright, and how well that is known."""

from spalipy_astro.detection._find import find_stars

__all__ = [
    "find_stars",
]
