"""
Find the stars of frames of growing size, beside sep and photutils on the same arrays.

    OMP_NUM_THREADS=1 python benchmarks/detection.py [--sizes 1024 2048 4096] [FILE.fits ...]

The frames hold 500 stars per square of 1024 px, ten galaxies, hot pixels and cosmic rays each, on
a sky of 300 electrons; FITS files may be given as well. sep does `Background` and `extract` at 5
sigma (isophotal positions), photutils `Background2D`, `detect_sources` and `SourceCatalog`. Prints
medians of CPU seconds on one core, their ratio to ours, the errors of the positions of bright
stars, and the memory that ours takes above the image and the imports. A row says "-" where the
package is not installed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from spalipy_astro.detection import find_stars

FWHM = 3.0


def make_frame(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Render a frame; return it and the positions of the bright isolated stars."""
    rng = np.random.default_rng(size)
    n = int(500 * (size / 1024) ** 2)
    xy = rng.uniform(0, size, (n, 2))
    flux = np.minimum(500 * rng.uniform(0, 1, n) ** -1.25, 5e5)
    image = np.full((size, size), 300, dtype=np.float32)
    sigma = FWHM / 2.3548
    for (x, y), f in zip(xy, flux, strict=True):
        _add(image, x, y, f, sigma)
    for x, y in rng.uniform(0, size, (n // 50, 2)):
        _add(image, x, y, rng.uniform(1e3, 1e5), rng.uniform(2, 5))
    for start in range(0, size, 256):
        rows = image[start : start + 256]
        rows += np.sqrt(rows + 25) * rng.standard_normal(rows.shape, dtype=np.float32)
    hot = rng.integers(0, size, (2, n // 50))
    image[hot[0], hot[1]] += rng.uniform(300, 2e4, n // 50).astype(np.float32)
    for x, y in rng.uniform(10, size - 10, (n // 50, 2)):
        image[int(y), int(x) - 5 : int(x) + 5] += rng.uniform(300, 1e4)
    alone = cKDTree(xy).query(xy, k=2)[0][:, 1] > 5 * FWHM
    inside = np.all((xy > 10) & (xy < size - 10), axis=1)
    return image, xy[alone & inside & (flux > 5e3)]


def _add(image: np.ndarray, x: float, y: float, flux: float, sigma: float) -> None:
    radius = int(5 * sigma) + 1
    size = len(image)
    row = np.arange(max(0, int(y) - radius), min(size, int(y) + radius + 1))
    col = np.arange(max(0, int(x) - radius), min(size, int(x) + radius + 1))
    gy, gx = np.exp(-((row - y) ** 2) / (2 * sigma**2)), np.exp(-((col - x) ** 2) / (2 * sigma**2))
    image[np.ix_(row, col)] += flux / (2 * np.pi * sigma**2) * gy[:, None] * gx


def ours(image: np.ndarray) -> np.ndarray:
    """Find stars with this package; return their positions."""
    table = find_stars(image)
    return np.column_stack((table["x"], table["y"]))


def seps(image: np.ndarray) -> np.ndarray:
    """Find stars with sep."""
    import sep

    background = sep.Background(image)
    found = sep.extract(image - background.back(), 5.0, err=background.globalrms)
    return np.column_stack((found["x"], found["y"]))


def photutils_(image: np.ndarray) -> np.ndarray:
    """Find stars with photutils."""
    from photutils.background import Background2D
    from photutils.segmentation import SourceCatalog, detect_sources

    background = Background2D(image, 64)
    image = image - background.background
    catalog = SourceCatalog(image, detect_sources(image, 5 * background.background_rms, 5))
    return np.column_stack((catalog.x_centroid, catalog.y_centroid))


def cpu_seconds(function, image: np.ndarray, repeats: int) -> tuple[float, np.ndarray]:
    """Median CPU time of some runs after the first, and the result."""
    found = function(image)
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function(image)
        times.append(time.process_time() - start)
    return statistics.median(times), found


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """Robust error of the positions, px along one axis."""
    distance, k = cKDTree(found).query(truth)
    ok = distance < 1
    return float(1.4826 * np.median(np.abs(found[k[ok]] - truth[ok])))


def memory(path: str) -> None:
    """Print by how many MB a run raises the high-water mark of this process."""
    image = np.load(path)
    find_stars(image[:256, :256])
    Path("/proc/self/clear_refs").write_text("5")  # forget how high it was
    before = high_water_mark()
    find_stars(image)
    print((high_water_mark() - before) / 1024)


def high_water_mark() -> int:
    """Return the largest memory so far, kB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def measure_memory(image: np.ndarray) -> str:
    """Let a process of its own do it, on Linux."""
    if not Path("/proc/self/clear_refs").exists():
        return "-"
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/image.npy", image)
        run = [sys.executable, __file__, "--memory", f"{folder}/image.npy"]
        return f"{float(subprocess.run(run, capture_output=True, check=True).stdout):.0f}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="*", metavar="FILE.fits")
    parser.add_argument("--sizes", nargs="*", type=int, default=[1024, 2048, 4096])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        memory(options.memory)
        return
    frames = [(str(size), *make_frame(size)) for size in options.sizes]
    if options.files:
        from astropy.io import fits

        for name in options.files:
            with fits.open(name) as hdus:
                data = next(h.data for h in hdus if h.data is not None and h.data.ndim == 2)
                frames.append((name[-24:], data.astype(np.float32), None))
    print(
        f"{'frame':>24} {'by':>10} {'sources':>8} {'CPU s':>7} {'/ ours':>7} {'mpx':>6} {'MB':>5}"
    )
    for name, image, truth in frames:
        reference = None
        for function in (ours, seps, photutils_):
            label = function.__name__.rstrip("s_")
            try:
                seconds, found = cpu_seconds(function, image, options.repeats)
            except ImportError:
                print(f"{name:>24} {label:>10} {'-':>8}")
                continue
            reference = reference or seconds
            mpx = "" if truth is None else f"{1000 * error(found, truth):.1f}"
            megabytes = measure_memory(image) if function is ours else ""
            print(
                f"{name:>24} {label:>10} {len(found):8d} {seconds:7.3f} {seconds / reference:7.2f}"
                f" {mpx:>6} {megabytes:>5}"
            )


if __name__ == "__main__":
    main()
