from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from numpy.testing import assert_array_equal

from spalipy_astro import AlignmentError, align_many
from spalipy_astro.batch import aligned_frames, coadd_inputs

SHIFTS = [(6.3, -4.8), (-12.25, 3.5), (20.0, 11.1)]


@pytest.fixture(scope="module")
def batch(make_sky_pair, tmp_path_factory):
    """Three frames and a missing one, aligned to a template."""
    folder = tmp_path_factory.mktemp("stack")
    pairs = [make_sky_pair(shift=shift, seed=4) for shift in SHIFTS]
    paths = [folder / f"frame{k}.fits" for k in range(3)]
    for path, pair in zip(paths, pairs, strict=True):
        fits.PrimaryHDU(pair.template.data).writeto(path)
    sources = [paths[0], folder / "missing.fits", *paths[1:]]
    table = align_many(sources, pairs[0].source, output=folder / "out")
    return table, pairs[0].source.data


def closeness(image, template):
    """Noise of the difference of two images of one sky."""
    good = np.isfinite(image)
    assert good.mean() > 0.7
    return np.median(np.abs((image - template)[good]))


# ccdproc warns of pixels that no frame covers
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:Degrees of freedom")
def test_frames_for_ccdproc(batch):
    ccdproc = pytest.importorskip("ccdproc")
    table, template = batch
    frames = list(aligned_frames(table))
    assert [frame.shape for frame in frames] == [template.shape] * 3
    assert all(frame.mask.any() for frame in frames)
    stack = ccdproc.Combiner(frames).average_combine()
    one, three = closeness(frames[0].data, template), closeness(stack.data, template)
    assert three < one
    # in tiles, as for frames that are larger than the memory
    paths = list(table["aligned"][table["status"] == "ok"])
    tiles = ccdproc.combine(paths, method="average", mem_limit=1e6)
    assert_array_equal(tiles.data, stack.data)


def test_inputs_for_reproject(batch):
    from reproject import reproject_interp
    from reproject.mosaicking import reproject_and_coadd

    table, template = batch
    inputs, projection, shape = coadd_inputs(table)
    assert len(inputs) == 3
    assert shape == template.shape
    image, footprint = reproject_and_coadd(
        inputs, projection, shape_out=shape, reproject_function=reproject_interp
    )
    assert footprint.max() == 3
    single = next(iter(aligned_frames(table))).data
    assert closeness(image, template) < closeness(single, template)


def test_what_cannot_be_stacked(batch, make_sky_pair):
    table, template = batch
    with pytest.raises(ValueError, match="output=FOLDER"):
        list(aligned_frames(align_many([template], template)))
    with pytest.raises(AlignmentError, match="none of the 1"):
        coadd_inputs(table[1:2])
    with pytest.raises(ValueError, match="files as sources"):
        coadd_inputs(align_many([template], template))


def test_a_source_that_is_another_one_now(batch, tmp_path):
    table, _ = batch
    fits.writeto(tmp_path / "s.fits", np.ones((5, 6)))
    table = table[table["status"] == "ok"]
    table["source"] = [str(tmp_path / "s.fits")] * len(table)
    with pytest.raises(ValueError, match=r"s\.fits' has shape \(5, 6\), but the source of this"):
        coadd_inputs(table)
