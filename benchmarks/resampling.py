"""
Time and precision of resampling, as ratios to scipy in the same run.

    python benchmarks/resampling.py [--size 4096] [--repeats 3] [--flux]

Times are medians of CPU seconds for one thread, and the shortest wall times for how they scale with
threads (which takes a machine that is otherwise idle). The bare ``scipy.ndimage.map_coordinates``
is given its coordinates; ours computes them from a spline and an affine transform.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from astropy.modeling.models import AffineTransformation2D
from astropy.nddata import CCDData, StdDevUncertainty
from photutils.aperture import CircularAnnulus, CircularAperture
from scipy.ndimage import map_coordinates

from spalipy_astro.models import SplineDistortion2D
from spalipy_astro.resampling import resample


def turned(scale: float, degrees: float, size: int, out: int) -> AffineTransformation2D:
    """Template px to source px about the centers, ``scale`` template px to a source px."""
    angle = np.radians(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) / scale
    return AffineTransformation2D(matrix, (size - 1) / 2 - matrix @ np.full(2, (out - 1) / 2))


def timed(function: Callable[[], Any], clock: Callable[[], float], repeats: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(repeats):
        start = clock()
        function()
        times.append(clock() - start)
    return median(times)


def speed(size: int, repeats: int) -> None:
    """Print times as ratios to map_coordinates."""
    rng = np.random.default_rng(0)
    data = rng.normal(100, 10, (size, size)).astype(np.float32)
    mask = rng.random(data.shape) < 1e-3
    error = np.full_like(data, 10)
    image = CCDData(data, unit="adu", mask=mask, uncertainty=StdDevUncertainty(error))
    edge = size - 1
    spline = SplineDistortion2D(*rng.normal(0, 1, (2, 9, 9)), bounds=((0, edge), (0, edge)))
    backward = spline | turned(1, 2, size, size)
    x, y = backward(*np.meshgrid(np.arange(size, dtype=float), np.arange(size, dtype=float)))
    coordinates = np.stack([y, x])

    def bare() -> None:
        map_coordinates(data, coordinates, order=3, output=np.float32)

    cpu, wall = time.process_time, time.perf_counter
    print(f"{size} x {size} float32, spline and affine transform; CPU seconds, one thread")
    # in turn, for a machine that others use, too
    reference = timed(bare, cpu, repeats)
    print(f"  {'map_coordinates(order=3)':36s} {reference:7.2f}")
    for name, source, options in [
        *((f"{method}, data", data, {"method": method}) for method in METHODS),
        *((f"{m}, data + variance + mask", image, {"method": m}) for m in METHODS),
        ("lanczos3, float64", data.astype(float), {}),
        ("lanczos3, 3 planes", np.stack([data] * 3), {}),
    ]:
        resample(source[..., :300, :300], backward, n_threads=1, **options)  # tables, once

        def ours(source: Any = source, options: Any = options) -> None:
            resample(source, backward, n_threads=1, **options)

        seconds = timed(ours, cpu, repeats)
        reference = timed(bare, cpu, 1) if repeats > 1 else reference
        print(f"  {name:36s} {seconds:7.2f}   {seconds / reference:5.2f} x map_coordinates")
    for scale in (0.8, 0.5, 2.0):
        out = int(size * min(scale, 1))
        to_scale = turned(scale, 2, size, out)
        for name, source in (("data", data), ("data + variance + mask", image)):
            middle = (out // 2, out // 2)
            resample(source, to_scale, shape=(50, 50), offset=middle, n_threads=1)

            def scaled(source: Any = source, model: Any = to_scale, out: int = out) -> None:
                resample(source, model, shape=(out, out), n_threads=1)

            seconds = timed(scaled, cpu, 1)
            print(f"  {f'scale {scale}, {name}':36s} {seconds:7.2f}   for {out} x {out}")
    for name, source in (("data", data), ("data + variance + mask", image)):
        walls: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(5 * repeats):
            for n, times in walls.items():
                start = wall()
                resample(source, backward, n_threads=n)
                times.append(wall() - start)
        ratio = min(walls[1]) / min(walls[2])
        print(f"  {f'two threads, {name}':36s}           {ratio:5.2f} x as fast as one (wall)")
    tracemalloc.start()
    result = resample(data, backward, n_threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"  memory beyond the output, two threads: {(peak - result.nbytes) / 1e6:.0f} MB")


METHODS = ("nearest", "bilinear", "bicubic", "lanczos3")


def flux(fwhm: float) -> None:
    """Print errors of aperture fluxes of stars without noise, by scale and rotation."""
    size, gap = 1000, 100
    rng = np.random.default_rng(1)
    x, y = (t.ravel() + rng.uniform(-1, 1, t.size) for t in np.mgrid[1:9, 1:9] * gap * 1.0)
    image = np.full((size, size), 300.0)
    rows, columns = np.mgrid[:size, :size]
    alpha2 = (fwhm / 2) ** 2 / (2 ** (1 / 3.5) - 1)
    for x0, y0 in zip(x, y, strict=True):
        part = slice(int(y0) - 45, int(y0) + 46), slice(int(x0) - 45, int(x0) + 46)
        r2 = (rows[part] - y0) ** 2 + (columns[part] - x0) ** 2
        image[part] += 1e4 * (1 + r2 / alpha2) ** -3.5
    image = image.astype(np.float32)
    radius = 2.5 * fwhm
    before = aperture_sums(image, x, y, radius)
    print(f"flux of stars (Moffat, FWHM {fwhm} px, apertures of 2.5 FWHM): offset and rms in %")
    for scale in (0.4, 0.5, 0.7, 0.9, 1.0, 1.25, 2.0):
        print(f"  scale {scale:4.2f}", end="")
        for rotation in (2.0, 45.0):
            out = int(size * scale)
            backward = turned(scale, rotation, size, out)
            forward = backward.inverse
            result = resample(image, backward, shape=(out, out))
            after = aperture_sums(result, *forward(x, y), radius * scale)
            ratio = (after / before)[np.isfinite(after)]
            offset, rms = 100 * (np.median(ratio) - 1), 100 * ratio.std()
            print(f"   {rotation:3.0f} deg: {offset:+.3f} {rms:.3f}", end="")
        print()


def aperture_sums(image: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Return fluxes above the local sky; NaN at the edges."""
    sums = np.full(x.size, np.nan)
    height, width = image.shape
    margin = 2.5 * radius
    inside = (x > margin) & (x < width - margin) & (y > margin) & (y < height - margin)
    points = np.column_stack([x, y])[inside]
    aperture = CircularAperture(points, radius)
    ring = CircularAnnulus(points, 1.5 * radius, 2.3 * radius)
    sky = ring.do_photometry(image)[0] / ring.area
    sums[inside] = aperture.do_photometry(image)[0] - sky * aperture.area
    return sums


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--flux", action="store_true", help="precision of fluxes, too")
    arguments = parser.parse_args()
    speed(arguments.size, arguments.repeats)
    if arguments.flux:
        flux(4.5)
