"""Options of users: what is taken, and what the errors say."""

from __future__ import annotations

import re

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle

from spalipy_astro._options import positive_number, rotation_range, scale_range
from spalipy_astro.matching import Priors


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
        ((7, 7), "such as (2, 12); got (7, 7), in which no angle lies."),
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
        ((1, 1), "such as (0.99, 1.01); got (1, 1), in which no scale lies."),
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
