"""Where a moving target is."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from astropy.time import Time
from astropy.wcs import WCS

from spalipy_astro import AlignmentError
from spalipy_astro.batch._target import target_of
from spalipy_astro.io import mid_exposure

START = 60000.25


@pytest.mark.parametrize(
    ("cards", "mjd"),
    [
        ({"MJD-OBS": START, "EXPTIME": 60.0}, START + 30 / 86400),
        ({"MJD-OBS": START}, START),
        ({"DATE-OBS": Time(START, format="mjd").isot, "EXPOSURE": 20}, START + 10 / 86400),
        ({"DATE-OBS": "2023-02-25", "TIME-OBS": "06:00:00", "EXPTIME": 0}, START),
        ({"DATE-AVG": Time(START, format="mjd").isot, "EXPTIME": 600}, START),
        ({"MJD-AVG": START, "MJD-OBS": 1.0}, START),
        ({"JD": START + 2400000.5, "EXPTIME": 2.0}, START + 1 / 86400),
        ({"DATE-OBS": "2023-02-25", "UT": "6:00:00.0", "EXPTIME": "20"}, START + 10 / 86400),
        ({"DATE-OBS": "2023-02-25 06:00:00", "JD": 1.0}, START),
        ({"DATE-OBS": "2023-02-25T06:00:00Z", "MJD-AVG": 0.0}, START),
        ({"EXPSTART": START, "EXPTIME": 60.0, "DATE-OBS": "2000-01-01"}, START + 30 / 86400),
        ({"OBSMJD": str(START), "MJD-BEG": "unknown"}, START),
        ({"DATE-OBS": "30/11/98", "TIME-OBS": "12:00:00"}, 51147.5),
        ({"DATE-OBS": "2023-02-25"}, None),
        ({"DATE-OBS": "yesterday"}, None),
        ({}, None),
        ({"MJD-OBS": Time(START, format="mjd").tai.mjd, "TIMESYS": "TAI"}, START),
    ],
)
def test_middle_of_the_exposure(cards, mjd):
    found = mid_exposure(cards)
    assert found is None if mjd is None else found == pytest.approx(mjd, abs=1e-7)


def path(**columns):
    time = START + np.array([0.0, 0.1])
    return Table({"time": time, "x": [10.0, 30.0], "y": [5.0, -5.0], **columns})


@pytest.mark.parametrize(
    "time",
    [
        START + np.array([0.0, 0.1]),
        START + 2400000.5 + np.array([0.0, 0.1]),
        Time(START + np.array([0.0, 0.1]), format="mjd"),
        Time(START + np.array([0.0, 0.1]), format="mjd").isot,
    ],
)
def test_straight_line(time):
    table = QTable({"time": time, "x": [10.0, 30.0], "y": [5.0, -5.0]})
    target = target_of(table, None, {"MJD-OBS": START + 0.05})
    np.testing.assert_allclose(target.at(START + 0.025), [15.0, 2.5], atol=1e-4)
    assert target.shift({"MJD-OBS": START + 0.075}) == pytest.approx((-5.0, 2.5), abs=1e-3)


def test_curve():
    time = START + np.linspace(0, 0.4, 9)
    phase = 8 * (time - START)
    table = Table({"time": time[::-1], "x": 50 * np.sin(phase[::-1]), "y": phase[::-1] ** 2})
    target = target_of(table, None, None)
    middle = START + 0.21
    angle = 8 * (middle - START)
    np.testing.assert_allclose(target.at(middle), [50 * np.sin(angle), angle**2], atol=0.01)
    assert target.reference == time[0]


def test_on_the_sky(tmp_path):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cdelt = -1e-3, 1e-3
    wcs.wcs.crval = 150, 20
    sky = SkyCoord(wcs.pixel_to_world([10.0, 30.0], [5.0, -5.0]))
    time = START + np.array([0.0, 0.1])
    tables = [
        QTable({"time": time, "position": sky.galactic}),
        Table({"TIME": time, "RA": sky.ra.deg, "Dec": sky.dec.deg}),
    ]
    for table in tables:
        np.testing.assert_allclose(target_of(table, wcs, None).at(START + 0.05), [20, 0], atol=1e-2)
    tables[1].write(tmp_path / "comet.ecsv")
    target = target_of(tmp_path / "comet.ecsv", wcs, None)
    np.testing.assert_allclose(target.at(START + 0.05), [20, 0], atol=1e-2)
    with pytest.raises(ValueError, match="celestial WCS"):
        target_of(tables[0], None, None)


def test_other_nights_are_refused():
    target = target_of(path(), None, None)
    target.at(START - 0.009)
    with pytest.raises(AlignmentError, match="not among the times of the target"):
        target.at(START - 0.02)
    with pytest.raises(AlignmentError, match="does not tell when"):
        target.shift({})


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        (path()[:1], ValueError, "two rows"),
        (path(time=[START, START]), ValueError, "same time"),
        (path(x=[np.nan, 1]), ValueError, "not finite"),
        (Table({"x": [1, 2], "y": [1, 2]}), ValueError, "column 'time'"),
        (Table({"time": [1, 2]}), ValueError, "x and y"),
        (3, TypeError, "target is a table"),
    ],
)
def test_senseless_targets(table, error, words):
    with pytest.raises(error, match=words):
        target_of(table, None, None)
