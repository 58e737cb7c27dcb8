"""Portable files are read by stock gwcs and asdf-astropy, and are as exact as they say."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import textwrap
from dataclasses import replace

import asdf
import astropy.units as u
import gwcs
import numpy as np
import pytest
from astropy.coordinates import ICRS
from astropy.io import fits
from astropy.modeling import models
from astropy.wcs import WCS
from gwcs.coordinate_frames import CelestialFrame, Frame2D

from spalipy_astro import Alignment, ExportError, FormatError, find_alignment
from spalipy_astro.models import SplineDistortion2D
from spalipy_astro.wcs import build_wcs, portable_wcs

SHAPES = (300, 400), (330, 420)
BOUNDS = ((-30.0, 450.0), (-30.0, 360.0))
AFFINE = models.AffineTransformation2D([[1.02, -0.03], [0.02, 0.99]], [4.0, -7.0])


def make_transform(amplitude=0.5):
    coeff = np.random.default_rng(4).uniform(-amplitude, amplitude, (2, 5, 6))
    return (SplineDistortion2D(*coeff, bounds=BOUNDS) | AFFINE).inverse


def make_fits(projection="TAN", **cards):
    header = fits.Header({"NAXIS": 2, "NAXIS1": 420, "NAXIS2": 330})
    header["CTYPE1"], header["CTYPE2"] = f"RA---{projection}", f"DEC--{projection}"
    header["CRVAL1"], header["CRVAL2"] = 0.002, -29.0
    header["CRPIX1"], header["CRPIX2"] = 170.1, 140.2
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -8e-5, 1e-6, 2e-6, 8e-5
    header.update(cards)
    return WCS(header)


def make_with_units():
    model = (
        (models.Shift(-150.0 * u.pix) & models.Shift(-160.0 * u.pix))
        | (models.Multiply(-1e-4 * u.deg / u.pix) & models.Multiply(1e-4 * u.deg / u.pix))
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(32.0 * u.deg, 45.0 * u.deg, 180.0 * u.deg)
    )
    sky = CelestialFrame(name="sky", reference_frame=ICRS(), unit=(u.deg, u.deg))
    return gwcs.WCS([(Frame2D(name="detector", unit=(u.pix, u.pix)), model), (sky, None)])


SKIES = {
    "none": lambda: None,
    "TAN": make_fits,
    "CAR": lambda: make_fits("CAR"),
    "SIP": lambda: make_fits("TAN-SIP", A_ORDER=2, A_2_0=3e-5, B_ORDER=2, B_1_1=-2e-5),
    "aligned itself": lambda: build_wcs(make_transform(0.3), make_fits())[0],
    "units": make_with_units,
}


def tags_in(wcs):
    """The tags by which a WCS is written."""
    stream = io.BytesIO()
    asdf.AsdfFile({"wcs": wcs}).write_to(stream)
    return set(re.findall(rb"!<?([\w.:/-]+)", stream.getvalue()))


@pytest.mark.parametrize("sky", SKIES)
def test_error_is_what_it_says(sky):
    transform, template_wcs = make_transform(), SKIES[sky]()
    truth, _ = build_wcs(transform, template_wcs)
    made = portable_wcs(
        transform, template_wcs, source_shape=SHAPES[0], template_shape=SHAPES[1], tolerance=0.02
    )
    assert made.error <= 0.02
    assert not [tag for tag in tags_in(made.wcs) if b"spalipy" in tag]
    assert any(b"tabular" in tag for tag in tags_in(made.wcs))
    assert made.wcs.available_frames[:2] == ["source_detector", "template_detector"]
    x, y = np.random.default_rng(6).uniform((-0.5, -0.5), (399.5, 299.5), (4000, 2)).T
    world, expected = (wcs.pixel_to_world_values(x, y) for wcs in (made.wcs, truth))
    if sky == "none":
        off = np.hypot(*np.subtract(world, expected))
    else:
        one, other = (wcs.pixel_to_world(x, y) for wcs in (made.wcs, truth))
        scale = 1e-4 if sky == "units" else 8e-5
        off = one.separation(other).deg / scale
    assert 0.2 * made.error < off.max() < 1.2 * made.error
    back = made.wcs.world_to_pixel_values(*expected)
    assert np.hypot(*np.subtract(back, (x, y))).max() < 1.2 * made.error


def test_tolerance_chooses_the_step():
    transform = make_transform()
    loose, tight = (
        portable_wcs(transform, None, source_shape=SHAPES[0], tolerance=tolerance)
        for tolerance in (0.1, 0.001)
    )
    assert loose.step > tight.step
    assert tight.error <= 0.001


def test_without_spline_nothing_is_tabulated():
    made = portable_wcs(AFFINE.inverse, make_fits(), source_shape=SHAPES[0])
    assert (made.error, made.step) == (0, np.inf)


def test_what_cannot_be_reached_is_refused():
    with pytest.raises(ExportError, match=r"off by .* px, which is more than tolerance=1e-09"):
        portable_wcs(make_transform(), None, source_shape=SHAPES[0], tolerance=1e-9)
    with pytest.raises(ExportError, match="folds over"):
        portable_wcs(make_transform(400), None, source_shape=SHAPES[0])
    with pytest.raises(ValueError, match="got 0"):
        portable_wcs(make_transform(), None, source_shape=SHAPES[0], tolerance=0)


@pytest.fixture(scope="module")
def alignment():
    rng = np.random.default_rng(1)
    xy = rng.uniform((-20, -20), (420, 320), (300, 2))
    found = find_alignment(xy, np.column_stack(make_transform()(*xy.T)))
    return replace(
        found, source_shape=SHAPES[0], template_shape=SHAPES[1], original_wcs=make_fits()
    )


WITHOUT_THE_PACKAGE = """
    import importlib.metadata, sys, warnings

    class Absent:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.partition(".")[0] == "spalipy_astro":
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Absent)

    def hide(module):
        whole = module.entry_points

        def entry_points(**wanted):
            found = whole(**wanted)
            if not wanted:  # all groups: asdf always names one
                return found
            return type(found)(p for p in found if not p.value.startswith("spalipy_astro"))

        module.entry_points = entry_points

    hide(importlib.metadata)
    try:
        import importlib_metadata  # what asdf takes on older Pythons
    except ModuleNotFoundError:
        pass
    else:
        hide(importlib_metadata)
    import asdf

    warnings.simplefilter("error", asdf.exceptions.AsdfWarning)
    with asdf.open(sys.argv[1]) as file:
        wcs, about = file["wcs"], file["portable"]
        assert file["alignment"]["matches"].colnames[:2] == ["x_source", "y_source"]
        assert file["alignment"]["summary"]["rms"] > 0
        sky = wcs.pixel_to_world(120.0, 85.5)
        print(repr((float(sky.ra.deg), float(sky.dec.deg), float(about["error"]))))
        x, y = wcs.world_to_pixel(sky)
        assert abs(x - 120.0) < 0.01 and abs(y - 85.5) < 0.01
    assert "spalipy_astro" not in sys.modules
"""


def test_file_is_read_without_the_package(alignment, tmp_path):
    path = tmp_path / "portable.asdf"
    alignment.write(path, portable=True, tolerance=0.005)
    done = subprocess.run(
        [sys.executable, "-Pc", textwrap.dedent(WITHOUT_THE_PACKAGE), str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lon, lat, error = eval(done.stdout)
    with asdf.open(path) as file:
        here = file["wcs"].pixel_to_world(120.0, 85.5)
        assert file["portable"]["tolerance"] == 0.005
    assert (lon, lat) == (here.ra.deg, here.dec.deg)
    assert error <= 0.005
    exact = alignment.pixel_to_sky(120.0, 85.5)
    assert exact.separation(here).deg < 1.2 * error * 8e-5


def test_it_is_not_taken_for_an_alignment(alignment, tmp_path):
    alignment.write(tmp_path / "portable.asdf", portable=True)
    with pytest.raises(FormatError, match=r"portable=True.*\['wcs'\]"):
        Alignment.read(tmp_path / "portable.asdf")


def test_a_refused_file_leaves_nothing(alignment, tmp_path):
    with pytest.raises(ExportError):
        alignment.write(tmp_path / "portable.asdf", portable=True, tolerance=1e-9)
    with pytest.raises(ValueError, match="was a catalog"):
        replace(alignment, source_shape=None).write(tmp_path / "portable.asdf", portable=True)
    assert not list(tmp_path.iterdir())
