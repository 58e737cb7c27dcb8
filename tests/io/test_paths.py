"""A path is a path: nothing takes a part of it for the fragment of a URI, a URL or a home."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from spalipy_astro import Alignment, FormatError, align_many, read_catalog
from spalipy_astro.catalogs import is_catalog
from spalipy_astro.commands import align_fits
from spalipy_astro.io import image_hdus, read_image, read_plane, write_hdus
from spalipy_astro.report import report_sequence

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such names and pipes")

NAMES = ("n#1", "n?b=c", "n;b", "n%41", "n\nb", "~", "~root", "n[1]", "file:n", "n é", "x" * 200)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with files of which the names must not be shortened to theirs."""
    monkeypatch.chdir(tmp_path)
    for name in ("n", "nA", "n.fits", "n.asdf", "nA.asdf"):
        (tmp_path / name).write_text("precious")
    yield tmp_path
    for name in ("n", "nA", "n.fits", "n.asdf", "nA.asdf"):
        assert (tmp_path / name).read_text() == "precious"


def _stars(shape=(90, 121), shift=0.0):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = rng.normal(100, 3, shape)
    for a, b, f in zip(*rng.uniform((8,), (85,), (2, 30)), rng.uniform(2e3, 2e4, 30), strict=True):
        image += f / 10.6 * np.exp(-((x - a * 1.3 - shift) ** 2 + (y - b) ** 2) / 3.38)
    return image.astype(np.float32)


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_alignments(here, alignment, name, folder):
    if folder:
        os.mkdir(name)
        name = os.path.join(name, "a.asdf")
    else:
        name += ".asdf"
    before = set(os.listdir())
    alignment.write(name)
    assert set(os.listdir()) - before <= {name}
    back = Alignment.read(name)
    assert back.transform(1.0, 2.0) == alignment.transform(1.0, 2.0)
    with pytest.raises(FileExistsError):
        alignment.write(name)
    alignment.write(name, overwrite=True)


@pytest.mark.parametrize("suffix", ["", ".gz", ".fz"])
@pytest.mark.parametrize("name", NAMES)
def test_images(here, name, suffix):
    name = f"{name}.fits{suffix}"
    pixels = np.arange(12 * 17, dtype=np.int16).reshape(12, 17)
    write_hdus([fits.PrimaryHDU(pixels)], here / name)
    for path in (name, here / name):
        np.testing.assert_array_equal(read_image(path).data, pixels)
        np.testing.assert_array_equal(read_plane(path), pixels)
        assert len(image_hdus(path)) == 1
        assert not is_catalog(path)


@pytest.mark.parametrize("kind", ["fits", "ecsv", "ascii_head", "ascii"])
@pytest.mark.parametrize("name", NAMES)
def test_catalogs(here, name, kind):
    rng = np.random.default_rng(2)
    table = Table(
        {"x": rng.uniform(0, 99, 9), "y": rng.uniform(0, 99, 9), "flux": np.arange(9.0) + 1}
    )
    plain = here / f"c.{'fits' if kind == 'fits' else 'ecsv'}"
    if kind in ("fits", "ecsv"):
        table.write(plain)
    else:
        head = "# 1 X_IMAGE x\n# 2 Y_IMAGE y\n# 3 FLUX_AUTO f\n" if kind == "ascii_head" else ""
        rows = "".join(f"{x + 1} {y + 1} {f}\n" for x, y, f in table)
        plain.write_text(head + rows)
    path = here / f"{name}.cat"
    os.rename(plain, path)
    columns = ["X_IMAGE", "Y_IMAGE", "FLUX_AUTO"] if kind == "ascii" else None
    for given in (str(path), f"{name}.cat"):
        stars = read_catalog(given, columns=columns)
        np.testing.assert_allclose(np.sort(stars["x"]), np.sort(table["x"]), atol=1e-4)


@pytest.mark.parametrize("name", ["n#1", "~root", "n\nb"])
def test_a_night(here, name):
    sources = [f"{name}-{k}.fits" for k in (1, 2)]
    for source in sources:
        fits.writeto(os.path.abspath(source), _stars(shift=1.5))
    before = set(os.listdir())
    table = align_many(sources, _stars(), output=name, progress=False)
    assert list(table["status"]) == ["ok", "ok"]
    assert set(os.listdir()) - before == {name}
    assert sorted(os.listdir(name)) == sorted(
        f"{name}-{k}_{what}" for k in (1, 2) for what in ("aligned.fits", "alignment.asdf")
    )
    again = align_many(sources, _stars(), output=name, progress=False)
    assert all(again["resumed"])
    pytest.importorskip("matplotlib")
    report_sequence(table, f"{name}.html")
    assert os.path.isfile(f"{name}.html")


def test_other_folders_by_way_of_a_link(here):
    """The folder above a link to a folder is that above its target."""
    os.makedirs("far/deep")
    os.symlink("far/deep", "near")
    fits.writeto("far/s.fits", _stars(shift=1.5))
    fits.writeto("s.fits", _stars()[:, :80])
    table = align_many(["near/../s.fits"], _stars(), progress=False)
    assert table["status"][0] == "ok"
    assert table["alignment"][0].source_shape == (90, 121)


def test_the_command_takes_names_as_they_are(here):
    pytest.importorskip("matplotlib")
    fits.writeto("s#1.fits", _stars(shift=1.5))
    fits.writeto("t#1.fits", _stars())
    before = set(os.listdir())
    line = "s#1.fits o#1.fits -tf t#1.fits --transform o#1.asdf --plot o#1 --report o#1.html"
    assert align_fits(line.split()) == 0
    made = {"o#1.fits", "o#1.asdf", "o#1", "o#1.html"}
    assert set(os.listdir()) - before == made
    assert (here / "o#1").read_bytes().startswith(b"\x89PNG")
    assert align_fits(["s#1.fits", "again.fits", "--apply", "o#1.asdf"]) == 0


@pytest.mark.parametrize("option", ["output", "--transform", "--plot", "--report"])
def test_the_command_keeps_pipes_and_follows_links(here, option, capsys):
    fits.writeto("s.fits", _stars(shift=1.5))
    fits.writeto("t.fits", _stars())
    os.mkfifo("pipe")
    line = ["s.fits", "pipe" if option == "output" else "o.fits", "-tf", "t.fits", "--overwrite"]
    line += [] if option == "output" else [option, "pipe"]
    assert align_fits(line) == 1
    assert "pipe is a named pipe" in capsys.readouterr().err
    assert not os.path.exists("o.fits")
    os.unlink("pipe")
    os.symlink("real", "pipe")
    pytest.importorskip("matplotlib")
    assert align_fits(line) == 0
    assert os.path.islink("pipe")
    assert os.path.getsize("real") > 1000


def test_a_night_keeps_pipes(here):
    fits.writeto("s.fits", _stars(shift=1.5))
    os.mkdir("out")
    for name in ("s_aligned.fits", "s_alignment.asdf"):
        os.mkfifo(f"out/{name}")
        for overwrite in (False, True):
            table = align_many(
                ["s.fits"], _stars(), output="out", overwrite=overwrite, progress=False
            )
            assert f"{name} is a named pipe" in table["reason"][0]
        os.unlink(f"out/{name}")


def test_what_is_no_file_is_not_read(here):
    os.mkfifo("pipe.fits")
    for read in (read_image, read_catalog, Alignment.read):
        with pytest.raises(FormatError, match=r"pipe\.fits' is a named pipe"):
            read("pipe.fits")
        with pytest.raises(FormatError, match="is a folder"):
            read(here)
        with pytest.raises(FileNotFoundError, match="there is no"):
            read("n#1")


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux'")
def test_names_that_are_no_text(here, capsys):
    name = os.fsdecode(b"s\xff")
    with open(f"{name}.fits", "wb") as stream:
        fits.PrimaryHDU(_stars(shift=1.5)).writeto(stream)
    fits.writeto("t.fits", _stars())
    line = [f"{name}.fits", f"{name}-o.fits", "-tf", "t.fits", "--transform", f"{name}.asdf"]
    assert align_fits(line) == 0
    assert "s\\udcff.fits -> s\\udcff-o.fits" in capsys.readouterr().out
    assert {b"s\xff-o.fits", b"s\xff.asdf"} < set(os.listdir(b"."))
    pytest.importorskip("matplotlib")
    table = align_many([f"{name}.fits"], "t.fits", output=name, progress=False)
    report_sequence(table, f"{name}.html")
    assert b"s\\udcff.fits" in (here / f"{name}.html").read_bytes()
