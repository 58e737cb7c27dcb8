"""What spalipy promises its users, asked of this package."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

from spalipy_astro import Alignment, align, align_many, detect_stars, find_alignment
from spalipy_astro.commands import parser_of_align_fits

GUIDE = Path(__file__).parents[1] / "docs" / "howto" / "migration_from_spalipy.rst"
ARGUMENTS_OF_SPALIPY = """
source_data source_mask template_data source_det template_det output_shape n_det n_quad_det
min_quad_sep max_match_dist min_n_match sub_tile max_quad_cand quad_edge_buffer patience_quad_cand
max_quad_hash_dist spline_order interp_order sep_thresh min_fwhm bad_flag_bits min_sep
preserve_footprints cval cval_mask skip_checking copy use_memmap temp_dir thread_pool_max
""".split()
ATTRIBUTES_OF_SPALIPY = """
affine_transform align aligned_data aligned_mask alignment_failed columns fit_affine_transform
fit_spline_transform flux_col full_transform log_transform_stats make_source_quadlist
make_template_quadlist output_shape sbs_x sbs_y source_det source_det_matched source_quadlist
spline_transform template_det_matched transform_data x_col
""".split()


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(rotation=5, seed=21)


def grid_of(shape):
    ny, nx = shape
    return np.array([[x, y] for x in (0.2 * nx, 0.7 * nx) for y in (0.3 * ny, 0.6 * ny)])


def test_the_guide_names_every_argument_and_attribute():
    words = set(re.findall(r"\w+", GUIDE.read_text(encoding="utf-8")))
    assert set(ARGUMENTS_OF_SPALIPY) <= words
    assert set(ATTRIBUTES_OF_SPALIPY) <= words
    options = {o for a in parser_of_align_fits()._actions for o in a.option_strings}
    named = set(re.findall(r"``(--?[a-z][a-z-]*)``", GUIDE.read_text(encoding="utf-8")))
    assert named <= options


@pytest.mark.parametrize("rotation", [0, 90, 180])
@pytest.mark.parametrize("scale", [1.0, 0.8])
def test_an_affine_transform_is_recovered(make_sky_pair, rotation, scale):
    pair = make_sky_pair(rotation=rotation, scale=scale, seed=5)
    alignment = find_alignment(pair.source, pair.template, spline_order=0)
    points = grid_of(pair.source.shape)
    assert_allclose(np.column_stack(alignment.transform(*points.T)), pair.forward(points), atol=0.1)


@pytest.mark.parametrize("dtype", [">i2", "u2", "i4", ">f4", "f8"])
def test_images_of_any_type(pair, dtype):
    source = pair.source.data.clip(0, 32767).astype(dtype)
    before = source.copy()
    aligned = align(source, pair.template.data.astype(dtype))
    assert aligned.shape == pair.template.shape
    assert aligned.dtype.kind == "f"
    assert_array_equal(source, before)


def test_memory_maps(pair, tmp_path):
    path = tmp_path / "source.dat"
    disk = np.memmap(path, np.float32, "w+", shape=pair.source.shape)
    disk[:] = pair.source.data
    disk.flush()
    before = path.read_bytes()
    source = np.memmap(path, np.float32, "r", shape=pair.source.shape)
    aligned = align(source, pair.template)
    assert_array_equal(aligned, align(np.array(source), pair.template))
    assert path.read_bytes() == before


def test_masks_of_lists_with_gaps(pair, tmp_path):
    """Masked pixels, and the ones that they touch, are masked; NaN need no mask."""
    image = pair.source.data.copy()
    mask = np.zeros(image.shape, bool)
    mask[150:160, 170:200] = True
    holes = image.copy()
    holes[mask] = np.nan
    table = align_many([image, holes], pair.template, output=tmp_path, source_mask=[mask, None])
    one, two = (CCDData.read(path) for path in table["aligned"])
    x, y = Alignment.read(table["asdf"][0]).transform(185, 155)
    assert one.mask[round(float(y)), round(float(x))]
    assert_array_equal(one.mask, two.mask)
    assert np.all(np.isfinite(one.data[~one.mask]))


def test_tables_of_detections_in_place_of_images(pair):
    columns = ["x", "y", "flux", "fwhm", "flag"]
    source, template = (
        Table(detect_stars(image)[columns]) for image in (pair.source, pair.template)
    )
    alignment = find_alignment(source, template)
    points = grid_of(pair.source.shape)
    assert_allclose(np.column_stack(alignment.transform(*points.T)), pair.forward(points), atol=0.1)
    shape = (222, 333)
    assert alignment.resample(pair.source.data, shape=shape).shape == shape


def test_footprints_are_preserved(pair):
    """Every pixel of the source that is inside its frame is somewhere in the output."""
    alignment = find_alignment(pair.source, pair.template)
    ones = np.ones(pair.source.shape, np.float32)
    inside = alignment.resample(ones, fill_value=0, method="nearest", conserve_flux=False)
    union = alignment.resample(
        ones, fill_value=0, method="nearest", conserve_flux=False, output="union"
    )
    area = alignment.summary()["scale"] ** 2 * ones.size
    assert_allclose(union.sum(), area, rtol=2e-3)
    assert inside.sum() < 0.97 * area


def test_stars_at_the_edge_do_no_harm(pair):
    """Only the middle of the template has a counterpart in the source, and the other way round."""
    source = pair.source.data[40:, :300]
    template = pair.template.data[:290, 50:]
    alignment = find_alignment(source, template)
    points = grid_of(source.shape) + 20
    expected = pair.forward(points + np.array([0, 40])) - [50, 0]
    assert_allclose(np.column_stack(alignment.transform(*points.T)), expected, atol=0.15)


def test_values_outside(pair):
    aligned = align(pair.source.data, pair.template, fill_value=0)
    assert np.all(np.isfinite(aligned))
    assert (aligned == 0).any()


def test_a_catalog_that_counts_from_one_is_not_a_pixel_off(pair, tmp_path):
    """In spalipy it is, if the other catalog counts from zero."""
    stars = detect_stars(pair.source)
    sextractor = Table(
        {"X_IMAGE": stars["x"] + 1, "Y_IMAGE": stars["y"] + 1, "FLUX_BEST": stars["flux"]}
    )
    fits.table_to_hdu(sextractor).writeto(tmp_path / "source.cat")
    alignment = find_alignment(tmp_path / "source.cat", pair.template)
    points = grid_of(pair.source.shape)
    assert_allclose(np.column_stack(alignment.transform(*points.T)), pair.forward(points), atol=0.1)
