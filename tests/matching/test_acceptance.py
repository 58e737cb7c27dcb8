"""Matches that odds alone would accept: lines, lattices, artifacts, priors, rivals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from spalipy_astro import AmbiguousMatchError, NoMatchError, find_alignment
from spalipy_astro.fitting import fit_backward
from spalipy_astro.matching import Priors, StarField, match_stars
from spalipy_astro.matching._acceptance import _at_least, _on_few_lines
from spalipy_astro.matching._bounds import Bounds
from spalipy_astro.matching._growth import _account, _match
from spalipy_astro.matching._search import _Search
from spalipy_astro.registration._verify import good_box, verify

SHAPE = (800, 1000)  # ny, nx


def turned(xy, degrees=0.0, scale=1.0, shift=(0.0, 0.0), mirrored=False):
    """A similarity about the middle of the frame."""
    center = (np.array(SHAPE[::-1]) - 1) / 2
    z = (xy - center) @ (1, 1j)
    z = scale * np.exp(1j * np.radians(degrees)) * (z.conj() if mirrored else z)
    return np.column_stack((z.real, z.imag)) + center + shift


def sky(rng, n):
    return rng.uniform(0, 1, (n, 2)) * SHAPE[::-1]


def field(xy, err=0.1):
    return StarField(xy, np.full(len(xy), err))


def noisy(rng, xy, sigma=0.1):
    return xy + rng.normal(0, sigma, xy.shape)


def linear_part(match, source, template):
    """Scale, rotation and the image of the frame's middle."""
    from spalipy_astro.fitting import fit_linear

    matrix, offset = fit_linear(source[match.source], template[match.template])
    center = (np.array(SHAPE[::-1]) - 1) / 2
    angle = np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
    return np.sqrt(abs(np.linalg.det(matrix))), angle, matrix @ center + offset - center


# Lines


def chain(rng, n, start, end):
    t = np.sort(rng.uniform(0, 1, n))[:, np.newaxis]
    return np.array(start) + t * np.subtract(end, start) + rng.normal(0, 0.3, (n, 2))


@pytest.mark.parametrize("seed", range(5))
def test_chains_of_points_match_nothing(seed):
    """Trails of two frames without a common star: any scale along the line has good odds."""
    rng = np.random.default_rng([1, seed])
    lists = [
        np.concatenate((chain(rng, 120, (0, rng.uniform(0, 800)), (1000, rng.uniform(0, 800))), s))
        for s in (sky(rng, 20), sky(rng, 20))
    ]
    with pytest.raises(NoMatchError):
        match_stars(*(field(xy[rng.permutation(len(xy))], 0.3) for xy in lists))


def test_points_on_a_line_do_not_count():
    rng = np.random.default_rng(2)
    line = np.column_stack((np.linspace(100, 900, 12), np.linspace(300, 420, 12)))
    strung = _on_few_lines(np.concatenate((line, sky(rng, 15))))
    assert strung[:12].all()
    assert np.count_nonzero(strung[12:]) <= 1
    # of 40 random points no line is more than chance
    assert not any(_on_few_lines(sky(np.random.default_rng(k), 40)).any() for k in range(50))


def test_rows_of_a_lattice_do_count():
    x, y = np.meshgrid(np.arange(50, 950, 60.0), np.arange(50, 750, 60.0))
    lattice = np.column_stack((x.ravel(), y.ravel()))
    assert np.mean(_on_few_lines(lattice)) < 0.1


@pytest.mark.parametrize("mean", [0.0, 0.5, 62.0])
def test_chance_of_many_on_a_line(mean):
    chances = _at_least(mean)
    np.testing.assert_allclose(chances[1:64], special.pdtrc(np.arange(63), mean), rtol=1e-12)
    assert chances[0] == pytest.approx(1.0)


# Lattices: a template that looks like itself when it is moved


def lattice(rng, jitter):
    x, y = np.meshgrid(np.arange(30, 1000, 40.0), np.arange(30, 800, 40.0))
    xy = np.column_stack((x.ravel(), y.ravel()))
    return xy + rng.normal(0, jitter, xy.shape)


def test_own_shifts_are_those_of_the_lattice():
    shifts = field(lattice(np.random.default_rng(3), 0.1), 0.05).own_shifts
    assert len(shifts) > 4
    nearest = np.round(shifts / 40) * 40
    np.testing.assert_allclose(shifts, nearest, atol=0.3)
    assert [0.0, 0.0] not in nearest.tolist()
    assert not len(field(sky(np.random.default_rng(4), 400)).own_shifts)


def test_regular_lattice_is_ambiguous():
    rng = np.random.default_rng(5)
    dots = lattice(rng, 0.0)
    lists = [noisy(rng, xy, 0.02) for xy in (dots, dots + np.array([7.0, -4.0]))]
    lists = [field(xy[rng.permutation(len(xy))], 0.02) for xy in lists]
    shapes = {"source_shape": SHAPE, "template_shape": SHAPE}
    with pytest.raises(AmbiguousMatchError, match=r"offset .* and .* offset") as caught:
        match_stars(*lists, **shapes)
    assert caught.value.log_odds > caught.value.rival_log_odds > 100
    match = match_stars(*lists, priors=Priors(rotation=(-5, 5), max_shift=18, parity=1), **shapes)
    shift = lists[1].xy[match.template] - lists[0].xy[match.source]
    np.testing.assert_allclose(np.median(shift, axis=0), [7.0, -4.0], atol=0.02)


def test_lattice_matched_at_twice_its_pitch_is_told_from_the_truth():
    """Every second dot falls on another at half the scale: the search may find that first."""
    rng = np.random.default_rng(6)
    dots = lattice(rng, 0.0)
    source, template = (
        field(noisy(rng, xy, 0.02), 0.02) for xy in (dots, dots + np.array([7.0, -4.0]))
    )
    priors = Priors(rotation=(-5, 5), max_shift=18, parity=1)
    search = _Search(source, template, Bounds(priors, source, template, SHAPE, SHAPE))
    middle = dots[np.argmin(np.hypot(*(dots - dots.mean(axis=0)).T))]
    target = template.xy[np.argmin(np.hypot(*(dots - middle).T))]
    distance, nearest = template.neighbors().nearest(target + 0.5 * (dots - middle))
    good = np.flatnonzero(distance < 1)
    wrong = search._record((good, nearest[good]), 0.5, 1)
    assert search.best is wrong
    best = search.settle()
    np.testing.assert_allclose(best.matrix, np.eye(2), atol=1e-3)
    np.testing.assert_allclose(best.offset, [7.0, -4.0], atol=0.1)


def test_irregular_lattice_is_told_by_its_irregularity():
    rng = np.random.default_rng(6)
    dots = lattice(rng, 0.3)
    lists = [noisy(rng, xy, 0.02) for xy in (dots, dots + np.array([7.0, -4.0]))]
    lists = [field(xy[rng.permutation(len(xy))], 0.02) for xy in lists]
    match = match_stars(*lists)
    shift = lists[1].xy[match.template] - lists[0].xy[match.source]
    np.testing.assert_allclose(shift, np.tile([7.0, -4.0], (len(shift), 1)), atol=0.2)


# What stands still


@pytest.mark.parametrize(("n_stars", "n_spots"), [(60, 100), (40, 100)])
def test_stars_that_move_beat_spots_that_stand_still(n_stars, n_spots):
    rng = np.random.default_rng([7, n_stars])
    stars, spots = sky(rng, n_stars), sky(rng, n_spots)
    moved = turned(stars, 1.3, shift=(21.0, -14.0))
    lists = [noisy(rng, np.concatenate(pair), 0.05) for pair in ((spots, stars), (spots, moved))]
    shapes = {"source_shape": SHAPE, "template_shape": SHAPE}
    match = match_stars(*(field(xy) for xy in lists), **shapes)
    scale, angle, shift = linear_part(match, *lists)
    assert scale == pytest.approx(1, abs=1e-3)
    assert angle == pytest.approx(1.3, abs=0.02)
    np.testing.assert_allclose(shift, [21.0, -14.0], atol=0.1)


def test_few_stars_that_move_make_it_ambiguous():
    rng = np.random.default_rng(8)
    stars, spots = sky(rng, 8), sky(rng, 100)
    moved = turned(stars, 1.3, shift=(21.0, -14.0))
    lists = [noisy(rng, np.concatenate(pair), 0.05) for pair in ((spots, stars), (spots, moved))]
    with pytest.raises(AmbiguousMatchError, match="mask for whatever does not move"):
        match_stars(*(field(xy) for xy in lists))


def test_frames_that_are_aligned_already_match():
    rng = np.random.default_rng(9)
    stars = sky(rng, 60)
    lists = [noisy(rng, np.concatenate((stars, sky(rng, 15))), 0.05) for _ in range(2)]
    match = match_stars(*(field(xy) for xy in lists))
    assert len(match.source) >= 58
    np.testing.assert_array_equal(match.source, match.template)


def test_landscape_is_refused_unless_the_frames_are_said_to_be_aligned():
    rng = np.random.default_rng(10)
    fixed = rng.uniform((0, 0), (1000, 380), (40, 2))
    template, source = noisy(rng, fixed, 0.05), noisy(rng, fixed, 0.05)
    fit = fit_backward(
        source, template, source_err=np.full(40, 0.05), template_err=np.full(40, 0.05)
    )
    whole = (-0.5, -0.5, 999.5, 799.5)
    known = {"source_shape": SHAPE, "template_shape": SHAPE, "log_odds": 100.0}
    with pytest.raises(NoMatchError, match=r"stand still, .* y = [0-9]+ and 3[0-9][0-9].*mask"):
        verify(fit, source, template, boxes=(whole, whole), **known)
    verify(fit, source, template, boxes=None, **known)
    # where only this part has good pixels, nothing is missing
    verify(fit, source, template, boxes=(whole, (-0.5, -0.5, 999.5, 390.0)), **known)


def test_good_box():
    data = np.ones((200, 300))
    data[:, :100] = np.nan
    mask = np.zeros(data.shape, bool)
    mask[160:] = True
    x0, y0, x1, y1 = good_box(data, mask)
    assert 96 <= x0 <= 104
    assert y0 == 0
    assert x1 == 299
    assert 152 <= y1 <= 168


# Priors bind the result


@pytest.mark.parametrize(
    ("right", "wrong", "word"),
    [
        ({"scale": (0.95, 1.05)}, {"scale": (1.1, 1.5)}, "scale"),
        ({"rotation": (20, 40)}, {"rotation": (60, 80)}, "rotation"),
        ({"parity": 1}, {"parity": -1}, "parity"),
        ({"max_shift": 60}, {"max_shift": 20}, "shift"),
    ],
)
def test_results_keep_to_the_priors(right, wrong, word):
    rng = np.random.default_rng(11)
    stars = sky(rng, 60)
    lists = noisy(rng, stars, 0.05), noisy(rng, turned(stars, 30, shift=(40, 10)), 0.05)
    one, two = map(field, lists)
    shapes = {"source_shape": SHAPE, "template_shape": SHAPE}
    assert len(match_stars(one, two, priors=Priors(**right), **shapes).source) > 40
    with pytest.raises(NoMatchError):
        match_stars(one, two, priors=Priors(**wrong), **shapes)
    bounds = Bounds(Priors(**wrong), one, two, SHAPE, SHAPE)
    a = np.radians(30)
    matrix = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    center = (np.array(SHAPE[::-1]) - 1) / 2
    offset = center + np.array([40, 10]) - matrix @ center
    assert word in bounds.objection(matrix, offset, 0.0)
    assert Bounds(Priors(**right), one, two, SHAPE, SHAPE).objection(matrix, offset, 0.0) is None


def test_default_range_of_scales_binds_too():
    rng = np.random.default_rng(12)
    stars = sky(rng, 50)
    with pytest.raises(NoMatchError):
        match_stars(field(stars), field(turned(stars, scale=12.0), 0.5))


def test_max_shift_of_lists_is_between_positions():
    """Lists have no frame: turned about one point, some position hardly moves."""
    for seed in range(10):
        rng = np.random.default_rng([13, seed])
        stars = rng.uniform(0, 500, (12, 2))
        a = np.radians(50)
        turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        image = (stars - 250) @ turn.T + 250 + [10, -20]
        assert len(match_stars(field(stars), field(image), priors=Priors(max_shift=80)).source) > 8
        far = image + np.array([1000, 0])
        with pytest.raises(NoMatchError):
            match_stars(field(stars), field(far), priors=Priors(max_shift=80))


def test_priors_pay_for_hypotheses():
    """The number of hypotheses that chance has left, worked out by hand."""
    stars = sky(np.random.default_rng(14), 10)
    stars[:2] = [[0, 0], [999, 799]]  # the box of the lists is the frame

    def log_trials(**priors):
        return Bounds(Priors(**priors), field(stars), field(stars), SHAPE, SHAPE).log_trials()

    free = np.log(2 * 10 * 9 * 10 * 9)
    assert log_trials() == pytest.approx(free)
    assert log_trials(parity=1) == pytest.approx(free - np.log(2))
    # 3 degrees more on either side, for hypotheses that are not exact
    assert log_trials(rotation=(-2, 2)) == pytest.approx(free + np.log(10 / 360))
    # the ratio of two random distances: at most 0.6 per unit of its logarithm
    ratio = 0.6 * np.log(1.01 / 0.99 * 1.05**2)
    assert log_trials(scale=(0.99, 1.01)) == pytest.approx(free + np.log(ratio))
    reach = 30 + 0.05 * np.hypot(1000, 800) / 2
    share = np.pi * reach**2 / (1000 * 800)
    assert log_trials(max_shift=30) == pytest.approx(free + np.log(share))


def test_three_stars_do_where_the_pointing_is_known():
    done = 0
    for seed in range(20):
        rng = np.random.default_rng([15, seed])
        stars = rng.uniform(100, 900, (3, 2))
        image = noisy(rng, turned(stars, 2.0, shift=(12, -7)), 0.02)
        one, two = field(noisy(rng, stars, 0.02), 0.02), field(image, 0.02)
        priors = Priors(scale=(0.99, 1.01), rotation=(1, 3), parity=1, max_shift=30)
        match = match_stars(one, two, priors=priors)
        done += len(match.source) == 3 and np.array_equal(match.source, match.template)
        with pytest.raises(NoMatchError):
            match_stars(one, two)
    assert done >= 19


def test_three_unrelated_stars_do_not_match_where_the_pointing_is_known():
    priors = Priors(scale=(0.99, 1.01), rotation=(-1, 1), parity=1, max_shift=30)
    for seed in range(300):
        rng = np.random.default_rng([16, seed])
        n, m = rng.integers(3, 12, 2)
        with pytest.raises(NoMatchError):
            match_stars(field(sky(rng, n), 0.05), field(sky(rng, m), 0.05), priors=priors)


# Perseverance


@pytest.mark.parametrize(("common", "total"), [(10, 33), (10, 50), (30, 100), (36, 300)])
def test_lists_that_have_little_in_common(common, total):
    done = 0
    for seed in range(4):
        rng = np.random.default_rng([17, total, seed])
        stars = rng.uniform(150, 650, (common, 2))
        lists = []
        for xy in (stars, turned(stars, 77)):
            xy = np.concatenate((noisy(rng, xy, 0.05), sky(rng, total - common)))
            lists.append(xy[np.argsort(np.random.default_rng(seed).uniform(size=total))])
        match = match_stars(*map(field, lists))
        scale, angle, _ = linear_part(match, *lists)
        done += abs(angle - 77) < 0.1 and abs(scale - 1) < 1e-3
    assert done >= 3


# The result


def test_transform_that_folds_the_image_is_refused():
    rng = np.random.default_rng(18)
    template = sky(rng, 80)
    bend = 0.6 * (template[:, :1] - 500) ** 2 / 500 * [1.0, 0.0]  # turns back beyond x = 83
    fit = fit_backward(template + bend, template, smoothing=1e-6)
    with pytest.raises(NoMatchError, match="folds the image"):
        verify(
            fit,
            template + bend,
            template,
            source_shape=(3000, 3000),
            template_shape=SHAPE,
            boxes=None,
            log_odds=50.0,
        )


def test_transform_that_is_uncertain_is_refused():
    rng = np.random.default_rng(19)
    template = rng.uniform(0, 12, (5, 2))  # a corner says little of the frame
    source = noisy(rng, template, 0.3)
    errors = {"source_err": np.full(5, 0.3), "template_err": np.full(5, 0.3)}
    fit = fit_backward(source, template, **errors)
    known = {"source_shape": SHAPE, "template_shape": SHAPE, "boxes": None, "log_odds": 20.0}
    with pytest.raises(NoMatchError, match=r"uncertain by [0-9.]+ px"):
        verify(fit, source, template, **known)


def test_flashes_in_catalogs_are_left_out():
    rng = np.random.default_rng(20)
    stars = sky(rng, 40)
    t = np.arange(12.0)[:, np.newaxis]
    skies = [
        np.concatenate((start + t * step, xy))
        for xy, start, step in (
            (stars, [100.0, 200.0], [65.0, 31.0]),
            (turned(stars, 10), [900.0, 100.0], [-50.0, 44.0]),
        )
    ]
    alignment = find_alignment(*(noisy(rng, xy, 0.05) for xy in skies))
    assert alignment.summary()["rotation"] == pytest.approx(10, abs=0.05)
    assert min(alignment.matches["source_row"]) >= 12


# Crowded fields


def test_choice_among_many_predictions_is_no_evidence():
    """Of 150 predictions for each star one is very near: all of them count for the odds."""
    evidence = []
    for seed in range(6):
        rng = np.random.default_rng([21, seed])
        template = field(sky(rng, 400), 0.3)
        predicted, sigma = sky(rng, 60_000), np.full(60_000, 0.2)
        matched, partner, ratios = _match(template, predicted, sigma, len(template))
        assert len(matched) > 100  # by chance
        grown = _account(
            np.arange(60_000), matched, partner, ratios, predicted, sigma, 3.0, 400, template
        )
        assert grown.expected <= 400
        evidence.append(grown.evidence)
    assert max(evidence) < 0


# Parts of a frame that lie elsewhere


def test_chips_that_lie_elsewhere_in_the_other_frame_are_told():
    """One half was matched, with an expected error of 0.1 px, and the other half was off."""
    rng = np.random.default_rng(31)
    source = sky(rng, 60)
    template = turned(source, 3)
    template[source[:, 0] > 560, 1] += 20
    with pytest.raises(AmbiguousMatchError, match="two transforms"):
        match_stars(field(noisy(rng, source)), field(noisy(rng, template)))


def test_a_jump_of_the_telescope_leaves_other_images_of_the_same_stars():
    rng = np.random.default_rng(32)
    source = sky(rng, 60)
    template = turned(source, 3)
    twice = np.concatenate((source, source[:45] + np.array([9.0, 4.0])))
    match = match_stars(field(noisy(rng, twice)), field(noisy(rng, template)))
    assert np.count_nonzero(match.source == match.template) > 55
