"""Star lists in units that are no pixels, and frames whose pixels are not square."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from spalipy_astro.catalogs import Stars
from spalipy_astro.matching import StarField
from spalipy_astro.registration._pixels import SQUARE, Size, units_of, usual_unit
from spalipy_astro.registration._prepare import StarFrame

__all__ = ["ways_to_look"]


def _in_units(frame: StarFrame, unit: float) -> StarFrame:
    """Return a list of stars with its positions, and their errors, multiplied by a number."""
    if unit == 1:
        return frame
    stars = frame.stars
    err = None if stars.err is None else stars.err * unit
    stars = Stars(stars.xy * unit, err, stars.flux, stars.flag, stars.row)
    return replace(frame, stars=stars, field=StarField(stars.xy, stars.search_err), unit=unit)


def _squared(frame: StarFrame, size: Size) -> StarFrame:
    """
    Return a frame whose stars are matched as if its pixels were square.

    Parameters
    ----------
    frame : StarFrame
    size : tuple of float
        Width and height of its pixels.

    Returns
    -------
    StarFrame
        Only its `field` is on square pixels.
    """
    if size == SQUARE:
        return replace(frame, pixels=size)
    stars = frame.stars
    xy = (stars.xy + 0.5) * size - 0.5
    err = stars.search_err * np.sqrt(np.mean(np.square(size)))
    return replace(frame, field=StarField(xy, err), pixels=size)


def ways_to_look(
    one: StarFrame,
    two: StarFrame,
    sizes: tuple[Size | None, Size | None],
    *,
    common: bool,
) -> Iterator[tuple[StarFrame, StarFrame]]:
    """
    Yield both frames as they may be meant, likeliest first.

    Parameters
    ----------
    one, two : StarFrame
    sizes : tuple
        Sizes of the pixels of both, where the user gave them.
    common : bool
        Whether both are in the same unit, since it is known how large a shift or the scale is.

    Yields
    ------
    tuple of StarFrame
    """
    lists = [frame.shape is None and frame.wcs is None for frame in (one, two)]
    units = [
        units_of(frame.stars.xy) if is_list else (1.0,)
        for frame, is_list in zip((one, two), lists, strict=True)
    ]
    if common:
        units[0] = units[1] = max(units) if all(lists) else (1.0,)
    told = [
        frame.pixels if size is None else size
        for frame, size in zip((one, two), sizes, strict=True)
    ]
    smallest = min(*told[0], *told[1])
    told = [(width / smallest, height / smallest) for width, height in told]

    def shapes() -> Iterator[tuple[Size, Size]]:
        yield told[0], told[1]
        if sizes != (None, None):
            return
        if told != [SQUARE, SQUARE]:
            yield SQUARE, SQUARE  # headers may be wrong
        guess = one.elongation, two.elongation  # looked at only where nothing else has matched
        if guess not in ((SQUARE, SQUARE), (told[0], told[1])):
            yield guess

    for n in range(max(map(len, units))):
        ours, theirs = (unit[min(n, len(unit) - 1)] for unit in units)
        if all(lists) and not common and (ours, theirs) != (1.0, 1.0):
            # one of them is in no pixels, so that the other's are no measure either
            ours, theirs = (usual_unit(frame.stars.xy) for frame in (one, two))
        for first, second in shapes():
            yield (
                _squared(_in_units(one, ours), first),
                _squared(_in_units(two, theirs), second),
            )
