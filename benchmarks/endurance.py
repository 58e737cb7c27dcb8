"""
Memory and open files while a very long night is aligned, a twentieth of it broken.

Small frames, of which a few are written and many names lead to them, are aligned to one template
with files of images and alignments. After the first fifth and at the end the memory of the process
(and of its workers), its open files and its threads are counted: none of them may grow. (Before,
asdf fills a cache: it keeps the validators of the last 128 files.) The exit status is 1 if memory
grows by more than 2 %, or if anything else grows at all.

    python benchmarks/endurance.py              # 2,000 frames, one process
    python benchmarks/endurance.py --workers 2
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

DISTINCT = 20
BROKEN = 20  # one frame of so many is broken


def render(shift: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the same stars, moved."""
    stars = np.random.default_rng(1)
    xy, flux = stars.uniform(-20, 240, (80, 2)) + shift, 10 ** stars.uniform(3.2, 4.6, 80)
    y, x = np.mgrid[:200, :220].astype(float)
    image = 100 + rng.normal(0, 3, x.shape)
    for (a, b), f in zip(xy, flux, strict=True):
        image += f / 10.6 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 3.38)
    return image.astype("f4")


def make_night(folder: Path, number: int) -> int:
    """Write template.fits and so many names of frames; return how many of them are broken."""
    rng = np.random.default_rng(2)
    fits.writeto(folder / "template.fits", render(np.zeros(2), rng))
    good, bad = [], []
    for k in range(DISTINCT):
        good.append(folder / f"good{k}")
        fits.writeto(good[-1], render(rng.uniform(-9, 9, 2), rng))
    whole = good[0].read_bytes()
    for k, content in enumerate((b"", b"no image", whole[: len(whole) // 2], whole[:3000])):
        bad.append(folder / f"bad{k}")
        bad[-1].write_bytes(content)
    for data in (np.full((90, 80), np.nan), rng.normal(100, 3, (200, 220)), np.ones((3, 9, 9))):
        bad.append(folder / f"bad{len(bad)}")
        fits.writeto(bad[-1], data)
    (folder / "raw").mkdir()
    for k in range(number):
        files = bad if k % BROKEN == BROKEN - 1 else good
        os.link(files[k // BROKEN % len(files)], folder / "raw" / f"f{k:05d}.fits")
    return number // BROKEN


def state() -> dict[str, int]:
    """Count what this process and its children hold; memory in kB."""
    total = {"memory": 0, "files": 0, "threads": 0}
    me = os.getpid()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if int(path.name) != me and parent != me:
                continue
            status = dict(line.split(":", 1) for line in (path / "status").read_text().splitlines())
            total["memory"] += int(status["VmRSS"].split()[0])
            total["threads"] += int(status["Threads"])
            total["files"] += len(os.listdir(path / "fd"))
        except (OSError, KeyError):
            continue
    return total


def main() -> int:
    """Align the night and print what was counted."""
    from spalipy_astro import align_many

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--number", type=int, default=2000, help="frames (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    states: dict[int, dict[str, int]] = {}
    looks = {round(options.number * k / 10) for k in range(1, 11)}

    def look(done: int, total: int | None, row: object) -> None:
        if done in looks:
            states[done] = state()
            print(f"{done:6d} frames: " + ", ".join(f"{k} {v}" for k, v in states[done].items()))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broken = make_night(folder, options.number)
        begin = time.process_time()
        table = align_many(
            folder / "raw",
            folder / "template.fits",
            output=folder / "out",
            n_workers=options.workers,
            progress=look,
        )
        seconds = time.process_time() - begin
        hidden = list((folder / "out").glob(".*"))
    failed = int((table["status"] == "failed").sum())
    print(f"{failed} of {len(table)} failed, {broken} are broken; {seconds:.0f} s of CPU")
    first, last = (states[k] for k in (sorted(states)[1], max(states)))
    growth = last["memory"] / first["memory"] - 1
    print(f"memory grew by {100 * growth:.1f} %, files by {last['files'] - first['files']}")
    grew = last["files"] > first["files"] or last["threads"] > first["threads"]
    return int(failed != broken or bool(hidden) or growth > 0.02 or grew)


if __name__ == "__main__":
    sys.exit(main())
