"""Fixtures: the bundled pair, and the folder of real pairs where there is one."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

from spalipy_astro import Alignment, find_alignment
from spalipy_astro.example import example_pair as read_example_pair

ENVIRONMENT_VARIABLE = "SPALIPY_ASTRO_TEST_DATA"


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Hear Ctrl-C also where tests run in the background of a shell, which ignores it for them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def example_pair() -> tuple[CCDData, CCDData]:
    """Source and template of the bundled pair; not to be written to."""
    return read_example_pair()


@dataclass(frozen=True)
class SkyPair:
    """A synthetic source and template with the true mapping between their pixels."""

    source: CCDData
    template: CCDData
    matrix: np.ndarray
    center_source: np.ndarray
    center_template: np.ndarray
    distortion: float

    def forward(self, xy: np.ndarray) -> np.ndarray:
        """Map source to template pixels: a radial distortion, then an affine map."""
        u = xy - self.center_source
        r2 = np.sum(u**2, axis=-1, keepdims=True) / np.sum(self.center_source**2)
        return (u * (1 + self.distortion * r2)) @ self.matrix.T + self.center_template


def _render(shape: tuple[int, int], xy: np.ndarray, flux: np.ndarray, rng: np.random.Generator):
    """Render Gaussian stars of 2.8 px FWHM on a noisy sky."""
    ny, nx = shape
    image = np.full(shape, 200.0)
    sigma, radius = 2.8 / 2.3548, 8
    near = np.all((xy > -radius) & (xy < np.array([nx, ny]) + radius - 1), axis=1)
    for (x, y), f in zip(xy[near], flux[near], strict=True):
        x0, x1 = max(0, int(x) - radius), min(nx, int(x) + radius + 1)
        y0, y1 = max(0, int(y) - radius), min(ny, int(y) + radius + 1)
        gx = np.exp(-((np.arange(x0, x1) - x) ** 2) / (2 * sigma**2))
        gy = np.exp(-((np.arange(y0, y1) - y) ** 2) / (2 * sigma**2))
        image[y0:y1, x0:x1] += f / (2 * np.pi * sigma**2) * gy[:, None] * gx
    return rng.poisson(image).astype(np.float32)


@pytest.fixture(scope="session")
def make_sky_pair() -> Callable[..., SkyPair]:
    """Render two images of one sky, never square; the transform is given."""

    def make(
        *,
        rotation: float = 0.0,
        scale: float = 1.0,
        mirrored: bool = False,
        shift: tuple[float, float] = (6.3, -4.8),
        distortion: float = 0.0,
        n_stars: int = 150,
        source_shape: tuple[int, int] = (280, 360),
        template_shape: tuple[int, int] = (340, 320),
        seed: int = 0,
    ) -> SkyPair:
        rng = np.random.default_rng([seed, n_stars, round(10 * rotation), mirrored])
        angle = np.deg2rad(rotation)
        matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        if mirrored:
            matrix = matrix @ np.diag([-1.0, 1.0])
        centers = [(np.array(s[::-1]) - 1) / 2 for s in (source_shape, template_shape)]
        pair = SkyPair(None, None, matrix, centers[0], centers[1] + np.array(shift), distortion)  # type: ignore[arg-type]
        xy = rng.uniform(-0.3, 1.3, (3 * n_stars, 2)) * source_shape[::-1]
        flux = 3e3 * rng.uniform(0, 1, 3 * n_stars) ** -0.9
        images = (
            CCDData(_render(source_shape, xy, flux, rng), unit="adu"),
            CCDData(_render(template_shape, pair.forward(xy), flux, rng), unit="adu"),
        )
        return replace(pair, source=images[0], template=images[1])

    return make


@pytest.fixture(scope="module")
def alignment(pair) -> Alignment:
    """The alignment of the images that the module's own fixture ``pair`` has."""
    return find_alignment(pair.source, pair.template)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pairs: from the environment, or beside the repository."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "pairs.csv").is_file():
        pytest.skip(f"real pairs not found: no pairs.csv in {folder}; set {ENVIRONMENT_VARIABLE}")
    return folder


@pytest.fixture(scope="session")
def real_pair(shared_data) -> Callable[[str], SimpleNamespace]:
    """Read a pair of the folder by name.

    The result has ``source`` and ``template`` (CCDData), ``row`` (its line of ``pairs.csv``), and
    the reference star pairs ``source_xy`` and ``template_xy``, ``(N, 2)`` arrays of 0-based
    ``(x, y)``, empty if there are none.
    """
    with open(shared_data / "pairs.csv", newline="") as stream:
        rows = {row["pair_id"]: row for row in csv.DictReader(stream)}

    def read(name: str) -> SimpleNamespace:
        row = rows[name]
        stars = np.empty((0, 4))
        if (matches := shared_data / "matches" / f"{name}.csv").is_file():
            stars = np.loadtxt(matches, delimiter=",", skiprows=1, ndmin=2)
        return SimpleNamespace(
            name=name,
            row=row,
            source=_read_image(shared_data / row["source"]),
            template=_read_image(shared_data / row["template"]),
            source_xy=stars[:, :2],
            template_xy=stars[:, 2:],
        )

    return read


def _read_image(path: Path) -> CCDData:
    """Read the first image of a file; the headers of some are too odd for ``CCDData.read``."""
    with fits.open(path) as hdus:
        data = next(hdu.data for hdu in hdus if hdu.data is not None and hdu.data.ndim == 2)
        return CCDData(np.array(data), unit="adu")
