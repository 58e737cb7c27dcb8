"""Which frames of a night are bad."""

from __future__ import annotations

import astropy.units as u
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


def of_columns(**columns):
    """Return a table of frames that are all aligned."""
    number = len(next(iter(columns.values())))
    return QTable({"status": ["ok"] * number, **columns})


@pytest.mark.parametrize(
    "spelled",
    ["3 sigma", "3sigma", " 3.0 Sigma ", "3-sigma", "3 sigmas", "3σ", "3. sigma", "0.3e1 sigma"],
)
def test_spellings_of_sigma(spelled):
    table = of_columns(fwhm=[3.0, 3.1, 2.9, 3.05, 2.95, 6.0])
    assert list(rejected({"fwhm": spelled}, table)) == [5]


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        ("60%", [1, 5]),
        ("60 percent", [1, 5]),
        ("1.5 median", [5]),
        ("1.5 x median", [5]),
        ("1.5 times the median", [5]),
        (4, [5]),
        ("4", [5]),
        (np.float32(4), [5]),
        (np.int64(4), [5]),
        (np.array(4.0), [5]),
        (4 * u.pix, [5]),
    ],
)
def test_spellings_of_limits(rule, bad):
    table = of_columns(fwhm=[3.0, 3.1, 2.9, 3.05, 2.95, 6.0])
    assert list(rejected({"fwhm": rule}, table)) == bad


@pytest.mark.parametrize(
    "rule", [np.bool_(True), np.array([1.0, 2.0]), "4 px", "sigma", "3 sigma 4", 4 * u.s]
)
def test_what_is_no_limit(rule):
    with pytest.raises(ValueError, match="fwhm takes a number"):
        check_reject({"fwhm": rule})


def test_a_number_of_stars_or_a_share_of_them():
    table = of_columns(n_stars=[100, 110, 90, 30, 95, 105])
    assert list(rejected({"n_stars": 0.5}, table)) == [3]
    assert list(rejected({"n_stars": 93}, table)) == [2, 3]
    with pytest.raises(ValueError, match="flux_ratio takes a share"):
        check_reject({"flux_ratio": 40})


def test_frames_are_compared_with_those_of_their_exposure():
    """Ten times the exposure has ten times the light; the last frame of each is clouded."""
    long, short = [1.0, 0.98, 1.01, 0.97, 0.4], [0.1, 0.099, 0.101, 0.098, 0.04]
    table = of_columns(
        flux_ratio=[*long, *short],
        fwhm=[3.0] * 9 + [5.0],
        exptime=[60.0] * 5 + [6.0, 6.01, 6.0, 6.0, 6.0],
    )
    found = rejected({"flux_ratio": 0.6}, table)
    assert list(found) == [4, 9]
    assert "of the median of the frames of 6 s, 0.099" in found[9]
    assert list(rejected({"flux_ratio": "3 sigma"}, table)) == [4, 9]
    # seeing does not depend on it
    assert list(rejected({"fwhm": "3 sigma"}, table)) == [9]
    # where each frame has its own, all are compared
    table["exptime"] = np.arange(1.0, 11.0)
    assert list(rejected({"flux_ratio": 0.6}, table)) == [5, 6, 7, 8, 9]
    assert list(rejected({"fwhm": "1.2 median"}, table)) == [9]


def test_round_stars_are_no_outliers():
    table = of_columns(ellipticity=[0.01, 0.012, 0.011, 0.01, 0.03, 0.2])
    assert list(rejected({"ellipticity": "3 sigma"}, table)) == [5]


def test_limits_have_the_unit_of_their_column():
    table = of_columns(fwhm_arcsec=[1.0, 1.2, 3.0], exptime=[10.0, 60.0, 60.0])
    assert list(rejected({"fwhm_arcsec": 2000 * u.mas}, table)) == [2]
    assert list(rejected({"exptime": 0.5 * u.min}, table)) == [0]
