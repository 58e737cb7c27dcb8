from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, NDData

from spalipy_astro import align_many, find_alignment
from spalipy_astro.resampling import resample


@pytest.fixture(scope="module")
def alignment():
    """An alignment of frames that are not square, from stars alone."""
    rng = np.random.default_rng(5)
    xy = rng.uniform((0, 0), (120, 80), (40, 2))
    found = find_alignment(xy, xy + np.array([3.0, -2.0]), spline_order=0)
    return replace(found, source_shape=(80, 120), template_shape=(90, 130))


KINDS = {
    "array": lambda a: a,
    "list": lambda a: a.tolist(),
    "masked": np.ma.MaskedArray,
    "quantity": lambda a: a * u.adu,
    "NDData": NDData,
    "CCDData": lambda a: CCDData(a, unit="adu"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((80, 119), r"alignment\.cropped\(source="),
        ((20, 30), r"binned 4 x 4, use alignment\.binned\(source=4\)"),
        ((40, 60), r"binned 2 x 2, use alignment\.binned\(source=2\)"),
        ((26, 40), r"binned 3 x 3, use alignment\.binned\(source=3\)"),
        ((100, 140), r"trim it as the source was, data\[y0:y1, x0:x1\]"),
        ((120, 80), "rows first"),
        ((80, 120, 5), r"planes go first, np\.moveaxis\(data, -1, 0\)"),
        ((3, 80, 100), r"alignment\.cropped\(source="),
    ],
)
def test_an_image_of_another_shape_is_refused(alignment, kind, shape, remedy):
    with pytest.raises(ValueError, match=rf"^data has shape .*\(80, 120\): .*{remedy}") as error:
        alignment.resample(KINDS[kind](np.ones(shape)))
    assert str(shape) in str(error.value)


def test_dask_arrays_are_refused_before_they_are_read(alignment):
    da = pytest.importorskip("dask.array")
    with pytest.raises(ValueError, match=r"\(80, 121\)"):
        alignment.resample(da.ones((80, 121)))


@pytest.mark.parametrize("lead", [(), (3,), (1,), (2, 3)])
def test_leading_axes_are_planes(alignment, lead):
    assert alignment.resample(np.ones((*lead, 80, 120))).shape == (*lead, 90, 130)


def test_what_the_remedies_name_works(alignment):
    image = np.random.default_rng(0).normal(size=(80, 120))
    part = alignment.cropped(source=np.s_[10:70, 20:110]).resample(image[10:70, 20:110])
    whole = alignment.resample(image)
    inside = np.s_[20:60, 40:100]
    np.testing.assert_allclose(part[inside], whole[inside], atol=1e-12)
    half = image.reshape(40, 2, 60, 2).sum((1, 3))
    assert np.isfinite(alignment.binned(source=2).resample(half)).mean() > 0.7


def test_a_part_leads_to_the_whole(alignment):
    image = np.random.default_rng(0).normal(size=(100, 140))
    shapes = {"source_shape": (100, 140), "template_shape": (110, 150)}
    whole = alignment.shifted(source=(11, 9), template=(11, 9), **shapes)
    assert (whole.source_shape, whole.template_shape) == ((100, 140), (110, 150))
    part = alignment.resample(image[9:89, 11:131])
    moved = whole.resample(image)
    np.testing.assert_allclose(moved[20:80, 30:110], part[11:71, 19:99], atol=1e-9)
    for name in shapes:
        with pytest.raises(ValueError, match=rf"^{name} must be two positive integers"):
            alignment.shifted(**{name: (3.5, 4)})


def test_catalogs_have_no_shape_to_compare_with(alignment):
    of_catalog = replace(alignment, source_shape=None)
    assert of_catalog.resample(np.ones((30, 40))).shape == (90, 130)


@pytest.mark.parametrize(
    "offset",
    [(1.5, 2.5), (0, 0.1), (np.nan, 0), (0, np.inf), (1,), (1, 2, 3), 5, ("1", "2"), None],
)
def test_offset_is_whole(alignment, offset):
    with pytest.raises(ValueError, match=r"^offset must be"):
        alignment.resample(np.ones((80, 120)), offset=offset)
    if offset not in [(1.5, 2.5), (0, 0.1)]:
        with pytest.raises(ValueError, match=r"^offset must be"):
            resample(np.ones((80, 120)), alignment.transform.inverse, offset=offset)


def test_half_pixels_by_the_remedy(alignment):
    image = np.random.default_rng(0).normal(size=(80, 120))
    expected = resample(image, alignment.transform.inverse, shape=(90, 130), offset=(1.5, 2.5))
    moved = alignment.shifted(template=(-1.5, -2.5)).resample(image)
    np.testing.assert_allclose(moved, expected, atol=1e-9)
    for offset in ((1.0, 2.0), np.array([1, 2]), [np.int16(1), 2]):
        np.testing.assert_array_equal(
            alignment.resample(image, offset=offset), alignment.resample(image, offset=(1, 2))
        )


@pytest.mark.parametrize("shape", [(10.5, 20), (0, 5), (5,), 7, (3, 4, 5), "ab"])
def test_shapes_are_positive_integers(alignment, shape):
    for call in (
        lambda: alignment.resample(np.ones((80, 120)), shape=shape),
        lambda: alignment.coverage(shape),
        lambda: align_many([], np.ones((5, 6)), shape=shape),
    ):
        with pytest.raises(ValueError, match=r"^shape must be two positive integers"):
            call()


@pytest.mark.parametrize("number", [2.5, np.nan, np.inf, True, 0, -1, "2", None, (2, 2)])
def test_binning_is_whole(alignment, number):
    with pytest.raises(ValueError, match=r"^template is the number of pixels"):
        alignment.binned(template=number)


@pytest.mark.parametrize("catalog", [False, True])
def test_windows_are_whole(alignment, catalog):
    alignment = replace(alignment, source_shape=None) if catalog else alignment
    with pytest.raises(ValueError, match=r"^source is a window as two slices of whole numbers"):
        alignment.cropped(source=np.s_[1.5:20, 3:40])


@pytest.mark.parametrize("number", [1.5, 0, np.nan])
def test_workers_are_whole(number):
    with pytest.raises(ValueError, match=r"^n_workers is a number of workers"):
        align_many([], np.ones((5, 6)), n_workers=number)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("source", (50, 80), r"\(80, 120\)"),
        ("source", (3, 80, 121), r"\(80, 120\)"),
        ("template", (80, 120), r"\(90, 130\)"),
        ("aligned", (80, 120), r"\(90, 130\)"),
    ],
)
def test_pictures_of_other_shapes(alignment, tmp_path, name, shape, words):
    pytest.importorskip("matplotlib")
    image = {name: np.ones(shape)}
    with pytest.raises(ValueError, match=f"^{name} has shape .*{words}"):
        alignment.report(tmp_path / "x.html", **image)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=f"^{name} has shape .*{words}"):
        alignment.plot(**image)


def test_ground_of_the_matches_is_the_template(alignment):
    plotting = pytest.importorskip("spalipy_astro.visualization")
    with pytest.raises(ValueError, match=r"^image has shape \(80, 120\).*\(90, 130\)"):
        plotting.plot_matches(alignment, image=np.ones((80, 120)))
