"""Amplifiers and chips side by side in one image, each with its own level."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro.catalogs import UNUSABLE, StarFlag
from spalipy_astro.detection import find_stars
from spalipy_astro.detection._background import estimate_background
from spalipy_astro.detection._pixels import PixelSource
from spalipy_astro.detection._steps import without_steps

SHAPE = (360, 460)
NOISE = 10.0


def sky(seed=1, n=40):
    rng = np.random.default_rng(seed)
    xy = np.column_stack((rng.uniform(15, SHAPE[1] - 15, n), rng.uniform(15, SHAPE[0] - 15, n)))
    y, x = (np.arange(float(size)) for size in SHAPE)
    image = 1000 + 0.1 * x + rng.normal(0, NOISE, SHAPE)
    flux = 10 ** rng.uniform(3.7, 5, n) / (2 * np.pi * 1.69)
    across, down = (np.exp(-((t - xy[:, [k]]) ** 2) / 3.38) for k, t in enumerate((x, y)))
    return image + (flux[:, None] * down).T @ across, xy


def amplifiers(number, step, seed=2):
    """Levels of a grid of amplifiers."""
    levels = np.random.default_rng(seed).normal(0, step * NOISE, number)
    y, x = (np.arange(n) * k // n for n, k in zip(SHAPE, number, strict=True))
    return levels[np.ix_(y, x)]


def found(image, xy):
    table = find_stars(image)
    table = table[(table["flag"] & int(UNUSABLE)) == 0]
    away = np.hypot(table["x"][:, None] - xy[:, 0], table["y"][:, None] - xy[:, 1])
    return int(np.count_nonzero(away.min(axis=0) < 0.3)), len(table)


def level(image, **known):
    source = PixelSource(image, **known)
    return without_steps(source, estimate_background(source), np.inf)


@pytest.mark.parametrize(
    ("number", "step"), [((1, 2), 100), ((2, 2), 3), ((2, 8), 3), ((4, 8), 20)]
)
def test_stars_on_amplifiers_of_their_own_levels(number, step):
    image, xy = sky()
    seen, number_of_stars = found(image + amplifiers(number, step), xy)
    assert seen >= 38
    assert number_of_stars <= 43


def test_levels_are_those_of_the_amplifiers():
    image, _ = sky()
    steps = amplifiers((2, 4), 30)
    plain, background, saturation = level(image + steps)
    off = plain.data - image
    assert np.ptp(off) < 0.5 * NOISE  # up to the last pixel beside an edge
    assert np.abs(steps - off.mean()).min() < 0.5 * NOISE  # the level of one of them
    assert np.ptp(background.level) < 0.1 * SHAPE[1] + NOISE
    assert saturation == np.inf


def test_an_edge_that_ends_halfway():
    image, _ = sky()
    steps = np.zeros(SHAPE)
    steps[:120, 200:] = 40 * NOISE
    assert np.ptp(level(image + steps)[0].data - image) < 0.5 * NOISE


@pytest.mark.parametrize("gap", [np.nan, 0.0])
def test_chips_with_a_gap_between_them(gap):
    image, _ = sky()
    steps = amplifiers((1, 2), 30, seed=3)
    frame = image + steps
    frame[:, 220:250] = gap
    off = level(frame)[0].data - image
    off = np.delete(off, np.s_[220:250], axis=1)
    assert np.ptp(off) < 0.8 * NOISE  # with the slope of the sky across the gap


def test_saturated_stars_stay_saturated():
    image, _ = sky()
    y, x = np.indices(SHAPE)
    for place in ((102.5, 102.5), (402.5, 302.5)):
        image += 5e4 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / 3.38)
    frame = np.minimum(image + amplifiers((2, 2), 50), 30000)
    table = find_stars(frame)
    flagged = table[(table["flag"] & int(StarFlag.SATURATED)) != 0]
    away = np.hypot(flagged["x"][:, None] - [102.5, 402.5], flagged["y"][:, None] - [102.5, 302.5])
    assert (away.min(axis=0) < 2).all()


def test_errors_keep_their_pixels():
    image, _ = sky()
    error = np.full(SHAPE, NOISE)
    error[50:60, 50:60] = np.nan
    plain, *_ = level(image + amplifiers((2, 2), 20), error=error)
    assert plain.error is not None
    assert np.isnan(plain.rows(slice(50, 60))[:, 50:60]).all()


@pytest.mark.parametrize(
    "kind", ["plain", "gradient", "nebula", "crowd", "bleed", "trail", "stripes"]
)
def test_what_is_no_step_is_left_alone(kind):
    image, _ = sky(n=2000 if kind == "crowd" else 40)
    y, x = np.indices(SHAPE)
    if kind == "gradient":
        image += 3.0 * y
    if kind == "nebula":
        r = np.hypot(x - 200, y - 150)
        image += 2000 * np.exp(-(((r - 60) / 20) ** 2))
    if kind == "bleed":
        image[50:300, 200:206] += 5000
    if kind == "trail":
        image[150:158] += 300
    if kind == "stripes":
        image += np.random.default_rng(4).normal(0, 30, SHAPE[1])
    source = PixelSource(image)
    assert without_steps(source, estimate_background(source), np.inf)[0] is source
