"""
Time, memory and accuracy of what users call, for asv to follow from commit to commit.

    asv run --quick --python=same      # once, with the packages that are installed
    asv continuous main HEAD           # which of them a branch has changed
    asv run main && asv publish        # the history of the main branch, as pages

Times are CPU seconds, with one thread for linear algebra. All skies are drawn from a seed, and the
true positions are known.
"""

from __future__ import annotations

import time

import numpy as np
from threadpoolctl import threadpool_limits

from spalipy_astro import align, align_group, align_many, detect_stars, find_alignment

SIZE = 1024
SIGMA = 1.3  # px, of a star
TURN, SHIFT = np.deg2rad(1.5), np.array([14.3, -8.6])  # source to template


def turned(xy: np.ndarray) -> np.ndarray:
    """Return source px in template px."""
    cos, sin = np.cos(TURN), np.sin(TURN)
    return xy @ np.array([[cos, sin], [-sin, cos]]) + SHIFT


def draw(xy: np.ndarray, flux: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Return a frame of stars on a sky of 200 counts."""
    rng = np.random.default_rng(seed)
    image = np.full((size, size), 200.0)
    half = 8
    for (x, y), f in zip(xy, flux, strict=True):
        i, j = round(float(y)), round(float(x))
        if half <= min(i, j) and max(i, j) < size - half:
            rows, columns = np.arange(i - half, i + half + 1), np.arange(j - half, j + half + 1)
            profile = [
                np.exp(-0.5 * ((at - center) / SIGMA) ** 2)
                for at, center in ((rows, y), (columns, x))
            ]
            part = image[i - half : i + half + 1, j - half : j + half + 1]
            part += f / (2 * np.pi * SIGMA**2) * np.outer(*profile)
    return rng.poisson(image).astype(np.float32)


def draw_pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a source, a template, and the true positions in the source."""
    rng = np.random.default_rng(1)
    xy = rng.uniform(-40, SIZE + 40, (1200, 2))
    flux = 10 ** rng.uniform(2.8, 5, len(xy))
    return draw(xy, flux, SIZE, 2), draw(turned(xy), flux, SIZE, 3), xy


def draw_panels() -> list[np.ndarray]:
    """Return nine frames of 400 px that overlap by a quarter."""
    rng = np.random.default_rng(4)
    xy = rng.uniform(0, 1000, (1500, 2))
    flux = 10 ** rng.uniform(3, 5, len(xy))
    corners = [(300 * i + 5 * j, 300 * j - 5 * i) for i in range(3) for j in range(3)]
    return [draw(xy - corner, flux, 400, 10 + k) for k, corner in enumerate(corners)]


class _OneThread:
    """CPU seconds, of one thread for linear algebra."""

    timer = time.process_time
    timeout = 300

    def setup(self) -> None:
        self.limit = threadpool_limits(1, user_api="blas")
        self.prepare()

    def teardown(self) -> None:
        self.limit.restore_original_limits()


class Pair(_OneThread):
    """Two frames of 1024 px with 1200 stars."""

    def prepare(self) -> None:
        self.source, self.template, self.xy = draw_pair()
        self.stars = [detect_stars(image) for image in (self.source, self.template)]
        self.alignment = find_alignment(*self.stars)

    def time_detect(self) -> None:
        detect_stars(self.source)

    def time_match(self) -> None:
        find_alignment(*self.stars)  # two catalogs, and the fit

    def time_align(self) -> None:
        align(self.source, self.template)

    def time_resample_lanczos(self) -> None:
        self.alignment.resample(self.source, shape=self.template.shape, n_threads=1)

    def peakmem_align(self) -> None:
        align(self.source, self.template)

    def track_error(self) -> float:
        """Return the error of the transform against the truth, rms over the frame."""
        inside = np.all((self.xy > 0) & (self.xy < SIZE), axis=1)
        found = np.column_stack(self.alignment.transform(*self.xy[inside].T))
        return float(np.sqrt(np.mean(np.sum((found - turned(self.xy[inside])) ** 2, axis=1))))

    track_error.unit = "px"


class Night(_OneThread):
    """Four frames of 1024 px on a template, one after the other, in memory."""

    def prepare(self) -> None:
        self.source, self.template, _ = draw_pair()

    def time_align_many(self) -> None:
        align_many([self.source] * 4, self.template, progress=False)


class Group(_OneThread):
    """Nine frames of 400 px that overlap each other."""

    def prepare(self) -> None:
        self.panels = draw_panels()

    def time_align_group(self) -> None:
        align_group(self.panels, progress=False)

    def peakmem_align_group(self) -> None:
        align_group(self.panels, progress=False)
