"""Points on lines, told from those of random fields, clusters and lattices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from spalipy_astro._lines import on_lines

SIZE = np.array([1200, 900])


def chain(rng, number, *, jitter=0.1, pitch=None):
    """Points at equal distances on a line through the middle of the field."""
    angle = rng.uniform(0, np.pi)
    pitch = 600 / number if pitch is None else pitch
    t = (np.arange(number) - (number - 1) / 2) * pitch
    points = SIZE * rng.uniform(0.45, 0.55, 2) + t[:, None] * [np.cos(angle), np.sin(angle)]
    return points + rng.normal(0, jitter, points.shape)


def trail(rng, *, jitter=0.7, pitch=8):
    """Peaks along a trail from edge to edge."""
    angle = rng.uniform(0, np.pi)
    t = np.cumsum(rng.uniform(3, 2 * pitch - 3, 3000 // pitch)) - 1500
    points = SIZE * rng.uniform(0.1, 0.9, 2) + t[:, None] * [np.cos(angle), np.sin(angle)]
    points += rng.normal(0, jitter, points.shape)
    return points[np.all((points > 0) & (points < SIZE), axis=1)]


def cluster(rng, number):
    """Stars of a globular cluster, none closer to another than 3 px."""
    radius = 60 * np.sqrt(1 / rng.uniform(0.02, 1, number) - 1)
    angle = rng.uniform(0, 2 * np.pi, number)
    points = SIZE / 2 + radius[:, None] * np.column_stack((np.cos(angle), np.sin(angle)))
    pairs = cKDTree(points).query_pairs(3.0, output_type="ndarray")
    return np.delete(points, pairs[:, 1], axis=0)


@pytest.mark.parametrize(
    ("stars", "number", "jitter"),
    [(15, 7, 0.1), (30, 8, 0.1), (100, 12, 0.1), (100, 16, 0.5), (100, 16, 1.5), (300, 24, 0.5)],
)
def test_finds_dashes(stars, number, jitter):
    missed, lost = 0, 0
    for seed in range(12):
        rng = np.random.default_rng([seed, stars, number])
        points = np.concatenate(
            (rng.uniform(0, 1, (stars, 2)) * SIZE, chain(rng, number, jitter=jitter))
        )
        order = rng.permutation(len(points))
        label = np.empty(len(points), dtype=int)
        label[order] = on_lines(points[order])
        missed += np.sum(label[stars:] < 0)
        lost += np.sum(label[:stars] >= 0)
        assert label.max() <= 0
    assert missed <= 0.03 * 12 * number
    assert lost <= 0.02 * 12 * stars


@pytest.mark.parametrize("stars", [15, 300, 1200])
@pytest.mark.parametrize("trails", [1, 6])
def test_finds_trails(stars, trails):
    rng = np.random.default_rng([stars, trails])
    found = np.concatenate([trail(rng) for _ in range(trails)])
    field = rng.uniform(0, 1, (stars, 2)) * SIZE
    label = on_lines(np.concatenate((field, found)))
    assert np.mean(label[stars:] < 0) < 0.01
    assert np.mean(label[:stars] >= 0) < 0.07
    assert trails <= label.max() + 1 <= trails + 2


def test_finds_a_short_chain_in_a_rich_field():
    rng = np.random.default_rng(3)
    field = rng.uniform(0, 1, (400, 2)) * SIZE
    label = on_lines(np.concatenate((field, chain(rng, 14, pitch=6, jitter=0.4))))
    assert np.all(label[400:] == 0)
    assert np.sum(label[:400] >= 0) <= 1


@pytest.mark.parametrize("number", [5, 10, 30, 100, 300, 1000])
def test_a_random_field_has_no_lines(number):
    for seed in range(40 if number < 500 else 10):
        rng = np.random.default_rng([seed, number])
        assert np.all(on_lines(rng.uniform(0, 1, (number, 2)) * SIZE) < 0)


@pytest.mark.parametrize("number", [50, 300, 2000])
def test_a_cluster_has_no_lines(number):
    for seed in range(8):
        rng = np.random.default_rng([seed, number])
        points = np.concatenate((cluster(rng, number), rng.uniform(0, 1, (number // 4, 2)) * SIZE))
        assert np.all(on_lines(points) < 0)


@pytest.mark.parametrize("jitter", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("shape", ["square", "turned", "hexagonal", "cut out"])
def test_a_lattice_has_no_lines(shape, jitter):
    rng = np.random.default_rng(4)
    x, y = (g.ravel() for g in np.meshgrid(np.arange(20, 800, 40.0), np.arange(20, 640, 40.0)))
    if shape == "hexagonal":
        x, y = x + 20 * (y / 40 - 0.5) % 40, y * np.sqrt(0.75)
    points = np.column_stack((x, y)) + rng.normal(0, jitter, (len(x), 2))
    if shape == "turned":
        c, s = np.cos(0.3), np.sin(0.3)
        points = points @ np.array([[c, s], [-s, c]])
    if shape == "cut out":
        points = points[np.hypot(x - 400, y - 320) < 300]
    assert np.all(on_lines(points) < 0)


def test_columns_are_no_lattice():
    rng = np.random.default_rng(5)
    columns = [
        np.column_stack((x + rng.normal(0, 0.3, 90), rng.uniform(0, 900, 90)))
        for x in (100, 333, 340, 777, 1002)
    ]
    points = np.concatenate([*columns, rng.uniform(0, 1, (40, 2)) * SIZE])
    label = on_lines(points)
    assert np.mean(label[:450] < 0) < 0.01
    assert np.sum(label[450:] >= 0) <= 2


def test_does_not_depend_on_place_scale_or_bad_points():
    rng = np.random.default_rng(6)
    points = np.concatenate((rng.uniform(0, 1, (50, 2)) * SIZE, chain(rng, 10)))
    expected = on_lines(points) >= 0
    assert np.sum(expected) == pytest.approx(10, abs=1)
    far = points + np.array([-5000.0, 1e4])
    np.testing.assert_array_equal(on_lines(far) >= 0, expected)
    np.testing.assert_array_equal(on_lines(points * 7, tolerance=21) >= 0, expected)
    holed = np.insert(points, [3, 20], np.nan, axis=0)
    assert np.all(on_lines(holed)[np.isnan(holed[:, 0])] == -1)


@pytest.mark.parametrize("number", [0, 1, 4])
def test_few_points_are_on_no_line(number):
    points = np.arange(number)[:, None] * [3.0, 1.0]
    assert list(on_lines(points)) == [-1] * number


def test_points_in_one_place_are_on_no_line():
    assert np.all(on_lines(np.ones((20, 2))) == -1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"xy": np.zeros(4)}, r"xy must have the shape \(N, 2\), not \(4,\)"),
        ({"xy": np.zeros((4, 2)), "tolerance": 0}, "tolerance must be positive, not 0"),
        ({"xy": np.zeros((4, 2)), "false_alarm": 2}, "false_alarm must lie between 0 and 1, not 2"),
    ],
)
def test_complains_of_nonsense(arguments, message):
    with pytest.raises(ValueError, match=message):
        on_lines(**arguments)
