"""The script align-group, on three panels and what is none of them."""

from __future__ import annotations

import builtins
import io
import json
import shutil
import signal

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import QTable

from spalipy_astro import GroupAlignment
from spalipy_astro.commands import align_group, main

NX, NY = 170, 150
PLACES = ((0, 0), (80, 6), (-4, 70))


def panel(rng, place, xy, flux, sky):
    y, x = np.mgrid[:NY, :NX].astype(float)
    image = sky + rng.normal(0, 4, (NY, NX))
    for (x0, y0), total in zip(xy - place, flux, strict=True):
        image += total / 10.6 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 3.38)
    return image.astype("f4")


def status_of(arguments):
    try:
        return align_group(arguments)
    except SystemExit as end:
        return end.code


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Three panels, a frame of noise and a broken file."""
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(5)
    xy, flux = rng.uniform((-10, -10), (260, 230), (160, 2)), 10 ** rng.uniform(3.3, 4.8, 160)
    for k, (place, sky) in enumerate(zip(PLACES, (200, 300, 150), strict=True)):
        header = fits.Header({"EXPTIME": 30.0, "FILTER": "R"})
        data = panel(rng, place, xy, flux, sky)
        fits.PrimaryHDU(data, header).writeto(folder / f"panel{k}.fits")
    return folder


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    noise = np.random.default_rng(6).normal(100, 5, (NY, NX)).astype("f4")
    fits.PrimaryHDU(noise).writeto(folder / "noise.fits")
    (folder / "broken.fits").write_bytes(b"SIMPLE  =                    T")
    return folder


@pytest.fixture(scope="module")
def field(raw, tmp_path_factory):
    """What a run on a folder makes."""
    pytest.importorskip("matplotlib")
    out = tmp_path_factory.mktemp("out") / "field"
    page = out.parent / "field.html"
    options = [
        "--reference",
        str(raw / "panel0.fits"),
        "--report",
        str(page),
        "--spline-order",
        "0",
    ]
    assert align_group([str(raw), "-o", str(out), *options]) == 0
    return out


def test_all_files_are_made(field):
    names = {path.name for path in field.iterdir()}
    panels = {f"panel{k}_aligned.fits" for k in range(3)}
    assert names == {"coadd.fits", "group.asdf", "group.ecsv", *panels}
    page = (field.parent / "field.html").read_text(encoding="utf-8")
    assert "All 3 frames are connected" in page
    assert 'class="viewer"' in page


def test_table_and_group_say_the_same(field):
    group, table = GroupAlignment.read(field / "group.asdf"), QTable.read(field / "group.ecsv")
    assert list(table["status"]) == ["ok"] * 3
    assert list(table["rms"]) == list(group.table["rms"])
    assert list(table["exptime"]) == [30.0] * 3
    assert np.all(np.asarray(table["flux_ratio"]) == pytest.approx(1, abs=0.03))
    assert table["background"][1] - table["background"][0] == pytest.approx(100, abs=3)
    assert table["aligned"][1] == str(field / "panel1_aligned.fits")
    for k, place in enumerate(PLACES):
        assert np.allclose(
            group.alignments[k].transform(50.0, 60.0), np.add(place, (50, 60)), atol=0.1
        )


def test_names_of_files_are_written_in_any_locale(raw, tmp_path, monkeypatch):
    paths = [shutil.copy(raw / f"panel{k}.fits", tmp_path / f"Böö ☄ {k}.fits") for k in range(2)]

    def ascii_locale(file, mode="r", buffering=-1, encoding=None, *others, **options):
        if encoding is None and "b" not in mode:
            encoding = "ascii"
        return io.open(file, mode, buffering, encoding, *others, **options)  # noqa: UP020

    monkeypatch.setattr(builtins, "open", ascii_locale)
    out = ["-o", str(tmp_path / "out"), "--no-images", "--no-coadd", "--spline-order", "0"]
    assert align_group([*map(str, paths), *out]) == 0
    monkeypatch.undo()
    table = QTable.read(tmp_path / "out" / "group.ecsv", encoding="utf-8")
    assert list(table["source"]) == list(map(str, paths))


def test_images_are_on_the_canvas(field):
    group = GroupAlignment.read(field / "group.asdf")
    with fits.open(field / "coadd.fits") as hdus:
        coadd, footprint = hdus[0].data, hdus["FOOTPRINT"].data
        assert hdus[0].header["FILTER"] == "R"
        assert hdus[0].header["NCOMBINE"] == 3
        assert np.array_equal(hdus["MASK"].data != 0, footprint == 0)
    assert coadd.shape == group.shape == footprint.shape
    assert footprint.max() == 3
    for n in (1, 2, 3):  # of the reference, whose sky is kept
        assert np.median(coadd[footprint == n]) == pytest.approx(200, abs=3)
    aligned = CCDData.read(field / "panel1_aligned.fits", unit="adu")
    assert aligned.shape == group.shape
    assert np.median(aligned.data[~aligned.mask]) == pytest.approx(300, abs=4)


def test_what_cannot_be_connected_has_a_line(raw, odd, tmp_path, capsys):
    out = tmp_path / "out"
    files = [*map(str, sorted(raw.iterdir())), str(odd / "*.fits")]
    assert align_group([*files, "-o", str(out), "--json", "--no-images", "--no-coadd"]) == 1
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["status"] for row in rows] == ["ok"] * 3 + ["failed"] * 2
    assert rows[0]["component"] == 0
    assert rows[0]["aligned"] == ""
    assert rows[3]["fwhm"] is None
    errors = said.err.splitlines()
    assert any(line.startswith(str(odd / "broken.fits") + ": ") for line in errors)
    assert any(line.startswith(str(odd / "noise.fits") + ": ") for line in errors)
    assert errors[-1] == "align-group: 2 of 5 frames could not be connected"
    assert {path.name for path in out.iterdir()} == {"group.asdf", "group.ecsv"}


def test_a_folder_may_be_its_own_output(raw, tmp_path, capsys):
    folder = tmp_path / "all"
    shutil.copytree(raw, folder)
    options = ["-o", str(folder), "--trim", "--combine", "median", "--spline-order", "0"]
    assert align_group([str(folder), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(" -> " in line for line in lines)
    shape = fits.getdata(folder / "panel1_aligned.fits").shape
    assert NY <= shape[0] <= NY + 2
    assert align_group([str(folder), *options]) == 1
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert align_group([str(folder), *options, "--overwrite"]) == 0
    assert len(list(folder.glob("*.fits"))) == 7


def test_two_parts_have_two_canvases(raw, tmp_path, capsys):
    rng = np.random.default_rng(8)
    xy, flux = rng.uniform(-10, 260, (140, 2)), 10 ** rng.uniform(3.3, 4.8, 140)
    for k in range(2):
        data = panel(rng, (60 * k, 3), xy, flux, 100)
        fits.PrimaryHDU(data).writeto(tmp_path / f"other{k}.fits")
    out = tmp_path / "out"
    files = [str(raw), str(tmp_path / "other*.fits")]
    assert align_group([*files, "-o", str(out), "--no-images", "--spline-order", "0"]) == 0
    assert "the frames form 2 parts" in capsys.readouterr().err
    group = GroupAlignment.read(out / "group.asdf")
    for name, component in (("coadd", 0), ("coadd-1", 1)):
        assert fits.getdata(out / f"{name}.fits").shape == group.canvas(component).shape


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--reference", "9"], "--reference is one of the files, or its number from 0 to 2; got 9"),
        (["--combine", "mode"], "invalid choice: 'mode'"),
        (["--camera", "nowhere.asdf"], "there is no file 'nowhere.asdf'"),
        (["--report", "/no/where/x.html"], "no folder"),
    ],
)
def test_misuse_is_told_at_once(raw, tmp_path, options, words, capsys):
    assert status_of([str(raw), "-o", str(tmp_path / "out"), *options]) in (1, 2)
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_single_file_and_a_file_as_the_folder_are_refused(raw, tmp_path, capsys):
    one = str(raw / "panel0.fits")
    for arguments, words in (
        ([one, "-o", str(tmp_path)], "at least two files; 1 given"),
        ([str(raw), "-o", one], "is the folder to write to"),
        ([str(raw)], "required: -o"),
        ([str(tmp_path / "nothing*.fits"), "-o", str(tmp_path)], "no file matches"),
    ):
        assert status_of(arguments) in (1, 2)
        assert words in capsys.readouterr().err


def test_it_can_be_called_as_a_module(capsys):
    with pytest.raises(SystemExit) as end:
        main(["align-group", "--help"])
    assert end.value.code == 0
    assert "python -m spalipy_astro align-group" in capsys.readouterr().out


def test_frames_are_never_replaced(raw, tmp_path, capsys):
    files = sorted(raw.glob("*.fits"))[:2]
    own = tmp_path / "coadd.fits"
    own.write_bytes(files[0].read_bytes())
    arguments = [str(own), str(files[1]), "-o", str(tmp_path), "--overwrite"]
    assert status_of(arguments) == 2
    assert "one of the frames" in capsys.readouterr().err
    assert own.read_bytes() == files[0].read_bytes()


def test_an_interruption_is_told_with_what_to_do_then(raw, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("spalipy_astro.commands._group._write_aligned", interrupted)
    command = [str(raw), "-o", str(tmp_path / "out"), "--spline-order", "0"]
    assert align_group(command) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        "align-group: interrupted; files are whole, and the same command with --overwrite does all "
        "of the work anew"
    )
    monkeypatch.undo()
    assert align_group(command) == 1  # the group was written
    assert align_group([*command, "--overwrite", "--no-images", "--no-coadd"]) == 0


@pytest.mark.parametrize(
    ("status", "option", "words"),
    [
        (2, ["--report", "{out}/page.fits"], "HTML page"),
        (1, ["--report", "{out}/no/page.html"], "there is no folder"),
        (1, ["--report", "{out}/"], "is a folder"),
        (2, ["--report", "{out}/group.ecsv"], "the group's own"),
        (2, ["--workers", "0"], "--workers is a number from 1"),
        (1, ["-o", "{out}/taken.txt/x"], "taken.txt"),
    ],
)
def test_outputs_are_checked_before_the_first_frame(
    raw, tmp_path, capsys, monkeypatch, status, option, words
):
    """Else what took an hour is lost, or half of it is there."""
    pytest.importorskip("matplotlib")

    def too_late(*_, **__):
        raise AssertionError("frames were worked on")

    monkeypatch.setattr("spalipy_astro.commands._group.solve", too_late)
    (tmp_path / "taken.txt").write_text("")
    given = [text.format(out=tmp_path) for text in option]
    assert status_of([str(raw), "-o", str(tmp_path), *given]) == status
    assert words in " ".join(capsys.readouterr().err.split())


def test_the_canvas_of_each_part_is_checked_too(raw, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("spalipy_astro.commands._group.solve", None)
    (tmp_path / "coadd-1.fits").write_bytes(b"mine")
    assert status_of([str(raw), "-o", str(tmp_path)]) == 1
    assert "coadd-1.fits exists already" in " ".join(capsys.readouterr().err.split())


def test_gradients_are_matched_when_asked(raw, tmp_path):
    frames = [tmp_path / f"{k}.fits" for k in (0, 1)]
    for k, path in enumerate(frames):
        with fits.open(raw / f"panel{k}.fits") as hdus:
            hdus[0].data = hdus[0].data + np.float32(k) * np.arange(NX, dtype="f4")
            hdus.writeto(path)
    spread = {}
    for option in ([], ["--match-plane"]):
        out = tmp_path / f"out{len(option)}"
        command = [*map(str, frames), "-o", str(out), "--no-images", "--spline-order", "0"]
        assert align_group([*command, "--reference", "0", *option]) == 0
        canvas = CCDData.read(out / "coadd.fits", unit="adu").data
        spread[len(option)] = np.ptp(np.nanmedian(canvas[20:-20], axis=0)[10:-10])
    assert spread[0] > 60
    assert spread[1] < 15
