"""Matching of star lists with known truth."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro.errors import NoMatchError, TooFewStarsError
from spalipy_astro.matching import MIN_LOG_ODDS, Priors, StarField, _search, match_stars
from spalipy_astro.matching._starfield import log_ratios

SHAPE = (700, 1000)


def transform(xy, *, rotation=0.0, scale=1.0, mirrored=False, bend=0.0):
    """Radial distortion of `bend` px at the corners, then a similarity about the center."""
    center = (np.array(SHAPE[::-1]) - 1) / 2
    u = xy - center
    u = u * (1 + bend / np.hypot(*center) * np.sum(u**2, axis=1, keepdims=True) / np.sum(center**2))
    z = u @ (1, 1j)
    z = scale * np.exp(1j * np.deg2rad(rotation)) * (z.conj() if mirrored else z)
    return np.column_stack((z.real, z.imag)) + center + [12.3, -7.1]


def make_lists(
    n=300, *, seed=0, missing=0.2, false=0.2, noise=0.1, overlap=1.0, limit=(1.0, 1.0), **kwargs
):
    """Return source and template (xy, index of the star or -1), brightest first."""
    rng = np.random.default_rng([seed, n])
    sky = rng.uniform(0, 1, (n, 2)) * SHAPE[::-1]
    brightness = np.arange(n)  # sorted already
    lists = []
    for side, image in enumerate((sky, transform(sky, **kwargs))):
        order = np.argsort(brightness + rng.normal(0, 0.02 * n, n))
        order = order[: int(limit[side] * n)]
        keep = rng.uniform(size=len(order)) > missing
        if side == 1:
            keep &= sky[order, 0] < overlap * SHAPE[1]
        star = order[keep]
        xy = image[star] + rng.normal(0, noise, (len(star), 2))
        lo, hi = image.min(axis=0), image.max(axis=0)
        n_false = int(false * len(star))
        at = np.sort(rng.integers(0, len(star), n_false))
        xy = np.insert(xy, at, rng.uniform(lo, hi, (n_false, 2)), axis=0)
        lists.append((xy, np.insert(star, at, -1)))
    return lists


def fields(lists, err=0.1):
    return [StarField(xy, np.full(len(xy), err)) for xy, _ in lists]


def check(match, lists, *, share=0.8):
    """Almost all matches are true, and most stars in both lists are matched."""
    s, t = lists[0][1][match.source], lists[1][1][match.template]
    assert len(np.unique(match.source)) == len(match.source)
    assert len(np.unique(match.template)) == len(match.template)
    assert np.mean(s != t) <= 0.02
    common = np.intersect1d(lists[0][1][lists[0][1] >= 0], lists[1][1])
    assert np.count_nonzero(s == t) >= share * len(common)
    assert match.log_odds > MIN_LOG_ODDS


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 37, 90, 180])
def test_rotation_and_parity(rotation, mirrored):
    lists = make_lists(rotation=rotation, mirrored=mirrored)
    match = match_stars(*fields(lists))
    check(match, lists)
    assert match.parity == (-1 if mirrored else 1)


@pytest.mark.parametrize(
    "case",
    [
        {"scale": 0.2},
        {"scale": 5.0, "rotation": 200},
        {"bend": 25.0, "rotation": 12},
        {"n": 2000, "overlap": 0.2, "mirrored": True},
        {"n": 1500, "limit": (0.06, 1.0)},
        {"n": 1500, "limit": (1.0, 0.06), "rotation": 100},
        {"n": 120, "false": 2.0, "rotation": -60},
        {"n": 5000, "bend": 15.0, "rotation": 150},
    ],
    ids=str,
)
def test_unlike_frames(case):
    lists = make_lists(**case)
    check(match_stars(*fields(lists)), lists)


@pytest.mark.parametrize("n", [6, 8, 12])
@pytest.mark.parametrize("mirrored", [False, True])
def test_few_stars(n, mirrored):
    lists = make_lists(n, missing=0.0, false=0.3, rotation=77, mirrored=mirrored)
    check(match_stars(*fields(lists)), lists, share=1.0)


def test_five_stars():
    lists = make_lists(5, missing=0.0, false=0.0, rotation=130, noise=0.05)
    match = match_stars(*fields(lists, 0.05))
    check(match, lists, share=1.0)


def test_crowded_fields_in_two_bands():
    """Extinction reorders the stars: of the brightest of one list a tenth are among the other's."""
    rng = np.random.default_rng(1)
    n, kept, noise = 16000, 5000, 0.3
    sky = rng.uniform(0, 700, (n, 2))
    magnitude = np.log10(rng.uniform(1e-4, 1, n))
    image = transform(sky, rotation=37.0)
    lists = []
    for xy, color in ((sky, 0.0), (image, rng.normal(0, 1.5, n))):
        star = np.argsort(magnitude + color)[:kept]
        lists.append((xy[star] + rng.normal(0, noise, (kept, 2)), star))
    one, two = fields(lists, noise)
    match = match_stars(one, two)
    s, t = lists[0][1][match.source], lists[1][1][match.template]
    assert np.mean(s == t) > 0.95
    assert len(s) > 1500


def test_two_patterns_that_agree_end_the_search(monkeypatch):
    """Where few of the expected stars have partners, no better transform is waited for."""
    grown = []

    def grow(*args):
        grown.append(matching_grow(*args))
        return grown[-1]

    matching_grow = _search.grow
    monkeypatch.setattr(_search, "grow", grow)
    lists = make_lists(2500, seed=1, missing=0.55, false=1.22)
    match = match_stars(*fields(lists))
    check(match, lists)
    assert len(match.source) < 0.3 * match.expected
    assert sum(growth is not None and len(growth.source) > 100 for growth in grown) == 2


def test_double_detections():
    lists = make_lists(200, rotation=20)
    rng = np.random.default_rng(3)
    doubled = []
    for xy, star in lists:
        twin = np.sort(rng.choice(len(xy), 60, replace=False))
        doubled.append(
            (
                np.insert(xy, twin, xy[twin] + rng.normal(0, 1.0, (60, 2)), axis=0),
                np.insert(star, twin, star[twin]),
            )
        )
    match = match_stars(*fields(doubled))
    s, t = doubled[0][1][match.source], doubled[1][1][match.template]
    assert np.mean(s != t) < 0.02
    assert len(np.unique(match.source)) == len(match.source) > 60


def unrelated(rng, n, clustered):
    xy = rng.uniform(0, 1, (n, 2)) * SHAPE[::-1]
    if clustered:
        centers = rng.uniform(0, 1, (3, 2)) * SHAPE[::-1]
        half = n // 2
        xy[:half] = centers[rng.integers(0, 3, half)] + rng.normal(0, 50, (half, 2))
    return StarField(xy, np.full(n, 0.1))


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize(
    ("n_source", "n_template"), [(5, 5), (8, 200), (30, 30), (60, 15), (300, 300), (40, 1500)]
)
def test_unrelated_lists_are_refused(n_source, n_template, clustered):
    rng = np.random.default_rng([n_source, n_template, clustered])
    with pytest.raises(NoMatchError, match=f"{n_source} source stars to {n_template} template"):
        match_stars(unrelated(rng, n_source, clustered), unrelated(rng, n_template, clustered))


def test_too_few_stars():
    lists = fields(make_lists(30))
    two = StarField(np.array([[1.0, 2], [30, 4]]), np.full(2, 0.1))
    with pytest.raises(TooFewStarsError, match="source has 2 usable stars"):
        match_stars(two, lists[1])
    with pytest.raises(TooFewStarsError, match="template has 2 usable stars"):
        match_stars(lists[0], two)


def test_same_input_same_output():
    lists = make_lists(400, rotation=33, bend=8)
    one, two = (match_stars(*fields(lists)) for _ in range(2))
    np.testing.assert_array_equal(one.source, two.source)
    np.testing.assert_array_equal(one.template, two.template)
    assert one.log_odds == two.log_odds


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"scale": (1.9, 2.1)}, {"scale": (0.9, 1.1)}),
        ({"rotation": (-123.0, -113.0)}, {"rotation": (15.0, 25.0)}),
        ({"rotation": (237.0, 247.0)}, {"rotation": (-110.0, 70.0)}),
        ({"rotation": (-483.0, -473.0)}, {"rotation": (113.0, 123.0)}),
        ({"rotation": (-108.0, 252.0)}, {"rotation": (-108.0, 232.0)}),
        ({"parity": -1}, {"parity": 1}),
    ],
)
def test_priors(right, wrong):
    # The rotation is that of the source's x axis; z -> exp(i angle) conj(z) keeps it.
    lists = make_lists(rotation=-118, scale=2.0, mirrored=True, missing=0.1)
    check(match_stars(*fields(lists), priors=Priors(**right)), lists)
    with pytest.raises(NoMatchError):
        match_stars(*fields(lists), priors=Priors(**wrong))


def test_max_shift_of_lists():
    """It is their smallest displacement: 14.2 px for a shift, none where a turn leaves a point."""
    lists = make_lists(missing=0.1)
    check(match_stars(*fields(lists), priors=Priors(max_shift=20.0)), lists)
    with pytest.raises(NoMatchError):
        match_stars(*fields(lists), priors=Priors(max_shift=1.0))
    lists = make_lists(rotation=-118, scale=2.0, missing=0.1)
    check(match_stars(*fields(lists), priors=Priors(max_shift=1.0)), lists)


@pytest.mark.parametrize("n", [12, 30])
@pytest.mark.parametrize("strangers", [1, 9, 28])
def test_odds_are_paid_for_all_pairs_of_stars(n, strangers):
    """
    Stars beyond the other frame are no evidence, but more pairs that could fix a similarity.

    Of n stars there are n (n - 1) ordered pairs, of n + k there are (n + k) (n + k - 1): the odds
    are lower by the ratio of these numbers, and by nothing else.
    """
    rng = np.random.default_rng(n)
    xy = rng.uniform(0, 1, (n, 2)) * SHAPE[::-1]
    beyond = [1.5 * SHAPE[1], 0] + rng.uniform(0, 1, (strangers, 2)) * SHAPE[::-1]
    template = StarField(xy, np.full(n, 0.1))
    shapes = {"source_shape": (SHAPE[0], 3 * SHAPE[1]), "template_shape": SHAPE}
    few, many = (
        match_stars(StarField(source, np.full(len(source), 0.1)), template, **shapes)
        for source in (xy, np.vstack((xy, beyond)))
    )
    assert len(few.source) == len(many.source) == n
    total = n + strangers
    ratio = total * (total - 1) / (n * (n - 1))
    assert few.log_odds - many.log_odds == pytest.approx(np.log(ratio), abs=1e-9)


def test_log_ratios_average_to_one_under_chance():
    """The expectation of a likelihood ratio under chance is 1, whatever the density."""
    rng = np.random.default_rng(11)
    for density in (1e-5, 1e-3, 0.05):
        distance = np.sqrt(rng.exponential(1 / (np.pi * density), 400_000))
        ratios = np.exp(log_ratios(distance, np.full(400_000, density), np.full(400_000, 1.5)))
        assert ratios.mean() == pytest.approx(1.0, abs=0.05 if density > 1e-4 else 0.25)
        assert np.all(np.diff(log_ratios(np.arange(9.0), density, 1.5)) <= 0)
