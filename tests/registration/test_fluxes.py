"""Ratios of fluxes of frames whose stars have different shapes, and their errors: the truth."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro import find_alignment

SHAPE = (280, 300)
CLOUDS = 0.7
SEEDS = (3, 4)


def stars_like(kind, size):
    """Return where the light of a star goes, shape (N, 2), and the sigma of each part, px."""
    if kind == "trail":
        along = np.linspace(-size / 2, size / 2, 2 * size + 1)
        return np.column_stack((along, np.zeros_like(along))), 1.4
    lattice = np.stack(np.meshgrid(*[np.arange(-size, size + 0.1)] * 2), axis=-1).reshape(-1, 2)
    return lattice[np.hypot(*lattice.T) <= size], 1.4


def frame(rng, xy, flux, kind, size=0):
    """Return an image of stars, whose light is that of points, trails, discs or Moffat profiles."""
    y, x = (np.arange(n, dtype=float) for n in SHAPE)
    image = np.zeros(SHAPE)
    if kind == "moffat":
        alpha2 = 1.8**2
        for (x0, y0), light in zip(xy, flux, strict=True):
            rr = (x - x0) ** 2 + ((y - y0) ** 2)[:, None]
            image += light * 1.5 / (np.pi * alpha2) * (1 + rr / alpha2) ** -2.5
    else:
        places, sigma = stars_like(kind, size) if size else (np.zeros((1, 2)), 1.4)
        for dx, dy in places:
            columns = np.exp(-0.5 * ((x - xy[:, :1] - dx) / sigma) ** 2)
            rows = np.exp(-0.5 * ((y - xy[:, 1:] - dy) / sigma) ** 2)
            image += (rows.T * flux) @ columns / (2 * np.pi * sigma**2 * len(places))
    return (100 + image + rng.normal(0, np.sqrt(9 + image))).astype(np.float32)


def ratios(kind, size, *, swapped=False):
    """Return measured flux ratios over the true one, less 1, and their errors."""
    found = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        xy = rng.uniform(0, SHAPE[::-1], (45, 2))
        flux = 10 ** rng.uniform(3.2, 4.8, len(xy))
        plain = frame(rng, xy, flux, "points")
        other = frame(rng, xy + np.array([3.3, -1.7]), CLOUDS * flux, kind, size)
        pair, true = ((plain, other), 1 / CLOUDS) if swapped else ((other, plain), CLOUDS)
        ratio, error = find_alignment(*pair).flux_ratio
        found.append((ratio / true - 1, error / true))
    return np.array(found).T


@pytest.mark.parametrize(
    ("kind", "size", "most"),
    [("points", 0, 0.005), ("moffat", 0, 0.015), ("trail", 9, 0.012), ("disc", 4, 0.02)],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_errors_cover_the_shape_of_stars(kind, size, most, swapped):
    wrong, stated = ratios(kind, size, swapped=swapped)
    assert (stated < most).all()
    assert np.sqrt(np.mean((wrong / stated) ** 2)) < 1.6
    assert np.abs(wrong).max() < most


def test_large_discs_have_large_errors():
    wrong, stated = ratios("disc", 6)
    assert (stated > 0.005).all()
    assert np.sqrt(np.mean((wrong / stated) ** 2)) < 1.6
