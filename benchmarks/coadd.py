"""
Flux of stars in the coadd of a synthetic mosaic, across seams and elsewhere.

Six panels that overlap by a fifth, turned and bent, each with a sky and a seeing of its own, are
aligned by `align_group` and combined. Aperture fluxes of stars on a seam (where the number of
frames changes within the aperture) and of all others are compared with the true ones.

    python benchmarks/coadd.py [--seeds N]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty

from spalipy_astro import align_group

NX, NY = 640, 520
RADIUS, WIDE = 8, 12  # px, of the aperture and of the sky around it: half a square's side
MIDDLE = np.array([NX - 1, NY - 1]) / 2


class Panel:
    """Where a panel lies: sky = center + turned and scaled (point - middle, bent)."""

    def __init__(self, center, degrees, scale, bend):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        self.center, self.matrix = np.asarray(center), scale * np.array([[c, -s], [s, c]])
        self.bend = bend

    def back(self, sky):
        """Return the positions on the panel."""
        flat = (sky - self.center) @ np.linalg.inv(self.matrix).T
        u = flat.copy()
        for _ in range(20):
            r2 = np.sum(u**2, axis=1, keepdims=True) / np.sum(MIDDLE**2)
            u = flat - self.bend * u * r2 / np.hypot(*MIDDLE)
        return u + MIDDLE


def pixels_of(xy, flux, sky, sigma):
    """Render stars of Gaussian profile; the flux is exact."""
    from scipy.special import ndtr

    image = np.full((NY, NX), float(sky))
    for (a, b), f in zip(xy, flux, strict=True):
        x0, y0 = int(a) - 9, int(b) - 9
        x, y = np.arange(max(0, x0), min(NX, x0 + 19)), np.arange(max(0, y0), min(NY, y0 + 19))
        if len(x) and len(y):
            wx, wy = (
                ndtr((t + 0.5 - m) / sigma) - ndtr((t - 0.5 - m) / sigma)
                for t, m in ((x, a), (y, b))
            )
            image[np.ix_(y, x)] += f * np.outer(wy, wx)
    return image


def scene(seed):
    """Return frames without and with noise, panels, stars' positions and fluxes."""
    rng = np.random.default_rng(seed)
    panels = [
        Panel(
            np.array([x * 0.8 * NX, y * 0.8 * NY]) + rng.uniform(-6, 6, 2),
            rng.uniform(-4, 4) + 180 * (k % 2),
            rng.uniform(0.99, 1.01),
            rng.uniform(-2, 2),
        )
        for k, (x, y) in enumerate((i, j) for j in range(2) for i in range(3))
    ]
    low, high = -0.7 * np.array([NX, NY]), np.array([2.3 * NX, 1.5 * NY])
    xy = rng.uniform(low, high, (1500, 2))
    flux = 2e4 * rng.uniform(0.02, 1, len(xy)) ** -0.8
    clean, noisy, skies = [], [], rng.uniform(150, 400, len(panels))
    for panel, sky in zip(panels, skies, strict=True):
        image = pixels_of(panel.back(xy), flux, sky, rng.uniform(1.1, 1.5))
        clean.append(image)
        noisy.append(rng.poisson(image).astype(float))
    return clean, noisy, panels, xy, flux


def aligned(seed):
    """Return a group, its frames without noise, panels and stars."""
    clean, noisy, panels, xy, flux = scene(seed)
    group = align_group([CCDData(image, unit="electron") for image in noisy], reference=0)
    assert (group.table["status"] == "ok").all()
    frames = [
        CCDData(image, unit="electron", uncertainty=StdDevUncertainty(np.sqrt(image)))
        for image in clean
    ]
    return group, frames, panels, xy, flux


def measure(group, frames, panels, xy, flux, **options):
    """Return ratios of measured to true flux of stars on seams and elsewhere, and the seconds."""
    start = time.process_time()
    canvas, footprint = group.coadd(frames, **options)
    seconds = time.process_time() - start
    at = np.full((len(xy), 2), np.nan)  # on the grid, which is bent as the first panel is
    for panel, alignment in zip(panels, group.alignments, strict=True):
        here = panel.back(xy)
        inside = np.all((here > 0) & (here < (NX - 1, NY - 1)), axis=1)
        at[inside] = np.column_stack(alignment.transform(*here[inside].T)) - group.offset
    on_seam, elsewhere = [], []
    for k in range(len(xy)):
        if np.isnan(at[k]).any():
            continue
        x, y = np.rint(at[k]).astype(int)
        box = np.s_[y - WIDE : y + WIDE + 1, x - WIDE : x + WIDE + 1]
        around = canvas.data[box]
        near = np.hypot(*(xy - xy[k]).T) < 2.5 * WIDE
        lone = near.sum() == 1 and flux[k] > 2e4 and min(x, y) >= WIDE
        if not lone or around.shape != (2 * WIDE + 1,) * 2 or not np.isfinite(around).all():
            continue
        inner = np.s_[WIDE - RADIUS : WIDE + RADIUS + 1, WIDE - RADIUS : WIDE + RADIUS + 1]
        ring = np.ones(around.shape, bool)
        ring[inner] = False
        ratio = np.sum(around[inner] - np.median(around[ring])) / flux[k]
        (on_seam if np.ptp(footprint[box][inner]) else elsewhere).append(ratio)
    return np.array(on_seam), np.array(elsewhere), seconds


def main() -> None:
    """Print a line for each seed and way to combine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print(
        "seed  combine            on seams: n  median-1  rms   elsewhere: n  median-1  rms   CPU s"
    )
    ways = ({"combine": "mean"}, {"combine": "mean", "feather": 0}, {"combine": "median"})
    for seed in range(options.seeds):
        known = aligned(seed)
        for way in ways:
            *groups, seconds = measure(*known, **way)
            words = [
                f"{len(r):4d}  {np.median(r) - 1:+.5f} {np.sqrt(np.mean((r - 1) ** 2)):.5f}"
                for r in groups
            ]
            name = " ".join(str(value) for value in way.values())
            print(f"{seed:4d}  {name:20s}  {'        '.join(words)}   {seconds:.2f}")


if __name__ == "__main__":
    main()
