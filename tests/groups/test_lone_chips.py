"""Chips without stars in common with other frames: where the geometry of the camera has them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from spalipy_astro import GroupAlignment, align_group

NY, NX = 150, 170
MIDDLE = np.array([NX - 1, NY - 1]) / 2
PLACES = {"a": (-90.0, 2.0), "b": (91.5, -1.0)}
TURNS = {"a": 0.0, "b": 1.0}  # deg
MOVES = [(0.0, 0.0), (58.0, 31.0), (-41.0, 47.0)]
LABELS = [(chip, e) for e in range(3) for chip in "ab"]
CHIPS, EXPOSURES = ([label[n] for label in LABELS] for n in (0, 1))
LONE = 5  # chip b of the last exposure


def turn_of(chip):
    c, s = np.cos(np.radians(TURNS[chip])), np.sin(np.radians(TURNS[chip]))
    return np.array([[c, s], [-s, c]])


def to_reference(xy, chip, e):
    """Send positions of a chip to the pixels of the first image."""
    return MIDDLE + np.add(PLACES[chip], MOVES[e]) - PLACES["a"] + (xy - MIDDLE) @ turn_of(chip)


def draw(chip, e, rng, sky, flux):
    data = np.full((NY, NX), 80.0)
    y, x = np.mgrid[:NY, :NX]
    at = MIDDLE + (sky - np.add(PLACES[chip], MOVES[e])) @ turn_of(chip).T
    for (a, b), f in zip(at, flux, strict=True):
        near = np.s_[max(0, int(b) - 6) : int(b) + 7, max(0, int(a) - 6) : int(a) + 7]
        if -7 < a < NX + 7 and -7 < b < NY + 7:
            r2 = (x[near] - a) ** 2 + (y[near] - b) ** 2
            data[near] += f / (2 * np.pi * 1.2**2) * np.exp(-r2 / (2 * 1.2**2))
    return rng.poisson(data).astype(np.float32)


def stars_of(rng):
    return rng.uniform(-230, 230, (420, 2)), rng.uniform(4e3, 4e4, 420)


@pytest.fixture(scope="module")
def images():
    """Three exposures of two chips, of which the last shows no star."""
    rng = np.random.default_rng(1)
    stars = stars_of(rng)
    return [
        draw(*label, rng, *stars) if k != LONE else rng.poisson(80.0, (NY, NX)).astype(np.float32)
        for k, label in enumerate(LABELS)
    ]


def solved(images, chips=CHIPS, exposures=EXPOSURES, **options):
    known = {"chips": chips, "exposures": exposures, "reference": 0}
    return align_group(images, scale=(0.98, 1.02), rotation=(-5, 5), parity=1, **known, **options)


@pytest.fixture(scope="module")
def group(images):
    return solved(images)


def error_of(alignment, chip, e):
    """Rms distance from the truth over the frame, px of the reference."""
    xy = np.random.default_rng(2).uniform(0, 1, (200, 2)) * (NX - 1, NY - 1)
    off = np.column_stack(alignment.transform(*xy.T)) - to_reference(xy, chip, e)
    return np.sqrt(np.mean(np.sum(off**2, axis=1)))


def test_a_chip_without_stars_is_placed(group):
    row = group.table[LONE]
    assert list(group.table["status"]) == ["ok"] * 6
    assert row["reason"].startswith("placed by the geometry of the chips: ")
    assert "0 usable stars" in row["reason"]
    assert list(group.table["reason"][:LONE]) == [""] * LONE
    assert (row["component"], row["links"], row["n_matched"]) == (0, 0, 0)
    assert np.isnan(row["rms"])


def test_its_error_is_what_the_table_says(group):
    said = group.table["error"][LONE]
    assert said < 0.15
    assert error_of(group.alignments[LONE], *LABELS[LONE]) < 3 * said
    # two chips and a pointing have a part in it: more than those of the pointing's own chip
    assert said > group.table["error"][LONE - 1]
    x, y = MIDDLE
    assert 0 < group.between(LONE - 1, LONE).error(x, y) < 0.15


def test_it_can_be_used_as_any_other(group, images, tmp_path):
    marked = [*images[:LONE], images[LONE] + np.float32(1000.0)]
    canvas, footprint = group.coadd(marked, match_background=False, combine="max")
    assert canvas.shape == group.shape
    x, y = np.rint(to_reference(MIDDLE[np.newaxis], *LABELS[LONE])[0] - group.offset).astype(int)
    assert canvas.data[y, x] > 900  # only that chip is as bright
    assert footprint[y, x] >= 1
    made = group.write_images(images, tmp_path)
    assert list(made["status"]) == ["ok"] * 6
    group.write(tmp_path / "group.asdf")
    known = GroupAlignment.read(tmp_path / "group.asdf")
    assert known.table["reason"][LONE] == group.table["reason"][LONE]
    one, two = (g.alignments[LONE] for g in (group, known))
    assert_array_equal(one.transform(*MIDDLE), two.transform(*MIDDLE))
    assert_allclose(one.error(*MIDDLE), two.error(*MIDDLE))


def test_sums_on_one_flux_scale_leave_it_out(group, images, caplog):
    marked = [*images[:LONE], images[LONE] + np.float32(1000.0)]
    canvas, _ = group.coadd(marked, scale_flux=True, match_background=False, combine="max")
    assert np.nanmin(canvas.data) < 200
    x, y = np.rint(to_reference(MIDDLE[np.newaxis], *LABELS[LONE])[0] - group.offset).astype(int)
    assert not canvas.data[y, x] > 900
    assert f"image {LONE} is left out" in caplog.text


def test_a_foreign_image_with_labels_is_not_placed(images):
    """Where its stars should be in other frames they are not."""
    rng = np.random.default_rng(9)
    foreign = [*images[:LONE], draw(*LABELS[LONE], rng, *stars_of(rng))]
    group = solved(foreign, spline_order=0)
    assert list(group.table["status"]) == ["ok"] * LONE + ["failed"]
    assert "check its labels of chip and exposure" in group.table["reason"][LONE]
    assert group.alignments[LONE] is None


def test_what_the_geometry_does_not_determine_is_not_guessed(images):
    """A chip that no other exposure shows, another size, an exposure of one chip, no chips."""
    for chips, exposures in (
        ([*CHIPS[:LONE], "c"], EXPOSURES),
        (CHIPS, [*EXPOSURES[:LONE], 7]),
    ):
        group = solved(images, chips, exposures, spline_order=0)
        assert list(group.table["status"]) == ["ok"] * LONE + ["failed"]
        assert "0 usable stars" in group.table["reason"][LONE]
    binned = solved([*images[:LONE], images[LONE][::2, ::2]])
    assert binned.alignments[LONE] is None
    # each exposure shows one chip: where the other lies in the first one, nobody knows
    some = [0, 2, 3, LONE]
    group = solved([images[k] for k in some], ["a", "a", "b", "b"], [0, 1, 2, 0])
    assert group.table["component"][3] == -1


def test_a_file_that_cannot_be_read_is_not_placed(images, tmp_path):
    broken = tmp_path / "broken.fits"
    broken.write_bytes(b"SIMPLE  =")
    group = solved([*images[:LONE], str(broken)])
    assert group.table["status"][LONE] == "failed"
    assert "geometry" not in group.table["reason"][LONE]
