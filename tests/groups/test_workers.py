"""Groups by several workers, and what is told of them: frames that cannot be used are rows."""

from __future__ import annotations

import logging
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table

from spalipy_astro import align_group
from spalipy_astro.groups._sources import Sheet, labels_of_chips
from spalipy_astro.matching import StarField, pattern_votes

SHAPE = (180, 220)
SHIFTS = [(0.0, 0.0), (31.3, -12.8), (-20.4, 25.1)]
POINTS = np.array([[0.0, 0.0], [219.0, 0.0], [110.0, 90.0], [0.0, 179.0]])


def draw(shift, shape=SHAPE, seed=1):
    """Draw the stars of a field, moved by (-x, -y)."""
    rng = np.random.default_rng(seed)
    sky, flux = rng.uniform(-60, 300, (190, 2)), rng.uniform(4e3, 4e4, 190)
    y, x = np.mgrid[: shape[0], : shape[1]]
    data = np.full(shape, 100.0)
    for (a, b), f in zip(sky - shift, flux, strict=True):
        near = np.s_[max(0, int(b) - 7) : int(b) + 8, max(0, int(a) - 7) : int(a) + 8]
        if -8 < a < shape[1] + 8 and -8 < b < shape[0] + 8:
            r2 = (x[near] - a) ** 2 + (y[near] - b) ** 2
            data[near] += f / (2 * np.pi * 1.2**2) * np.exp(-r2 / (2 * 1.2**2))
    return rng.poisson(data).astype(np.float32)


@pytest.fixture(scope="module")
def images():
    return [draw(shift) for shift in SHIFTS]


@pytest.fixture(scope="module")
def paths(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    for k, image in enumerate(images):
        fits.writeto(folder / f"f{k}.fits", image)
    (folder / "g_broken.fits").write_bytes((folder / "f0.fits").read_bytes()[:9000])
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def alone(paths):
    return align_group(paths)


def shift_of(alignment):
    return np.subtract(alignment.transform(100.0, 80.0), (100.0, 80.0))


def same(one, two):
    """Whether two groups are the same, bit for bit."""
    for a, b in zip(one.alignments, two.alignments, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert np.array_equal(a.transform(*POINTS.T), b.transform(*POINTS.T))
            assert np.array_equal(a.error(*POINTS.T), b.error(*POINTS.T))
    for name in ("status", "reason", "component", "links", "n_matched"):
        assert list(one.table[name]) == list(two.table[name])
    assert str(one.links) == str(two.links)


def test_workers_find_the_same(paths, alone):
    """Processes, threads and a pool; a broken file is a row for each of them."""
    assert list(alone.table["status"]) == ["ok"] * 3 + ["failed"]
    assert "g_broken.fits" in alone.table["reason"][3]
    top = SHIFTS[alone.reference]
    for alignment, shift in zip(alone.alignments, SHIFTS, strict=False):
        assert np.allclose(shift_of(alignment), np.subtract(shift, top), atol=0.05)
    same(alone, align_group(paths, n_workers=2))
    same(alone, align_group(paths, n_workers=2, executor="threads"))
    with ThreadPoolExecutor(2) as pool:
        same(alone, align_group(paths, n_workers=2, executor=pool))


def test_images_one_by_one(images, paths, alone):
    """Of a folder, and of what has no length: no image is needed twice."""
    folder = str(paths[0]).rsplit("/", 1)[0]
    same(alone, align_group(folder))
    assert list(align_group(f"{folder}/f*.fits").table["source"]) == paths[:3]
    alive = []

    def stream():
        for image in images:
            assert sum(ref() is not None for ref in alive) <= 1
            copied = image.copy()
            alive.append(weakref.ref(copied))
            yield copied

    group = align_group(stream())
    assert group.alignments[0] is not None
    assert [ref() for ref in alive] == [None] * 3


def test_progress_is_told(paths):
    calls = []
    align_group(paths, progress=lambda *call: calls.append(call))
    stars = [call for call in calls if call[2]["step"] == "stars"]
    assert [(done, total) for done, total, _ in stars] == [(k, 4) for k in (1, 2, 3, 4)]
    assert [row["source"] for _, _, row in stars] == paths
    assert [row["status"] for _, _, row in stars] == ["ok"] * 3 + ["failed"]
    assert min(row["n_stars"] for _, _, row in stars[:3]) > 30
    pairs = [row for _, _, row in calls if row["step"] == "pairs"]
    assert sum(row["links"] for row in pairs) == sum(row["pairs"] for row in pairs) == 3

    def stop(done, total, row):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        align_group(paths, progress=stop)


def test_what_cannot_be_used_is_a_row(images):
    """Borders of NaN, other sizes, the same image twice; and what has no stars."""
    bordered = images[1].copy()
    bordered[:25] = bordered[:, -30:] = np.nan
    cut = CCDData(images[2][10:, :200], unit="adu")
    rng = np.random.default_rng(2)
    useless = {
        "TypeError: image 4 is an image": None,
        "all 4000 pixels of the image are bad": np.full((50, 80), np.nan),
        "have the same value 7": np.full((50, 80), 7.0),
        "usable stars": rng.normal(100, 5, (90, 100)).astype(np.float32),
        "is too small": np.ones((5, 6)),
        "alignment needs at least 3": Table({"x": [1.0, 2.0], "y": [3.0, 1.0]}),
    }
    group = align_group([images[0], images[0], bordered, cut, *useless.values()], reference=0)
    assert list(group.table["status"]) == ["ok"] * 4 + ["failed"] * len(useless)
    for words, reason in zip(useless, group.table["reason"][4:], strict=True):
        assert words in reason
    found = [shift_of(alignment) for alignment in group.alignments[:4]]
    assert np.allclose(found, [(0, 0), (0, 0), SHIFTS[1], np.add(SHIFTS[2], (0, 10))], atol=0.05)


def test_the_reference_that_was_asked_for_is_on_grid_0(caplog):
    """Also if its component is the smaller one; a warning if there is no such component."""
    rng = np.random.default_rng(3)
    fields = [rng.uniform(0, 400, (16, 2)) for _ in range(2)]
    many, few = (
        [Table({"x": xy[:, 0] + s, "y": xy[:, 1] - s}) for s in shifts]
        for xy, shifts in zip(fields, ((0, 3, 5), (0, 9)), strict=True)
    )
    known = {"rotation": (-1, 1), "scale": (0.99, 1.01), "parity": 1}
    group = align_group([*many, *few], reference=4, **known)
    assert group.reference == 4
    assert list(group.table["component"]) == [1, 1, 1, 0, 0]
    assert np.allclose(shift_of(group.alignments[3]), (9, -9), atol=1e-6)
    with caplog.at_level(logging.WARNING):
        other = align_group([*many[:2], few[0]], reference=2, **known)
    assert "image 2 is connected with no other one; the grid is that of image 0" in caplog.text
    assert list(other.table["component"]) == [0, 0, -1]


@pytest.mark.parametrize(
    ("images", "kind", "words"),
    [
        ([], ValueError, "images: a group takes at least two; got 0"),
        (iter([np.ones((20, 30))]), ValueError, "images: a group takes at least two; got 1"),
        (np.ones((20, 30)), TypeError, "images is a list of images"),
        ("night.fits", TypeError, "images is a list of images.*got one path"),
        ("no/*.fits", FileNotFoundError, "images: no file matches the pattern"),
    ],
)
def test_what_is_no_group(images, kind, words):
    with pytest.raises(kind, match=words):
        align_group(images)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_workers": 0}, "n_workers is a number of workers"),
        ({"executor": "cluster"}, "executor is 'processes', 'threads' or an Executor"),
        ({"progress": "bar"}, "progress is True, False, None or a function"),
        ({"hdu": 1.5}, "hdu"),
    ],
)
def test_all_is_checked_before_the_first_image(options, words):
    def never():
        raise AssertionError("an image was read")
        yield

    with pytest.raises((TypeError, ValueError), match=words):
        align_group(never(), **options)


def test_labels_of_files_and_of_images():
    sheets = [Sheet(None, "a", 1, 0, "x"), Sheet(None, "a", 2, 0, "y"), Sheet(None, "b", 2, 1, "y")]
    assert labels_of_chips(sheets, None, None, None) == (None, ["x", "y", "y"], [0, 0, 1])
    assert labels_of_chips(sheets, "shared", None, ["p", "q"])[::2] == ("shared", ["p", "p", "q"])
    assert labels_of_chips(sheets, None, [7, 8, 8], None)[1] == [7, 8, 8]
    assert labels_of_chips(sheets[1:], None, None, None) == (None, None, None)


def test_votes_are_those_of_shared_patterns():
    rng = np.random.default_rng(4)
    one, stranger = rng.uniform(0, 500, (2, 80, 2))
    turned = one @ np.array([[0.6, 0.8], [-0.8, 0.6]]) + 9
    fields = [StarField(xy, np.full(80, 0.05)) for xy in (one, turned, one * (-1, 1), stranger)]
    votes = pattern_votes(fields)
    assert np.array_equal(votes, votes.T)
    assert votes[0, 1] > 500
    assert votes[0, 2] > 500
    assert votes[3].max() < 8
    alike = pattern_votes(fields, parity=1)
    assert alike[0, 1] == votes[0, 1]
    assert alike[0, 2] < 8
