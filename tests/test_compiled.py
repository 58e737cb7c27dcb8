"""Compiled loops: as in numpy; what they cannot take is an error; doing without them."""

import copy
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from astropy.modeling.models import AffineTransformation2D, Identity
from astropy.nddata import CCDData, StdDevUncertainty

from spalipy_astro import _compiled
from spalipy_astro._compiled import starcolumns
from spalipy_astro._neighbors import Neighbors
from spalipy_astro.detection import find_stars
from spalipy_astro.matching._cells import sort_into_cells
from spalipy_astro.matching._quads import StarLevels, find_patterns
from spalipy_astro.models import SplineDistortion2D, TensorSpline
from spalipy_astro.resampling import resample, resample_flags
from spalipy_astro.resampling._interpolate import _tables
from spalipy_astro.resampling._kernels import KERNELS
from spalipy_astro.resampling._pixelmap import PixelMap, Tile

SOURCES = Path(__file__).parents[1] / "spalipy_astro" / "_compiled" / "src"
MODULES = {
    "_detection": [
        "bright_lines",
        "cut_squares",
        "difference_widths",
        "find_neighbors",
        "fit_batch",
        "level_squares",
        "mesh_row",
        "mesh_values",
        "psf_equations",
        "strip_peaks",
    ],
    "_matching": [
        "count_on_lines",
        "encode_patterns",
        "equal_codes",
        "fit_similarities",
        "form_patterns",
        "witness_scores",
    ],
    "_neighbors": ["count_points", "list_points", "nearest_points"],
    "_resampling": [
        "accept_uncertainties",
        "average_tile",
        "flags_tile",
        "interpolate_part",
        "interpolate_tile",
        "load_window",
        "source_extent",
        "spline_extent",
        "spline_tile",
    ],
    "_splines": [
        "invert_factor",
        "penalized_figures",
        "spline_basis",
        "spline_equations",
        "spline_points",
        "spline_sums",
        "spline_variance",
    ],
}
TOLERANCES = {
    "difference_widths": {"rtol": 1e-5},
    "fit_similarities": {"rtol": 1e-11, "atol": 1e-11},
    "invert_factor": {"rtol": 1e-9, "atol": 1e-12},
    "mesh_row": {"rtol": 1e-3},
    "penalized_figures": {"rtol": 1e-9, "atol": 1e-9},
    "psf_equations": {"rtol": 1e-9, "atol": 1e-9},
    "spline_extent": {"rtol": 1e-12, "atol": 1e-12},
    "strip_peaks": {"rtol": 1e-5},
    "witness_scores": {"rtol": 1e-11, "atol": 1e-11},
}


def compiled(name):
    """A compiled loop; the test is skipped where there is none."""
    (module,) = (module for module, names in MODULES.items() if name in names)
    where = f"{_compiled.__name__}.{module}"
    return getattr(pytest.importorskip(where, reason="no compiler was found"), name)


def in_numpy(name):
    (module,) = (module for module, names in MODULES.items() if name in names)
    return getattr(import_module(f"{_compiled.__name__}.{module}_numpy"), name)


def flat(arguments):
    """All arrays among arguments."""
    for argument in arguments:
        if isinstance(argument, tuple):
            yield from flat(argument)
        elif isinstance(argument, np.ndarray):
            yield argument


def test_every_loop_is_in_both():
    names = sorted(name for names in MODULES.values() for name in names)
    assert sorted(_compiled.__all__) == names
    for module, own in MODULES.items():
        assert sorted(import_module(f"{_compiled.__name__}.{module}_numpy").__all__) == own


@pytest.fixture
def twins(monkeypatch):
    """Run every loop twice, compare what it writes, and count the calls."""
    calls = dict.fromkeys(_compiled.__all__, 0)

    def both(name):
        fast, slow = compiled(name), in_numpy(name)

        def run(*arguments):
            again = copy.deepcopy(arguments)
            result, expected = fast(*arguments), slow(*again)
            assert result == expected
            calls[name] += 1
            for one, two in zip(flat(arguments), flat(again), strict=True):
                if name == "fit_batch":
                    continue
                if name in TOLERANCES:
                    some = slice(None if result is None else result)
                    np.testing.assert_allclose(
                        one[some] if one.ndim and result is not None else one,
                        two[some] if two.ndim and result is not None else two,
                        **TOLERANCES[name],
                    )
                else:
                    np.testing.assert_array_equal(one, two)
            if name == "fit_batch":
                compare_fits(arguments, again)
            return result

        return run

    for name in _compiled.__all__:
        monkeypatch.setattr(_compiled, name, both(name))
    return calls


def compare_fits(arguments, again):
    """Positions agree to a small part of their errors where the fit converged."""
    members = arguments[3]
    (at, errors, quality), (at2, _, quality2) = (
        [table[members] for table in tables] for tables in (arguments[-1], again[-1])
    )
    sound = (quality[:, starcolumns.CONVERGED] > 0) & (quality2[:, starcolumns.CONVERGED] > 0)
    sound &= at[:, 2] > 0
    assert np.mean(sound) == pytest.approx(np.mean(quality2[:, starcolumns.CONVERGED]), abs=0.05)
    shift = np.abs(at - at2)[sound, :2] / errors[sound, :2]
    assert np.quantile(shift, 0.95, method="lower") < 0.002
    # a step more or less, where a star comes just close enough to its last place
    assert np.max(shift, initial=0) < 0.1
    np.testing.assert_allclose(
        quality[sound, starcolumns.GOOD], quality2[sound, starcolumns.GOOD], rtol=1e-6
    )


@pytest.fixture(scope="module")
def field():
    """An image of stars, some close to each other, with bad pixels."""
    rng = np.random.default_rng(11)
    image = rng.normal(200, 8, (210, 260))
    y, x = np.mgrid[:210, :260]
    for x0, y0, flux in zip(*rng.uniform(5, 200, (2, 60)), rng.uniform(2e3, 4e4, 60), strict=True):
        image += flux / 10.8 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 3.44)
    image[rng.random(image.shape) < 0.002] = np.nan
    return image.astype(np.float32)


@pytest.mark.parametrize("kind", ["plain", "integers", "error"])
def test_detection(twins, field, kind):
    error = np.sqrt(np.nan_to_num(field, nan=1)) if kind == "error" else None
    image = np.nan_to_num(field).astype(np.uint16) if kind == "integers" else field
    assert len(find_stars(image, error=error)) > 40
    assert all(twins[name] for name in MODULES["_detection"])


@pytest.mark.parametrize("number", [0, 1, 2, 300])
@pytest.mark.parametrize("spread", [(60, 40), (80, 0), (0, 0)])
def test_neighbors(twins, number, spread):
    """Of points in a field, in a row, and in one place; also where there is no room for all."""
    position = 1e3 + np.random.default_rng(4).normal(size=(number, 2)) * spread
    pointer, index = np.empty(number + 1, np.int64), np.zeros(number**2, np.int64)
    found = _compiled.find_neighbors(position, 7.0, pointer, index)
    distance = np.hypot(*(position[:, np.newaxis] - position).T)
    near = (distance <= 7) & ~np.eye(number, dtype=bool)
    assert index[:found].tolist() == np.nonzero(near)[1].tolist()
    assert pointer.tolist() == [0, *near.sum(axis=1).cumsum()]
    few = np.full(found // 2, -1)
    assert _compiled.find_neighbors(position, 7.0, pointer, few) == found
    assert found == 0 or (few == -1).all()


@pytest.mark.parametrize("number", [1, 2, 300])
@pytest.mark.parametrize("spread", [(1, 1, 1, 1), (2, 1), (1, 0, 1), (0, 0)])
def test_equal_codes(twins, number, spread):
    """All within the radius; also of codes far away, and where there is no room for all."""
    rng = np.random.default_rng(4)
    known = rng.normal(size=(number, len(spread))) * spread
    codes = np.vstack((rng.normal(size=(50, len(spread))), known[:9], np.full(len(spread), -1e9)))
    cells, radius = sort_into_cells(known), 0.4
    distance = np.sqrt(np.sum((codes[:, np.newaxis] - known) ** 2, axis=2))
    pairs = np.nonzero(distance <= radius)
    room = len(pairs[0])
    row, index, far = np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room)
    assert _compiled.equal_codes(cells, codes, radius, row, index, far) == room
    order = np.lexsort((index, row))
    np.testing.assert_array_equal((row[order], index[order]), pairs)
    np.testing.assert_allclose(far[order], distance[pairs], rtol=1e-14)
    few = np.full(room // 2, -1)
    some = np.zeros(room // 2)
    assert _compiled.equal_codes(cells, codes, radius, few, few.copy(), some) == room
    none = np.empty((0, len(spread)))
    assert _compiled.equal_codes(cells, none, radius, few, few.copy(), some) == 0


@pytest.mark.parametrize("k", [3, 4])
@pytest.mark.parametrize("kind", ["field", "lattice", "one spot", "few", "none"])
def test_patterns(twins, kind, k):
    """Also where rows have neighbors of their own, and where stars are equally far apart."""
    rng = np.random.default_rng(13)
    xy = rng.uniform(0, 300, ({"few": 4, "none": 1}.get(kind, 90), 2))
    if kind == "lattice":
        xy = np.argwhere(np.ones((9, 10))) * 30.0
    elif kind == "one spot":
        xy[7:13] = xy[7]
    levels = StarLevels(np.concatenate((xy, rng.uniform(0, 300, (60, 2)))) if len(xy) > 9 else xy)
    found = find_patterns(levels, k=k, neighbors=20, last=2)
    assert twins["form_patterns"] == twins["encode_patterns"] == 1
    assert len(np.unique(np.sort(found.stars, axis=1), axis=0)) == len(found.stars)
    assert len(found.stars) == {"few": {3: 4, 4: 1}[k], "none": 0}.get(kind, len(found.stars))
    z = levels.xy[found.stars] @ (1, 1j)
    codes = (z[:, 2:] - z[:, :1]) / (z[:, 1] - z[:, 0])[:, np.newaxis]
    np.testing.assert_allclose(found.codes.view(complex), codes, rtol=0, atol=1e-12)


def test_similarities(twins):
    rng = np.random.default_rng(14)
    source = rng.uniform(0, 300, (40, 2))
    p = rng.permuted(np.tile(np.arange(40), (30, 1)), axis=1)[:, :4].copy()
    flip = np.arange(30) % 3 == 0
    z = source @ (1, 1j)
    template = np.concatenate([(2 - 1j) * t + (30 + 7j) for t in (z, z.conj())])
    a, b, rms = np.empty((30, 2)), np.empty((30, 2)), np.empty(30)
    images = np.column_stack((template.real, template.imag))
    _compiled.fit_similarities(source, images, p, p + 40 * flip[:, np.newaxis], flip, a, b, rms)
    np.testing.assert_allclose(a, np.tile([2, -1], (30, 1)), atol=1e-12)
    np.testing.assert_allclose(b, np.tile([30, 7], (30, 1)), atol=1e-9)
    assert rms.max() < 1e-11
    images += rng.normal(0, 9, images.shape)
    _compiled.fit_similarities(source, images, p, p[::-1].copy(), flip, a, b, rms)
    assert rms.min() > 1
    assert twins["fit_similarities"] == 2


@pytest.mark.parametrize("number", [0, 1, 2, 70])
def test_points_near_lines(twins, number):
    rng = np.random.default_rng(12)
    x, y = rng.uniform(0, 300, (2, number))
    x[:9] = 20 * np.arange(9)[:number]
    y[:9] = 0.7 * x[:9] + 50
    counts = np.empty(number * (number - 1) // 2, np.int64)
    _compiled.count_on_lines(x, y, 1.5, 50.0, counts)
    assert twins["count_on_lines"] == 1
    if number > 9:
        assert counts[0] == -1  # too close
        on_the_line = [int(np.count_nonzero(np.abs(y - 0.7 * x - 50) < 1.5 * np.hypot(1, 0.7)))]
        assert counts[3:8].tolist() == 5 * on_the_line
        assert on_the_line[0] >= 9


@pytest.mark.parametrize("shares", [(0.5,), (0.5, 0.8, 0.95)])
@pytest.mark.parametrize("kind", ["field", "cluster", "row", "one"])
def test_witnesses(twins, kind, shares):
    """Scores are the sums of log-ratios, or the best of them, and silence counts for nothing."""
    rng = np.random.default_rng(6)
    stars = rng.uniform(0, 300, (1 if kind == "one" else 80, 2))
    if kind == "cluster":
        stars[:40] = 150 + rng.standard_t(2, (40, 2))
    elif kind == "row":
        stars[:, 1] = 20
    n = len(stars)
    err, density = rng.uniform(0.02, 0.2, n), rng.uniform(1e-4, 1e-3, n)
    source = rng.uniform(0, 300, (60, 2))
    similarity = np.column_stack(
        (
            rng.normal(size=(40, 2)),
            rng.uniform(0, 300, (40, 2)),
            np.resize([1.0, -1.0], 40),
            rng.uniform(0, 1, 40),
            rng.uniform(0, 300, (40, 2)),
            rng.uniform(10, 60, 40),
        )
    )
    # the first puts its witnesses onto template stars, the second all of them outside
    similarity[0, :5], similarity[1, 2:4] = (1, 0, 0, 0, 1), 1e6
    source[: min(n, 20)] = stars[-20:]
    witnesses = rng.integers(0, 60, (40, 17))
    witnesses[0] = np.arange(17)
    frame, scores = np.array([[-0.5, -0.5], [299.5, 310.5]]), np.full(40, np.nan)
    lists = (source, rng.uniform(0.02, 0.2, 60), err, density)
    pattern = rng.integers(0, 60, (40, 4))
    pattern[0] = 59
    cells = sort_into_cells(stars)
    arguments = (similarity, witnesses, pattern, scores)
    _compiled.witness_scores(cells, lists, frame, np.array(shares), 1e-4, *arguments)
    assert twins["witness_scores"] == 1
    if n > 1:
        assert scores[0] == max(scores)
        assert scores[0] > 20
    assert scores[1] == 0


@pytest.mark.parametrize("kind", ["plain", "strided", "reversed", "bool", ">f8", "read-only"])
def test_squares(twins, kind):
    """Of any type and order of pixels, at the edges and beyond them."""
    image = np.arange(20 * 30.0).reshape(20, 30)
    if kind == "strided":
        image = image[1::2, 2::3]
    elif kind == "reversed":
        image = image[::-1].T[:, ::-1]
    elif kind in ("bool", ">f8"):
        image = (image % 5).astype(kind)
    elif kind == "read-only":
        image.flags.writeable = False
    x, y = np.array([4, 0, 9, -1, 50, 6]), np.array([5, 0, 8, 3, 2, -40])
    squares = np.zeros((6, 5, 5), image.dtype)
    _compiled.cut_squares(image, x, y, squares)
    np.testing.assert_array_equal(squares[0], image[3:8, 2:7])
    np.testing.assert_array_equal(squares[1, 2:, 2:], image[:3, :3])
    np.testing.assert_array_equal(squares[3, :, 3:], image[1:6, :2])
    assert not squares[1, :2].any()
    assert not squares[4:].any()


@pytest.mark.parametrize("saturation", [5.0, np.inf])
def test_levels_of_squares(twins, saturation):
    """The same bits; bad and saturated pixels are NaN, and infinite ones are not saturated."""
    squares = np.random.default_rng(2).normal(3, 2, (7, 5, 5)).astype(np.float32)
    squares[1, 2, 3], squares[2, 0, 0], squares[2, 4, 4] = np.nan, np.inf, -np.inf
    squares[3, 1, 1], squares[3, 1, 2] = 5, np.nextafter(np.float32(5), np.float32(0))
    level, before = np.linspace(-1, 1, 7).astype(np.float32), squares.copy()
    saturated = np.empty(squares.shape, bool)
    _compiled.level_squares(squares, level, saturation, saturated)
    assert saturated[3, 1, 1] == (saturation == 5)
    assert not saturated[3, 1, 2]
    assert saturated.any() == (saturation == 5)
    assert np.isnan(squares[[1, 2, 2], [2, 0, 4], [3, 0, 4]]).all()
    expected = np.where(saturated | ~np.isfinite(before), np.nan, before - level[:, None, None])
    np.testing.assert_array_equal(squares, expected)
    _compiled.level_squares(squares[:0], level[:0], saturation, saturated[:0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (2, 2), (5, 7)])
def test_values_of_a_mesh(twins, shape):
    """The same bits: at the centers of cells as they are, flat beyond them, linear between them."""
    rng = np.random.default_rng(3)
    mesh, other = rng.normal(100, 5, (2, *shape)).astype(np.float32)
    x = np.append(rng.uniform(-50, 300, 200), [-1e9, 1e9, 15.5, 19.5])
    y = np.append(rng.uniform(-50, 300, 200), [1e9, -1e9, 12.0, 9.5])
    out, second = np.empty((2, len(x)))
    _compiled.mesh_values(mesh, other, (20.0, 32.0), x, y, out, second)
    corners = [mesh[-1, 0], mesh[0, -1]]
    assert out[-4:-2].tolist() == pytest.approx(corners)
    expected = mesh[0, 0] + 0.125 * (mesh[min(1, shape[0] - 1), 0] - mesh[0, 0])
    assert out[-2] == pytest.approx(expected)
    expected = mesh[0, 0] + 0.125 * (mesh[0, min(1, shape[1] - 1)] - mesh[0, 0])
    assert out[-1] == pytest.approx(expected)
    assert second.min() >= other.min()
    assert second.max() <= other.max()
    _compiled.mesh_values(mesh, other, (20.0, 32.0), x[:0], y[:0], out[:0], second[:0])


@pytest.mark.parametrize("shape", [(1, 5), (5, 6), (16, 40), (13, 40), (64, 9)])
def test_lines_of_pixels(twins, shape):
    """As in numpy; a line down an image, to the right by 7 of 40 columns, is found in its place."""
    image = np.random.default_rng(8).normal(size=shape).astype(np.float32)
    levels = int(np.ceil(np.log2(max(shape))))
    value, place = np.empty(levels, np.float32), np.empty((levels, 3), np.int64)
    _compiled.bright_lines(image, 2, 4, value, place)
    if shape == (16, 40):
        rows = np.arange(16)
        image[rows, 11 + rows // 2] += 6
        _compiled.bright_lines(image, 2, 4, value, place)
        assert place[3].tolist() == [0, 7, 11]
        assert value[3] == pytest.approx(16 * 6, abs=15)


@pytest.mark.parametrize("scale", [1.0, 0.45])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", list(KERNELS))
def test_resampling(twins, field, method, dtype, scale):
    """The same bits, whatever the kernel, with bad pixels and beyond the edges."""
    planes = np.stack([field, field[::-1]]).astype(dtype)
    source = CCDData(planes, unit="adu", uncertainty=StdDevUncertainty(np.sqrt(np.abs(planes))))
    turned = AffineTransformation2D(np.array([[0.98, 0.2], [-0.2, 0.98]]) / scale, [-20, 35])
    rng = np.random.default_rng(3)
    spline = SplineDistortion2D(*rng.normal(0, 1, (2, 9, 8)), bounds=((0, 90), (0, 110)))
    shape = (70, 83) if scale == 1 else (34, 43)  # numpy takes its time for wide kernels
    # one thread: what others write meanwhile would be in one of the copies alone
    out = resample(source, spline | turned, method=method, shape=shape, n_threads=1)
    assert 0.01 < out.mask.mean() < 0.9
    averaged = scale < 1 and method != "nearest"
    assert bool(twins["interpolate_part"]) != averaged
    assert bool(twins["spline_extent"]) != averaged
    single = dtype == np.float32 and method != "nearest" and not averaged
    assert bool(twins["load_window"]) == single
    assert bool(twins["interpolate_tile"]) == bool(twins["average_tile"]) == averaged
    assert bool(twins["spline_tile"]) == (method != "nearest")


@pytest.mark.parametrize("degree", [0, 1, 3, 5])
def test_parts_of_grids(twins, field, degree):
    """Wider than what is found at once, beyond the ends of the spline, in any part."""
    model = AffineTransformation2D(np.array([[0.6, 0.1], [-0.1, 0.9]]), [-20, 35])
    if degree:
        coefficients = np.random.default_rng(3).normal(0, 2, (2, 9, 12))
        bounds = (30, 500), (2, 9)
        model = SplineDistortion2D(*coefficients, bounds=bounds, degree=degree) | model
    pixelmap = PixelMap(model, (11, 541), (3, -2))
    x, y = pixelmap.tile(Tile(0, 0, 11, 541))
    u, v = model(*np.meshgrid(np.arange(2.0, 545), np.arange(-3.0, 10)))
    np.testing.assert_allclose((x, y), (u, v), rtol=0, atol=1e-11)
    tables = _tables("bicubic", np.dtype(np.float32))
    none = np.empty((0, 0))
    window = np.full((1, 400, 460), np.nan, np.float32)
    window[0, 100:310, 100:360] = field
    source = window.reshape(1, -1), (none, none, 1.0), (-100, -100, 460), (260, 210)
    empty = np.empty((0, 0, 0))
    others = empty.astype(bool), empty.astype(np.float32), empty
    outs = np.zeros((2, 1, 11, 541), np.float32)
    rule = True, 0.5, np.nan, "std"
    _compiled.interpolate_tile(source, x, y, tables, rule, (0, 0), (outs[0], *others))
    for tile in (Tile(0, 0, 11, 517), Tile(2, 517, 9, 24), Tile(0, 517, 2, 24)):
        _compiled.interpolate_part(
            source, pixelmap.grid, tile.part, tables, rule, (outs[1], *others)
        )
        x_min, x_max, y_min, y_max = pixelmap.extent(tile)
        rows, columns = (
            slice(start, start + size + 2)
            for start, size in zip(tile.part[:2], tile.part[2:], strict=True)
        )
        some = x[rows, columns], y[rows, columns]
        assert x_min <= some[0].min() <= some[0].max() <= x_max
        assert y_min <= some[1].min() <= some[1].max() <= y_max
        if degree == 0:
            box = some[0].min(), some[0].max(), some[1].min(), some[1].max()
            np.testing.assert_allclose(box, (x_min, x_max, y_min, y_max), atol=1e-5)
    np.testing.assert_array_equal(*outs)
    assert 0.2 < np.isfinite(outs).mean() < 0.9


@pytest.mark.parametrize("n", [0, 1, 300])
def test_nearest_points(twins, n):
    rng = np.random.default_rng(5)
    neighbors = Neighbors(rng.normal(0, 100, (n, 2)))
    places = rng.normal(0, 150, (80, 2))
    for k in (1, 4):
        neighbors.nearest(places, k)
    neighbors.within(places, rng.uniform(0, 60, 80))
    neighbors.count(np.empty((0, 2)), 3.0)
    names = ("nearest_points", "count_points", "list_points")
    assert [twins[name] for name in names] == [2, 2, 1]


@pytest.mark.parametrize("degree", [1, 3, 5])
def test_splines(twins, degree):
    """At points and on knots, beyond the ends, at the last knot and where nothing is defined."""
    rng = np.random.default_rng(3)
    coefficients = rng.normal(size=(2, 8, 11))
    spline = SplineDistortion2D(*coefficients, bounds=((0, 110), (-20, 70)), degree=degree)
    x = np.append(rng.uniform(-60, 170, 300), [0, 110, 1e300, np.nan, np.inf, 55, -np.inf, 20])
    y = np.append(rng.uniform(-60, 170, 300), [-20, 70, 3, 4, 5, np.nan, 7, -1e300])
    u, v = spline(x, y)
    jacobian = spline.jacobian(x, y)
    assert twins["spline_points"] == 2
    for values in (u, v, *jacobian.reshape(-1, 4).T):
        assert np.isfinite(values[:303]).all()
        assert np.isnan(values[303:307]).all()
    # on a grid, which other loops evaluate
    across, down = np.arange(-30.0, 140, 7), np.arange(-40.0, 90, 9)
    grid = [t.ravel() for t in np.meshgrid(across, down)]
    order = rng.permutation(grid[0].size)
    expected = spline(across, down[:, np.newaxis])
    for one, two in zip(spline(*(t[order] for t in grid)), expected, strict=True):
        np.testing.assert_allclose(one, two.ravel()[order], rtol=0, atol=1e-11)
    assert twins["spline_basis"]
    assert all(t.shape == (0,) for t in spline(np.empty(0), np.empty(0)))


@pytest.mark.parametrize("degree", [0, 1, 3, 5])
def test_fits_of_splines(twins, degree):
    """Sums over cells are those of the functions, all of them, at the points."""
    rng = np.random.default_rng(4)
    spline = TensorSpline((8, 11), ((0.0, 110.0), (-20.0, 70.0)), degree)
    x, y = rng.uniform(-10, 120, 40), rng.uniform(-30, 80, 40)
    values, weights = rng.normal(size=(40, 3)), rng.uniform(0, 2, 40)
    x[0], y[0], x[1], y[1], weights[2:4] = 110, 70, 0, -20, 0
    x[2] = np.nan  # of no weight
    units = np.eye(88).reshape(88, 8, 11)
    functions = np.array(spline.evaluate(x, y, [(unit, 0, 0) for unit in units])).T
    matrix, right = spline.normal_equations(x, y, values, weights)
    counted = weights > 0
    weighted = functions[counted] * weights[counted, np.newaxis]
    np.testing.assert_allclose(matrix, weighted.T @ functions[counted], atol=1e-12)
    np.testing.assert_allclose(right, weighted.T @ values[counted], atol=1e-12)
    np.testing.assert_array_equal(matrix, matrix.T)
    sums = spline.sums(*(t[counted] for t in (x, y, weights[:, np.newaxis] * values)))
    np.testing.assert_allclose(sums, right, atol=1e-12)
    factor = rng.normal(size=(88, 5))
    variance = spline.variance(x, y, factor @ factor.T)
    np.testing.assert_allclose(variance, np.sum((functions @ factor) ** 2, axis=1), rtol=1e-10)
    for name in ("spline_equations", "spline_sums", "spline_variance"):
        assert twins[name] == 1
    none = np.empty(0)
    matrix, right = spline.normal_equations(none, none, np.empty((0, 2)), none)
    assert not matrix.any()
    assert not right.any()
    assert not spline.sums(none, none, np.empty((0, 2))).any()
    assert spline.variance(none, none, matrix).shape == (0,)


@pytest.mark.parametrize("size", [0, 1, 4, 7, 30])
def test_likelihood_of_penalties(twins, size):
    """Sums over factors that are found four by four are those of the whole matrices."""
    rng = np.random.default_rng(9)
    parts = rng.normal(size=(30, 40))
    matrix, right, roughness = parts @ parts.T, rng.normal(size=(30, 2)), rng.uniform(0, 3, 30)
    for figures in (np.empty(2), np.empty(14)):
        arguments = roughness, size, 0.5, 2.0, figures
        assert _compiled.penalized_figures(matrix, right, *arguments)
        # what is above the diagonal is not read
        lower, again = np.tril(matrix) + np.triu(np.full((30, 30), np.nan), 1), figures.copy()
        assert _compiled.penalized_figures(lower, right, *arguments)
        np.testing.assert_array_equal(figures, again)
    penalty = np.diag(0.5 + 2 * roughness[:size])
    inverse = np.linalg.inv(matrix[:size, :size] + penalty)
    determinants = [np.linalg.slogdet(m)[1] for m in (matrix[:size, :size] + penalty, penalty)]
    assert figures[0] == pytest.approx(determinants[0] - determinants[1], rel=1e-9)
    both = np.diag(roughness[:size])
    assert figures[11] == pytest.approx(np.trace(inverse @ both @ inverse @ both), rel=1e-9)
    assert twins["penalized_figures"] == 4


@pytest.mark.parametrize("size", [0, 1, 4, 7, 30])
def test_inverse_of_a_factor(twins, size):
    rng = np.random.default_rng(9)
    parts, right = rng.normal(size=(size, 40)), rng.normal(size=(size, 2))
    matrix = parts @ parts.T
    half, upper = np.empty((2, size)), np.zeros((size, size))
    assert _compiled.invert_factor(matrix, right, half, upper)
    inverse = np.linalg.inv(matrix)
    np.testing.assert_array_equal(upper, np.triu(upper))
    np.testing.assert_allclose(upper @ upper.T, inverse, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(upper @ half.T, inverse @ right, rtol=1e-9, atol=1e-12)
    # what is above the diagonal is not read
    lower = np.tril(matrix) + np.triu(np.full((size, size), np.nan), 1)
    halves, again = np.empty((2, size)), np.zeros((size, size))
    assert _compiled.invert_factor(lower, right, halves, again)
    np.testing.assert_array_equal(halves, half)
    np.testing.assert_array_equal(again, upper)
    assert twins["invert_factor"] == 2


@pytest.mark.parametrize("place", [0, 3, 6])
def test_penalties_of_no_matrix(place):
    for value in (-1.0, np.nan):
        matrix = np.eye(7)
        matrix[place, place] = value
        for number in (2, 14):
            arguments = np.ones((7, 2)), np.ones(7), 7, 0.1, 0.2, np.empty(number)
            assert not compiled("penalized_figures")(matrix, *arguments)
            assert not in_numpy("penalized_figures")(matrix, *arguments)
        arguments = np.ones((7, 2)), np.empty((2, 7)), np.zeros((7, 7))
        assert not compiled("invert_factor")(matrix, *arguments)
        assert not in_numpy("invert_factor")(matrix, *arguments)


@pytest.mark.parametrize("radius", [0, 2.5])
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int32, np.uint64])
def test_flags(twins, dtype, radius):
    flags = (np.arange(30 * 41).reshape(30, 41) % 7 == 0).astype(dtype)
    turned = AffineTransformation2D([[0.9, 0.3], [-0.3, 0.9]], [-3, 5])
    method = "or" if radius else "nearest"
    out = resample_flags(flags, turned, flags_method=method, radius=radius, shape=(40, 37))
    assert out.any()
    assert twins["flags_tile"] == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (2, 65)])
def test_small_images(twins, shape):
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for method in KERNELS:
        out = resample(image, Identity(2), method=method)
        np.testing.assert_allclose(out, image, atol=1e-5)
        assert resample(image, Identity(2), method=method, shape=(1, 1)).shape == (1, 1)


class TestMatchingArguments:
    """What would be read or written beyond an array is an error."""

    def of_codes(self, number=9):
        cells = sort_into_cells(np.random.default_rng(2).normal(size=(number, 4)))
        return [
            cells,
            np.zeros((3, 4)),
            0.1,
            np.zeros(5, np.int64),
            np.zeros(5, np.int64),
            np.zeros(5),
        ]

    @pytest.mark.parametrize(
        ("place", "value", "words"),
        [
            (1, np.zeros((3, 2)), "codes must have the shape"),
            (4, np.zeros(4, np.int64), "index must have the shape"),
            (5, np.zeros(6), "distance must have the shape"),
        ],
    )
    def test_codes(self, place, value, words):
        arguments = self.of_codes()
        compiled("equal_codes")(*arguments)
        arguments[place] = value
        with pytest.raises(ValueError, match=words):
            compiled("equal_codes")(*arguments)

    @pytest.mark.parametrize(
        ("place", "value", "error"),
        [
            (1, np.full(9, 9), IndexError),
            (1, np.full(9, -1), IndexError),
            (1, np.zeros(8, np.int64), ValueError),
            (2, np.array([0, 4, 4, 10]), IndexError),
            (2, np.array([0, 5, 4, 9]), IndexError),
            (2, np.array([1, 4, 4, 9]), IndexError),
            (2, np.array([0]), ValueError),
            (4, 0.0, ValueError),
            (5, (1, 0, 1), ValueError),
            (5, (1, 1, 2), ValueError),
        ],
    )
    def test_cells(self, place, value, error):
        cells, *others = self.of_codes()
        cells = (*cells[:2], np.array([0, 4, 4, 9]), *cells[3:5], (1, 1, 3))
        compiled("equal_codes")(cells, *others)
        cells = (*cells[:place], value, *cells[place + 1 :])
        with pytest.raises(error, match=r"cells"):
            compiled("equal_codes")(cells, *others)

    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            ({"near": np.full((2, 5), 9)}, IndexError, "form_patterns"),
            ({"stars": np.empty((7, 4), np.int64)}, ValueError, "row must have the shape"),
            ({"stars": np.empty((8, 5), np.int64)}, ValueError, "three or four columns, got 5"),
            ({"number": -1}, ValueError, "number must be from 0 to"),
            ({"stars": np.empty((7, 4), np.int64), "row": np.empty(7, np.int64)}, IndexError, "s"),
        ],
    )
    def test_patterns(self, change, error, words):
        plain = {
            "near": np.arange(10).reshape(2, 5) % 9,
            "number": 9,
            "stars": np.empty((8, 4), np.int64),
            "row": np.empty(8, np.int64),
        }
        assert compiled("form_patterns")(*plain.values()) == 8
        with pytest.raises(error, match=words):
            compiled("form_patterns")(*{**plain, **change}.values())

    @pytest.mark.parametrize(
        ("name", "value", "error"),
        [
            ("stars", np.full((3, 4), 9), IndexError),
            ("stars", np.full((3, 4), -1), IndexError),
            ("stars", np.zeros((3, 2), np.int64), ValueError),
            ("codes", np.empty((3, 2)), ValueError),
            ("size", np.empty(2), ValueError),
            ("xy", np.zeros((9, 3)), ValueError),
        ],
    )
    def test_encoding(self, name, value, error):
        plain = {"xy": np.zeros((9, 2)), "stars": np.zeros((3, 4), np.int64)}
        plain |= {"codes": np.empty((3, 4)), "size": np.empty(3)}
        compiled("encode_patterns")(*plain.values())
        with pytest.raises(error, match="encode_patterns" if error is IndexError else name):
            compiled("encode_patterns")(*{**plain, name: value}.values())

    @pytest.mark.parametrize(
        ("name", "value", "error"),
        [
            ("p", np.full((3, 4), 9), IndexError),
            ("q", np.full((3, 4), -1), IndexError),
            ("q", np.zeros((3, 3), np.int64), ValueError),
            ("flip", np.zeros(2, bool), ValueError),
            ("a", np.empty((3, 1)), ValueError),
            ("b", np.empty((2, 2)), ValueError),
            ("rms", np.empty(2), ValueError),
        ],
    )
    def test_similarities(self, name, value, error):
        stars, places = np.zeros((3, 4), np.int64), np.zeros((9, 2))
        plain = {"source": places, "template": places, "p": stars, "q": stars}
        plain |= {"flip": np.zeros(3, bool), "a": np.empty((3, 2)), "b": np.empty((3, 2))}
        plain["rms"] = np.empty(3)
        compiled("fit_similarities")(*plain.values())
        with pytest.raises(error, match="fit_similarities" if error is IndexError else name):
            compiled("fit_similarities")(*{**plain, name: value}.values())

    @pytest.mark.parametrize(
        ("y", "counts", "name"),
        [(np.ones(3), np.empty(6), "y"), (np.ones(4), np.empty(5), "counts")],
    )
    def test_lines(self, y, counts, name):
        with pytest.raises(ValueError, match=f"{name} must have the shape"):
            compiled("count_on_lines")(np.ones(4), y, 1.0, 0.0, counts.astype(np.int64))

    @pytest.mark.parametrize(
        ("name", "value", "error"),
        [
            ("witnesses", np.full((3, 5), 4), IndexError),
            ("witnesses", np.full((3, 5), -1), IndexError),
            ("witnesses", np.zeros((2, 5), np.int64), ValueError),
            ("pattern", np.zeros((2, 4), np.int64), ValueError),
            ("similarity", np.ones((3, 8)), ValueError),
            ("shares", np.empty(0), ValueError),
            ("shares", np.ones(5), ValueError),
            ("frame", np.zeros((1, 2)), ValueError),
        ],
    )
    def test_witnesses(self, name, value, error):
        lists = (np.zeros((4, 2)), np.ones(4), np.ones(2), np.ones(2))
        plain = {
            "cells": sort_into_cells(np.array([[1.0, 2.0], [3.0, 5.0]])),
            "stars": lists,
            "frame": np.array([[0.0, 0.0], [9.0, 9.0]]),
            "shares": np.array([0.5]),
            "bending": 0.1,
            "similarity": np.ones((3, 9)),
            "witnesses": np.zeros((3, 5), np.int64),
            "pattern": np.zeros((3, 4), np.int64),
            "scores": np.zeros(3),
        }
        compiled("witness_scores")(*plain.values())
        with pytest.raises(error, match=name):
            compiled("witness_scores")(*{**plain, name: value}.values())


class TestNeighborArguments:
    """Lists that do not agree with the points are an error."""

    strips = (
        *(np.arange(4.0), np.arange(4.0), np.arange(4)),
        *(np.array([0, 2, 4]), np.array([0.0, 2.0]), np.array([1.0, 3.0])),
    )
    places = np.zeros(2), np.zeros(2), np.ones(2)

    @pytest.mark.parametrize(
        ("part", "value", "error"),
        [
            (0, np.arange(5.0), ValueError),
            (2, np.arange(4.0), TypeError),
            (3, np.array([0, 2, 5]), IndexError),
            (3, np.array([0, 3, 2]), IndexError),
            (3, np.array([0, 4]), ValueError),
            (5, np.zeros(3), ValueError),
        ],
    )
    def test_strips(self, part, value, error):
        found = np.empty((2, 1), np.int64), np.empty((2, 1))
        compiled("nearest_points")(self.strips, *self.places[:2], *found)
        wrong = tuple(value if k == part else known for k, known in enumerate(self.strips))
        with pytest.raises(error, match="strips"):
            compiled("nearest_points")(wrong, *self.places[:2], *found)

    @pytest.mark.parametrize("pointer", [[0, 1, 2], [0, 3, 5], [1, 3, 5], [3, 2, 5], [0, 3, 9]])
    def test_lists(self, pointer):
        numbers = np.empty(6, np.int64)
        reach = np.full(2, 3.0)
        compiled("list_points")(self.strips, *self.places[:2], reach, np.array([0, 3, 6]), numbers)
        assert numbers.tolist() == [0, 1, 2] * 2
        with pytest.raises(IndexError, match="list_points"):
            compiled("list_points")(
                self.strips, *self.places[:2], reach, np.array(pointer), numbers
            )


class TestSplineArguments:
    """What would be read or written beyond an array is an error."""

    axis = (6, 0.0, 2.0, np.eye(4), np.ones((3, 4)))

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"first": np.empty(4, np.int64)}, "first must have the shape"),
            ({"weights": np.empty((5, 3))}, "weights must have the shape"),
            ({"axis": (3, 0.0, 2.0, np.eye(4), np.ones((3, 4)))}, "4 functions or more, got 3"),
            ({"axis": (9, 0.0, 2.0, np.eye(9), np.ones((8, 9)))}, "order 1 to 8, got 9"),
            ({"axis": (6, 0.0, 2.0, np.eye(4), np.ones((4, 4)))}, r"axis\[4\] must have the shape"),
            ({"nu": 2}, "nu must be 0 or 1"),
        ],
    )
    def test_basis(self, arguments, words):
        plain = {
            "t": np.zeros(5),
            "axis": self.axis,
            "nu": 0,
            "first": np.empty(5, np.int64),
            "weights": np.empty((5, 4)),
        }
        compiled("spline_basis")(*plain.values())
        with pytest.raises(ValueError, match=words):
            compiled("spline_basis")(*{**plain, **arguments}.values())

    @pytest.mark.parametrize("term", [(1, 0, 0), (-1, 0, 0), (0, 2, 0), (0, 0, -1)])
    def test_terms(self, term):
        out = np.empty((1, 5))
        known = np.zeros(5), np.zeros(5), self.axis, self.axis, np.ones((1, 6, 6))
        compiled("spline_points")(*known, np.zeros((1, 3), np.int64), out)
        with pytest.raises(IndexError, match="spline_points"):
            compiled("spline_points")(*known, np.array([term], np.int64), out)

    @pytest.mark.parametrize(
        ("name", "arguments", "words"),
        [
            ("spline_equations", {"roots": np.ones(4)}, "roots must have the shape"),
            ("spline_equations", {"values": np.ones((4, 2))}, "values must have the shape"),
            ("spline_equations", {"matrix": np.ones((36, 35))}, "matrix must have the shape"),
            ("spline_equations", {"right": np.ones((36, 3))}, "right must have the shape"),
            ("spline_equations", {"along_y": (6, 0.0, 2.0, np.eye(3), np.ones((2, 3)))}, "order"),
            ("spline_sums", {"values": np.ones((4, 2))}, "values must have the shape"),
            ("spline_sums", {"out": np.ones((36, 3))}, "out must have the shape"),
            ("spline_variance", {"y": np.ones(4)}, "y must have the shape"),
            ("spline_variance", {"covariance": np.ones((36, 35))}, "covariance must have"),
            ("spline_variance", {"out": np.ones(4)}, "out must have the shape"),
            ("penalized_figures", {"matrix": np.ones((6, 5))}, "matrix must have the shape"),
            ("penalized_figures", {"right": np.ones((6, 1))}, "right must have the shape"),
            ("penalized_figures", {"size": 7}, "size must be from 0 to 6, got 7"),
            ("penalized_figures", {"size": -1}, "size must be from 0 to 6, got -1"),
            ("penalized_figures", {"figures": np.ones(3)}, "2 or 14 numbers, got 3"),
            ("invert_factor", {"matrix": np.ones((6, 5))}, "matrix must have the shape"),
            ("invert_factor", {"right": np.ones((6, 1))}, "right must have the shape"),
            ("invert_factor", {"half": np.ones((6, 2))}, "half must have the shape"),
            ("invert_factor", {"upper": np.ones((5, 6))}, "upper must have the shape"),
        ],
    )
    def test_fits(self, name, arguments, words):
        plain = {"x": np.zeros(5), "y": np.zeros(5), "along_x": self.axis, "along_y": self.axis}
        if name == "spline_equations":
            plain |= {"roots": np.ones(5), "values": np.ones((5, 2))}
            plain |= {"matrix": np.empty((36, 36)), "right": np.empty((36, 2))}
        elif name == "invert_factor":
            plain = {"matrix": np.eye(6), "right": np.ones((6, 2)), "half": np.ones((2, 6))}
            plain |= {"upper": np.zeros((6, 6))}
        elif name == "spline_sums":
            plain |= {"values": np.ones((5, 2)), "out": np.empty((36, 2))}
        elif name == "penalized_figures":
            plain = {"matrix": np.eye(6), "right": np.ones((6, 2)), "roughness": np.ones(6)}
            plain |= {"size": 5, "low": 1.0, "high": 1.0, "figures": np.empty(14)}
        else:
            plain |= {"covariance": np.ones((36, 36)), "out": np.empty(5)}
        compiled(name)(*plain.values())
        with pytest.raises(ValueError, match=words):
            compiled(name)(*{**plain, **arguments}.values())


class TestArguments:
    """What would be read or written beyond an array, or taken for other numbers, is an error."""

    x = np.arange(36.0).reshape(6, 6)
    inner = (7.0, 28.0, 7.0, 28.0)

    def extent(self, x, y=None, out=None, frame=(30, 40)):
        out = np.empty(4) if out is None else out
        compiled("source_extent")(x, x.copy() if y is None else y, frame, out)
        return tuple(out.tolist())

    def test_read_only(self):
        x = self.x.copy()
        x.flags.writeable = False
        assert self.extent(x) == self.inner
        out = np.empty(4)
        out.flags.writeable = False
        with pytest.raises(ValueError, match="out is read-only"):
            self.extent(self.x, out=out)

    @pytest.mark.parametrize("x", [x.T, x[:, ::-1], np.repeat(x, 2, axis=1)[:, ::2], x[:, 1:]])
    def test_strides(self, x):
        with pytest.raises(ValueError, match=r"x must be in C order; .*ascontiguousarray"):
            self.extent(x)
        assert self.extent(np.ascontiguousarray(x), np.ascontiguousarray(x))[0] > 0

    def test_alignment(self):
        room = np.zeros(36 * 8 + 1, np.uint8)
        x = room[1:].view(np.float64).reshape(6, 6)
        with pytest.raises(ValueError, match="x must be aligned"):
            self.extent(x)
        for start in range(4):  # to itself is enough
            room = np.zeros(40)
            x = room[start : start + 36].reshape(6, 6)
            x[...] = self.x
            assert self.extent(x) == self.inner

    @pytest.mark.parametrize("dtype", ["f4", ">f8", "i8", "c16", "O"])
    def test_types(self, dtype):
        with pytest.raises((TypeError, ValueError), match=r"x (must be of type float64|cannot)"):
            self.extent(self.x.astype(dtype))

    def test_lines(self):
        image, value = np.zeros((9, 5), np.float32), np.zeros(3, np.float32)
        lines, place = compiled("bright_lines"), np.zeros((3, 3), np.int64)
        with pytest.raises(ValueError, match="up to the 9 rows of the image, got 3"):
            lines(image, 2, 4, value, place)
        with pytest.raises(ValueError, match="less than the 5 columns of the image, got 4 and 2"):
            lines(image[:8], 4, 2, value, place)
        with pytest.raises(ValueError, match="got 2 and 5"):
            lines(image[:8], 2, 5, value, place)
        with pytest.raises(ValueError, match=r"place must have the shape \(3, 3\), got \(2, 3\)"):
            lines(image[:8], 2, 4, value, place[:2])

    def test_neighbors(self):
        position, pointer = np.zeros((4, 2)), np.zeros(5, np.int64)
        find, index = compiled("find_neighbors"), np.zeros(9, np.int64)
        with pytest.raises(ValueError, match="reach must not be negative, got -1"):
            find(position, -1.0, pointer, index)
        with pytest.raises(ValueError, match=r"pointer must have the shape \(5,\), got \(4,\)"):
            find(position, 1.0, pointer[:4], index)
        for bad in (np.nan, np.inf, 1e308):
            position[:2, 1] = bad, -1e308
            with pytest.raises(IndexError, match="find_neighbors: a position"):
                find(position, 1.0, pointer, index)

    def test_squares(self):
        image, place = np.zeros((9, 8)), np.zeros(2, np.int64)
        cut = compiled("cut_squares")
        for squares in (np.zeros((2, 4, 4)), np.zeros((2, 5, 5), np.float32)):
            with pytest.raises(ValueError, match="of an odd size and of the image's type, got"):
                cut(image, place, place, squares)
        with pytest.raises(ValueError, match=r"squares must have the shape \(2, 5, 5\)"):
            cut(image, place, place, np.zeros((2, 5, 4)))
        with pytest.raises(ValueError, match="squares must be in C order"):
            cut(image, place, place, np.zeros((2, 5, 10))[:, :, ::2])
        with pytest.raises(ValueError, match="image must have 2 dimensions"):
            cut(image[0], place, place, np.zeros((2, 5, 5)))
        with pytest.raises(TypeError, match="image must be a numpy array, got list"):
            cut([1], place, place, np.zeros((2, 5, 5)))

    def test_levels(self):
        squares, full = np.zeros((2, 5, 5), np.float32), np.zeros((2, 5, 5), bool)
        level, subtract = np.zeros(2, np.float32), compiled("level_squares")
        with pytest.raises(ValueError, match=r"level must have the shape \(2,\), got \(1,\)"):
            subtract(squares, level[:1], 1.0, full)
        with pytest.raises(ValueError, match=r"saturated must have the shape \(2, 5, 5\)"):
            subtract(squares, level, 1.0, full[:1])
        with pytest.raises(TypeError, match="saturated must be of type bool, got uint8"):
            subtract(squares, level, 1.0, full.view(np.uint8))

    def test_mesh(self):
        mesh, x, values = np.zeros((3, 4), np.float32), np.zeros(2), compiled("mesh_values")
        for cell, empty in (((0.0, 1.0), mesh), ((1.0, np.nan), mesh), ((1.0, 1.0), mesh[:0])):
            with pytest.raises(ValueError, match="a mesh has cells with sides, got the shape"):
                values(empty, empty, cell, x, x, x.copy(), x.copy())
        with pytest.raises(ValueError, match=r"noise must have the shape \(3, 4\), got \(2, 4\)"):
            values(mesh, mesh[:2], (1.0, 1.0), x, x, x.copy(), x.copy())
        for place in range(3):
            arrays = [x, x.copy(), x.copy()]
            arrays[place] = np.zeros(3)
            with pytest.raises(ValueError, match=r"must have the shape \(2,\), got \(3,\)"):
                values(mesh, mesh, (1.0, 1.0), x, *arrays)

    def test_no_array(self):
        with pytest.raises(TypeError, match="x must be a numpy array, got list"):
            self.extent([[1.0, 2.0], [3.0, 4.0]], self.x)

    def test_shapes(self):
        with pytest.raises(ValueError, match=r"x must have 2 dimensions, got the shape \(36,\)"):
            self.extent(self.x.ravel())
        with pytest.raises(ValueError, match=r"y must have the shape \(6, 6\), got \(5, 6\)"):
            self.extent(self.x, self.x[:5])
        with pytest.raises(ValueError, match="border of one pixel"):
            self.extent(np.empty((1, 6)), np.empty((1, 6)))

    def test_empty_and_bad(self):
        assert self.extent(np.empty((2, 2)))[0] == np.inf
        assert self.extent(np.full((6, 6), np.nan))[0] == np.inf
        x = self.x.copy()
        x[2, 2:4] = np.nan, np.inf
        assert self.extent(x) == self.inner

    def tile(self, **change):
        """Call the interpolation of a tile of 2 x 3 pixels, from a window of 12 x 10."""
        block = np.arange(120, dtype=np.float32)[np.newaxis]
        y, x = (t + 4.3 for t in np.mgrid[-1.0:3, -1:4])
        taps, table, table64 = _tables("lanczos3", np.dtype(np.float32))
        own = {
            "block": block,
            "variance": np.empty((0, 0)),
            "wide": np.empty((0, 0)),
            "x": x,
            "y": y,
            "corner": (0, 0, 10),
            "table": table,
            "taps": taps,
            "box": (0, 0),
            "out": np.zeros((1, 2, 3), np.float32),
        } | change
        none = np.empty((0, 0, 0))
        compiled("interpolate_tile")(
            (own["block"], (own["variance"], own["wide"], 1.0), own["corner"], (10, 12)),
            own["x"],
            own["y"],
            (own["taps"], own["table"], table64),
            (False, 0.5, np.nan, "std"),
            own["box"],
            (own["out"], none.astype(bool), none.astype(np.float32), none),
        )
        return own["out"]

    def test_tile(self):
        expected = 4.3 + np.arange(3) + 10 * (4.3 + np.arange(2)[:, np.newaxis])
        np.testing.assert_allclose(self.tile()[0], expected, rtol=1e-5)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"corner": (3, 0, 10)}, IndexError, "outside of the arrays"),
            ({"corner": (0, 3, 10)}, IndexError, "outside of the arrays"),
            ({"corner": (-4, -4, 10)}, IndexError, "outside of the arrays"),
            ({"corner": (0, 0, 7)}, ValueError, "whole rows of 7 pixels"),
            ({"corner": (0, 0, 0)}, ValueError, "whole rows of 0 pixels"),
            ({"corner": (0, 0, 6)}, IndexError, "outside of the arrays"),
            ({"box": (1, 0)}, ValueError, "exceeds the output"),
            ({"box": (0, -1)}, ValueError, "exceeds the output"),
            ({"taps": 5}, ValueError, "taps must be 1, 2, 4 or 6, got 5"),
            ({"taps": 4}, ValueError, r"table64 must have the shape \(None, 8\)"),
            ({"out": np.zeros((2, 2, 3), np.float32)}, ValueError, r"out must have the shape \(1,"),
            ({"out": np.zeros((1, 2, 3))}, TypeError, "out must be of type float32, got float64"),
            ({"variance": np.ones((1, 9))}, ValueError, r"variance must have the shape \(1, 120"),
            ({"wide": np.ones((2, 120))}, ValueError, r"wide must have the shape \(1, 120"),
        ],
    )
    def test_tile_beyond_arrays(self, change, error, message):
        with pytest.raises(error, match=message):
            self.tile(**change)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({}, None, ""),
            ({"part": (0, 0, 4, 3)}, ValueError, "part must lie within the grid of 3 x 4 pixels"),
            ({"part": (1, 0, 3, 4)}, ValueError, r"pixels, got \(1, 0, 3, 4\)"),
            ({"part": (0, -1, 3, 4)}, ValueError, "part must lie within"),
            ({"first": np.array([0, 1, 1, 2, 0, 0])}, IndexError, "outside of the arrays"),
            ({"first": np.array([-1, 0, 0, 0, 0, 0])}, IndexError, "outside of the arrays"),
            ({"first": np.zeros(5, int)}, ValueError, r"along_x\[1\] must have the shape \(6,\)"),
            ({"weights": np.ones((3, 6))}, ValueError, "both axes must have the same order"),
            ({"coeff_y": np.ones((2, 4))}, ValueError, "coeff_y must have the shape"),
            ({"matrix": np.ones((1, 2))}, ValueError, "matrix must have the shape"),
            ({"shift": np.ones(3)}, ValueError, "shift must have the shape"),
        ],
    )
    def test_grid_beyond_arrays(self, change, error, message):
        """A map onto the middle of a window, under all loops that take a grid."""
        own = {
            "first": np.zeros(6, int),
            "weights": np.full((2, 6), 0.5),
            "coeff_y": np.full((2, 3), 4.0),
            "matrix": np.eye(2),
            "shift": np.zeros(2),
            "part": (0, 0, 3, 4),
        } | change
        along_x = np.arange(6.0), own["first"], own["weights"]
        along_y = np.arange(5.0), np.zeros(5, int), np.full((2, 5), 0.5)
        affine = own["matrix"], own["shift"]
        grid = (along_x, along_y, np.full((2, 3), 3.0), own["coeff_y"], *affine)
        out, box, places = np.zeros((1, 3, 4), np.float32), np.empty(4), np.empty((2, 5, 6))
        block, none = np.ones((1, 240), np.float32), np.empty((0, 0))
        source = block, (none, none, 1.0), (0, 0, 16), (16, 15)
        rule, kernel = (False, 0.5, np.nan, "std"), _tables("bicubic", np.dtype(np.float32))
        empty = np.empty((0, 0, 0))
        outputs = out, empty.astype(bool), empty.astype(np.float32), empty
        calls = [
            lambda: compiled("interpolate_part")(source, grid, own["part"], kernel, rule, outputs),
            lambda: compiled("spline_extent")(grid, own["part"], box),
        ]
        if "part" not in change:
            calls.append(lambda: compiled("spline_tile")(grid, *places))
        for call in calls:
            if error is None:
                call()
            else:
                with pytest.raises(error, match=message):
                    call()
        if error is None:
            np.testing.assert_allclose(out, 1, rtol=1e-6)
            np.testing.assert_allclose(box, [3, 8, 4, 8], atol=1e-7)
            np.testing.assert_allclose(places[:, 2, 3], [6, 6])

    def test_no_pixels(self):
        empty = np.empty((2, 2))
        assert self.tile(x=empty, y=empty, out=np.zeros((1, 0, 0), np.float32)).size == 0

    @pytest.mark.parametrize("kind", ["std", "var", "ivar"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_uncertainties(self, kind, dtype):
        block = np.array([[1, np.nan, 3, 4, 5, 6, 7, np.inf, 9]], dtype)
        spread = np.array([[2, 2, np.nan, -2, 0, np.inf, 1e200, 2, 0.5]])
        variance, accepted = {
            "std": ([4, 0, 0, 0, 0, 0, 0, 0, 0.25], [0, 4, 8]),
            "var": ([2, 0, 0, 0, 0, 0, 1e200, 0, 0.5], [0, 4, 6, 8]),
            "ivar": ([0.5, 0, 0, 0, 0, 0, 1e-200, 0, 2], [0, 5, 6, 8]),
        }[kind]
        for loop in (compiled("accept_uncertainties"), in_numpy("accept_uncertainties")):
            pixels, values = block.copy(), spread.copy()
            assert not loop(kind, 1.0, pixels, values)
            np.testing.assert_allclose(values[0], variance, rtol=1e-15)
            assert np.flatnonzero(np.isfinite(pixels)).tolist() == accepted
            with pytest.raises(ValueError, match="kind must be std, var, ivar, got"):
                compiled("accept_uncertainties")("rms", 1.0, pixels, values)

    @pytest.mark.parametrize("kind", ["std", "var", "ivar"])
    @pytest.mark.parametrize("masked", [False, True])
    def test_windows(self, kind, masked):
        """Within a plane, over its edges and beyond them; what is bad, masked or outside is NaN."""
        rng = np.random.default_rng(3)
        pixels, spreads = rng.normal(9, 1, (2, 30, 40)).astype(np.float32)
        pixels[3, 5], pixels[20:22, 30:] = np.inf, np.nan
        spreads[8, 8:11] = -1, np.nan, 0
        mask = rng.random((30, 40) if masked else (0, 0)) < 0.1
        for corner in [(4, 2), (-3, 12), (31, -4), (-5, -6), (25, 20), (-40, 3), (50, 3), (3, 50)]:
            block, spread = np.full((2, 14, 21), 5, np.float32)
            again = block.copy(), spread.copy()
            arrays = kind, 4.0, pixels, mask, spreads, corner
            beyond = compiled("load_window")(*arrays, block, spread)
            assert beyond == in_numpy("load_window")(*arrays, *again)
            np.testing.assert_array_equal((block, spread), again)
            if corner == (-40, 3):
                assert np.isnan(block).all()
            if corner == (4, 2):
                assert np.isnan(block[1, 1])
                good = np.isfinite(block)
                assert good.mean() == pytest.approx(0.89 if masked else 0.99, abs=0.03)
                np.testing.assert_array_equal(block[good], pixels[2:16, 4:25][good])
                assert (spread[~good] == 0).all()
        with pytest.raises(ValueError, match="mask must have the shape"):
            compiled("load_window")(*arrays[:3], np.ones((3, 40), bool), *arrays[4:], *again)
        with pytest.raises(ValueError, match="spread must have the shape"):
            compiled("load_window")(*arrays, block, spread[:3])
        with pytest.raises(ValueError, match="corner must lie within"):
            compiled("load_window")(*arrays[:5], (0, 1 << 40), block, spread)

    def test_single_uncertainties(self):
        """In a unit; infinite where float32 does not hold them."""
        spread = np.array([[2, 1e13, 1e-13, 0, -1]], np.float32)
        for loop in (compiled("accept_uncertainties"), in_numpy("accept_uncertainties")):
            pixels, values = np.ones(spread.shape, np.float32), spread.copy()
            assert loop("std", 2.0, pixels, values)
            assert values.tolist() == [[2, np.inf, np.inf, 0, 0]]
            assert np.isfinite(pixels).tolist() == [[True, True, True, True, False]]
            pixels, values = np.ones(spread.shape, np.float32), spread.copy()
            assert not loop("var", 2.0, pixels, values)
            assert np.isfinite(pixels).tolist() == [[True, True, True, True, False]]
        with pytest.raises(TypeError, match="spread must be of type float64, got float32"):
            compiled("accept_uncertainties")("std", 1.0, np.ones(spread.shape), values)

    def test_stars_that_are_not_there(self):
        kernel = np.ones((3, 3))
        circle = np.ascontiguousarray(np.argwhere(np.ones((7, 7))))
        tables = np.ones((2, 5)), np.ones((2, 5)), np.ones((2, starcolumns.N_QUALITIES))
        psf = np.array([1.0, 0, 1]), np.ones((9, 2), np.float32), 0.1, 3.0

        def fit(members=(0,), pointer=(0, 1, 2), index=(1, 0), circle=circle):
            compiled("fit_batch")(
                np.ones((1, 7, 7), np.float32),
                np.ones((1, 1, 1), np.float32),
                np.zeros((1, 2)),
                *(np.array(t, np.int64) for t in (members, pointer, index)),
                psf,
                (1.0, 0.0),
                (circle, kernel),
                True,
                tables,
            )

        fit()
        for wrong in (
            {"members": (2,)},
            {"members": (-1,)},
            {"pointer": (0, 3, 3)},
            {"pointer": (-1, 1, 2)},
            {"index": (2, 0)},
            {"circle": circle + 1},
        ):
            with pytest.raises(IndexError, match="fit_batch"):
                fit(**wrong)


def test_columns_are_those_of_the_header():
    header = (SOURCES / "starcolumns.h").read_text()
    values = {}
    for group in re.findall(r"enum \{(.*?)\}", header, re.S):
        value = -1
        for entry in group.replace("\n", " ").split(","):
            name, _, number = entry.partition("=")
            value = int(number) if number else value + 1
            values[name.strip()] = value
    for name in starcolumns.__all__:
        assert values[name] == getattr(starcolumns, name), name


WITHOUT = """if True:
    import sys, warnings
    for name in ("_detection", "_resampling"):
        if {block}:
            sys.modules["spalipy_astro._compiled." + name] = None
    import numpy as np
    from spalipy_astro import NotCompiledWarning
    from spalipy_astro.example import example_pair
    from spalipy_astro.models import SplineDistortion2D
    from spalipy_astro.resampling import resample

    source, _ = example_pair()
    data = source.data.astype(np.float32)
    data[20, 30] = np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spline = SplineDistortion2D(*np.ones((2, 9, 9)) * 0.3, bounds=((0, 400), (0, 300)))
        for _ in range(2):
            out = resample(data, spline, shape=(300, 400))
    caught = [w for w in caught if w.category is NotCompiledWarning]
    print(len(caught), hash(out.tobytes()), *(str(w.message) for w in caught))
"""


def run(code):
    """Run Python in a new process; return what it prints."""
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(
        [sys.executable, "-Pc", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_without_compiled_modules():
    """One warning, with a remedy, and the same image."""
    compiled("interpolate_tile")
    number, image, *_ = run(WITHOUT.format(block=False)).split()
    number_without, image_without, *words = run(WITHOUT.format(block=True)).split()
    assert (number, number_without) == ("0", "1")
    assert image == image_without
    assert "Install a C compiler" in " ".join(words)
