"""Nights that judge their frames: quality, the best template, rejection, one flux scale."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table

from spalipy_astro import Alignment, align_many, detect_stars

SIZE = 260
SKY = 300.0
NOISE = 5.0
FIELD = np.random.default_rng(5).uniform(-20, SIZE + 20, (90, 2))
FLUX = 10 ** np.random.default_rng(6).uniform(3.5, 5, 90)


def frame(
    seed,
    *,
    field=FIELD,
    fwhm=3.0,
    clouds=1.0,
    noise=NOISE,
    sky=SKY,
    stretch=1.0,
    angle=0.0,
    comet=None,
):
    """Return an image whose stars lie up to 10 px elsewhere, and where its pixel (0, 0) lies."""
    rng = np.random.default_rng(seed)
    dx, dy = rng.uniform(-10, 10, 2).round(3)
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    image = sky + rng.normal(0, noise, (SIZE, SIZE))
    sigma = fwhm / 2.3548
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    sources = [(*place, flux * clouds) for place, flux in zip(field, FLUX, strict=True)]
    if comet is not None:
        sources.append((*comet, 60000.0))
    reach = int(8 * sigma * stretch) + 1  # beyond which a star has no light
    for x0, y0, flux in sources:
        column, row = (max(int(at) - reach, 0) for at in (x0 + dx, y0 + dy))
        near = np.s_[row : row + 2 * reach + 2, column : column + 2 * reach + 2]
        u, v = x[near] - x0 - dx, y[near] - y0 - dy
        rr = ((c * u + s * v) / stretch) ** 2 + (c * v - s * u) ** 2
        image[near] += flux / (2 * np.pi * sigma**2 * stretch) * np.exp(-rr / (2 * sigma**2))
    return CCDData(image.astype("f4"), unit="adu")


@pytest.fixture(scope="module")
def template():
    return frame(0)


@pytest.fixture(scope="module")
def judged(template):
    sources = [
        frame(1, fwhm=4.5),
        frame(2, clouds=0.35),
        frame(3, stretch=2.0, angle=30.0),
        frame(4, noise=15.0, sky=700.0),
        np.full((60, 60), 3.0),
    ]
    return align_many(sources, template, progress=False)


def test_columns_tell_what_is_wrong(judged):
    assert list(judged["status"]) == ["ok"] * 4 + ["failed"]
    np.testing.assert_allclose(judged["fwhm"][[0, 1, 3]], [4.5, 3.0, 3.0], rtol=0.03)
    np.testing.assert_allclose(judged["ellipticity"][:4], [0, 0, 0.5, 0], atol=0.06)
    assert judged["orientation"][2] == pytest.approx(30, abs=3)
    np.testing.assert_allclose(judged["background"][:4], [SKY, SKY, SKY, 700], rtol=0.02)
    np.testing.assert_allclose(judged["noise"][:4], [5, 5, 5, 15], rtol=0.1)
    np.testing.assert_allclose(judged["flux_ratio"][:4], [1, 0.35, 1, 1], rtol=0.01)
    assert (judged["flux_ratio_err"][:4] < 0.01).all()
    assert judged["n_stars"][1] < judged["n_stars"][0] + 5
    # what the noise in the area of a star is
    expected = 5 * NOISE * np.sqrt(4 * np.pi) * 3.0 / 2.3548
    assert judged["depth"][1] == pytest.approx(expected, rel=0.3)
    assert judged["n_stars"][4] == 0
    assert np.isnan(judged["fwhm"][4])
    assert np.isnan(judged["exptime"]).all()


def test_a_frame_of_another_sky_has_a_quality(template):
    other = frame(7, field=np.random.default_rng(9).uniform(0, SIZE, (90, 2)))
    table = align_many([other], template, progress=False)
    assert table["status"][0] == "failed"
    assert table["n_stars"][0] > 3
    assert np.isfinite(table["fwhm"][0])


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
@pytest.mark.parametrize(
    "kinds",
    [
        [{"fwhm": 4.0}, {"fwhm": 2.6}, {"fwhm": 3.5}, {"fwhm": 5.0}],
        [{"noise": 20}, {"noise": 5}, {"noise": 40}, {"noise": 10}],
        [{"clouds": 0.4}, {}, {"clouds": 0.6}, {"clouds": 0.3}],
        [{"stretch": 1.8}, {}, {"stretch": 1.6}, {"stretch": 2.2}],
    ],
    ids=["seeing", "noise", "clouds", "trails"],
)
def test_the_best_template(order, kinds):
    frames = [frame(20 + k, **kinds[k]) for k in order]
    table = align_many(frames, "best", progress=False)
    assert table.meta["template"] == order.index(1)
    assert "FWHM" in table.meta["template_reason"]


def test_the_best_template_shows_the_field_of_the_others():
    frames = [frame(k) for k in range(4)]
    frames.insert(0, CCDData(frames[0].data[:, :90], unit="adu"))
    table = align_many(frames, "best", progress=False)
    assert table.meta["template"] != 0


def test_rejected_frames_are_not_resampled(template, tmp_path):
    sources = [frame(k) for k in range(1, 5)] + [frame(6, fwhm=5.0), frame(7, clouds=0.3)]
    options = {"output": tmp_path, "reject": {"fwhm": "4 sigma", "flux_ratio": 0.5}}
    table = align_many(sources, template, progress=False, **options)
    assert list(table["status"]) == ["ok"] * 4 + ["rejected"] * 2
    assert table["reason"][4].startswith("fwhm is")
    assert table["reason"][5].startswith("flux_ratio is")
    assert list(table["aligned"][4:]) == ["", ""]
    assert len(list(tmp_path.glob("*_aligned.fits"))) == 4
    # known for what they are
    assert np.isfinite(table["fwhm"]).all()
    again = align_many(sources, template, progress=False, **options)
    assert list(again["status"]) == list(table["status"])
    assert list(again["resumed"]) == [True] * 6
    for name in ("fwhm", "flux_ratio", "depth", "n_stars"):
        np.testing.assert_array_equal(again[name], table[name])


def test_headers_keep_the_figures(template, tmp_path):
    table = align_many([frame(1)], template, output=tmp_path, alignments=False, progress=False)
    again = align_many([frame(1)], template, output=tmp_path, alignments=False, progress=False)
    assert again["resumed"][0]
    for name in ("fwhm", "ellipticity", "depth", "flux_ratio", "n_stars", "background"):
        assert again[name][0] == pytest.approx(table[name][0])
    header = fits.getheader(table["aligned"][0])
    assert header["FLXSCALE"] == pytest.approx(1 / table["flux_ratio"][0])


def test_intersection_of_all(template, tmp_path):
    sources = [frame(k) for k in range(1, 5)]
    table = align_many(sources, template, output=tmp_path, grid="intersection", progress=False)
    ny, nx = table.meta["shape"]
    assert SIZE - 25 < nx < SIZE - 2
    assert SIZE - 25 < ny < SIZE - 2
    for path in table["aligned"]:
        image = CCDData.read(path)
        assert image.shape == (ny, nx)
        assert not image.mask.any()
    with pytest.raises(ValueError, match="'intersection'"):
        align_many(sources, template, grid="smallest")


def test_one_flux_scale_and_one_sky(template, tmp_path):
    sources = [frame(1, clouds=0.5), frame(2, sky=900.0)]
    options = {"scale_flux": True, "match_background": True, "grid": "intersection"}
    table = align_many(sources, template, output=tmp_path, progress=False, **options)
    (x0, y0), (ny, nx) = table.meta["offset"], table.meta["shape"]
    cut = template.data[y0 : y0 + ny, x0 : x0 + nx]
    for path, noise in zip(table["aligned"], (2.3 * NOISE, 1.5 * NOISE), strict=True):
        rest = CCDData.read(path).data - cut
        assert np.median(rest) == pytest.approx(0, abs=0.5)
        # equal seeing: nothing is left of the stars but their noise
        assert np.std(rest) < noise


def test_a_moving_target(template, tmp_path):
    start = 60000.0
    time = start + np.linspace(0, 0.1, 5)
    path = np.column_stack((60 + 120 * np.linspace(0, 1, 5), 200 - 90 * np.linspace(0, 1, 5)))
    frames = [frame(10 + k, comet=path[k]) for k in range(5)]
    for image, mjd in zip(frames, time, strict=True):
        image.header["MJD-OBS"] = mjd - 15 / 86400
        image.header["EXPTIME"] = 30.0
    # where it is on the first frame, which is the template
    on_template = path + (detect_offset(frames[0]))
    table = Table({"time": time[[0, 4]], "x": on_template[[0, 4], 0], "y": on_template[[0, 4], 1]})
    found = align_many(frames, frames[0], output=tmp_path, target=table, progress=False)
    assert list(found["status"]) == ["ok"] * 5
    for k, (image, asdf) in enumerate(zip(found["aligned"], found["asdf"], strict=True)):
        stars = detect_stars(CCDData.read(image))
        near = np.hypot(stars["x"] - on_template[0, 0], stars["y"] - on_template[0, 1])
        assert near.min() < 0.05
        dx, dy = on_template[0] - on_template[k]
        header = fits.getheader(image)
        assert (header["ALGNTGX"], header["ALGNTGY"]) == pytest.approx((dx, dy), abs=1e-3)
        alignment = Alignment.read(asdf)
        assert alignment.provenance["target_shift"] == pytest.approx([dx, dy], abs=1e-3)
    again = align_many(frames, frames[0], output=tmp_path, target=table, progress=False)
    assert all(again["resumed"])


def detect_offset(image):
    """Where the field's origin lies on a frame."""
    stars = detect_stars(image)
    brightest = np.column_stack((stars["x"], stars["y"]))
    best = FIELD[np.argsort(-FLUX)[:30]]
    shifts = (brightest[:40, None] - best[None]).reshape(-1, 2)
    near = (np.abs(shifts) < 12).all(axis=1)
    counts = (np.abs(shifts[near][:, None] - shifts[near][None]) < 0.2).all(axis=2).sum(axis=1)
    crowd = shifts[near][counts.argmax()]
    return np.median(shifts[(np.abs(shifts - crowd) < 0.2).all(axis=1)], axis=0)


def test_a_target_needs_the_time(template):
    table = Table({"time": [60000.0, 60000.1], "x": [1.0, 2.0], "y": [1.0, 2.0]})
    found = align_many([frame(1)], template, target=table, progress=False)
    assert found["status"][0] == "failed"
    assert "does not tell when" in found["reason"][0]
