"""Which frames show the same stars: the pairs that are worth a try, tried by many workers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.errors import AlignmentError
from spalipy_astro.groups._graph import Link, parts_of
from spalipy_astro.groups._pointings import Pointings
from spalipy_astro.groups._work import Done, Work
from spalipy_astro.matching import Priors, StarField, match_stars, pattern_votes
from spalipy_astro.registration import StarFrame

__all__ = ["find_links"]

log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

_LEAST_VOTES = 8
_MANY_VOTES = 25  # are no chance
_PARTNERS = 12  # most frames that one is compared with, by their votes ...
_FEW_PARTNERS, _MANY_PAIRS = 6, 300  # ... of many frames, where neighbors of neighbors hold on, too
_LAST_PARTNERS = 6  # and once more, where it is not yet connected
_AT_ONCE = 16  # pairs that are tried before it is asked again which frames are still apart


@dataclass(frozen=True)
class _Lists:
    """What pairs need of the frames: little, since each worker has all of it."""

    xy: list[FloatArray]
    err: list[FloatArray]
    shapes: list[tuple[int, int] | None]
    priors: Priors

    def field(self, k: int) -> StarField:
        """Return a frame prepared for matching, to be forgotten with its trees and hashes."""
        return StarField(self.xy[k], self.err[k])


def find_links(
    frames: Sequence[StarFrame | None], priors: Priors, work: Work | None = None
) -> list[Link]:
    """
    Find the pairs of frames that show the same stars.

    Parameters
    ----------
    frames : sequence of StarFrame or None
    priors : Priors
    work : Work, optional
        Who does it; the links are the same.

    Returns
    -------
    list of Link
        Those with the most stars first. Pairs with many quads in common are tried, whatever a WCS
        says; then, while frames stay apart, those with few or none that it does not have far apart.
    """
    work = Work() if work is None else work
    known = [k for k, frame in enumerate(frames) if frame is not None]
    if len(known) < 2:
        return []
    number = np.array(known, dtype=np.intp)
    there = [frame for frame in frames if frame is not None]
    lists = _Lists(
        [frame.stars.xy for frame in there],
        [frame.stars.search_err for frame in there],
        [frame.shape for frame in there],
        priors,
    )
    votes = pattern_votes([frame.field for frame in there], parity=priors.parity)
    rank = np.argsort(np.argsort(-votes, axis=1, kind="stable"), axis=1)
    rank = np.minimum(rank, rank.T)
    rows, columns = np.triu_indices(len(known), 1)
    order = np.argsort(-votes[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    count, place = votes[rows, columns], rank[rows, columns]
    # a quarter of the pairs shows what chance gives, or that all overlap: then few pairs suffice
    least = max(_LEAST_VOTES, min(3 * float(np.quantile(count, 0.25)), _MANY_VOTES))
    partners = int(np.clip(_MANY_PAIRS // len(known), _FEW_PARTNERS, _PARTNERS))
    promising = (count >= least) & (place < partners)
    links = _try(lists, rows[promising], columns[promising], known, work)
    rest = np.flatnonzero(~promising & (place < _LAST_PARTNERS))
    pointings = Pointings(frames)
    while True:
        part = parts_of(len(frames), links)[known]
        rest = rest[part[rows[rest]] != part[columns[rest]]]
        worth = ~pointings.apart(links, number[rows[rest]], number[columns[rest]])
        if not worth.any():
            return sorted(links, key=lambda link: (-len(link.stars_i), link.i, link.j))
        some = rest[worth][:_AT_ONCE]
        rest = rest[~np.isin(rest, some)]
        links += _try(lists, rows[some], columns[some], known, work)


def _try(
    lists: _Lists,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    names: Sequence[int],
    work: Work,
) -> list[Link]:
    """Try pairs: all with one template are one task, so that its patterns are indexed once."""
    templates = np.unique(columns).tolist()
    tasks = [(b, np.sort(rows[columns == b]).tolist()) for b in templates]

    def row(index: int, done: Done) -> dict[str, Any]:
        b, sources = tasks[index]
        return {"image": names[b], "pairs": len(sources), "links": len(done.value or ())}

    found: dict[int, list[Link]] = {}
    for index, done in work.each(_links, lists, tasks, step="pairs", total=len(tasks), row=row):
        found[index] = done.value or []
        if done.reason:
            name = names[tasks[index][0]]
            log.warning("image %d was not compared with other ones: %s", name, done.reason)
    return [
        replace(link, i=names[link.i], j=names[link.j])
        for index in range(len(tasks))
        for link in found[index]
    ]


def _links(lists: _Lists, task: tuple[int, list[int]]) -> list[Link]:
    """Return the links of one frame with some of those before it."""
    j, sources = task
    template = lists.field(j)
    found = [_link(lists, i, lists.field(i), j, template) for i in sources]
    return [link for link in found if link is not None]


def _link(lists: _Lists, i: int, source: StarField, j: int, template: StarField) -> Link | None:
    """Return the link of two frames, if there is one."""
    try:
        match = match_stars(
            source,
            template,
            priors=lists.priors,
            source_shape=lists.shapes[i],
            template_shape=lists.shapes[j],
        )
    except AlignmentError:
        return None
    return Link.of(i, j, source.xy, template.xy, match.source, match.template, match.log_odds)
