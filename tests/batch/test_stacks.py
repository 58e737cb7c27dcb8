from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from numpy.testing import assert_array_equal

from spalipy_astro import AlignmentError, align_many
from spalipy_astro.batch import aligned_frames, coadd_inputs, stack_frames, stack_weights

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
    functions = (stack_frames, stack_weights, coadd_inputs, lambda one: list(aligned_frames(one)))
    for function in functions:
        with pytest.raises(TypeError, match=r"^table is what align_many returns.*got list"):
            function(list(table["aligned"]))
        with pytest.raises(ValueError, match=r"^table .*without the column 'status'"):
            function(table["source", "aligned"])


def test_a_source_that_is_another_one_now(batch, tmp_path):
    table, _ = batch
    fits.writeto(tmp_path / "s.fits", np.ones((5, 6)))
    table = table[table["status"] == "ok"]
    table["source"] = [str(tmp_path / "s.fits")] * len(table)
    with pytest.raises(ValueError, match=r"s\.fits' has shape \(5, 6\), but the source of this"):
        coadd_inputs(table)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Eight frames of equal seeing, one of which is deeper and one a satellite crosses."""
    from astropy.nddata import CCDData

    rng = np.random.default_rng(11)
    size, n = 220, 80
    xy, flux = rng.uniform(0, size, (n, 2)), 10 ** rng.uniform(3.3, 4.8, n)
    y, x = np.mgrid[:size, :size].astype(float)
    clean = np.full((size, size), 200.0)
    for (x0, y0), f in zip(xy, flux, strict=True):
        clean += f / (2 * np.pi * 1.69) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 3.38)
    frames = []
    for k in range(8):
        data = clean + rng.normal(0, 3 if k == 2 else 9, clean.shape)
        if k == 5:
            data += 400 * np.exp(-((x - 0.7 * y - 30) ** 2) / 4)
        image = CCDData(data.astype("f4"), unit="adu")
        image.header["MJD-OBS"] = 60000 + k / 100
        image.header["EXPTIME"] = 30.0
        image.header["FILTER"] = "r"
        frames.append(image)
    folder = tmp_path_factory.mktemp("night")
    table = align_many(frames, frames[0], output=folder, max_shift=3, scale_flux=True)
    return table, clean


def test_weights(night):
    table, _ = night
    depth = stack_weights(table)
    assert depth.mean() == pytest.approx(1)
    assert depth[2] / np.median(depth) == pytest.approx(9, rel=0.25)
    noise = stack_weights(table, by="noise")
    assert noise[2] / np.median(noise) == pytest.approx(9, rel=0.25)
    assert_array_equal(stack_weights(table, by="exptime"), np.ones(8))
    assert_array_equal(stack_weights(table, by="equal"), np.ones(8))
    with pytest.raises(ValueError, match="by is one of depth"):
        stack_weights(table, by="seeing")


def test_stack(night):
    table, clean = night
    inner = np.s_[10:-10, 10:-10]
    stacks = {
        "mean": stack_frames(table),
        "weighted": stack_frames(table, weights="depth"),
        "median": stack_frames(table, combine="median", sigma=None),
        "unclipped": stack_frames(table, sigma=None),
    }
    residual = {name: (stack.data - clean)[inner] for name, stack in stacks.items()}
    trail = np.abs(residual["unclipped"]).max()
    assert trail > 40
    for name in ("mean", "weighted", "median"):
        assert np.abs(residual[name]).max() < 0.5 * trail, name
    # the inverse variances of the frames: seven of 9 and one of 3
    scatter = {name: 1.4826 * np.median(np.abs(values)) for name, values in residual.items()}
    assert scatter["weighted"] < 0.85 * scatter["mean"]
    assert scatter["mean"] < 9 / np.sqrt(8) * 1.15
    stack = stacks["mean"]
    assert stack.header["NCOMBINE"] == 8
    assert stack.header["EXPTIME"] == 240
    assert stack.header["MJD-OBS"] == 60000
    assert stack.header["FILTER"] == "r"
    assert "ALGNDX" not in stack.header
    assert np.nanmedian(stack.uncertainty.array[inner]) == pytest.approx(3, rel=0.25)


def test_strips_do_not_change_a_stack(night):
    table, _ = night
    whole, strips = stack_frames(table), stack_frames(table, mem_limit=60 * 220 * 8 * 37)
    assert_array_equal(whole.data, strips.data)
    assert_array_equal(whole.mask, strips.mask)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"combine": "mode"}, "combine is"),
        ({"weights": [1, 2]}, "one for each of 8"),
        ({"weights": "depth", "combine": "median"}, "combine='mean'"),
    ],
)
def test_senseless_stacks(night, options, words):
    with pytest.raises(ValueError, match=words):
        stack_frames(night[0], **options)


def test_a_sum_stands_for_all_frames(batch):
    pytest.importorskip("ccdproc")
    table, _ = batch
    mean, total = stack_frames(table, sigma=None), stack_frames(table, combine="sum", sigma=None)
    np.testing.assert_allclose(total.data, 3 * mean.data, rtol=1e-5)
    number = sum(~np.asarray(frame.mask) for frame in aligned_frames(table))
    assert (number == 1).any()
    assert np.isnan(total.uncertainty.array[number == 1]).all()
    assert (total.uncertainty.array[number == 3] > 0).all()


@pytest.mark.parametrize("weights", [[0, 0, 0, 0], [1, 1, -1, 1], [np.nan, 1, 1, 1]])
def test_senseless_weights(batch, weights):
    with pytest.raises(ValueError, match="weights are numbers from 0 up"):
        stack_frames(batch[0], weights=weights)


def test_frames_of_other_batches_are_not_stacked(batch, tmp_path):
    pytest.importorskip("ccdproc")
    table = batch[0][batch[0]["status"] == "ok"]
    other = tmp_path / "other.fits"
    with fits.open(table["aligned"][0]) as hdus:
        hdus[0].header["BUNIT"] = "electron"
        hdus.writeto(other)
    table["aligned"] = [str(other), *table["aligned"][1:]]
    with pytest.raises(ValueError, match=r"BUNIT = .* the first frame 'electron'"):
        stack_frames(table)
