"""Where a moving target is."""

from __future__ import annotations

from datetime import UTC

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from astropy.time import Time
from astropy.wcs import WCS

from spalipy_astro import AlignmentError, FormatError
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
        ({"DATE-OBS": "2023-02-25T06:00"}, START),
        ({"DATE-OBS": "2023-02-25", "UT": "6:00"}, START),
        # some write the day alone as MJD, and the time in another card
        ({"MJD-OBS": 60000, "DATE-OBS": "2023-02-25T06:00:00", "EXPTIME": 60}, START + 30 / 86400),
        ({"MJD-OBS": 60000.0, "JD": START + 2400000.5}, START),
        ({"MJD-OBS": 60000.0, "DATE-OBS": "2023-02-25T00:00:00"}, 60000.0),
        ({"MJD-OBS": 60000.0, "DATE-OBS": "2020-02-25T06:00:00"}, 60000.0),
        ({"MJD-OBS": 60000.0, "EXPTIME": 20}, 60000.0 + 10 / 86400),
        ({"DATE-OBS": "2023-02-25"}, None),
        ({"DATE-OBS": "yesterday"}, None),
        ({}, None),
        ({"MJD-OBS": Time(START, format="mjd").tai.mjd, "TIMESYS": "TAI"}, START),
        ({"MJD-OBS": Time(START, format="mjd").tt.mjd, "TIMESYS": "TT(BIPM08)"}, START),
        ({"MJD-OBS": Time(START, format="mjd").tt.mjd, "TIMESYS": "ET"}, START),
        ({"MJD-OBS": START, "TIMESYS": "UTC(NIST)"}, START),
        ({"MJD-OBS": START, "TIMESYS": "UT1"}, START),  # within a second, which no table need tell
        ({"DATE_OBS": "2023-02-25", "TIME_OBS": "06:00:00"}, START),
        ({"UTDATE": "2023-02-25", "UTTIME": "06:00:00.0"}, START),
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


TIMES = Time(START + np.array([0.0, 0.1]), format="mjd")
PLACES = {"x": [10.0, 30.0], "y": [5.0, -5.0]}


@pytest.mark.parametrize(
    "columns",
    [
        {"time": TIMES.datetime64},
        {"time": TIMES.datetime},
        {"time": TIMES.mjd * u.day},
        {"time": (TIMES.mjd * u.day).to(u.s)},
        {"time": TIMES.tdb},
        {"MJD": TIMES.mjd},
        {"datetime_jd": TIMES.jd},
        {"Date": TIMES.isot},
    ],
    ids=lambda columns: f"{next(iter(columns))} {type(next(iter(columns.values()))).__name__}",
)
def test_times_of_all_kinds(columns):
    found = target_of(QTable({**columns, **PLACES}), None, None)
    np.testing.assert_allclose(found.time, TIMES.mjd, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "time",
    [
        ["2023-02-25T06:00:00+00:00", "2023-02-25T10:24:00+02:00"],
        [moment.replace(tzinfo=UTC) for moment in TIMES.datetime],
    ],
)
def test_zones_of_time(time):
    found = target_of({"time": time, **PLACES}, None, None)
    np.testing.assert_allclose(found.time, TIMES.mjd, rtol=0, atol=1e-6)


def test_data_frames_and_mappings_are_tables():
    pandas = pytest.importorskip("pandas")
    columns = {"time": TIMES.isot, **PLACES}
    frame = pandas.DataFrame(columns)
    moments = frame.assign(time=pandas.to_datetime(frame["time"]).dt.tz_localize("UTC"))
    for table in (columns, frame, moments):
        target = target_of(table, None, None)
        np.testing.assert_allclose(target.at(START + 0.025), [15.0, 2.5], atol=1e-4)
    with pytest.raises(ValueError, match=r"^target is a table, of columns of one length"):
        target_of({"time": TIMES.mjd, "x": [1.0], "y": [2.0, 3.0]}, None, None)
    with pytest.raises(TypeError, match=r"^target is a table with the columns.*got dict"):
        target_of({}, None, None)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"time": TIMES.jyear, **PLACES}, "numbers from 2023.15.*format='jyear'"),
        ({"time": TIMES.unix, **PLACES}, "numbers from 16773"),
        ({"time": TIMES.mjd * u.m, **PLACES}, "time is MJD or JD, in days"),
        ({"time": TIMES.mjd, "x": [1, 2] * u.arcsec, "y": [1, 2] * u.pix}, "x and y are in px"),
        ({"time": TIMES.mjd, "ra": [1, 2] * u.pix, "dec": [1, 2] * u.deg}, "ra and dec are angles"),
    ],
)
def test_units_that_are_none_of_these(columns, words):
    with pytest.raises(ValueError, match=words):
        target_of(QTable(columns), None, None)


def test_positions_that_are_missing():
    x = np.ma.array([1.0, 2.0], mask=[False, True])
    with pytest.raises(ValueError, match="a position is not finite"):
        target_of(Table({"time": TIMES.mjd, "x": x, "y": [1.0, 2.0]}), None, None)


def test_ways_to_write_positions_on_the_sky():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cdelt = -1e-3, 1e-3
    wcs.wcs.crval = 150, 20
    sky = SkyCoord(wcs.pixel_to_world([10.0, 30.0], [5.0, -5.0]), obstime=TIMES)
    texts = {name: getattr(sky, name) for name in ("ra", "dec")}
    ways = [
        sky,
        QTable({"time": TIMES, "ra": sky.ra.to(u.hourangle), "dec": sky.dec}),
        Table(
            {
                "time": TIMES.isot,
                "RA": texts["ra"].to_string(u.hourangle, sep=":", precision=6),
                "DEC": texts["dec"].to_string(u.deg, sep=":", precision=6),
            }
        ),
    ]
    for way in ways:
        found = target_of(way, wcs, None)
        np.testing.assert_allclose(found.xy, np.transpose([PLACES["x"], PLACES["y"]]), atol=1e-4)
        np.testing.assert_allclose(found.time, TIMES.mjd, atol=1e-8)


def test_file_that_is_no_text_is_no_target(tmp_path):
    binary = tmp_path / "target.csv"
    binary.write_bytes(bytes(range(128, 256)))
    with pytest.raises(FormatError, match=r"^target: .* is no table"):
        target_of(binary, None, None)


def test_time_without_seconds_is_not_midnight():
    assert mid_exposure({"DATE-OBS": "2023-02-25T06:00"}, to_the_day=True) == pytest.approx(START)
