"""Splines against scipy's, inverses against truth, grids against scattered points."""

from __future__ import annotations

import copy
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.modeling.models import AffineTransformation2D, Mapping, Polynomial2D, Shift
from astropy.wcs import WCS, DistortionLookupTable, Sip
from numpy.testing import assert_allclose, assert_array_equal
from scipy.interpolate import BSpline

from spalipy_astro.models import (
    FITSWCSTransform,
    InverseFITSWCSTransform,
    InverseSplineDistortion2D,
    SplineDistortion2D,
    jacobian_determinant,
    uniform_basis,
)

BOUNDS = ((-0.5, 199.5), (-0.5, 119.5))
DEGREES = [1, 2, 3, 4, 5]


def make_spline(degree=3, amplitude=2.0, seed=1):
    rng = np.random.default_rng(seed)
    shape = (degree + 5, degree + 7)
    coeff = rng.uniform(-amplitude, amplitude, (2, *shape))
    return SplineDistortion2D(*coeff, bounds=BOUNDS, degree=degree)


def make_backward(**kwargs):
    angle = np.deg2rad(37)
    matrix = 1.1 * np.array([[np.cos(angle), -np.sin(angle)], [-np.sin(angle), -np.cos(angle)]])
    return make_spline(**kwargs) | AffineTransformation2D(matrix, [12.0, -7.0])


def scattered(n=500, margin=0.0, seed=2):
    rng = np.random.default_rng(seed)
    (x_lo, x_hi), (y_lo, y_hi) = BOUNDS
    return (
        rng.uniform(x_lo - margin, x_hi + margin, n),
        rng.uniform(y_lo - margin, y_hi + margin, n),
    )


def dense(first, weights, n):
    matrix = np.zeros((first.size, n))
    np.put_along_axis(matrix, first[:, np.newaxis] + np.arange(weights.shape[1]), weights, axis=1)
    return matrix


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("nu", [0, 1])
def test_basis_is_that_of_scipy(degree, nu):
    n, lo, hi = degree + 6, -3.0, 97.0
    knots = lo + (hi - lo) / (n - degree) * np.arange(-degree, n + 1)
    t = np.random.default_rng(0).uniform(lo, hi, 300)
    expected = BSpline(knots, np.eye(n), degree)
    expected = expected.derivative()(t) if nu else expected(t)
    assert_allclose(dense(*uniform_basis(t, n, lo, hi, degree, nu), n), expected, atol=1e-14)


@pytest.mark.parametrize("degree", DEGREES)
def test_basis_continues_linearly(degree):
    n, lo, hi = degree + 4, 10.0, 50.0
    for edge, outside in ((lo, lo - 33.0), (hi, hi + 21.0)):
        value = dense(*uniform_basis([edge], n, lo, hi, degree), n)
        slope = dense(*uniform_basis([edge], n, lo, hi, degree, nu=1), n)
        continued = dense(*uniform_basis([outside], n, lo, hi, degree), n)
        assert_allclose(continued, value + (outside - edge) * slope, atol=1e-12)
        assert_allclose(dense(*uniform_basis([outside], n, lo, hi, degree, nu=1), n), slope)


@pytest.mark.parametrize("degree", DEGREES)
def test_basis_holds_straight_lines(degree):
    n, lo, hi = degree + 5, 0.0, 10.0
    step = (hi - lo) / (n - degree)
    greville = lo + step * (np.arange(n) - (degree - 1) / 2)
    t = np.linspace(-20, 30, 41)
    assert_allclose(dense(*uniform_basis(t, n, lo, hi, degree), n) @ greville, t, atol=1e-12)


def test_basis_of_nothing_finite_is_nan():
    first, weights = uniform_basis([np.nan, np.inf, -np.inf, 1.0], 6, 0, 3, 3)
    assert np.isnan(weights[:3]).all()
    assert np.isfinite(weights[3]).all()
    assert first.min() >= 0
    assert first.max() <= 2


def test_basis_rejects_second_derivatives():
    with pytest.raises(ValueError, match="0 or 1; got 2"):
        uniform_basis([0.0], 6, 0, 3, 3, nu=2)


@pytest.mark.parametrize("degree", DEGREES)
def test_spline_is_that_of_scipy(degree):
    model = make_spline(degree)
    x, y = scattered()
    bases = []
    for t, (lo, hi), n in zip((x, y), BOUNDS, model.coeff_x.shape[::-1], strict=True):
        knots = lo + (hi - lo) / (n - degree) * np.arange(-degree, n + 1)
        bases.append(BSpline(knots, np.eye(n), degree)(t))
    for coeff, displacement, moved, t in zip(
        (model.coeff_x, model.coeff_y), model.displacement(x, y), model(x, y), (x, y), strict=True
    ):
        expected = np.einsum("ni,ij,nj->n", bases[1], coeff.value, bases[0])
        assert_allclose(displacement, expected, atol=1e-12)
        assert_allclose(moved, t + expected, atol=1e-12)


X, Y = np.arange(-3.0, 210.0), np.arange(-5.0, 126.0)
MESH_X, MESH_Y = np.meshgrid(X, Y)
RAVELED = (MESH_X.ravel(), MESH_Y.ravel())
GRIDS = {
    "open": (X[np.newaxis], Y[:, np.newaxis]),
    "half open": (X, Y[:, np.newaxis]),
    "open, transposed": (X[:, np.newaxis], Y[np.newaxis]),
    "dense": (MESH_X, MESH_Y),
    "dense, transposed": (MESH_X.T, MESH_Y.T),
    "raveled": RAVELED,
    "raveled, transposed": (MESH_X.T.ravel(), MESH_Y.T.ravel()),
    "flipped": (MESH_X[::-1, ::-1], MESH_Y[::-1, ::-1]),
    "chunk": tuple(t[100:3000] for t in RAVELED),
    "chunk from a row's last pixel": tuple(t[X.size - 1 : 5 * X.size + 1] for t in RAVELED),
    "chunk within a row": tuple(t[5:90] for t in RAVELED),
    "chunk over two rows": tuple(t[200:230] for t in RAVELED),
    "row": (X, np.full(X.size, 7.0)),
    "row of scalars": (X, 7.0),
    "column": (np.full(Y.size, 7.0), Y),
    "one pixel": (np.array([3.0]), np.array([4.0])),
    "repeated": (np.full(9, 3.0), np.full(9, 4.0)),
    "stack": (np.stack([MESH_X] * 2), np.stack([MESH_Y] * 2)),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_grids_give_what_scattered_points_give(grid):
    model = make_spline()
    x, y = GRIDS[grid]
    flat = [t.ravel() for t in np.broadcast_arrays(x, y)]
    order = np.random.default_rng(0).permutation(flat[0].size)
    expected = np.empty((2, order.size))
    expected[:, order] = model(*(t[order] for t in flat))
    shape = np.broadcast_shapes(np.shape(x), np.shape(y))
    for got, want in zip(model(x, y), expected, strict=True):
        assert got.shape == shape
        assert_allclose(got.ravel(), want, rtol=0, atol=1e-12 * np.abs(want).max())
    jacobian = model.jacobian(x, y)
    assert jacobian.shape == (*shape, 2, 2)
    assert_allclose(
        jacobian.reshape(-1, 2, 2)[order], model.jacobian(*(t[order] for t in flat)), atol=1e-12
    )


def test_grids_take_the_fast_path(monkeypatch):
    def refuse(*args):
        raise AssertionError("scattered evaluation of a grid")

    monkeypatch.setattr("spalipy_astro.models._bsplines.TensorSpline.at", refuse)
    model = make_spline()
    for x, y in GRIDS.values():
        model(x, y)
    with pytest.raises(AssertionError, match="scattered"):
        model(*scattered())


def test_a_grid_with_one_wrong_coordinate_is_no_grid():
    model = make_spline()
    x, y = (t.copy() for t in RAVELED)
    expected = [t.copy() for t in model(x, y)]
    x[5000] = np.nextafter(x[5000], 999.0)
    y[6000] += 0.25
    got = model(x, y)
    assert_allclose(got[1][6000], model(x[6000], y[6000])[1], atol=1e-12)
    assert abs(got[1][6000] - expected[1][6000]) > 0.1
    untouched = np.ones(x.size, dtype=bool)
    untouched[6000] = False
    assert_allclose(got[0][untouched], expected[0][untouched], atol=1e-10)


@pytest.mark.parametrize("degree", DEGREES)
def test_jacobian_is_the_derivative(degree):
    model = make_spline(degree)
    x, y = scattered(margin=40)
    h = 1e-4
    numeric = np.stack(
        [
            (np.stack(model(x + h, y)) - np.stack(model(x - h, y))) / (2 * h),
            (np.stack(model(x, y + h)) - np.stack(model(x, y - h))) / (2 * h),
        ],
        axis=-1,
    )
    smooth = np.abs(numeric - model.jacobian(x, y).transpose(1, 0, 2)).max(axis=(0, 2)) < 1e-6
    # a spline of degree 1 has no derivative on its knots
    assert smooth.all() or (degree == 1 and smooth.mean() > 0.99)


@pytest.mark.parametrize("degree", DEGREES)
def test_inverse_is_exact_inside_and_outside(degree):
    model = make_spline(degree)
    x, y = scattered(margin=50)
    # the last step gains several digits, but not across a knot of straight pieces
    tolerance = 1e-9 if degree == 1 else 1e-10
    assert_allclose(model.inverse(*model(x, y)), (x, y), rtol=0, atol=tolerance)
    assert_allclose(model(*model.inverse(x, y)), (x, y), rtol=0, atol=tolerance)


@pytest.mark.parametrize("grid", ["dense", "chunk", "open"])
def test_inverse_of_grids(grid):
    model = make_spline()
    x, y = GRIDS[grid]
    back = model.inverse(x, y)
    assert back[0].shape == np.broadcast_shapes(x.shape, y.shape)
    assert_allclose(model(*back), np.broadcast_arrays(x, y), rtol=0, atol=1e-10)


def test_inverse_survives_strong_distortion():
    # Slopes down to -0.9: a plain fixed-point iteration would need a hundred steps
    coeff_x = np.broadcast_to(36 * np.sin(2.5 * np.pi * np.linspace(0, 1, 9)), (8, 9))
    model = SplineDistortion2D(coeff_x, np.zeros((8, 9)), bounds=BOUNDS)
    x, y = scattered(2000)
    slope = model.jacobian(x, y)[:, 0, 0]
    assert slope.min() < 0.15
    assert slope.max() > 1.5
    assert_allclose(model.inverse(*model(x, y)), (x, y), rtol=0, atol=1e-8)


def test_inverse_never_gives_a_wrong_point():
    """A distortion that folds the plane: every point is right, or NaN."""
    model = make_spline(amplitude=60)
    x, y = scattered(3000)
    back = np.stack(model.inverse(x, y))
    found = np.isfinite(back[0])
    assert 0.05 < found.mean() < 0.95
    assert_allclose(np.stack(model(*back))[:, found], np.stack([x, y])[:, found], rtol=0, atol=1e-9)
    assert (np.linalg.det(model.jacobian(*back[:, found])) > 0).all()


def test_inverse_of_a_collapse_is_nan():
    """Everything is sent to one point: no point has an inverse."""
    degree, n = 3, 6
    centers = np.array([-0.5 + 200 / 3 * (i - 1) for i in range(n)])
    model = SplineDistortion2D(
        np.broadcast_to(-centers, (n, n)), np.zeros((n, n)), bounds=BOUNDS, degree=degree
    )
    x, y = scattered(50)
    assert np.isnan(model.inverse(x, y)).all()


def test_inverse_of_the_inverse_is_the_model():
    model = make_spline()
    assert model.inverse.inverse is model
    backward = make_backward()
    assert backward.inverse.inverse[0] is backward[0]
    assert isinstance(backward.inverse[1], InverseSplineDistortion2D)


@pytest.mark.parametrize("sign", [1, -1])
def test_compounds_with_an_affine_transform(sign):
    backward = make_backward()
    x, y = scattered(margin=20)
    moved = backward(x, y)
    assert_allclose(backward.inverse(*moved), (x, y), rtol=0, atol=1e-10)
    assert_allclose(backward.inverse.inverse(x, y), moved, rtol=0, atol=1e-10)


def test_large_coordinates_converge():
    model = SplineDistortion2D(
        np.full((5, 6), 0.3), np.full((5, 6), -0.7), bounds=((1e7, 1e7 + 100), (0, 50))
    )
    x, y = model.inverse(1e7 + 30.0, 20.0)
    assert_allclose((x, y), (1e7 + 29.7, 20.7), rtol=0, atol=1e-8)


def test_scalars_give_scalars():
    for model in (make_spline(), make_spline().inverse, make_backward(), make_backward().inverse):
        for value in model(30.0, 40.0):
            assert isinstance(value, float)


def test_not_finite_points_give_nan():
    for model in (make_spline(), make_spline().inverse):
        x, y = model([np.nan, 3.0, np.inf, 3.0], [4.0, np.nan, 4.0, 4.0])
        assert_array_equal(np.isnan(x), [True, True, True, False])
        assert_array_equal(np.isnan(y), [True, True, True, False])
    for model in (make_spline(), make_spline().inverse, make_backward().inverse):
        assert np.isnan(model(np.nan, 4.0)).all()


def test_integers_and_float32_are_computed_in_float64():
    model = make_spline()
    x, y = np.arange(20), np.arange(20) * 5
    expected = model(x.astype(float), y.astype(float))
    for dtype in (np.int32, np.float32):
        got = model(x.astype(dtype), y.astype(dtype))
        assert got[0].dtype == np.float64
        assert_allclose(got, expected, atol=1e-12)


def test_inputs_are_left_alone():
    model = make_backward()
    x, y = scattered()
    kept = x.copy(), y.copy()
    model(x, y)
    model.inverse(x, y)
    assert_array_equal((x, y), kept)


def test_units_are_stripped():
    model = make_spline()
    for way in (model, model.inverse):
        got = way(30.0 * u.pix, [40.0, 50.0] * u.pix)
        assert not isinstance(got[0], u.Quantity)
        assert_array_equal(got, way(30.0, [40.0, 50.0]))


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda m: m.copy(), lambda m: pickle.loads(pickle.dumps(m))],
    ids=["copy", "deepcopy", "model.copy", "pickle"],
)
def test_copies_are_equal(duplicate):
    x, y = scattered()
    for model in (make_spline(5), make_spline().inverse, make_backward(), make_backward().inverse):
        assert_array_equal(duplicate(model)(x, y), model(x, y))
        assert_allclose(duplicate(model).inverse(x, y), model.inverse(x, y), atol=1e-10)


def test_deep_copies_are_independent():
    model = make_spline()
    before = model(30.0, 40.0)
    twin = model.copy()
    twin.coeff_x = np.zeros_like(twin.coeff_x.value)
    assert model(30.0, 40.0) == before
    assert twin(30.0, 40.0)[0] == 30.0


def test_arrays_given_are_copied():
    coeff = np.zeros((5, 6))
    model = SplineDistortion2D(coeff, coeff, bounds=BOUNDS)
    coeff += 1
    assert model(3.0, 4.0) == (3.0, 4.0)


def test_repr_is_short():
    model = make_spline()
    model.name = "night 1"
    assert repr(model) == (
        "<SplineDistortion2D(10 x 8 coefficients, bounds=((-0.5, 199.5), (-0.5, 119.5)), degree=3, "
        "name='night 1')>"
    )
    assert repr(model.inverse) == f"<InverseSplineDistortion2D({model!r})>"


@pytest.mark.parametrize(
    ("coeff_x", "coeff_y", "kwargs", "message"),
    [
        (np.zeros((4, 5)), np.zeros((5, 4)), {}, r"got \(4, 5\) and \(5, 4\)"),
        (np.zeros((3, 5)), np.zeros((3, 5)), {}, r"at least degree \+ 1 = 4"),
        (np.zeros(16), np.zeros(16), {}, r"got \(16,\)"),
        (np.full((4, 5), np.nan), np.zeros((4, 5)), {}, "must be finite"),
        (np.zeros((4, 5)), np.zeros((4, 5)), {"degree": 0}, "1 to 5, got 0"),
        (np.zeros((8, 9)), np.zeros((8, 9)), {"degree": 2.5}, "1 to 5, got 2.5"),
        (np.zeros((4, 5)), np.zeros((4, 5)), {"bounds": ((9, 0), (0, 9))}, "x_lo < x_hi"),
        (np.zeros((4, 5)), np.zeros((4, 5)), {"bounds": (0, 9)}, r"got \(0, 9\)"),
        (np.zeros((4, 5)), np.zeros((4, 5)), {"bounds": ((0, np.inf), (0, 9))}, "x_lo < x_hi"),
    ],
)
def test_what_is_no_spline_is_refused(coeff_x, coeff_y, kwargs, message):
    with pytest.raises(ValueError, match=message):
        SplineDistortion2D(coeff_x, coeff_y, **({"bounds": BOUNDS} | kwargs))


def test_inverse_takes_a_spline_only():
    with pytest.raises(TypeError, match="got AffineTransformation2D"):
        InverseSplineDistortion2D(AffineTransformation2D())


@pytest.mark.parametrize("parity", [1, -1])
def test_determinant(parity):
    affine = AffineTransformation2D([[2.0, 0.5], [0.1, parity * 1.5]])
    spline = make_spline()
    x, y = scattered(margin=20)
    expected = np.linalg.det(spline.jacobian(x, y))
    constant = np.linalg.det(affine.matrix.value)
    assert_allclose(jacobian_determinant(affine, x, y), constant)
    assert_allclose(jacobian_determinant(spline, x, y), expected)
    assert_allclose(jacobian_determinant(spline | affine, x, y), expected * constant)
    moved = affine(x, y)
    expected = constant * np.linalg.det(spline.jacobian(*moved))
    assert_allclose(jacobian_determinant(affine | spline, x, y), expected)
    assert_allclose(
        jacobian_determinant((spline | affine).inverse, *(spline | affine)(x, y)),
        1 / jacobian_determinant(spline | affine, x, y),
    )


@pytest.mark.parametrize("grid", ["open", "dense", "chunk"])
def test_determinant_on_grids(grid):
    x, y = GRIDS[grid]
    model = make_backward()
    got = jacobian_determinant(model, x, y)
    assert got.shape == np.broadcast_shapes(x.shape, y.shape)
    flat = [t.ravel()[::-1][::7] for t in np.broadcast_arrays(x, y)]
    expected = np.linalg.det(model[0].jacobian(*flat)) * np.linalg.det(model[1].matrix.value)
    assert_allclose(got.ravel()[::-1][::7], expected, atol=1e-12)


def test_determinant_of_other_models():
    quadratic = Polynomial2D(2, c1_0=1, c2_0=0.002) & Polynomial2D(2, c0_1=1, c0_2=-0.003)
    model = Mapping((0, 1, 0, 1)) | quadratic
    x, y = scattered(50)
    expected = (1 + 0.004 * x) * (1 - 0.006 * y)
    assert_allclose(jacobian_determinant(model, x, y), expected, atol=1e-10)
    assert jacobian_determinant(Shift(3) & Shift(4), 1.0, 2.0) == pytest.approx(1)
    assert jacobian_determinant(AffineTransformation2D(), 1.0, 2.0) == 1


def test_determinant_of_a_line_is_refused():
    with pytest.raises(ValueError, match="got 1 and 1"):
        jacobian_determinant(Shift(3), 1.0, 2.0)


def make_wcs(distortion=None):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crpix = 100.123456789012345, 60.5
    wcs.wcs.crval = 266.41681662498753, -29.00782497222213
    wcs.wcs.cd = np.array([[-1.01, 0.02], [0.03, 1.0]]) / 3e5
    wcs.pixel_shape = 200, 120
    wcs.wcs.set()
    rng = np.random.default_rng(3)
    if distortion == "sip":
        wcs.wcs.ctype = "RA---TAN-SIP", "DEC--TAN-SIP"
        a, b = np.zeros((2, 4, 4))
        a[2, 0], a[1, 1], b[0, 2], b[3, 0] = 1e-4 / 3, -2e-5, 1e-4 / 7, 1e-7
        wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    elif distortion == "lookup":
        for name in ("cpdis1", "cpdis2"):
            table = np.float32(rng.uniform(-1, 1, (7, 11)))
            lookup = DistortionLookupTable(table, (1.0, 1.0), (1.0, 1.0), (20.0, 20.0))
            setattr(wcs, name, lookup)
    return wcs


DISTORTIONS = [None, "sip", "lookup"]


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_fits_wcs_is_that_of_astropy(distortion):
    wcs = make_wcs(distortion)
    model = FITSWCSTransform(wcs)
    x, y = scattered()
    assert_array_equal(model(x, y), wcs.all_pix2world(x, y, 0))
    assert_allclose(model.inverse(*model(x, y)), (x, y), rtol=0, atol=1e-7)
    assert model.inverse.inverse is model
    assert model.outputs == ("lon", "lat")


def test_fits_wcs_gives_longitude_first():
    wcs = make_wcs("sip").swapaxes(0, 1)
    model = FITSWCSTransform(wcs)
    lat, lon = wcs.all_pix2world(30.0, 40.0, 0)
    assert model(30.0, 40.0) == (lon, lat)
    assert_allclose(model.inverse(lon, lat), (30, 40), atol=1e-8)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_fits_wcs_copies_lose_nothing(distortion):
    model = FITSWCSTransform(make_wcs(distortion))
    x, y = scattered()
    sky = model(x, y)
    for twin in (model.copy(), pickle.loads(pickle.dumps(model)), FITSWCSTransform(model.wcs)):
        assert_array_equal(twin(x, y), sky)
        assert_array_equal(twin.inverse(*sky), model.inverse(*sky))
    assert model.wcs.pixel_shape == (200, 120)


def test_fits_wcs_is_copied():
    wcs = make_wcs("sip")
    model = FITSWCSTransform(wcs)
    before = model(3.0, 4.0)
    wcs.wcs.crval = 3.0, 4.0
    model.wcs.wcs.crval = 3.0, 4.0
    assert model(3.0, 4.0) == before


def test_fits_wcs_units_and_scalars():
    model = FITSWCSTransform(make_wcs("sip"))
    lon, lat = model(30.0 * u.pix, 40.0 * u.pix)
    assert isinstance(lon, float)
    assert (lon, lat) == model(30.0, 40.0)
    back = model.inverse(lon * u.deg, (lat * u.deg).to(u.arcmin))
    assert_allclose(back, (30, 40), atol=1e-7)


def test_fits_wcs_off_the_sky_is_nan():
    wcs = make_wcs("sip")
    model = FITSWCSTransform(wcs)
    assert np.isnan(model.inverse(*(wcs.wcs.crval * [1, -1] + [180, 0]))).all()
    assert np.isnan(model(np.nan, 3.0)).all()
    assert np.isnan(model.inverse(np.nan, 3.0)).all()


def test_fits_wcs_folded_by_its_polynomial_is_nan():
    wcs = make_wcs("sip")
    a = wcs.sip.a.copy()
    a[2, 0] = -5e-3  # turns back 100 pixels from the reference pixel
    wcs.sip = Sip(a, wcs.sip.b, None, None, wcs.wcs.crpix)
    model = FITSWCSTransform(wcs)
    x, y = np.array([150.0, 190.0, 260.0]), np.array([60.0, 50.0, 70.0])
    back = np.stack(model.inverse(*model(x, y)))
    found = np.isfinite(back[0])
    assert_allclose(back[:, 0], (150, 60), atol=1e-8)
    assert_allclose(np.stack(model(*back))[:, found], np.stack(model(x, y))[:, found], atol=1e-11)
    assert not np.allclose(back[0, 2], 260)


@pytest.mark.parametrize(
    ("wcs", "error", "message"),
    [
        ("a header", TypeError, "got str"),
        (WCS(naxis=2), ValueError, "must have two axes, longitude and latitude"),
        (WCS(naxis=3), ValueError, "must have two axes"),
    ],
)
def test_fits_wcs_without_sky_is_refused(wcs, error, message):
    with pytest.raises(error, match=message):
        FITSWCSTransform(wcs)


def test_inverse_fits_wcs_takes_a_fits_wcs_only():
    with pytest.raises(TypeError, match="got WCS"):
        InverseFITSWCSTransform(make_wcs())


def test_repr_of_fits_wcs():
    model = FITSWCSTransform(make_wcs("sip"))
    assert repr(model) == "<FITSWCSTransform(RA---TAN-SIP, DEC--TAN-SIP with sip)>"
    assert repr(model.inverse) == f"<InverseFITSWCSTransform({model!r})>"


@pytest.mark.parametrize(
    "model",
    [SplineDistortion2D, InverseSplineDistortion2D, FITSWCSTransform, InverseFITSWCSTransform],
)
def test_pickles_name_the_public_module(model):
    assert b"spalipy_astro.models\x94" in pickle.dumps(model)
    assert pickle.loads(pickle.dumps(model)) is model
