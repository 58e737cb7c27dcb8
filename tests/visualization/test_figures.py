from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.modeling.models import AffineTransformation2D
from astropy.nddata import CCDData
from astropy.table import QTable, vstack

from spalipy_astro import Coverage
from spalipy_astro.models import SplineDistortion2D

plt = pytest.importorskip("matplotlib.pyplot")

from spalipy_astro import visualization  # noqa: E402  after the check for matplotlib
from spalipy_astro.visualization import _canvas  # noqa: E402  after the check for matplotlib

SHAPE = (90, 140)
MAPS = ["plot_matches", "plot_residuals", "plot_distortion", "plot_error", "plot_coverage"]


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
    x_source, y_source = backward(*xy.T)
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
                "x_source": x_source,
                "y_source": y_source,
                "flux_source": np.full(40, np.nan),
                "flux_template": np.geomspace(1e5, 1e3, 40),
            }
        ),
        error=lambda x, y: 0.02 + 1e-6 * (np.square(x) + np.square(y)),
        coverage=_coverage,
        summary=lambda: {"error": 0.0312},
        flux_ratio=(2.0, 0.01),
    )


def _coverage(shape):
    """No data in the first 30 columns, extrapolated in the last 20 rows."""
    bits = np.zeros(shape, int)
    bits[-20:] |= Coverage.EXTRAPOLATED
    bits[:, :30] |= Coverage.NO_DATA
    return bits.astype(np.uint8)


def _sequence():
    """The table of 12 frames, the fifth of which failed; the seventh was rejected."""
    rng = np.random.default_rng(10)
    bad = np.arange(12) == 4
    values = {
        "shift_x": np.linspace(0, 8, 12),
        "shift_y": np.linspace(3, -2, 12),
        "rotation": np.linspace(0.1, 0.4, 12),
        "scale": 1 + 1e-6 * np.arange(12),
        "error": np.linspace(0.01, 0.02, 12),
        "rms": rng.uniform(0.1, 0.2, 12),
        "fwhm": np.where(np.arange(12) == 6, 6.0, 3.0),
        "ellipticity": rng.uniform(0.05, 0.1, 12),
        "background": np.linspace(100, 200, 12),
        "depth": rng.uniform(400, 500, 12),
        "flux_ratio": rng.uniform(0.9, 1, 12),
    }
    table = QTable({name: np.where(bad, np.nan, column) for name, column in values.items()})
    table["status"] = np.where(bad, "failed", "ok").astype("U8")
    table["status"][6] = "rejected"
    table["n_matched"] = np.where(bad, 0, 300)
    table["n_stars"] = np.where(bad, 0, 350)
    return table


@pytest.fixture
def images():
    rng = np.random.default_rng(9)
    template = rng.normal(100, 5, SHAPE)
    template[40, 70] = 5000
    return SimpleNamespace(template=template, source=rng.normal(300, 5, (80, 150)))


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("distorted", [True, False])
@pytest.mark.parametrize("template_shape", [SHAPE, None])
def test_draws_on_the_axes_given(name, distorted, template_shape):
    figure, ax = plt.subplots()
    alignment = _alignment(distorted=distorted, template_shape=template_shape)
    assert getattr(visualization, name)(alignment, ax) is ax
    figure.canvas.draw()
    assert ax.get_xlim()[1] == pytest.approx(SHAPE[1], abs=8)
    assert ax.get_ylim()[1] == pytest.approx(SHAPE[0], abs=8)
    assert ax.get_xlabel() == "x (px)"


@pytest.mark.parametrize("name", MAPS)
def test_makes_axes(name):
    before = plt.get_fignums()
    ax = getattr(visualization, name)(_alignment())
    assert ax.figure.number not in before


def test_matches_counts_used_and_clipped():
    ax = visualization.plot_matches(_alignment())
    assert ax.get_title(loc="left") == "matched stars: 39 used ○, 1 clipped ×"
    assert [len(line.get_xdata()) for line in ax.lines] == [39, 1]


def test_residuals_leave_clipped_stars_out():
    alignment = _alignment()
    ax = visualization.plot_residuals(alignment)
    (arrows,) = [child for child in ax.get_children() if type(child).__name__ == "Quiver"]
    np.testing.assert_allclose(arrows.U, alignment.matches["dx"][:39])
    np.testing.assert_allclose(arrows.V, alignment.matches["dy"][:39])
    rms = np.sqrt(np.mean(arrows.U**2 + arrows.V**2))
    title = f"aligned to 0.031 px, 39 stars\nresiduals, rms {rms:.3f} px"
    assert ax.get_title(loc="left") == title


def test_mean_residuals_of_cells():
    """Two cells, one of which is off by more than its stars explain; a third has two stars."""
    alignment = _alignment()
    x = np.r_[np.full(19, 20.0), np.full(19, 60.0), 120.0, 120.0]
    alignment.matches = QTable(
        {
            "x_template": x,
            "y_template": np.linspace(5, 30, 40),
            "dx": np.r_[np.full(18, 0.01), 0.2, np.full(19, 0.3), 0.0, 0.0],
            "dy": np.zeros(40),
            "sigma": np.r_[np.full(18, 0.1), 1.0, np.full(21, 0.1)],
            "used": np.ones(40, bool),
        }
    )
    ax = visualization.plot_residuals(alignment, cells=3)
    (arrows,) = [child for child in ax.get_children() if type(child).__name__ == "Quiver"]
    np.testing.assert_allclose(arrows.X, [20, 60])
    np.testing.assert_allclose(arrows.U, [(18 * 0.01 + 0.01 * 0.2) / 18.01, 0.3])
    (circles,) = ax.collections[:1]
    # 3 sigma, drawn at the scale of the arrows
    radii = circles.get_widths() / 2 * arrows.scale
    np.testing.assert_allclose(radii, [0.3 / np.sqrt(18.01), 0.3 / np.sqrt(19)])
    within, beyond = arrows.get_facecolors()
    assert not np.allclose(within, beyond)
    assert ax.get_title(loc="left") == "aligned to 0.031 px, 40 stars\nmeans in cells, circles 3 σ"
    ax = visualization.plot_residuals(alignment, cells=140)
    assert ax.get_title(loc="left").endswith("no cell has three stars")
    with pytest.raises(ValueError, match=r"^cells is a whole number"):
        visualization.plot_residuals(alignment, cells=-1)


def test_means_for_many_stars_only():
    alignment = _alignment()
    one_by_one = visualization.plot_residuals(alignment).get_title(loc="left")
    alignment.matches = vstack([alignment.matches] * 4)
    means = visualization.plot_residuals(alignment).get_title(loc="left")
    all_stars = visualization.plot_residuals(alignment, cells=0).get_title(loc="left")
    assert ("rms" in one_by_one, "rms" in means, "rms" in all_stars) == (True, False, True)


def test_arrows_of_very_many_stars(monkeypatch):
    monkeypatch.setattr("spalipy_astro.visualization._residuals._MOST_ARROWS", 10)
    alignment = _alignment()
    ax = visualization.plot_residuals(alignment)
    (arrows,) = [child for child in ax.get_children() if type(child).__name__ == "Quiver"]
    best = np.sort(np.argsort(alignment.matches["sigma"][:39])[:10])
    np.testing.assert_allclose(arrows.U, alignment.matches["dx"][best])
    assert "\nthe best 10, rms" in ax.get_title(loc="left")


def test_distortion_says_where_there_is_none():
    ax = visualization.plot_distortion(_alignment(distorted=False))
    assert any("affine" in text.get_text() for text in ax.texts)


def test_distortion_of_an_inverse():
    """It has no spline that could be asked."""
    alignment = _alignment()
    forward = visualization.plot_distortion(alignment)
    alignment.transform = alignment.transform.inverse
    inverse = visualization.plot_distortion(alignment)
    arrows = []
    for ax in (forward, inverse):
        (found,) = (child for child in ax.get_children() if type(child).__name__ == "Quiver")
        arrows.append(np.hypot(found.U, found.V))
    assert 0.3 < np.median(arrows[1]) / np.median(arrows[0]) < 3


def test_difference_is_template_minus_image(images):
    ax = visualization.plot_difference(images.source, images.template)
    shown = ax.images[0].get_array()
    assert shown.shape == (80, 140)  # what both have
    assert shown[40, 70] == pytest.approx(4900, abs=30)
    assert abs(np.ma.median(shown)) < 1


def test_difference_of_equal_fluxes(images):
    """What is brighter by the ratio of the fluxes leaves nothing."""
    brighter = 30 + 2 * images.template
    shown = visualization.plot_difference(brighter, images.template, flux_ratio=2).images[0]
    assert np.abs(shown.get_array()).max() < 1e-9
    for wrong in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"^flux_ratio is a positive number"):
            visualization.plot_difference(images.source, images.template, flux_ratio=wrong)


def test_region_keeps_the_pixel_numbers(images):
    ax = visualization.plot_difference(images.source, images.template, region=np.s_[30:50, 60:90])
    shown = ax.images[0].get_array()
    assert shown.shape == (20, 30)
    assert shown[10, 10] == pytest.approx(4900, abs=30)
    assert ax.images[0].get_extent() == [59.5, 89.5, 29.5, 49.5]


def test_bad_pixels_stay_empty(images):
    mask = np.zeros(SHAPE, bool)
    mask[5, 7] = True
    images.template[6, 8] = np.nan
    frame = CCDData(images.template, unit="adu", mask=mask)
    shown = visualization.plot_image(frame).images[0].get_array()
    assert np.ma.getmaskarray(shown)[5, 7]
    assert np.ma.getmaskarray(shown)[6, 8]
    assert np.ma.getmaskarray(shown).sum() == 2
    assert np.isfinite(frame.data).sum() == frame.data.size - 1  # the input is as it was


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_images_without_contrast(value):
    visualization.plot_image(np.full((20, 30), value)).figure.canvas.draw()


def test_overview(images):
    alignment = _alignment()
    alone = visualization.plot_alignment(alignment)
    assert len(alone.axes) == 3
    full = visualization.plot_alignment(
        alignment, source=images.source, aligned=images.template, template=images.template
    )
    titles = [ax.get_title(loc="left") for ax in full.axes]
    assert titles[:2] == ["before: template − source / 2.00", "after: template − aligned / 2.00"]
    # the stars have equal fluxes
    np.testing.assert_allclose(
        full.axes[1].images[0].get_array(), (images.template - np.median(images.template)) / 2
    )
    assert len(titles) == 4
    for figure in (alone, full):
        figure.canvas.draw()


@pytest.mark.parametrize(
    ("value", "expected"), [(0.086, 0.1), (0.03, 0.02), (6.0, 5), (1.0, 1), (0.0, 1), (np.nan, 1)]
)
def test_round_number(value, expected):
    assert _canvas.round_number(value) == pytest.approx(expected)


def test_stars_without_match():
    alignment = _alignment()
    matches = alignment.matches
    template = QTable({"x": [*matches["x_template"], 20.5], "y": [*matches["y_template"], 88.0]})
    # one of the source beside the matched ones, and one that lies outside of the template
    x, y = alignment.transform.inverse(np.array([100.0, 190.0]), np.array([12.0, 40.0]))
    source = QTable({"x": [*matches["x_source"], *x], "y": [*matches["y_source"], *y]})
    ax = visualization.plot_matches(alignment, template_stars=template, source_stars=source)
    alone = ax.lines[:2]
    np.testing.assert_allclose(alone[0].get_xydata(), [[20.5, 88.0]])
    np.testing.assert_allclose(alone[1].get_xydata(), [[100.0, 12.0]])
    assert [len(line.get_xdata()) for line in ax.lines[2:]] == [39, 1]
    assert "template alone 1 □, source alone 1 △" in ax.get_title(loc="left")


def test_stars_need_positions():
    with pytest.raises(ValueError, match="the table has ra, dec"):
        visualization.plot_matches(_alignment(), template_stars=QTable({"ra": [1.0], "dec": [2.0]}))


@pytest.mark.parametrize(("axis", "length"), [("x", SHAPE[1]), ("y", SHAPE[0])])
def test_a_trend_shows_along_its_axis(axis, length):
    alignment = _alignment()
    matches = alignment.matches
    matches["dx"] = 0.002 * (matches[f"{axis}_template"] - length / 2)
    matches["dy"] = 0.0
    ax = visualization.plot_residuals_by_position(alignment, axis=axis)
    by_marker = {line.get_marker(): line for line in ax.lines}
    dx, dy = (by_marker[marker].get_xydata().T for marker in "os")
    np.testing.assert_allclose(dx[1], 0.002 * (dx[0] - length / 2), atol=0.02)
    np.testing.assert_allclose(dy[1], 0)
    assert ax.get_xlabel() == f"{axis} (px)"
    assert ax.get_xlim()[1] == length - 0.5
    low, high = ax.get_ylim()
    assert low < dx[1].min() < dx[1].max() < high


def test_axis_is_x_or_y():
    with pytest.raises(ValueError, match="'z'"):
        visualization.plot_residuals_by_position(_alignment(), axis="z")


def test_residuals_by_flux_compare_with_the_expectation():
    alignment = _alignment()
    alignment.matches["sigma"] = 0.1
    alignment.matches["dx"][:39], alignment.matches["dy"][:39] = 0.3, 0.4
    ax = visualization.plot_residuals_by_flux(alignment)
    labeled = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(labeled["measured rms"], 0.5)
    np.testing.assert_allclose(labeled["expected of the errors"], 0.1 * np.sqrt(2))
    assert ax.get_xlabel() == "flux in the template"
    assert [len(line.get_xdata()) for line in ax.lines[:2]] == [39, 1]


def test_residuals_by_flux_of_the_source():
    alignment = _alignment()
    alignment.matches["flux_source"] = alignment.matches["flux_template"]
    alignment.matches["flux_template"] = np.nan
    assert visualization.plot_residuals_by_flux(alignment).get_xlabel() == "flux in the source"


def test_residuals_by_flux_take_fluxes():
    alignment = _alignment()
    alignment.matches["flux_template"] = np.nan
    before = plt.get_fignums()
    with pytest.raises(ValueError, match="no fluxes"):
        visualization.plot_residuals_by_flux(alignment)
    assert plt.get_fignums() == before


def test_error_is_asked_for_at_source_pixels():
    alignment = _alignment(distorted=False)
    asked = []
    alignment.error = lambda x, y: asked.append((x, y)) or 0.1 + 1e-3 * x
    visualization.plot_error(alignment)
    ((x, y),) = asked
    corner = alignment.transform.inverse(0.0, 0.0)
    np.testing.assert_allclose((x[0, 0], y[0, 0]), corner)
    corner = alignment.transform.inverse(SHAPE[1] - 1.0, SHAPE[0] - 1.0)
    np.testing.assert_allclose((x[-1, -1], y[-1, -1]), corner)


def test_an_error_that_is_the_same_everywhere():
    alignment = _alignment()
    alignment.error = lambda x, y: np.full(np.shape(x), 0.25)
    ax = visualization.plot_error(alignment)
    assert "0.25 px everywhere" in ax.get_title(loc="left")


def test_coverage_tells_the_shares():
    ax = visualization.plot_coverage(_alignment())
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["among matched stars 61%", "extrapolated 17%", "no data 21%"]
    shown = ax.images[0].get_array()
    assert shown[5, 80] == 0
    assert shown[85, 80] == 1
    assert shown[85, 5] == shown[5, 5] == 2


def test_coverage_of_large_frames_is_thinned_out():
    ax = visualization.plot_coverage(_alignment(template_shape=(3000, 900)))
    assert max(ax.images[0].get_array().shape) <= 400
    assert ax.get_ylim()[1] == 2999.5


@pytest.mark.parametrize(
    "quantity", ["shift", "rotation", "scale", "error", "rms", "stars", "fwhm", "flux", "depth"]
)
def test_drift(quantity):
    table = _sequence()
    ax = visualization.plot_drift(table, quantity=quantity)
    *drawn, failed = ax.lines
    lines, rejected = drawn[::2], drawn[1::2]
    assert len(lines) == (2 if quantity in ("shift", "stars") else 1)
    for line, circle in zip(lines, rejected, strict=True):
        assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [4, 6]
        assert circle.get_xdata().tolist() == [6]
    assert failed.get_xdata().tolist() == [4]
    expected = {
        "shift": table["shift_x"],
        "scale": (table["scale"] / np.nanmedian(table["scale"][table["status"] == "ok"]) - 1) * 1e6,
        "stars": np.where(table["n_matched"] > 0, 300, np.nan),
        "flux": table["flux_ratio"],
    }.get(quantity, table[quantity] if quantity in table.colnames else None)
    expected = np.where(table["status"] == "ok", expected, np.nan)
    np.testing.assert_allclose(lines[0].get_ydata(), expected)


@pytest.mark.parametrize("known_by", ["name", "place"])
def test_the_template_does_not_match_itself_in_a_drift(known_by):
    table = _sequence()
    if known_by == "name":
        table["source"] = np.arange(len(table))
        table.meta["template"] = 0
    else:  # arrays have no name, and a path can be written in two ways
        table["shift_x"][0] = table["shift_y"][0] = 0
        table["rms"][0] = 2e-11
    drawn = {
        quantity: visualization.plot_drift(table, quantity=quantity).lines[0].get_ydata()
        for quantity in ("error", "rms", "stars", "shift")
    }
    for quantity in ("error", "rms", "stars"):
        assert np.isnan(drawn[quantity][0])
        assert np.isfinite(drawn[quantity][1])
    assert np.isfinite(drawn["shift"][0])


def test_drift_without_a_column():
    table = _sequence()
    del table["fwhm"]
    with pytest.raises(ValueError, match="no column 'fwhm'"):
        visualization.plot_drift(table, quantity="fwhm")


def test_drift_against_time():
    times = np.linspace(2.4, 7.9, 12)
    ax = visualization.plot_drift(_sequence(), against=times)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), times)
    with pytest.raises(ValueError, match=r"each of 12 frames; got shape \(11,\)"):
        visualization.plot_drift(_sequence(), against=times[1:])
    with pytest.raises(ValueError, match="quantity is one of shift"):
        visualization.plot_drift(_sequence(), quantity="seeing")


@pytest.mark.parametrize("rows", [slice(None), slice(4, 5), slice(0, 0), slice(0, 1)])
def test_overview_of_a_sequence(rows):
    figure = visualization.plot_sequence(_sequence()[rows])
    assert len(figure.axes) == 10
    figure.canvas.draw()


def _template():
    """An image with stars where the matches are, on stripes for noise, which pack small."""
    image = np.full(SHAPE, 95.0)
    image[:, ::8] = 110
    matches = _alignment().matches
    rows, columns = (np.round(matches[f"{axis}_template"]).astype(int) for axis in "yx")
    image[rows, columns] += 300
    return image


PICTURES = {
    "image": lambda ax: visualization.plot_image(_template(), ax),
    "difference": lambda ax: visualization.plot_difference(_template()[::-1], _template(), ax),
    "matches": lambda ax: visualization.plot_matches(
        _alignment(),
        ax,
        image=_template(),
        template_stars=QTable({"x": [20.0, 100.0], "y": [60.0, 20.0]}),
    ),
    "residuals": lambda ax: visualization.plot_residuals(_alignment(), ax),
    "residuals_by_position": lambda ax: visualization.plot_residuals_by_position(_alignment(), ax),
    "residuals_by_flux": lambda ax: visualization.plot_residuals_by_flux(_alignment(), ax),
    "distortion": lambda ax: visualization.plot_distortion(_alignment(), ax),
    "error": lambda ax: visualization.plot_error(_alignment(), ax),
    "coverage": lambda ax: visualization.plot_coverage(_alignment(), ax),
    "drift": lambda ax: visualization.plot_drift(_sequence(), ax),
}


# Compared where pytest-mpl and the matplotlib that drew them are: tox -e py311-test-figures.
@pytest.mark.mpl_image_compare(
    baseline_dir="../baseline", style="default", tolerance=4, savefig_kwargs={"dpi": 50}
)
@pytest.mark.parametrize("name", PICTURES)
def test_picture(name, request):
    figure, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    PICTURES[name](ax)
    figure.canvas.draw()
    return figure if request.config.pluginmanager.hasplugin("pytest_mpl") else None
