"""Options of align-fits for a night of frames."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from spalipy_astro.commands import align_fits

SIZE = 200


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Six frames: the third is blurred, the fifth is seen through clouds."""
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(4)
    xy, flux = rng.uniform(-10, SIZE + 10, (70, 2)), 10 ** rng.uniform(3.5, 5, 70)
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    paths = []
    for k in range(6):
        sigma = 2.4 if k == 2 else 1.3
        image = 200 + rng.normal(0, 4, (SIZE, SIZE))
        dx, dy = rng.uniform(-6, 6, 2)
        for (x0, y0), total in zip(xy, flux * (0.4 if k == 4 else 1), strict=True):
            rr = (x - x0 - dx) ** 2 + (y - y0 - dy) ** 2
            image += total / (2 * np.pi * sigma**2) * np.exp(-rr / (2 * sigma**2))
        header = fits.Header({"MJD-OBS": 60000 + k / 100, "EXPTIME": 30.0})
        paths.append(folder / f"frame{k}.fits")
        fits.PrimaryHDU(image.astype("f4"), header).writeto(paths[-1])
    return [str(path) for path in paths]


def test_a_night_into_a_stack(night, tmp_path, capsys):
    pytest.importorskip("ccdproc")
    stack = tmp_path / "deep.fits"
    options = ["--reject", "fwhm=4sigma", "--reject", "flux_ratio=0.6", "--intersection"]
    options += ["--scale-flux", "--match-background", "--stack", str(stack)]
    assert align_fits([*night, str(tmp_path / "out"), "-tf", night[0], *options]) == 0
    assert len(list((tmp_path / "out").glob("*_aligned.fits"))) == 4
    said = capsys.readouterr()
    assert "fwhm is" in said.err
    assert "flux_ratio is" in said.err
    with fits.open(stack) as hdus:
        assert hdus[0].header["NCOMBINE"] == 4
        assert hdus[0].header["EXPTIME"] == 120
        assert not hdus["MASK"].data.any()
        assert min(hdus[0].shape) > SIZE - 30
        template = fits.getdata(night[0])
        assert np.median(hdus[0].data) == pytest.approx(np.median(template), abs=1)


def test_the_best_template(night, tmp_path, capsys):
    assert align_fits([*night, str(tmp_path / "out"), "-tf", "best"]) == 0
    words = capsys.readouterr().out
    assert "FWHM" in words
    assert "frame2.fits, best" not in words
    assert "frame4.fits, best" not in words


def test_follows_a_target(night, tmp_path):
    path = tmp_path / "comet.ecsv"
    time = [60000.0, 60000.06]
    Table({"time": time, "x": [50.0, 80.0], "y": [60.0, 20.0]}).write(path)
    out = tmp_path / "out"
    assert align_fits([*night, str(out), "-tf", night[0], "--target", str(path)]) == 0
    header = fits.getheader(out / "frame5_aligned.fits")
    assert (header["ALGNTGX"], header["ALGNTGY"]) == pytest.approx((-25, 100 / 3), abs=0.01)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--reject", "fwhm"], "QUALITY=LIMIT"),
        (["--intersection", "--union"], "two grids"),
        (["--stack", "/nowhere/at/all.fits"], "no folder"),
    ],
)
def test_senseless_options(night, tmp_path, capsys, options, words):
    with pytest.raises(SystemExit, match="2"):
        align_fits([*night, str(tmp_path / "out"), "-tf", night[0], *options])
    assert words in capsys.readouterr().err


def test_options_for_several_sources(night, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        align_fits([night[0], str(tmp_path / "out.fits"), "-tf", night[1], "--stack", "x.fits"])
    assert "several sources" in capsys.readouterr().err
