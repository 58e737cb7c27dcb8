"""The error that a fit claims, against the true one, inside and outside of the matched stars."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from scipy.spatial import Delaunay

from spalipy_astro.fitting import SplineSpace, fit_backward
from spalipy_astro.fitting._bending import Pairs, bending_of, bending_terms
from spalipy_astro.fitting._covariance import Covariance, _student, rigid_factor

SHAPE = (768, 1024)
GRID = np.column_stack(
    [g.ravel() for g in np.meshgrid(np.linspace(0, 1023, 17), np.linspace(0, 767, 13))]
)
SQUARE = ((-10.0, 10.0), (-10.0, 10.0))
# where the stars are, as fractions of the frame
PARTS = {"all": ((0, 1), (0, 1)), "half": ((0, 0.5), (0, 1)), "middle": ((0.2, 0.8), (0.2, 0.8))}


class Lens:
    """Template -> source: a lens, with its center off the frame's, then a turn and a shift."""

    def __init__(self, rng, corner):
        self.sign, self.tilt = rng.choice([-1.0, 1.0]), 0.12 * rng.normal(size=2)
        self.center = np.array([511.5, 383.5]) + rng.uniform(-40, 40, 2)
        angle = rng.uniform(0, 2 * np.pi)
        self.turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self.size = 1.0
        plane = np.column_stack((np.ones(len(GRID)), GRID))
        bend = self._bend(GRID)
        bend = bend - plane @ np.linalg.lstsq(plane, bend, rcond=None)[0]
        self.size = corner / np.max(np.hypot(*bend.T))

    def _bend(self, xy):
        u = (xy - self.center) / 640
        r2 = np.sum(u**2, axis=1, keepdims=True)
        decentered = r2 * self.tilt + 2 * u * (u @ self.tilt)[:, np.newaxis]
        return self.size * (self.sign * r2 * u + decentered)

    def __call__(self, xy):
        return (xy + self._bend(xy)) @ self.turn + [30, -20]


def fitted(n, corner, part="all", *, known=True, seed=0, **options):
    """Fit n stars; return the errors of the map, those that it claims, and what is in the hull."""
    rng = np.random.default_rng([seed, n, round(10 * corner), len(part), known])
    lens = Lens(rng, corner)
    template = np.column_stack(
        [rng.uniform(*np.multiply(PARTS[part][axis], SHAPE[1 - axis]), n) for axis in (0, 1)]
    )
    err = 0.05 * np.exp(rng.normal(0, 0.5, n))
    source = lens(template) + err[:, np.newaxis] * rng.normal(size=(n, 2))
    errors = {"source_err": 0.8 * err, "template_err": 0.6 * err} if known else {}
    fit = fit_backward(source, template, **errors, **options)
    off = np.column_stack(fit.backward(*GRID.T)) - lens(GRID)
    inside = Delaunay(template[fit.used]).find_simplex(GRID) >= 0
    return off, fit.covariance.error(GRID), inside


def spread(pulls):
    """Half of the range that holds 68 % of them."""
    return np.diff(np.percentile(pulls, [15.87, 84.13]))[0] / 2


def claimed_to_true(off, error):
    """Return the ratio of the rms errors of a fit; NaN without any point."""
    return np.sqrt(np.mean(error**2) / np.mean(off**2)) if len(error) else np.nan


@pytest.mark.parametrize(
    ("numbers", "corners"),
    [
        ((4, 5, 6), (0.0, 0.3, 2.0)),  # so few cannot tell more from an error of theirs
        ((7, 9, 12), (0.0, 0.3, 2.0, 10.0)),
        ((14, 19, 25), (0.0, 0.3, 2.0, 10.0)),
        ((30, 40, 60), (0.0, 0.3, 2.0, 10.0)),
        ((80, 150), (0.0, 0.3, 2.0, 10.0)),
        ((300,), (0.0, 0.3, 2.0, 10.0)),
    ],
)
def test_errors_are_honest_with_any_number_of_stars(numbers, corners):
    pulls = {True: [], False: []}
    claims = []
    for n in numbers:
        for corner in corners:
            for part in PARTS:
                for known in (True, False):
                    for seed in range(4 if n < 30 else 2 if n < 80 else 1):
                        off, error, inside = fitted(n, corner, part, known=known, seed=seed)
                        claims.append(claimed_to_true(off[inside], error[inside]))
                        for where in (True, False):
                            here = (off / error[:, np.newaxis])[inside == where].ravel()
                            some = np.random.default_rng(0).choice(here, 100) if len(here) else []
                            pulls[where].append(some)
    assert 0.8 < spread(np.concatenate(pulls[True])) < 1.2
    assert 0.7 < spread(np.concatenate(pulls[False])) < 1.5
    assert 0.7 < np.nanmedian(claims) < 1.4


def test_a_distortion_that_is_not_fitted_is_an_error():
    """400 stars see the lens exactly; a fit of the affine part alone leaves all of it."""
    off, error, _ = fitted(400, 10.0, spline_order=0)
    np.testing.assert_allclose(error, np.sqrt(np.mean(off**2, axis=1)), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("corner", [2.0, 20.0])
def test_a_lens_goes_on_beyond_the_stars(corner):
    """The spline goes on along straight lines there; by how much that is wrong the stars tell."""
    off, error, inside = fitted(400, corner, "middle")
    far = ~inside & (np.hypot(*off.T) > 0.2)
    assert np.median(error[inside]) < 0.02
    ratio = error[far] / np.sqrt(np.mean(off[far] ** 2, axis=1))
    assert 0.6 < np.percentile(ratio, 10) < np.percentile(ratio, 90) < 1.6


def test_three_stars_without_errors_do_not_claim_to_be_exact():
    template = np.array([[100.0, 100.0], [900.0, 150.0], [400.0, 700.0]])
    fit = fit_backward(template + np.array([5.0, 3.0]), template)
    assert 0.05 < fit.covariance.error(np.array([[450.0, 300.0]]))[0] < 1.0


def test_terms_weigh_all_directions_alike():
    """By the binomial theorem the squares of one degree d sum up to its weight times r**(2 d)."""
    angles = np.linspace(0, 6, 9)
    for radius in (0.5, 1.0, 3.0):  # in units of half the diagonal
        points = radius * np.hypot(10, 10) * np.column_stack((np.cos(angles), np.sin(angles)))
        total = radius**4 + radius**6 + 0.15**2 * (radius**8 + radius**10)
        np.testing.assert_allclose(np.sum(bending_terms(SQUARE, points) ** 2, axis=1), total)


def pairs_of(values, points, variance, **changes):
    n = len(points)
    known = {"floor": 0.0, "used": np.ones(n, bool), "noise_prior": (40.0, 1.0)}
    return Pairs(points, values, np.full(n, variance), **(known | changes))


def test_the_bending_is_found():
    rng = np.random.default_rng(4)
    points = rng.uniform(-10, 10, (200, 2))
    terms = bending_terms(SQUARE, points)
    factors = np.zeros((terms.shape[1], 2))
    factors[3, 0], factors[1, 1] = 5.0, -2.0  # x**3 in the one component, x y in the other
    values = terms @ factors + points @ [[1.0, 0.2], [-0.2, 1.0]] + rng.normal(0, 1e-3, (200, 2))
    found = bending_of(pairs_of(values, points, 1e-6), terms, np.zeros((200, 2)))
    np.testing.assert_allclose(found.mean[:7], factors[:7], atol=0.01)
    np.testing.assert_allclose(terms @ found.mean, terms @ factors, atol=0.003)
    assert np.linalg.norm(terms @ found.spread, axis=1).max() < 0.002


@pytest.mark.parametrize("bend", [0.0, 3.0])
def test_scatter_of_few_stars_may_be_bending(bend):
    """What the fit took for scatter of 0.3 px is one or the other, as the residuals are."""
    rng = np.random.default_rng(5)
    points = rng.uniform(-10, 10, (12, 2))
    terms = bending_terms(SQUARE, points)
    values = bend * terms[:, [3, 6]] + rng.normal(0, 0.01 if bend else 0.3, (12, 2))
    found = bending_of(pairs_of(values, points, 1e-4, floor=0.3), terms, np.zeros((12, 2)))
    if bend:
        assert found.floor2 < 0.1 * 0.3**2
        assert found.mean[3, 0] == pytest.approx(bend, rel=0.3)
    else:
        assert found.floor2 > 0.7 * 0.3**2
        assert np.abs(found.mean).max() < 0.3


def test_error_of_a_similarity():
    """Four stars of error 1 at the corners of a square: 1/4 + r**2 / (4 * 200), by hand."""
    corners = np.array([[40.0, 60.0], [60.0, 60.0], [40.0, 80.0], [60.0, 80.0]])
    space = SplineSpace.covering(corners, 1, 1)
    covariance = Covariance(space, rigid_factor(space, corners, np.ones(4)))
    at = np.array([[50.0, 70.0], [60.0, 80.0], [50.0, 90.0]])
    np.testing.assert_allclose(covariance.error(at), np.sqrt([0.25, 0.5, 0.75]))


@pytest.mark.parametrize("freedom", [1.0, 1.5, 2.0, 7.0, 30.0, 1000.0])
def test_width_of_students_distribution(freedom):
    assert _student(freedom) == pytest.approx(special.stdtrit(freedom, special.ndtr(1)), rel=1e-11)
