"""Medians of few numbers, against those of numpy."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro.detection._medians import median, medians_of_rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (4, 6), (3, 5, 7)])
def test_median_is_that_of_numpy(shape, dtype):
    values = np.random.default_rng(len(shape)).normal(size=shape).astype(dtype)
    before = values.copy()
    assert median(values) == np.median(values)
    assert median(values[::-1]) == np.median(values)
    np.testing.assert_array_equal(values, before)


def test_median_of_nothing_and_of_nan_is_nan():
    assert np.isnan(median(np.zeros(0)))
    assert np.isnan(median(np.array([1.0, np.nan, 2.0])))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 6, 9])
def test_medians_of_rows_leave_nan_out(columns, dtype):
    rng = np.random.default_rng(columns)
    values = rng.normal(size=(40, columns)).astype(dtype)
    values[rng.random(values.shape) < 0.3] = np.nan
    values[0] = 3.0
    values[1] = np.nan
    expected = np.full(len(values), np.nan)
    known = np.isfinite(values).any(axis=1)
    expected[known] = np.nanmedian(values[known], axis=1)
    found = medians_of_rows(values)
    assert found.dtype == np.float64
    assert np.isnan(found[1])
    np.testing.assert_array_equal(found, expected)


def test_medians_of_rows_without_columns_are_nan():
    np.testing.assert_array_equal(medians_of_rows(np.zeros((2, 0))), [np.nan, np.nan])
