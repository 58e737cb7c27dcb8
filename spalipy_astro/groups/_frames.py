"""The stars of all images of a group, found one image at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from spalipy_astro.catalogs import is_catalog
from spalipy_astro.errors import TooFewStarsError
from spalipy_astro.groups._geometry import Lone
from spalipy_astro.groups._sources import Sheet, opened
from spalipy_astro.groups._work import Done, Work, describe
from spalipy_astro.io import as_image, mid_exposure
from spalipy_astro.registration import StarFrame, prepare

__all__ = ["find_frames"]


def find_frames(
    sheets: Iterable[Sheet], detection: Mapping[str, Any], work: Work, *, total: int | None
) -> tuple[list[Sheet], list[StarFrame | None], list[str], dict[int, Lone]]:
    """
    Find the stars of all images.

    Parameters
    ----------
    sheets : iterable of Sheet
        Taken one by one; their pixels are not kept.
    detection : mapping
        Keyword arguments of `prepare`.
    work : Work
    total : int or None
        Their number, if it is known.

    Returns
    -------
    sheets : list of Sheet
        Without the images.
    frames : list of StarFrame or None
    reasons : list of str
        Why there are no stars; empty where there are.
    lone : dict of int to Lone
        The images that have too few.
    """
    seen: list[Sheet] = []

    def items() -> Iterator[tuple[int, Sheet]]:
        for sheet in sheets:
            seen.append(replace(sheet, image=None))
            yield len(seen) - 1, opened(sheet)

    def row(index: int, done: Done) -> dict[str, Any]:
        sheet = seen[index]
        return {
            "source": sheet.label,
            **({} if sheet.hdu is None else {"hdu": sheet.hdu}),
            "status": "failed" if reason_of(done) else "ok",
            "reason": reason_of(done),
            "n_stars": len(done.value.stars) if isinstance(done.value, StarFrame) else 0,
        }

    def reason_of(done: Done) -> str:
        return done.value.reason if isinstance(done.value, Lone) else done.reason

    found: dict[int, Done] = {}
    results = work.each(_find, dict(detection), items(), step="stars", total=total, row=row)
    for index, done in results:
        found[index] = done
    values = [found[k].value for k in range(len(seen))]
    frames = [value if isinstance(value, StarFrame) else None for value in values]
    lone = {k: value for k, value in enumerate(values) if isinstance(value, Lone)}
    return seen, frames, [reason_of(found[k]) for k in range(len(seen))], lone


def _find(detection: Mapping[str, Any], item: tuple[int, Sheet]) -> StarFrame | Lone:
    """Find the stars of one image. Of its header, which is large, only the time is kept."""
    index, sheet = item
    if isinstance(sheet.image, Exception):
        raise sheet.image
    name = f"image {index}"
    image = sheet.open(name)
    try:
        frame = prepare(image, name=name, **detection)
    except TooFewStarsError as error:
        if is_catalog(image):
            raise
        ny, nx = as_image(image, name=name).data.shape
        return Lone((ny, nx), describe(error))
    moment = mid_exposure(frame.header, to_the_day=True)
    return replace(frame, header={} if moment is None else {"MJD-AVG": moment})
