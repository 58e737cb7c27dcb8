"""What the commands tell, to people, pipelines and logs, and how they end."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

import spalipy_astro
from spalipy_astro.commands import align_fits, align_fits_simple, main

FIGURES = ("n_matched", "rms", "log_odds", "shift_x", "shift_y", "rotation", "scale", "parity")
RUN = "import sys; from spalipy_astro.commands import align_fits; sys.exit(align_fits())"


@pytest.fixture
def folder(make_sky_pair, tmp_path, monkeypatch):
    """A working folder with template.fits and a folder of frames, one of them blank."""
    pair = make_sky_pair(rotation=20, seed=12)
    (tmp_path / "raw").mkdir()
    for k in range(3):
        fits.writeto(tmp_path / "raw" / f"f{k}.fits", pair.source.data)
    fits.writeto(tmp_path / "raw" / "blank.fits", np.ones((60, 70), "f4"))
    fits.writeto(tmp_path / "template.fits", pair.template.data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "sources", [["raw"], ["raw/"], ["raw/*.fits"], ["raw/f[01].fits", "raw/f2.fits", "raw/b*"]]
)
def test_folders_and_patterns(folder, capsys, sources):
    assert align_fits([*sources, "out", "-tf", "template.fits"]) == 1
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert sorted(line.split(" -> ")[0] for line in lines) == [f"raw/f{k}.fits" for k in range(3)]
    assert re.search(r"raw/blank.fits: .* same value", told.err)
    assert "align-fits: 1 of 4 sources were not aligned" in told.err
    assert len(list((folder / "out").iterdir())) == 6


def test_a_pattern_of_one_file_writes_to_a_folder(folder):
    assert align_fits(["raw/f0*", "out", "-tf", "template.fits"]) == 0
    assert {path.name for path in (folder / "out").iterdir()} == {
        "f0_aligned.fits",
        "f0_alignment.asdf",
    }


@pytest.mark.parametrize("source", ["none", "*.nothing", "gone.fits"])
def test_no_such_sources(folder, capsys, source):
    (folder / "none").mkdir()
    assert align_fits([source, "out.fits", "-tf", "template.fits"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("align-fits: FileNotFoundError: ")
    assert source in error
    assert len(error.splitlines()) == 1
    assert not (folder / "out.fits").exists()


def test_an_object_for_each_frame(folder, capsys):
    command = ["raw", "out", "-tf", "template.fits", "--json"]
    for resumed in (False, True):
        assert align_fits(command) == 1
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        by_source = {row["source"]: row for row in rows}
        assert len(rows) == len(by_source) == 4
        bad = by_source["raw/blank.fits"]
        assert (bad["status"], bad["rms"], bad["aligned"]) == ("failed", None, "")
        assert "same value" in bad["reason"]
        good = by_source["raw/f1.fits"]
        assert (good["status"], good["reason"], good["resumed"]) == ("ok", "", resumed)
        assert os.path.samefile(good["aligned"], "out/f1_aligned.fits")
        assert good["rotation"] == pytest.approx(20, abs=0.05)
        assert set(FIGURES) <= set(good)


def test_an_object_for_a_single_frame(folder, capsys):
    assert align_fits(["raw/f0.fits", "o.fits", "-tf", "template.fits", "--json"]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["source"], row["status"], row["output"]) == ("raw/f0.fits", "ok", "o.fits")
    assert row["n_matched"] > 20
    assert align_fits_simple(["raw/blank.fits", "p.fits", "template.fits", "--json"]) == 1
    told = capsys.readouterr()
    (row,) = map(json.loads, told.out.splitlines())
    assert row["status"] == "failed"
    assert len(told.err.splitlines()) == 1


def test_quiet(folder, capsys):
    assert align_fits(["raw/f0.fits", "o.fits", "-tf", "template.fits", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    command = ["raw/f0.fits", "raw/f1.fits", "out", "-tf", "template.fits", "--quiet"]
    assert align_fits([*command, "--sub-tile", "2"]) == 0
    assert capsys.readouterr() == ("", "")
    assert align_fits(["raw/blank.fits", "p.fits", "-tf", "template.fits", "-q"]) == 1
    assert "same value" in capsys.readouterr().err


def test_log_file(folder, capsys):
    command = ["raw", "out", "-tf", "template.fits", "-q", "--log-file", "night.log"]
    assert align_fits(command) == 1
    lines = (folder / "night.log").read_text().splitlines()
    assert len(lines) == 5
    assert sum(bool(re.match(r"\d{4}-.* INFO: raw/f\d.fits -> ", line)) for line in lines) == 3
    assert sum("ERROR: raw/blank.fits: " in line for line in lines) == 1
    assert align_fits(command) == 1  # it grows
    assert len((folder / "night.log").read_text().splitlines()) == 10
    capsys.readouterr()
    assert align_fits(["raw", "out2", "-tf", "template.fits", "--log-file", "no/x.log"]) == 1
    assert "the log cannot be written" in capsys.readouterr().err
    assert not (folder / "out2").exists()


def test_a_terminal_shows_how_far_the_work_is(folder):
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", RUN, "raw", "out", "-tf", "template.fits"]
    process = subprocess.Popen(command, stdout=follower, stderr=follower, stdin=follower)
    os.close(follower)
    text = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:
            break
        if not part:
            break
        text += part
    os.close(leader)
    assert process.wait(60) == 1
    words = text.decode()
    for done in range(1, 4):
        assert f"\r\x1b[K{done} of 4 frames" in words
    assert re.search(r"3 of 4 frames, 1 failed, about 0:0\d left", words)
    assert "raw/blank.fits: " in words
    assert "f0_aligned.fits" not in words  # no line for each frame that is well
    assert words.endswith("\r\x1b[Kalign-fits: 1 of 4 sources were not aligned\r\n")


def test_nobody_reads(folder):
    command = f"{sys.executable} -c '{RUN}' 'raw/f*' out -tf template.fits | true; exit $PIPESTATUS"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(list((folder / "out").iterdir())) == 6


@pytest.mark.parametrize("name", ["align-fits", "align-fits-simple"])
def test_version_and_module(folder, capsys, name):
    script = {"align-fits": align_fits, "align-fits-simple": align_fits_simple}[name]
    with pytest.raises(SystemExit) as exit_:
        script(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"{name} (spalipy_astro) {spalipy_astro.__version__}\n"
    with pytest.raises(SystemExit):
        main([name, "--version"])
    assert f"python -m spalipy_astro {name} (spalipy_astro)" in capsys.readouterr().out
    arguments = ["raw/f0.fits", "o.fits", *(["-tf"] if name == "align-fits" else [])]
    assert main([name, *arguments, "template.fits"]) == 0
    assert "raw/f0.fits -> o.fits: " in capsys.readouterr().out
    assert main([name, *arguments, "template.fits"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"python -m spalipy_astro {name}: FileExistsError: o.fits exists")
    assert "--overwrite" in error
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0


def test_usage_errors_are_short(capsys):
    for arguments in (["s.fits"], ["s.fits", "o.fits", "-tf", "t", "--no-such"], ["s", "o"]):
        with pytest.raises(SystemExit) as exit_:
            align_fits(arguments)
        assert exit_.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith("align-fits: ")
        assert lines[1:] == ["Try 'align-fits --help'."]


def test_the_image_is_told_of_when_it_is_there(folder, capsys, monkeypatch):
    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr("spalipy_astro.commands._one.write_hdus", fail)
    assert align_fits(["raw/f0.fits", "o.fits", "-tf", "template.fits"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "align-fits: OSError: the disk is full\n"


def test_what_nobody_expected_is_a_line_too(folder, capsys, monkeypatch):
    def fail(*args):
        raise KeyError("surprise")

    monkeypatch.setattr("spalipy_astro.commands._one.write_hdus", fail)
    command = ["raw/f0.fits", "o.fits", "-tf", "template.fits"]
    assert align_fits(command) == 1
    assert re.match(r"align-fits: unexpected KeyError: .*-vv.*\n$", capsys.readouterr().err)
    assert align_fits([*command, "-vv"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_warning_is_a_line(folder, capsys):
    with fits.open("raw/f0.fits", mode="update") as hdus:
        hdus[0].header["BUNIT"] = "furlongs"
    shutil.copy("raw/f0.fits", "raw/f1.fits")
    assert align_fits(["raw/f0.fits", "raw/f1.fits", "out", "-tf", "template.fits"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "furlongs" in line]
    assert len(lines) == 2
    assert all(line.startswith("warning: ") for line in lines)


def test_options_without_effect_come_last(capsys):
    with pytest.raises(SystemExit):
        align_fits(["--help"])
    text = capsys.readouterr().out
    assert text.index("options of spalipy without effect") > text.index("--log-file FILE")
    assert text.index("--sub-tile") > text.index("options of spalipy without effect")


@pytest.mark.parametrize("options", [[], ["-q"], ["--json"]])
def test_warnings_of_worker_processes_are_lines_like_others(folder, capfd, options):
    with fits.open("raw/f0.fits", mode="update") as hdus:
        hdus[0].header["BUNIT"] = "furlongs"
    command = ["raw/f0.fits", "raw/f1.fits", "out", "-tf", "template.fits", "--workers", "2"]
    assert align_fits([*command, *options, "--log-file", "night.log"]) == 0
    lines = capfd.readouterr().err.splitlines()
    if options == ["-q"]:
        assert lines == []
    else:
        assert len(lines) == 1
        assert re.match(r"warning: .*furlongs", lines[0])
    logged = [line for line in (folder / "night.log").read_text().splitlines() if "furl" in line]
    assert len(logged) == 1
    assert "WARNING" in logged[0]


def test_the_output_that_was_forgotten(folder, capsys):
    with pytest.raises(SystemExit):
        align_fits(["raw/f0.fits", "raw/f1.fits", "-tf", "template.fits", "raw/f2.fits"])
    assert "need a folder as OUTPUT, the last of the names" in capsys.readouterr().err
