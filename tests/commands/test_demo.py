from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

from spalipy_astro import Alignment
from spalipy_astro.commands import main
from spalipy_astro.errors import NoMatchError

NAMES = {"aligned.fits", "alignment.asdf", "alignment.png"}

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo as a user does, once for all tests that look at its output."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "output"
    command = [sys.executable, "-P", "-m", "spalipy_astro", "demo", str(folder)]
    return folder, subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_demo_says_what_it_wrote(demo):
    folder, run = demo
    assert run.returncode == 0, run.stderr
    assert {path.name for path in folder.iterdir()} == NAMES
    assert all(str(folder / name) in run.stdout for name in NAMES)
    assert "matched stars" in run.stdout
    assert run.stderr == ""


def test_demo_output_is_right(demo, example_pair):
    folder, _ = demo
    source, template = example_pair
    alignment = Alignment.read(folder / "alignment.asdf")
    assert alignment.summary()["n_used"] > 200
    assert alignment.transform(500, 300) == pytest.approx((359.4, 440.6), abs=0.2)
    with fits.open(folder / "aligned.fits") as hdus:
        hdus.verify("exception")
        assert hdus[0].data.shape == template.shape
        np.testing.assert_array_equal(hdus[0].data, alignment.resample(source).data)
    assert (folder / "alignment.png").read_bytes().startswith(b"\x89PNG")


def test_files_are_not_overwritten(tmp_path, capsys):
    (tmp_path / "alignment.asdf").write_text("precious")
    assert main(["demo", str(tmp_path)]) == 1
    assert "alignment.asdf exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["alignment.asdf"]
    assert (tmp_path / "alignment.asdf").read_text() == "precious"


def test_files_are_overwritten_on_request(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_text("old")
    assert main(["demo", str(tmp_path), "--overwrite"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == NAMES
    assert all((tmp_path / name).stat().st_size > 10_000 for name in NAMES)


def test_failure_of_the_work(tmp_path, capsys, monkeypatch):
    def fail(source, template):
        raise NoMatchError("two unrelated skies")

    monkeypatch.setattr("spalipy_astro.registration.find_alignment", fail)
    assert main(["demo", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "python -m spalipy_astro: NoMatchError: two unrelated skies\n"
    assert list(tmp_path.iterdir()) == []


def test_file_in_the_place_of_the_folder(tmp_path, capsys):
    (tmp_path / "output").touch()
    assert main(["demo", str(tmp_path / "output")]) == 1
    assert "output" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["demo"], ["dance"], ["demo", "a", "--fast"]])
def test_misunderstood_command(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m spalipy_astro")
    assert "Try 'python -m spalipy_astro" in error
    assert len(error.splitlines()) == 2
