"""The joint solution: its algebra, its errors, and groups of many frames."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning

from spalipy_astro import FormatError, align_group
from spalipy_astro.groups import _component, _tracks
from spalipy_astro.groups._blocks import Blocks, Factored, levels_of
from spalipy_astro.groups._component import solve_component
from spalipy_astro.groups._graph import Link, chain, closing
from spalipy_astro.groups._joint import JointErrors, place_group, solve_group
from spalipy_astro.groups._layout import Labels, start
from spalipy_astro.groups._tracks import join, merge
from spalipy_astro.registration import prepare


def random_blocks(rng, n=30, wide=6):
    """Return parts that are coupled with near ones, and the whole matrix."""
    sizes = rng.integers(3, 12, n).tolist()
    start = np.cumsum([0, *sizes])
    dense, blocks = np.zeros((start[-1],) * 2), {}
    order = rng.permutation(n)
    for a in range(n):
        for b in range(a + 1):
            if a == b or abs(order[a] - order[b]) < wide:
                block = rng.normal(size=(sizes[a], sizes[b]))
                block = block @ block.T + 150 * np.eye(sizes[a]) if a == b else block
                blocks[a, b] = block
                dense[start[a] : start[a + 1], start[b] : start[b + 1]] = block
                dense[start[b] : start[b + 1], start[a] : start[a + 1]] = block.T
    return Blocks(sizes, blocks), dense


def test_blocks_are_a_matrix():
    rng = np.random.default_rng(1)
    matrix, dense = random_blocks(rng)
    assert len(matrix.levels) > 1
    assert np.array_equal(matrix.dense(), dense)
    penalty = rng.uniform(0, 5, len(dense))
    inverse = np.linalg.inv(dense + np.diag(penalty))
    factored = Factored(matrix, penalty)
    right = rng.normal(size=(len(dense), 2))
    assert np.allclose(factored.solve(right), inverse @ right, rtol=0, atol=1e-10)
    for k, block in enumerate(factored.inverse_blocks()):
        part = matrix.columns(k)
        assert np.allclose(block, inverse[part, part], rtol=0, atol=1e-11)
    some = np.array([3, 50, 51, len(dense) - 1])
    assert np.allclose(factored.inverse_of(some), inverse[np.ix_(some, some)], atol=1e-11)


def test_levels_are_coupled_with_the_next_ones_only():
    grid = np.arange(12 * 5).reshape(12, 5)
    pairs = np.vstack(
        (
            np.column_stack((grid[1:].ravel(), grid[:-1].ravel())),
            np.column_stack((grid[:, 1:].ravel(), grid[:, :-1].ravel())),
            [(60, 61)],
        )
    )
    levels = levels_of(62, pairs)
    place = {k: n for n, level in enumerate(levels) for k in level}
    assert sorted(place) == list(range(62))
    assert all(abs(place[a] - place[b]) <= 1 for a, b in pairs.tolist())
    assert max(map(len, levels)) <= 5


def known_links(lists, frames):
    """Link frames by stars of one flux, which is that of one star of the sky."""
    names = [{f: k for k, f in enumerate(frame.stars.flux)} for frame in frames]
    links = []
    for j in range(len(lists)):
        for i in range(j):
            common = sorted(names[i].keys() & names[j].keys())
            if len(common) >= 6:
                one, two = (np.array([names[k][f] for f in common]) for k in (i, j))
                xy = frames[i].stars.xy, frames[j].stars.xy
                links.append(Link.of(i, j, *xy, one, two, 100.0))
    return sorted(links, key=lambda link: -len(link.stars_i))


def solved(drawn, truths, seed, root, **options):
    lists = drawn.scene(truths, seed, density=120, error=options.pop("error", 0.03))
    frames = [prepare(table) for table in lists]
    links = known_links(lists, frames)
    options = {"labels": Labels(), "lone": {}, "spline_order": 5, "options": {}, **options}
    return solve_component(frames, links, root, **options), links


@pytest.fixture(scope="module")
def many(drawn):
    """Forty frames, too many for one dense matrix, with a distortion each."""
    truths = drawn.panels(3, nx=8, ny=5)
    rng = np.random.default_rng(4)
    for truth in truths:
        truth.bend = rng.normal(0, 2)
    truths[20].bend = 0.0
    return truths, solved(drawn, truths, 5, 20, error=0.2)[0]


def test_forty_frames_have_a_distortion_each(many, drawn):
    _, part = many
    assert sorted(part.alignments) == list(range(40))
    assert not part.dropped
    bent = [a.summary()["distortion"] for k, a in part.alignments.items() if k != 20]
    assert np.median(bent) > 0.5
    assert np.median([rms for _, rms in part.links]) < 0.45  # 2 axes of 2 stars of 0.2 px: 0.4


def test_errors_of_stars_do_not_make_the_group_shrink(many, drawn):
    truths, part = many
    errors, stated = [], []
    for k, alignment in part.alignments.items():
        if k != 20:
            gap = np.column_stack(alignment.transform(*drawn.GRID.T)) - truths[20].back(
                truths[k](drawn.GRID)
            )
            errors.append(drawn.rms(gap))
            stated.append(np.sqrt(2 * np.mean(alignment.error(*drawn.GRID.T) ** 2)))
    assert 0.3 < np.sqrt(np.mean(np.divide(errors, stated) ** 2)) < 1.3  # it was 1.7


def test_coarser_distortions_and_then_none(many, drawn, monkeypatch):
    truths, _ = many
    few = truths[:3] + truths[8:11]
    monkeypatch.setattr(_component, "_WIDEST", 2 * 16)
    part, _ = solved(drawn, few, 6, 1)
    term = part.alignments[0]._errors[0].covariance
    assert (term.space.n_x, term.space.degree) == (4, 3)
    monkeypatch.setattr(_component, "_WIDEST", 10)
    with pytest.warns(AstropyUserWarning, match="affine, without distortions"):
        part, _ = solved(drawn, few, 6, 1)
    assert max(a.summary()["distortion"] for a in part.alignments.values()) < 1e-6


def test_errors_that_add_up_along_a_chain_cost_no_links(drawn):
    truths = drawn.panels(7, nx=20, ny=2)
    rng = np.random.default_rng(8)
    lists = drawn.scene(truths, 9, density=60)
    for table in lists:
        for name in ("x", "y"):
            table[name] += rng.normal(0, 1.7, len(table))
            table[f"{name}_err"] = 1.7
    frames = [prepare(table) for table in lists]
    links = known_links(lists, frames)
    _, dropped = closing(links, chain(0, links), frames)
    assert dropped  # by the chain alone
    part = solve_component(frames, links, 0, labels=Labels(), lone={}, spline_order=0, options={})
    assert not part.dropped


def test_frames_joined_in_turn_give_the_same_tracks(drawn, monkeypatch):
    rng = np.random.default_rng(10)
    sky = rng.uniform(0, 1000, (150, 2))
    at = {k: sky[rng.permutation(150)[:100]] + rng.normal(0, 0.05, (100, 2)) for k in range(5)}
    err = {k: np.full(100, 0.05) for k in at}

    def sets(tracks):
        return {
            frozenset(
                zip(tracks.frame[tracks.track == t], tracks.star[tracks.track == t], strict=True)
            )
            for t in np.unique(tracks.track)
        }

    expected = sets(join(at, err, 0.1))
    monkeypatch.setattr(_tracks, "_MOST_PAIRS", 0)
    assert sets(join(at, err, 0.1)) == expected
    assert len(expected) > 140


def test_pairs_that_come_first_decide_what_is_one_star():
    frame, star = np.array([0, 1, 2, 1, 0, 2]), np.array([0, 0, 0, 1, 1, 1])
    pairs = np.array([(0, 1), (2, 3), (1, 2), (4, 5)])  # a chain with two stars of frame 1

    def sets(tracks):
        pairs = list(zip(tracks.frame.tolist(), tracks.star.tolist(), strict=True))
        numbers = tracks.track.tolist()
        return {
            frozenset(p for p, n in zip(pairs, numbers, strict=True) if n == m) for m in numbers
        }

    last = frozenset({(0, 1), (2, 1)})
    assert sets(merge(frame, star, pairs)) == {
        frozenset({(0, 0), (1, 0)}),
        frozenset({(2, 0), (1, 1)}),
        last,
    }
    again = merge(frame, star, pairs[[2, 0, 1, 3]])
    assert sets(again) == {frozenset({(0, 0), (1, 0), (2, 0)}), last}


def test_a_star_that_many_frames_show_elsewhere_is_left_out_of_those():
    rng = np.random.default_rng(11)
    sky, n = rng.uniform(20, 480, (60, 2)), 20
    seen = sky + rng.normal(0, 0.03, (n, 60, 2))
    angle = 2 * np.pi * np.arange(9) / 9
    seen[:9, 7] += 0.9 * np.column_stack((np.cos(angle), np.sin(angle)))  # more than rounds
    table = {"flux": np.ones(60), "x_err": np.full(60, 0.03)}
    frames = [prepare(Table({"x": xy[:, 0], "y": xy[:, 1], **table})) for xy in seen]
    solution = start(frames, {k: np.eye(3, 2, -1) for k in range(n)}, 0, Labels())
    frame, track = np.repeat(np.arange(n), 60), np.tile(np.arange(60), n)
    errors = np.full(len(frame), 0.03)
    for solve in (place_group, solve_group):
        solved = solve(solution, frame, track, seen.reshape(-1, 2), errors, bent=False)
    left = np.flatnonzero(~solved.used)
    assert frame[left].tolist() == list(range(9))
    assert set(track[left]) == {7}
    gap = solution.apply(13, sky) - solution.apply(4, sky)
    assert np.hypot(*gap.T).max() < 0.04


def test_error_between_frames_leaves_out_what_they_share(drawn):
    truths, ratio, less = drawn.panels(3, nx=3, ny=1), [], []
    known = {"rotation": (-9, 9), "scale": (0.9, 1.1), "parity": 1}
    for seed in range(4):
        group = align_group(drawn.scene(truths, seed, density=80), reference=0, **known)
        pair = group.between(1, 2)
        there = truths[2].back(truths[1](drawn.GRID))
        both = drawn.GRID[there[:, 0] < drawn.NX]
        gap = np.column_stack(pair.transform(*both.T)) - truths[2].back(truths[1](both))
        ratio.append(np.mean(gap**2) / np.mean(pair.error(*both.T) ** 2))
        apart = group.alignments[1].then(group.alignments[2].inverse)
        less.append(np.mean(pair.error(*both.T)) / np.mean(apart.error(*both.T)))
    assert 0.6 < np.sqrt(np.mean(ratio)) < 1.5
    assert max(less) < 0.8
    assert group.between(1, 1).error(200.0, 300.0) < 1e-9
    own, same = group.alignments[1].error(*drawn.GRID.T), group.between(1, 0).error(*drawn.GRID.T)
    assert np.allclose(own, same, rtol=1e-6)
    # and so do alignments that are made of it
    x, y = pair.transform(300.0, 250.0)
    assert np.isclose(pair.inverse.error(x, y) * pair.scale, pair.error(300.0, 250.0), rtol=1e-6)
    moved = pair.cropped(source=np.s_[50:400, 100:500]) if pair.source_shape else pair
    assert np.isclose(moved.shifted(source=(5, 0)).error(305.0, 250.0), pair.error(300.0, 250.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"columns": [np.arange(3)]}, "unknowns of shape"),
        ({"columns": [np.array([0, 9])]}, "that there are not"),
    ],
)
def test_errors_of_files_that_do_not_go_together_are_refused(change, words):
    tree = {"sizes": [2], "pairs": [[0, 0]], "blocks": np.eye(2).ravel(), "noise": 1.0}
    tree |= {"frames": [4], "columns": [np.arange(2)], "slopes": [np.ones((1, 5, 2))]}
    assert JointErrors.from_tree(tree).factors(4)[0].shape == (5, 2)
    with pytest.raises(FormatError, match=words):
        JointErrors.from_tree({**tree, **change})
