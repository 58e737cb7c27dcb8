"""The distortion of a camera: found by one group, kept, and used by the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.modeling.models import Identity, Polynomial2D, Shift

from spalipy_astro import Alignment, GroupAlignment, align_group
from spalipy_astro.visualization import plot_distortion

BEND = 6.0


@pytest.fixture(scope="module")
def night(drawn):
    """One camera whose frames are partly turned."""
    steps = np.random.default_rng(10).uniform(-150, 150, (8, 2))
    truths = [drawn.Truth(s, 90 * (k % 3 == 2), bend=BEND) for k, s in enumerate(steps)]
    return align_group(drawn.scene(truths, 11, density=120), camera="shared")


@pytest.fixture(scope="module")
def later(drawn):
    """Four frames of few stars, of the same camera."""
    steps = np.random.default_rng(12).uniform(-150, 150, (4, 2))
    truths = [drawn.Truth(s, 20 * k, bend=BEND) for k, s in enumerate(steps)]
    return truths, drawn.scene(truths, 13, density=50)


def test_distortion_is_found_with_its_error(night, drawn):
    camera = night.cameras["shared"]
    gap = drawn.flattened(
        np.column_stack(camera.transform(*drawn.GRID.T)), drawn.Truth((0, 0), bend=BEND)(drawn.GRID)
    )
    stated = np.sqrt(2 * np.mean(camera.error(*drawn.GRID.T) ** 2))
    assert drawn.rms(gap) < 0.02
    assert drawn.rms(gap) < 2 * stated < 0.03
    assert night.undetermined == {}
    # flat is as like the frame as can be: no shift and no turn
    moved = np.column_stack(camera.transform(*drawn.GRID.T)) - drawn.GRID
    assert np.abs(moved.mean(axis=0)).max() < 0.1
    assert abs(camera.rotation) < 0.01
    assert camera.summary()["distortion"] > 2
    assert "distortion" in plot_distortion(camera).get_title("left")


def test_later_frames_take_it_and_need_few_stars(night, later, drawn, tmp_path):
    night.cameras["shared"].write(tmp_path / "camera.asdf")
    camera = Alignment.read(tmp_path / "camera.asdf")
    truths, lists = later
    group = align_group(lists, camera=camera)
    errors = drawn.errors_of(group, truths, flat=True)
    own = drawn.errors_of(align_group(lists, camera="shared"), truths, flat=True)
    assert np.median(errors) < 0.6 * np.median(own)
    ratio = errors / np.asarray(group.table["error"])
    assert 0.4 < np.sqrt(np.mean(ratio**2)) < 2
    assert group.cameras == {}  # nothing is solved for
    model = align_group(lists, camera=camera.transform)
    for one, two in zip(group.alignments, model.alignments, strict=True):
        assert np.allclose(one.transform(*drawn.GRID.T), two.transform(*drawn.GRID.T), atol=1e-9)
        # what is known of the camera's error counts
        assert np.all(one.error(*drawn.GRID.T) > two.error(*drawn.GRID.T))


def test_error_of_the_camera_cancels_where_two_frames_agree(night, later):
    _, lists = later
    group = align_group([lists[0], *lists], camera=night.cameras["shared"], reference=4)
    alone = group.alignments[0].error(300.0, 250.0)
    assert group.between(0, 0).error(300.0, 250.0) < 1e-6 < alone


def test_each_image_may_have_a_camera_of_its_own(night, later, drawn):
    truths = later[0][:2]
    truths = truths + [drawn.Truth(t.center) for t in truths]
    camera = night.cameras["shared"]
    lists = drawn.scene(truths, 13, density=50)
    group = align_group(lists, camera=[camera] * 2 + [Identity(2)] * 2, reference=3)
    assert drawn.errors_of(group, truths).max() < 0.05


def test_what_shifts_do_not_show_is_no_camera(drawn, tmp_path):
    steps = np.random.default_rng(3).uniform(-120, 120, (6, 2))
    truths = [drawn.Truth(s, bend=BEND) for s in steps]
    group = align_group(drawn.scene(truths, 5, density=120), camera=["mine"] * 6)
    assert group.cameras == {}
    assert "quadratic terms" in group.undetermined["mine"]
    assert "turn the camera" in group.undetermined["mine"]
    group.write(tmp_path / "group.asdf")
    assert GroupAlignment.read(tmp_path / "group.asdf").undetermined == group.undetermined


def test_no_distortion_is_not_known_for_sure(drawn):
    truths = [drawn.Truth(s, t) for s, t in (((0, 0), 0), ((60, 40), 90), ((-70, 30), 180))]
    group = align_group(drawn.scene(truths, 4, density=100), camera="shared")
    camera = group.cameras["shared"]
    assert camera.summary()["distortion"] < 0.1
    assert 1e-3 < np.max(camera.error(*drawn.GRID.T)) < 0.1
    # frames that do not move show nothing of it
    still = [drawn.Truth((0, 0)), drawn.Truth((0, 0))]
    group = align_group(drawn.scene(still, 4, density=100), camera="shared")
    assert group.cameras == {}
    assert "do not determine" in group.undetermined["shared"]


def test_file_holds_cameras_and_joint_errors(night, drawn, tmp_path):
    night.write(tmp_path / "group.asdf")
    again = GroupAlignment.read(tmp_path / "group.asdf")
    assert list(again.cameras) == ["shared"]
    for one, two in (
        (night.cameras["shared"], again.cameras["shared"]),
        (night.between(0, 2), again.between(0, 2)),
    ):
        assert np.array_equal(one.transform(*drawn.GRID.T), two.transform(*drawn.GRID.T))
        assert np.array_equal(one.error(*drawn.GRID.T), two.error(*drawn.GRID.T))


def test_frames_of_another_shape_are_left_out(night, later):
    _, lists = later
    camera = replace(night.cameras["shared"], source_shape=(1000, 1200))
    from spalipy_astro.groups._cameras import without_misfits
    from spalipy_astro.groups._layout import Labels
    from spalipy_astro.registration import prepare

    frames = [
        replace(prepare(table), shape=shape)
        for table, shape in zip(lists[:2], ((500, 600), (1000, 1200)), strict=True)
    ]
    left, reasons = without_misfits(frames, ["", ""], Labels(cameras=[0, 0], known={0: camera}))
    assert left[0] is None
    assert "(500, 600)" in reasons[0]
    assert left[1] is frames[1]
    assert not reasons[1]


@pytest.mark.parametrize(
    ("camera", "kind", "message"),
    [
        ({"a": Identity(2)}, TypeError, "camera is one distortion, or one per image; got a mapp"),
        (Shift(1), ValueError, "camera: model maps two inputs onto two outputs"),
        (
            (Polynomial2D(2, c2_0=1.0) & Polynomial2D(1, c0_1=1.0)),
            ValueError,
            "camera: model maps two inputs",
        ),
    ],
)
def test_misuse_is_explained(camera, kind, message, later):
    with pytest.raises(kind, match=message):
        align_group(later[1], camera=camera)
