"""Where an alignment has data, and where it is extrapolated."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _geometry
from spalipy_astro._checks import check_room, check_shape

if TYPE_CHECKING:
    from spalipy_astro.alignment._alignment import Alignment

__all__ = ["Coverage", "coverage_of"]


class Coverage(IntFlag):
    """Bits of `Alignment.coverage`."""

    NO_DATA = 1
    """The pixel lies outside the source frame."""
    EXTRAPOLATED = 2
    """The pixel lies outside the hull of the matched stars: the transform is extrapolated."""


def coverage_of(alignment: Alignment, shape: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Return the bits of `Coverage` for each pixel of the template; see `Alignment.coverage`."""
    shape = alignment.template_shape if shape is None else shape
    if shape is None:
        raise ValueError("shape is not known of this alignment's template; give one, (ny, nx).")
    shape = check_shape(shape)
    check_room("shape", shape, 1)
    out = np.zeros(shape, np.uint8)
    if alignment.source_shape is not None:
        inside = _geometry.footprint(alignment.transform.inverse, alignment.source_shape, shape)
        out[~inside] |= np.uint8(Coverage.NO_DATA)
    if "freedom" not in alignment._summary:
        return out  # of a given transform nothing is extrapolated
    used = alignment.matches[np.asarray(alignment.matches["used"])]
    xy = np.column_stack((used["x_template"], used["y_template"]))
    out[~_geometry.hull_mask(xy, shape)] |= np.uint8(Coverage.EXTRAPOLATED)
    return out
