"""An image or a catalog, made ready for matching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spalipy_astro.catalogs import Stars, as_stars, as_table, is_catalog
from spalipy_astro.detection import find_stars
from spalipy_astro.errors import ImageError
from spalipy_astro.io import as_image
from spalipy_astro.matching import StarField

__all__ = ["StarFrame", "prepare"]

_PIXELS_PER_STAR = 60


@dataclass(frozen=True)
class StarFrame:
    """
    One side of an alignment: its stars, ready for matching.

    Attributes
    ----------
    stars : Stars
        Usable stars, brightest first.
    field : StarField
        The same, prepared for matching; made once for a template of many sources.
    shape : tuple of int or None
        Shape of the image.
    wcs : object or None
        Its WCS.
    n_detected : int
        Number of sources before flagged ones were left out.
    """

    stars: Stars
    field: StarField
    shape: tuple[int, int] | None
    wcs: Any
    n_detected: int


def prepare(
    image: Any,
    *,
    name: str = "image",
    mask: Any = None,
    select: Mapping[str, Any] | None = None,
    **detection: Any,
) -> StarFrame:
    """
    Detect or read the stars of one side.

    Parameters
    ----------
    image : CCDData, NDData, array_like, `~astropy.table.Table` or StarFrame
        An image or a catalog, as for `find_alignment`; a `StarFrame` is handed back.
    name : str, optional
        What to call it in error messages.
    mask : array_like of bool, optional
    select : mapping, optional
        Which stars to leave out, as for `find_alignment`.
    **detection
        Keyword arguments of `detect_stars`.

    Returns
    -------
    StarFrame
    """
    if isinstance(image, StarFrame):
        return image
    if is_catalog(image):
        table, shape, wcs = as_table(image, name=name), None, None
    else:
        plain = as_image(image, name=name, mask=mask)
        shape, wcs = plain.data.shape, plain.wcs
        try:
            table = find_stars(plain.data, mask=plain.mask, error=plain.error, **detection)
        except ImageError as error:
            raise ImageError(f"the {name} cannot be searched for stars: {error}") from error
    stars = as_stars(table, name=name, select=select)
    if shape is not None:
        # Sources more crowded than that are blends, and strangers in each other's gates.
        stars = stars.take(np.arange(min(len(stars), shape[0] * shape[1] // _PIXELS_PER_STAR)))
    return StarFrame(stars, StarField(stars.xy, stars.search_err), shape, wcs, len(table))
