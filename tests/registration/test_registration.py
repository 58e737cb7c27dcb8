"""The whole method on synthetic skies with known truth, and on real pairs."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.table import Table
from astropy.wcs import WCS

from spalipy_astro import (
    AlignmentError,
    CatalogError,
    ImageError,
    NoMatchError,
    TooFewStarsError,
    align,
    detect_stars,
    find_alignment,
)

GRID = np.column_stack(
    [g.ravel() for g in np.meshgrid(np.linspace(20, 340, 9), np.linspace(20, 260, 7))]
)
REAL_PAIRS = [
    "sdss_r_night2",
    "sdss_g_to_r",
    "sdss_i_to_r_night2",
    "als_m27_26min",
    "als_m27_13min",
    "uk001l_9min",
    "uk001l_50min",
    "uk001l_85min",
    "uk001l_107min",
    "uk001l_34min",
    "uk001l_22min",
    "panoptes_2min",
    "tres1_2h",
    "tres1_4h",
    "eso085_identity",
    "2mass_j_to_k",
]


def inside(xy, shape, margin=0):
    return np.all((xy > margin) & (xy < np.array(shape[::-1]) - 1 - margin), axis=1)


def mapping_error(alignment, pair, xy=GRID):
    """RMS distance between found and true positions over the overlap, px."""
    truth = pair.forward(xy)
    seen = inside(truth, pair.template.shape)
    assert seen.sum() > 10
    found = np.column_stack(alignment.transform(*xy[seen].T))
    return float(np.sqrt(np.mean(np.sum((found - truth[seen]) ** 2, axis=1))))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 37, 90, 180])
def test_recovers_the_transform(make_sky_pair, rotation, mirrored):
    pair = make_sky_pair(rotation=rotation, mirrored=mirrored)
    alignment = find_alignment(pair.source, pair.template)
    assert mapping_error(alignment, pair) < 0.05
    summary = alignment.summary()
    assert summary["parity"] == (-1 if mirrored else 1)
    assert summary["scale"] == pytest.approx(1, abs=5e-4)
    off = (summary["rotation"] - np.degrees(np.arctan2(*pair.matrix[::-1, 0])) + 180) % 360 - 180
    assert abs(off) < 0.05


@pytest.mark.parametrize(
    "case",
    [
        {"scale": 0.6, "template_shape": (240, 260)},
        {"scale": 1.7, "rotation": 50},
        {"shift": (150.0, -110.0), "n_stars": 300},
        {"distortion": 0.02, "n_stars": 400},
        {"n_stars": 25},
    ],
    ids=str,
)
def test_unlike_frames(make_sky_pair, case):
    pair = make_sky_pair(**case)
    alignment = find_alignment(pair.source, pair.template)
    assert mapping_error(alignment, pair) < 0.1
    assert alignment.summary()["scale"] == pytest.approx(
        case.get("scale", 1.0) * (1 + 0.6 * case.get("distortion", 0)), rel=0.01
    )


def test_distortion_options(make_sky_pair):
    pair = make_sky_pair(distortion=0.02, n_stars=400)
    errors = {
        name: mapping_error(find_alignment(pair.source, pair.template, **options), pair)
        for name, options in {
            "spline": {},
            "cubic": {"polynomial": 3},
            "affine": {"spline_order": 0},
            "similarity": {"affine": "similarity"},
        }.items()
    }
    assert errors["spline"] < 0.05
    assert errors["cubic"] < 0.05
    assert errors["affine"] > 4 * errors["spline"]
    assert errors["similarity"] > 4 * errors["spline"]


def test_masked_and_bad_pixels_do_not_matter(make_sky_pair):
    pair = make_sky_pair()
    source, template = pair.source.copy(), pair.template.copy()
    source.data[40:90, 100:160] = np.nan
    template.mask = np.zeros(template.shape, bool)
    template.mask[200:260, 30:90] = True
    template.data[template.mask] = 1e5
    before = source.data.copy(), template.data.copy()
    alignment = find_alignment(source, template)
    assert mapping_error(alignment, pair) < 0.05
    np.testing.assert_array_equal(source.data, before[0])
    np.testing.assert_array_equal(template.data, before[1])
    # The same with plain arrays and separate masks.
    again = find_alignment(source.data, template.data, template_mask=template.mask)
    np.testing.assert_array_equal(again.matches["dx"], alignment.matches["dx"])


@pytest.mark.parametrize(
    "convert",
    [
        lambda ccd: ccd.data,
        lambda ccd: ccd.data.astype(">f8"),
        lambda ccd: ccd.data.astype("u2"),
        lambda ccd: np.asfortranarray(ccd.data),
        lambda ccd: NDData(ccd.data),
        lambda ccd: np.ma.masked_array(ccd.data, ccd.data < 0),
        lambda ccd: CCDData(ccd, uncertainty=StdDevUncertainty(np.sqrt(ccd.data + 1))),
    ],
    ids=["array", "big-endian", "uint16", "fortran", "nddata", "masked", "uncertainty"],
)
def test_kinds_of_images(make_sky_pair, convert):
    pair = make_sky_pair(rotation=37)
    alignment = find_alignment(convert(pair.source), convert(pair.template))
    assert mapping_error(alignment, pair) < 0.05


def test_catalogs_instead_of_images(make_sky_pair):
    pair = make_sky_pair(rotation=90)
    stars = [detect_stars(image) for image in (pair.source, pair.template)]
    positions = [np.column_stack((t["x"], t["y"]))[t["flag"] == 0] for t in stars]
    both = find_alignment(*stars)
    assert mapping_error(both, pair) < 0.05
    assert both.source_shape is None
    assert mapping_error(find_alignment(pair.source, stars[1]), pair) < 0.05
    assert mapping_error(find_alignment(*positions), pair) < 0.1
    with pytest.raises(ValueError, match="shape=\\(ny, nx\\)"):
        both.resample(pair.source)
    assert both.resample(pair.source, shape=(50, 60)).shape == (50, 60)


def test_align_puts_the_source_on_the_grid_of_the_template(make_sky_pair):
    pair = make_sky_pair(rotation=37, n_stars=200)
    aligned = align(pair.source, pair.template)
    assert isinstance(aligned, CCDData)
    assert aligned.shape == pair.template.shape
    assert aligned.unit == pair.source.unit
    found, truth = detect_stars(aligned), detect_stars(pair.template)
    found, truth = (t[(t["flag"] == 0) & (t["snr"] > 100)] for t in (found, truth))
    xy = np.column_stack((truth["x"], truth["y"]))
    distance = np.hypot(
        found["x"][:, None] - xy[None, :, 0], found["y"][:, None] - xy[None, :, 1]
    ).min(axis=1)
    assert len(found) > 5
    assert np.median(distance) < 0.1


def make_wcs(pair, *, wrong=False):
    """Celestial WCS of both images, true or with the source turned by 90 degrees."""
    template = WCS(naxis=2)
    template.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    template.wcs.crval = [30.0, 10.0]
    template.wcs.crpix = pair.center_template + 1
    template.wcs.cd = np.diag([-1.0, 1.0]) / 3600
    source = template.deepcopy()
    source.wcs.crpix = pair.center_source + 1
    offset = pair.forward(pair.center_source[None])[0]
    source.wcs.crval = template.wcs_pix2world([offset], 0)[0]
    turn = np.array([[0, -1], [1, 0]]) if wrong else np.eye(2)
    source.wcs.cd = template.wcs.cd @ pair.matrix @ turn
    return source, template


@pytest.mark.parametrize("use_wcs", [True, "auto", False])
@pytest.mark.parametrize("wrong", [False, True])
def test_wcs_as_a_hint(make_sky_pair, wrong, use_wcs):
    pair = make_sky_pair(rotation=37)
    source, template = pair.source.copy(), pair.template.copy()
    source.wcs, template.wcs = make_wcs(pair, wrong=wrong)
    if wrong and use_wcs is True:
        with pytest.raises(NoMatchError):
            find_alignment(source, template, use_wcs=True)
        return
    alignment = find_alignment(source, template, use_wcs=use_wcs)
    assert mapping_error(alignment, pair) < 0.05


def test_the_user_knows_better_than_the_headers(make_sky_pair):
    pair = make_sky_pair(rotation=37)
    source, template = pair.source.copy(), pair.template.copy()
    source.wcs, template.wcs = make_wcs(pair)
    source.wcs.wcs.cd = 2 * source.wcs.wcs.cd  # a scale of 2, where 1 is true
    known = {"scale": (0.9, 1.1), "rotation": (30, 45), "max_shift": 40}
    alignment = find_alignment(source, template, use_wcs=True, **known)
    assert mapping_error(alignment, pair) < 0.05


def test_ranges_with_units(make_sky_pair):
    pair = make_sky_pair(rotation=37)
    known = {
        "scale": (90 * u.percent, 1.1 * u.one),
        "rotation": (30, 45) * u.deg,
        "max_shift": 40 * u.pix,
    }
    alignment = find_alignment(pair.source, pair.template, **known)
    assert mapping_error(alignment, pair) < 0.05
    options = alignment.provenance["options"]
    assert options["scale"] == pytest.approx([0.9, 1.1])
    assert (options["rotation"], options["max_shift"]) == ([30.0, 45.0], 40.0)
    with pytest.raises(NoMatchError):
        find_alignment(pair.source, pair.template, rotation=(-37 - 7, -37 + 8) * u.deg)


def test_same_input_same_output(make_sky_pair):
    pair = make_sky_pair(rotation=37)
    one, two = (find_alignment(pair.source, pair.template) for _ in range(2))
    np.testing.assert_array_equal(one.transform(*GRID.T), two.transform(*GRID.T))
    assert dict(one.summary()) == dict(two.summary())


def test_two_skies(make_sky_pair):
    one, two = make_sky_pair(seed=1), make_sky_pair(seed=2)
    with pytest.raises(NoMatchError, match="do not show the same part of the sky"):
        find_alignment(one.source, two.template)


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (lambda d: np.stack([[d, d], [d, d]]), ImageError, "4 dimensions, shape \\(2, 2, 280"),
        (lambda d: d[0], ImageError, "1 dimensions"),
        (lambda d: np.full_like(d, np.nan), ImageError, "pixels of the image are bad"),
        (lambda d: np.full_like(d, 7.0), ImageError, "same value"),
        (lambda d: np.random.default_rng(0).normal(size=d.shape), TooFewStarsError, "0 usable"),
        (lambda d: d.astype(complex), TypeError, "complex"),
        (lambda d: "frame.fits", FileNotFoundError, "e: there is no file .frame.fits"),
        (lambda d: Table({"a": [1.0]}), CatalogError, "it has a"),
        (lambda d: np.full((9, 2), np.nan), CatalogError, "9 of 9 positions"),
        (lambda d: np.ones((9, 2)), CatalogError, "8 of 9 positions .* duplicates"),
        (lambda d: np.arange(18.0).reshape(9, 2), CatalogError, "one line"),
        (lambda d: np.arange(4.0).reshape(2, 2), TooFewStarsError, "2 usable stars"),
        (lambda d: np.empty((0, 2)), TooFewStarsError, "0 usable stars"),
    ],
)
@pytest.mark.parametrize("side", ["source", "template"])
def test_bad_input(make_sky_pair, side, bad, error, words):
    pair = make_sky_pair()
    images = {"source": pair.source.data, "template": pair.template.data}
    images[side] = bad(pair.source.data)
    with pytest.raises(error, match=words):
        find_alignment(**images)


def test_mask_of_another_shape(make_sky_pair):
    pair = make_sky_pair()
    with pytest.raises(ImageError, match="mask of the source has shape"):
        find_alignment(pair.source, pair.template, source_mask=np.zeros((3, 4), bool))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"scale": (2, 1)}, r"^scale is .* Write \(1, 2\)"),
        ({"rotation": (3, -1)}, r"^rotation is .* Write \(-1, 3\)"),
        ({"rotation": 30}, r"^rotation is \(smallest, largest\) .* \(25, 35\); got 30"),
        ({"scale": 1}, r"^scale is \(smallest, largest\), .* \(0.9, 1.1\); got 1"),
        ({"parity": 0}, "parity is 1, -1 or None"),
        ({"max_shift": -2}, "^max_shift is a positive distance"),
        ({"max_shift": 2 * u.arcsec}, "^max_shift is a positive distance"),
        ({"use_wcs": "never"}, "use_wcs"),
        ({"use_wcs": True}, "celestial WCS on both"),
        ({"affine": "shear"}, "affine is .auto., .shift., .rigid., .similarity. or .affine."),
        ({"affine": "rigid", "scale": (2, 3)}, "affine=.rigid. has scale 1, which is outside"),
        ({"affine": "shift", "parity": -1}, "affine=.shift. mirrors nothing"),
        ({"source_pixels": (1, 0)}, "source_pixels is .width, height."),
        ({"template_pixels": 2}, "template_pixels is .width, height."),
        ({"spline_order": 6}, "spline_order"),
        ({"smoothing": 0}, "smoothing"),
        ({"polynomial": 7}, "polynomial"),
    ],
)
def test_senseless_options(make_sky_pair, option, words):
    pair = make_sky_pair()
    with pytest.raises(ValueError, match=words):
        find_alignment(pair.source, pair.template, **option)


def test_options_with_units(make_sky_pair):
    pair = make_sky_pair()
    units = {"fwhm": 3 * u.pix, "gain": 2 * u.electron / u.adu, "saturation": 5e4 * u.adu}
    plain = {"fwhm": 3.0, "gain": 2.0, "saturation": 5e4}
    one, two = (find_alignment(pair.source, pair.template, **given) for given in (units, plain))
    np.testing.assert_array_equal(one.transform(*GRID.T), two.transform(*GRID.T))
    one, two = (detect_stars(pair.source, **given) for given in (units, plain))
    np.testing.assert_array_equal(one["x"], two["x"])
    with pytest.raises(ValueError, match=r"^saturation is a data value, for the source a plain"):
        find_alignment(pair.source.data, pair.template.data, saturation=5e4 * u.adu)


@pytest.mark.parametrize(
    ("option", "error", "words"),
    [
        (
            {"treshold": 3},
            TypeError,
            r"^align\(\) has no option 'treshold'; did you mean threshold",
        ),
        ({"metod": "exact"}, TypeError, "did you mean method"),
        ({"method": "foo"}, ValueError, "^method must be one of nearest"),
        ({"fill_value": "x"}, TypeError, "^fill_value is a number"),
        ({"radius": 1}, ValueError, "^radius: only for catalogs of sky positions"),
    ],
)
def test_align_checks_its_options_first(option, error, words):
    with pytest.raises(error, match=words):
        align(None, None, **option)


def test_a_negative_is_told(make_sky_pair):
    pair = make_sky_pair()
    source = pair.source.data.max() - pair.source.data
    with pytest.raises(TooFewStarsError, match="source looks like a negative"):
        find_alignment(source, pair.template)
    with pytest.raises(TooFewStarsError, match="0 usable") as caught:
        find_alignment(np.random.default_rng(0).normal(size=source.shape), pair.template)
    assert "negative" not in str(caught.value)


def test_everything_has_one_base_class():
    for error in (CatalogError, ImageError, NoMatchError, TooFewStarsError):
        assert issubclass(error, AlignmentError)


@pytest.mark.parametrize("name", REAL_PAIRS)
def test_real_pair(real_pair, name):
    pair = real_pair(name)
    alignment = find_alignment(pair.source, pair.template)
    x, y = alignment.transform(*pair.source_xy.T)
    rms = np.sqrt(np.mean(np.sum((np.column_stack((x, y)) - pair.template_xy) ** 2, axis=1)))
    # The reference is a cubic fitted to these very stars.
    reference = float(pair.row["rms_poly_px"])
    assert rms < max(1.25 * reference, reference + 0.03)
    assert alignment.summary()["log_odds"] > 100


def test_dark_frame_is_refused(real_pair):
    pair = real_pair("tres1_dark_negative")
    with pytest.raises((NoMatchError, TooFewStarsError)):
        find_alignment(pair.source, pair.template)


def test_pairs_of_different_fields_are_refused(real_pair):
    one, two = real_pair("eso085_identity"), real_pair("tres1_2h")
    with pytest.raises(NoMatchError):
        find_alignment(one.source, two.template)


@pytest.mark.parametrize("change", ["turn", "mirror", "bin"])
def test_real_pair_in_another_guise(real_pair, change):
    pair = real_pair("tres1_4h")
    data = pair.source.data.astype(np.float32)
    ny, nx = data.shape
    x, y = pair.source_xy.T
    if change == "turn":
        data, xy = data[::-1, ::-1], np.column_stack((nx - 1 - x, ny - 1 - y))
    elif change == "mirror":
        data, xy = data[:, ::-1], np.column_stack((nx - 1 - x, y))
    else:
        data = data.reshape(ny // 2, 2, nx // 2, 2).sum(axis=(1, 3))
        xy = (np.column_stack((x, y)) - 0.5) / 2
    alignment = find_alignment(data, pair.template)
    found = np.column_stack(alignment.transform(*xy.T))
    assert np.sqrt(np.mean(np.sum((found - pair.template_xy) ** 2, axis=1))) < 0.13
    assert alignment.summary()["parity"] == (-1 if change == "mirror" else 1)


@pytest.mark.parametrize("name", ["uk001l_85min", "uk001l_107min", "als_m27_26min"])
def test_real_template_that_shows_a_part_of_the_source(real_pair, name):
    """Few stars match, at one side of a distorted frame: growth must not go astray."""
    pair = real_pair(name)
    ny, nx = pair.template.shape
    part = pair.template.data[ny // 5 : ny * 4 // 5, : nx * 2 // 3]
    template_xy = pair.template_xy - [0, ny // 5]
    on_it = np.all((template_xy > 0) & (template_xy < part.shape[::-1]), axis=1)
    alignment = find_alignment(pair.source, part)
    found = np.column_stack(alignment.transform(*pair.source_xy[on_it].T))
    distance = np.hypot(*(found - template_xy[on_it]).T)
    assert on_it.sum() > 20
    assert np.sqrt(np.mean(distance**2)) < 0.45
    assert distance.max() < 2
