"""Which frames of a night are bad."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import QTable

from spalipy_astro.batch._reject import check_reject, rejected


@pytest.fixture
def night():
    rng = np.random.default_rng(3)
    n = 20
    table = QTable()
    table["status"] = np.full(n, "ok", "U8")
    table["fwhm"] = 3 + 0.1 * rng.normal(size=n)
    table["n_stars"] = 200 + rng.integers(-10, 10, n)
    table["ellipticity"] = 0.1 + 0.01 * rng.normal(size=n)
    table["flux_ratio"] = np.ones(n)
    table["fwhm"][4] = 6.0
    table["fwhm"][5] = 1.0  # sharper than others is not bad
    table["n_stars"][7] = 80
    table["ellipticity"][9] = 0.5
    table["fwhm"][11] = 9.0
    table["status"][11] = "failed"
    table["fwhm"][12] = np.nan
    return table


@pytest.mark.parametrize(
    ("rules", "rows"),
    [
        ({"fwhm": "5 sigma"}, [4]),
        ({"fwhm": "1.5 median"}, [4]),
        ({"fwhm": 5}, [4]),
        ({"n_stars": 0.5}, [7]),
        ({"n_stars": "0.5 median"}, [7]),
        ({"n_stars": "6sigma"}, [7]),
        ({"ellipticity": 0.4}, [9]),
        ({"fwhm": "5 sigma", "n_stars": 0.5, "ellipticity": "0.4"}, [4, 7, 9]),
        (lambda table: np.asarray(table["ellipticity"]) > 0.4, [9]),
        (lambda table: np.ones(len(table), bool), [k for k in range(20) if k != 11]),
        ({}, []),
        (None, []),
    ],
)
def test_what_is_rejected(night, rules, rows):
    assert list(rejected(rules, night)) == rows


def test_the_best_are_kept(night):
    rows = list(rejected({"fwhm": "80 %"}, night))
    assert len(rows) == 4  # of the 18 that are aligned and have one
    worst = np.argsort(-np.nan_to_num(night["fwhm"]) * (night["status"] == "ok"))[:4]
    assert sorted(worst) == rows


def test_the_reason_names_the_figure(night):
    reason = rejected({"fwhm": "5 sigma", "n_stars": 0.5}, night)[4]
    assert reason.startswith("fwhm is 6, above the limit of 3.")
    assert "5 sigma from the median of the night" in reason


def test_a_steady_night_has_no_outliers(night):
    night["fwhm"] = 3 + 1e-4 * np.arange(20)
    assert rejected({"fwhm": "3 sigma"}, night) == {}


def test_two_frames_have_no_scatter(night):
    assert rejected({"fwhm": "3 sigma"}, night[4:6]) == {}


@pytest.mark.parametrize(
    ("rules", "error", "words"),
    [
        ("fwhm", TypeError, "reject is a mapping"),
        ({"seeing": 3}, ValueError, "no quality 'seeing'.*fwhm"),
        ({"fwhm": "three sigma"}, ValueError, "fwhm takes a number"),
        ({"fwhm": -3}, ValueError, "fwhm takes a number"),
        ({"fwhm": None}, ValueError, "fwhm takes a number"),
        ({"fwhm": True}, ValueError, "fwhm takes a number"),
        ({"fwhm": "120 %"}, ValueError, "0 to 100"),
    ],
)
def test_senseless_rules(rules, error, words):
    with pytest.raises(error, match=words):
        check_reject(rules)


def test_a_function_returns_one_answer_for_each_row(night):
    with pytest.raises(ValueError, match="True or False for each of 20 rows"):
        rejected(lambda table: True, night)
