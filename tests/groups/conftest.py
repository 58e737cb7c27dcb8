"""Star lists of frames of one sky, with known truth."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table
from astropy.wcs import WCS

NX, NY = 600, 500
MIDDLE = np.array([NX - 1, NY - 1]) / 2
ERROR = 0.03
GRID = np.column_stack(
    [c.ravel() for c in np.meshgrid(np.linspace(0, NX, 9), np.linspace(0, NY, 9))]
)


class Truth:
    """A frame: sky = center + turned (point - middle, bent)."""

    def __init__(self, center, degrees=0.0, scale=1.0, flip=1, bend=0.0):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        self.matrix = scale * np.array([[c, -s], [s, c]]) @ np.diag([1, flip])
        self.center, self.bend = np.asarray(center, float), bend

    def bent(self, u):
        r2 = np.sum(u**2, axis=1, keepdims=True) / np.sum(MIDDLE**2)
        return u * (1 + self.bend * r2 / np.hypot(*MIDDLE))

    def __call__(self, xy):
        return self.center + self.bent(xy - MIDDLE) @ self.matrix.T

    def back(self, sky):
        flat = (sky - self.center) @ np.linalg.inv(self.matrix).T
        if self.bend:  # it has no inverse far out
            flat[np.hypot(*flat.T) > 2 * np.hypot(*MIDDLE)] = np.nan
        u = flat
        for _ in range(30):
            u = u + flat - self.bent(u)
        return u + MIDDLE


def observe(truth, sky, flux, rng, error=ERROR):
    xy = truth.back(sky)
    inside = np.all((xy > 0) & (xy < (NX - 1, NY - 1)), axis=1)
    xy = xy[inside] + rng.normal(0, error, (np.count_nonzero(inside), 2))
    columns = {"x": xy[:, 0], "y": xy[:, 1], "flux": flux[inside]}
    return Table({**columns, "x_err": np.full(len(xy), error), "y_err": np.full(len(xy), error)})


def stars_of(frames, rng, density):
    """Draw the stars that frames may show: positions and fluxes."""
    corners = np.concatenate([f(np.array([[0, 0], [NX, 0], [0, NY], [NX, NY]])) for f in frames])
    low, high = corners.min(axis=0), corners.max(axis=0)
    n = int(density * np.prod(high - low) / (NX * NY))
    return rng.uniform(low, high, (n, 2)), rng.uniform(1e-3, 1, n) ** -1.2


def scene(frames, seed, density=200, error=ERROR):
    rng = np.random.default_rng(seed)
    sky, flux = stars_of(frames, rng, density)
    return [observe(f, sky, flux, rng, error) for f in frames]


def sky_scene(frames, seed, density=200, depth=1.0):
    """Return lists, a catalog of a share of the stars, and the WCS of the plane of the truth."""
    rng = np.random.default_rng(seed)
    sky, flux = stars_of(frames, rng, density)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix = (150, 30), (1, 1)
    wcs.wcs.cdelt = -1 / 3600, 1 / 3600
    ra, dec = wcs.all_pix2world(*sky.T, 0)
    known = rng.uniform(size=len(sky)) < depth
    catalog = Table({"ra": ra, "dec": dec, "mag": -2.5 * np.log10(flux)})[known]
    return [observe(f, sky, flux, rng) for f in frames], catalog, wcs


def panels(seed, turns=(0,), flips=(1,), origin=(0, 0), nx=3, ny=2):
    rng = np.random.default_rng(seed)
    return [
        Truth(
            np.add(origin, [x * 0.78 * NX, y * 0.78 * NY]) + rng.uniform(-5, 5, 2),
            rng.uniform(-3, 3) + turns[k % len(turns)],
            flip=flips[k % len(flips)],
        )
        for k, (x, y) in enumerate((i, j) for j in range(ny) for i in range(nx))
    ]


def rms(gap):
    return np.sqrt(np.mean(np.sum(gap**2, axis=1)))


def flattened(images, truth):
    """Return what an affine map of images leaves of the truth."""
    terms = np.column_stack((np.ones(len(images)), images))
    return terms @ np.linalg.lstsq(terms, truth, rcond=None)[0] - truth


def errors_of(group, truths, flat=False):
    """Rms error of each frame over its area, px, on the grid of its component's reference."""
    top = truths[group.reference]
    found = []
    for alignment, truth in zip(group.alignments, truths, strict=True):
        images = np.column_stack(alignment.transform(*GRID.T))
        found.append((images, truth(GRID)))
    if flat:
        images, sky = found[group.reference]
        fit = np.linalg.lstsq(np.column_stack((np.ones(len(images)), images)), sky, rcond=None)[0]
        gaps = [fit[0] + images @ fit[1:] - sky for images, sky in found]
    else:
        gaps = [images - top.back(sky) for images, sky in found]
    return np.array([rms(gap) for gap in gaps])


def sky_errors(group, truths, wcs):
    """Rms error of each frame's sky over its area, px of the plane of the truth."""
    errors = []
    for alignment, truth in zip(group.alignments, truths, strict=True):
        sky = alignment.pixel_to_sky(*GRID.T)
        errors.append(
            rms(np.column_stack(wcs.all_world2pix(sky.ra.deg, sky.dec.deg, 0)) - truth(GRID))
        )
    return np.array(errors)


@pytest.fixture(scope="session")
def drawn():
    """Everything that draws frames and judges groups."""
    names = (Truth, errors_of, flattened, observe, panels, rms, scene, sky_errors, sky_scene)
    return SimpleNamespace(NX=NX, NY=NY, GRID=GRID, **{f.__name__: f for f in names})
