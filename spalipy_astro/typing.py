"""Types for annotations: the arguments of this package's functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypedDict

from astropy.coordinates import SkyCoord
from astropy.io.fits import HDUList
from astropy.nddata import NDData
from astropy.table import Table
from astropy.time import Time
from astropy.units import Quantity
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "AlignmentOptions",
    "CatalogLike",
    "Finder",
    "HDULike",
    "ImageLike",
    "MaskLike",
    "PairOptions",
    "Range",
]


class _HasTable(Protocol):
    def to_table(self) -> Any: ...


class _HDU(Protocol):
    """An HDU of `astropy.io.fits`."""

    header: Any
    data: Any

    def fileinfo(self) -> Any: ...


class _DataModel(Protocol):
    """A data model of JWST or Roman."""

    data: Any
    err: Any
    dq: Any
    meta: Any


ImageLike: TypeAlias = NDData | ArrayLike | str | os.PathLike[str] | HDUList | _HDU | _DataModel
"""
An image: the path of a FITS file, an HDU, an HDUList, CCDData, NDData, a data model of JWST or
Roman, or an array of any kind, such as one of dask.
"""


MaskLike: TypeAlias = ArrayLike | str | os.PathLike[str] | HDUList | _HDU
"""Bad pixels: an array of bool, or a file, HDU or HDUList whose bad pixels are not zero."""


HDULike: TypeAlias = int | str | tuple[str, int]
"""Which HDU of a file: its number, its name, or its name and EXTVER."""


CatalogLike: TypeAlias = Table | _HasTable | ArrayLike | str | os.PathLike[str]
"""
A catalog of stars: a table, an object that makes one, a structured or an (N, 2) array, or a file.
"""


Range: TypeAlias = tuple[float | Quantity, float | Quantity] | Quantity | NDArray[Any]
"""The smallest and the largest value of something: a pair, or an array of two."""


Finder: TypeAlias = str | Callable[..., Any]
"""
What finds the stars of an image: "auto", "stars", "sources", a star finder of photutils, or a
function of ``(data, mask=...)`` that returns a table.
"""


class AlignmentOptions(TypedDict, total=False):
    """
    Options of `~spalipy_astro.find_alignment` that apply to any number of sources.

    They are what ``align`` and ``align_many`` pass on: ``**options: Unpack[AlignmentOptions]``.
    """

    template_mask: MaskLike | None
    threshold: float
    fwhm: float | Quantity | None
    gain: float | Quantity | None
    saturation: float | Quantity | None
    finder: Finder
    select: Mapping[str, Any] | None
    scale: Range | None
    rotation: Range | None
    parity: int | None
    max_shift: float | Quantity | None
    use_wcs: bool | str
    source_pixels: tuple[float, float] | None
    template_pixels: tuple[float, float] | None
    affine: str
    spline_order: int
    smoothing: float | None
    polynomial: int | None
    position: SkyCoord | None
    radius: Any
    pixel_scale: Any
    epoch: Time | float | None


class PairOptions(AlignmentOptions, total=False):
    """All options of `~spalipy_astro.find_alignment`."""

    source_mask: MaskLike | None
    hdu: HDULike | None
    ignore_flags: Any
    flag_name_map: Any
