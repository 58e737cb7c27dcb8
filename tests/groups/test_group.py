"""Groups of star lists and of images with known truth."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.table import Table

from spalipy_astro import FormatError, GroupAlignment, align_group
from spalipy_astro.groups._graph import Link, chain, closing, parts_of
from spalipy_astro.groups._tracks import merge

NX, NY = 600, 500
MIDDLE = np.array([NX - 1, NY - 1]) / 2
ERROR = 0.03


class Truth:
    """A frame: sky = center + turned (point - middle, bent)."""

    def __init__(self, center, degrees=0.0, scale=1.0, flip=1, bend=0.0):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        self.matrix = scale * np.array([[c, -s], [s, c]]) @ np.diag([1, flip])
        self.center, self.bend = np.asarray(center, float), bend

    def bent(self, u):
        r2 = np.sum(u**2, axis=1, keepdims=True) / np.sum(MIDDLE**2)
        return u * (1 + self.bend * r2 / np.hypot(*MIDDLE))

    def __call__(self, xy):
        return self.center + self.bent(xy - MIDDLE) @ self.matrix.T

    def back(self, sky):
        flat = (sky - self.center) @ np.linalg.inv(self.matrix).T
        u = flat
        for _ in range(30):
            u = u + flat - self.bent(u)
        return u + MIDDLE


def observe(truth, sky, flux, rng, error=ERROR):
    xy = truth.back(sky)
    inside = np.all((xy > 0) & (xy < (NX - 1, NY - 1)), axis=1)
    xy = xy[inside] + rng.normal(0, error, (np.count_nonzero(inside), 2))
    columns = {"x": xy[:, 0], "y": xy[:, 1], "flux": flux[inside]}
    return Table({**columns, "x_err": np.full(len(xy), error), "y_err": np.full(len(xy), error)})


def scene(frames, seed, density=200):
    rng = np.random.default_rng(seed)
    corners = np.concatenate([f(np.array([[0, 0], [NX, 0], [0, NY], [NX, NY]])) for f in frames])
    low, high = corners.min(axis=0), corners.max(axis=0)
    n = int(density * np.prod(high - low) / (NX * NY))
    sky, flux = rng.uniform(low, high, (n, 2)), rng.uniform(1e-3, 1, n) ** -1.2
    return [observe(f, sky, flux, rng) for f in frames]


def panels(seed, turns=(0,), flips=(1,), origin=(0, 0)):
    rng = np.random.default_rng(seed)
    return [
        Truth(
            np.add(origin, [x * 0.78 * NX, y * 0.78 * NY]) + rng.uniform(-5, 5, 2),
            rng.uniform(-3, 3) + turns[k % len(turns)],
            flip=flips[k % len(flips)],
        )
        for k, (x, y) in enumerate((i, j) for j in range(2) for i in range(3))
    ]


GRID = np.column_stack(
    [c.ravel() for c in np.meshgrid(np.linspace(0, NX, 9), np.linspace(0, NY, 9))]
)


def errors_of(group, truths, flat=False):
    """Rms error of each frame over its area, px, on the grid of its component's reference."""
    top = truths[group.reference]
    found = []
    for alignment, truth in zip(group.alignments, truths, strict=True):
        images = np.column_stack(alignment.transform(*GRID.T))
        found.append((images, truth(GRID)))
    if flat:
        images, sky = found[group.reference]
        fit = np.linalg.lstsq(np.column_stack((np.ones(len(images)), images)), sky, rcond=None)[0]
        gaps = [fit[0] + images @ fit[1:] - sky for images, sky in found]
    else:
        gaps = [images - top.back(sky) for images, sky in found]
    return np.array([np.sqrt(np.mean(np.sum(gap**2, axis=1))) for gap in gaps])


@pytest.mark.parametrize(
    ("turns", "flips"), [((0,), (1,)), ((0, 180, 90), (1,)), ((0, 37), (1, 1, -1))]
)
def test_panels_are_placed(turns, flips):
    truths = panels(1, turns, flips)
    group = align_group(scene(truths, 2))
    assert list(group.table["status"]) == ["ok"] * 6
    assert set(group.table["component"]) == {0}
    errors = errors_of(group, truths)
    assert errors[group.reference] < 1e-9
    assert errors.max() < 0.4  # in corners without stars of other frames
    assert np.median(errors) < 0.15


def test_stated_errors_are_true():
    truths, ratio = panels(3), []
    for seed in range(6):
        group = align_group(scene(truths, seed))
        errors = errors_of(group, truths)
        for k, alignment in enumerate(group.alignments):
            if k != group.reference:
                stated = np.sqrt(2 * np.mean(alignment.error(*GRID.T) ** 2))
                ratio.append(errors[k] / stated)
    assert 0.7 < np.sqrt(np.mean(np.square(ratio))) < 1.3


def test_islands_strangers_and_what_cannot_be_read(tmp_path):
    main, island = panels(4)[:4], panels(5, origin=(9000, 0))[:2]
    lists = scene(main, 6, density=60)
    other = scene(island, 7, density=60)
    alone = scene([Truth((0, 0))], 8, density=40)
    rng = np.random.default_rng(9)
    noise = Table({"x": rng.uniform(0, NX, 50), "y": rng.uniform(0, NY, 50)})
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


def test_camera_is_shared():
    steps = np.random.default_rng(10).uniform(-150, 150, (10, 2))
    truths = [Truth(s, 90 * (k % 3 == 2), bend=6.0) for k, s in enumerate(steps)]
    lists = scene(truths, 11)
    errors = errors_of(align_group(lists, camera="shared"), truths, flat=True)
    assert np.sqrt(np.mean(errors**2)) < 0.03


def test_what_shifts_do_not_determine_is_in_the_error():
    steps = np.random.default_rng(3).uniform(-120, 120, (8, 2))
    stated = {}
    for turn in (0, 90):
        truths = [Truth(s, turn * (k % 2), bend=6.0) for k, s in enumerate(steps)]
        group = align_group(scene(truths, 5), camera="shared", reference=0)
        stated[turn] = np.median(group.table["error"])
        assert np.median(errors_of(group, truths, flat=True)) < 3 * stated[turn] + 0.02
    assert stated[0] > 1
    assert stated[90] < 0.05


def test_chips_keep_their_geometry():
    places = [(x, y) for y in (-260, 260) for x in (-310, 310)]
    moves = [(0, 0), (120, 90), (-110, 100), (115, -95)]
    truths = [Truth(np.add(p, m), 0.2 * k) for m in moves for k, p in enumerate(places)]
    # the exposures are not turned, so that a chip is turned as much in all of them
    group = align_group(
        scene(truths, 12), chips=[0, 1, 2, 3] * 4, exposures=sorted([0, 1, 2, 3] * 4)
    )
    assert errors_of(group, truths).max() < 0.05


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


def test_file_holds_the_group(tmp_path):
    group = align_group([*scene(panels(13), 14), scene([Truth((0, 0))], 15)[0]])
    group.write(tmp_path / "group.asdf")
    again = GroupAlignment.read(tmp_path / "group.asdf")
    assert again.reference == group.reference
    assert again.alignments[-1] is None
    assert (again.shape, again.offset) == (group.shape, group.offset)
    for one, two in zip(group.alignments[:-1], again.alignments[:-1], strict=True):
        assert np.array_equal(one.transform(*GRID.T), two.transform(*GRID.T))
        assert np.array_equal(one.error(*GRID.T), two.error(*GRID.T))
    assert list(again.table["component"]) == list(group.table["component"])
    assert list(again.links["n_matched"]) == list(group.links["n_matched"])
    (tmp_path / "other.asdf").write_text("no file of this kind")
    with pytest.raises(FormatError, match=r"GroupAlignment\.write"):
        GroupAlignment.read(tmp_path / "other.asdf")


def test_same_input_same_output_and_loops_close():
    truths = panels(16)
    lists = scene(truths, 17)
    one, two = align_group(lists), align_group(lists)
    for a, b in zip(one.alignments, two.alignments, strict=True):
        assert np.array_equal(a.transform(*GRID.T), b.transform(*GRID.T))
    around = one.between(0, 1).then(one.between(1, 4)).then(one.between(4, 0))
    assert np.allclose(around.transform(300.0, 200.0), (300.0, 200.0), atol=1e-6)


def image_of(truth, sky, flux, level, rng):
    y, x = np.mgrid[:NY, :NX]
    data = np.full((NY, NX), float(level))
    for (a, b), f in zip(truth.back(sky), flux, strict=True):
        near = (slice(max(0, int(b) - 9), int(b) + 10), slice(max(0, int(a) - 9), int(a) + 10))
        if -9 < a < NX + 9 and -9 < b < NY + 9:
            r2 = (x[near] - a) ** 2 + (y[near] - b) ** 2
            data[near] += f / (2 * np.pi * 1.3**2) * np.exp(-r2 / (2 * 1.3**2))
    return CCDData(rng.poisson(data).astype(np.float32), unit="electron")


def test_canvas_has_no_seams():
    rng = np.random.default_rng(18)
    truths = [Truth((0, 0)), Truth((420, 15), 2.0), Truth((200, 370), -1.0)]
    sky, flux = rng.uniform((-350, -300), (750, 650), (500, 2)), rng.uniform(5e3, 5e4, 500)
    levels = (200, 350, 260)
    images = [image_of(t, sky, flux, v, rng) for t, v in zip(truths, levels, strict=True)]
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
def test_misuse_is_explained(options, message):
    with pytest.raises(ValueError, match=message):
        align_group(scene(panels(1), 2), **options)
