"""Points strung along straight lines, told from chance: pure geometry on positions."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro._neighbors import Neighbors

__all__ = ["on_lines"]

_FALSE_ALARM = 1e-3
_MIN_POINTS = 5
_MOST_LINES = 32
_MOST_TRIES = 20  # cells in a row that turn out to hold no line; fewer for few points
_ANGLES = {30: 90, 60: 180, np.inf: 360}  # up to so many points
_AROUND = 6  # cells on either side with which two cells are compared
_TILE_POINTS = 1500
_WIDTHS = (0.1, 0.25, 0.5, 1.0)  # of the strips, in units of the tolerance
_SIDES = (3.0, 20.0)  # of the bands beside the line, likewise
_PAIR_POINTS = 32
_SEGMENT_POINTS = 160
_MOST_CELLS = 64
_GATE = 7.0  # ln of the odds against chance of a cell that is worth a look
_SLACK = 8.0  # how much a strip may gain when its line is fitted
_ANCHORS = 9


class _Line(NamedTuple):
    """A segment of a line: a point, a unit vector, its ends along it, half width, ln of chance."""

    point: NDArray[np.float64]
    along: NDArray[np.float64]
    ends: tuple[float, float]
    half_width: float
    chance: float

    def holds(self, xy: NDArray) -> NDArray[np.bool_]:
        """Tell which points lie in the segment."""
        t, u = _project(xy, self.point, self.along)
        inside = (t >= self.ends[0]) & (t <= self.ends[1])
        return inside & (np.abs(u) <= self.half_width)

    def widened(self, xy: NDArray, tolerance: float) -> _Line:
        """Return a segment that also holds the outliers of the chain and those at its ends."""
        t, u = _project(xy, self.point, self.along)
        near = (np.abs(u) <= tolerance) & (t >= self.ends[0]) & (t <= self.ends[1])
        scatter = float(np.sqrt(np.mean(u[near] ** 2)))
        half = float(np.clip(3.2 * scatter, self.half_width, 1.5 * tolerance))
        here = np.sort(t[np.abs(u) <= half])
        first = int(np.searchsorted(here, self.ends[0]))
        last = int(np.searchsorted(here, self.ends[1], side="right"))
        gap = 2.5 * (self.ends[1] - self.ends[0]) / max(int(near.sum()) - 1, 1)
        while last < len(here) and here[last] - here[last - 1] <= gap:
            last += 1
        while first > 0 and here[first] - here[first - 1] <= gap:
            first -= 1
        return self._replace(ends=(float(here[first]), float(here[last - 1])), half_width=half)


def on_lines(
    xy: NDArray, *, tolerance: float = 3.0, false_alarm: float = _FALSE_ALARM
) -> NDArray[np.intp]:
    r"""
    Find points strung along straight lines beyond what chance allows.

    A satellite's trail, the flashes of an aircraft or a bad column look like this in a list of
    stars.

    Parameters
    ----------
    xy : array_like, shape (N, 2)
        Positions, px; the order does not matter.
    tolerance : float, optional
        Largest distance in px of a point from its line; three times the scatter that is expected
        at most. Narrower strips, down to a tenth of it, are tried as well.
    false_alarm : float, optional
        How probable it may be that a field of random points has a line at all.

    Returns
    -------
    `~numpy.ndarray` of int, shape (N,)
        The number of each point's line, counted from 0 with the most improbable first, and -1 for
        points on none.

    Raises
    ------
    ValueError
        If ``xy`` has another shape or ``tolerance`` or ``false_alarm`` is out of its range.

    Notes
    -----
    Two points are the ends of a segment; around it lies a strip of half width w. In a random
    field the number n of other points in the strip follows a Poisson distribution of mean
    ``lambda = density * area``, and

    .. math:: P(\ge n) \le \exp(n - \lambda - n \ln(n / \lambda))

    (Chernoff's bound). The N (N - 1) / 2 segments times the four widths are all that can be
    tried, so that a strip counts whose P, times their number, is below ``false_alarm``. The density
    is the largest of the whole field's and those seen in narrow and wide bands on either side of
    the strip, between the same ends; so a cluster's core is no line. At least five points make
    one.

    Not all segments are tried. A Hough transform counts points by angle and distance; the cells
    that have more than their neighbors are looked at, most improbable first, up to 32 lines and
    until up to 20 in a row turn out to be none. Of more than 1500 points as many parts of the
    field as it takes are transformed by themselves, so that the time grows with N.

    Where most points of a line are on further lines in other directions, the points are a lattice
    (a mask of dots, the ends of fibers), and nothing is on a line.

    Examples
    --------
    >>> import numpy as np
    >>> from spalipy_astro._lines import on_lines
    >>> field = np.random.default_rng(1).uniform(0, 1000, (60, 2))
    >>> t = np.arange(9)
    >>> flashes = np.column_stack((100 + 75 * t, 700 - 31 * t))
    >>> line = on_lines(np.concatenate((field, flashes)))
    >>> print(np.flatnonzero(line == 0))
    [60 61 62 63 64 65 66 67 68]
    """
    xy = np.asarray(xy, dtype=np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"xy must have the shape (N, 2), not {xy.shape}")
    if not (np.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"tolerance must be positive, not {tolerance}")
    if not 0 < false_alarm < 1:
        raise ValueError(f"false_alarm must lie between 0 and 1, not {false_alarm}")
    label = np.full(len(xy), -1, dtype=np.intp)
    rows = np.flatnonzero(np.isfinite(xy).all(axis=1))
    if len(rows) < _MIN_POINTS:
        return label
    lines = _find_lines(xy[rows], tolerance, np.log(false_alarm))
    for number, line in enumerate(sorted(lines, key=lambda line: line.chance)):
        here = rows[line.holds(xy[rows])]
        label[here[label[here] < 0]] = number
    return label


def _find_lines(xy: NDArray, tolerance: float, limit: float) -> list[_Line]:
    """Find the lines of all parts of a field; none if it is a lattice."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    size = np.maximum(high - low, tolerance)
    limit -= np.log(len(xy) ** 2 / 2 * len(_WIDTHS))
    free = np.ones(len(xy), dtype=bool)
    density = len(xy) / float(np.prod(size))
    lines: list[_Line] = []
    tiles = max(1, int(np.ceil(np.sqrt(len(xy) / _TILE_POINTS))))
    place = np.minimum((xy - low) / size * tiles, tiles - 1).astype(np.intp)
    part = place[:, 1] * tiles + place[:, 0]
    tries = max(min(_MOST_TRIES, len(xy) // 8) // tiles**2, 4)
    for k in range(tiles**2):
        members = np.flatnonzero((part == k) & free) if tiles > 1 else np.arange(len(xy))
        if len(members) < _MIN_POINTS:
            continue
        cells = _Cells(xy[members], tolerance)
        misses, in_vain = 0, list[set[int]]()
        while misses < tries and len(lines) < _MOST_LINES:
            near = cells.most_unlikely()
            if near is None:
                break
            if any(rejected.issuperset(near) for rejected in in_vain):
                continue
            line = _best_line(xy, members[near], free, tolerance, density, limit)
            if line is None or line.chance > limit:
                misses += 1
                in_vain.append(set(near))
                continue
            if _is_lattice(xy, line, tolerance, density):
                return []
            line = line.widened(xy[free], tolerance)
            lines.append(line)
            misses = 0
            here = line.holds(xy) & free
            free &= ~here
            cells.remove(here[members])
    return lines


class _Cells:
    """A Hough transform of points, from which found lines are taken out again."""

    def __init__(self, xy: NDArray, tolerance: float) -> None:
        center = (xy.min(axis=0) + xy.max(axis=0)) / 2
        offset = xy - center
        radius = max(float(np.hypot(*offset.T).max()), tolerance)
        # neither half a step of the angle nor its scatter takes a line out of two cells
        self.n_angles = next(n for most, n in _ANGLES.items() if len(xy) <= most)
        step = max(radius * np.pi / self.n_angles, 2 * tolerance)
        self.n_cells = int(np.ceil(2 * radius / step)) + 2 * _AROUND + 2
        vectors = _unit_vectors(self.n_angles)
        distance = offset.astype(np.float32) @ (vectors / np.float32(step))
        distance += np.float32(self.n_cells / 2)
        self.cell = distance.astype(np.int32)
        self.cell += np.arange(self.n_angles, dtype=np.int32) * np.int32(self.n_cells)
        self.members = np.ones(len(xy), dtype=bool)
        self.seen = np.zeros(self.n_angles * self.n_cells, dtype=bool)
        self._weigh()

    def _weigh(self) -> None:
        """Compare each cell and the next with the cells around them."""
        size = self.n_angles * self.n_cells
        count = np.bincount(self.cell[self.members].ravel(), minlength=size)
        # the cells at both ends of an angle are empty: no sum reaches into the next angle
        pairs = count[:-1] + count[1:]
        total = np.concatenate((np.zeros(_AROUND, np.intp), np.cumsum(count)))
        rows = np.flatnonzero(pairs >= _MIN_POINTS)
        rows = rows[~self.seen[rows]]
        last = np.minimum(rows + 1 + _AROUND, size - 1)
        n = pairs[rows]
        others = total[last + _AROUND] - total[np.maximum(rows - 1, 0)] - n
        expected = np.maximum(others / _AROUND, 0.5)
        gain = np.where(n > expected, n * np.log(n / expected) - n + expected, 0)
        order = np.argsort(-gain, kind="stable")[:_MOST_CELLS]
        self.queue = rows[order[gain[order] > _GATE]].tolist()

    def most_unlikely(self) -> list[int] | None:
        """Return the points of the pair of cells that chance explains least, once for each."""
        if not self.queue:
            return None
        cell = self.queue.pop(0)
        self.seen[cell] = True
        place = self.cell[:, cell // self.n_cells]
        return np.flatnonzero(self.members & (place >= cell) & (place <= cell + 1)).tolist()

    def remove(self, gone: NDArray[np.bool_]) -> None:
        """Take points out of the counts."""
        self.members &= ~gone
        self._weigh()


@lru_cache(maxsize=4)
def _unit_vectors(number: int) -> NDArray[np.float32]:
    """Return vectors of half a turn, shape (2, number)."""
    angle = (np.arange(number) + 0.5) * np.pi / number
    return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)


@lru_cache(maxsize=64)
def _pairs(number: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return all pairs of so many indices."""
    one, two = np.triu_indices(number, 1)
    return one, two


def _project(xy: NDArray, point: NDArray, along: NDArray) -> tuple[NDArray, NDArray]:
    """Return the coordinates along a line and across it."""
    dx, dy = xy[:, 0] - point[0], xy[:, 1] - point[1]
    return dx * along[0] + dy * along[1], dy * along[0] - dx * along[1]


def _best_line(
    xy: NDArray,
    near: NDArray,
    free: NDArray,
    tolerance: float,
    density: float,
    limit: float,
) -> _Line | None:
    """Find the least probable segment through two of some points, if there is hope for one."""
    if len(near) < _MIN_POINTS:
        return None
    pool = xy[near]
    spread = pool - pool.mean(axis=0)
    along = np.linalg.svd(spread, full_matrices=False)[2][0]
    order = np.argsort(spread @ along, kind="stable")
    some = order[_spread_out(len(order), _PAIR_POINTS)]
    one, two = _pairs(len(some))
    start, end = pool[some[one]], pool[some[two]]
    length = np.hypot(*(end - start).T)
    start, end, length = (a[length > 0] for a in (start, end, length))
    if len(length) == 0:
        return None
    direction = (end - start) / length[:, None]
    # how much of the points within each strip is between its ends
    dx, dy = pool[:, 0] - start[:, :1], pool[:, 1] - start[:, 1:]
    t = dx * direction[:, :1] + dy * direction[:, 1:]
    u = np.abs(dy * direction[:, :1] - dx * direction[:, 1:])
    between = (t >= -tolerance) & (t <= length[:, None] + tolerance)
    half = np.array(_WIDTHS)[:, None] * tolerance
    wide = 4 * tolerance
    u[~between] = np.inf
    around = np.count_nonzero(u <= wide, axis=1)
    number = np.array([np.count_nonzero(u <= h, axis=1) for h in half[:, 0]])
    beside = around - number
    mean = np.where(beside > 2, beside, 0.3) * (half / (wide - half))
    mean = np.maximum(mean, 2 * half * length * density)
    number = np.maximum(number - 2, 1)  # besides the ends
    gains = number * np.log(number / mean) - number + mean
    gains[number < mean] = 0
    best: _Line | None = None
    for width, gain in zip(half[:, 0], gains, strict=True):
        if gain.max() < -limit - _SLACK:
            continue
        hopeful = np.argsort(-gain, kind="stable")[:3]
        for k in hopeful[gain[hopeful] > -limit - _SLACK]:
            point, along = start[k], direction[k]
            for _ in range(3):
                line = _best_segment(xy, free, point, along, width, tolerance, density)
                if line is None:
                    break
                if best is None or line.chance < best.chance:
                    best = line
                chain = xy[line.holds(xy) & free]
                point = chain.mean(axis=0)
                along = np.linalg.svd(chain - point, full_matrices=False)[2][0]
    return best


def _best_segment(
    xy: NDArray,
    free: NDArray,
    point: NDArray,
    along: NDArray,
    half: float,
    tolerance: float,
    density: float,
) -> _Line | None:
    """Find the least probable segment of a line."""
    t, u = _project(xy, point, along)
    distance = np.abs(u)
    inside = np.sort(t[free & (distance <= half)])
    if len(inside) < _MIN_POINTS:
        return None
    ends = _spread_out(len(inside), _SEGMENT_POINTS)
    place = inside[ends]
    length = np.maximum(place - place[:, None], 1e-9)
    number = ends - ends[:, None] - 1  # besides the ends
    expected = 2 * half * length * density
    for band in _SIDES:
        inner, outer = 1.2 * tolerance, (1.2 + band) * tolerance
        for side in (u, -u):
            there = np.sort(t[(side > inner) & (side <= outer)])
            count = np.searchsorted(there, place)
            # one or two prove neither a crowded sky nor an empty one
            seen = np.maximum(count - count[:, None], 0.0)
            seen = np.where(seen > 2, seen + 0.5, 0.3)
            expected = np.maximum(expected, seen * (2 * half / (outer - inner)))
    n = np.maximum(number, 1)
    chance = np.where(number > expected, n - expected - n * np.log(n / expected), 0.0)
    chance[number < _MIN_POINTS - 2] = 0
    first, last = divmod(int(chance.argmin()), len(ends))
    if chance[first, last] >= 0:
        return None
    return _Line(
        point, along, (float(place[first]), float(place[last])), half, float(chance[first, last])
    )


def _spread_out(number: int, most: int) -> NDArray[np.intp]:
    """Return up to ``most`` of so many indices, evenly spread, with both ends."""
    if number <= most:
        return np.arange(number)
    return np.round(np.linspace(0, number - 1, most)).astype(np.intp)


def _is_lattice(xy: NDArray, line: _Line, tolerance: float, density: float) -> bool:
    """Tell whether most points of a line are on further lines in other directions."""
    members = np.flatnonzero(line.holds(xy))
    t, _ = _project(xy[members], line.point, line.along)
    members = members[np.argsort(t, kind="stable")]
    # away from the ends, where a lattice may be cut off
    members = members[len(members) // 8 : len(members) - len(members) // 8]
    anchors = members[_spread_out(len(members), _ANCHORS)]
    everyone = np.ones(len(xy), dtype=bool)
    # of the directions from one point; by chance, one in a hundred is crossed
    limit = np.log(0.01) - np.log(len(xy) * len(_WIDTHS))
    crossed = 0
    for k in anchors:
        offset = xy - xy[k]
        distance = np.hypot(*offset.T)
        across = np.abs(offset[:, 1] * line.along[0] - offset[:, 0] * line.along[1])
        rows = np.flatnonzero((across > 0.35 * distance) & (distance > 3 * tolerance))
        if len(rows) < _MIN_POINTS:
            continue
        angle = np.arctan2(offset[rows, 1], offset[rows, 0]) % np.pi
        reach = tolerance / distance[rows]
        # as many points as possible in one direction
        directions = np.column_stack((np.cos(2 * angle), np.sin(2 * angle)))
        number = Neighbors(directions).count(directions, 2 * reach)
        for direction in angle[np.argsort(-number, kind="stable")[:3]]:
            along = np.array([np.cos(direction), np.sin(direction)])
            found = [
                _best_segment(xy, everyone, xy[k], along, w * tolerance, tolerance, density)
                for w in _WIDTHS
            ]
            if any(f is not None and f.chance < limit and f.holds(xy[k : k + 1])[0] for f in found):
                crossed += 1
                break
    return crossed > len(anchors) / 2
