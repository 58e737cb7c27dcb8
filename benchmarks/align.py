"""
Time and memory of the whole alignment of one pair of images, beside astroalign.

A pair is rendered for each size, with a distortion of 0.2 px at the corners of 1024 x 1024 pixels
and as much more as the frame is larger. Each program aligns it in a process of its own, one BLAS
thread, several times over: what the first call in a process takes, with all that is loaded for it,
and what the next ones do. Imports that a program makes when it is imported itself are not counted.
The peak is that of the whole process.

    python benchmarks/align.py --peers /path/to/python/with/astroalign
    python benchmarks/align.py --sizes 4096
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def render(size: int, folder: Path) -> None:
    """Write a source and a template of the same sky."""
    rng = np.random.default_rng(size)
    number = 500 * (size // 1024) ** 2
    sky, flux = rng.uniform(-0.1, 1.1, (number, 2)) * size, 2e3 * rng.uniform(0, 1, number) ** -0.9
    u = sky / size - 0.5
    turned = sky @ np.array([[0.9998, 0.02], [-0.02, 0.9998]]) + (12.3, -7.9)
    bent = turned + 5e-4 * size * u * np.sum(u**2, axis=1, keepdims=True)
    for name, xy in (("template", sky), ("source", bent)):
        image = rng.normal(300.0, 17.0, (size, size)).astype(np.float32)
        for (x, y), light in zip(xy, flux, strict=True):
            i, j = round(y), round(x)
            if 8 <= i < size - 8 and 8 <= j < size - 8:
                yy, xx = np.ogrid[i - 8 : i + 9, j - 8 : j + 9]
                star = np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 2.88) / 9.05
                image[i - 8 : i + 9, j - 8 : j + 9] += light * star
        np.save(folder / f"{name}.npy", image)


def child(program: str, folder: Path, calls: int) -> None:
    """Align the pair several times in this process and print the figures."""
    source, template = (np.load(folder / f"{name}.npy") for name in ("source", "template"))
    if program == "astroalign":
        import astroalign

        def align() -> object:
            return astroalign.register(source, template)
    else:
        import astropy.modeling.models
        import astropy.nddata

        import spalipy_astro

        pair = [astropy.nddata.CCDData(image, unit="electron") for image in (source, template)]

        def align() -> object:
            return spalipy_astro.align(*pair)

    seconds = []
    for _ in range(calls):
        begin = time.process_time()
        align()
        seconds.append(time.process_time() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([seconds[0], float(np.median(seconds[1:])), peak]))


def measure(python: str, program: str, folder: Path, options: argparse.Namespace) -> np.ndarray:
    """Return the medians of first call, next calls and peak memory over some processes."""
    threads = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    command = [python, __file__, "--child", program, str(folder), "--calls", str(options.calls)]
    rows = []
    for _ in range(options.repeats):
        result = subprocess.run(
            command,
            env={**os.environ, **threads},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        rows.append(json.loads(result.stdout.splitlines()[-1]))
    return np.median(rows, axis=0)


def main() -> None:
    """Print a row for each size and program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--repeats", type=int, default=3, help="processes per figure")
    parser.add_argument("--calls", type=int, default=4, help="alignments in a process")
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has astroalign")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], Path(options.child[1]), options.calls)
        return
    programs = [("spalipy_astro", sys.executable)]
    if options.peers:
        programs.append(("astroalign", options.peers))
    print("size  program         first call s  next calls s  peak MB")
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            render(size, Path(folder))
            for program, python in programs:
                first, later, peak = measure(python, program, Path(folder), options)
                print(f"{size:4d}  {program:14s} {first:13.2f} {later:13.2f} {peak:8.0f}")


if __name__ == "__main__":
    main()
