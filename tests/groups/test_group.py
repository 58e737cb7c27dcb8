"""Groups of star lists and of images with known truth."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.table import Table

from spalipy_astro import FormatError, GroupAlignment, align_group
from spalipy_astro.groups._graph import Link, chain, closing, parts_of
from spalipy_astro.groups._tracks import merge


@pytest.mark.parametrize(
    ("turns", "flips"), [((0,), (1,)), ((0, 180, 90), (1,)), ((0, 37), (1, 1, -1))]
)
def test_panels_are_placed(drawn, turns, flips):
    truths = drawn.panels(1, turns, flips)
    group = align_group(drawn.scene(truths, 2))
    assert list(group.table["status"]) == ["ok"] * 6
    assert set(group.table["component"]) == {0}
    errors = drawn.errors_of(group, truths)
    assert errors[group.reference] < 1e-9
    assert errors.max() < 0.4  # in corners without stars of other frames
    assert np.median(errors) < 0.15


def test_stated_errors_are_true(drawn):
    truths, ratio = drawn.panels(3), []
    for seed in range(6):
        group = align_group(drawn.scene(truths, seed))
        errors = drawn.errors_of(group, truths)
        for k, alignment in enumerate(group.alignments):
            if k != group.reference:
                stated = np.sqrt(2 * np.mean(alignment.error(*drawn.GRID.T) ** 2))
                ratio.append(errors[k] / stated)
    assert 0.7 < np.sqrt(np.mean(np.square(ratio))) < 1.3


def test_islands_strangers_and_what_cannot_be_read(drawn, tmp_path):
    main, island = drawn.panels(4)[:4], drawn.panels(5, origin=(9000, 0))[:2]
    lists = drawn.scene(main, 6, density=60)
    other = drawn.scene(island, 7, density=60)
    alone = drawn.scene([drawn.Truth((0, 0))], 8, density=40)
    rng = np.random.default_rng(9)
    noise = Table({"x": rng.uniform(0, drawn.NX, 50), "y": rng.uniform(0, drawn.NY, 50)})
    broken = tmp_path / "broken.fits"
    broken.write_bytes(b"SIMPLE  =                    T")
    known = {"rotation": (-9, 9), "scale": (0.9, 1.1), "parity": 1}  # fails in less time
    group = align_group([*lists, *other, *alone, noise, broken], **known)
    assert list(group.table["component"]) == [0] * 4 + [1] * 2 + [-1] * 3
    assert list(group.table["status"]) == ["ok"] * 6 + ["failed"] * 3
    assert all(reason for reason in group.table["reason"][-3:])
    assert group.alignments[6:] == [None] * 3
    with pytest.raises(ValueError, match="not on one grid"):
        group.between(0, 4)


def test_camera_is_shared(drawn):
    steps = np.random.default_rng(10).uniform(-150, 150, (10, 2))
    truths = [drawn.Truth(s, 90 * (k % 3 == 2), bend=6.0) for k, s in enumerate(steps)]
    lists = drawn.scene(truths, 11)
    errors = drawn.errors_of(align_group(lists, camera="shared"), truths, flat=True)
    assert np.sqrt(np.mean(errors**2)) < 0.03


def test_what_shifts_do_not_determine_is_in_the_error(drawn):
    steps = np.random.default_rng(3).uniform(-120, 120, (8, 2))
    stated = {}
    for turn in (0, 90):
        truths = [drawn.Truth(s, turn * (k % 2), bend=6.0) for k, s in enumerate(steps)]
        group = align_group(drawn.scene(truths, 5), camera="shared", reference=0)
        stated[turn] = np.median(group.table["error"])
        true = np.median(drawn.errors_of(group, truths, flat=True))
        assert 0.4 < true / stated[turn] < 2.5
    assert stated[0] > 20 * stated[90]  # 0.6 and 0.01 px


def test_chips_keep_their_geometry(drawn):
    places = [(x, y) for y in (-260, 260) for x in (-310, 310)]
    moves = [(0, 0), (120, 90), (-110, 100), (115, -95)]
    truths = [drawn.Truth(np.add(p, m), 0.2 * k) for m in moves for k, p in enumerate(places)]
    # the exposures are not turned, so that a chip is turned as much in all of them
    group = align_group(
        drawn.scene(truths, 12), chips=[0, 1, 2, 3] * 4, exposures=sorted([0, 1, 2, 3] * 4)
    )
    assert drawn.errors_of(group, truths).max() < 0.05


def test_contradicting_link_is_dropped():
    square = np.array([[0.0, 0], [100, 0], [0, 100], [100, 100], [50, 20]])
    table = Table({"x": square[:, 0], "y": square[:, 1]})
    from spalipy_astro.registration import prepare

    frames = [prepare(table) for _ in range(3)]
    still = np.vstack((np.zeros(2), np.eye(2)))
    moved = np.vstack(([300.0, 0.0], np.eye(2)))
    stars = np.arange(5)
    good = [Link(0, 1, stars, stars, 50.0, still, 0.1), Link(1, 2, stars, stars, 50.0, still, 0.1)]
    # in frame 2 the stars of this one lie in another order: no shift brings them together
    bad = Link(0, 2, stars, stars[::-1].copy(), 20.0, moved, 0.1)
    placed = chain(0, [*good, bad])
    kept, dropped = closing([*good, bad], placed, frames)
    assert kept == good
    assert dropped == [bad]
    assert list(parts_of(4, good)) == [0, 0, 0, 1]


def test_track_has_one_star_of_a_frame():
    frame, star = np.array([0, 0, 1, 2]), np.array([0, 1, 0, 0])
    tracks = merge(frame, star, np.array([[0, 2], [2, 3], [1, 3]]))
    assert list(tracks.frame) == [0, 1, 2]
    assert list(tracks.star) == [0, 0, 0]


def test_file_holds_the_group(drawn, tmp_path):
    group = align_group(
        [
            *drawn.scene(drawn.panels(13)[:3], 14, density=80),
            drawn.scene([drawn.Truth((0, 0))], 15, density=80)[0],
        ]
    )
    group.write(tmp_path / "group.asdf")
    again = GroupAlignment.read(tmp_path / "group.asdf")
    assert again.reference == group.reference
    assert again.alignments[-1] is None
    assert (again.shape, again.offset) == (group.shape, group.offset)
    for one, two in zip(group.alignments[:-1], again.alignments[:-1], strict=True):
        assert np.array_equal(one.transform(*drawn.GRID.T), two.transform(*drawn.GRID.T))
        assert np.array_equal(one.error(*drawn.GRID.T), two.error(*drawn.GRID.T))
    assert list(again.table["component"]) == list(group.table["component"])
    assert list(again.links["n_matched"]) == list(group.links["n_matched"])
    (tmp_path / "other.asdf").write_text("no file of this kind")
    with pytest.raises(FormatError, match=r"GroupAlignment\.write"):
        GroupAlignment.read(tmp_path / "other.asdf")


def test_same_input_same_output_and_loops_close(drawn):
    truths = drawn.panels(16)
    lists = drawn.scene(truths, 17)
    one, two = align_group(lists), align_group(lists)
    for a, b in zip(one.alignments, two.alignments, strict=True):
        assert np.array_equal(a.transform(*drawn.GRID.T), b.transform(*drawn.GRID.T))
    around = one.between(0, 1).then(one.between(1, 4)).then(one.between(4, 0))
    assert np.allclose(around.transform(300.0, 200.0), (300.0, 200.0), atol=1e-6)


def image_of(drawn, truth, sky, flux, level, rng):
    y, x = np.mgrid[: drawn.NY, : drawn.NX]
    data = np.full((drawn.NY, drawn.NX), float(level))
    for (a, b), f in zip(truth.back(sky), flux, strict=True):
        near = (slice(max(0, int(b) - 9), int(b) + 10), slice(max(0, int(a) - 9), int(a) + 10))
        if -9 < a < drawn.NX + 9 and -9 < b < drawn.NY + 9:
            r2 = (x[near] - a) ** 2 + (y[near] - b) ** 2
            data[near] += f / (2 * np.pi * 1.3**2) * np.exp(-r2 / (2 * 1.3**2))
    return CCDData(rng.poisson(data).astype(np.float32), unit="electron")


def test_canvas_has_no_seams(drawn):
    rng = np.random.default_rng(18)
    truths = [drawn.Truth((0, 0)), drawn.Truth((420, 15), 2.0), drawn.Truth((200, 370), -1.0)]
    sky, flux = rng.uniform((-350, -300), (750, 650), (500, 2)), rng.uniform(5e3, 5e4, 500)
    levels = (200, 350, 260)
    images = [image_of(drawn, t, sky, flux, v, rng) for t, v in zip(truths, levels, strict=True)]
    group = align_group(images, reference=0)
    canvas, footprint = group.coadd(images)
    assert canvas.shape == group.shape
    assert footprint.max() == 3
    typical = [np.median(canvas.data[footprint == n]) for n in (1, 2, 3)]
    assert np.allclose(typical, 200, atol=4)
    at = np.rint(truths[0].back(sky) - group.offset).astype(int)
    lone = [k for k in range(500) if np.hypot(*(np.delete(sky, k, 0) - sky[k]).T).min() > 20]
    ratio = []
    for k in lone:
        part = np.s_[at[k, 1] - 7 : at[k, 1] + 8, at[k, 0] - 7 : at[k, 0] + 8]
        if at[k].min() > 7 and (data := canvas.data[part]).shape == (15, 15):
            if np.isfinite(data).all():
                ratio.append((np.sum(data - 200.0)) / flux[k])
    assert len(ratio) > 50
    assert abs(np.median(ratio) - 1) < 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": 9}, "reference is 'best' or an index from 0 to 5; got 9"),
        ({"camera": "mine"}, "camera is 'shared', a distortion .*got 'mine'"),
        ({"camera": [0, 1]}, "camera has 2 labels for 6 images"),
        ({"chips": [0] * 6}, "chips and exposures go together"),
        ({"chips": [0] * 6, "exposures": [0, 1, 2, 3, 4, 0]}, "image 5 has the chip"),
    ],
)
def test_misuse_is_explained(drawn, options, message):
    with pytest.raises(ValueError, match=message):
        align_group(drawn.scene(drawn.panels(1), 2), **options)


@pytest.mark.parametrize(("i", "error"), [(9, ValueError), (-1, ValueError), ("a", TypeError)])
def test_frames_that_there_are_not_have_nothing_between(drawn, i, error):
    group = align_group(drawn.scene(drawn.panels(4)[:2], 5))
    with pytest.raises(error, match=r"^i is a frame's number, 0 to 1"):
        group.between(i, 0)
    with pytest.raises(error, match=r"^k is a frame's number, 0 to 1"):
        group.window(i)


def test_where_nothing_is_connected_the_error_says_why():
    group = align_group([np.zeros((60, 70), bool), np.full((60, 70), 5.0)])
    assert list(group.table["status"]) == ["failed", "failed"]
    with pytest.raises(ValueError, match=r"no two frames.*image 0: .*of type bool"):
        group.coadd([np.zeros((60, 70))] * 2)
    with pytest.raises(TypeError, match=r"^images .*got a dict"):
        align_group({"a": np.zeros((60, 70)), "b": np.zeros((60, 70))})


def test_labels_may_come_one_by_one(drawn):
    lists = drawn.scene(drawn.panels(4)[:2], 5)
    group = align_group(lists, camera=iter("ab"))
    assert list(group.table["status"]) == ["ok", "ok"]
