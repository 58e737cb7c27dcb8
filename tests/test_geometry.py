"""Hulls of points: the corners that scipy finds, in its order."""

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from spalipy_astro import _geometry


@pytest.mark.parametrize("n", [3, 8, 60, 900])
@pytest.mark.parametrize("kind", ["field", "cloud", "lattice"])
def test_corners_of_a_hull(kind, n):
    rng = np.random.default_rng([n, len(kind)])
    points = rng.uniform(0, 900, (n, 2)) if kind == "field" else rng.normal(0, 50, (n, 2))
    if kind == "lattice":  # many on the sides of the hull, and some in one place
        points = np.concatenate((np.round(points / 40), [[-9, -9], [9, -9], [9, 9]]))
    corners = _geometry.hull(points)
    expected = points[ConvexHull(points).vertices]
    first = corners.tolist().index(expected[0].tolist())
    np.testing.assert_array_equal(np.roll(corners, -first, axis=0), expected)
