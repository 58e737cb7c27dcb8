"""An image or a catalog, made ready for matching."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spalipy_astro._checks import detection_options, in_data_units
from spalipy_astro._lines import on_lines
from spalipy_astro.catalogs import Stars, as_stars, as_table, is_catalog
from spalipy_astro.detection import find_stars
from spalipy_astro.errors import AlignmentError, FormatError, ImageError, TooFewStarsError
from spalipy_astro.io import (
    Extension,
    Image,
    as_image,
    is_file_like,
    is_fits,
    open_image,
    open_mask,
)
from spalipy_astro.matching import StarField
from spalipy_astro.registration._pixels import (
    SQUARE,
    Size,
    elongation_of,
    pixels_of,
    stamps_of,
    units_of,
)
from spalipy_astro.registration._quality import measure_quality
from spalipy_astro.registration._verify import Box, good_box

__all__ = ["NEGATIVE", "StarFrame", "open_side", "prepare"]

_PIXELS_PER_STAR = 60
_LINED = 3000  # brightest entries of a catalog among which lines are sought
_LEAST = 3  # stars that must be left
_LOOKED_AT = 50_000  # pixels, spread over an image, that tell whether it has dark stars
_FAR = 10.0  # median deviations from the sky, beyond which a pixel is no noise
_DARKER = 2  # times as many dark pixels, and stars, as bright ones
NEGATIVE = (
    "looks like a negative, with dark stars on a bright sky: align its largest value minus its data"
)
"""What is said of such an image."""
_BAD_SHARE = 0.1  # of the pixels, from which on they may be what is wrong


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
    box : tuple of float or None
        Where the image has good pixels.
    pixels : (width, height)
        Sizes of its pixels: those on which `field` is square, or what the header says.
    stamps : ndarray, shape (M, 17, 17), or None
        Its brightest stars, for `elongation`.
    unit : float
        By what the positions of a catalog were multiplied.
    quality : mapping
        How good the image is, see `measure_quality`; of a catalog only ``n_stars``.
    header : mapping
        Its header; empty for a catalog or an array.
    negative : bool
        Whether it looks like a negative, with dark stars on a bright sky.
    """

    stars: Stars
    field: StarField
    shape: tuple[int, int] | None
    wcs: Any
    n_detected: int
    box: Box | None = None
    pixels: tuple[float, float] = (1.0, 1.0)
    stamps: NDArray[Any] | None = None
    unit: float = 1.0
    quality: Mapping[str, float] = attribute(default_factory=dict)
    header: Mapping[str, Any] = attribute(default_factory=dict)
    negative: bool = False

    @cached_property
    def elongation(self) -> Size:
        """Width and height of its pixels as the shape of the stars has it, which is a guess."""
        return SQUARE if self.stamps is None else elongation_of(self.stamps)

    @property
    def square_shape(self) -> tuple[float, float] | None:
        """Shape of the image in pixels of width and height 1, those of `field`."""
        if self.shape is None:
            return None
        width, height = self.pixels
        return self.shape[0] * height, self.shape[1] * width


def open_side(side: Any, *, name: str, hdu: Extension | None = None, **flags: Any) -> Any:
    """
    Open one side of an alignment: an image, or a catalog of stars.

    Parameters
    ----------
    side : object
        As for `find_alignment`.
    name : str
        The argument, for error messages.
    hdu : int, str or (str, int), optional
        Which HDU of a file or HDUList is the image.
    **flags
        ``ignore_flags`` and ``flag_name_map``, as for `~spalipy_astro.io.open_image`.

    Returns
    -------
    object
        The image of a file, HDU or HDUList; catalogs, arrays and NDData as they are.

    Raises
    ------
    FileNotFoundError, FormatError
        If it cannot be opened.
    TypeError
        If it is a list of rows that differ in length.
    """
    if isinstance(side, str | os.PathLike):
        try:
            # a file of text has no HDUs: the one that is named is the other side's
            if is_catalog(side) and (hdu is None or not is_fits(side)):
                return side
        except FormatError as error:
            raise FormatError(f"{name}: {error}") from error
    if isinstance(side, list | tuple) and not is_file_like(side):  # an HDUList is a list
        try:
            side = np.asarray(side)
        except ValueError as error:
            raise TypeError(
                f"{name} is an image or a catalog; got a {type(side).__name__} whose rows differ "
                "in length."
            ) from error
    return open_image(side, name=name, hdu=hdu, **flags)


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
        plain = as_image(image, name=name, mask=open_mask(mask, name=f"{name}_mask"))
        shape, wcs = plain.data.shape, plain.wcs
        options = in_data_units(detection_options(**detection), image, name=name)
        try:
            table = find_stars(plain.data, mask=plain.mask, error=plain.error, **options)
        except ImageError as error:
            raise ImageError(f"the {name} cannot be searched for stars: {error}") from error
    try:
        stars = as_stars(table, name=name, select=select)
    except TooFewStarsError as error:
        share = 0.0 if shape is None else _bad_share(plain)
        if share >= _BAD_SHARE:
            raise TooFewStarsError(
                f"{error} {share:.0%} of the pixels of the {name} are bad (masked, NaN or "
                "infinite): check the mask, and which of its bits are bad pixels."
            ) from error
        if shape is None or _stars_of_negative(plain, options) < _LEAST:
            raise
        raise TooFewStarsError(f"{error} The {name} {NEGATIVE}.") from error
    if shape is None:
        stars = _without_lines(stars)
        number = {"n_stars": float(len(stars))}
        return StarFrame(
            stars,
            StarField(stars.xy, stars.search_err),
            shape,
            wcs,
            len(table),
            quality=number,
        )
    # Sources more crowded than that are blends, and strangers in each other's gates.
    stars = stars.take(np.arange(min(len(stars), shape[0] * shape[1] // _PIXELS_PER_STAR)))
    star_field = StarField(stars.xy, stars.search_err)
    header = getattr(image, "meta", None) or {}
    return StarFrame(
        stars,
        star_field,
        shape,
        wcs,
        len(table),
        good_box(plain.data, plain.mask),
        pixels=pixels_of(header, wcs),
        stamps=stamps_of(plain.data, plain.mask, stars.xy),
        quality=measure_quality(table, len(stars), plain, header),
        header=header,
        negative=_is_negative(plain, options, len(stars)),
    )


def _without_lines(stars: Stars) -> Stars:
    """Leave out what is strung along lines, as the trails and flashes in a catalog are."""
    strung = np.zeros(len(stars), bool)
    strung[:_LINED] = on_lines(units_of(stars.xy)[-1] * stars.xy[:_LINED]) >= 0
    return stars if np.count_nonzero(~strung) < _LEAST else stars.take(np.flatnonzero(~strung))


def _bad_share(image: Image) -> float:
    """Return the share of pixels that are masked or not finite."""
    bad = ~np.isfinite(image.data)
    if image.mask is not None:
        bad = bad | image.mask
    return float(bad.mean())


def _is_negative(image: Image, options: Mapping[str, Any], n_stars: int) -> bool:
    """
    Tell whether an image has dark stars, and far more of them than bright ones.

    What is dark may also be dust, or a border without data: the stars are looked for if far more
    pixels lie below the sky than above it.
    """
    step = max(1, int(np.sqrt(image.data.size / _LOOKED_AT)))
    some = image.data[::step, ::step]
    good = np.isfinite(some)
    if image.mask is not None:
        good &= ~image.mask[::step, ::step]
    values = np.sort(some[good]).astype(float)
    if not values.size:
        return False
    n = len(values)
    sky = (values[(n - 1) // 2] + values[n // 2]) / 2
    # The median deviation lies between the distances of the quartiles: most images need no more.
    sides = sky - values[n // 4], values[-1 - n // 4] - sky
    bright = n - np.searchsorted(values, sky + 1.01 * _FAR * max(sides), side="right")
    dark = np.searchsorted(values, sky - 0.99 * _FAR * min(sides))
    if dark <= _DARKER * bright or dark < _LEAST:
        return False
    values = values - sky
    reach = _FAR * max(float(np.median(np.abs(values))), np.finfo(float).tiny)
    dark, bright = np.count_nonzero(values < -reach), np.count_nonzero(values > reach)
    if dark <= _DARKER * bright or dark < _LEAST:
        return False
    return _stars_of_negative(image, options) > _DARKER * n_stars


def _stars_of_negative(image: Image, options: Mapping[str, Any]) -> int:
    """Return how many stars an image has once its sign is turned."""
    # saturation and gain belong to the data as they were
    known = {**options, "gain": None, "saturation": None}
    try:
        table = find_stars(-image.data.astype(float), mask=image.mask, error=image.error, **known)
        return len(as_stars(table))
    except AlignmentError:
        return 0
