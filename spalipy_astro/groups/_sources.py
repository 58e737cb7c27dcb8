"""The images of a group: where each is, and which chip of which exposure it shows."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy.io import fits

from spalipy_astro._checks import check_image, check_pixels
from spalipy_astro._files import absolute
from spalipy_astro.alignment import Alignment
from spalipy_astro.errors import AlignmentError
from spalipy_astro.io import Extension, image_names, open_image
from spalipy_astro.registration import open_side

__all__ = ["Sheet", "each_sheet", "image_of", "labels_of_chips", "opened"]


@dataclass(frozen=True)
class Sheet:
    """
    One image of a group.

    Attributes
    ----------
    image : path, HDU, HDUList, image, catalog or Exception
        An exception where it could not be opened.
    label : str
        What to call it in the table: its path, or its number.
    hdu : int, str, (str, int) or None
        Which HDU of a file it is; None for the first image.
    source : int
        Which one of those that were given it is from.
    chip : Hashable
        What the camera calls it: name and version of the extension, or its number.
    by_hdu : bool
        Whether it is one of all images of a file.
    flags : mapping
        ``ignore_flags`` and ``flag_name_map``, for flags in files.
    """

    image: Any
    label: str
    hdu: Extension | None
    source: int
    chip: Hashable = 0
    by_hdu: bool = False
    flags: Mapping[str, Any] = field(default_factory=dict)

    def open(self, name: str) -> Any:
        """Return the image, or a catalog, under the name that errors have for it."""
        return open_side(self.image, name=name, hdu=self.hdu, **self.flags)


def each_sheet(
    images: Iterable[Any], hdu: Extension | None, flags: Mapping[str, Any] | None = None
) -> Iterator[Sheet]:
    """
    Yield the images of a group.

    Parameters
    ----------
    images : iterable
    hdu : int, str, (str, int) or None
        With ``"all"`` each image of a file, or of an HDUList, is one; else the one that is named.
    flags : mapping, optional
        ``ignore_flags`` and ``flag_name_map``, for flags in files.

    Yields
    ------
    Sheet
        A file that cannot be opened is one image: its row will give the reason.
    """
    flags = flags or {}
    for source, image in enumerate(images):
        is_path = isinstance(image, str | os.PathLike)
        label = os.fspath(image) if is_path else str(source)
        where = absolute(image) if is_path else image
        if hdu != "all":
            yield Sheet(where, label, hdu, source, flags=flags)
            continue
        chips = _chips(where)
        for number, chip in chips.items():
            yield Sheet(where, label, number, source, chip, by_hdu=True, flags=flags)
        if not chips:
            yield Sheet(where, label, None, source, by_hdu=True, flags=flags)


def _chips(image: Any) -> dict[int, Hashable]:
    """
    Return number and label of the images of a file; {} if there are none, or it is no file.

    The label is name and version, which stay the same where a file lacks a chip, unless they do
    not tell the images apart.
    """
    if not isinstance(image, str | os.PathLike | fits.HDUList):
        return {}
    try:
        names = image_names(image)
    except (AlignmentError, OSError):
        return {}
    if len(set(names.values())) == len(names) and all(name for name, _ in names.values()):
        return dict(names)
    return {number: number for number in names}


def labels_of_chips(
    sheets: Sequence[Sheet], camera: Any, chips: Any, exposures: Any
) -> tuple[Any, Any, Any]:
    """
    Return the labels of images where all of each file are taken.

    Parameters
    ----------
    sheets : sequence of Sheet
    camera, chips, exposures : sequence or object
        As for `align_group`; labels may be given for each file.

    Returns
    -------
    camera, chips, exposures : list or object
        With a label for each image. If a file has several images those of chips and exposures that
        are None are taken from extensions and files.
    """
    n_files = len({sheet.source for sheet in sheets})
    several = n_files < len(sheets)

    def each(labels: Any) -> Any:
        if isinstance(labels, str) or not isinstance(labels, Sequence | np.ndarray):
            return labels
        if several and len(labels) == n_files:
            return [labels[sheet.source] for sheet in sheets]
        return labels

    if several and chips is None:
        chips = [sheet.chip for sheet in sheets]
    if several and exposures is None:
        exposures = [sheet.source for sheet in sheets]
    return each(camera), each(chips), each(exposures)


def image_of(k: int, sheet: Sheet, alignment: Alignment) -> Any:
    """
    Open an image of a group once more.

    Parameters
    ----------
    k : int
        Its number, for messages.
    sheet : Sheet
    alignment : Alignment
        The image must have the shape of its source.

    Returns
    -------
    CCDData, NDData or array_like
    """
    name = f"images[{k}]"
    if isinstance(sheet.image, Exception):
        raise sheet.image
    image = open_image(sheet.image, name=name, hdu=sheet.hdu, **sheet.flags)
    check_pixels(image, name=name)
    check_image(image, alignment.source_shape, name=name, frame="source", planes=True)
    return image


def opened(sheet: Sheet) -> Sheet:
    """Take an image out of HDUs, which do not travel to other processes; files do."""
    if isinstance(sheet.image, str | os.PathLike):
        return sheet
    try:
        return replace(sheet, image=sheet.open("image"))
    except Exception as error:  # what is wrong with it is for its row to tell
        return replace(sheet, image=error)
