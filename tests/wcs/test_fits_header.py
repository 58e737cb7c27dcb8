"""Headers are read back by astropy.wcs, and by SWarp where there is one, and tell the truth."""

from __future__ import annotations

import shutil
import subprocess

import astropy.units as u
import gwcs
import numpy as np
import pytest
from astropy.coordinates import FK5, Galactic, SkyCoord
from astropy.io import fits
from astropy.modeling import models
from astropy.wcs import WCS
from gwcs.coordinate_frames import CelestialFrame, Frame2D
from numpy.testing import assert_allclose

from spalipy_astro.errors import ExportError
from spalipy_astro.models import SplineDistortion2D
from spalipy_astro.wcs import build_wcs, to_fits_header

SHAPE = (300, 400)  # of the source
SCALE = 8e-5
AFFINE = models.AffineTransformation2D([[1.02, -0.03], [0.02, 0.99]], [4.0, -7.0])


def make_template(projection="TAN", *, lon="RA---", lat="DEC--", swap=False, **cards):
    i, j = (2, 1) if swap else (1, 2)
    header = fits.Header({"NAXIS": 2, "NAXIS1": 420, "NAXIS2": 330})
    header[f"CTYPE{i}"], header[f"CTYPE{j}"] = lon + projection, lat + projection
    header[f"CRVAL{i}"], header[f"CRVAL{j}"] = 266.4, -29.0
    header["CRPIX1"], header["CRPIX2"] = 170.1, 140.2
    header[f"CD{i}_1"], header[f"CD{i}_2"] = -SCALE, 1e-6
    header[f"CD{j}_1"], header[f"CD{j}_2"] = 2e-6, SCALE
    header.update(cards)
    return WCS(header)


def make_gwcs(frame):
    model = (
        (models.Shift(-200.0) & models.Shift(-150.0))
        | (models.Scale(-SCALE) & models.Scale(SCALE))
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(32.0, 45.0, 180.0)
    )
    sky = CelestialFrame(name="sky", reference_frame=frame, unit=(u.deg, u.deg))
    return gwcs.WCS([(Frame2D(name="detector"), model), (sky, None)])


TEMPLATES = {
    "TAN": make_template,
    "SIP": lambda: make_template("TAN-SIP", A_ORDER=2, A_2_0=3e-5, B_ORDER=2, B_1_1=-2e-5),
    "swapped": lambda: make_template("SIN", swap=True),
    "galactic": lambda: make_template(lon="GLON-", lat="GLAT-"),
    "FK5": lambda: make_template("ZEA", RADESYS="FK5", EQUINOX=1975.0),
    "terrestrial": lambda: make_template("CAR", lon="TLON-", lat="TLAT-"),
    "gwcs": lambda: make_gwcs(FK5(equinox="J1990")),
    "galactic gwcs": lambda: make_gwcs(Galactic()),
}


def make_cubic(strength=4e-8, shape=SHAPE):
    """A cubic distortion, which a cubic spline describes exactly inside its bounds."""
    bounds = ((-60.0, shape[1] + 60.0), (-60.0, shape[0] + 60.0))
    t = [np.linspace(lo, hi, 9) for lo, hi in bounds]
    n = 6
    x, y = np.meshgrid(*t)
    u_, v = x - 190.0, y - 160.0
    bases = []
    for axis, (lo, hi) in zip(t, bounds, strict=True):
        unit = [np.eye(n)[k] for k in range(n)]
        bases.append(
            np.stack(
                [
                    SplineDistortion2D(
                        np.outer(np.ones(n), row), np.zeros((n, n)), bounds=((lo, hi), (lo, hi))
                    ).displacement(axis, axis)[0]
                    for row in unit
                ],
                axis=-1,
            )
        )
    inverse = [np.linalg.pinv(basis) for basis in bases]
    radius = u_**2 + v**2
    coeff = [inverse[1] @ (strength * t * radius) @ inverse[0].T for t in (u_, v)]
    return SplineDistortion2D(*coeff, bounds=bounds)


def make_waves(amplitude=0.5):
    rng = np.random.default_rng(4)
    coeff = rng.uniform(-amplitude, amplitude, (2, 14, 16))
    return SplineDistortion2D(*coeff, bounds=((0, 419), (0, 329)))


def largest_error(export, backward, template_wcs):
    """The largest error in source pixels, found in another way than by the export itself."""
    wcs = WCS(export.header, fits.HDUList([fits.PrimaryHDU(), *export.tables]))
    x, y = np.meshgrid(np.linspace(-0.5, SHAPE[1] - 0.5, 31), np.linspace(-0.5, SHAPE[0] - 0.5, 29))
    truth, _ = build_wcs(backward.inverse, template_wcs)
    sky = SkyCoord(truth.pixel_to_world(x, y))
    read = wcs.pixel_to_world(x, y)
    assert read.is_equivalent_frame(sky)
    assert_allclose(wcs.world_to_pixel(read), (x, y), rtol=0, atol=1e-3)
    pixels = truth.world_to_pixel(read)
    return np.hypot(pixels[0] - x, pixels[1] - y).max()


@pytest.mark.parametrize("kind", ["sip", "tpv", "tab"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_cubic_distortion(template, kind):
    backward = make_cubic() | AFFINE
    template_wcs = TEMPLATES[template]()
    assert np.abs(make_cubic().displacement(0.0, 0.0)).max() > 0.3
    export = to_fits_header(backward, template_wcs, SHAPE, kind=kind)
    assert export.error < 1.5e-3
    assert export.header["ALGNWERR"] == pytest.approx(export.error, rel=0.1)
    assert largest_error(export, backward, template_wcs) < 1.3 * export.error + 1e-6
    assert (len(export.tables) == 1) == (kind == "tab")


@pytest.mark.parametrize(("kind", "suffix"), [("sip", "TAN-SIP"), ("tpv", "TPV"), ("tab", "TAB")])
def test_header_says_what_it_is(kind, suffix):
    backward = make_cubic() | AFFINE
    export = to_fits_header(backward, make_template(lon="GLON-", lat="GLAT-"), SHAPE, kind=kind)
    assert (export.header["CTYPE1"], export.header["CTYPE2"]) == (
        f"GLON-{suffix}",
        f"GLAT-{suffix}",
    )
    assert "DATE-OBS" not in export.header  # it is that of the template


def test_what_needs_no_distortion_has_none():
    export = to_fits_header(AFFINE, make_template(), SHAPE)
    assert export.header["CTYPE1"] == "RA---TAN"
    assert "A_ORDER" not in export.header
    assert export.error < 1e-3


def test_smaller_tolerance_higher_order():
    backward = make_waves(0.02) | AFFINE
    loose = to_fits_header(backward, make_template(), SHAPE, tolerance=1.0)
    tight = to_fits_header(backward, make_template(), SHAPE, tolerance=0.03)
    assert tight.error < loose.error
    assert tight.header["A_ORDER"] > loose.header.get("A_ORDER", 1)
    loose, tight = (
        to_fits_header(backward, make_template(), SHAPE, kind="tab", tolerance=tolerance)
        for tolerance in (0.3, 0.01)
    )
    assert tight.tables[0].data["COORD"].size > loose.tables[0].data["COORD"].size


@pytest.mark.parametrize("kind", ["sip", "tpv"])
def test_waves_are_refused_as_polynomials(kind):
    backward = make_waves() | AFFINE
    with pytest.raises(ExportError, match=r"to 0\.\d+ px at best.*tolerance=0.01; use kind='tab'"):
        to_fits_header(backward, make_template(), SHAPE, kind=kind)
    export = to_fits_header(backward, make_template(), SHAPE, kind=kind, tolerance=2.0)
    assert 0.01 < export.error < 2.0
    assert largest_error(export, backward, make_template()) < 1.3 * export.error


def test_waves_are_tabulated():
    backward = make_waves() | AFFINE
    export = to_fits_header(backward, make_template(), SHAPE, kind="tab")
    assert export.error < 0.01
    assert largest_error(export, backward, make_template()) < 1.3 * export.error


def test_table_refuses_what_it_cannot_reach():
    backward = make_waves() | AFFINE
    with pytest.raises(ExportError, match="use kind='sip'"):
        to_fits_header(backward, make_template(), SHAPE, kind="tab", tolerance=1e-7)


@pytest.mark.parametrize("where", [{"CRVAL1": 0.001}, {"CRVAL2": 89.999}])
def test_where_tables_fail_polynomials_do_not(where):
    template_wcs = make_template(**where)
    backward = make_cubic() | AFFINE
    with pytest.raises(ExportError, match=r"celestial pole or longitude 0.*kind='sip'"):
        to_fits_header(backward, template_wcs, SHAPE, kind="tab")
    export = to_fits_header(backward, template_wcs, SHAPE)
    assert largest_error(export, backward, template_wcs) < 1.3 * export.error + 1e-6


def test_mirrored_and_turned():
    mirror = models.AffineTransformation2D([[0.1, -0.97], [-0.98, -0.12]], [350.0, 380.0])
    backward = make_cubic() | mirror
    export = to_fits_header(backward, make_template(), SHAPE)
    assert largest_error(export, backward, make_template()) < 1.3 * export.error + 1e-6


@pytest.mark.parametrize("template_wcs", [None, WCS(naxis=2)])
def test_no_sky_no_header(template_wcs):
    with pytest.raises(ExportError, match="no celestial WCS"):
        to_fits_header(AFFINE, template_wcs, SHAPE)


def test_beyond_the_sky_no_header():
    template_wcs = make_template("SIN")
    template_wcs.wcs.cd = template_wcs.wcs.cd * 5000
    with pytest.raises(ExportError, match="no position on the sky"):
        to_fits_header(AFFINE, template_wcs, SHAPE)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "wat"}, "got 'wat'"), ({"tolerance": 0}, "got 0"), ({"tolerance": np.nan}, "nan")],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        to_fits_header(AFFINE, make_template(), SHAPE, **options)


@pytest.mark.parametrize("kind", ["sip", "tpv", "tab"])
def test_header_survives_a_file(kind, tmp_path):
    backward = make_cubic() | AFFINE
    export = to_fits_header(backward, make_template(), SHAPE, kind=kind)
    image = fits.PrimaryHDU(np.zeros(SHAPE, dtype=np.float32))
    image.header.update(export.header)
    fits.HDUList([image, *export.tables]).writeto(tmp_path / "image.fits")
    with fits.open(tmp_path / "image.fits") as hdus:
        read = WCS(hdus[0].header, hdus)
        world = read.all_pix2world(30.0, 40.0, 0)
    wcs, _ = build_wcs(backward.inverse, make_template())
    assert_allclose(world, wcs(30.0, 40.0), rtol=0, atol=0.002 * SCALE)


@pytest.mark.skipif(shutil.which("SWarp") is None, reason="SWarp is not installed")
def test_swarp_reads_tpv(tmp_path):
    """SWarp puts the stars of the source where they are in the template."""
    backward = make_cubic(1.6e-7) | AFFINE
    template_wcs = make_template()
    export = to_fits_header(backward, template_wcs, SHAPE, kind="tpv")
    stars = np.random.default_rng(5).uniform((30, 30), (380, 290), (40, 2))
    x, y = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
    image = np.zeros(SHAPE, dtype=np.float32)
    for star_x, star_y in zip(*backward(*stars.T), strict=True):
        image += np.exp(-((x - star_x) ** 2 + (y - star_y) ** 2) / 8).astype(np.float32)
    primary = fits.PrimaryHDU(image)
    primary.header.update(export.header)
    primary.writeto(tmp_path / "source.fits")
    cards = ["NAXIS   = 2", "NAXIS1  = 420", "NAXIS2  = 330"]
    for i in (1, 2):
        cards.append(f"CTYPE{i}  = '{template_wcs.wcs.ctype[i - 1]}'")
        # with all digits: SWarp takes 1E-5 for 1
        for name in ("crval", "crpix"):
            cards.append(f"{name.upper()}{i}  = {getattr(template_wcs.wcs, name)[i - 1]:.12E}")
        for j in (1, 2):
            cards.append(f"CD{i}_{j}   = {template_wcs.wcs.cd[i - 1, j - 1]:.12E}")
    (tmp_path / "out.head").write_text("\n".join([*cards, "END     ", ""]))
    subprocess.run(
        ["SWarp", "source.fits", "-IMAGEOUT_NAME", "out.fits", "-WEIGHTOUT_NAME", "weight.fits",
         "-SUBTRACT_BACK", "N", "-NTHREADS", "1", "-VERBOSE_TYPE", "QUIET", "-WRITE_XML", "N",
         "-FSCALASTRO_TYPE", "NONE", "-RESAMPLING_TYPE", "LANCZOS4"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=60,
    )  # fmt: skip
    out = fits.getdata(tmp_path / "out.fits")
    found = []
    for star in stars:
        column, row = np.round(star).astype(int)
        stamp = out[row - 6 : row + 7, column - 6 : column + 7]
        dy, dx = np.mgrid[-6:7, -6:7]
        found.append([(stamp * dx).sum(), (stamp * dy).sum()] / stamp.sum() + [column, row])
    distance = np.hypot(*(np.array(found) - stars).T)
    assert np.median(distance) < 0.02  # neighbors disturb some centroids
    assert np.hypot(*np.subtract(AFFINE(*stars.T), backward(*stars.T))).max() > 1
