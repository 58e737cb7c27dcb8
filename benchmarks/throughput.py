"""
Frames per second of a night, against loops over spalipy and astroalign.

A night of frames of 1024 x 1024 pixels is rendered, a fifth of them broken in five ways. It is
aligned with `align_many`, as it is, without files of alignments, and so by two processes, whose
start is counted, or by those of a pool that has worked before (of which the CPU time counts the
start); and with a loop over each peer that catches all exceptions. Each in a process of its own,
reading and writing the same FITS files, one BLAS thread, after four frames that are not counted.
Numbers that compare well on a busy machine are the ratios of CPU time. The peak memory is that of
the first process.

    python benchmarks/throughput.py make night         # make the frames
    python benchmarks/throughput.py compare night --peers /path/to/python/with/peers
    python benchmarks/throughput.py memory night       # peak memory of 20 and of all frames
    python benchmarks/throughput.py scaling night      # one and two dask workers
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

SHAPE = (1024, 1024)
OURS = {
    "align_many": {},
    "images alone": {"alignments": False},
    "by 2 processes": {"alignments": False, "n_workers": 2},
    "by 2 of a pool": {"alignments": False, "n_workers": 2, "pool": True},
}
BROKEN = ("empty", "truncated", "other field", "all NaN", "no stars")


def render(xy: np.ndarray, flux: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw stars of 2.8 px FWHM on a sky of 200 counts."""
    image = np.full(SHAPE, 200.0)
    sigma, half = 2.8 / 2.355, 8
    for (x, y), f in zip(xy, flux, strict=True):
        i, j = round(float(y)), round(float(x))
        if not (half <= i < SHAPE[0] - half and half <= j < SHAPE[1] - half):
            continue
        yy, xx = np.mgrid[i - half : i + half + 1, j - half : j + half + 1]
        star = np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * sigma**2))
        image[i - half : i + half + 1, j - half : j + half + 1] += f / (2 * np.pi * sigma**2) * star
    return rng.poisson(image).astype(np.float32)


def make_night(folder: Path, number: int) -> None:
    """Write template.fits, the frames, and truth.json."""
    from astropy.io import fits

    folder.mkdir(parents=True)
    rng = np.random.default_rng(2026)
    sky = rng.uniform(-150, 1174, (900, 2))
    flux = 800 * rng.uniform(0, 1, 900) ** -0.9
    other = rng.uniform(-150, 1174, (900, 2))
    fits.PrimaryHDU(render(sky, flux, rng)).writeto(folder / "template.fits")
    truth = {}
    for k in range(number):
        angle, shift = np.deg2rad(rng.normal(0, 0.5)), rng.normal(0, 15, 2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        kind = BROKEN[k // 5 % 5] if k % 5 == 4 else "good"
        stars = other if kind == "other field" else sky
        image = render((stars - 512) @ turn.T + 512 + shift, flux, rng)
        if kind == "all NaN":
            image[:] = np.nan
        if kind == "no stars":
            image = rng.poisson(200, SHAPE).astype(np.float32)
        name = f"frame{k:03d}.fits"
        fits.PrimaryHDU(image).writeto(folder / name)
        if kind in ("empty", "truncated"):
            whole = (folder / name).read_bytes()
            (folder / name).write_bytes(whole[: len(whole) // 2] if kind == "truncated" else b"")
        truth[name] = kind
    (folder / "truth.json").write_text(json.dumps(truth, indent=0))


def frames_of(folder: Path, number: int) -> list[Path]:
    """Return the paths of the first frames."""
    return sorted(folder.glob("frame*.fits"))[:number]


def run_align_many(paths: list[Path], template: Path, out: Path, **options: object) -> list:
    """Return which frames were aligned."""
    from spalipy_astro import align_many

    table = align_many(paths, template, output=out, **options)
    return [status == "ok" for status in table["status"]]


def run_peer(peer: str, paths: list[Path], template: Path, out: Path) -> list:
    """Loop over a peer; return which frames it called aligned."""
    from astropy.io import fits

    out.mkdir()
    target = np.ascontiguousarray(fits.getdata(template), dtype=float)
    done = []
    for path in paths:
        try:
            source = np.ascontiguousarray(fits.getdata(path), dtype=float)
            if peer == "spalipy":
                from spalipy import Spalipy

                job = Spalipy(source, template_data=target)
                job.align()
                aligned = job.aligned_data
            else:
                import astroalign

                aligned = astroalign.register(source, target)[0]
            fits.PrimaryHDU(np.asarray(aligned, dtype=np.float32)).writeto(out / path.name)
            done.append(True)
        except Exception:
            done.append(False)
    return done


def cpu_time() -> float:
    """Return the CPU time of this process and of those that it has started and seen end."""
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + of_children.ru_utime + of_children.ru_stime


def child(options: argparse.Namespace) -> None:
    """Measure one program in this process and print the figures."""
    paths, template = frames_of(options.folder, options.number), options.folder / "template.fits"
    own = dict(OURS.get(options.program, {}))
    pool = None
    if own.pop("pool", False):
        own["executor"] = pool = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
    with tempfile.TemporaryDirectory() as scratch:
        for stage, some in (("warm", paths[:4]), ("all", paths)):
            begin = time.perf_counter(), cpu_time()
            if options.program in OURS:
                done = run_align_many(some, template, Path(scratch) / stage, **own)
            else:
                done = run_peer(options.program, some, template, Path(scratch) / stage)
            wall = time.perf_counter() - begin[0]
            # the CPU time of processes counts once they have ended
            if pool is None:
                for process in multiprocessing.active_children():
                    process.join()
            elif stage == "all":
                pool.shutdown()
    figures = {
        "wall": wall,
        "cpu": cpu_time() - begin[1],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "done": done,
    }
    print(json.dumps(figures))


def measure(python: str, program: str, folder: Path, number: int) -> dict:
    """Measure a program in a process of its own."""
    threads = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    command = [python, __file__, "child", str(folder), "--program", program]
    result = subprocess.run(
        [*command, "--number", str(number)],
        env={**os.environ, **threads, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def compare(options: argparse.Namespace) -> None:
    """Print frames per second and what became of the frames."""
    kinds = list(json.loads((options.folder / "truth.json").read_text()).values())
    programs = [(name, sys.executable, options.number) for name in OURS]
    if options.peers:
        number = options.peers_number or options.number
        programs += [(name, options.peers, number) for name in ("spalipy", "astroalign")]
    print("program         frames  aligned  wrongly  CPU s/frame  wall s/frame  peak MB")
    for name, python, number in programs:
        figures = measure(python, name, options.folder, number)
        good = np.array([kind == "good" for kind in kinds[:number]])
        done = np.array(figures["done"])
        cpu, wall = figures["cpu"] / number, figures["wall"] / number
        print(
            f"{name:14s} {number:7d} {np.sum(done & good):4d}/{good.sum():<3d} "
            f"{np.sum(done & ~good):8d} {cpu:12.3f} {wall:13.3f} {figures['peak_mb']:8.0f}"
        )


def memory(options: argparse.Namespace) -> None:
    """Print the peak memory of few and of many frames."""
    for number in (20, options.number):
        figures = measure(sys.executable, "align_many", options.folder, number)
        print(f"{number:4d} frames: peak {figures['peak_mb']:.0f} MB")


def scaling(options: argparse.Namespace) -> None:
    """Print the throughput of one and two dask workers."""
    from distributed import Client, LocalCluster

    paths, template = frames_of(options.folder, options.number), options.folder / "template.fits"
    walls, cpus = [], []
    for workers in (1, 2):
        with (
            tempfile.TemporaryDirectory() as scratch,
            LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            run_align_many(paths[: 2 * workers], template, Path(scratch) / "warm", client=client)
            before, own = client.run(time.process_time), time.process_time()
            begin = time.perf_counter()
            run_align_many(paths, template, Path(scratch) / "all", client=client)
            walls.append(time.perf_counter() - begin)
            own = time.process_time() - own
            after = client.run(time.process_time)
        cpus.append(max(after[name] - before[name] for name in before))
        print(
            f"{workers} workers: {len(paths) / walls[-1]:.2f} frames/s; CPU of the busiest worker "
            f"{cpus[-1]:.1f} s, of the client and the scheduler {own:.1f} s"
        )
    print(
        f"ratio {walls[0] / walls[1]:.2f} at load average {os.getloadavg()[0]:.1f}; where every "
        f"worker has a core to itself {cpus[0] / cpus[1]:.2f}"
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", choices=["make", "compare", "memory", "scaling", "child"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--number", type=int, default=100, help="how many frames")
    parser.add_argument("--peers", help="python that has spalipy and astroalign")
    parser.add_argument("--peers-number", type=int, help="how many frames for the peers")
    parser.add_argument("--program", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.command == "make":
        make_night(options.folder, options.number)
    else:
        {"compare": compare, "memory": memory, "scaling": scaling, "child": child}[options.command](
            options
        )


if __name__ == "__main__":
    main()
