"""The coadd of a group: values worked out by hand, on groups whose transforms are given."""

from __future__ import annotations

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.modeling.models import AffineTransformation2D
from astropy.nddata import CCDData, InverseVariance, NDData, StdDevUncertainty, VarianceUncertainty
from astropy.table import QTable

from spalipy_astro import Alignment, GroupAlignment

SHAPE = (40, 60)


def group_of(models, shape=SHAPE, component=None, wcs=None):
    """Make a group of transforms to the grid of the first frame."""
    alignments = [
        Alignment.from_transform(model, source_shape=shape, template_shape=shape, wcs=wcs)
        for model in models
    ]
    n = len(models)
    table = QTable(
        {
            "source": [str(k) for k in range(n)],
            "status": ["ok"] * n,
            "component": component or [0] * n,
        }
    )
    return GroupAlignment(0, alignments, table, QTable())


def moved(x, y, scale=1.0, degrees=0.0):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return AffineTransformation2D(scale * np.array([[c, -s], [s, c]]), [x, y])


@pytest.fixture(scope="module")
def shifted():
    """Three frames, 20 px apart: columns 40 to 59 of the canvas are seen by all of them."""
    return group_of([moved(20 * k, 0) for k in range(3)])


def constant(*values):
    return [CCDData(np.full(SHAPE, float(value)), unit="adu") for value in values]


@pytest.mark.parametrize(
    ("combine", "value"),
    [
        ("mean", 6.0),
        ("median", 5.0),
        ("sum", 18.0),
        ("min", 1.0),
        ("max", 12.0),
        ("first", 5.0),
        ("last", 1.0),
    ],
)
def test_how_pixels_are_combined(shifted, combine, value):
    canvas, footprint = shifted.coadd(
        constant(5, 12, 1), combine=combine, match_background=False, feather=0
    )
    assert canvas.shape == footprint.shape == (40, 100)
    assert canvas.data[20, 50] == pytest.approx(value)
    assert canvas.data[20, 5] == pytest.approx(5)
    assert [footprint[20, x] for x in (5, 30, 50, 70, 90)] == [1, 2, 3, 2, 1]
    assert not canvas.mask.any()


def test_median_of_two_is_their_mean(shifted):
    frames, options = constant(5, 12, 1), {"combine": "median", "match_background": False}
    assert shifted.coadd(frames, feather=0, **options)[0].data[20, 30] == pytest.approx(8.5)
    one = shifted.coadd(frames, **options)[0].data[20, 20:40]
    two = shifted.coadd(frames, combine="mean", match_background=False)[0].data[20, 20:40]
    assert np.array_equal(one, two)  # weighted near edges as a mean is


def test_errors_of_what_is_combined(shifted):
    frames = constant(5, 12, 1)
    for frame, sigma in zip(frames, (3.0, 4.0, 5.0), strict=True):
        frame.uncertainty = StdDevUncertainty(np.full(SHAPE, sigma))
    frames[2].uncertainty = VarianceUncertainty(np.full(SHAPE, 25.0))
    expected = {
        "mean": np.sqrt(50) / 3,
        "sum": np.sqrt(50),
        "median": np.sqrt(50 * np.pi / 2) / 3,
        "max": 4.0,
        "first": 3.0,
    }
    for combine, sigma in expected.items():
        canvas, _ = shifted.coadd(
            frames, combine=combine, match_background=False, method="nearest", feather=0
        )
        assert isinstance(canvas.uncertainty, StdDevUncertainty)
        assert canvas.uncertainty.array[20, 50] == pytest.approx(sigma)
    frames[1].uncertainty = None
    assert shifted.coadd(frames)[0].uncertainty is None


@pytest.mark.parametrize("combine", ["mean", "median", "sum", "max"])
def test_inverse_variances_of_zero_are_bad_pixels(shifted, combine):
    """They are where weight maps have no data; no warning of a division comes of them."""
    images = constant(2, 4, 9)
    for image in images:
        image.uncertainty = InverseVariance(np.full(SHAPE, 0.25))
    images[0].uncertainty.array[20, 50] = 0.0
    images[0].data[20, 50] = 1e6
    options = {"match_background": False, "method": "nearest", "feather": 0}
    canvas, footprint = shifted.coadd(images, combine=combine, **options)
    assert footprint[20, 50] == 2
    assert footprint[20, 49] == 3
    value, error = {"sum": (13.0, 8**0.5), "max": (9.0, 2.0)}.get(combine, (6.5, 2**0.5))
    assert canvas.data[20, 50] == pytest.approx(value)
    assert canvas.uncertainty.array[20, 50] == pytest.approx(error)
    assert np.isfinite(canvas.uncertainty.array[footprint > 0]).all()


def test_masked_and_missing_pixels_do_not_count(shifted):
    frames = constant(5, 12, 1)
    frames[1].mask = np.zeros(SHAPE, bool)
    frames[1].mask[20, 30] = True  # column 50 of the canvas
    frames[2].data[20, 10] = np.nan  # so that is this
    canvas, footprint = shifted.coadd(frames, match_background=False, method="nearest")
    assert canvas.data[20, 50] == 5
    assert footprint[20, 50] == 1
    frames[0].mask = np.zeros(SHAPE, bool)
    frames[0].mask[20, 50] = True
    canvas, footprint = shifted.coadd(frames, match_background=False, method="nearest")
    assert np.isnan(canvas.data[20, 50])
    assert canvas.mask[20, 50]
    assert canvas.mask.sum() == 1
    assert footprint[20, 50] == 0


def test_backgrounds_agree_and_the_reference_keeps_its_own(shifted):
    rng = np.random.default_rng(1)
    sky = np.pad(rng.normal(0, 1, (40, 100)), 0)
    frames = [
        CCDData(sky[:, 20 * k : 20 * k + 60] + level, unit="adu")
        for k, level in enumerate((100.0, 250.0, 40.0))
    ]
    canvas, _ = shifted.coadd(frames, method="nearest")
    assert np.allclose(canvas.data, sky + 100, atol=1e-9)


def slope(k, along_x, along_y, level):
    """Return a plane on frame k, as a frame shows it."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return level + along_x * x + along_y * y


def test_gradients_agree_where_planes_are_matched(shifted):
    """To the bit of rounding without noise; the reference keeps its own gradient."""
    rng = np.random.default_rng(1)
    sky = rng.normal(0, 1, (40, 100))
    planes = [(0.1, 0.0, 100.0), (-0.5, 0.3, 250.0), (0.2, -0.4, 40.0)]
    frames = [
        CCDData(sky[:, 20 * k : 20 * k + 60] + slope(k, *plane), unit="adu")
        for k, plane in enumerate(planes)
    ]
    truth = sky + 100 + 0.1 * np.arange(100)
    flat, _ = shifted.coadd(frames, method="nearest")
    canvas, _ = shifted.coadd(frames, method="nearest", match_background="plane")
    assert np.abs(canvas.data - truth).max() < 1e-8
    assert np.abs(flat.data - truth).max() > 10
    with pytest.raises(ValueError, match="match_background is True, False or 'plane'"):
        shifted.coadd(frames, match_background="planes")


def test_planes_of_frames_that_hardly_overlap_stay_small():
    """What a corner does not determine is left flat, not made up."""
    rng = np.random.default_rng(2)
    frames = [CCDData(rng.normal(level, 1, SHAPE), unit="adu") for level in (10.0, 30.0)]
    for corner in (2, 4, 8, 14):
        group = group_of([moved(0, 0), moved(60 - corner, 40 - corner)])
        canvas, footprint = group.coadd(frames, method="nearest", match_background="plane")
        assert np.abs(canvas.data[footprint > 0] - 10).max() < 8
    alone = group_of([moved(0, 0), moved(500, 0)])
    found, plain = (
        alone.coadd(frames, method="nearest", match_background=match)[0].data
        for match in ("plane", True)
    )
    assert np.allclose(found, plain, atol=1e-9, equal_nan=True)


def test_gradients_are_found_through_noise():
    """
    Panels with half of a frame in common; by constants they are off by 14.

    By planes the last one is off by 0.31 times the noise of a pixel (rms of 20 seeds, also for five
    times the noise), since slopes add up along the chain.
    """
    rng = np.random.default_rng(3)
    shape, step = (120, 140), 70
    group = group_of([moved(step * k, 0) for k in range(4)], shape=shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    frames = [
        CCDData(rng.normal(100, 1, shape) + (0.2 * x - 0.1 * y) * (-1) ** k * (k > 0), unit="adu")
        for k in range(4)
    ]
    canvas, _ = group.coadd(frames, method="nearest", match_background="plane")
    flat, _ = group.coadd(frames, method="nearest")
    off, before = (
        max(abs(np.median(c.data[:, i : i + step]) - 100) for i in range(0, 5 * step, step))
        for c in (canvas, flat)
    )
    assert off < 3 * 0.31
    assert before > 13


@pytest.mark.parametrize("last", [False, True])
def test_each_color_has_a_background_of_its_own(shifted, last):
    levels = np.array([[100.0, 20, 3], [250, 10, 7], [40, 15, 1]])
    frames = [np.broadcast_to(row[:, None, None], (3, *SHAPE)).copy() for row in levels]
    frames = [np.moveaxis(f, 0, -1) for f in frames] if last else frames
    canvas, footprint = shifted.coadd(frames, method="nearest")
    assert canvas.shape == ((40, 100, 3) if last else (3, 40, 100))
    assert footprint.shape == (40, 100)
    data = np.moveaxis(canvas.data, -1, 0) if last else canvas.data
    assert np.allclose(data, levels[0][:, None, None], atol=1e-9)


def test_surface_brightness_keeps_its_value_and_counts_their_sum():
    group = group_of([moved(0, 0), moved(30, 0, scale=2)])
    values = np.full(SHAPE, 8.0)
    for unit, expected in (("MJy / sr", 8.0), ("electron", 2.0)):
        frames = [CCDData(values, unit=unit)] * 2
        canvas, footprint = group.coadd(frames, match_background=False)
        assert canvas.unit == u.Unit(unit)
        assert canvas.data[50, 100] == pytest.approx(expected)
        assert footprint[50, 100] == 1


def test_units_are_converted_or_refused(shifted):
    frames = constant(5, 12, 1)
    frames = [
        CCDData(f.data, unit=unit) for f, unit in zip(frames, ("Jy", "mJy", "Jy"), strict=True)
    ]
    canvas, _ = shifted.coadd(frames, match_background=False, feather=0)
    assert canvas.data[20, 30] == pytest.approx((5 + 0.012) / 2)
    frames[2] = CCDData(frames[2].data, unit="adu")
    with pytest.raises(ValueError, match=r"images\[2\] is in adu, and those before it in Jy"):
        shifted.coadd(frames)


def test_temporary_files_change_no_bit(shifted):
    rng = np.random.default_rng(2)
    frames = [CCDData(rng.normal(50, 5, SHAPE).astype("f4"), unit="adu") for _ in range(3)]
    for frame in frames:
        frame.uncertainty = StdDevUncertainty(np.full(SHAPE, 5, "f4"))
    found = [shifted.coadd(frames, combine="median", mem_limit=limit) for limit in (1e9, 1)]
    assert found[0][0].data.dtype == np.float32
    for one, two in (
        [canvas.data for canvas, _ in found],
        [canvas.uncertainty.array for canvas, _ in found],
        [footprint for _, footprint in found],
    ):
        assert np.array_equal(one, two)


def test_frames_are_read_from_files_one_by_one(shifted, tmp_path):
    paths = []
    for k, frame in enumerate(constant(5, 12, 1)):
        frame.header = fits.Header({"FILTER": "R", "EXPTIME": 30.0, "SEQ": k})
        paths.append(tmp_path / f"{k}.fits")
        frame.write(paths[-1])
    canvas, _ = shifted.coadd(paths, match_background=False, feather=0)
    assert canvas.data[20, 50] == pytest.approx(6)
    assert (canvas.header["FILTER"], canvas.header["NCOMBINE"]) == ("R", 3)
    assert "SEQ" not in canvas.header
    paths[1].unlink()
    with pytest.raises(FileNotFoundError, match=r"images\[1\]"):
        shifted.coadd(paths)


def star(shape, x, y, flux, sigma=1.4):
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    return flux / (2 * np.pi * sigma**2) * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 2 / sigma**2)


@pytest.mark.parametrize("combine", ["mean", "median"])
@pytest.mark.parametrize("flip", [0, 180])
def test_stars_keep_their_flux_across_seams(combine, flip):
    shape = (90, 120)
    middle = (59.5, 44.5)
    models = [moved(0, 0)]
    for x, y, degrees, scale in ((85, 3, 2 + flip, 1.01), (40, 60, -3, 0.99)):
        turn = moved(0, 0, scale, degrees)
        at = np.add(middle, (x, y)) - turn.matrix.value @ middle
        models.append(AffineTransformation2D(turn.matrix.value, at))
    group = group_of(models, shape)
    stars = [(x, y) for x in (20, 50, 86, 99, 119, 150) for y in (15, 44, 62, 89)]
    frames = []
    for model, sky in zip(models, (200, 500, 120), strict=True):
        frame = np.full(shape, float(sky))
        for x, y in stars:
            # its flux is that of the sky, its width in px follows the scale
            frame += star(shape, *model.inverse(x, y), 1e4)
        frames.append(CCDData(frame, unit="electron"))
    canvas, footprint = group.coadd(frames, combine=combine)
    on_seam = []
    for x, y in stars:
        x, y = x - group.offset[0], y - group.offset[1]
        box = np.s_[y - 8 : y + 9, x - 8 : x + 9]
        data = canvas.data[box]
        if data.shape == (17, 17) and np.isfinite(data).all():
            assert np.sum(data - 200) == pytest.approx(1e4, rel=3e-3)
            on_seam.append(np.ptp(footprint[box]) > 0)
    assert sum(on_seam) >= 8


@pytest.mark.parametrize("combine", ["mean", "median"])
def test_frames_of_different_seeing_pass_into_each_other(combine):
    group = group_of([moved(0, 0), moved(110, 0)], (200, 240))
    frames = [
        star((200, 350), 114, 100, 1e4, sigma)[:, part] + 50
        for sigma, part in ((1.2, np.s_[:240]), (1.6, np.s_[110:]))
    ]
    ratio = []
    for feather in (None, 0):
        canvas, _ = group.coadd(frames, feather=feather, combine=combine)
        ratio.append(np.sum(canvas.data[90:111, 104:125] - 50) / 1e4)
    assert ratio[0] == pytest.approx(1, abs=1.5e-3)
    assert abs(ratio[1] - 1) > 0.02


def test_fluxes_are_brought_to_those_of_the_reference():
    group = group_of([moved(0, 0), moved(30, 0)])
    one = star((40, 90), 45, 20, 1e4) + 100
    frames = [CCDData(one[:, :60], unit="adu"), CCDData(0.5 * one[:, 30:] + 10, unit="adu")]
    matches = QTable(group.alignments[1].matches)
    n = 5
    rows = {name: np.zeros(n) for name in matches.colnames}
    rows |= {"flux_source": np.full(n, 50.0), "flux_template": np.full(n, 100.0)}
    rows["used"] = np.ones(n, bool)
    group.alignments[1] = replace(group.alignments[1], matches=QTable(rows))
    rows["flux_source"] = rows["flux_template"]
    group.alignments[0] = replace(group.alignments[0], matches=QTable(rows))
    canvas, _ = group.coadd(frames, scale_flux=True, method="nearest")
    assert np.allclose(canvas.data, one, atol=1e-6)


def test_each_component_has_its_canvas():
    group = group_of([moved(0, 0), moved(5, 0), moved(0, 0), moved(0, 7)], component=[0, 0, 1, 1])
    canvas, _ = group.coadd(constant(1, 1, 9, 9), component=1)
    assert canvas.shape == group.canvas(1).shape == (47, 60)
    assert np.nanmean(canvas.data) == pytest.approx(9)
    assert group.shape == (40, 65)
    with pytest.raises(ValueError, match="component is a number from 0 to 1"):
        group.coadd(constant(1, 1, 9, 9), component=2)


def test_reproject_takes_the_inputs_and_agrees():
    from reproject import reproject_interp
    from reproject.mosaicking import reproject_and_coadd

    group = group_of([moved(0, 0), moved(31.5, 4.25)])
    yy, xx = np.mgrid[:60, :120]
    sky = np.sin(xx / 7) + np.cos(yy / 6)
    x, y = np.mgrid[:40, :60][::-1]
    second = np.sin((x + 31.5) / 7) + np.cos((y + 4.25) / 6)
    frames = [sky[:40, :60], second]
    inputs, projection, shape = group.coadd_inputs(frames)
    mosaic, footprint = reproject_and_coadd(
        inputs, projection, shape_out=shape, reproject_function=reproject_interp, order="bicubic"
    )
    canvas, ours = group.coadd(frames, match_background=False)
    both = (footprint > 0) & np.isfinite(canvas.data)
    inside = both & (footprint == ours)
    assert inside.sum() > 0.9 * (ours > 0).sum()
    assert np.abs(mosaic - canvas.data)[inside].max() < 0.02


def test_wcs_of_the_canvas():
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150, 2]
    wcs.wcs.crpix, wcs.wcs.cdelt = [10, 20], [-1e-4, 1e-4]
    group = group_of([moved(0, 0), moved(-30, -4)], wcs=wcs)
    canvas, _ = group.coadd(constant(3, 3))
    assert group.offset == (-30, -4)
    expected = wcs.pixel_to_world_values(0, 0)
    assert np.allclose(canvas.wcs.pixel_to_world_values(30, 4), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"combine": "mode"}, "combine is one of mean, median, sum, min, max, first, last; got"),
        ({"mem_limit": 0}, "mem_limit is a number of bytes"),
        ({"feather": -1}, "feather is a number of px, 0 or more; got -1"),
        ({"method": "cubic"}, "method"),
    ],
)
def test_misuse_is_explained(shifted, options, message):
    with pytest.raises(ValueError, match=message):
        shifted.coadd(constant(1, 2, 3), **options)


def test_images_that_do_not_fit_are_named(shifted):
    with pytest.raises(ValueError, match="images: 2 of them for 3 frames"):
        shifted.coadd(constant(1, 2))
    frames = constant(1, 2, 3)
    frames[1] = np.ones((40, 61))
    with pytest.raises(ValueError, match=r"images\[1\] has shape \(40, 61\)"):
        shifted.coadd(frames)
    frames[1] = np.ones((3, 40, 60))
    with pytest.raises(ValueError, match=r"images\[1\] has 3 colors or planes, images\[0\] has 1"):
        shifted.coadd(frames)


@pytest.mark.parametrize("units", [("Jy", "Jy", "Jy"), ("mJy", "Jy", "mJy")])
def test_background_is_that_of_the_reference_in_any_unit(shifted, units):
    images = [
        CCDData((np.full(SHAPE, value) * u.Jy).to(unit))
        for value, unit in zip((5.0, 12.0, 1.0), units, strict=True)
    ]
    canvas, _ = replace(shifted, reference=1).coadd(images)
    assert canvas.unit == u.Unit(units[0])
    assert canvas.data[20, 50] * canvas.unit.to(u.Jy) == pytest.approx(12.0, rel=1e-5)


def test_nddata_is_combined_as_ccddata_is(shifted):
    masks = np.zeros(SHAPE, bool)
    masks[3, 4] = True
    spread = np.full(SHAPE, 2.0)
    found = [
        shifted.coadd(
            [
                kind(i.data, mask=masks, uncertainty=StdDevUncertainty(spread), unit="adu")
                for i in constant(5, 12, 1)
            ]
        )[0]
        for kind in (CCDData, NDData)
    ]
    np.testing.assert_array_equal(found[0].data, found[1].data)
    np.testing.assert_array_equal(found[0].uncertainty.array, found[1].uncertainty.array)
