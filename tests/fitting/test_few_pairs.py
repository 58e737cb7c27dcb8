"""Maps of few pairs, whose errors are unknown."""

import numpy as np
import pytest

from spalipy_astro.fitting import fit_backward

GRID = np.stack(np.meshgrid(np.linspace(100, 900, 9), np.linspace(100, 900, 9))).reshape(2, -1)


def error_of(n, seed, *, bend=0.0, noise=0.3, **options):
    """Return the rms error of a map over the field, px."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 1000, (n, 2))

    def there(x, y):
        u, v = (x - 500) / 500, (y - 500) / 500
        r2 = u**2 + v**2
        return x + 12 + bend * u * r2, y - 7 + bend * v * r2

    source = np.stack(there(*xy.T), axis=1) + rng.normal(0, noise, (n, 2))
    fit = fit_backward(source, xy, **options)
    off = np.hypot(*(np.array(fit.backward(*GRID)) - there(*GRID)))
    return float(np.sqrt(np.mean(off**2)))


@pytest.mark.parametrize("n", [6, 7, 8, 10])
def test_scatter_is_not_taken_for_distortion(n):
    """Some of these maps went through all pairs, and were up to 9 px off between them."""
    bent = [error_of(n, seed) for seed in range(40)]
    straight = [error_of(n, seed, spline_order=0) for seed in range(40)]
    assert np.percentile(bent, 95) < 1.1 * np.percentile(straight, 95)
    assert max(bent) < 1.0


def test_distortion_is_seen_where_it_is_evident():
    bent = [error_of(16, seed, bend=5, noise=0.02) for seed in range(20)]
    straight = [error_of(16, seed, bend=5, noise=0.02, spline_order=0) for seed in range(20)]
    assert np.median(bent) < 0.1 * np.median(straight)


def test_smoothing_that_is_given_is_kept():
    loose = error_of(7, 3, smoothing=1e-6)
    assert abs(loose - error_of(7, 3, spline_order=0)) > 0.1
