"""Codes of star patterns and their index."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro.matching import pattern_codes
from spalipy_astro.matching._quads import PatternIndex, StarLevels, find_patterns


def similarity(xy, *, rotation, scale, mirrored):
    z = xy @ (1, 1j)
    z = scale * np.exp(1j * np.deg2rad(rotation)) * (z.conj() if mirrored else z) + (40 - 7j)
    return np.column_stack((z.real, z.imag))


@pytest.fixture
def stars():
    return np.random.default_rng(5).uniform(0, 1, (60, 2)) * [500, 300]


@pytest.mark.parametrize("k", [3, 4])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("rotation", "scale"), [(0, 1), (37, 0.2), (90, 5), (180, 1.7)])
def test_codes_survive_similarities(stars, k, mirrored, rotation, scale):
    patterns = np.random.default_rng(6).permuted(np.tile(np.arange(60), (200, 1)), axis=1)[:, :k]
    ordered, codes, size = pattern_codes(stars, patterns)
    image = similarity(stars, rotation=rotation, scale=scale, mirrored=mirrored)
    ordered2, codes2, size2 = pattern_codes(image, patterns)
    if mirrored:
        codes2[:, 1::2] *= -1
    np.testing.assert_array_equal(ordered2, ordered)
    np.testing.assert_allclose(codes2, codes, atol=1e-9)
    np.testing.assert_allclose(size2, scale * size)


def test_codes_do_not_depend_on_the_order_of_stars(stars):
    patterns = np.array([[3, 17, 40, 8]])
    _, codes, _ = pattern_codes(stars, patterns)
    for order in ([1, 0, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]):
        np.testing.assert_allclose(pattern_codes(stars, patterns[:, order])[1], codes, atol=1e-12)


def test_degenerate_patterns_have_finite_codes():
    # Stars on one line along an axis, and two on one spot.
    xy = np.array([[0.0, 5.0], [10.0, 5.0], [4.0, 5.0], [4.0, 5.0], [7.0, 5.0]])
    _, codes, size = pattern_codes(xy, np.array([[0, 1, 2, 3], [0, 1, 2, 4], [2, 3, 2, 3]]))
    assert np.isfinite(codes).all()
    np.testing.assert_allclose(codes[:2, 1::2], 0)
    assert size[2] == 0


def test_few_stars_give_all_patterns(stars):
    found = find_patterns(StarLevels(stars[:7]), k=4, neighbors=11)
    assert len(found.stars) == 35
    assert len(np.unique(np.sort(found.stars, axis=1), axis=0)) == 35


def test_patterns_are_unique_and_of_their_level(stars):
    levels = StarLevels(stars)
    found = find_patterns(levels, k=4, neighbors=5)
    assert len(np.unique(np.sort(found.stars, axis=1), axis=0)) == len(found.stars)
    sizes = np.array(levels.sizes)
    assert np.all(found.stars.max(axis=1) < sizes[found.level])
    assert levels.sizes[-1] == 60


def test_index_finds_the_patterns_of_a_transformed_list(stars):
    index = PatternIndex(find_patterns(StarLevels(stars), k=4, neighbors=5))
    image = similarity(stars, rotation=63, scale=2.2, mirrored=False)
    image += np.random.default_rng(7).normal(0, 0.05, image.shape)
    query = find_patterns(StarLevels(image), k=4, neighbors=5)
    i, j, distance = index.query(query.codes, 0.01)
    same = (query.stars[i] == index.patterns.stars[j]).all(axis=1)
    # Nearly every pattern comes back; what else falls inside the radius is a small share.
    assert len(np.unique(i[same])) > 0.95 * len(query.stars)
    assert np.count_nonzero(~same) < 0.05 * np.count_nonzero(same)
    assert np.all(distance <= 0.01)


def test_index_of_nothing():
    empty = find_patterns(StarLevels(np.zeros((1, 2))), k=4, neighbors=5)
    assert len(PatternIndex(empty).query(np.zeros((3, 4)), 0.1)[0]) == 0
