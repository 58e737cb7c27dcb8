"""On which grid, and on which flux scale and sky, an image comes out."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS

from spalipy_astro import align, detect_stars, find_alignment
from spalipy_astro.alignment import output_of


def tan(shape, scale=1.0, crval=(150.0, 20.0)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cd = np.diag([-scale, scale]) / 3600
    wcs.wcs.crpix = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    wcs.wcs.crval = crval
    wcs.array_shape = shape
    wcs.wcs.set()
    return wcs


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(rotation=17, n_stars=300)


@pytest.fixture(scope="module")
def found(pair):
    return find_alignment(pair.source, pair.template)


def offsets(image, known, scale=1.0, start=(0, 0)):
    """Median distance of the brightest stars of an image from where they are known to be."""
    new, old = (detect_stars(one)[:50] for one in (image, known))
    x = (np.asarray(old["x"]) + 0.5) * scale - 0.5 - start[0]
    y = (np.asarray(old["y"]) + 0.5) * scale - 0.5 - start[1]
    dx, dy = np.asarray(new["x"])[:, None] - x, np.asarray(new["y"])[:, None] - y
    return float(np.median(np.hypot(dx, dy).min(axis=1)))


def test_intersection_has_no_pixel_without_data(found, pair):
    whole = found.resample(pair.source)
    part = found.resample(pair.source, output="intersection")
    assert whole.mask.any()
    assert not part.mask.any()
    grid = output_of(found, output="intersection")
    assert part.shape == grid.shape
    # none of its sides can move outwards
    (x0, y0), (ny, nx) = grid.offset, grid.shape
    height, width = whole.shape
    for x, y, h, w in ((x0 - 1, y0, ny, nx + 1), (x0, y0 - 1, ny + 1, nx)):
        assert min(x, y) < 0 or whole.mask[y : y + h, x : x + w].any()
    for h, w in ((ny, nx + 1), (ny + 1, nx)):
        beyond = y0 + h > height or x0 + w > width
        assert beyond or whole.mask[y0 : y0 + h, x0 : x0 + w].any()
    assert nx * ny > 0.3 * whole.data.size
    np.testing.assert_allclose(part.data, whole.data[y0 : y0 + ny, x0 : x0 + nx], rtol=1e-6)


def test_intersection_of_frames_that_lie_apart(found):
    apart = found.shifted(template=(10_000, 0))
    with pytest.raises(ValueError, match="no pixel in common"):
        output_of(apart, output="intersection")


@pytest.mark.parametrize("scale", [2, 0.5, 1.5])
def test_finer_grid(found, pair, scale):
    out = found.resample(pair.source, scale=scale)
    assert out.shape == tuple(round(n * scale) for n in pair.template.shape)
    assert offsets(out, pair.template, scale) < 0.15 * max(scale, 1)
    plain = found.resample(pair.source)
    total = np.nansum(np.asarray(out.data, float))
    assert total == pytest.approx(np.nansum(np.asarray(plain.data, float)), rel=0.01)


def test_grid_of_any_wcs(pair):
    template = CCDData(pair.template, wcs=tan(pair.template.shape), unit=pair.template.unit)
    found = find_alignment(pair.source, template)
    # finer, turned, and in another frame
    there = template.wcs.pixel_to_world(120.0, 90.0).galactic
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    wcs.wcs.cdelt = -0.7 / 3600, 0.7 / 3600
    wcs.wcs.crpix = 81, 71
    wcs.wcs.crval = there.l.deg, there.b.deg
    out = found.resample(pair.source, wcs=wcs, shape=(140, 160))
    assert out.shape == (140, 160)
    assert out.wcs.wcs.ctype[0] == "GLON-TAN"
    stars = detect_stars(out)[:30]
    sky = out.wcs.pixel_to_world(stars["x"], stars["y"])
    known = detect_stars(template)
    on_sky = template.wcs.pixel_to_world(known["x"], known["y"])
    near = SkyCoord(sky.icrs).match_to_catalog_sky(SkyCoord(on_sky.icrs))[1]
    assert np.median(near.arcsec) < 0.1


def test_grid_of_a_wcs_needs_a_sky(found, pair):
    with pytest.raises(ValueError, match="template has a celestial WCS"):
        found.resample(pair.source, wcs=tan((50, 50)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output": "intersection", "shape": (5, 5)}, "finds its own grid"),
        ({"scale": 0}, "scale"),
        ({"scale": 2, "wcs": 1}, "grid of its own"),
    ],
)
def test_senseless_grids(found, pair, options, words):
    with pytest.raises(ValueError, match=words):
        found.resample(pair.source, **options)


@pytest.fixture(scope="module")
def faint(pair):
    """The source through clouds, in moonlight: 0.4 of the flux, and 70 more of sky."""
    return CCDData(
        pair.source.data * 0.4 + 70.0,
        unit=pair.source.unit,
        uncertainty=StdDevUncertainty(np.full(pair.source.shape, 3.0)),
    )


def test_flux_ratio(found, faint, pair):
    ratio, error = find_alignment(faint, pair.template).flux_ratio
    whole, whole_error = found.flux_ratio
    assert ratio == pytest.approx(0.4 * whole, abs=4 * (0.4 * whole_error + error))
    assert 0 < error < 0.01
    assert found.inverse.flux_ratio[0] == pytest.approx(1 / whole, rel=1e-3)


def test_flux_and_sky_of_the_template(faint, pair):
    plain = find_alignment(faint, pair.template)
    out = align(faint, pair.template, scale_flux=True, match_background=True)
    new, old = (detect_stars(image) for image in (out, pair.template))
    assert new.meta["background"] == pytest.approx(old.meta["background"], abs=0.5)
    x, y = (np.asarray(old[name][:40]) for name in ("x", "y"))
    distance = np.hypot(np.asarray(new["x"])[:, None] - x, np.asarray(new["y"])[:, None] - y)
    near = distance.min(axis=0) < 0.5
    rows = distance.argmin(axis=0)[near]
    assert np.count_nonzero(near) > 15
    ratio = np.asarray(new["flux"])[rows] / np.asarray(old["flux"])[:40][near]
    assert np.median(ratio) == pytest.approx(1, abs=0.01)
    assert out.header["FLXSCALE"] == 1
    assert out.header["ALGNBACK"] == 0
    factor = 1 / plain.flux_ratio[0]
    untouched = plain.resample(faint)
    assert untouched.header["FLXSCALE"] == pytest.approx(factor)
    np.testing.assert_allclose(
        out.data, untouched.data * factor - untouched.header["ALGNBACK"], rtol=1e-5
    )
    np.testing.assert_allclose(
        out.uncertainty.array, untouched.uncertainty.array * factor, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("kind", "power"), [(StdDevUncertainty, 1), (VarianceUncertainty, 2), (InverseVariance, -2)]
)
def test_uncertainties_scale_along(faint, pair, kind, power):
    found = find_alignment(faint, pair.template)
    image = NDData(faint.data, uncertainty=kind(np.full(faint.shape, 4.0)))
    plain = found.resample(image).uncertainty.array
    scaled = found.resample(image, scale_flux=True).uncertainty.array
    good = plain > 0
    factor = (1 / found.flux_ratio[0]) ** power
    np.testing.assert_allclose(scaled[good], plain[good] * factor, rtol=1e-5)


def test_only_the_sky(faint, pair):
    found = find_alignment(faint, pair.template)
    out = found.resample(faint, match_background=True, fill_value=-9.0)
    assert np.all(out.data[out.mask] == -9.0)
    sky = float(np.median(out.data[~out.mask]))
    assert sky == pytest.approx(float(np.median(pair.template.data)), abs=2)
    # what is left to do: the flux, and what that does to the sky
    factor, back = out.header["FLXSCALE"], out.header["ALGNBACK"]
    assert sky * factor - back == pytest.approx(float(np.median(pair.template.data)), abs=2)


def test_surface_brightness_on_larger_pixels(faint, pair):
    """Without conservation of flux the area of the pixels counts."""
    found = find_alignment(faint, pair.template).binned(template=2)
    out = found.resample(faint, scale_flux=True, conserve_flux=False)
    known = found.resample(faint, scale_flux=True)
    np.testing.assert_allclose(out.data, known.data, rtol=2e-3)
    assert np.nanmedian(known.data) > 1.5 * np.nanmedian(faint.data)


def test_what_catalogs_do_not_tell(pair):
    tables = [detect_stars(image)["x", "y"] for image in (pair.source, pair.template)]
    found = find_alignment(*tables)
    assert np.isnan(found.flux_ratio).all()
    for option in ("scale_flux", "match_background"):
        with pytest.raises(ValueError, match=option):
            found.resample(pair.source, shape=(50, 50), **{option: True})


@pytest.fixture(scope="module")
def dimmed(faint, pair):
    """The alignment of the faint source on a template with a sky."""
    template = CCDData(pair.template, wcs=tan(pair.template.shape), unit=pair.template.unit)
    return find_alignment(faint, template)


@pytest.mark.parametrize("conserve_flux", [True, False])
@pytest.mark.parametrize("grid", [{"scale": 2}, {"scale": 0.5}, {"wcs": 0.8}])
def test_levels_are_those_of_the_grids_pixels(dimmed, faint, grid, conserve_flux):
    if "wcs" in grid:
        shape = tuple(round(n / grid["wcs"]) for n in dimmed.template_shape)
        grid = {"wcs": (tan(shape, grid["wcs"]), shape)}
    levels = {"scale_flux": True, "match_background": True, "conserve_flux": conserve_flux}
    out, plain = dimmed.resample(faint, **levels, **grid), dimmed.resample(faint, **levels)
    step = 1 / grid.get("scale", 1 / 0.8)
    size = out.wcs.proj_plane_pixel_scales()[0].to_value("arcsec")
    assert size == pytest.approx(step, rel=1e-6)
    area = step**2 if conserve_flux else 1.0
    # the sky of a pixel is that of the template in its area, stars have the template's flux
    new, old = (float(np.nanmedian(image.data)) for image in (out, plain))
    assert new == pytest.approx(old * area, rel=0.01)
    light, known = (
        np.nansum(np.asarray(image.data, float) - sky)
        for image, sky in ((out, old * area), (plain, old))
    )
    assert light == pytest.approx(known * area / step**2, rel=0.02)
    # nothing is left to do
    assert out.meta["FLXSCALE"] == pytest.approx(1)
    assert out.meta["ALGNBACK"] == pytest.approx(0, abs=1e-6)
    assert out.unit == plain.unit


@pytest.mark.parametrize("scale", [2, 0.6])
def test_the_cards_are_what_is_done(dimmed, faint, scale):
    plain = dimmed.resample(faint, scale=scale)
    done = dimmed.resample(faint, scale=scale, scale_flux=True, match_background=True)
    by_cards = plain.data * plain.meta["FLXSCALE"] - plain.meta["ALGNBACK"]
    np.testing.assert_allclose(by_cards[~done.mask], done.data[~done.mask], atol=0.02)


def test_drizzle_in_one_call(faint, pair):
    pytest.importorskip("drizzle")
    options = {"method": "drizzle", "pixfrac": 0.7, "weights": "ivar", "return_weights": True}
    out, weights = align(faint, pair.template, grid_scale=1.5, scale_flux=True, **options)
    assert out.shape == weights.shape == tuple(round(1.5 * n) for n in pair.template.shape)
    # 1 / variance per source pixel, spread over the finer ones
    middle = weights[200:300, 200:300]
    assert middle.mean() == pytest.approx(1 / 9 / 1.5**2, rel=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 2}, r"scale is \(smallest, largest\).*grid_scale=2"),
        ({"grid_scale": -1}, "grid_scale is output pixels"),
        ({"output": "middle"}, "output is 'template'"),
        ({"output": "union", "wcs": tan((9, 9))}, "wcs= is a grid of its own"),
        ({"grid_scale": 2, "wcs": tan((9, 9))}, "leave output and grid_scale out"),
        ({"pixfrac": 0.5}, "pixfrac is for method='drizzle'"),
    ],
)
def test_grids_are_checked_before_the_search(options, words):
    with pytest.raises(ValueError, match=words):
        align(None, None, **options)
