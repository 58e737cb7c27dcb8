"""The WCS within what NDData wraps around it; gwcs comes in with one of its own only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import astropy.units as u
from astropy.modeling.models import Shift
from astropy.wcs import WCS
from astropy.wcs.wcsapi import BaseLowLevelWCS, HighLevelWCSWrapper, SlicedLowLevelWCS

if TYPE_CHECKING:
    import gwcs

__all__ = ["has_units", "unwrap_wcs"]


def has_units(wcs: gwcs.WCS) -> bool:
    """Tell whether the models of a gwcs calculate with quantities."""
    model = wcs.forward_transform
    return bool(model.parameters.size) and model.uses_quantity


def unwrap_wcs(wcs: Any) -> WCS | gwcs.WCS | None:
    """Take off what NDData wraps around a WCS; a slice becomes a shift of the pixels."""
    if wcs is None:
        return None
    if isinstance(wcs, WCS):
        if wcs.naxis < 2:
            raise ValueError(f"template_wcs must have two axes, got {wcs.naxis}.")
        return wcs if wcs.naxis == 2 else wcs.sub([1, 2])
    if isinstance(wcs, HighLevelWCSWrapper):
        return unwrap_wcs(wcs.low_level_wcs)
    if isinstance(wcs, SlicedLowLevelWCS):
        return _unslice(wcs)
    import gwcs  # takes a while, and a FITS WCS needs none of it

    if not isinstance(wcs, gwcs.WCS):
        kind = "an unknown kind of WCS" if isinstance(wcs, BaseLowLevelWCS) else "no WCS"
        raise TypeError(
            f"template_wcs must be an astropy.wcs.WCS or a gwcs.WCS, got {kind}: "
            f"{type(wcs).__name__}."
        )
    if wcs.pixel_n_dim != 2:
        raise ValueError(f"template_wcs must have two pixel axes, got {wcs.pixel_n_dim}.")
    return wcs


def _unslice(sliced: SlicedLowLevelWCS) -> WCS | gwcs.WCS:
    """Make a WCS of the two pixel axes that a slice of a WCS keeps."""
    # As asdf-astropy does: there is no public access to what is sliced.
    inner, slices = sliced._wcs, sliced._slices_array
    kept = [isinstance(part, slice) for part in slices]
    whole = tuple(part if keep else slice(None) for part, keep in zip(slices, kept, strict=True))
    if isinstance(inner, WCS):
        axes = [axis + 1 for axis, keep in enumerate(reversed(kept)) if keep]
        return inner.slice(whole).sub(axes)
    import gwcs

    inner = unwrap_wcs(inner)
    assert isinstance(inner, gwcs.WCS)
    if not all(kept):
        raise ValueError(f"template_wcs must have two pixel axes, got {sum(kept)}.")
    unit = u.pix if has_units(inner) else 1
    y, x = (Shift((part.start or 0) * unit) for part in whole)
    steps = [(step.frame, step.transform) for step in inner.pipeline]
    steps[0] = (steps[0][0], x & y if steps[0][1] is None else (x & y) | steps[0][1])
    wcs = gwcs.WCS(steps)
    wcs.array_shape = sliced.array_shape
    return wcs
