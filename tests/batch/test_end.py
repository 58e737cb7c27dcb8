"""However a batch ends: no process, no part of a file and no temporary folder is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from astropy.io import fits

from spalipy_astro import align_many
from spalipy_astro._files import _prefix, clear_partial, scratch_folder, whole_file
from spalipy_astro._workers import Processes

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")

SMALL = {"source_shape": (210, 260), "template_shape": (240, 220), "n_stars": 90}
SCRIPT = """
import sys
from spalipy_astro import align_many
if __name__ == "__main__":
    align_many("raw", "template.fits", output="out", n_workers=int(sys.argv[1]), progress=False)
"""


@pytest.fixture
def folder(make_sky_pair, tmp_path, monkeypatch):
    pair = make_sky_pair(seed=4, **SMALL)
    (tmp_path / "raw").mkdir()
    (tmp_path / "tmp").mkdir()
    for k in range(40):
        fits.writeto(tmp_path / "raw" / f"f{k:02d}.fits", pair.source.data)
    fits.writeto(tmp_path / "template.fits", pair.template.data)
    (tmp_path / "go.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def members(session):
    """The living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(sid) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def start(folder, command):
    """Start a batch in a session of its own; return once its first images are there."""
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    limit = time.monotonic() + 60
    while len(list(folder.glob("out/*_aligned.fits"))) < 2:
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < limit
        time.sleep(0.02)
    return process


def wait_for_the_end(session):
    limit = time.monotonic() + 10
    while left := members(session):
        if time.monotonic() > limit:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            pytest.fail(f"{len(left)} processes are alive after 10 s")
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(folder, number):
    process = start(folder, ["go.py", "2"])
    process.send_signal(number)
    assert process.wait(30) == -number
    wait_for_the_end(process.pid)
    for path in folder.glob("out/*.fits"):
        with fits.open(path) as hdus:
            hdus.verify("exception")
    # the next run removes what the killed one has left, and goes on
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    subprocess.run([sys.executable, "go.py", "2"], check=True, env=environment)
    assert len(list(folder.glob("out/*_aligned.fits"))) == 40
    assert len(list(folder.joinpath("out").iterdir())) == 80
    assert list(folder.joinpath("tmp").iterdir()) == []


def test_the_command_is_interrupted_in_one_line(folder):
    run = "import sys; from spalipy_astro.commands import align_fits; sys.exit(align_fits())"
    arguments = ["raw", "out", "-tf", "template.fits", "--workers", "2", "--quiet"]
    process = start(folder, ["-c", run, *arguments])
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(30) == 130
    wait_for_the_end(process.pid)
    (line,) = (folder / "log").read_text().splitlines()
    assert "interrupted" in line
    assert list(folder.joinpath("tmp").iterdir()) == []
    assert [path.name for path in folder.joinpath("out").iterdir() if path.name[0] == "."] == []


def test_the_command_tidies_up_when_it_is_told_to_end(folder):
    run = "import sys; from spalipy_astro.commands import align_fits; sys.exit(align_fits())"
    process = start(folder, ["-c", run, "raw", "out", "-tf", "template.fits"])
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert len((folder / "log").read_text().splitlines()) == 1
    assert [path.name for path in folder.joinpath("out").iterdir() if path.name[0] == "."] == []


def test_two_runs_on_one_folder(folder):
    both = [start(folder, ["go.py", "1"])]
    both.append(subprocess.Popen([sys.executable, "go.py", "1"]))
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(list(folder.joinpath("out").iterdir())) == 80
    table = align_many("raw", "template.fits", output="out")
    assert all(table["resumed"])


def test_an_exception_ends_the_workers_at_once():
    began = time.monotonic()
    workers = []

    def interrupted():
        with Processes(1) as processes:
            next(processes.run(len, [[1]]))
            workers.extend(processes.pool._processes.values())
            for _ in processes.run(time.sleep, [0.01, 600.0]):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < 60
    assert [worker.is_alive() for worker in workers] == [False]


def test_no_worker_outlives_the_block():
    # One that ends on its own while this process ends prints a traceback now and then.
    with Processes(2) as processes:
        assert dict(processes.run(abs, [-1, 2, -3])) == {0: 1, 1: 2, 2: 3}
        workers = list(processes.pool._processes.values())
    assert len(workers) == 2
    assert [worker.is_alive() for worker in workers] == [False, False]


def test_temporary_files_of_libraries_are_where_they_are_removed():
    # A worker that was killed while astropy had one left it for ever.
    with Processes(1) as processes:
        ((_, (_, path)),) = processes.run(tempfile.mkstemp, [".probe"])
        assert Path(path).parent == processes.folder
        assert Path(path).is_file()
    assert not Path(path).exists()


def test_only_what_is_abandoned_is_removed(tmp_path):
    place, pid, start = _prefix().removeprefix(".spalipy_astro-").removesuffix("-").split(".")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = {
        "own": f"{place}.{pid}.{start}-a",
        "parent": f"{place}.{os.getppid()}.0-a",  # its number, but another process
        "ended": f"{place}.{ended.pid}.77-a",
        "elsewhere": f"00000000.{ended.pid}.77-a",
        "forgotten": f"00000001.{ended.pid}.77-a",
    }
    paths = {key: tmp_path / f".spalipy_astro-{name}" for key, name in names.items()}
    for path in paths.values():
        path.mkdir()
        (path / "part.fits").write_text("half")
    other = tmp_path / ".spalipy"
    other.mkdir()
    old = time.time() - 7200
    for path in (paths["forgotten"], paths["forgotten"] / "part.fits"):
        os.utime(path, (old, old))
    clear_partial(tmp_path)
    assert {path for path in tmp_path.iterdir()} == {paths["own"], paths["elsewhere"], other}
    clear_partial(tmp_path / "nowhere")
    with whole_file(tmp_path / "x.txt") as part, scratch_folder() as scratch:
        clear_partial(tmp_path)
        clear_partial(scratch.parent)
        assert scratch.is_dir()
        part.write_text("whole")
    assert (tmp_path / "x.txt").read_text() == "whole"
    assert not scratch.exists()
