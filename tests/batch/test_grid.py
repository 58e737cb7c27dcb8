"""Grids of a batch: finer pixels, any WCS, drizzle with its weight map."""

from __future__ import annotations

import astropy.units as u
import gwcs
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from astropy.wcs import WCS
from gwcs.coordinate_frames import Frame2D

from spalipy_astro import align_many, detect_stars
from spalipy_astro.io import read_image
from spalipy_astro.wcs import sky_transform

SHAPE = (120, 150)


def tan(shape=SHAPE, scale=1.0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cdelt = -scale / 3600, scale / 3600
    wcs.wcs.crpix = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    wcs.wcs.crval = 150.0, 20.0
    wcs.array_shape = shape
    return wcs


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Two frames, the second shifted by some pixels from the first, which has a WCS."""
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(5)
    xy, flux = rng.uniform(-5, 155, (50, 2)), 10 ** rng.uniform(3.6, 5, 50)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    paths = []
    for k, (dx, dy) in enumerate([(0, 0), (-3.7, 5.2)]):
        image = rng.normal(100, 4, SHAPE)
        for (x0, y0), total in zip(xy, flux, strict=True):
            rr = (x - x0 - dx) ** 2 + (y - y0 - dy) ** 2
            image += total / (2 * np.pi * 1.4**2) * np.exp(-rr / (2 * 1.4**2))
        header = fits.Header({"MJD-OBS": 60000 + k / 100, "EXPTIME": 30.0})
        frame = CCDData(
            image.astype("f4"),
            unit="adu",
            wcs=tan() if k == 0 else None,
            meta=header,
            uncertainty=StdDevUncertainty(np.full(SHAPE, np.float32(4))),
        )
        paths.append(folder / f"frame{k}.fits")
        frame.write(paths[-1])
    return paths


def stars_of(path):
    """Read the world positions of the brightest stars of an aligned image."""
    image = read_image(path)
    stars = detect_stars(image)[:25]
    return image, image.wcs.pixel_to_world(stars["x"], stars["y"])


@pytest.mark.parametrize(
    ("options", "shape", "size"),
    [
        ({"grid_scale": 2}, (240, 300), 0.5),
        ({"grid_scale": 0.5, "grid": "union"}, None, 2.0),
        ({"grid_scale": 1.5, "grid": "intersection"}, None, 1 / 1.5),
        ({"wcs": (tan((130, 140), 0.8), (130, 140))}, (130, 140), 0.8),
    ],
)
def test_grid_of_all_frames(night, tmp_path, options, shape, size):
    table = align_many(night, night[0], output=tmp_path, **options)
    assert list(table["status"]) == ["ok"] * 2
    assert shape is None or table.meta["shape"] == shape
    known = stars_of(night[0])[1]
    sky = []
    for row in table:
        image, stars = stars_of(row["aligned"])
        assert image.shape == table.meta["shape"]
        scale = image.wcs.proj_plane_pixel_scales()[0].to_value(u.arcsec)
        assert scale == pytest.approx(size, rel=1e-6)
        assert np.median(stars.match_to_catalog_sky(known)[1].arcsec) < 0.1
        sky.append(image)
    if options.get("grid") == "intersection":
        assert not any(image.mask.any() for image in sky)


def test_another_grid_is_another_result(night, tmp_path):
    def reason(**options):
        return align_many(night[1:], night[0], output=tmp_path, **options)["reason"][0]

    grids = [{"wcs": tan(scale=0.8)}, {"wcs": tan()}, {"grid_scale": 1.5}, {}]
    assert reason(**grids[0]) == ""
    assert align_many(night[1:], night[0], output=tmp_path, **grids[0])["resumed"].all()
    assert all("was not made from" in reason(**options) for options in grids[1:])


def test_gwcs_and_worker_processes(night, tmp_path):
    model, sky = sky_transform(tan((80, 90), 1.2))
    grid = gwcs.WCS([(Frame2D(name="pixels", unit=(u.pix, u.pix)), model), (sky, None)])
    options = {"wcs": (grid, (80, 90)), "n_workers": 2, "executor": "threads"}
    table = align_many(night, night[0], output=tmp_path, **options)
    assert list(table["status"]) == ["ok"] * 2
    image, stars = stars_of(table["aligned"][1])
    assert image.shape == (80, 90)
    assert np.median(stars.match_to_catalog_sky(stars_of(night[0])[1])[1].arcsec) < 0.1


def test_drizzled_files_have_their_weights(night, tmp_path):
    pytest.importorskip("drizzle")
    options = {"method": "drizzle", "pixfrac": 0.8, "weights": "ivar", "grid_scale": 1.5}
    table = align_many(night, night[0], output=tmp_path, **options)
    for row in table:
        with fits.open(row["aligned"]) as hdus:
            weights = hdus["WHT"].data
            assert weights.shape == hdus[0].shape == (180, 225)
            assert weights[60:120, 60:120].mean() == pytest.approx(1 / 16 / 2.25, rel=0.02)
            assert not weights[hdus["MASK"].data.astype(bool) & (weights == 0)].any()
    with pytest.raises(ValueError, match="weights='ivar' needs an image with an uncertainty"):
        align_many([np.zeros((50, 60)), CCDData(np.zeros((50, 60)), unit="adu")], None, **options)
    with pytest.raises(ValueError, match="weights is 'ivar' or None in a batch"):
        align_many(night, night[0], method="drizzle", weights=np.ones(SHAPE))


def test_follows_a_target_on_a_finer_grid(night, tmp_path):
    target = Table({"time": [60000.0, 60000.01], "x": [50.0, 60.0], "y": [60.0, 40.0]})
    table = align_many(night, night[0], output=tmp_path, target=target, grid_scale=2)
    plain = align_many(night, night[0], output=tmp_path / "plain", grid_scale=2)
    moved, still = (
        np.fft.fft2(np.nan_to_num(read_image(one["aligned"][1]).data - 25))
        for one in (table, plain)
    )
    correlation = np.fft.ifft2(moved * still.conj()).real
    dy, dx = np.unravel_index(correlation.argmax(), correlation.shape)
    # -10 px in x and 20 px in y of the template, back to where the target was
    assert (dx - correlation.shape[1], dy) == (-20, 40)


def test_a_target_that_leaves_the_frame(night):
    target = Table({"time": [60000.0, 60000.01], "x": [50.0, 600.0], "y": [60.0, 40.0]})
    table = align_many(night, night[0], target=target)
    assert list(table["status"]) == ["ok", "failed"]
    assert "the target is not on this frame: at the middle" in table["reason"][1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"grid_scale": 0}, "grid_scale is output pixels"),
        ({"grid": "union", "wcs": tan()}, "leave grid and grid_scale out"),
        ({"wcs": tan().to_header()}, "no shape of its own"),
        ({"scale": 2}, "grid_scale=2"),
        ({"kernel": "point"}, "kernel is for method='drizzle'"),
    ],
)
def test_grids_are_checked_first(options, words):
    with pytest.raises(ValueError, match=words):
        align_many(["there is none.fits"], "nor this.fits", **options)


def test_a_template_without_a_sky(night):
    with pytest.raises(ValueError, match="wcs= needs a template with a celestial WCS"):
        align_many(night, night[1], wcs=tan())
