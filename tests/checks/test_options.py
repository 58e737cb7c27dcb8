"""Options of users: what is taken, and what the errors say."""

from __future__ import annotations

import re

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.nddata import CCDData
from astropy.time import Time

from spalipy_astro._checks import (
    check_names,
    choice,
    detection_options,
    in_data_units,
    positive_number,
    rotation_range,
    scale_range,
    whole_number,
)
from spalipy_astro.matching import Priors
from spalipy_astro.registration import FindOptions

KADU = u.def_unit("kadu", 1000 * u.adu)


@pytest.mark.parametrize(
    ("value", "degrees"),
    [
        ((-10, 10), (-10, 10)),
        ([170, 190], (170, 190)),
        (np.array([-190.0, -170.0]), (-190, -170)),
        ((0, 720), (0, 720)),
        ((-10 * u.deg, 10 * u.deg), (-10, 10)),
        ((-10, 600 * u.arcmin), (-10, 10)),
        ([-0.5, 0.5] * u.rad, (-28.64788975654116, 28.64788975654116)),
        ((Angle("-2d"), Angle("1d30m")), (-2, 1.5)),
        (Angle([1, 2], "hourangle"), (15, 30)),
        ((np.float32(1.5), np.array(2)), (1.5, 2)),
    ],
)
def test_rotations(value, degrees):
    found = rotation_range(value)
    assert found == pytest.approx(degrees, rel=1e-14)
    assert [type(number) for number in found] == [float, float]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (30, "such as (25, 35); got 30."),
        (np.float64(30), "such as (25, 35); got "),
        (-2.5, "such as (-7.5, 2.5); got -2.5."),
        (30 * u.deg, "such as (25, 35); got <Quantity 30. deg>."),
        (Angle("0d30m"), "such as (-4.5, 5.5); got "),
        (np.nan, "such as (-5, 5); got nan."),
        ("30", "such as (-5, 5); got '30'."),
        (("-5", "5"), "such as (-5, 5); got ('-5', '5')."),
        ((5,), "such as (-5, 5); got (5,)."),
        ((1, 2, 3), "such as (-5, 5); got (1, 2, 3)."),
        (np.ones((2, 2)), "such as (-5, 5); got "),
        ([[1, 2], 3], "such as (-5, 5); got "),
        ((None, 5), "such as (-5, 5); got (None, 5)."),
        ((False, True), "such as (-5, 5); got (False, True)."),
        ((np.nan, 5), "such as (-5, 5); got (nan, 5)."),
        ((-np.inf, np.inf), "such as (-5, 5); got (-inf, inf)."),
        ((1 * u.pix, 2 * u.pix), "such as (-5, 5); got "),
        ((1, 2) * u.one, "such as (-5, 5); got "),
        ((7, 7), "such as (2, 12); got (7, 7), which contains no angle."),
        ((5, -5), "got (5, -5), the larger first. Write (-5, 5), or (5, 355) if the rest"),
        ((350, 10), "got (350, 10), the larger first. Write (350, 370), or (10, 350) if the"),
        ((170, -170), "Write (170, 190), or (-170, 170) if the rest"),
        (([5, -5] * u.deg), "Write (-5, 5), or (5, 355) if the rest"),
    ],
)
def test_rotations_that_make_no_sense(value, words):
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        rotation_range(value)
    assert str(caught.value).startswith("rotation is (smallest, largest) in degrees")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((0.5, 2), (0.5, 2)),
        ([0.9, 1.1] * u.one, (0.9, 1.1)),
        ((90 * u.percent, 1.1), (0.9, 1.1)),
        ((0.9 * u.pix / u.pix, 1.1 * u.one), (0.9, 1.1)),
    ],
)
def test_scales(value, plain):
    assert scale_range(value) == pytest.approx(plain, rel=1e-14)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1, "such as (0.9, 1.1); got 1."),
        (2.0, "such as (1.8, 2.2); got 2.0."),
        (2 * u.one, "such as (1.8, 2.2); got <Quantity 2.>."),
        (0, "such as (0.9, 1.1); got 0."),
        (-3, "such as (0.9, 1.1); got -3."),
        ("12", "such as (0.9, 1.1); got '12'."),
        ({1, 2}, "such as (0.9, 1.1); got {1, 2}."),
        ((0, 2), "such as (0.9, 1.1); got (0, 2)."),
        ((-1, 1), "such as (0.9, 1.1); got (-1, 1)."),
        ((0.5, np.inf), "such as (0.9, 1.1); got (0.5, inf)."),
        ((np.nan, 1), "such as (0.9, 1.1); got (nan, 1)."),
        (([0.5, 2] * u.arcsec), "such as (0.9, 1.1); got <Quantity [0.5, 2. ] arcsec>."),
        ((1, 1), "such as (0.99, 1.01); got (1, 1), which contains no scale."),
        ((2, 0.5), "got (2, 0.5), the larger first. Write (0.5, 2)."),
    ],
)
def test_scales_that_make_no_sense(value, words):
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        scale_range(value)
    assert str(caught.value).startswith("scale is (smallest, largest), both positive")


def test_positive_numbers():
    found = [positive_number("size", v, "a size in px", u.pix) for v in (2, 2.5 * u.pix)]
    assert found == [2.0, 2.5]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1.0, ValueError),
        (np.nan, ValueError),
        (np.inf, ValueError),
        (-1 * u.pix, ValueError),
        (1 * u.arcsec, ValueError),
        ([1, 2] * u.pix, ValueError),
        ("far", TypeError),
        ((2, 3), TypeError),
        (True, TypeError),
        (np.ma.masked, TypeError),
        (None, TypeError),
    ],
)
def test_no_positive_numbers(value, error):
    with pytest.raises(error, match=re.escape(f"size is a size in px; got {value!r}.")):
        positive_number("size", value, "a size in px", u.pix)


def test_priors_hold_plain_numbers():
    priors = Priors([0.5, 2] * u.one, Angle(["-10d", "10d"]), -1, 0.1 * u.kpix)
    assert priors == Priors((0.5, 2.0), (-10.0, 10.0), -1, 100.0)
    assert Priors().rotation is None
    for option, value in (("scale", 1), ("rotation", 0), ("parity", 2), ("max_shift", "far")):
        with pytest.raises((TypeError, ValueError), match=f"^{option} is "):
            Priors(**{option: value})


@pytest.mark.parametrize("value", [3, 3.0, np.int16(3), np.array(3), 3 * u.one])
def test_whole_numbers(value):
    found = whole_number("degree", value, "0 to 5", least=0, most=5)
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize("value", [-1, 6, 2.5, np.nan, np.inf, "3", None, True, [3], 3 * u.pix])
def test_no_whole_numbers(value):
    with pytest.raises((TypeError, ValueError), match=r"^degree is 0 to 5; got"):
        whole_number("degree", value, "0 to 5", least=0, most=5)


def test_choices():
    assert choice("parity", np.int8(-1), (None, 1, -1), "1, -1 or None") == -1
    assert type(choice("parity", -1.0, (None, 1, -1), "1, -1 or None")) is int
    for value in (2, "1", [1], np.array([1, -1]), np.nan):
        with pytest.raises(ValueError, match=r"^parity is 1, -1 or None; got"):
            choice("parity", value, (None, 1, -1), "1, -1 or None")


def test_names_of_options():
    check_names("align()", ["scale"], ["scale", "rotation"])
    with pytest.raises(
        TypeError, match=r"^align\(\) has no option 'rotatoin'; did you mean rotation"
    ):
        check_names("align()", ["scale", "rotatoin"], ["scale", "rotation"])
    with pytest.raises(TypeError, match="no option 'xyz'; it has rotation, scale"):
        check_names("align()", ["xyz"], ["scale", "rotation"])


def test_units_of_data():
    options = detection_options(gain=1500 * u.electron / KADU, saturation=60 * KADU)
    image = CCDData(np.zeros((3, 4)), unit="adu")
    plain = {"threshold": 5.0, "fwhm": None, "gain": 1.5, "saturation": 60000.0}
    plain["finder"] = "auto"
    assert in_data_units(options, image) == pytest.approx(plain)
    assert in_data_units(detection_options(gain=1.5, saturation=60000), image) == plain
    without = np.zeros((3, 4))
    assert in_data_units(detection_options(gain=1.5, saturation=60000), without) == plain
    with pytest.raises(
        ValueError, match=r"^gain .* the source a plain number, as its data have no"
    ):
        in_data_units(options, without, name="source")
    image = CCDData(np.zeros((3, 4)), unit="electron")
    with pytest.raises(ValueError, match=r"^saturation .* for the image in electron; got .* kadu"):
        in_data_units(detection_options(saturation=60 * KADU), image)


OPTIONS = {
    "threshold": (5 * u.one, 5.0),
    "fwhm": (2.5 * u.pix, 2.5),
    "select": ({"min_sep": 3 * u.pix}, None),
    "max_shift": (300 * u.pix, 300.0),
    "smoothing": (2 * u.one, 2.0),
    "radius": (30 * u.arcmin, 0.5),
    "pixel_scale": (0.9 * u.arcsec / u.pix, 0.9),
    "epoch": (Time(2016.5, format="jyear"), 2016.5),
    "spline_order": (3.0, 3),
    "polynomial": (np.int64(2), 2),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_become_plain(option):
    given, plain = OPTIONS[option]
    found = getattr(FindOptions(**{option: given}), option)
    if option == "select":
        plain = {"bad_flags": 0, "min_fwhm": None, "min_sep": 3.0, "brightest": None}
    assert found == (pytest.approx(plain) if isinstance(plain, float) else plain)
    assert type(found) is type(plain)


@pytest.mark.parametrize(
    "unlike",
    [{"threshold": v} for v in ("5", 0, -3, np.nan, np.inf, None, (5,), True, 5 * u.adu)]
    + [{"fwhm": v} for v in ((2, 3), 0.1, 200, "3", 2 * u.arcsec, [2, 3] * u.pix, -3 * u.pix)]
    + [{"gain": v} for v in (0, -1, "1.5", np.nan, (1, 2), -1 * u.electron / u.adu)]
    + [{"saturation": v} for v in ("full", np.nan, (1, 2), [1, 2] * u.adu)]
    + [{"select": v} for v in (5, "bright", {"min_fhwm": 2}, {"brightest": 1.5}, {"min_sep": "3"})]
    + [{"select": {k: v}} for k in ("bad_flags", "min_fwhm", "brightest") for v in (-1, "x", [1])]
    + [{"parity": v} for v in (0, "1", [1, -1])]
    + [{"max_shift": v} for v in ("far", 0, -1, np.nan, np.inf, 3 * u.arcsec, (3, 4))]
    + [{"use_wcs": v} for v in ("never", None, 2, [True])]
    + [{"affine": v} for v in ("shear", None, ["affine"])]
    + [{"spline_order": v} for v in (-1, 6, 2.5, "3", None, [3])]
    + [{"smoothing": v} for v in (0, -1, "auto", np.nan, np.inf, 2 * u.pix)]
    + [{"polynomial": v} for v in (0, 7, 1.5, "3", [2])]
    + [{"position": v} for v in ((150, 20), "M31", SkyCoord([1, 2], [3, 4], unit="deg"))]
    + [{"radius": v} for v in (0, -1, "wide", 5 * u.pix, np.nan, [1, 2] * u.deg)]
    + [{"pixel_scale": v} for v in (0, "1 arcsec", 1 * u.pix, 2 * u.pix / u.arcsec, (1, 1))]
    + [{"epoch": v} for v in ("2016.5", np.nan, Time([2015, 2016], format="jyear"), 3 * u.m)],
    ids=repr,
)
def test_what_makes_no_sense_is_named(unlike):
    option = next(iter(unlike))
    with pytest.raises((TypeError, ValueError), match=f"^{option}[: ]"):
        FindOptions(**unlike)
