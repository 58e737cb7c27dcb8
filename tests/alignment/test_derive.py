"""Alignments made of alignments agree with what they were made of, and points follow them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import astropy.units as u
import gwcs
import numpy as np
import pytest
from astropy.coordinates import ICRS, SkyCoord
from astropy.modeling import models
from astropy.nddata import CCDData, Cutout2D, block_reduce
from astropy.table import MaskedColumn, QTable, Table
from astropy.wcs import WCS, DistortionLookupTable, Sip
from gwcs.coordinate_frames import CelestialFrame, Frame2D
from numpy.testing import assert_allclose, assert_array_equal

from spalipy_astro import Alignment, find_alignment
from spalipy_astro.models import FITSWCSTransform, SplineDistortion2D

SHAPES = (280, 360), (340, 320)
ANGLE = np.deg2rad(37)
MATRIX = 1.3 * np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
POINTS = np.random.default_rng(0).uniform((40, 40), (320, 240), (200, 2)).T


def make_wcs(kind="TAN"):
    if kind is None:
        return None
    if kind == "gwcs":
        model = (
            (models.Shift(-150.0) & models.Shift(-160.0))
            | (models.Scale(-1e-4) & models.Scale(1e-4))
            | models.Pix2Sky_TAN()
            | models.RotateNative2Celestial(32.0, 45.0, 180.0)
        )
        sky = CelestialFrame(name="sky", reference_frame=ICRS(), unit=(u.deg, u.deg))
        return gwcs.WCS([(Frame2D(name="detector"), model), (sky, None)])
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 32.0, 45.0
    wcs.wcs.crpix = 151.3, 160.8
    if kind == "PC":
        wcs.wcs.pc = [[0.8, -0.6], [0.6, 0.8]]
        wcs.wcs.cdelt = -1e-4, 1e-4
    else:
        wcs.wcs.cd = [[-1e-4, 1e-6], [2e-6, 1e-4]]
    if kind == "SIP":
        wcs.wcs.ctype = "RA---TAN-SIP", "DEC--TAN-SIP"
        a, b = np.zeros((2, 4, 4))
        a[2, 0], a[1, 1], b[0, 2], b[2, 1] = 3e-5, 2e-5, -2e-5, 4e-8
        wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    if kind == "lookup":
        data = np.random.default_rng(3).normal(0, 2, (9, 8)).astype(np.float32)
        wcs.cpdis1 = DistortionLookupTable(data, (1, 1), (1, 1), (45.0, 42.0))
        wcs.det2im2 = DistortionLookupTable(data[::-1].copy(), (1, 1), (1, 1), (45.0, 42.0))
    wcs.wcs.set()
    return wcs


@cache
def align_catalogs(seed, spline):
    """Align two catalogs of one sky; the middle frames of two such alignments are alike."""
    rng = np.random.default_rng(seed)
    coeff = np.random.default_rng(7).normal(0, 0.7, (2, 5, 5))
    bend = SplineDistortion2D(*coeff, bounds=((-60, 400), (-60, 400)))
    xy = rng.uniform(-20, 380, (400, 2))
    moved = np.column_stack(bend(*xy.T)) if spline else xy
    there = (moved - (180, 140)) @ MATRIX.T + (160, 170)
    source, template = (
        Table(
            {
                "x": points[:, 0] + rng.normal(0, 0.02, len(points)),
                "y": points[:, 1] + rng.normal(0, 0.02, len(points)),
                "x_err": np.full(len(points), 0.02),
                "y_err": np.full(len(points), 0.02),
                "flux": np.linspace(1e5, 1e3, len(points)),
            }
        )
        for points in (xy, there)
    )
    return find_alignment(source, template, spline_order=3 if spline else 0)


def make_alignment(seed=0, kind="TAN", spline=True):
    found = align_catalogs(seed, spline)
    return replace(
        found, source_shape=SHAPES[0], template_shape=SHAPES[1], original_wcs=make_wcs(kind)
    )


@pytest.fixture(scope="module")
def alignment():
    return make_alignment()


def assert_same_errors(one, other, scale=1.0):
    assert_allclose(one, scale * np.asarray(other), rtol=1e-6)


def check_matches(alignment):
    """The residuals in the table are those of the transform, and the figures those of the table."""
    matches, summary = alignment.matches, alignment.summary()
    x, y = alignment.transform(matches["x_source"], matches["y_source"])
    assert_allclose(matches["x_template"] - x, matches["dx"], atol=1e-9)
    assert_allclose(matches["y_template"] - y, matches["dy"], atol=1e-9)
    assert 0.7 < summary["chi2_x"] < 1.4
    assert summary["n_matched"] == len(matches)
    assert str(summary)
    assert repr(alignment)
    alignment.coverage()


def test_inverse(alignment):
    inverse = alignment.inverse
    assert inverse.inverse is alignment
    assert (inverse.source_shape, inverse.template_shape) == SHAPES[::-1]
    there = alignment.transform(*POINTS)
    assert_allclose(inverse.transform(*there), POINTS, atol=1e-8)
    assert_allclose(inverse.transform.inverse(*POINTS), there, atol=1e-8)
    scale = alignment.summary()["scale"]
    assert inverse.summary()["scale"] == pytest.approx(1 / scale, rel=1e-3)
    assert inverse.summary()["rotation"] == pytest.approx(-37, abs=0.1)
    assert_same_errors(inverse.error(*there), alignment.error(*POINTS), 1 / scale)
    check_matches(inverse)
    assert inverse.provenance["steps"] == ["inverse"]
    sky = alignment.original_wcs.pixel_to_world(*there)
    assert sky.separation(inverse.pixel_to_sky(*there)).max() < 1e-6 * u.arcsec


def test_inverse_resamples_back(alignment):
    y, x = np.mgrid[: SHAPES[1][0], : SHAPES[1][1]]
    image = np.sin(x / 30) * np.cos(y / 40)
    back = alignment.inverse.resample(image, conserve_flux=False, method="bicubic")
    assert back.shape == SHAPES[0]
    x, y = (np.round(p).astype(int) for p in POINTS)
    tx, ty = alignment.transform(x, y)
    seen = (tx > 2) & (tx < 317) & (ty > 2) & (ty < 337)
    assert_allclose(back[y, x][seen], (np.sin(tx / 30) * np.cos(ty / 40))[seen], rtol=0, atol=1e-3)


def test_then(alignment):
    second = make_alignment(seed=5).inverse  # another night, the same template
    second = replace(second, original_wcs=make_wcs("PC"))
    both = alignment.then(second)
    assert_allclose(
        both.transform(*POINTS), second.transform(*alignment.transform(*POINTS)), atol=1e-12
    )
    assert_allclose(both.transform.inverse(*both.transform(*POINTS)), POINTS, atol=1e-8)
    assert np.hypot(*np.subtract(both.transform(*POINTS), POINTS)).max() < 0.2
    assert (both.source_shape, both.template_shape) == (SHAPES[0], SHAPES[0])
    expected = np.hypot(
        alignment.error(*POINTS) * second.summary()["scale"],
        second.error(*alignment.transform(*POINTS)),
    )
    assert_same_errors(both.error(*POINTS), expected)
    assert both.summary()["rotation"] == pytest.approx(0, abs=0.1)
    assert both.original_wcs is second.original_wcs
    assert both.provenance["steps"] == ["then"]
    assert len(both.matches) < 0.2 * len(alignment.matches)  # two skies, few stars alike


def test_then_keeps_the_stars_that_both_have(alignment):
    there_and_back = alignment.then(alignment.inverse)
    assert len(there_and_back.matches) == len(alignment.matches)
    assert_allclose(there_and_back.matches["x_template"], alignment.matches["x_source"])
    assert_array_equal(there_and_back.matches["template_row"], alignment.matches["source_row"])


def test_then_takes_the_same_frame_in_the_middle(alignment):
    with pytest.raises(ValueError, match=r"\(340, 320\).*\(280, 360\)"):
        alignment.then(alignment)


def test_without_common_stars_there_is_still_a_transform(alignment):
    other = replace(alignment.inverse, matches=alignment.inverse.matches[:0])
    both = alignment.then(other)
    assert len(both.matches) == 0
    assert np.isnan(both.summary()["rms"])
    assert both.summary()["coverage"] == 0
    assert not (both.coverage() == 0).any()


SKIES = [None, "TAN", "PC", "SIP", "lookup", "gwcs"]


@pytest.mark.parametrize("kind", SKIES)
@pytest.mark.parametrize("spline", [True, False])
def test_other_grids(kind, spline):
    old = make_alignment(kind=kind, spline=spline)
    made = {
        "shifted": old.shifted(source=(3.5, -2.0), template=(-7.25, 11.0)),
        "cropped": old.cropped(source=np.s_[40:200, 30:-60], template=np.s_[10:300, 25:]),
        "binned": old.binned(source=2, template=3),
    }
    sources = {
        "shifted": np.add(POINTS, [[3.5], [-2.0]]),
        "cropped": POINTS - [[30], [40]],
        "binned": (POINTS - 0.5) / 2,
    }
    x, y = old.transform(*POINTS)
    templates = {
        "shifted": (x - 7.25, y + 11.0),
        "cropped": (x - 25, y - 10),
        "binned": ((x - 1) / 3, (y - 1) / 3),
    }
    shapes = {
        "shifted": SHAPES,
        "cropped": ((160, 270), (290, 295)),
        "binned": ((140, 180), (113, 106)),
    }
    for name, new in made.items():
        points = sources[name]
        assert_allclose(new.transform(*points), templates[name], atol=1e-8)
        assert_allclose(new.transform.inverse(*templates[name]), points, atol=1e-8)
        assert (new.source_shape, new.template_shape) == shapes[name]
        factor = 1 / 3 if name == "binned" else 1.0
        assert_same_errors(new.error(*points), old.error(*POINTS), factor)
        check_matches(new)
        assert new.provenance["steps"][0].startswith(name)
        backward = new.transform.inverse
        assert isinstance(backward.left if spline else backward, SplineDistortion2D) == spline
        if kind is not None:
            off = old.pixel_to_sky(*POINTS).separation(new.pixel_to_sky(*points))
            # lookup tables are single-precision
            assert off.max() < (1e-6 if kind == "lookup" else 1e-7) * 0.36 * u.arcsec
            assert_allclose(new.sky_to_pixel(old.pixel_to_sky(*POINTS)), points, atol=1e-6)
            assert type(new.original_wcs) is type(old.original_wcs)


def test_astropys_own_cut_outs_and_bins():
    alignment = make_alignment(kind="SIP")
    image = CCDData(np.zeros(SHAPES[1]), unit="adu", wcs=make_wcs("SIP"))
    cutout = Cutout2D(image.data, (150, 120), (100, 60), wcs=image.wcs)
    cropped = alignment.cropped(template=cutout.slices_original)
    assert cropped.template_shape == cutout.data.shape
    assert_allclose(
        cropped.original_wcs.all_pix2world(*POINTS, 0),
        cutout.wcs.all_pix2world(*POINTS, 0),
        rtol=0,
        atol=1e-12,
    )
    assert alignment.binned(template=3).template_shape == block_reduce(image.data, 3).shape


def test_gwcs_with_units_is_cut(alignment):
    model = (
        (models.Shift(-150.0 * u.pix) & models.Shift(-160.0 * u.pix))
        | (models.Multiply(-1e-4 * u.deg / u.pix) & models.Multiply(1e-4 * u.deg / u.pix))
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(32.0 * u.deg, 45.0 * u.deg, 180.0 * u.deg)
    )
    sky = CelestialFrame(name="sky", reference_frame=ICRS(), unit=(u.deg, u.deg))
    wcs = gwcs.WCS([(Frame2D(name="detector", unit=(u.pix, u.pix)), model), (sky, None)])
    old = replace(alignment, original_wcs=wcs)
    new = old.binned(template=2).cropped(template=np.s_[5:90, 7:80])
    assert old.pixel_to_sky(*POINTS).separation(new.pixel_to_sky(*POINTS)).max() < 1e-7 * u.arcsec


def test_what_only_wcslib_knows_becomes_a_gwcs(alignment, monkeypatch):
    monkeypatch.setattr("spalipy_astro.wcs._regrid._is_same_sky", lambda *args: False)
    new = alignment.shifted(template=(5, 6))
    assert isinstance(new.original_wcs, gwcs.WCS)
    moved = alignment.pixel_to_sky(*POINTS)
    assert moved.separation(new.pixel_to_sky(*POINTS)).max() < 1e-7 * u.arcsec


@pytest.mark.parametrize("derive", ["inverse", "then", "cropped", "binned"])
@pytest.mark.parametrize("kind", ["SIP", None])
def test_what_is_derived_is_written_and_read(derive, kind, tmp_path):
    old = make_alignment(kind=kind)
    new = {
        "inverse": lambda: old.inverse,
        "then": lambda: old.then(old.inverse),
        "cropped": lambda: old.cropped(template=np.s_[3:200, 4:190]),
        "binned": lambda: old.binned(source=2),
    }[derive]()
    new.write(tmp_path / "a.asdf")
    again = Alignment.read(tmp_path / "a.asdf")
    assert_array_equal(again.transform(*POINTS), new.transform(*POINTS))
    assert_array_equal(again.transform.inverse(*POINTS), new.transform.inverse(*POINTS))
    assert_array_equal(again.error(*POINTS), new.error(*POINTS))
    assert_array_equal(again.wcs(*POINTS), new.wcs(*POINTS))
    assert_allclose(again.inverse.transform(*POINTS), new.inverse.transform(*POINTS), rtol=1e-12)
    assert dict(again.summary()) == dict(new.summary())
    assert again.provenance == new.provenance


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: a.shifted(source=3), r"shift \(dx, dy\)"),
        (lambda a: a.shifted(template=(1, np.nan)), "nan"),
        (lambda a: a.cropped(source=np.s_[3:9]), "two slices"),
        (lambda a: a.cropped(source=np.s_[3:9, ::2]), "two slices"),
        (lambda a: a.cropped(template=np.s_[9:9, 2:5]), "no pixels"),
        (lambda a: a.binned(source=0), "got 0"),
        (lambda a: a.binned(template=1.5), "got 1.5"),
        (lambda a: a.binned(template=1000), "got 1000"),
        (lambda a: replace(a, source_shape=None).cropped(source=np.s_[:9, 2:5]), "was a catalog"),
        (lambda a: replace(a, _errors=()).inverse.error(1, 2), "no error estimate"),
        (lambda a: a.then(replace(a.inverse, _errors=())).error(1, 2), "no error estimate"),
    ],
)
def test_what_makes_no_sense(alignment, call, words):
    with pytest.raises(ValueError, match=words):
        call(alignment)


def test_catalogs_are_cut_by_numbers(alignment):
    bare = replace(alignment, source_shape=None, template_shape=None)
    new = bare.cropped(source=np.s_[5:200, 7:300]).binned(template=2)
    assert (new.source_shape, new.template_shape) == ((195, 293), None)
    assert isinstance(new.summary()["coverage"], float)


@pytest.mark.parametrize("kind", [Table, QTable])
def test_tables(alignment, kind):
    x, y = POINTS
    table = kind({"id": np.arange(len(x)), "a": x, "b": y, "a_err": 0 * x + 0.1, "b_err": 0 * x})
    if kind is QTable:
        for name in ("a", "b", "a_err", "b_err"):
            table[name].unit = u.pix
            table[name] = table[name].quantity if hasattr(table[name], "quantity") else table[name]
    before = table.copy()
    moved = alignment.transform_table(table, columns=("a", "b"))
    assert type(moved) is kind
    assert moved.colnames == table.colnames
    assert_allclose(np.array(moved["a"]), alignment.transform(x, y)[0], atol=1e-12)
    assert_allclose(np.array(moved["b"]), alignment.transform(x, y)[1], atol=1e-12)
    assert_allclose(np.array(moved["a_err"]), 0.1 * MATRIX[0, 0], rtol=0.1)
    assert_allclose(np.array(moved["b_err"]), 0.1 * MATRIX[1, 0], rtol=0.1)
    back = alignment.inverse.transform_table(moved, columns=("a", "b"))
    assert_allclose(np.array(back["a"]), x, atol=1e-8)
    for name in table.colnames:
        assert_array_equal(np.array(table[name]), np.array(before[name]))


def test_masked_positions_stay_masked(alignment):
    table = Table({"x": MaskedColumn([1.0, 2.0], mask=[False, True]), "y": [3.0, 4.0]})
    moved = alignment.transform_table(table)
    assert moved["x"].mask.tolist() == [False, True]
    assert_allclose(moved["x"][0], alignment.transform(1.0, 3.0)[0])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Table({"X": [1.0], "Y": [2.0]}), "the table has X, Y"),
        (Table({"x": [1.0] * u.arcsec, "y": [2.0] * u.arcsec}), "column in arcsec"),
    ],
)
def test_tables_without_positions(alignment, table, words):
    with pytest.raises(ValueError, match=words):
        alignment.transform_table(table)


def test_polygons(alignment):
    corners = np.array([[20.0, 30.0], [330.0, 40.0], [300.0, 250.0]])
    polygon = alignment.transform_polygon(corners, tolerance=0.01)
    assert len(polygon) > 3
    for corner in np.column_stack(alignment.transform(*corners.T)):
        assert (polygon == corner).all(axis=1).sum() == 1
    # every point of an edge lies on the outline
    t = np.linspace(0, 1, 777)[:, None]
    edge = np.column_stack(alignment.transform(*(corners[0] + t * (corners[1] - corners[0])).T))
    a, b = polygon, np.roll(polygon, -1, axis=0)
    along = np.clip(
        np.einsum("pek,ek->pe", edge[:, None] - a, b - a) / np.sum((b - a) ** 2, axis=1), 0, 1
    )
    miss = edge[:, None] - a - along[..., None] * (b - a)
    assert np.hypot(miss[..., 0], miss[..., 1]).min(axis=1).max() < 0.012
    path = alignment.transform_polygon(corners, closed=False)
    assert_allclose(path[-1], alignment.transform(*corners[2]))
    assert len(path) < len(polygon)


def test_straight_edges_stay_single():
    polygon = make_alignment(spline=False).transform_polygon([[0, 0], [300, 10], [20, 200]])
    assert len(polygon) == 3


@pytest.mark.parametrize(
    ("vertices", "tolerance", "words"),
    [([1, 2, 3], 0.01, r"shape \(N, 2\)"), ([[1, 2], [3, 4]], 0, "got 0")],
)
def test_what_is_no_polygon(alignment, vertices, tolerance, words):
    with pytest.raises(ValueError, match=words):
        alignment.transform_polygon(vertices, tolerance=tolerance)


@pytest.mark.parametrize("kind", ["TAN", "SIP", "gwcs"])
def test_sky(kind):
    alignment = make_alignment(kind=kind)
    sky = alignment.pixel_to_sky(*POINTS)
    truth = make_wcs(kind).pixel_to_world(*alignment.transform(*POINTS))
    assert sky.separation(truth).max() < 1e-7 * u.arcsec
    assert_allclose(alignment.sky_to_pixel(sky.galactic), POINTS, atol=1e-6)
    assert alignment.pixel_to_sky(3, 4).isscalar


def test_no_sky(alignment):
    bare = replace(alignment, original_wcs=None)
    for call in (
        lambda: bare.pixel_to_sky(1, 2),
        lambda: bare.sky_to_pixel(SkyCoord(1, 2, unit="deg")),
    ):
        with pytest.raises(ValueError, match="no celestial WCS"):
            call()
    with pytest.raises(TypeError, match="SkyCoord; got tuple"):
        alignment.sky_to_pixel((1, 2))


def test_options_are_kept(tmp_path):
    xy = np.random.default_rng(2).uniform(0, 300, (60, 2))
    found = find_alignment(xy, xy + 5, scale=(0.9, 1.1), spline_order=0)
    found.write(tmp_path / "a.asdf")
    options = Alignment.read(tmp_path / "a.asdf").provenance["options"]
    assert options["scale"] == [0.9, 1.1]
    assert options["spline_order"] == 0
    assert "rotation" not in options


def test_sky_is_packed_without_loss(tmp_path):
    """A FITS header keeps 14 digits; an alignment keeps them all."""
    wcs = make_wcs("SIP")
    wcs.wcs.crval = 266.40498829123456, -28.936177912345678
    wcs.wcs.cd = wcs.wcs.cd / 300
    alignment = replace(make_alignment(), original_wcs=wcs)
    alignment.write(tmp_path / "a.asdf")
    again = Alignment.read(tmp_path / "a.asdf")
    assert isinstance(again.original_wcs, WCS)
    exact = FITSWCSTransform(wcs)
    assert_array_equal(again.original_wcs.all_pix2world(*POINTS, 0), exact(*POINTS))
    assert_array_equal(again.wcs(*POINTS), alignment.wcs(*POINTS))
