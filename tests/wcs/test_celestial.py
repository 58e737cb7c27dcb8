"""Grids on the sky: how they are given, and their pixels on those of another WCS."""

from __future__ import annotations

import astropy.units as u
import gwcs
import numpy as np
import pytest
from astropy.coordinates import ICRS, SkyCoord
from astropy.modeling.models import Mapping, Multiply, Polynomial2D
from astropy.wcs import WCS
from gwcs.coordinate_frames import CelestialFrame, Frame2D

from spalipy_astro.wcs import celestial_grid, grid_to_grid, invertible, sky_transform


def tan(scale=1.0, crpix=(60.5, 50.5), kinds=("RA---TAN", "DEC--TAN"), crval=(150.0, 20.0)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = kinds
    wcs.wcs.cdelt = -scale / 3600, scale / 3600
    wcs.wcs.crpix = crpix
    wcs.wcs.crval = crval
    wcs.wcs.set()
    return wcs


def galactic(scale=0.7):
    there = SkyCoord(150, 20, unit="deg").galactic
    return tan(scale, kinds=("GLON-TAN", "GLAT-TAN"), crval=(there.l.deg, there.b.deg))


def pixels():
    return Frame2D(name="pixels", unit=(u.pix, u.pix))


def plain_gwcs():
    model, sky = sky_transform(tan(0.7))
    return gwcs.WCS([(pixels(), model), (sky, None)])


def latitude_first():
    model, _ = sky_transform(tan(0.7))
    sky = CelestialFrame(name="sky", reference_frame=ICRS(), axes_order=(1, 0), unit=(u.deg, u.deg))
    return gwcs.WCS([(pixels(), model | Mapping((1, 0))), (sky, None)])


def in_arcseconds():
    model, _ = sky_transform(tan(0.7))
    sky = CelestialFrame(name="sky", reference_frame=ICRS(), unit=(u.arcsec, u.arcsec))
    return gwcs.WCS([(pixels(), model | Multiply(3600.0) & Multiply(3600.0)), (sky, None)])


GRIDS = [tan(0.7), galactic(), plain_gwcs(), latitude_first(), in_arcseconds()]


@pytest.mark.parametrize("other", [tan(), plain_gwcs(), latitude_first(), in_arcseconds()])
@pytest.mark.parametrize("grid", GRIDS)
def test_same_sky(grid, other):
    onto = grid_to_grid(grid, (90, 110), other, (100, 120))
    x, y = np.array([0.0, 60.0, 100.0]), np.array([0.0, 50.0, 20.0])
    u, v = onto(x, y)
    there, here = grid.pixel_to_world(x, y), other.pixel_to_world(u, v)
    assert there.separation(here).arcsec.max() < 1e-6
    np.testing.assert_allclose(onto.inverse(u, v), (x, y), atol=1e-6)


def test_the_far_side_of_the_sky_has_no_pixel():
    grid = tan(3600.0, crpix=(180.5, 90.5), kinds=("RA---CAR", "DEC--CAR"), crval=(0.0, 0.0))
    onto = grid_to_grid(grid, (180, 360), tan(200.0), (100, 120))
    y, x = np.mgrid[:180, :360].astype(float)
    seen = np.isfinite(onto(x, y)[0])
    away = grid.pixel_to_world(x, y).separation(SkyCoord(150, 20, unit="deg")).deg
    assert seen[away < 80].all()
    assert not seen[away > 91].any()


def test_without_an_inverse_one_is_found():
    bent = Polynomial2D(2, c1_0=1, c2_0=1e-4) & Polynomial2D(2, c0_1=1, c0_2=-1e-4)
    map_ = invertible(Mapping((0, 1, 0, 1)) | bent, (100, 120))
    x, y = map_(70.0, 20.0)
    np.testing.assert_allclose(map_.inverse(x, y), (70.0, 20.0), atol=1e-6)


def test_ways_to_give_a_grid():
    wcs = tan()
    assert celestial_grid(wcs) == (wcs, None)
    assert celestial_grid((wcs, (30, 40)))[1] == (30, 40)
    header = wcs.to_header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, 40, 30
    found, shape = celestial_grid(header)
    assert shape == (30, 40)
    assert found.wcs.compare(wcs.wcs, tolerance=1e-12)


def test_cube_has_a_sky_in_two_of_its_axes():
    cube = WCS(naxis=3)
    cube.wcs.ctype = "FREQ", "DEC--TAN", "RA---TAN"
    cube.wcs.cdelt = 1e6, 2e-4, -2e-4
    cube.wcs.crval = 1e9, 20, 150
    cube.pixel_shape = 7, 30, 40
    found, shape = celestial_grid(cube)
    assert tuple(found.wcs.ctype) == ("DEC--TAN", "RA---TAN")
    assert shape == (40, 30)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (1, TypeError, "wcs is an astropy.wcs.WCS, .* got int"),
        ((tan(), 3, 4), TypeError, "3 things"),
        (WCS(naxis=2), ValueError, "two celestial axes"),
        (gwcs.WCS([(pixels(), Mapping((0, 1))), (Frame2D(name="b"), None)]), ValueError, "sky"),
    ],
)
def test_no_grid_on_the_sky(given, error, words):
    with pytest.raises(error, match=words):
        celestial_grid(given)
