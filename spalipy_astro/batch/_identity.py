"""Short names for what a file of a batch was made from: the same ones for the same inputs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.nddata import NDData
from astropy.table import Table

from spalipy_astro import _geometry
from spalipy_astro._checks import name_of_finder
from spalipy_astro._files import require_file, state_of
from spalipy_astro.registration import StarFrame

__all__ = [
    "digest",
    "identity_of_pixels",
    "identity_of_template",
    "lasting",
    "state_of_source",
]


def digest(*parts: Any) -> str:
    """Return a short name for all that something was made from."""
    total = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(repr((part.shape, part.dtype.str)).encode())
            total.update(np.ascontiguousarray(part).view(np.uint8).data)
        elif isinstance(part, Mapping):
            total.update(repr(sorted(part.items())).encode())
        else:
            total.update(repr(part).encode())
    return total.hexdigest()


def lasting(find: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options with a finder as words, which another run writes the same way."""
    return {**find, "finder": name_of_finder(find["finder"])} if "finder" in find else find


def identity_of_template(template: StarFrame | None) -> str:
    """Return a short name for a template's stars, grid and WCS."""
    if template is None:
        return ""
    wcs = template.wcs
    words = wcs.to_header_string(relax=True) if hasattr(wcs, "to_header_string") else repr(wcs)
    return digest(template.stars.xy, template.shape, words)


def identity_of_pixels(pixels: Mapping[str, Any], window: Any) -> list[Any]:
    """Return what tells a grid whose pixels are not the template's from others."""
    if "wcs" not in pixels:
        return [dict(pixels)] if pixels else []
    wcs, (_, (ny, nx)) = pixels["wcs"], window or ((0, 0), (2, 2))
    x, y = _geometry.spread((ny, nx), 5)
    # the WCS of two programs may be written alike, or one WCS in two ways: where pixels lie counts
    world = np.stack([np.asarray(getattr(t, "value", t)) for t in _world(wcs, x, y)])
    return [world, wcs.world_axis_physical_types]


def _world(wcs: Any, x: Any, y: Any) -> Any:
    """Return world coordinates of pixels, inside of any bounding box and outside."""
    if hasattr(wcs, "forward_transform"):
        return wcs(x, y, with_bounding_box=False)
    return wcs.pixel_to_world_values(x, y)


def state_of_source(thing: Any) -> Any:
    """Return what changes whenever a file, an image or a catalog changes."""
    if isinstance(thing, Exception):
        raise thing
    if isinstance(thing, str | os.PathLike):
        require_file(thing)
        return state_of(thing)
    if isinstance(thing, NDData):
        parts = [thing.data, thing.mask, getattr(thing.uncertainty, "array", None)]
        return digest(*(None if part is None else np.asarray(part) for part in parts))
    if isinstance(thing, Table):
        return digest(*(part for n in thing.colnames for part in (n, np.asarray(thing[n]))))
    return None if thing is None else digest(np.asarray(thing))
