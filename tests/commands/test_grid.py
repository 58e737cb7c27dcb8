"""Options of align-fits for the grid of aligned images, and for drizzle."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from spalipy_astro.commands import align_fits
from spalipy_astro.io import read_grid

SIZE = 120


def tan(size=SIZE, scale=1.0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cdelt = -scale / 3600, scale / 3600
    wcs.wcs.crpix = (size + 1) / 2, (size + 1) / 2
    wcs.wcs.crval = 150.0, 20.0
    return wcs.to_header()


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Two frames of one sky; the first has a WCS."""
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(4)
    xy, flux = rng.uniform(0, SIZE, (40, 2)), 10 ** rng.uniform(3.5, 5, 40)
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    paths = []
    for k in range(2):
        image = 200 + rng.normal(0, 4, (SIZE, SIZE))
        for (x0, y0), total in zip(xy + 3 * k, flux, strict=True):
            rr = (x - x0) ** 2 + (y - y0) ** 2
            image += total / (2 * np.pi * 1.3**2) * np.exp(-rr / (2 * 1.3**2))
        paths.append(folder / f"frame{k}.fits")
        fits.PrimaryHDU(image.astype("f4"), None if k else tan()).writeto(paths[-1])
    return [str(path) for path in paths]


def test_finer_and_drizzled(frames, tmp_path):
    pytest.importorskip("drizzle")
    out = tmp_path / "out.fits"
    options = ["--grid-scale", "2", "--method", "drizzle", "--pixfrac", "0.8", "--kernel", "turbo"]
    assert align_fits([frames[1], str(out), "-tf", frames[0], *options]) == 0
    with fits.open(out) as hdus:
        assert hdus[0].shape == hdus["WHT"].shape == (2 * SIZE, 2 * SIZE)
        assert np.median(hdus["WHT"].data) == pytest.approx(0.25, rel=0.1)
        assert WCS(hdus[0].header).proj_plane_pixel_scales()[0].value == pytest.approx(0.5 / 3600)
        assert np.nanmedian(hdus[0].data) == pytest.approx(50, rel=0.02)


@pytest.mark.parametrize("kind", ["fits", "hdr"])
def test_any_wcs(frames, tmp_path, kind):
    header = tan(90, 1.5)
    if kind == "fits":
        grid = tmp_path / "grid.fits"
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((80, 90), "u1"), header)]).writeto(
            grid
        )
    else:
        grid = tmp_path / "grid.hdr"
        header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, 90, 80
        header.totextfile(grid)
    folder = tmp_path / "out"
    arguments = [*frames, str(folder), "-tf", frames[0], "--wcs", str(grid)]
    assert align_fits(arguments) == 0
    for path in folder.glob("*_aligned.fits"):
        found = fits.getheader(path)
        assert (found["NAXIS1"], found["NAXIS2"]) == (90, 80)
        for card in ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CDELT1", "CDELT2"):
            assert found[card] == pytest.approx(header[card], rel=1e-12)


def test_one_source_onto_any_wcs(frames, tmp_path):
    (tmp_path / "a.head").write_text(tan(90, 1.5).tostring(sep="\n"), encoding="ascii")
    out = tmp_path / "out.fits"
    arguments = [frames[1], str(out), "-tf", frames[0], "--wcs", str(tmp_path / "a.head")]
    with pytest.raises(SystemExit, match="2"):
        align_fits(arguments)
    assert align_fits([*arguments, "--output-shape", "90,80"]) == 0
    assert fits.getheader(out)["NAXIS2"] == 80


def test_size_of_a_header_without_pixels(tmp_path):
    header = tan()
    header["IMAGEW"], header["IMAGEH"] = 70, 60
    fits.PrimaryHDU(header=header).writeto(tmp_path / "field.wcs")
    assert read_grid(tmp_path / "field.wcs")[1] == (60, 70)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--grid-scale", "0"], "--grid-scale is a positive number"),
        (["--wcs", "x", "--grid-scale", "2"], "leave --grid-scale out"),
        (["--wcs", "x", "--union"], "leave --preserve-footprints out"),
        (["--intersection", "--union"], "two grids"),
        (["--pixfrac", "0.5"], "--pixfrac is for --method drizzle"),
    ],
)
def test_what_does_not_go_together(frames, tmp_path, capsys, options, words):
    with pytest.raises(SystemExit, match="2"):
        align_fits([frames[1], str(tmp_path / "o.fits"), "-tf", frames[0], *options])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("text", ["nothing", "CTYPE1  = 'LINEAR'\nCTYPE2  = 'LINEAR'"])
def test_no_grid(frames, tmp_path, capsys, text):
    grid = tmp_path / "grid.txt"
    grid.write_text(text, encoding="ascii")
    arguments = [frames[1], str(tmp_path / "o.fits"), "-tf", frames[0], "--wcs", str(grid)]
    assert align_fits(arguments) == 1
    assert "grid.txt" in capsys.readouterr().err
