"""Mistakes at a command line: nothing is lost, and the line says what to write."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest
from astropy.io import fits

from spalipy_astro.commands import align_fits

SMALL = {"source_shape": (160, 180), "template_shape": (170, 150), "n_stars": 60}


@pytest.fixture
def folder(make_sky_pair, tmp_path, monkeypatch):
    pair = make_sky_pair(seed=9, **SMALL)
    fits.writeto(tmp_path / "s.fits", pair.source.data)
    fits.writeto(tmp_path / "t.fits", pair.template.data)
    fits.writeto(tmp_path / "mask.fits", np.zeros((9, 5), "u1"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(arguments, capsys):
    """Return the exit status and what was told."""
    try:
        status = align_fits(arguments)
    except SystemExit as end:
        status = end.code
    return status, capsys.readouterr().err


def state(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["s.fits", "s.fits", "-tf", "t.fits"], "OUTPUT is s.fits, a source itself"),
        (["s.fits", "./t.fits", "-tf", "t.fits"], "OUTPUT is ./t.fits, the template itself"),
        (["s.fits", "link.fits", "-tf", "t.fits"], "OUTPUT is link.fits, a source itself"),
        (["s.fits", "mask.fits", "-tf", "t.fits", "--mask", "mask.fits"], "the mask itself"),
        (["s.fits", "o.fits", "-tf", "t.fits", "--report", "t.fits"], "--report is t.fits, the t"),
        (["s.fits", "o.fits", "-tf", "t.fits", "--log-file", "s.fits"], "--log-file is s.fits, a"),
        (["s.fits", "o.x", "-tf", "t.fits", "--plot", "o.x"], "--plot is o.x, and so is OUTPUT"),
        (["*.fits", "out", "-tf", "t.fits", "--stack", "t.fits"], "--stack is t.fits, the templa"),
    ],
)
def test_what_is_read_is_never_replaced(folder, capsys, arguments, words):
    os.symlink("s.fits", "link.fits")
    before = state(folder)
    status, told = run([*arguments, "--overwrite"], capsys)
    assert status == 2
    assert words in told
    assert state(folder) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--treshold", "3"], "unrecognized arguments: --treshold 3; did you mean --threshold?"),
        (["--overwite"], "did you mean --overwrite?"),
        (["--outputshape=3,4"], "did you mean --output-shape?"),
        # argparse would take these for --scale-flux and --overwrite
        (["--scale", "1"], "unrecognized arguments: --scale"),
        (["--over"], "unrecognized arguments: --over"),
        (["--workers", "0"], "--workers is a number from 1; got 0"),
        (["--transform", "x.fits"], "Write 'x.asdf'. What belongs into a FITS file is the aligned"),
    ],
)
def test_options_that_there_are_not(folder, capsys, arguments, words):
    status, told = run(["s.fits", "o.fits", "-tf", "t.fits", *arguments], capsys)
    assert status == 2
    assert words in told
    assert "alignment.resample" not in told
    assert len(told.splitlines()) == 2
    assert not (folder / "o.fits").exists()


@pytest.mark.parametrize(
    ("expected", "arguments", "words"),
    [
        (
            1,
            ["s.fits", "o.fits", "--mask", "mask.fits"],
            "the mask has shape (9, 5), the image (160,",
        ),
        (1, ["s.fits", "no/o.fits"], "there is no folder 'no' to write to"),
        (1, ["s.fits", "~/o.fits"], "there is no folder '~' to write to. '~' stands for itself"),
        (1, ["s.fits", "o.fits", "--plot", "no/p.png"], "there is no folder 'no' to write to"),
        (
            1,
            ["s.fits", "o.fits", "--transform", "no/p.asdf"],
            "there is no folder 'no' to write to",
        ),
        (1, ["s.fits", "o.fits", "--report", "no/p.html"], "there is no folder 'no' to write to"),
        (
            1,
            ["s.fits", "o.fits", "--write-wcs", "no/p.head"],
            "there is no folder 'no' to write to",
        ),
        (
            1,
            ["s.fits", "t.fits", "out", "--report", "no/p.html"],
            "there is no folder 'no' to write",
        ),
        (2, ["s.fits", "o.fits", "--report", "p.fits"], "Write 'p.html'"),
        (2, ["s.fits", "t.fits", "out", "--report", "p.png"], "Write 'p.html'"),
        (2, ["s.fits", "o.fits", "--plot", "p.fits"], "--plot is the name of a picture"),
        (2, ["s.fits", "t.fits", "out", "--stack", "p.png"], "--stack: images are written as FITS"),
    ],
)
def test_it_is_said_before_the_work(folder, capsys, monkeypatch, expected, arguments, words):
    def work(*_, **__):
        raise AssertionError("the work began")

    for name in ("_one.find_alignment", "_several.align_many"):
        monkeypatch.setattr(f"spalipy_astro.commands.{name}", work)
    status, told = run([*arguments, "-tf", "t.fits"], capsys)
    assert status == expected
    assert words in told
    assert "the work began" not in told
    assert len(told.splitlines()) == status  # with how to call it, where it was called wrongly
    assert not (folder / "o.fits").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs permissions of POSIX")
def test_folders_that_cannot_be_written_to(folder, capsys):
    """A folder without permission, or for the superuser one of a file system that has no place."""
    closed = folder / "closed"
    closed.mkdir(mode=0o555)
    name = "closed" if not os.access(closed, os.W_OK) else "/proc"
    status, told = run(["s.fits", f"{name}/o.fits", "-tf", "t.fits"], capsys)
    assert status == 1
    assert name in told
    assert ".spalipy_astro-" not in told  # no temporary name
    assert subprocess.run(["ls", "-A", closed], capture_output=True, check=True).stdout == b""
