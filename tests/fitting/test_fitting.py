"""Fits of the backward map to pairs with known truth."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro.errors import TooFewStarsError
from spalipy_astro.fitting import (
    SplineSpace,
    System,
    choose_smoothing,
    fit_backward,
    fit_linear,
    solve,
)

SHAPE = (800, 1100)
GRID = np.column_stack(
    [g.ravel() for g in np.meshgrid(np.linspace(0, 1099, 34), np.linspace(0, 799, 25))]
)


def backward(xy, distortion, rotation=35.0):
    """Template -> source: smooth distortion of so many px at the corners, then a rotation."""
    u = (xy - [550, 400]) / 680
    r2 = np.sum(u**2, axis=1, keepdims=True)
    wave = 0.05 * np.sin(4 * u[:, ::-1] + 1)
    angle = np.deg2rad(rotation)
    rotated = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (xy + distortion * (u * r2 + wave)) @ (1.2 * rotated.T) + [100, 300]


def make_pairs(n, *, distortion=0.0, noise=0.05, outliers=0.0, seed=0):
    rng = np.random.default_rng([seed, n])
    template = rng.uniform(0, 1, (n, 2)) * SHAPE[::-1]
    source = backward(template, distortion)
    err = noise * np.exp(rng.normal(0, 0.5, n))
    source += err[:, None] * rng.normal(size=(n, 2))
    bad = rng.permutation(n)[: int(outliers * n)]
    source[bad] += rng.uniform(-15, 15, (len(bad), 2))
    return source, template, err, bad


def rms_error(fit, distortion):
    mapped = np.column_stack(fit.backward(*GRID.T))
    return float(np.sqrt(np.mean(np.sum((mapped - backward(GRID, distortion)) ** 2, axis=1))))


def fit_pairs(source, template, err, **kwargs):
    return fit_backward(
        source, template, source_err=err, template_err=np.full(len(err), 1e-4), **kwargs
    )


@pytest.mark.parametrize("n", [60, 200, 1000, 5000])
def test_accuracy_under_distortion(n):
    """The error follows that of as many free parameters as the distortion takes."""
    source, template, err, _ = make_pairs(n, distortion=8.0)
    fit = fit_pairs(source, template, err)
    assert rms_error(fit, 8.0) < {60: 0.12, 200: 0.045, 1000: 0.02, 5000: 0.01}[n]
    assert fit.used.mean() > 0.98
    assert fit.noise == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("n", [50, 300, 2000])
def test_falls_back_to_the_affine_map(n):
    source, template, err, _ = make_pairs(n)
    fit = fit_pairs(source, template, err)
    plain = fit_pairs(source, template, err, spline_order=0)
    assert fit.freedom < 6
    assert plain.freedom == pytest.approx(3)
    assert rms_error(fit, 0.0) < max(1.5 * rms_error(plain, 0.0), 0.25 * 0.05)


@pytest.mark.parametrize("distortion", [0.0, 8.0])
def test_outliers_do_not_capture_the_fit(distortion):
    source, template, err, bad = make_pairs(400, distortion=distortion, outliers=0.2)
    fit = fit_pairs(source, template, err)
    assert rms_error(fit, distortion) < 0.05
    assert not fit.used[bad].any() or np.mean(fit.used[bad]) < 0.03
    clean = np.delete(fit.used, bad)
    assert clean.mean() > 0.97


def test_errors_are_calibrated():
    pulls = []
    for seed in range(6):
        source, template, err, _ = make_pairs(300, distortion=6.0, seed=seed)
        fit = fit_pairs(source, template, err)
        mapped = np.column_stack(fit.backward(*GRID.T))
        error = fit.covariance.error(GRID)
        pulls.append((mapped - backward(GRID, 6.0)) / error[:, None])
    spread = 1.4826 * np.median(np.abs(pulls))
    assert 0.8 < spread < 1.2


def test_unknown_errors_are_taken_from_the_scatter():
    source, template, _, _ = make_pairs(400, distortion=5.0, noise=0.3)
    fit = fit_backward(source, template)
    assert rms_error(fit, 5.0) < 0.15
    assert np.median(fit.sigma) == pytest.approx(0.3, rel=0.2)


def test_underestimated_errors_are_raised():
    source, template, err, _ = make_pairs(600, noise=0.2)
    fit = fit_pairs(source, template, err / 20)
    assert fit.floor == pytest.approx(0.2, rel=0.25)
    assert fit.used.mean() > 0.95


def test_beyond_the_stars_the_map_stays_close():
    """Stars in the left half only: the right half is extrapolated linearly, not thrown away."""
    source, template, err, _ = make_pairs(600, distortion=3.0)
    left = template[:, 0] < 550
    fit = fit_pairs(source[left], template[left], err[left])
    affine = fit_pairs(source[left], template[left], err[left], spline_order=0)
    assert rms_error(fit, 3.0) < rms_error(affine, 3.0)
    error = fit.covariance.error(np.array([[300.0, 400.0], [800.0, 400.0], [1099.0, 400.0]]))
    assert error[0] < error[1] < error[2]


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_spline_orders(order):
    source, template, err, _ = make_pairs(800, distortion=4.0)
    fit = fit_pairs(source, template, err, spline_order=order)
    assert fit.backward[0].degree == order
    assert rms_error(fit, 4.0) < (0.15 if order == 1 else 0.05)


def test_polynomial_recovers_a_polynomial():
    rng = np.random.default_rng(1)
    template = rng.uniform(0, 1, (300, 2)) * SHAPE[::-1]
    u = (template - [550, 400]) / 680
    source = template + 6 * np.column_stack((u[:, 0] ** 2 * u[:, 1], u[:, 1] ** 3 - u[:, 0] ** 2))
    fit = fit_backward(source, template, polynomial=3)
    assert np.abs(fit.residuals).max() < 1e-6
    assert fit.freedom == pytest.approx(10, abs=1e-3)
    low = fit_backward(source, template, polynomial=2)
    assert np.abs(low.residuals).max() > 0.1


def test_fixed_smoothing():
    source, template, err, _ = make_pairs(500, distortion=6.0)
    stiff = fit_pairs(source, template, err, smoothing=1e9)
    loose = fit_pairs(source, template, err, smoothing=1e-2)
    assert stiff.freedom < 3.5 < 20 < loose.freedom
    assert stiff.smoothing[0] == 1e9


@pytest.mark.parametrize("mirrored", [False, True])
def test_similarity(mirrored):
    rng = np.random.default_rng(2)
    template = rng.uniform(0, 500, (40, 2))
    matrix = 0.7 * np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    source = template @ matrix.T + [5, -3]
    fit = fit_backward(source, template, affine="similarity")
    np.testing.assert_allclose(fit.matrix, matrix, atol=1e-12)
    np.testing.assert_allclose(fit.offset, [5, -3], atol=1e-9)
    assert fit.freedom == 2


def test_linear_fit_of_two_pairs_is_exact_for_similarities():
    points = np.array([[0.0, 0.0], [10.0, 4.0]])
    values = points @ np.array([[0.0, -2.0], [2.0, 0.0]]).T + [7, 8]
    matrix, offset = fit_linear(points, values, kind="similarity")
    np.testing.assert_allclose(points @ matrix.T + offset, values, atol=1e-12)


@pytest.mark.parametrize(("affine", "n"), [("affine", 2), ("similarity", 1)])
def test_too_few_pairs(affine, n):
    source, template, err, _ = make_pairs(n)
    with pytest.raises(TooFewStarsError, match=f"{n} matched stars"):
        fit_pairs(source, template, err, affine=affine)


@pytest.mark.parametrize("n", [3, 4, 5, 6, 9, 15])
def test_a_handful_of_pairs(n):
    source, template, err, _ = make_pairs(n, noise=0.01, seed=4)
    fit = fit_pairs(source, template, err)
    assert rms_error(fit, 0.0) < 1.0
    assert np.isfinite(fit.sigma).all()


def test_the_spline_reproduces_planes():
    space = SplineSpace(((0.0, 90.0), (0.0, 60.0)), 8, 7, 5)
    points = np.random.default_rng(0).uniform(-20, 110, (50, 2))
    gradient = np.array([[1.5, -0.2], [0.3, 2.0]])
    values = space.at(points).evaluate(space.plane(np.array([4.0, -9.0]), gradient))
    np.testing.assert_allclose(values, points @ gradient.T + [4, -9], atol=1e-10)


def test_restricted_likelihood_prefers_what_made_the_data():
    """Rough data get less smoothing than smooth data."""
    rng = np.random.default_rng(3)
    points = rng.uniform(0, 100, (800, 2))
    space = SplineSpace.covering(points, 10, 3)
    chosen = []
    for waves in (1, 2):
        values = np.sin(waves * points / 15) + rng.normal(0, 0.1, points.shape)
        design = space.at(points)
        system = System(design, values, np.full(800, 100.0))
        posterior = solve(system, choose_smoothing(system))
        fitted = design.evaluate(posterior.coefficients)
        assert np.sqrt(np.mean((fitted - np.sin(waves * points / 15)) ** 2)) < 0.06
        chosen.append(posterior.freedom)
    assert chosen[1] > 1.3 * chosen[0]


def noisy_system(seed=5, n=300):
    """Normal equations of a wavy map with noise."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 100, (n, 2))
    design = SplineSpace.covering(points, 8, 5).at(points)
    values = np.sin(points / 15) + rng.normal(0, 0.3, points.shape)
    return System(design, values, np.full(n, 1 / 0.09), (20.0, 1.0))


@pytest.mark.parametrize("size", [None, 40])
def test_derivatives_of_the_likelihood(size):
    system = noisy_system()
    point, h = np.array([0.4, -0.3]) + system.center, 1e-4
    value, gradient, (xx, xy, yy) = system.expansion(*point, size)
    assert value == system.criterion(*point, size)
    for axis, second in enumerate(([xx, xy], [xy, yy])):
        step = h * np.eye(2)[axis]
        up, down = (system.expansion(*(point + sign * step), size) for sign in (1, -1))
        assert gradient[axis] == pytest.approx((up[0] - down[0]) / (2 * h), rel=1e-4)
        np.testing.assert_allclose((np.array(up[1]) - down[1]) / (2 * h), second, rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_no_smoothness_is_likelier_than_the_chosen_one(seed):
    system = noisy_system(seed, n=60 + 80 * seed)
    chosen = system.criterion(*np.log10(choose_smoothing(system)))
    steps = system.center + np.arange(-10, 7, 0.25)
    assert chosen < min(system.criterion(low, high) for low in steps for high in steps) + 0.01


@pytest.mark.parametrize(("error", "kept"), [(5.0, True), (7.0, False)])
def test_a_star_that_draws_the_fit_to_itself_is_clipped(error, kept):
    """
    The residual of a lone star is a part of its error only, here 0.48 of it.

    24 stars at x = -10 and 10, one at x = 50: its leverage is 1 / 25 + 48**2 / 4800 = 0.52. An
    error of 7 sigma leaves a residual of 7 * 0.48, the square of which, 11.3, is below the 17 from
    which pairs are clipped; in units of its own variance, 0.48, it is 23.5. Of 5 sigma, it is 12.
    """
    y = np.linspace(-30, 30, 12)
    template = np.array([*((-10.0, v) for v in y), *((10.0, v) for v in y), (50.0, 0.0)])
    source = template.copy()
    source[-1, 1] += 0.1 * error
    known = {"source_err": np.full(25, 0.1), "template_err": np.zeros(25)}
    fit = fit_backward(source, template, **known, spline_order=0)
    assert fit.used[:-1].all()
    assert fit.used[-1] == kept
    off = fit.residuals[-1, 1]
    assert off == pytest.approx(0.1 * error * (0.48 if kept else 1.0), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_stars_where_the_map_is_uncertain_are_no_outliers(seed):
    """Few stars with a distortion, one of them far away; one of the others is matched wrongly."""
    rng = np.random.default_rng(seed)
    template = np.concatenate((rng.uniform((400, 0), (1000, 700), (19, 2)), [[200, 350]]))
    u = (template - [500, 350]) / 500
    source = template + 20 * u * np.sum(u**2, axis=1, keepdims=True)
    source += rng.normal(0, 0.1, source.shape)
    source[7] += [3, -2]
    fit = fit_backward(source, template, source_err=np.full(20, 0.1))
    np.testing.assert_array_equal(np.flatnonzero(~fit.used), [7])
