"""Pairs that are matched already: the transform, its kinds, and the whole alignment."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from astropy.wcs import WCS

from spalipy_astro import Alignment, CatalogError, TooFewStarsError, fit_alignment

TURN = np.array([[0.8, -0.6], [0.6, 0.8]])
MATRICES = {
    "shift": np.eye(2),
    "rigid": TURN,
    "similarity": 1.3 * TURN,
    "affine": TURN @ np.array([[1.2, 0.1], [0.0, 0.9]]),
}
FREEDOM = {"shift": 1.0, "rigid": 1.5, "similarity": 2.0, "affine": 3.0}
LEAST = {"shift": 1, "rigid": 2, "similarity": 2, "affine": 3}


def make_pairs(n, kind="affine", seed=0, width=1000.0, mirrored=False):
    source = np.random.default_rng(seed).uniform(0, width, (n, 2))
    matrix = MATRICES[kind] @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    return source, source @ matrix.T + np.array([0.01, -0.02]) * width


def miss(alignment, source, template):
    return float(np.hypot(*(np.column_stack(alignment.transform(*source.T)) - template).T).max())


@pytest.mark.parametrize("width", [1e-5, 10.0, 1000.0, 1e6])
@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("more", [0, 1, 30])
def test_each_kind_is_exact(kind, more, width):
    n = LEAST[kind] + more
    source, template = make_pairs(n, kind, seed=n, width=width)
    alignment = fit_alignment(source, template, affine=kind, spline_order=0)
    assert miss(alignment, source, template) < 1e-8 * width
    assert alignment.summary()["freedom"] == FREEDOM[kind]
    assert np.isfinite(alignment.error(0.5 * width, 0.5 * width))


@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine"])
def test_mirrored(kind):
    source, template = make_pairs(8, kind, mirrored=True)
    alignment = fit_alignment(source, template, affine=kind)
    assert alignment.summary()["parity"] == -1
    assert miss(alignment, source, template) < 1e-6


@pytest.mark.parametrize("kind", MATRICES)
def test_too_few(kind):
    source, template = make_pairs(LEAST[kind] - 1, kind)
    with pytest.raises(TooFewStarsError):
        fit_alignment(source, template, affine=kind)


@pytest.mark.parametrize(
    ("n", "kind", "freedom"),
    [
        *(
            (1, "shift", 1.0),
            (2, "similarity", 2.0),
            (3, "similarity", 2.0),
            (5, "similarity", 2.0),
        ),
        *((4, "affine", 3.0), (5, "affine", 3.0), (6, "affine", 3.0), (6, "similarity", 3.0)),
    ],
)
def test_auto_goes_by_the_number(n, kind, freedom):
    source, template = make_pairs(n, kind, seed=3)
    alignment = fit_alignment(source, template, spline_order=0)
    assert alignment.summary()["freedom"] == freedom
    assert miss(alignment, source, template) < 1e-6


def test_auto_on_a_line_is_a_similarity():
    source = np.column_stack((np.arange(12.0) * 30, np.arange(12.0) * 17))
    template = source @ (1.3 * TURN).T + 5
    alignment = fit_alignment(source, template)
    np.testing.assert_allclose(alignment.summary()["scale"], 1.3, rtol=1e-9)
    assert miss(alignment, source, template) < 1e-6


def test_few_noisy_pairs_are_fitted_better_by_auto():
    misses = {"auto": [], "affine": []}
    rng = np.random.default_rng(5)
    corners = np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 1000.0], [1000.0, 1000.0]])
    for seed in range(40):
        source, template = make_pairs(4, "similarity", seed=seed)
        right = corners @ MATRICES["similarity"].T + [10, -20]
        noisy = template + rng.normal(0, 0.2, template.shape)
        for kind, found in misses.items():
            found.append(miss(fit_alignment(source, noisy, affine=kind), corners, right))
    assert np.median(misses["auto"]) < 0.6 * np.median(misses["affine"])


def test_rigid_transform_of_pixels_that_are_not_square():
    source, template = make_pairs(9, "rigid")
    binned = (source + 0.5) / [1, 2] - 0.5
    alignment = fit_alignment(binned, template, affine="rigid", source_pixels=(1, 2))
    assert miss(alignment, binned, template) < 1e-9
    shear = fit_alignment(binned, template, affine="rigid")
    assert shear.matches["dx"].std() > 10


def test_outlier_is_clipped_and_told():
    source, template = make_pairs(40)
    template = template + np.random.default_rng(2).normal(0, 0.05, template.shape)
    template[7] += 20
    alignment = fit_alignment(source, template)
    np.testing.assert_array_equal(np.flatnonzero(~alignment.matches["used"]), [7])
    assert alignment.summary()["n_clipped"] == 1


@pytest.mark.parametrize("side", ["source_err", "template_err", "table"])
def test_errors_of_one_side_are_weights(side):
    rng = np.random.default_rng(1)
    source, template = make_pairs(100, "shift")
    err = np.where(np.arange(100) % 2, 0.001, 0.5)
    noisy = template + rng.normal(0, 1, template.shape) * err[:, np.newaxis]
    options = {side: err}
    if side == "table":
        noisy = Table({"x": noisy[:, 0], "y": noisy[:, 1], "x_err": err, "y_err": err})
        options = {}
    alignment = fit_alignment(source, noisy, spline_order=0, **options)
    assert miss(alignment, source, template) < 0.003


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_weights_tell_ratios_only(factor):
    rng = np.random.default_rng(1)
    source, template = make_pairs(100, "shift")
    err = np.where(np.arange(100) % 2, 0.001, 0.5)
    noisy = template + rng.normal(0, 1, template.shape) * err[:, np.newaxis]
    alignment = fit_alignment(source, noisy, weights=factor / err**2, spline_order=0)
    assert miss(alignment, source, template) < 0.003
    assert 0.5 < alignment.summary()["chi2_x"] < 1.5
    sigma = np.asarray(alignment.matches["sigma"])
    np.testing.assert_allclose(sigma[0] / sigma[1], 500, rtol=0.1)  # beside a floor


def test_rows_that_are_not_finite_are_left_out():
    source, template = make_pairs(20)
    source[3], template[5] = np.nan, np.inf
    alignment = fit_alignment(source, template)
    np.testing.assert_array_equal(
        alignment.matches["source_row"], [k for k in range(20) if k not in (3, 5)]
    )


def test_whole_alignment(tmp_path):
    source, template = make_pairs(30, "similarity")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), (10.0, 20.0)
    wcs.wcs.crpix, wcs.wcs.cdelt = (600, 500), (-1e-4, 1e-4)
    alignment = fit_alignment(
        source, template, source_shape=(1000, 1010), template_shape=(1200, 1300), wcs=wcs
    )
    s = alignment.summary()
    assert (s["n_source"], s["n_matched"]) == (30, 30)
    assert not {"log_odds", "n_expected", "hypotheses"} & set(s)
    assert "matched pairs   30 of 30 given" in str(s)
    assert repr(alignment).startswith(f"<Alignment of 30 pairs to {s['error']:.2g} px, rms")
    sky = alignment.pixel_to_sky(300.0, 400.0)
    np.testing.assert_allclose(
        wcs.world_to_pixel(sky), alignment.transform(300.0, 400.0), atol=1e-6
    )
    alignment.write(tmp_path / "a.asdf")
    again = Alignment.read(tmp_path / "a.asdf")
    assert dict(again.summary()) == dict(s)
    assert again.transform(5.0, 6.0) == alignment.transform(5.0, 6.0)
    both = alignment.then(again.inverse)
    np.testing.assert_allclose(both.transform(50.0, 60.0), (50, 60), atol=1e-6)
    assert "log_odds" not in both.summary()
    aligned = alignment.resample(np.ones((1000, 1010)), method="nearest")
    assert aligned.shape == (1200, 1300)
    pytest.importorskip("matplotlib")
    alignment.plot()
    alignment.report(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "30 of 30 given" in page
    assert "log-odds" not in page


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"template_xy": np.ones((4, 2))}, ValueError, "got 5 and 4 of them"),
        ({"source_xy": np.full((5, 2), np.nan)}, TooFewStarsError, "none has finite"),
        ({"source_xy": np.ones((5, 2))}, CatalogError, "all 5 positions in the source are one"),
        ({"source_err": -1}, ValueError, "source_err is positive and finite"),
        ({"template_err": np.ones(3)}, ValueError, r"template_err is .* got shape \(3,\)"),
        ({"weights": np.zeros(5)}, ValueError, "weights are positive"),
        ({"weights": np.ones(5), "source_err": 1}, ValueError, "exclude each other"),
        ({"source_shape": 5}, ValueError, "source_shape must be"),
        ({"affine": "bent"}, ValueError, "affine is"),
        ({"wcs": "sky"}, TypeError, "^wcs is an astropy"),
    ],
)
def test_what_makes_no_sense_is_named(change, error, words):
    source, template = make_pairs(5)
    arguments = {"source_xy": source, "template_xy": template, **change}
    with pytest.raises(error, match=words):
        fit_alignment(**arguments)


def test_masked_positions_do_not_count():
    source, template = make_pairs(20)
    wrong = np.ma.array(source.copy(), mask=False)
    wrong[:12] += 500.0
    wrong[:12, 0] = np.ma.masked
    alignment = fit_alignment(wrong, template, spline_order=0)
    assert len(alignment.matches) == 8
    assert miss(alignment, source, template) < 1e-8


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("how", ["anywhere", "exchanged"])
@pytest.mark.parametrize(("n", "share"), [(8, 0.5), (40, 0.5), (60, 0.7), (300, 0.5)])
def test_half_of_the_pairs_may_be_wrong(n, share, how, mirrored):
    rng = np.random.default_rng(n)
    source, template = make_pairs(n, "similarity", seed=4, mirrored=mirrored)
    noisy = template + rng.normal(0, 0.05, template.shape)
    wrong = rng.permutation(n)[: round(share * n)]
    if how == "exchanged":
        noisy[wrong] = noisy[np.roll(wrong, 1)]
    else:
        noisy[wrong] = rng.uniform(template.min(), template.max(), (len(wrong), 2))
    alignment = fit_alignment(source, noisy, source_err=0.05)
    right = np.setdiff1d(np.arange(n), wrong)
    assert miss(alignment, source[right], template[right]) < 0.4
    used = alignment.matches["source_row"][alignment.matches["used"]]
    assert not set(used) & set(wrong)
    assert len(used) >= 0.8 * len(right)
    assert len(alignment.matches) == n
    np.testing.assert_allclose(alignment.matches["sigma"], 0.05 * 1.3, rtol=0.6)


def test_distortion_of_pairs_half_of_which_are_wrong():
    rng = np.random.default_rng(5)
    source, template = make_pairs(300, "similarity", seed=5)
    u = (source - 500) / 500
    template = template + 5 * u * np.sum(u**2, axis=1)[:, np.newaxis]
    noisy = template + rng.normal(0, 0.05, template.shape)
    wrong = rng.permutation(300)[:150]
    noisy[wrong] = noisy[np.roll(wrong, 1)]
    alignment = fit_alignment(source, noisy)
    inner = np.setdiff1d(np.flatnonzero(np.abs(u).max(axis=1) < 0.9), wrong)
    assert miss(alignment, source[inner], template[inner]) < 0.2


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [12, 100])
def test_pairs_of_different_stars_are_refused(n, weighted):
    rng = np.random.default_rng(1)
    source, template = rng.uniform(0, 1000, (2, n, 2))
    options = {"weights": np.ones(n)} if weighted else {}
    with pytest.raises(CatalogError, match=f"of {n} pairs no more agree"):
        fit_alignment(source, template, **options)


def test_weighted_pairs_half_of_which_are_wrong():
    source, template = make_pairs(60, "affine")
    noisy = template.copy()
    noisy[:30] = noisy[np.roll(np.arange(30), 7)]
    alignment = fit_alignment(source, noisy, weights=np.linspace(1, 9, 60), spline_order=0)
    assert miss(alignment, source, template) < 1e-6
