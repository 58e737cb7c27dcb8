"""Fixtures of the tests of files."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro import Alignment, find_alignment


@pytest.fixture(scope="module")
def alignment() -> Alignment:
    """A small alignment, of two lists of stars."""
    xy = np.random.default_rng(5).uniform((0, 0), (120, 80), (40, 2))
    return find_alignment(xy, xy + np.array([3.0, -2.0]), spline_order=0)
