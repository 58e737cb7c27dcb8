"""Evidence of a growth, on lists so regular that it can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro._growth import grow
from spalipy_astro._starfield import StarField, log_ratios

ERROR = 0.1
FRAME = np.array([[-0.5, -0.5], [999.5, 999.5]])


@pytest.mark.parametrize("corners", [4, 5, 6, 8])
def test_the_stars_that_fix_the_parameters_earn_nothing(corners):
    """All corners of a polygon are worth the same; an affine map takes three of them."""
    angle = 0.3 + 2 * np.pi / corners * np.arange(corners)
    xy = 500 + 200 * np.column_stack((np.cos(angle), np.sin(angle)))
    field = StarField(xy, np.full(corners, ERROR))
    pairs = np.arange(3), np.arange(3)
    growth = grow(field, field, pairs, 1.0, FRAME)
    assert growth.freedom == pytest.approx(3)
    np.testing.assert_array_equal(growth.source, growth.template)
    assert len(growth.source) == corners
    worth = log_ratios(0.0, field.density, np.hypot(growth.sigma, ERROR))
    np.testing.assert_allclose(worth, worth[0], rtol=1e-6)
    assert growth.evidence == pytest.approx((corners - 3) * worth[0], rel=1e-6)
