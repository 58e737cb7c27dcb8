"""Evidence of a growth, on lists so regular that it can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro.matching._growth import grow
from spalipy_astro.matching._starfield import StarField, log_ratios

ERROR = 0.1
FRAME = np.array([[-0.5, -0.5], [999.5, 999.5]])


@pytest.mark.parametrize(("corners", "paid"), [(4, 2), (5, 2), (8, 2), (12, 3), (16, 3)])
def test_the_stars_that_fix_the_parameters_earn_nothing(corners, paid):
    """All corners of a polygon are worth the same; they pay for a similarity, or an affine map."""
    angle = 0.3 + 2 * np.pi / corners * np.arange(corners)
    ring = 200 * np.column_stack((np.cos(angle), np.sin(angle)))
    source = StarField(500 + ring, np.full(corners, ERROR))
    # the template has as many stars further in: there is room for more than those predicted
    field = StarField(500 + np.vstack((ring, ring / 2)), np.full(2 * corners, ERROR))
    pairs = np.arange(3), np.arange(3)
    growth = grow(source, field, pairs, 1.0, FRAME)
    assert growth.freedom == pytest.approx(paid)
    np.testing.assert_array_equal(growth.source, growth.template)
    assert len(growth.source) == corners
    worth = log_ratios(0.0, field.density[:corners], np.hypot(growth.sigma, ERROR))
    np.testing.assert_allclose(worth, worth[0], rtol=1e-6)
    assert growth.evidence == pytest.approx((corners - paid) * worth[0], rel=1e-6)
