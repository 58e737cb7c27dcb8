"""
A night whose truth is known: 60 frames with clouds, trails, a comet, a satellite, another field.

Prints which frame is taken as the template and how good it truly is, which frames are rejected,
how right the flux ratios are, and how round and bright the comet is in the stack that follows it.

    python benchmarks/night.py [--seed N] [--frames N] [--size N]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table

from spalipy_astro import align_many
from spalipy_astro.batch import stack_frames

REJECT = {"fwhm": "4 sigma", "ellipticity": 0.25, "flux_ratio": 0.6, "n_stars": 0.4}
START = 60310.0
COMET = 40000.0
SKY, NOISE = 300.0, 6.0


def render(size, sources, fwhm, rng, *, stretch=1.0, angle=0.0, clouds=1.0, sky=SKY, noise=NOISE):
    """Return an image of sources (x, y, flux); each is drawn within 8 sigma."""
    image = sky + rng.normal(0, noise, (size, size))
    sigma = fwhm / 2.3548
    c, s = np.cos(angle), np.sin(angle)
    reach = int(8 * sigma * stretch) + 1
    for x0, y0, flux in sources:
        left, low = int(x0) - reach, int(y0) - reach
        columns = np.arange(max(left, 0), min(left + 2 * reach + 1, size))
        rows = np.arange(max(low, 0), min(low + 2 * reach + 1, size))
        if not len(columns) or not len(rows):
            continue
        dx, dy = columns - x0, (rows - y0)[:, None]
        rr = ((c * dx + s * dy) / stretch) ** 2 + (c * dy - s * dx) ** 2
        light = clouds * flux / (2 * np.pi * sigma**2 * stretch) * np.exp(-rr / (2 * sigma**2))
        light = light + rng.normal(0, 1, light.shape) * np.sqrt(light)
        image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += light
    return image.astype(np.float32)


def make_night(seed, n_frames, size):
    """Return frames, what is true of each, and the sky's positions and fluxes."""
    rng = np.random.default_rng(seed)
    stars = np.column_stack(
        (rng.uniform(-40, size + 40, (160, 2)), 10 ** rng.uniform(3.2, 5.0, 160))
    )
    another = np.column_stack((rng.uniform(0, size, (160, 2)), 10 ** rng.uniform(3.2, 5.0, 160)))
    picks = rng.permutation(n_frames)
    cloudy, trailed, blurred = picks[:5], picks[5:8], picks[8:10]
    satellite, foreign = picks[10], picks[11]
    seeing = 2.8 + 0.35 * np.cumsum(rng.normal(0, 0.3, n_frames)).clip(-2, 2)
    truth, frames = [], []
    for k in range(n_frames):
        shift = rng.uniform(-12, 12, 2)
        clouds = rng.uniform(0.15, 0.45) if k in cloudy else rng.uniform(0.92, 1.0)
        fwhm = float(seeing[k]) * (2.2 if k in blurred else 1.0)
        stretch = rng.uniform(1.8, 2.6) if k in trailed else rng.uniform(1.0, 1.06)
        sky = SKY * (1 + 0.3 * k / n_frames)
        noise = NOISE * np.sqrt(sky / SKY)
        share = k / (n_frames - 1)
        comet = np.array([0.25 + 0.5 * share, 0.7 - 0.35 * share]) * size
        scene = another if k == foreign else stars
        scene = np.vstack((scene, [*comet, COMET]))
        scene = np.column_stack((scene[:, :2] + shift, scene[:, 2]))
        image = render(
            size,
            scene,
            fwhm,
            rng,
            stretch=stretch,
            angle=rng.uniform(0, np.pi),
            clouds=clouds,
            sky=sky,
            noise=noise,
        )
        if k == satellite:
            y, x = np.mgrid[:size, :size]
            image += (200 * np.exp(-((x - 0.6 * y - 0.2 * size) ** 2) / 4)).astype(np.float32)
        header = fits.Header()
        header["MJD-OBS"] = START + k * 60 / 86400
        header["EXPTIME"] = 50.0
        frames.append(CCDData(image, unit="adu", meta=header))
        truth.append(
            {
                "bad": k in cloudy or k in trailed or k in blurred,
                "foreign": k == foreign,
                "clouds": clouds,
                # flux of the faintest star, times sharpness and roundness
                "merit": clouds / (noise * fwhm * stretch**0.5) / fwhm / stretch,
                "shift": shift,
                "comet": comet,
            }
        )
    return frames, truth


def moments(image, x0, y0, radius=9):
    """Return flux, ellipticity and center of a source on a flat sky."""
    x, y = (
        np.arange(int(x0) - radius, int(x0) + radius + 1),
        np.arange(int(y0) - radius, int(y0) + radius + 1),
    )
    part = np.nan_to_num(np.asarray(image, float)[y[0] : y[-1] + 1, x[0] : x[-1] + 1])
    ring = np.hypot(x - x0, (y - y0)[:, None]) > radius - 1
    part = part - np.median(part[ring])
    weight = np.exp(-((x - x0) ** 2 + (y[:, None] - y0) ** 2) / (2 * 2.5**2))
    total = (part * weight).sum()
    cx, cy = (part * weight * x).sum() / total, (part * weight * y[:, None]).sum() / total
    xx = (part * weight * (x - cx) ** 2).sum() / total
    yy = (part * weight * (y[:, None] - cy) ** 2).sum() / total
    xy = (part * weight * (x - cx) * (y[:, None] - cy)).sum() / total
    root = np.hypot(xx - yy, 2 * xy)
    ratio = (xx + yy - root) / (xx + yy + root)
    return float(part[~ring].sum()), float(1 - np.sqrt(max(ratio, 0))), (float(cx), float(cy))


def main():
    """Make the night, reduce it, and compare with the truth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    frames, truth = make_night(options.seed, options.frames, options.size)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for k, frame in enumerate(frames):
            paths.append(Path(folder) / f"frame{k:03d}.fits")
            frame.write(paths[-1])
        out = Path(folder) / "out"
        table = align_many(paths, "best", output=out, reject=REJECT, scale_flux=True)
        best = [str(path) for path in paths].index(str(table.meta["template"]))
        merit = np.array([np.nan if t["foreign"] else t["merit"] for t in truth])
        rank = int(np.sum(merit > merit[best])) + 1
        print(f"template: frame {best}, number {rank} of {len(frames)} by truth")
        print(f"  {table.meta['template_reason']}")
        status = np.asarray(table["status"])
        bad = np.array([t["bad"] for t in truth])
        foreign = np.array([t["foreign"] for t in truth])
        print(f"rejected: {int((status == 'rejected')[bad].sum())} of {int(bad.sum())} bad frames")
        print(f"  and {int((status == 'rejected')[~bad & ~foreign].sum())} of the others")
        print(f"failed: {int((status == 'failed')[foreign].sum())} of 1 foreign frame")
        print(f"  and {int((status == 'failed')[~foreign].sum())} of the others")
        aligned = status != "failed"
        clouds = np.array([t["clouds"] for t in truth])
        error = np.asarray(table["flux_ratio"]) / (clouds / clouds[best]) - 1
        used = status == "ok"
        print(
            f"flux ratio: largest error {100 * np.abs(error[used]).max():.2f} % (used), "
            f"{100 * np.abs(error[aligned & ~foreign]).max():.2f} % (all)"
        )
        follow(folder, paths, table, truth, best)
        cost(folder, paths, best)


def follow(folder, paths, table, truth, best):
    """Stack the good frames on the comet."""
    shift = truth[best]["shift"]
    time_of = [START + (k * 60 + 25) / 86400 for k in range(len(paths))]
    ends = [0, len(paths) - 1]
    path = Table(
        {
            "time": [time_of[k] for k in ends],
            "x": [truth[k]["comet"][0] + shift[0] for k in ends],
            "y": [truth[k]["comet"][1] + shift[1] for k in ends],
        }
    )
    good = [paths[k] for k in np.flatnonzero(np.asarray(table["status"]) == "ok")]
    options = {"scale_flux": True, "match_background": True, "target": path}
    moving = align_many(good, paths[best], output=Path(folder) / "comet", **options)
    stack = stack_frames(moving)
    place = truth[best]["comet"] + shift
    flux, roundness, center = moments(stack.data, *place)
    one = moments(frames_data(paths[best]), *place)
    # the frames differ in sharpness: their mean, each as bright as the template
    print(
        f"comet: flux in the stack {100 * (flux / (COMET * truth[best]['clouds']) - 1):+.2f} % of "
        f"the truth (one frame {100 * (one[0] / (COMET * truth[best]['clouds']) - 1):+.2f} %), "
        f"ellipticity {roundness:.3f} (one frame {one[1]:.3f}), "
        f"{np.hypot(center[0] - place[0], center[1] - place[1]):.3f} px from its place"
    )


def frames_data(path):
    """Read the pixels of a frame."""
    with fits.open(path) as hdus:
        return np.array(hdus[0].data)


def cost(folder, paths, best):
    """Compare the time of a night with and without rejection."""
    seconds = {"plain": [], "reject": []}
    for turn in range(3):
        for name in seconds:
            options = {"reject": REJECT} if name == "reject" else {}
            start = time.process_time()
            align_many(
                paths, paths[best], output=Path(folder) / f"{name}{turn}", progress=False, **options
            )
            seconds[name].append(time.process_time() - start)
    plain, reject = (float(np.median(seconds[name])) for name in seconds)
    print(
        f"cost: {plain / len(paths) * 1000:.0f} ms of CPU a frame, with rejection "
        f"{reject / plain:.2f} of that"
    )


if __name__ == "__main__":
    main()
