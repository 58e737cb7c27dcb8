"""The PSF and the fit of stars with it."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro._neighbors import neighbor_lists
from spalipy_astro.detection._probe import changed_light, overlap
from spalipy_astro.detection._psf import _COARSE_RULE, _FINE_RULE, Profile, fit_profile
from spalipy_astro.detection._starfit import Fits, _tabulated, fit_stars

SIZE = 17
CENTER = SIZE // 2


def render(profile, x, y, flux, shape=(SIZE, SIZE)):
    """Integrate a star over pixels, by brute force."""
    n = 7
    fine = (np.arange(n) + 0.5) / n - 0.5
    yy = (np.arange(shape[0])[:, None] + fine).ravel() - y
    xx = (np.arange(shape[1])[:, None] + fine).ravel() - x
    a, b, c = profile.matrix()
    q = a * xx**2 + 2 * b * xx * yy[:, None] + c * yy[:, None] ** 2
    fine_image = profile._intensity(q) * flux
    return fine_image.reshape(shape[0], n, shape[1], n).mean(axis=(1, 3))


def fit(image, variance, start, profile, *, search=False, passes=6, **options):
    """Fit stars that all lie in one image around its center."""
    start = np.atleast_2d(np.array(start, dtype=float))
    fits = Fits.start(start[:, :2], start[:, 2])
    around = neighbor_lists(fits.position, 30.0)
    n = len(start)
    stamps = np.repeat(image[None].astype(np.float32), n, axis=0)
    options = {"inverse_gain": 0.0, "model_error": 0.01} | options
    for _ in range(passes):
        fit_stars(
            fits,
            np.arange(n),
            stamps,
            np.full((n, 1, 1), variance, dtype=np.float32),
            np.zeros((n, 2)),
            profile,
            around,
            search=search,
            **options,
        )
    return fits


@pytest.mark.parametrize("inverse_beta", [0.0, 0.25, 0.4])
@pytest.mark.parametrize("fwhm", [1.5, 2.0, 3.7])
def test_table_is_the_profile_over_pixels(fwhm, inverse_beta):
    profile = Profile(fwhm, inverse_beta)
    table, step = profile.table()
    image = render(profile, CENTER, CENTER, 1.0)
    yy, xx = np.mgrid[:SIZE, :SIZE] - CENTER
    value = np.interp((xx**2 + yy**2) / step, np.arange(len(table)), table)
    core = xx**2 + yy**2 < (2 * fwhm) ** 2
    # the pixels are square, the table is not
    assert np.abs(value - image)[core].max() < 0.012 * image.max()
    if inverse_beta == 0:
        assert value.sum() == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("inverse_beta", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("fwhm", [0.9, 2.8, 6.0])
def test_table_is_exact_between_the_places_at_which_it_is_computed(fwhm, inverse_beta):
    profile = Profile(fwhm, inverse_beta)
    table, step = profile.table()
    q = np.arange(len(table)) * step
    along, across, weights = _COARSE_RULE if fwhm > 1.5 else _FINE_RULE
    squared_radius = (np.sqrt(q) + along[:, np.newaxis]) ** 2 + across[:, np.newaxis] ** 2
    near = weights @ profile._intensity(squared_radius)
    far = profile.at(np.sqrt(q))
    beyond = q > max(2 * fwhm, 2) ** 2
    assert 0 < np.count_nonzero(beyond) < len(q) - 800
    np.testing.assert_allclose(table, np.where(beyond, far, near), rtol=0, atol=1e-9 * table[0])


def test_ellipse_keeps_its_area():
    a, b, c = Profile(3.0, stretch=(0.2, -0.1)).matrix()
    assert a * c - b * b == pytest.approx(1)
    np.testing.assert_allclose(Profile(3.0).matrix(), [1, 0, 1])


@pytest.mark.parametrize(
    "truth",
    [
        Profile(2.2, 0.29),
        Profile(3.1, 0.02, (0.12, -0.08)),
        Profile(3.8, 0.4, (-0.1, 0.05)),
    ],
)
def test_profile_is_recovered(truth):
    rng = np.random.default_rng(1)
    n = 25
    place = rng.uniform(-0.5, 0.5, (n, 2))
    flux = np.exp(rng.uniform(np.log(2e4), np.log(2e5), n))
    stamps = np.stack(
        [render(truth, CENTER + u, CENTER + v, f) for (u, v), f in zip(place, flux, strict=True)]
    )
    stamps = stamps + rng.normal(0, 1, stamps.shape) * np.sqrt(stamps + 300)
    # one of them is none, one has a neighbor, one a bad pixel
    stamps[3] = 0
    stamps[3, CENTER, CENTER] = 3e4
    stamps[5] += render(truth, CENTER + 5, CENTER - 3, 4e4)
    stamps[7, CENTER + 1, CENTER] = np.nan
    start = np.column_stack((np.zeros((n, 2)), 0.9 * flux, np.zeros(n)))
    found = fit_profile(
        stamps.astype(np.float32), np.full((n, 1, 1), 300.0), start, Profile(2.8), inverse_gain=1.0
    )
    assert found.fwhm == pytest.approx(truth.fwhm, rel=0.01)
    assert found.inverse_beta == pytest.approx(truth.inverse_beta, abs=0.02)
    assert found.stretch == pytest.approx(truth.stretch, abs=0.01)


@pytest.mark.parametrize(
    "profile", [Profile(2.0, 0.3), Profile(3.0, 0.0), Profile(3.3, 0.25, (0.1, 0.1))]
)
@pytest.mark.parametrize(("x", "y"), [(8.0, 8.0), (8.37, 7.81), (7.55, 8.49)])
def test_positions_without_noise(profile, x, y):
    image = render(profile, x, y, 5e4)
    fits = fit(image, 100.0, (8, 8, 3e4), profile, inverse_gain=1.0)
    assert fits.converged[0]
    np.testing.assert_allclose(fits.position[0], (x, y), atol=0.003)
    assert fits.flux[0] == pytest.approx(5e4, rel=0.01)
    assert fits.width[0] == pytest.approx(1, abs=0.01)


def test_errors_are_those_of_repetition():
    rng = np.random.default_rng(2)
    profile = Profile(2.7, 0.2)
    found, errors = [], []
    for _ in range(300):
        x, y = CENTER + rng.uniform(-0.5, 0.5, 2)
        clean = render(profile, x, y, 4e3)
        noisy = clean + rng.normal(0, 1, clean.shape) * np.sqrt(clean + 200)
        fits = fit(noisy, 200.0, (8, 8, 4e3), profile, inverse_gain=1.0, passes=1)
        found.append([*(fits.position[0] - (x, y)), fits.flux[0] - 4e3, fits.width[0] - 1])
        errors.append(fits.errors[0, [0, 1, 2, 4]])
    ratio = np.std(found, axis=0) / np.mean(errors, axis=0)
    np.testing.assert_allclose(ratio, 1, atol=0.15)
    assert np.abs(np.mean(found, axis=0)[:2]).max() < 0.01


def test_width_tells_galaxies_from_stars():
    profile = Profile(2.5, 0.2)
    wide = fit(render(Profile(3.75, 0.2), 8.2, 7.9, 5e4), 100.0, (8, 8, 3e4), profile)
    assert wide.width[0] == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("distance", [3.2, 4.5])
def test_neighbors_do_not_shift_each_other(distance):
    profile = Profile(2.6, 0.25)
    image = render(profile, 8.2, 8.1, 3e4) + render(profile, 8.2 + distance, 8.1, 2e4)
    alone = fit(image, 100.0, (8, 8, 3e4), profile, inverse_gain=1.0)
    both = fit(
        image,
        100.0,
        [(8, 8, 3e4), (round(8.2 + distance), 8, 3e4)],
        profile,
        inverse_gain=1.0,
        passes=12,
    )
    assert np.hypot(*(alone.position[0] - (8.2, 8.1))) > 0.02
    np.testing.assert_allclose(both.position[0], (8.2, 8.1), atol=0.01)
    np.testing.assert_allclose(both.flux, (3e4, 2e4), rtol=0.03)
    assert both.foreign[1] > 0


def test_companions_show_in_the_residuals():
    rng = np.random.default_rng(3)
    profile = Profile(2.6, 0.25)
    image = render(profile, 8.2, 8.1, 1e5) + render(profile, 11.9, 9.6, 3e3)
    image = image + rng.normal(0, 1, image.shape) * np.sqrt(image + 100)
    fits = fit(image, 100.0, (8, 8, 1e5), profile, inverse_gain=1.0, search=True)
    strength, x, y = fits.companion[0]
    assert strength > 8
    assert np.hypot(x - 11.9, y - 9.6) < 1.2
    single = render(profile, 8.2, 8.1, 1e5)
    single = single + rng.normal(0, 1, image.shape) * np.sqrt(single + 100)
    fits = fit(single, 100.0, (8, 8, 1e5), profile, inverse_gain=1.0, search=True)
    assert fits.companion[0, 0] < 5


@pytest.mark.parametrize("where", [(8, 8), (7, 9), (8, 10)])
def test_bad_pixels_carry_no_weight(where):
    profile = Profile(2.6, 0.25)
    image = render(profile, 8.3, 7.8, 3e4)
    image[where] = np.nan
    fits = fit(image, 100.0, (8, 8, 3e4), profile, inverse_gain=1.0)
    np.testing.assert_allclose(fits.position[0], (8.3, 7.8), atol=0.005)
    assert fits.flux[0] == pytest.approx(3e4, rel=0.01)


def test_too_few_pixels_are_not_fitted():
    image = np.full((SIZE, SIZE), np.nan)
    image[8, 8] = 100.0
    fits = fit(image, 100.0, (8, 8, 3e4), Profile(2.6))
    assert not fits.converged[0]
    assert fits.errors[0, 2] == 0
    assert fits.snr[0] == 0


def test_sharpness_of_what_is_no_star():
    rng = np.random.default_rng(4)
    profile = Profile(2.2, 0.25)
    noise = rng.normal(0, 10, (SIZE, SIZE))
    hot = noise.copy()
    hot[8, 8] += 600
    ray = noise.copy()
    ray[8, 4:13] += 400
    step = noise.copy()
    step[range(5, 12), range(5, 12)] += 400
    sharp = [fit(k, 100.0, (8, 8, 600), profile).sharpness[0] for k in (hot, ray, step)]
    assert min(sharp) > 4
    for x, y in [(8, 8), (8.5, 8.0), (8.5, 8.5)]:
        star = render(profile, x, y, 4e3) + noise
        assert fit(star, 100.0, (8, 8, 4e3), profile).sharpness[0] < 3


def test_errors_grow_with_what_was_not_known():
    profile = Profile(2.6, 0.25)
    image = render(profile, 8.3, 7.8, 3e5)
    fits = fit(image, 100.0, (8, 8, 3e5), profile)
    plain = fits.position_errors(0.0, 0.0)
    np.testing.assert_allclose(plain, fits.errors[:, :2])
    assert np.all(fits.position_errors(1.0, 0.0) > 2 * plain)
    assert np.all(fits.position_errors(0.0, 0.05) > 2 * plain)


def test_lists_of_stars():
    fits = Fits.start(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([5.0, 6.0]))
    more = fits.append(fits[np.array([1])])
    assert len(more) == 3
    np.testing.assert_array_equal(more.flux, [5, 6, 6])
    pointer, other = neighbor_lists(np.array([[0.0, 0.0], [10, 0], [11, 0], [11, 1]]), 1.2)
    np.testing.assert_array_equal(np.diff(pointer), [0, 1, 2, 1])
    np.testing.assert_array_equal(other, [2, 1, 3, 2])


def test_how_much_of_a_neighbor_a_star_sees():
    # the correlation of two Gaussians of FWHM 4 px at a distance of 3 px: exp(-d^2 / 4 sigma^2)
    position = np.array([[10.0, 10.0], [13.0, 10.0], [90.0, 10.0]])
    me, other = np.array([0, 1, 0]), np.array([1, 0, 2])
    seen = overlap(Profile(4.0, inverse_beta=0.0), position, me, other)
    np.testing.assert_allclose(seen, [0.458, 0.458, 0], atol=0.02)


def test_how_much_light_has_moved():
    before = np.array([[10.0, 10.0, 100.0], [20.0, 10.0, 50.0], [30.0, 10.0, 70.0]])
    after = np.array([[10.0, 10.0, 90.0], [20.5, 10.0, 50.0], [39.0, 10.0, 70.0]])
    np.testing.assert_allclose(changed_light(before, after, 4.0), [10, 12.5, 70])


@pytest.mark.parametrize(("fwhm", "accuracy"), [(1.2, 0.03), (1.95, 5e-3), (2.8, 1.5e-3)])
def test_profile_is_integrated_over_pixels_in_the_wings_too(fwhm, accuracy):
    profile = Profile(fwhm)
    table, step = profile.table()
    radius = np.sqrt(np.arange(len(table)) * step)
    nodes = (np.arange(40) + 0.5) / 40 - 0.5
    u, v = np.meshgrid(nodes, nodes)
    for r in (1.9, 2.05, 3.0, 4.0):
        k = int(np.argmin(np.abs(radius - r * fwhm)))
        angle = np.linspace(0, np.pi / 4, 9)[:, np.newaxis, np.newaxis]  # of the pixel's sides
        x, y = u * np.cos(angle) - v * np.sin(angle), u * np.sin(angle) + v * np.cos(angle)
        mean = profile._intensity((radius[k] + x) ** 2 + y**2).mean(axis=(1, 2))
        assert table[k] == pytest.approx(np.trapezoid(mean) / 8, rel=accuracy)


def test_profile_does_not_depend_on_rounding():
    """The rules for the core and for the wings must not trade places."""
    for fwhm in np.linspace(1.0, 4.0, 50):
        table = Profile(fwhm).table()[0]
        for near in (np.nextafter(fwhm, 0), np.nextafter(fwhm, 9)):
            np.testing.assert_allclose(Profile(near).table()[0], table, rtol=1e-12)


@pytest.mark.parametrize("inverse_beta", [0.001, 0.25])
def test_profile_holds_no_subnormal_numbers(inverse_beta):
    """They are far below any noise, and many processors take 100 times as long for them."""
    _, table, _, _ = _tabulated(Profile(2.9, inverse_beta))
    assert np.abs(table[table != 0]).min() > 1e-31
