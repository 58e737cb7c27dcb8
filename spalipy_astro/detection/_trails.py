"""Light that is continuous along a straight line, found in the pixels: private to detection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _compiled
from spalipy_astro.detection._background import Background
from spalipy_astro.detection._medians import median, medians_of_rows
from spalipy_astro.detection._pixels import PixelSource

__all__ = ["Trail", "find_trails", "on_trails"]

_BINS = {600: 8, 2400: 16, np.inf: 32}  # px, by the smaller side of the image
_ROWS = 8  # of a bin that are read: fewer than all tell enough
_CHUNK = 8  # rows of bins that are read at once
_FEWEST_BINS = 8
_GOOD_BINS = 0.98
_CLIP = (-3.0, 3.0)  # sigma: a star in a bin is no more than the faint light of a trail
_SIDES = (2, 4)  # bins between a line and those beside it
_SHORTEST = 3  # log2 of the number of bins
# by how many sigma a line of so many bins stands out, and what share of its bins is lit
_GATE = {8: 5.7, 16: 5.7, 32: 5.2, np.inf: 4.6}
_LIT_SHARE = {8: 0.85, 16: 0.8, 32: 0.65, np.inf: 0.6}
_MOST_TRAILS = 40
_MOST_MISSES = 10
_BLOCK = 24  # px along a trail
_FEWEST_BLOCKS = 4
_AT_ONCE = 1 << 16  # pixels, or blocks of lines
_REACH = 32  # px on either side
_LIT = 2.5  # sigma of a block
_LIT_BLOCKS = 0.75  # of a trail
_ROUGHLY_LIT = 0.65  # the same at a first look
_CERTAIN = 42.0  # sigma: a trail of one block; of 10 blocks 7.5, of 30 blocks 3.3
_LENGTH = 10  # times the half width
_WIDEST = 7  # px of the half width; ridges of nebulae are wider
_SPIKE = 500  # px: a longer trail is not that of a star
_QUANTILE = 0.3  # of a block's pixels


class Trail(NamedTuple):
    """A segment with light on it.

    A point of the line, the unit vector along it, the ends along it, and how far from the line its
    light makes peaks, all in px.
    """

    point: NDArray[np.float64]
    along: NDArray[np.float64]
    ends: tuple[float, float]
    half_width: float

    @property
    def length(self) -> float:
        """Length in px."""
        return self.ends[1] - self.ends[0]

    def perpendicular(self) -> tuple[NDArray, NDArray]:
        """Return the ends of a segment across the middle, where a star has its other spikes."""
        center = self.point + sum(self.ends) / 2 * self.along
        normal = self.length / 2 * np.array([-self.along[1], self.along[0]])
        return center - normal, center + normal

    def holds(self, x: NDArray, y: NDArray) -> NDArray[np.bool_]:
        """Tell which positions lie on the trail."""
        dx, dy = x - self.point[0], y - self.point[1]
        t = dx * self.along[0] + dy * self.along[1]
        u = dy * self.along[0] - dx * self.along[1]
        return (t >= self.ends[0]) & (t <= self.ends[1]) & (np.abs(u) <= self.half_width)


def on_trails(trails: tuple[Trail, ...], x: NDArray, y: NDArray) -> NDArray[np.bool_]:
    """Tell which positions lie on one of some trails."""
    out = np.zeros(len(x), dtype=bool)
    for trail in trails:
        out |= trail.holds(x, y)
    return out


def find_trails(source: PixelSource, background: Background) -> tuple[Trail, ...]:
    """Find straight trails that are brighter than the sky on both of their sides.

    The image is averaged in coarse bins, in units of their noise and clipped, so that a star
    counts no more than the faint light of a trail. Sums over all lines of 8, 16, 32, ... bins come
    from a fast discrete Radon transform (Brady 1998, doi:10.1137/S0097539793256673). Where one
    clearly exceeds those on both sides, the pixels decide: along a trail, most blocks of 24 px
    are brighter than the sky on both sides even in their darker pixels, where between stars there
    is sky.
    """
    shape = source.shape
    size = int(_by_length(_BINS, min(shape)))
    if min(shape) < _FEWEST_BINS * size:
        return ()
    bins = _Bins(source, background, size)
    trails: list[Trail] = []
    misses = 0
    while misses < _MOST_MISSES and len(trails) < _MOST_TRAILS:
        segment = next(filter(bins.is_lit, _bright_lines(bins.light)), None)
        if segment is None:
            break
        start, end = bins.pixel(segment[:2]), bins.pixel(segment[2:])
        found = _follow(source, background, start, end, 1.5 * size + 4, trails)
        if found is None:
            misses += 1
            bins.erase(start, end, size)
            continue
        while found is not None and len(trails) < _MOST_TRAILS:
            # a bin has room for more than one line
            trails.append(found)
            first, last = (found.point + t * found.along for t in found.ends)
            bins.erase(first, last, size + found.half_width)
            if found.length < _SPIKE:
                across = _follow(source, background, *found.perpendicular(), 12, trails)
                trails += [] if across is None else [across]
            found = _follow(source, background, start, end, 1.5 * size + 4, trails)
        bins.erase(start, end, size)
    return tuple(trails)


class _Bins:
    """The image in coarse bins, in units of their noise, clipped."""

    def __init__(self, source: PixelSource, background: Background, size: int) -> None:
        self.size = size
        # the last bins end with the image, and overlap those before
        starts = [np.minimum(np.arange(0, n, size), n - size) for n in source.shape]
        self.shape = len(starts[0]), len(starts[1])
        number: float | NDArray[np.float32] = size * min(_ROWS, size // 2)
        with np.errstate(invalid="ignore", over="ignore"):
            total = self._sums(source, lambda rows: rows)
        if np.count_nonzero(np.isfinite(total)) < _GOOD_BINS * total.size:
            # single bad pixels are in most bins
            total = self._sums(source, lambda rows: np.where(np.isfinite(rows), rows, 0))
            number = self._sums(source, lambda rows: np.isfinite(rows).astype(np.float32))
            number[number < size * _ROWS / 4] = np.nan
        center = [start + (size - 1) / 2 for start in starts]
        level, noise = background.grid(*center)
        light = (total / number - level) * (np.sqrt(number) / noise)
        good = np.isfinite(light)
        values = light[good]
        low, middle = 0.0, 1.0
        if len(values):
            ranks = int(0.16 * len(values)), len(values) // 2
            low, middle = np.partition(values, ranks)[list(ranks)]
        # neighboring pixels may share their noise; stars only add
        light = (light - middle) / max(middle - low, 1.0)
        light[~good] = 0
        self.light = np.clip(light, *_CLIP).astype(np.float32)
        self.known = good

    def _sums(
        self, source: PixelSource, convert: Callable[[NDArray], NDArray]
    ) -> NDArray[np.float32]:
        """Add up the pixels of each bin."""
        (ny, nx), size = source.shape, self.size
        step = max(size // _ROWS, 2)
        lines = np.empty((self.shape[0], nx), np.float32)
        whole = ny // size
        for k in range(0, whole, _CHUNK):
            rows = convert(source.rows(slice(k * size, min(k + _CHUNK, whole) * size, step)))
            rows = rows.reshape(-1, size // step, nx)
            np.add.reduce(rows, axis=1, out=lines[k : k + len(rows)])
        if ny % size:
            np.add.reduce(convert(source.rows(slice(ny - size, ny, step))), axis=0, out=lines[-1])
        whole = nx // size
        out = np.empty(self.shape, np.float32)
        parts = lines[:, : whole * size].reshape(-1, whole, size)
        np.add.reduce(parts, axis=2, out=out[:, :whole])
        if nx % size:
            np.add.reduce(lines[:, -size:], axis=1, out=out[:, -1])
        return out

    def pixel(self, place: NDArray) -> NDArray[np.float64]:
        """Turn the place ``(row, column)`` of a bin into ``(x, y)`` in px."""
        row, column = place
        return np.array([(column + 0.5) * self.size - 0.5, (row + 0.5) * self.size - 0.5])

    def is_lit(self, segment: NDArray[np.intp]) -> bool:
        """Tell whether there is light in most bins of a line, and not much in a few."""
        n = int(np.abs(segment[2:] - segment[:2]).max()) + 1
        row, column = np.round(np.linspace(segment[:2], segment[2:], n)).astype(np.intp).T
        inside = (row >= 0) & (column >= 0) & (row < self.shape[0]) & (column < self.shape[1])
        row, column = row[inside], column[inside]
        lit = self.light[row, column][self.known[row, column]] > 0.5
        share = float(np.mean(lit)) if len(lit) else 0.0
        return share > _by_length(_LIT_SHARE, n)

    def erase(self, start: NDArray, end: NDArray, reach: float) -> None:
        """Leave no light near a segment."""
        y = (np.arange(self.shape[0])[:, None] + 0.5) * self.size - 0.5 - start[1]
        x = (np.arange(self.shape[1]) + 0.5) * self.size - 0.5 - start[0]
        length = max(float(np.hypot(*(end - start))), 1e-9)
        along = (end - start) / length
        t = x * along[0] + y * along[1]
        u = y * along[0] - x * along[1]
        near = (t > -reach - self.size) & (t < length + reach + self.size)
        near &= np.abs(u) < reach
        self.light[near] = 0
        self.known[near] = False


def _by_length(limits: Mapping[float, float], length: int) -> float:
    """Return the limit of the first length that is not exceeded."""
    return next(limit for longest, limit in limits.items() if length <= longest)


def _bright_lines(light: NDArray[np.float32]) -> list[NDArray[np.intp]]:
    """Return ``(row, column)`` of both ends of lines of bins that stand out, brightest first.

    Of each length and range of angles it is the brightest.
    """
    ny, nx = light.shape
    levels = int(np.ceil(np.log2(max(ny, nx))))
    # stars and trails elsewhere are part of the noise
    noise = max(float(light.std()), 1.0)
    value, place = np.empty(levels, np.float32), np.empty((levels, 3), np.int64)
    found = []
    for quadrant, part in enumerate((light, light[:, ::-1], light.T, light.T[:, ::-1])):
        _compiled.bright_lines(np.ascontiguousarray(part), *_SIDES, value, place)
        for level in range(_SHORTEST, levels + 1):
            length = 2**level
            contrast = float(value[level - 1]) / np.sqrt(length)
            if contrast > _by_length(_GATE, length) * noise:
                strip, shear, column = (int(w) for w in place[level - 1])
                row = strip * length
                ends = np.array([[row, column], [row + length - 1, column + shear]])
                if quadrant % 2:
                    ends[:, 1] = (nx if quadrant == 1 else ny) - 1 - ends[:, 1]
                ends = (ends[:, ::-1] if quadrant > 1 else ends).ravel()
                found.append((-contrast, level, quadrant, ends))
    return [ends for *_, ends in sorted(found, key=lambda line: line[:3])]


def _follow(
    source: PixelSource,
    background: Background,
    start: NDArray,
    end: NDArray,
    reach: float,
    known: list[Trail],
) -> Trail | None:
    """Look at the pixels along a line: where its light begins and ends, and how wide it is."""
    trail = None
    for _ in range(2):
        strip = _Strip(source, background, start, end, int(reach), known, _BLOCK)
        fitted = strip.refine()
        if fitted is None:
            return None
        trail = _Strip(source, background, *fitted, _REACH, known).trail()
        if trail is None:
            return None
        # again along all of its length
        start, end = (trail.point + t * trail.along for t in trail.ends)
        reach = 12
    return trail


class _Strip:
    """The darker pixels of blocks along a line, and their distance from it.

    They are in units of the pixel noise, above the sky at their place; NaN beyond the image and on
    trails that are known already.
    """

    def __init__(
        self,
        source: PixelSource,
        background: Background,
        start: NDArray,
        end: NDArray,
        reach: int,
        known: list[Trail],
        margin: float = np.inf,
    ) -> None:
        self.length = float(np.hypot(*(end - start)))
        self.start = start
        self.along = (end - start) / self.length
        ny, nx = source.shape
        first, last = _inside(start, self.along, (ny, nx))
        first, last = max(first, -margin), min(last, self.length + margin)
        n = max(int((last - first) / _BLOCK), 1)
        t = first + np.arange(n * _BLOCK)
        self.t = t.reshape(n, _BLOCK).mean(axis=1)
        self.u = np.arange(-reach, reach + 1.0)
        x, y = start[0] + t * self.along[0], start[1] + t * self.along[1]
        level, noise = background.at(np.clip(x, 0, nx - 1), np.clip(y, 0, ny - 1))
        sky = level.astype(np.float32), noise.astype(np.float32)
        self.light = np.empty((n, len(self.u)), np.float32)
        step = max(_AT_ONCE // len(t), 1)
        for k in range(0, len(self.u), step):
            some = slice(k, k + step)
            aside = self.u[some, None] * np.array([-self.along[1], self.along[0]])[:, None, None]
            self.light[:, some] = _darker(source, x + aside[0], y + aside[1], sky, known).T

    def refine(self) -> tuple[NDArray, NDArray] | None:
        """Fit the line to the light near the segment that it was given for."""
        here = np.flatnonzero((self.t > -_BLOCK) & (self.t < self.length + _BLOCK))
        if len(here) < 2:
            return None
        above = self.light[here] - medians_of_rows(self.light[here])[:, None]
        light = np.arcsinh(np.nan_to_num(above))
        smooth = np.zeros_like(light)
        smooth[:, 1:-1] = light[:, 1:-1] + 0.6 * (light[:, 2:] + light[:, :-2])
        place = np.clip(self.t[here] / self.length, 0, 1)
        ends = np.arange(1, len(self.u) - 1)
        blocks = np.arange(len(here))
        # some lines at once: as many as fit the processor's cache
        step = max(_AT_ONCE // (len(ends) * len(here)), 1)
        total = np.concatenate(
            [
                smooth.take(
                    _columns(ends[k : k + step, None, None], ends[:, None], place)
                    + blocks * smooth.shape[1]
                ).sum(axis=2)
                for k in range(0, len(ends), step)
            ]
        )
        one, two = divmod(int(total.argmax()), len(ends))
        # most false ones are not worth a look at the whole length
        column = _columns(ends[one], ends[two], place)
        known = np.isfinite(self.light[here, column])
        lit = light[blocks, column] > 1.4826 * median(np.abs(light))
        if np.count_nonzero(lit & known) < _ROUGHLY_LIT * np.count_nonzero(known):
            return None
        return self._moved(self.u[ends[one]], self.u[ends[two]])

    def _moved(self, first: float, last: float) -> tuple[NDArray, NDArray]:
        """Return the ends moved sideways."""
        normal = np.array([-self.along[1], self.along[0]])
        return (
            self.start + first * normal,
            self.start + self.length * self.along + last * normal,
        )

    def trail(self) -> Trail | None:
        """Tell where there is light on the line and sky on both sides of it."""
        distance = np.abs(self.u)
        sides = [
            medians_of_rows(self.light[:, side & (distance > 12)])
            for side in (self.u > 0, self.u < 0)
        ]
        sky = np.fmax(*sides)
        # where the image ends, a slope would pass for a ridge: it must fall off at once
        near = medians_of_rows(self.light[:, (distance > _WIDEST) & (distance <= 12)])
        sky = np.where(np.isnan(sides).any(axis=0), np.fmax(sky, near), sky)
        sky = np.where(np.isnan(sky), 0, sky)
        light = self.light - sky[:, None]
        outer = light[:, distance > 12]
        if np.isnan(outer).all():
            return None
        scatter = np.abs(outer - medians_of_rows(outer)[:, None])
        noise = 1.4826 * median(scatter[np.isfinite(scatter)])
        noise = max(noise, 0.1)
        core = light[:, distance <= 1]
        # blocks that nothing is known of, beyond the image or on another trail, make no gap
        number = np.count_nonzero(np.isfinite(core), axis=1)
        known = np.flatnonzero(number)
        shine = np.nansum(core, axis=1) / np.sqrt(np.maximum(number, 1))
        run = _longest_run(shine[known] > _LIT * noise)
        if run is None:
            return None
        first, last = (int(known[k]) for k in run)
        rows = known[(known >= first) & (known <= last)]
        number = len(rows)
        rows = rows[shine[rows] > _LIT * noise]
        if len(rows) < max(_FEWEST_BLOCKS, _LIT_BLOCKS * number):
            return None
        # stars may stand in a row, but not in a long one
        if median(shine[rows]) * len(rows) ** 0.75 < _CERTAIN * noise:
            return None
        profile = medians_of_rows(light[rows].T)
        floor = max(0.5 * float(np.nanmax(profile[distance <= 2])), 3 * noise / np.sqrt(len(rows)))
        half = 1.0
        while half <= _WIDEST and np.nanmax(profile[distance == half], initial=-np.inf) > floor:
            half += 1
        if half > _WIDEST or _LENGTH * half > (last - first + 1) * _BLOCK:
            return None
        # beyond the last whole block there may be light as well
        at_end = last == len(self.t) - 1
        ends = float(self.t[first]) - _BLOCK, float(self.t[last]) + (2 if at_end else 1) * _BLOCK
        return Trail(self.start, self.along, ends, half + 2.0)


def _darker(
    source: PixelSource, x: NDArray, y: NDArray, sky: tuple[NDArray, NDArray], known: list[Trail]
) -> NDArray:
    """Return the darker pixels of the blocks of lines, in units of the noise above the sky."""
    values = source.at(np.floor(x + 0.5).astype(np.intp), np.floor(y + 0.5).astype(np.intp))
    level, noise = sky
    values -= level
    values /= noise
    for other in known:
        values[other.holds(x, y)] = np.nan
    blocks = values.reshape(len(values), -1, _BLOCK)
    blocks.sort(axis=2)  # NaN to the end
    number = np.count_nonzero(np.isfinite(blocks), axis=2)
    rank = (_QUANTILE * np.maximum(number - 1, 0) + 0.5).astype(np.intp)
    light = np.take_along_axis(blocks, rank[..., None], axis=2)[..., 0]
    return np.where(number >= _BLOCK // 2, light, np.nan)


def _columns(first: NDArray, last: NDArray, place: NDArray) -> NDArray[np.intp]:
    """Columns of a line from one to the other, at places from 0 to 1."""
    return np.round(first + (last - first) * place).astype(np.intp)


def _inside(start: NDArray, along: NDArray, shape: tuple[int, int]) -> tuple[float, float]:
    """Return where a line enters the image and where it leaves it."""
    first, last = -np.inf, np.inf
    for value, slope, n in zip(start, along, shape[::-1], strict=True):
        if abs(slope) < 1e-9:
            continue
        one, two = sorted(((-0.5 - value) / slope, (n - 0.5 - value) / slope))
        first, last = max(first, one), min(last, two)
    return (first, last) if last > first else (0.0, 0.0)


def _longest_run(lit: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Return the first and last of the run with the most blocks lit, with gaps of up to two."""
    rows = np.flatnonzero(lit)
    if len(rows) == 0:
        return None
    breaks = np.flatnonzero(np.diff(rows) > 3)
    firsts, lasts = np.append(0, breaks + 1), np.append(breaks, len(rows) - 1)
    k = int(np.argmax(lasts - firsts))
    return int(rows[firsts[k]]), int(rows[lasts[k]])
