"""Files of several chips: each chip is a batch of its own, and one table tells of all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import QTable, vstack

from spalipy_astro.batch._sources import masks_each
from spalipy_astro.errors import AlignmentError, FormatError
from spalipy_astro.io import image_hdus

__all__ = ["align_chips"]


def align_chips(
    align: Callable[..., QTable],
    sources: Iterable[Any],
    template: Any,
    *,
    output: str | os.PathLike[str] | None,
    source_mask: Any,
    template_hdus: list[Any] | None,
    options: dict[str, Any],
) -> QTable:
    """
    Align all images of each file.

    Parameters
    ----------
    align : callable
        `align_many`.
    sources, template, output, source_mask
        As for `align_many`. Results of the image in HDU ``k`` of files with several go to the
        folder ``hdu<k>`` of ``output``.
    template_hdus : list of Extension or None
        The images of the template, if it is a file or an HDUList. With several of them the first
        image of a source goes with the first, the second with the second.
    options : dict
        The other arguments.

    Returns
    -------
    QTable
        A row for each image of each source, and a column ``hdu`` (-1 for what is no file or cannot
        be opened).

    Raises
    ------
    FormatError
        If the template has several images, but fewer than a source.
    """
    groups: dict[tuple[int, int | None], list[int]] = {}
    listed = list(sources)
    several = False
    for row, source in enumerate(listed):
        numbers = _images(source)
        several |= len(numbers) > 1
        for place, number in enumerate(numbers):
            groups.setdefault((place, number), []).append(row)
    tables = []
    for (place, number), rows in sorted(groups.items(), key=lambda item: (item[0][0], item[1])):
        chip = _counterpart(template, template_hdus, place)
        folder = output
        if output is not None and several and number is not None:
            folder = Path(output) / f"hdu{number}"
        many = masks_each(source_mask)
        masks = source_mask if many is None else [many[row] for row in rows]
        table = align(
            [listed[row] for row in rows],
            template,
            output=folder,
            source_mask=masks,
            hdu=number,
            template_hdu=chip,
            **options,
        )
        table["hdu"] = np.full(len(rows), -1 if number is None else number)
        table["_place"] = [(row, place) for row in rows]
        tables.append(table)
    if not tables:
        return align([], template, output=output, source_mask=source_mask, hdu=None, **options)
    whole = vstack(tables, metadata_conflicts="silent")
    order = np.lexsort(np.transpose(whole["_place"])[::-1])
    whole.remove_column("_place")
    whole = whole[order]
    whole.meta = dict(tables[0].meta)
    return whole


def _images(source: Any) -> list[int | None]:
    """Return the numbers of the images of a source; None stands for all that there is."""
    if not isinstance(source, str | os.PathLike | fits.HDUList):
        return [None]
    try:
        return list(image_hdus(source)) or [None]
    except (AlignmentError, OSError):
        return [None]  # its row will give the reason


def _counterpart(template: Any, hdus: list[Any] | None, place: int) -> Any:
    """Return the HDU of the template that belongs to an image of a source."""
    if not hdus:
        return None
    if len(hdus) == 1:
        return hdus[0]
    if place >= len(hdus):
        name = os.fspath(template) if isinstance(template, str | os.PathLike) else "HDUList"
        raise FormatError(
            f"the template {name!r} has {len(hdus)} images, a source has more; name "
            "one of them by hdu, or give a template of one image for all."
        )
    return hdus[place]
