"""Points near others: as by all distances, on points that are spread, crowded or in rows."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro._neighbors import Neighbors, neighbor_lists, neighbor_pairs


def points_of(kind, n):
    rng = np.random.default_rng([n, len(kind)])
    xy = rng.uniform(0, 900, (n, 2))
    if kind == "crowded":  # most in one place, and one far from all
        xy[: n // 2] = rng.normal(300, 0.5, (n // 2, 2))
        xy[-1:] = -1e7
    if kind == "lattice":  # many are as far from each other, or in one place
        xy = np.round(xy / 90) * 90
    if kind == "upright":
        xy[:, 0] = 5.0
    if kind == "flat":
        xy[:, 1] = 5.0
    return xy


@pytest.fixture(params=["spread", "crowded", "lattice", "upright", "flat"])
def points(request):
    return points_of(request.param, 211)


@pytest.fixture
def places(points):
    """Their own, others, and some far outside."""
    return np.concatenate((points, np.random.default_rng(2).uniform(-400, 1300, (60, 2))))


def squares_of(places, points):
    return np.sum(np.square(places[:, np.newaxis] - points), axis=2)


@pytest.mark.parametrize("k", [1, 3, 10, 300])
def test_nearest(points, places, k):
    squares = squares_of(places, points)
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]  # of those as near, the first ones
    distance, number = Neighbors(points).nearest(places, k)
    found = min(k, len(points))
    np.testing.assert_array_equal(number[:, :found], order)
    np.testing.assert_array_equal(
        distance[:, :found], np.sqrt(np.take_along_axis(squares, order, axis=1))
    )
    assert (number[:, found:] == len(points)).all()
    assert np.isinf(distance[:, found:]).all()


def test_the_nearest_one_has_no_axis(points, places):
    neighbors = Neighbors(points)
    for one, three in zip(neighbors.nearest(places), neighbors.nearest(places, 3), strict=True):
        np.testing.assert_array_equal(one, three[:, 0])
    grid = places[:60].reshape(5, 12, 2)
    assert [part.shape for part in neighbors.nearest(grid, 2)] == [(5, 12, 2)] * 2
    assert [part.shape for part in neighbors.nearest(grid)] == [(5, 12)] * 2


def test_within_reach(points, places):
    reach = np.random.default_rng(3).choice([0.0, 30.0, 90.0, 400.0], len(places))
    near = squares_of(places, points) <= np.square(reach)[:, np.newaxis]
    place, number = np.nonzero(near)
    pointer, found = Neighbors(points).within(places, reach)
    np.testing.assert_array_equal(np.repeat(np.arange(len(places)), np.diff(pointer)), place)
    np.testing.assert_array_equal(found, number)
    np.testing.assert_array_equal(Neighbors(points).count(places, reach), near.sum(axis=1))


@pytest.mark.parametrize("reach", [0.0, 30.0, 90.0, 2000.0])
def test_pairs(points, reach):
    near = squares_of(points, points) <= reach**2
    found = np.column_stack(neighbor_pairs(points, reach))
    np.testing.assert_array_equal(found, np.argwhere(np.triu(near, 1)))
    np.fill_diagonal(near, False)
    pointer, number = neighbor_lists(points, reach)
    np.testing.assert_array_equal(np.diff(pointer), near.sum(axis=1))
    np.testing.assert_array_equal(number, np.nonzero(near)[1])


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_points(n):
    points = points_of("spread", n)
    neighbors = Neighbors(points)
    distance, number = neighbors.nearest([[1e9, 1e9]], 2)
    assert sorted(number[0]) == sorted([0, 1][:n] + [n] * (2 - n))
    assert np.isfinite(distance).sum() == n
    assert neighbors.count([[0.0, 0.0]], 1e9).tolist() == [n]
    assert len(neighbor_pairs(points, 1e9)[0]) == (n == 2)
    assert neighbors.nearest(np.empty((0, 2)))[0].shape == (0,)
    assert neighbors.within(np.empty((0, 2)), 3.0)[0].tolist() == [0]


def test_what_cannot_be_searched():
    with pytest.raises(ValueError, match=r"xy must have the shape \(N, 2\), got \(5, 3\)"):
        Neighbors(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="xy must be finite"):
        Neighbors([[0.0, np.nan]])
    with pytest.raises(ValueError, match="places must be finite"):
        Neighbors(np.zeros((5, 2))).nearest([[0.0, np.inf]])
