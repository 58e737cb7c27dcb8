"""Files with several chips: one geometry, one pointing an exposure, and back to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal

from spalipy_astro import GroupAlignment, align_group

NY, NX = 150, 170
PLACES = {1: (-90.0, 2.0), 2: (91.5, -1.0)}  # of the chips, by EXTVER
TURNS = {1: 0.0, 2: 1.0}  # deg
MOVES = [(0.0, 0.0), (58.0, 31.0), (-41.0, 47.0)]
MIDDLE = np.array([NX - 1, NY - 1]) / 2


def to_sky(xy, chip, move):
    c, s = np.cos(np.radians(TURNS[chip])), np.sin(np.radians(TURNS[chip]))
    return np.add(PLACES[chip], move) + (xy - MIDDLE) @ np.array([[c, s], [-s, c]])


def to_chip(sky, chip, move):
    c, s = np.cos(np.radians(TURNS[chip])), np.sin(np.radians(TURNS[chip]))
    return MIDDLE + (sky - np.add(PLACES[chip], move)) @ np.array([[c, -s], [s, c]])


def draw(chip, move, rng, sky, flux):
    data = np.full((NY, NX), 80.0)
    y, x = np.mgrid[:NY, :NX]
    for (a, b), f in zip(to_chip(sky, chip, move), flux, strict=True):
        near = np.s_[max(0, int(b) - 6) : int(b) + 7, max(0, int(a) - 6) : int(a) + 7]
        if -7 < a < NX + 7 and -7 < b < NY + 7:
            r2 = (x[near] - a) ** 2 + (y[near] - b) ** 2
            data[near] += f / (2 * np.pi * 1.2**2) * np.exp(-r2 / (2 * 1.2**2))
    return rng.poisson(data).astype(np.float32)


def sky_of_reference():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (150.0, 2.0), (80.0, 70.0), (-2e-4, 2e-4)
    return wcs


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Three exposures of two chips; the last one has lost its first chip."""
    folder = tmp_path_factory.mktemp("chips")
    rng = np.random.default_rng(1)
    sky, flux = rng.uniform(-230, 230, (420, 2)), rng.uniform(4e3, 4e4, 420)
    for e, move in enumerate(MOVES):
        hdus = [fits.PrimaryHDU()]
        hdus[0].header["EXPTIME"] = 30.0 + e
        for chip in PLACES:
            hdu = fits.ImageHDU(draw(chip, move, rng, sky, flux), name="SCI", ver=chip)
            hdu.header["BUNIT"] = "electron"
            if (e, chip) == (0, 1):
                hdu.header.update(sky_of_reference().to_header())
            hdus += [hdu, fits.ImageHDU(np.zeros((NY, NX), "i2"), name="DQ", ver=chip)]
        if e == 2:
            del hdus[1:3]
        fits.HDUList(hdus).writeto(folder / f"e{e}.fits")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def group(paths):
    return align_group(paths, hdu="all", reference=0)


def test_chips_and_exposures_come_from_files(group, paths):
    assert list(group.table["status"]) == ["ok"] * 5
    assert list(group.table["source"]) == [paths[k] for k in (0, 0, 1, 1, 2)]
    assert list(group.table["hdu"]) == [1, 3, 1, 3, 1]
    frames = [(1, 0), (2, 0), (1, 1), (2, 1), (2, 2)]
    xy = np.random.default_rng(2).uniform((0, 0), (NX - 1, NY - 1), (30, 2))
    for alignment, (chip, e) in zip(group.alignments, frames, strict=True):
        found = np.column_stack(alignment.transform(*xy.T))
        assert_allclose(found, to_chip(to_sky(xy, chip, MOVES[e]), 1, MOVES[0]), atol=0.25)


def test_the_geometry_is_fixed(group):
    """A chip lies as far from the other in each exposure; not so if they are solved apart."""
    middle = [np.array(a.transform(*MIDDLE)) for a in group.alignments]
    assert_allclose(middle[1] - middle[0], middle[3] - middle[2], atol=0.02)


def test_labels_may_be_given(group, paths):
    same = align_group(paths, hdu="all", reference=0, chips=[1, 2, 1, 2, 2], exposures=[5, 6, 7])
    for one, two in zip(group.alignments, same.alignments, strict=True):
        assert_array_equal(one.transform(*MIDDLE), two.transform(*MIDDLE))
    with pytest.raises(ValueError, match="image 1 has the chip and the exposure of image 0"):
        align_group(paths, hdu="all", chips=[0] * 5, exposures=[0] * 5)


def test_files_of_one_image_are_no_chips(paths):
    single = align_group(paths, hdu=("SCI", 2))
    assert "hdu" not in single.table.colnames
    assert list(single.table["status"]) == ["ok"] * 3
    with fits.open(paths[0]) as one, fits.open(paths[1]) as two:
        both = [fits.HDUList([hdus[0], hdus["SCI", 2]]) for hdus in (one, two)]
        found = align_group(both, hdu="all")
    assert list(found.table["hdu"]) == [1, 1]
    assert found.table["status"].tolist() == ["ok", "ok"]
    canvas, _ = single.coadd(paths)  # it is the extension that was aligned
    assert canvas.shape == single.shape


def test_files_come_back(group, paths, tmp_path):
    """A file for each exposure, its chips by their names, each on its part of the canvas."""
    calls = []
    table = group.write_images(paths, tmp_path / "out", progress=lambda *call: calls.append(call))
    assert list(table["status"]) == ["ok"] * 3
    assert list(table["n_images"]) == [2, 2, 1]
    assert [row["step"] for _, _, row in calls] == ["files"] * 3
    (ny, nx), (x0, y0) = group.shape, group.offset
    canvas, footprint = group.coadd(paths, match_background=False, feather=0)
    seen, parts = np.zeros(group.shape), []
    for k, path in enumerate(table["file"]):
        assert path == str(tmp_path / "out" / f"e{k}_aligned.fits")
        with fits.open(path) as hdus:
            assert hdus[0].header["EXPTIME"] == 30.0 + k
            for hdu in (hdu for hdu in hdus if hdu.name == "SCI"):
                assert hdu.header["EXPTIME"] == 30.0 + k
                x, y = hdu.header["ALGNX0"] - x0, hdu.header["ALGNY0"] - y0
                parts.append((np.s_[y : y + len(hdu.data), x : x + hdu.data.shape[1]], hdu.data))
                seen[parts[-1][0]] += np.isfinite(hdu.data)
    assert_array_equal(seen > 0, footprint > 0)
    for window, data in parts:
        lone = np.isfinite(data) & (seen[window] == 1)
        assert_allclose(data[lone], canvas.data[window][lone], rtol=1e-5)
    with fits.open(table["file"][2]) as hdus:
        assert ("SCI", 2) in hdus
        assert ("MASK", 2) in hdus
        assert ("SCI", 1) not in hdus
    again = group.write_images(paths, tmp_path / "out")
    assert list(again["status"]) == ["failed"] * 3
    assert all("exists" in reason for reason in again["reason"])
    whole = group.write_images(paths, tmp_path / "out", grid="canvas", overwrite=True)
    assert fits.getdata(whole["file"][1], ("SCI", 2)).shape == (ny, nx)


def test_files_get_the_sky_of_the_solution(group, paths, tmp_path):
    group.write(tmp_path / "group.asdf")
    known = GroupAlignment.read(tmp_path / "group.asdf")
    assert {*known.cameras, *known.undetermined} == {("SCI", 1), ("SCI", 2)}
    table = known.write_images(paths, tmp_path, resample=False)
    with fits.open(table["file"][1]) as new, fits.open(paths[1]) as old:
        assert [hdu.name for hdu in new] == [hdu.name for hdu in old]
        assert_array_equal(new["SCI", 2].data, old["SCI", 2].data)
        sky = WCS(new["SCI", 2].header).pixel_to_world(30.0, 40.0)
    x, y = to_chip(to_sky(np.array([[30.0, 40.0]]), 2, MOVES[1]), 1, MOVES[0])[0]
    truth = sky_of_reference().pixel_to_world(x, y)
    assert sky.separation(truth).arcsec / 0.72 < 0.25  # px


def test_misuse_of_write_images(group, paths, tmp_path):
    for options, words in (
        ({"grid": "mine"}, "grid is 'frame' or 'canvas'"),
        ({"n_workers": 0}, "n_workers is a number"),
        ({"method": "best"}, "method"),
    ):
        with pytest.raises(ValueError, match=words):
            group.write_images(paths, tmp_path, **options)
    with pytest.raises(ValueError, match="4 of them for 5 frames"):
        group.write_images(paths[:2], tmp_path)
    lone = align_group(paths[:2], hdu=("SCI", 2))
    with pytest.raises(ValueError, match="there is no sky, since the reference has no WCS"):
        lone.write_images(paths[:2], tmp_path, resample=False)


def test_images_are_never_replaced(paths, tmp_path):
    copies = [tmp_path / "x.fits", tmp_path / "x_aligned.fits"]
    for copy, path in zip(copies, paths, strict=False):
        copy.write_bytes(Path(path).read_bytes())
    group = align_group(copies, hdu="all")
    with pytest.raises(ValueError, match="would replace one of the images"):
        group.write_images(copies, tmp_path, overwrite=True)
    assert copies[1].read_bytes() == Path(paths[1]).read_bytes()


def test_each_source_has_a_file_of_its_own(paths, tmp_path):
    names = ["p/a.fits", "p/a-2.fits", "q/a.fits"]
    copies = [tmp_path / name for name in names]
    for copy, path in zip(copies, paths, strict=True):
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(Path(path).read_bytes())
    made = align_group(copies, hdu="all").write_images(copies, tmp_path / "out")
    assert list(made["status"]) == ["ok"] * 3
    assert len({*made["file"]}) == len(list((tmp_path / "out").glob("*.fits"))) == 3
