from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.modeling.models import AffineTransformation2D
from astropy.nddata import CCDData
from astropy.table import QTable

from spalipy_astro.models import SplineDistortion2D

plt = pytest.importorskip("matplotlib.pyplot")
plotting = pytest.importorskip("spalipy_astro.plotting")

SHAPE = (90, 140)


def _alignment(*, distorted=True, template_shape=SHAPE):
    """What the figures need of an alignment: 40 stars, the last of them clipped."""
    rng = np.random.default_rng(8)
    xy = rng.uniform((3, 3), (SHAPE[1] - 3, SHAPE[0] - 3), (40, 2))
    residuals = rng.normal(0, 0.1, (40, 2))
    residuals[-1] = 4, 3
    backward = AffineTransformation2D(matrix=[[0.8, -0.6], [0.6, 0.8]], translation=[5, -7])
    if distorted:
        coeff = rng.normal(0, 1, (2, 6, 7))
        backward = (
            SplineDistortion2D(*coeff, bounds=((0, SHAPE[1] - 1), (0, SHAPE[0] - 1))) | backward
        )
    return SimpleNamespace(
        transform=backward.inverse,
        template_shape=template_shape,
        matches=QTable(
            {
                "x_template": xy[:, 0],
                "y_template": xy[:, 1],
                "dx": residuals[:, 0],
                "dy": residuals[:, 1],
                "sigma": rng.uniform(0.05, 0.3, 40),
                "used": np.arange(40) < 39,
            }
        ),
    )


@pytest.fixture
def images():
    rng = np.random.default_rng(9)
    template = rng.normal(100, 5, SHAPE)
    template[40, 70] = 5000
    return SimpleNamespace(template=template, source=rng.normal(300, 5, (80, 150)))


@pytest.mark.parametrize("name", ["plot_matches", "plot_residuals", "plot_distortion"])
@pytest.mark.parametrize("distorted", [True, False])
@pytest.mark.parametrize("template_shape", [SHAPE, None])
def test_draws_on_the_axes_given(name, distorted, template_shape):
    figure, ax = plt.subplots()
    alignment = _alignment(distorted=distorted, template_shape=template_shape)
    assert getattr(plotting, name)(alignment, ax) is ax
    figure.canvas.draw()
    assert ax.get_xlim()[1] == pytest.approx(SHAPE[1], abs=8)
    assert ax.get_ylim()[1] == pytest.approx(SHAPE[0], abs=8)
    assert ax.get_xlabel() == "x (px)"


@pytest.mark.parametrize("name", ["plot_matches", "plot_residuals", "plot_distortion"])
def test_makes_axes(name):
    before = plt.get_fignums()
    ax = getattr(plotting, name)(_alignment())
    assert ax.figure.number not in before


def test_matches_counts_used_and_clipped():
    ax = plotting.plot_matches(_alignment())
    assert ax.get_title(loc="left") == "matched stars: 39 used ○, 1 clipped ×"
    assert [len(line.get_xdata()) for line in ax.lines] == [39, 1]


def test_residuals_leave_clipped_stars_out():
    alignment = _alignment()
    ax = plotting.plot_residuals(alignment)
    (arrows,) = [child for child in ax.get_children() if type(child).__name__ == "Quiver"]
    np.testing.assert_allclose(arrows.U, alignment.matches["dx"][:39])
    np.testing.assert_allclose(arrows.V, alignment.matches["dy"][:39])
    rms = np.sqrt(np.mean(arrows.U**2 + arrows.V**2))
    assert ax.get_title(loc="left") == f"residuals, rms {rms:.3f} px"


def test_distortion_says_where_there_is_none():
    ax = plotting.plot_distortion(_alignment(distorted=False))
    assert any("affine" in text.get_text() for text in ax.texts)


def test_difference_is_template_minus_image(images):
    ax = plotting.plot_difference(images.source, images.template)
    shown = ax.images[0].get_array()
    assert shown.shape == (80, 140)  # what both have
    assert shown[40, 70] == pytest.approx(4900, abs=30)
    assert abs(np.ma.median(shown)) < 1


def test_region_keeps_the_pixel_numbers(images):
    ax = plotting.plot_difference(images.source, images.template, region=np.s_[30:50, 60:90])
    shown = ax.images[0].get_array()
    assert shown.shape == (20, 30)
    assert shown[10, 10] == pytest.approx(4900, abs=30)
    assert ax.images[0].get_extent() == [59.5, 89.5, 29.5, 49.5]


def test_bad_pixels_stay_empty(images):
    mask = np.zeros(SHAPE, bool)
    mask[5, 7] = True
    images.template[6, 8] = np.nan
    frame = CCDData(images.template, unit="adu", mask=mask)
    shown = plotting.plot_image(frame).images[0].get_array()
    assert np.ma.getmaskarray(shown)[5, 7]
    assert np.ma.getmaskarray(shown)[6, 8]
    assert np.ma.getmaskarray(shown).sum() == 2
    assert np.isfinite(frame.data).sum() == frame.data.size - 1  # the input is as it was


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_images_without_contrast(value):
    plotting.plot_image(np.full((20, 30), value)).figure.canvas.draw()


def test_overview(images):
    alignment = _alignment()
    alone = plotting.plot_alignment(alignment)
    assert len(alone.axes) == 3
    full = plotting.plot_alignment(
        alignment, source=images.source, aligned=images.template, template=images.template
    )
    titles = [ax.get_title(loc="left") for ax in full.axes]
    assert titles[0].startswith("before")
    assert titles[1].startswith("after")
    assert len(titles) == 4
    for figure in (alone, full):
        figure.canvas.draw()


@pytest.mark.parametrize(
    ("value", "expected"), [(0.086, 0.1), (0.03, 0.02), (6.0, 5), (1.0, 1), (0.0, 1), (np.nan, 1)]
)
def test_round_number(value, expected):
    assert plotting._round_number(value) == pytest.approx(expected)
