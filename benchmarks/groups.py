"""
Time and memory of `align_group`, beside `align_many` on the same frames.

Frames of a camera with distortion are drawn: on a grid with steps of a third of a frame, each
moved and turned a little, so that the field grows with their number; or, with ``--field dithers``,
all within a quarter of a frame, so that each pair overlaps. Each run is a process of its own, after
imports. Numbers that compare well on a busy machine are those of CPU time, workers included; memory
is the peak of the first process and, if there are workers, the largest peak of one of them.

    python benchmarks/groups.py make frames --number 50           # draw the frames
    python benchmarks/groups.py group frames --workers 2          # time and memory of align_group
    python benchmarks/groups.py compare frames                    # beside align_many, each frame
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SKY, SIGMA, HALF = 200.0, 2.8 / 2.355, 8
BEND = 2.0  # px in the corners


def bent(u: np.ndarray, size: int) -> np.ndarray:
    """Distort positions about the middle of a frame, as a camera does."""
    radius = size / 2**0.5
    return u * (1 + BEND / radius * np.sum((u / radius) ** 2, axis=1, keepdims=True))


def render(xy: np.ndarray, flux: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw stars of 2.8 px FWHM on a sky of 200 electrons."""
    image = np.full((size, size), SKY)
    for (x, y), f in zip(xy, flux, strict=True):
        i, j = round(float(y)), round(float(x))
        if not (HALF <= i < size - HALF and HALF <= j < size - HALF):
            continue
        yy, xx = np.mgrid[i - HALF : i + HALF + 1, j - HALF : j + HALF + 1]
        star = np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * SIGMA**2))
        image[i - HALF : i + HALF + 1, j - HALF : j + HALF + 1] += f / (2 * np.pi * SIGMA**2) * star
    return rng.poisson(image).astype(np.float32)


def centers_of(number: int, field: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return where the frames point, px of the sky."""
    if field == "dithers":
        return rng.uniform(-size / 8, size / 8, (number, 2))
    side = int(np.ceil(number**0.5))
    grid = np.array([(i, j) for j in range(side) for i in range(side)][:number], dtype=float)
    return grid * size / 3 + rng.uniform(-size / 50, size / 50, (number, 2))


def make(folder: Path, number: int, size: int, stars: int, field: str, seed: int) -> None:
    """Write the frames and truth.json; `stars` is how many of them a frame of 1024 px shows."""
    from astropy.io import fits

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    centers = centers_of(number, field, size, rng)
    turns = np.radians(rng.uniform(-3, 3, number))
    low, high = centers.min(axis=0) - size, centers.max(axis=0) + size
    count = int(stars * np.prod(high - low) / 1024**2)
    sky, flux = rng.uniform(low, high, (count, 2)), 3e3 * rng.uniform(2e-3, 1, count) ** -0.9
    middle = (size - 1) / 2
    for k, (center, turn) in enumerate(zip(centers, turns, strict=True)):
        c, s = np.cos(turn), np.sin(turn)
        near = np.all(np.abs(sky - center) < size, axis=1)
        xy = bent((sky[near] - center) @ np.array([[c, -s], [s, c]]), size) + middle
        frame = render(xy, flux[near], size, rng)
        fits.writeto(folder / f"frame{k:04d}.fits", frame, overwrite=True)
    truth = {"centers": centers.tolist(), "turns": turns.tolist(), "size": size}
    (folder / "truth.json").write_text(json.dumps(truth))


def errors_of(group, truth: dict) -> np.ndarray:
    """Return how far each frame's middle is from where it belongs, px, but for an affine map."""
    middle = (truth["size"] - 1) / 2
    placed = [k for k, a in enumerate(group.alignments) if a is not None]
    found = np.array([group.alignments[k].transform(middle, middle) for k in placed], dtype=float)
    sky = np.array(truth["centers"])[placed]
    terms = np.column_stack((np.ones(len(placed)), found))
    gap = terms @ np.linalg.lstsq(terms, sky, rcond=None)[0] - sky
    errors = np.full(len(group.alignments), np.nan)
    errors[placed] = np.hypot(*gap.T)
    return errors


def measure(job: str, folder: Path, workers: int, camera: str | None, profile: bool) -> dict:
    """Run one of both and return its figures; in a process of its own."""
    from spalipy_astro import align_group, align_many

    files = sorted(map(str, folder.glob("frame*.fits")))
    truth = json.loads((folder / "truth.json").read_text())
    steps: dict[str, float] = {}
    last = [time.process_time()]

    def note(done: int, total: int | None, row: dict) -> None:
        now = time.process_time()
        steps[row["step"]] = steps.get(row["step"], 0.0) + now - last[0]
        last[0] = now

    figures: dict = {"job": job, "frames": len(files), "workers": workers}
    start = time.perf_counter()
    if job == "group":
        if profile:
            import cProfile

            profiler = cProfile.Profile()
            profiler.enable()
        last[0] = first = time.process_time()
        group = align_group(files, camera=camera, n_workers=workers, progress=note)
        steps["solution"] = time.process_time() - last[0]
        if profile:
            profiler.disable()
            profiler.dump_stats(folder / "profile.pstats")
        errors = errors_of(group, truth)
        figures |= {
            "placed": int(np.isfinite(errors).sum()),
            "links": len(group.links),
            "components": int(group.table["component"].max()) + 1,
            "median error, px": float(np.nanmedian(errors)),
            "largest error, px": float(np.nanmax(errors)),
            "CPU s of the first process": {k: round(v, 1) for k, v in steps.items()},
        }
    else:
        first = time.process_time()
        centers = np.array(truth["centers"])
        middle = int(np.argmin(np.sum((centers - centers.mean(axis=0)) ** 2, axis=1)))
        table = align_many(files, files[middle], n_workers=workers, progress=False)
        figures["placed"] = int(np.sum(table["status"] == "ok"))
    wall = time.perf_counter() - start
    own = time.process_time() - first
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own + children.ru_utime + children.ru_stime
    figures |= {
        "wall s": round(wall, 1),
        "CPU s": round(total, 1),
        "CPU s a frame": round(total / len(files), 3),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "peak MB of a worker": children.ru_maxrss // 1024,
    }
    return figures


def in_process(*arguments: str) -> dict:
    """Measure in another process."""
    command = [sys.executable, __file__, "measure", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("what", choices=["make", "group", "compare", "measure"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--number", type=int, default=50)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--stars", type=int, default=600)
    parser.add_argument("--field", choices=["grid", "dithers"], default="grid")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--camera", choices=["shared"])
    parser.add_argument("--job", choices=["group", "many"], default="group")
    parser.add_argument("--profile", action="store_true", help="write FOLDER/profile.pstats")
    given = parser.parse_args()
    if given.what == "make":
        make(given.folder, given.number, given.size, given.stars, given.field, given.seed)
        return
    if given.what == "measure":
        result = measure(given.job, given.folder, given.workers, given.camera, given.profile)
        print(json.dumps(result))
        return
    common = [str(given.folder), "--workers", str(given.workers)]
    extra = ["--camera", given.camera] if given.camera else []
    extra += ["--profile"] if given.profile else []
    group = in_process(*common, *extra)
    print(json.dumps(group, indent=1))
    if given.what == "compare":
        many = in_process(*common, "--job", "many")
        print(json.dumps(many, indent=1))
        ratio = group["CPU s a frame"] / many["CPU s a frame"]
        print(f"CPU a frame, align_group over align_many: {ratio:.2f}")


if __name__ == "__main__":
    main()
