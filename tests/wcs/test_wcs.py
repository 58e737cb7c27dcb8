"""Every kind of FITS WCS against astropy.wcs, gwcs templates, ASDF, and reproject as a client."""

from __future__ import annotations

import copy
import io

import asdf
import astropy.units as u
import gwcs
import numpy as np
import pytest
from astropy.coordinates import ICRS
from astropy.io import fits
from astropy.modeling import models
from astropy.nddata import NDDataRef
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS, DistortionLookupTable
from astropy.wcs.utils import proj_plane_pixel_scales
from astropy.wcs.wcsapi import HighLevelWCSWrapper, SlicedLowLevelWCS
from gwcs.coordinate_frames import CelestialFrame, Frame2D
from numpy.testing import assert_allclose, assert_array_equal
from reproject import reproject_adaptive, reproject_exact, reproject_interp
from reproject.mosaicking import find_optimal_celestial_wcs, reproject_and_coadd

from spalipy_astro.io.asdf import get_extensions, get_resource_mappings
from spalipy_astro.models import FITSWCSTransform, SplineDistortion2D
from spalipy_astro.wcs import build_wcs, pack_wcs, sky_transform, unpack_wcs

SHAPE = (800, 1000)
SCALE = 7.777777777e-5  # degrees per pixel


@pytest.fixture(autouse=True)
def extension():
    """Have the converters in asdf, also where the package is not installed."""
    with asdf.config_context() as config:
        for mapping in get_resource_mappings():
            config.add_resource_mapping(mapping)
        for extension in get_extensions():
            config.add_extension(extension)
        yield


def through_asdf(thing):
    stream = io.BytesIO()
    asdf.AsdfFile({"thing": thing}).write_to(stream)
    stream.seek(0)
    with asdf.open(stream, lazy_load=False, memmap=False) as file:
        return file["thing"]


def make_header(projection, *, lon="RA---", lat="DEC--", swap=False, scale=SCALE, **cards):
    i, j = (2, 1) if swap else (1, 2)
    header = fits.Header()
    header["NAXIS"] = 2
    header["NAXIS1"], header["NAXIS2"] = SHAPE[::-1]
    header[f"CTYPE{i}"], header[f"CTYPE{j}"] = lon + projection, lat + projection
    header["CRPIX1"], header["CRPIX2"] = 500.123456789012, 401.987654321
    header[f"CRVAL{i}"], header[f"CRVAL{j}"] = 266.41681662498753, -29.00782497222213
    header[f"CD{i}_1"], header[f"CD{i}_2"] = -scale * 1.0123456789123, scale * 1.1e-2 / 3
    header[f"CD{j}_1"], header[f"CD{j}_2"] = scale * 1.2e-2 / 7, scale
    header.update(cards)
    return header


SIP = {
    "A_ORDER": 3, "A_2_0": 2e-6 / 3, "A_0_3": 1e-9 / 7,
    "B_ORDER": 3, "B_1_1": -3e-6 / 7, "B_3_0": 7e-9 / 3,
}  # fmt: skip
TPV = {
    "PV1_0": 1e-3, "PV1_1": 1.0003, "PV1_2": 1e-5 / 3, "PV1_4": 2e-3 / 3, "PV1_7": 0.1 / 3,
    "PV2_1": 1.0, "PV2_5": 1e-3, "PV2_10": -3e-2 / 7,
}  # fmt: skip


def make_lookup():
    wcs = WCS(make_header("TAN"))
    y, x = np.mgrid[0:17, 0:21]
    for name, table in (
        ("cpdis1", 2 * np.sin(x / 5) * np.cos(y / 4)),
        ("cpdis2", -1.5 * np.cos(x / 6 + y / 7)),
    ):
        lookup = DistortionLookupTable(np.float32(table), (1.0, 1.0), (1.0, 1.0), (50.0, 50.0))
        setattr(wcs, name, lookup)
    columns = np.float32(np.random.default_rng(2).normal(0, 0.05, (1, 1000)))
    wcs.det2im1 = DistortionLookupTable(columns, (1.0, 1.0), (1.0, 1.0), (1.0, 1.0))
    return wcs


def make_tab():
    """A -TAB WCS that looks RA and Dec up in a table with uneven steps."""
    x, y = np.array([-600.0, 0, 100, 350, 500, 900, 1700]), np.array([-500.0, 70, 300, 600, 1400])
    sky = WCS(make_header("TAN")).all_pix2world(*np.meshgrid(x, y), 1)
    coord = np.stack(sky, axis=-1)
    columns = [
        fits.Column("coord", f"{coord.size}D", dim=f"(2,{x.size},{y.size})", array=coord[None]),
        fits.Column("x", f"{x.size}D", array=x[None]),
        fits.Column("y", f"{y.size}D", array=y[None]),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="WCS-TABLE")
    header = fits.Header({"NAXIS": 2, "NAXIS1": 1000, "NAXIS2": 800, "RADESYS": "ICRS"})
    for i, (kind, index) in enumerate((("RA---TAB", "x"), ("DEC--TAB", "y")), start=1):
        header.update(
            {
                f"CTYPE{i}": kind, f"CUNIT{i}": "deg", f"CRPIX{i}": 1.0, f"CRVAL{i}": 1.0,
                f"CDELT{i}": 1.0, f"PS{i}_0": "WCS-TABLE", f"PS{i}_1": "coord", f"PS{i}_2": index,
                f"PV{i}_3": i,
            }
        )  # fmt: skip
    primary = fits.PrimaryHDU(np.zeros(SHAPE, dtype=np.uint8), header)
    return WCS(primary.header, fits.HDUList([primary, table]))


def make_cunit():
    header = make_header("TAN")
    for i in (1, 2):
        header[f"CUNIT{i}"] = "arcsec"
        for name in (f"CRVAL{i}", f"CD{i}_1", f"CD{i}_2"):
            header[name] *= 3600
    return WCS(header)


def make_crota():
    header = make_header("TAN")
    del header["CD?_?"]
    header.update({"CDELT1": -SCALE, "CDELT2": SCALE, "CROTA2": 33.3})
    return WCS(header)


def make(*args, **kwargs):
    return lambda: WCS(make_header(*args, **kwargs))


KINDS = {
    "TAN": make("TAN"),
    "SIN": make("SIN"),
    "ARC": make("ARC"),
    "STG": make("STG"),
    "ZEA": make("ZEA"),
    "TAN at the pole": make("TAN", CRVAL2=89.9),
    "TAN at RA 0": make("TAN", CRVAL1=0.01),
    "LONPOLE": make("TAN", LONPOLE=123.456789, LATPOLE=12.3),
    "PV for LONPOLE": make("TAN", PV1_3=163.3),
    "CUNIT": make_cunit,
    "CROTA": make_crota,
    "swapped": make("TAN", swap=True),
    "galactic": make("TAN", lon="GLON-", lat="GLAT-"),
    "FK5": make("SIN", RADESYS="FK5", EQUINOX=1975.0),
    "FK4": make("TAN", RADESYS="FK4", EQUINOX=1950.0),
    "TPV": make("TPV", **TPV),
    "SIP": make("TAN-SIP", **SIP),
    "SIP, swapped": make("TAN-SIP", swap=True, **SIP),
    "SIP with its inverse": make("TAN-SIP", **SIP, AP_ORDER=2, AP_2_0=-7e-7, BP_ORDER=2),
    "SIP with galactic": make("TAN-SIP", lon="GLON-", lat="GLAT-", **SIP),
    "lookup tables": make_lookup,
    "-TAB": make_tab,
    "ZPN": make("ZPN", PV2_1=1.0, PV2_3=14.0, PV2_5=10.0),
    "native PV": make("ARC", PV1_0=1, PV1_1=20.0, PV1_2=70.0),
    "CAR": make("CAR"),
    "AIT": make("AIT"),
    "HPX": make("HPX"),
    "terrestrial": make("CAR", lon="TLON-", lat="TLAT-"),
}
NATIVE = list(KINDS)[: list(KINDS).index("TPV")]


def make_transform(shape=SHAPE, seed=1):
    """Source to template: a turn by 34 degrees and a distortion."""
    rng = np.random.default_rng(seed)
    bounds = ((0, shape[1] - 1), (0, shape[0] - 1))
    spline = SplineDistortion2D(*rng.normal(0, 0.7, (2, 7, 8)), bounds=bounds)
    cos, sin = np.cos(0.6), np.sin(0.6)
    affine = models.AffineTransformation2D([[cos, -sin], [sin, cos]], [0.5 * shape[0], -20.0])
    return (spline | affine).inverse


def frame_points(shape=SHAPE, n=23):
    return np.meshgrid(np.linspace(-5, shape[1] + 5, n), np.linspace(-5, shape[0] + 5, n))


def sky_of(wcs, x, y):
    world = wcs.all_pix2world(x, y, 0)
    return world[wcs.wcs.lng], world[wcs.wcs.lat]


def sky_distance(wcs, one, other):
    """Distance in pixels of two points of the sky, all in degrees."""
    lon = np.remainder(np.subtract(one[0], other[0]) + 180, 360) - 180
    scale = proj_plane_pixel_scales(wcs)[0] if wcs.wcs.ctype[0][5:8] != "TAB" else SCALE
    return np.hypot(lon * np.cos(np.deg2rad(one[1])), np.subtract(one[1], other[1])) / scale


@pytest.mark.parametrize("kind", KINDS)
def test_fits_template(kind):
    fits_wcs = KINDS[kind]()
    transform = make_transform()
    wcs, template_wcs = build_wcs(transform, fits_wcs, source_shape=(900, 1100))
    assert wcs.available_frames[:2] == ["source_detector", "template_detector"]
    assert len(wcs.available_frames) == 3
    assert wcs.bounding_box is None
    assert wcs.array_shape == (900, 1100)
    assert isinstance(template_wcs, WCS)
    assert isinstance(wcs.pipeline[1].transform, FITSWCSTransform) == (kind not in NATIVE)

    x, y = frame_points()
    source = transform.inverse(x, y)
    expected = sky_of(fits_wcs, x, y)
    got = wcs(*source)
    assert sky_distance(fits_wcs, expected, got).max() < 1e-7
    assert np.hypot(*np.subtract(wcs.invert(*expected), source)).max() < 1e-7

    again = through_asdf(wcs)
    assert again.array_shape == (900, 1100)
    assert_array_equal(again(*source), got)
    assert_array_equal(again.invert(*expected), wcs.invert(*expected))

    sky = wcs.pixel_to_world(*source)
    template_sky = template_wcs.pixel_to_world(x, y)
    assert sky.is_equivalent_frame(template_sky)
    assert sky.separation(template_sky).deg.max() / SCALE < 1e-5  # no better in float64


@pytest.mark.parametrize("kind", ["TAN", "SIP", "galactic", "swapped"])
def test_high_level_way_back(kind):
    wcs, template_wcs = build_wcs(make_transform(), KINDS[kind]())
    x, y = frame_points(n=5)
    assert_allclose(wcs.world_to_pixel(wcs.pixel_to_world(x, y)), (x, y), atol=1e-6)
    assert_allclose(
        template_wcs.world_to_pixel(wcs.pixel_to_world(x, y)), make_transform()(x, y), atol=1e-6
    )


def test_fine_pixels_keep_their_digits():
    """At a milliarcsecond per pixel a FITS header would lose 1e-6 px."""
    fits_wcs = WCS(make_header("TAN", scale=3e-7))
    wcs, _ = build_wcs(make_transform(), fits_wcs)
    x, y = frame_points()
    source = make_transform().inverse(x, y)
    assert sky_distance(fits_wcs, sky_of(fits_wcs, x, y), wcs(*source)).max() < 1e-7
    assert_array_equal(through_asdf(wcs)(*source), wcs(*source))


def test_without_template_wcs():
    transform = make_transform()
    wcs, template_wcs = build_wcs(transform, source_shape=(900, 1100), template_shape=SHAPE)
    assert wcs.available_frames == ["source_detector", "template_detector"]
    assert template_wcs.output_frame.name == "template_detector"
    assert (wcs.array_shape, template_wcs.array_shape) == ((900, 1100), SHAPE)
    x, y = frame_points()
    source = transform.inverse(x, y)
    assert_allclose(wcs(*source), (x, y), atol=1e-9)
    assert_array_equal(wcs.invert(x, y), source)
    assert_array_equal(template_wcs(x, y), (x, y))
    for built in (wcs, template_wcs):
        again = through_asdf(built)
        assert_array_equal(again(*source), built(*source))
        assert again.array_shape == built.array_shape


@pytest.mark.parametrize("template_wcs", [WCS(naxis=2), WCS(naxis=3)])
def test_template_without_sky(template_wcs):
    wcs, template_wcs = build_wcs(make_transform(), template_wcs)
    assert wcs.output_frame.name == "template_detector"
    assert isinstance(template_wcs, gwcs.WCS)


def test_sky_without_frame_is_left_out():
    fits_wcs = make("CAR", lon="HPLN-", lat="HPLT-")()
    with pytest.warns(AstropyUserWarning, match="sky of the template is left out"):
        wcs, _ = build_wcs(make_transform(), fits_wcs)
    assert wcs.output_frame.name == "template_detector"


def test_sky_of_a_body_without_radii_is_left_out():
    with pytest.warns(AstropyUserWarning, match="is left out: it is that of a body whose radii"):
        wcs, _ = build_wcs(make_transform(), make("CAR", lon="MALN-", lat="MALT-")())
    assert wcs.output_frame.name == "template_detector"


def test_cube_template():
    header = make_header("TAN")
    header.update({"NAXIS": 3, "NAXIS3": 7, "CTYPE3": "FREQ", "CRVAL3": 1e9})
    header.update({"CRPIX3": 1.0, "CD3_3": 1e6})
    wcs, template_wcs = build_wcs(make_transform(), WCS(header))
    flat, _ = build_wcs(make_transform(), KINDS["TAN"]())
    assert template_wcs.naxis == 2
    assert_array_equal(wcs(30.0, 40.0), flat(30.0, 40.0))


def test_inputs_are_left_alone():
    fits_wcs = KINDS["SIP"]()
    header = fits_wcs.to_header(relax=True).tostring()
    transform = make_transform()
    before = transform(30.0, 40.0)
    wcs, template_wcs = build_wcs(transform, fits_wcs, template_shape=(3, 4))
    assert fits_wcs.array_shape == SHAPE
    assert template_wcs.array_shape == (3, 4)
    template_wcs.wcs.crval = 1, 2
    wcs.bounding_box = ((0, 10), (0, 10))
    transform[0].translation = [999.0, 999.0]
    assert fits_wcs.to_header(relax=True).tostring() == header
    with pytest.raises(NotImplementedError):
        _ = transform.bounding_box
    assert_array_equal(wcs.get_transform("source_detector", "template_detector")(30, 40), before)


def make_jwst_like():
    """A gwcs with two steps, an intermediate frame and a bounding box."""
    detector = Frame2D(name="detector", unit=(u.pix, u.pix))
    focal = Frame2D(name="v2v3", unit=(u.arcsec, u.arcsec))
    sky = CelestialFrame(name="world", reference_frame=ICRS(), unit=(u.deg, u.deg))
    to_focal = (models.Shift(-500.0) & models.Shift(-400.0)) | models.AffineTransformation2D(
        [[-SCALE, 1e-7], [2e-7, SCALE]]
    )
    to_sky = models.Pix2Sky_TAN() | models.RotateNative2Celestial(5.6, -72.05, 180.0)
    wcs = gwcs.WCS([(detector, to_focal), (focal, to_sky), (sky, None)])
    wcs.bounding_box = ((-0.5, 999.5), (-0.5, 799.5))
    wcs.array_shape = SHAPE
    return wcs


def make_with_units():
    """A gwcs whose models calculate with quantities."""
    detector = Frame2D(name="detector", unit=(u.pix, u.pix))
    sky = CelestialFrame(name="icrs", reference_frame=ICRS(), unit=(u.deg, u.deg))
    scale = models.Multiply(SCALE * u.deg / u.pix)
    model = (
        (models.Shift(-500 * u.pix) & models.Shift(-400 * u.pix))
        | (scale & scale.copy())
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(5.6 * u.deg, -72.05 * u.deg, 180 * u.deg)
    )
    return gwcs.WCS([(detector, model), (sky, None)])


@pytest.mark.parametrize("make_template", [make_jwst_like, make_with_units])
def test_gwcs_template(make_template):
    template = make_template()
    transform = make_transform()
    wcs, template_wcs = build_wcs(transform, template, template_shape=SHAPE)
    names = template.available_frames[1:]
    assert wcs.available_frames == ["source_detector", "template_detector", *names]
    assert template_wcs.available_frames == ["template_detector", *names]
    assert wcs.bounding_box is None
    assert template_wcs.bounding_box is None
    assert template_wcs.array_shape == SHAPE

    x, y = np.meshgrid(np.linspace(0, 999, 7), np.linspace(0, 799, 5))
    source = transform.inverse(x, y)
    expected = template.pixel_to_world_values(x, y)
    assert_allclose(wcs.pixel_to_world_values(*source), expected, rtol=0, atol=1e-12)
    assert_allclose(template_wcs.pixel_to_world_values(x, y), expected, rtol=0, atol=1e-12)
    assert_allclose(wcs.world_to_pixel_values(*expected), source, rtol=0, atol=1e-7)
    for built in (wcs, template_wcs):
        again = through_asdf(built)
        assert_array_equal(again.pixel_to_world_values(x, y), built.pixel_to_world_values(x, y))
        assert_array_equal(
            again.world_to_pixel_values(*expected), built.world_to_pixel_values(*expected)
        )


def test_gwcs_template_is_left_alone():
    template = make_jwst_like()
    build_wcs(make_transform(), template)
    assert template.bounding_box is not None
    assert template.available_frames == ["detector", "v2v3", "world"]


def test_template_that_was_aligned_itself():
    first = make_transform()
    template, _ = build_wcs(first, KINDS["TAN"]())
    second = make_transform(seed=5)
    wcs, template_wcs = build_wcs(second, template)
    assert wcs.available_frames == [
        "source_detector", "template_detector", "template_detector_2", "icrs",
    ]  # fmt: skip
    x, y = 300.0, 200.0
    assert_allclose(wcs(x, y), template(*second(x, y)), rtol=0, atol=1e-12)
    assert_allclose(template_wcs(x, y), template(x, y), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["SIP", "gwcs", "gwcs with units"])
def test_template_from_sliced_nddata(kind):
    whole = {"gwcs": make_jwst_like, "gwcs with units": make_with_units}.get(kind, KINDS["SIP"])()
    data = NDDataRef(np.zeros(SHAPE), wcs=whole)
    part = data[30:500, 100:]
    transform = make_transform()
    wcs, template_wcs = build_wcs(transform, part.wcs, template_shape=part.data.shape)
    full, _ = build_wcs(transform, whole)
    x, y = 222.0, 111.0
    expected = whole.pixel_to_world_values(x + 100, y + 30)
    assert_allclose(template_wcs.pixel_to_world_values(x, y), expected, rtol=0, atol=1e-12)
    source = transform.inverse(x, y)
    assert_allclose(wcs.pixel_to_world_values(*source), expected, rtol=0, atol=1e-12)
    assert template_wcs.array_shape == (470, 900)
    assert abs(full.pixel_to_world_values(*source)[0] - expected[0]) > 1e-4


def test_slice_of_a_cube():
    header = make_header("TAN")
    header.update({"NAXIS": 3, "NAXIS3": 7, "CTYPE3": "FREQ", "CRVAL3": 1e9})
    header.update({"CRPIX3": 1.0, "CD3_3": 1e6})
    plane = HighLevelWCSWrapper(SlicedLowLevelWCS(WCS(header), [3, slice(None), slice(20, None)]))
    wcs, _ = build_wcs(make_transform(), plane)
    expected = KINDS["TAN"]().all_pix2world(120.0, 90.0, 0)
    assert_allclose(wcs(*make_transform().inverse(100.0, 90.0)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("template_wcs", "error", "message"),
    [
        ("TAN", TypeError, "got no WCS: str"),
        (fits.Header(), TypeError, "got no WCS: Header"),
        (WCS(naxis=1), ValueError, "two axes, got 1"),
        (
            SlicedLowLevelWCS(make_jwst_like(), [3, slice(None)]),
            ValueError,
            "two pixel axes, got 1",
        ),
    ],
)
def test_what_is_no_template_wcs_is_refused(template_wcs, error, message):
    with pytest.raises(error, match=message):
        build_wcs(make_transform(), template_wcs)


def test_transform_without_inverse_is_refused():
    one_way = models.Mapping((0, 1, 0, 1)) | (models.Polynomial2D(2) & models.Polynomial2D(2))
    with pytest.raises(ValueError, match="no inverse"):
        build_wcs(one_way)


@pytest.mark.parametrize("kind", ["TAN", "SIP, swapped", "-TAB"])
def test_packed_fits_wcs_lose_nothing(kind):
    fits_wcs = KINDS[kind]()
    again = unpack_wcs(through_asdf(pack_wcs(fits_wcs)))
    assert isinstance(again, WCS)
    assert again.array_shape == SHAPE
    x, y = frame_points()
    assert_array_equal(again.all_pix2world(x, y, 0), fits_wcs.all_pix2world(x, y, 0))


def test_other_wcs_are_packed_as_they_are():
    pixels, template = WCS(naxis=2), make_jwst_like()
    assert pack_wcs(None) is unpack_wcs(None) is None
    assert unpack_wcs(pack_wcs(pixels)) is pixels
    assert unpack_wcs(pack_wcs(template)) is template


def test_sky_transform_needs_a_sky():
    with pytest.raises(ValueError, match="longitude and latitude"):
        sky_transform(WCS(naxis=2))


def test_sky_transform_checks_what_it_builds(monkeypatch):
    """A native model that were wrong would not be used."""
    fits_wcs = KINDS["TAN"]()
    model, frame = sky_transform(fits_wcs)
    assert not isinstance(model, FITSWCSTransform)
    assert isinstance(frame.reference_frame, ICRS)
    monkeypatch.setitem(sky_transform.__globals__["_ZENITHAL"], "TAN", models.Pix2Sky_SIN)
    model, _ = sky_transform(fits_wcs)
    assert isinstance(model, FITSWCSTransform)


# --- reproject as a client -----------------------------------------------------------------------

TEMPLATE_SHAPE = (90, 120)
SOURCE_SHAPE = (140, 130)


def landscape(x, y):
    return np.sin(x / 9) + np.cos(y / 7) + 0.5 * np.sin((x + y) / 13)


@pytest.fixture(params=[None, "TAN", "SIP, swapped", "galactic", "gwcs"])
def scene(request):
    """Two images of one landscape, and the two WCS."""
    makers = KINDS | {None: lambda: None, "gwcs": make_jwst_like}
    transform = make_transform(TEMPLATE_SHAPE)
    source = landscape(*transform(*np.meshgrid(np.arange(130.0), np.arange(140.0))))
    template = landscape(*np.meshgrid(np.arange(120.0), np.arange(90.0)))
    wcs, template_wcs = build_wcs(
        transform,
        makers[request.param](),
        source_shape=SOURCE_SHAPE,
        template_shape=TEMPLATE_SHAPE,
    )
    return source, wcs, template, template_wcs, request.param is not None


@pytest.mark.parametrize("options", [{}, {"parallel": 2, "block_size": (45, 60)}])
def test_reproject_interp(scene, options):
    source, wcs, template, template_wcs, _ = scene
    aligned, footprint = reproject_interp(
        (source, wcs), template_wcs, shape_out=TEMPLATE_SHAPE, order="bicubic", **options
    )
    assert footprint.mean() > 0.8
    errors = np.abs(aligned - template)
    assert np.nanmedian(errors) < 1e-6
    assert np.nanpercentile(errors, 90) < 0.01  # the rest lies on the edges of the source


def test_reproject_adaptive(scene):
    source, wcs, template, template_wcs, _ = scene
    aligned, _ = reproject_adaptive((source, wcs), template_wcs, shape_out=TEMPLATE_SHAPE)
    assert np.isfinite(aligned).mean() > 0.8
    assert np.nanmedian(np.abs(aligned - template)) < 0.01


def test_reproject_exact(scene):
    source, wcs, template, template_wcs, has_sky = scene
    if not has_sky:
        with pytest.raises(NotImplementedError):
            reproject_exact((source, wcs), template_wcs, shape_out=TEMPLATE_SHAPE)
        return
    aligned, _ = reproject_exact((source, wcs), template_wcs, shape_out=TEMPLATE_SHAPE)
    assert np.nanmedian(np.abs(aligned - template)) < 0.01


def test_reproject_and_coadd(scene):
    source, wcs, template, template_wcs, has_sky = scene
    pair = [(source, wcs), (template, template_wcs)]
    coadd, footprint = reproject_and_coadd(
        pair, template_wcs, shape_out=TEMPLATE_SHAPE, reproject_function=reproject_interp
    )
    assert footprint.max() == 2
    assert np.nanmedian(np.abs(coadd - template)) < 0.01
    if has_sky:
        best, shape = find_optimal_celestial_wcs(pair)
        assert shape[0] > TEMPLATE_SHAPE[0]
        coadd, _ = reproject_and_coadd(
            pair, best, shape_out=shape, reproject_function=reproject_interp
        )
        assert np.isfinite(coadd).mean() > 0.5


def test_reproject_with_dask(scene):
    dask_array = pytest.importorskip("dask.array")
    source, wcs, template, template_wcs, _ = scene
    aligned, _ = reproject_interp(
        (dask_array.from_array(source, chunks=70), wcs),
        template_wcs,
        shape_out=TEMPLATE_SHAPE,
        return_type="dask",
        block_size=(45, 60),
    )
    assert np.nanmedian(np.abs(aligned.compute() - template)) < 0.01


def test_threads_agree():
    from concurrent.futures import ThreadPoolExecutor

    wcs, _ = build_wcs(make_transform(), KINDS["SIP"]())
    x, y = frame_points(n=101)
    expected = wcs.invert(*wcs(x, y))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: wcs.invert(*wcs(x, y)), range(8)))
    for result in results:
        assert_array_equal(result, expected)


def test_deep_copies():
    wcs, _ = build_wcs(make_transform(), KINDS["SIP"]())
    assert_array_equal(copy.deepcopy(wcs)(3.0, 4.0), wcs(3.0, 4.0))
