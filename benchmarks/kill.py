"""
Runs that are killed at random instants: what is left, and whether the next run goes on.

Small frames are aligned in several ways, each as a process of its own that gets SIGTERM, SIGKILL or
SIGINT at an instant between its start and its end. After each: are processes alive 10 s later, is
a file half written, and after the same command once more, are temporary files left or results
missing? All of these must be 0; the exit status is 1 otherwise. Linux only.

    python benchmarks/kill.py            # 100 instants
    python benchmarks/kill.py --number 7 --seed 3
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

FRAMES = 16
PATIENCE = 10.0  # s
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)
SCRIPT = """
import sys
from spalipy_astro import align_many
if __name__ == "__main__":
    align_many("raw", TEMPLATE, output="out", progress=False, OPTIONS)
"""
COMMAND = "import sys; from spalipy_astro.commands import align_fits; sys.exit(align_fits())"


def batch(template: str = "'template.fits'", **options: object) -> list[str]:
    """Return the arguments of a program that calls align_many."""
    listed = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return ["go.py", template, listed]


MODES = {
    "align_many": batch(),
    "align_many, 2 workers": batch(n_workers=2),
    "align_many, 2 threads": batch(n_workers=2, executor="threads"),
    "images alone, 2 workers": batch(alignments=False, n_workers=2),
    "alignments alone": batch(resample=False),
    "union, 2 workers": batch(grid="union", n_workers=2),
    "best template": batch("'best'"),
    "align-fits, a folder": ["raw", "out", "-tf", "template.fits"],
    "align-fits, 2 workers": ["raw", "out", "-tf", "template.fits", "--workers", "2"],
    "align-fits, one image": ["raw/f00.fits", "out/", "-tf", "template.fits"],
}


def make_frames(folder: Path) -> None:
    """Write a template and frames of the same sky, moved a little."""
    rng = np.random.default_rng(1)
    xy, flux = rng.uniform(-20, 240, (80, 2)), 10 ** rng.uniform(3.2, 4.6, 80)
    (folder / "raw").mkdir()
    y, x = np.mgrid[:200, :220].astype(float)
    for k in range(FRAMES + 1):
        moved = xy + (0 if k == FRAMES else rng.uniform(-9, 9, 2))
        image = 100 + rng.normal(0, 3, x.shape)
        for (a, b), f in zip(moved, flux, strict=True):
            image += f / 10.6 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 3.38)
        name = "template.fits" if k == FRAMES else f"raw/f{k:02d}.fits"
        fits.writeto(folder / name, image.astype("f4"))


def line_of(mode: str, folder: Path) -> list[str]:
    """Return the command line of a mode."""
    arguments = MODES[mode]
    if arguments[0] != "go.py":
        return [sys.executable, "-c", COMMAND, *arguments]
    text = SCRIPT.replace("TEMPLATE", arguments[1]).replace("OPTIONS", arguments[2])
    (folder / "go.py").write_text(text, encoding="utf-8")
    return [sys.executable, "go.py"]


def start(mode: str, folder: Path) -> subprocess.Popen:
    """Start a run in a session of its own."""
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        line_of(mode, folder),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def living(session: int) -> list[int]:
    """Return the processes of a session that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(sid) == session and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def is_whole(path: Path) -> bool:
    """Whether a file of a result can be read."""
    from spalipy_astro import Alignment

    try:
        if path.suffix == ".asdf":
            Alignment.read(path)
        else:
            with fits.open(path, memmap=False) as hdus:
                for hdu in hdus:
                    _ = hdu.data
                hdus.verify("exception")
    except Exception:
        return False
    return True


def expected(mode: str) -> int:
    """Return the number of files that a mode makes."""
    if mode == "align-fits, one image":
        return 1
    return FRAMES if "alone" in mode else 2 * FRAMES


def run(mode: str, seed: int, durations: dict[str, float]) -> dict[str, int]:
    """Kill a run at a random instant and look at what is left."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_frames(folder)
        (folder / "tmp").mkdir()
        if mode not in durations:
            begin = time.monotonic()
            start(mode, folder).wait()
            durations[mode] = time.monotonic() - begin
            for path in (folder / "out").iterdir():
                path.unlink()
        process = start(mode, folder)
        instant = dice.uniform(0.2, 1.05) * durations[mode]
        number = dice.choice(SIGNALS)
        try:
            process.wait(instant)
        except subprocess.TimeoutExpired:
            if number == signal.SIGINT:
                os.killpg(process.pid, number)  # as a terminal does
            else:
                process.send_signal(number)
        limit = time.monotonic() + PATIENCE
        while living(process.pid) and time.monotonic() < limit:
            process.poll()
            time.sleep(0.05)
        orphans = living(process.pid)
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
        process.wait()
        made = [path for path in folder.glob("out/*") if path.is_file()]
        half = [path for path in made if not is_whole(path)]
        again = start(mode, folder)
        status = again.wait()
        left = list(folder.glob("out/.*")) + list((folder / "tmp").iterdir())
        whole = [path for path in folder.glob("out/*") if is_whole(path)]
        # a single image that was there already is not replaced
        there = mode == "align-fits, one image" and bool(made)
        return {
            "killed": int(process.returncode not in (0, None)),
            "orphans": len(orphans),
            "half-written": len(half),
            "temporary": len(left),
            "not finished": int(status != int(there) or len(whole) != expected(mode)),
        }


def main() -> int:
    """Run all modes in turn and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--number", type=int, default=100, help="instants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    durations: dict[str, float] = {}
    totals: dict[str, dict[str, int]] = {}
    for k in range(options.number):
        mode = list(MODES)[k % len(MODES)]
        found = run(mode, 1000 * options.seed + k, durations)
        total = totals.setdefault(mode, {"runs": 0, **dict.fromkeys(found, 0)})
        total["runs"] += 1
        for name, value in found.items():
            total[name] += value
        if any(found[name] for name in list(found)[1:]):
            print(f"instant {k}, {mode}: {found}", flush=True)
    columns = ["runs", "killed", "orphans", "half-written", "temporary", "not finished"]
    print(f"{'':26s}" + "".join(f"{name:>14s}" for name in columns))
    for mode, total in totals.items():
        print(f"{mode:26s}" + "".join(f"{total[name]:14d}" for name in columns))
    sums = [sum(total[name] for total in totals.values()) for name in columns]
    print(f"{'all':26s}" + "".join(f"{value:14d}" for value in sums))
    return int(any(sums[2:]))


if __name__ == "__main__":
    sys.exit(main())
