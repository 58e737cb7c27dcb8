"""Bits of the ``flag`` column."""

from __future__ import annotations

from enum import IntFlag

__all__ = ["UNUSABLE", "StarFlag"]


class StarFlag(IntFlag):
    """Bits of the ``flag`` column; the first four are those of SExtractor."""

    NEIGHBOR = 1
    """The light of another source reaches into the measuring window."""
    BLENDED = 2
    """Two or more peaks share one segment of sky."""
    SATURATED = 4
    """At least one pixel is saturated."""
    EDGE = 8
    """The measuring window leaves the image."""
    BAD_PIXELS = 16
    """A masked or non-finite pixel lies in the core; the position rests on the good ones."""
    ARTIFACT = 32
    """Not a star: cosmic ray, hot pixel or bleeding trail."""
    EXTENDED = 64
    """Wider than the stars of the image: a galaxy or a nebula."""
    UNSTABLE = 128
    """The centroid did not converge, or too few pixels of the core are good for one."""
    TRAIL = 256
    """Part of a straight line: the trail of a satellite or aircraft, a bad column, a bleed."""


# Sources with these flags are not stars, or have no usable position.
UNUSABLE = StarFlag.ARTIFACT | StarFlag.UNSTABLE | StarFlag.TRAIL
