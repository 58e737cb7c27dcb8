from __future__ import annotations

import gc
import gzip
import hashlib
import multiprocessing
import os
import pickle
import platform
import re
import shutil
import subprocess
import sys
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

from spalipy_astro import (
    Alignment,
    NoMatchError,
    TooFewStarsError,
    align_many,
    detect_stars,
    find_alignment,
)
from spalipy_astro._workers import no_collection, run
from spalipy_astro.errors import CatalogError
from spalipy_astro.resampling import resample

SHIFTS = [(6.3, -4.8), (-12.25, 3.5), (20.0, 11.1)]
SMALL = {"source_shape": (210, 260), "template_shape": (240, 220), "n_stars": 90}


@pytest.fixture(scope="module")
def night(make_sky_pair):
    """A template, and frames of the same sky whose shifts are known."""
    pairs = [make_sky_pair(shift=shift, seed=4, **SMALL) for shift in SHIFTS]
    return pairs[0].source, [pair.template for pair in pairs]


def write_files(night, folder):
    """Write the template and the frames; return their paths."""
    template, frames = night
    paths = [folder / "template.fits", *(folder / f"frame{k}.fits" for k in range(len(frames)))]
    for path, image in zip(paths, [template, *frames], strict=True):
        fits.PrimaryHDU(image.data.astype(np.float32)).writeto(path)
    return paths


@pytest.fixture
def files(night, tmp_path):
    """The same as files."""
    folder = tmp_path / "raw"
    folder.mkdir()
    template, *paths = write_files(night, folder)
    return template, paths


def broken_frames(folder, make_sky_pair, shape=(200, 230)):
    """Frames that nothing can be aligned with, and a word of the reason."""
    rng = np.random.default_rng(8)
    images = {
        "nan": np.full(shape, np.nan, np.float32),
        "flat": np.full(shape, 100, np.int16),
        "noise": rng.normal(100, 5, shape),
        "other_field": make_sky_pair(seed=99, **SMALL).template.data,
        "cube": rng.normal(100, 5, (3, *shape)),
    }
    for name, data in images.items():
        fits.PrimaryHDU(data).writeto(folder / f"{name}.fits")
    whole = (folder / "noise.fits").read_bytes()
    (folder / "truncated.fits").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.fits").write_bytes(b"")
    (folder / "text.fits").write_text("not an image")
    return {
        "nan": "bad",
        "flat": "same value",
        "noise": "usable stars",
        "other_field": "no transform matches",
        "cube": "usable stars",
        "truncated": "bytes are missing",
        "empty": "is not a FITS file",
        "text": "is not a FITS file",
        "missing": "there is no file",
    }


def digest(array):
    """A short stand-in for the bytes of an array: pytest takes minutes to compare long ones."""
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def content(folder):
    """What was written: pixels, masks and matched stars of all frames."""
    out = {}
    for path in sorted(folder.glob("*_aligned.fits")):
        with fits.open(path) as hdus:
            out[path.name] = [digest(hdu.data) for hdu in hdus]
    for path in sorted(folder.glob("*_alignment.asdf")):
        alignment = Alignment.read(path)
        matches = alignment.matches
        out[path.name] = [digest(matches[name]) for name in matches.colnames]
        out[path.name].append(digest(alignment.transform.inverse.parameters))
    return out


@pytest.mark.parametrize("as_files", [False, True])
def test_each_source_has_its_row_with_its_own_transform(night, files, as_files):
    template, sources = files if as_files else night
    table = align_many(iter(sources) if not as_files else sources, template)
    assert list(table["status"]) == ["ok"] * 3
    assert list(table["source"]) == ([str(path) for path in sources] if as_files else [0, 1, 2])
    for row, (dx, dy) in zip(table, SHIFTS, strict=True):
        # sources and template differ in shape: the centers of both are brought together
        assert_allclose([row["shift_x"], row["shift_y"]], [-dx, -dy], atol=0.05)
        assert_allclose([row["rotation"], row["scale"], row["parity"]], [0, 1, 1], atol=5e-3)
        assert row["n_matched"] > 25
        assert row["rms"] < 0.3
        assert row["log_odds"] > 50
        assert row["time"] > 0
        assert isinstance(row["alignment"], Alignment)
    assert table.meta["shape"] == night[0].shape
    assert table.meta["offset"] == (0, 0)


def test_bad_frames_stop_nothing(files, tmp_path, make_sky_pair):
    template, paths = files
    reasons = broken_frames(tmp_path, make_sky_pair)
    bad = [tmp_path / f"{name}.fits" for name in reasons]
    sources = [paths[0], *bad[:4], paths[1], *bad[4:], paths[2]]
    table = align_many(sources, template, output=tmp_path / "out")
    assert list(table["source"]) == [str(path) for path in sources]
    good = table["status"] == "ok"
    assert list(np.flatnonzero(good)) == [0, 5, len(sources) - 1]
    for row, word in zip(table[~good], reasons.values(), strict=True):
        assert word in row["reason"]
        assert row["n_matched"] == row["parity"] == 0
        assert np.isnan(row["rms"])
        assert row["aligned"] == row["asdf"] == ""
    assert set(table["reason"][good]) == {""}
    assert len(list((tmp_path / "out").iterdir())) == 6  # and no leftovers


def test_files_are_what_align_gives(night, files, tmp_path):
    template, paths = files
    table = align_many(paths, template, output=tmp_path / "out", method="bilinear", fill_value=-9)
    for frame, row in zip(night[1], table, strict=True):
        read = Alignment.read(row["asdf"])
        assert_allclose(read.summary()["shift_x"], row["shift_x"])
        aligned = CCDData.read(row["aligned"])
        frame = CCDData(frame.data.astype(np.float32), unit="adu")
        expected = read.resample(frame, method="bilinear", fill_value=-9)
        assert_array_equal(aligned.data, expected.data)
        assert_array_equal(aligned.mask, expected.mask)
        assert aligned.data[aligned.mask][0] == -9
        assert aligned.header["ALGNNUM"] > 25
        with fits.open(row["aligned"]) as hdus:
            hdus.verify("exception")


def test_alignments_alone_can_be_written(files, tmp_path):
    template, paths = files
    table = align_many(paths[:1], template, output=tmp_path / "out", resample=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["frame0_alignment.asdf"]
    assert table["aligned"][0] == ""
    # and the images later
    table = align_many(paths[:1], template, output=tmp_path / "out")
    assert (tmp_path / "out" / "frame0_aligned.fits").is_file()
    assert not table["resumed"][0]


class TestImagesAlone:
    """What ``alignments=False`` writes, and how a later run knows it."""

    def test_they_are_the_same(self, files, tmp_path):
        template, paths = files
        both = align_many(paths, template, output=tmp_path / "both")
        alone = align_many(paths, template, output=tmp_path / "alone", alignments=False)
        assert "asdf" not in alone.colnames
        names = [path.name for path in sorted((tmp_path / "alone").iterdir())]
        assert names == [f"frame{k}_aligned.fits" for k in range(len(paths))]
        for one, other in zip(alone, both, strict=True):
            assert Path(one["aligned"]).read_bytes() == Path(other["aligned"]).read_bytes()

    def test_a_second_run_skips_what_is_done(self, files, tmp_path):
        template, paths = files
        out = tmp_path / "out"
        first = align_many(paths[:2], template, output=out, alignments=False)
        before = content(out)
        second = align_many(paths, template, output=out, alignments=False)
        assert list(second["resumed"]) == [True, True, False]
        assert {name: value for name, value in content(out).items() if name in before} == before
        for name in set(first.colnames) - {"time", "resumed"}:
            if first[name].dtype.kind == "f":
                # a card has room for fourteen digits or more
                assert_allclose(second[name][:2], first[name], rtol=1e-13)
            else:
                assert_array_equal(second[name][:2], first[name])
        options = {"output": out, "alignments": False}
        few = align_many(paths[:2], template, min_matched=10_000, **options)
        assert all("min_matched=10000 are required" in reason for reason in few["reason"])

        # one that was cut short is made again
        aligned = out / "frame1_aligned.fits"
        whole = aligned.read_bytes()
        aligned.write_bytes(whole[: len(whole) // 2])
        again = align_many(paths, template, **options)
        assert list(again["resumed"]) == [True, False, True]
        assert aligned.read_bytes() == whole
        # and with other options nothing is overwritten
        other = align_many(paths, template, method="nearest", **options)
        assert set(other["status"]) == {"failed"}
        assert all("overwrite=True" in reason for reason in other["reason"])
        assert aligned.read_bytes() == whole
        assert not any(align_many(paths, template, overwrite=True, **options)["resumed"])

    def test_alignments_can_be_written_later(self, files, tmp_path):
        template, paths = files
        align_many(paths[:1], template, output=tmp_path / "out", alignments=False)
        image = (tmp_path / "out" / "frame0_aligned.fits").read_bytes()
        table = align_many(paths[:1], template, output=tmp_path / "out")
        assert Alignment.read(table["asdf"][0]).summary()["rms"] == table["rms"][0]
        assert Path(table["aligned"][0]).read_bytes() == image

    @pytest.mark.parametrize("options", [{"resample": False}, {"grid": "union"}])
    def test_what_makes_no_sense(self, files, tmp_path, options):
        template, paths = files
        out = tmp_path / "out"
        with pytest.raises(ValueError, match="alignments=False"):
            align_many(paths, template, output=out, alignments=False, **options)
        assert not out.exists()


def test_a_second_run_skips_what_is_done(files, tmp_path, monkeypatch):
    template, paths = files
    out = tmp_path / "out"
    first = align_many(paths[:2], template, output=out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    second = align_many(paths, template, output=out)
    assert list(second["resumed"]) == [True, True, False]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for name in ("status", "n_matched", "rms", "shift_x", "aligned", "asdf"):
        assert_array_equal(first[name], second[name][:2])

    # an image that was cut short is made again, from the alignment that is there
    aligned = out / "frame1_aligned.fits"
    whole = aligned.read_bytes()
    aligned.write_bytes(whole[: len(whole) // 2])
    third = align_many(paths, template, output=out)
    assert list(third["resumed"]) == [True, False, True]
    assert aligned.read_bytes() == whole


def test_another_file_of_the_same_size_and_time_is_not_done(files, tmp_path):
    """Copies keep the time, and frames of one camera have one size."""
    template, paths = files
    night, out = tmp_path / "night", tmp_path / "out"
    night.mkdir()
    source = night / "frame.fits"
    shutil.copy2(paths[0], source)
    options = {"output": out, "resample": False}
    align_many([source], template, **options)
    state = source.stat()
    shutil.copyfile(paths[1], source)
    os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert source.stat().st_size == state.st_size
    again = align_many([source], template, **options)
    assert "the current source" in again["reason"][0]
    assert align_many([source], template, **options, overwrite=True)["status"][0] == "ok"
    assert align_many([source], template, **options)["resumed"][0]


def test_files_of_other_making_are_not_overwritten(files, tmp_path):
    template, paths = files
    out = tmp_path / "out"
    align_many(paths[:1], template, output=out)
    before = content(out)
    changed = [
        {"threshold": 8.0},
        {"method": "nearest"},
        {"grid": "union"},
    ]
    for options in changed:
        table = align_many(paths[:1], template, output=out, **options)
        assert "overwrite=True" in table["reason"][0]
    table = align_many(paths[:1], paths[1], output=out)
    assert "overwrite=True" in table["reason"][0]
    assert content(out) == before
    with fits.open(paths[0], mode="update") as hdus:
        hdus[0].data += 1
    table = align_many(paths[:1], template, output=out)
    assert "the current source" in table["reason"][0]
    assert content(out) == before
    table = align_many(paths[:1], template, output=out, overwrite=True)
    assert table["status"][0] == "ok"
    assert content(out) != before


def test_a_source_is_never_taken_for_a_result(files):
    """The output folder may be that of the sources."""
    template, paths = files
    before = [path.read_bytes() for path in paths]
    table = align_many(paths, template, output=paths[0].parent)
    assert list(table["status"]) == ["ok"] * 3
    assert [path.read_bytes() for path in paths] == before


def test_sources_of_one_name_get_files_of_their_own(files, tmp_path):
    template, paths = files
    other = tmp_path / "other"
    other.mkdir()
    (other / "frame0.fits.gz").write_bytes(gzipped(paths[1]))
    table = align_many([paths[0], other / "frame0.fits.gz"], template, output=tmp_path / "out")
    names = [path.rpartition("/")[2] for path in table["aligned"]]
    assert names[0] == "frame0_aligned.fits"
    assert re.fullmatch(r"frame0-other-[0-9a-f]{8}_aligned\.fits", names[1])
    assert_allclose(table["shift_x"], [-SHIFTS[0][0], -SHIFTS[1][0]], atol=0.05)


def test_the_sky_is_no_template_of_a_sequence(files):
    sky = Table({"ra": [1.0, 2.0], "dec": [3.0, 4.0]})
    with pytest.raises(CatalogError, match="find_alignment for each source"):
        align_many(files[1], sky)


def gzipped(path):
    return gzip.compress(path.read_bytes())


@pytest.fixture(scope="module")
def serial(night, tmp_path_factory):
    """Files, and what one thread makes of them."""
    folder = tmp_path_factory.mktemp("serial")
    paths = write_files(night, folder)
    table = align_many(paths[1:], paths[0], output=folder / "out")
    return paths, table, content(folder / "out")


@pytest.mark.parametrize("where", ["threads", "processes", "executor", "pool", "dask"])
def test_results_do_not_depend_on_where_they_are_computed(serial, tmp_path, where):
    (template, *paths), serial_table, expected = serial
    if where == "dask":
        distributed = pytest.importorskip("distributed")
        with (
            distributed.LocalCluster(
                n_workers=1,
                threads_per_worker=2,
                processes=False,
                dashboard_address=None,
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            table = align_many(paths, template, output=tmp_path / "other", client=client)
            by_address = align_many(
                paths, template, output=tmp_path / "third", client=cluster.scheduler_address
            )
        assert content(tmp_path / "third") == expected
        assert list(by_address["status"]) == ["ok"] * 3
    elif where in ("executor", "pool"):
        spawn = multiprocessing.get_context("spawn")
        pool = ThreadPoolExecutor(2) if where == "executor" else ProcessPoolExecutor(2, spawn)
        with pool as executor:
            table = align_many(
                paths, template, output=tmp_path / "other", executor=executor, n_workers=2
            )
    else:
        table = align_many(paths, template, output=tmp_path / "other", n_workers=2, executor=where)
    assert content(tmp_path / "other") == expected
    for name in ("source", "status", "n_matched", "rms", "log_odds", "shift_x", "rotation"):
        assert_array_equal(table[name], serial_table[name])


def test_images_are_taken_one_by_one(night):
    template, frames = night
    given = []
    most = 0

    def stream():
        nonlocal most
        for k in range(6):
            image = frames[k % 3].data.copy()
            given.append(weakref.ref(image))
            yield image
            del image
            gc.collect()
            most = max(most, sum(ref() is not None for ref in given))

    table = align_many(stream(), template)
    assert len(table) == 6
    assert set(table["status"]) == {"ok"}
    assert most <= 3


def test_interruptions_pass(night, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("spalipy_astro.batch._task._image", interrupt)
    with pytest.raises(KeyboardInterrupt):
        align_many(night[1], night[0])


def test_one_common_grid_holds_all_frames(night, files, tmp_path):
    template, paths = files
    table = align_many(paths, template, output=tmp_path / "out", grid="union")
    (x0, y0), (ny, nx) = table.meta["offset"], table.meta["shape"]
    for frame, row in zip(night[1], table, strict=True):
        alignment = Alignment.read(row["asdf"])
        corners = np.array([[0, 0], [frame.shape[1] - 1, frame.shape[0] - 1]])
        x, y = alignment.transform(*corners.T)
        assert x0 - 0.5 <= x.min() < x.max() <= x0 + nx - 0.5
        assert y0 - 0.5 <= y.min() < y.max() <= y0 + ny - 0.5
        aligned = CCDData.read(row["aligned"])
        assert aligned.shape == (ny, nx)
        # the same sky at the same place
        found, known = (detect_stars(image)[:60] for image in (aligned, night[0]))
        dx = found["x"][:, None] + x0 - known["x"]
        dy = found["y"][:, None] + y0 - known["y"]
        assert np.median(np.hypot(dx, dy).min(axis=1)) < 0.1
    again = align_many(paths, template, output=tmp_path / "out", grid="union")
    assert all(again["resumed"])


def test_best_template_has_most_stars_in_common(night, make_sky_pair):
    """Another field with more stars must not win, nor a frame through clouds."""
    template, frames = night
    rng = np.random.default_rng(2)
    clouds = frames[1].data * 0.1 + rng.normal(0, 30, frames[1].shape)
    crowd = make_sky_pair(seed=70, **{**SMALL, "n_stars": 250}).template
    sources = [clouds, frames[2], crowd, frames[0], np.full((90, 80), np.nan), template]
    table = align_many(sources, "best")
    assert list(table["status"]) == ["ok", "ok", "failed", "ok", "failed", "ok"]
    assert table.meta["template"] in (1, 3, 5)
    assert table["rms"][table.meta["template"]] < 1e-6
    assert "bad" in table["reason"][4]


def test_best_template_of_nothing(make_sky_pair):
    with pytest.raises(TooFewStarsError, match="none of 2 sources"):
        align_many([np.full((90, 80), np.nan)] * 2, "best")
    strangers = [make_sky_pair(seed=seed, **SMALL).template for seed in (31, 32, 33)]
    with pytest.raises(NoMatchError, match="name the template"):
        align_many(strangers, "best")


def test_template_may_be_a_catalog(night, tmp_path):
    template, frames = night
    catalog = detect_stars(template)
    with pytest.raises(ValueError, match="shape="):
        align_many(frames, catalog, output=tmp_path)
    table = align_many(frames, catalog, output=tmp_path, shape=(200, 310))
    assert_allclose(table["rotation"], 0, atol=5e-3)
    assert CCDData.read(table["aligned"][0]).shape == (200, 310)
    Table(catalog["x", "y", "flux"], meta={}).write(tmp_path / "template.fits")
    assert set(align_many(frames, tmp_path / "template.fits")["status"]) == {"ok"}


def test_masks_for_each_source(night, tmp_path):
    template, frames = night
    masks = [np.zeros(frame.shape, bool) for frame in frames]
    masks[0][100:140, 50:80] = True
    masks[1][10:30, 180:210] = True
    path = tmp_path / "mask.fits"
    fits.PrimaryHDU(masks[1].astype(np.uint8)).writeto(path)
    table = align_many(
        frames, template, output=tmp_path / "out", source_mask=[masks[0], path, None]
    )
    for frame, mask, row in zip(frames, masks, table, strict=True):
        alignment = Alignment.read(row["asdf"])
        expected = alignment.resample(CCDData(frame.data, unit="adu", mask=mask))
        assert_array_equal(CCDData.read(row["aligned"]).mask, expected.mask)
    with pytest.raises(ValueError, match="2 masks for 3 sources"):
        align_many(frames, template, source_mask=masks[:2])
    one_for_all = align_many(frames, template, source_mask=masks[0])
    assert set(one_for_all["status"]) == {"ok"}


def test_image_file_collections(files):
    ccdproc = pytest.importorskip("ccdproc")
    template, paths = files
    collection = ccdproc.ImageFileCollection(paths[0].parent, glob_include="frame*.fits")
    table = align_many(collection, template)
    assert [source.rpartition("/")[2] for source in table["source"]] == [p.name for p in paths]
    assert set(table["status"]) == {"ok"}


def test_extensions(night, tmp_path):
    template, frames = night
    path = tmp_path / "chips.fits"
    hdus = [fits.ImageHDU(frame.data, name=f"CHIP{k}") for k, frame in enumerate(frames)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    for hdu, shift in ((None, SHIFTS[0]), ("CHIP1", SHIFTS[1]), (3, SHIFTS[2])):
        table = align_many([path], template, hdu=hdu)
        assert_allclose(table["shift_x"][0], -shift[0], atol=0.05)
    assert "CHIP0" in align_many([path], template, hdu="CHIP7")["reason"][0]


def test_progress_is_shown_on_request_only(night, capfd):
    template, frames = night
    align_many(frames[:1], template)
    assert capfd.readouterr() == ("", "")
    pytest.importorskip("tqdm")
    align_many(frames[:1], template, progress=True)
    assert "1/1" in capfd.readouterr().err


def test_a_bar_without_tqdm(night, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        align_many(night[1], night[0], progress=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"treshold": 5}, TypeError, r"align_many\(\) has no option 'treshold'; .* threshold"),
        ({"outptu": "."}, TypeError, "did you mean output"),
        ({"threshold": -5}, ValueError, "-5"),
        ({"method": "foo"}, ValueError, "^method must be one of"),
        ({"fill_value": "x"}, TypeError, "^fill_value"),
        ({"min_matched": "few"}, TypeError, "^min_matched"),
        ({"scale": (2, 1)}, ValueError, "scale"),
        ({"use_wcs": True}, ValueError, "celestial"),
        ({"grid": "both"}, ValueError, "both"),
        ({"executor": "gpu"}, ValueError, "gpu"),
        ({"n_workers": 0}, ValueError, "0"),
    ],
)
def test_arguments_that_make_no_sense(night, options, error, message):
    with pytest.raises(error, match=message):
        align_many(night[1], night[0], **options)


def test_arguments_are_checked_before_the_first_frame():
    def frames():
        raise AssertionError("a frame was asked for")
        yield

    for option in ({"method": "foo"}, {"fill_value": "x"}, {"threshold": 0}, {"rotation": 5}):
        with pytest.raises((TypeError, ValueError), match=f"^{next(iter(option))}"):
            align_many(frames(), "best", **option)


def test_a_path_is_no_list(files):
    with pytest.raises(TypeError, match="list of images"):
        align_many(str(files[1][0]), files[0])


def test_no_sources(night):
    table = align_many([], night[0])
    assert len(table) == 0
    assert {"source", "status", "reason", "alignment"} <= set(table.colnames)


def test_the_log_can_be_written(files, tmp_path):
    template, paths = files
    table = align_many([*paths[:1], tmp_path / "no.fits"], template, output=tmp_path / "out")
    table.write(tmp_path / "log.ecsv")
    assert_array_equal(Table.read(tmp_path / "log.ecsv")["status"], ["ok", "failed"])


def test_options_reach_the_method(night):
    template, frames = night
    few = align_many(frames[:1], template, select={"brightest": 20}, spline_order=0)
    many = align_many(frames[:1], template)
    assert few["n_matched"][0] <= 20 < many["n_matched"][0]
    expected = find_alignment(frames[0], template, select={"brightest": 20}, spline_order=0)
    assert_allclose(few["rms"][0], expected.summary()["rms"])


def test_arrays_are_resampled_as_ccddata_are(night, tmp_path):
    template, frames = night
    masked = np.ma.masked_less(frames[0].data, np.quantile(frames[0].data, 0.001))
    table = align_many([frames[0].data, masked], template, output=tmp_path)
    alignment = Alignment.read(table["asdf"][0])
    aligned = CCDData.read(table["aligned"][0])
    assert_array_equal(
        aligned.data,
        resample(frames[0].data, alignment.transform.inverse, shape=template.shape),
    )
    assert CCDData.read(table["aligned"][1]).mask.sum() > aligned.mask.sum()


def test_a_deadly_item_is_given_up_alone():
    """A worker that dies takes with it what others were working on; that is repeated."""
    items = ["10", "11", "__import__('os')._exit(3)", "13", "14", "15"]
    results = dict(run(eval, items, n_workers=2))
    assert [results[k] for k in (0, 1, 3, 4, 5)] == [10, 11, 13, 14, 15]
    assert "died at this item" in str(results[2])


def test_a_pool_is_sent_the_function_once():
    """It holds the template's stars: items go without it."""
    sizes = []

    class Counting(ProcessPoolExecutor):
        def submit(self, *args):
            sizes.append(len(pickle.dumps(args)))
            return super().submit(*args)

    heavy = partial(np.take, np.arange(100_000))
    with Counting(1, multiprocessing.get_context("spawn")) as pool:
        results = dict(run(heavy, range(5), executor=pool))
    assert results == {k: k for k in range(5)}
    assert len(sizes) == 5
    assert max(sizes) < 1000


def test_items_that_raise_are_results(capfd):
    results = dict(run(eval, ["1", "1 / 0"], n_workers=2, executor="threads"))
    assert results[0] == 1
    assert isinstance(results[1], ZeroDivisionError)


def test_a_script_without_a_guard_is_told_so(tmp_path):
    """Not left waiting, either, although what its workers are sent is more than a pipe holds."""
    script = tmp_path / "script.py"
    script.write_text(
        "from functools import partial\n"
        "from spalipy_astro._workers import run\n"
        "print(list(run(partial(print, 'x' * 300_000), ['1'], n_workers=2)))\n"
    )
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 1
    assert "if __name__" in result.stderr.splitlines()[-1]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's allocator")
def test_memory_of_one_frame_serves_the_next():
    code = """if True:
        import resource
        import numpy as np
        from spalipy_astro._workers import reuse_arrays

        def pages(rounds):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(rounds):
                arrays = [np.ones(3 << 20, np.uint8) for _ in range(8)]
                del arrays
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        reuse_arrays()
        print(pages(1), pages(20))
    """
    environment = {key: value for key, value in os.environ.items() if "MALLOC" not in key}
    done = subprocess.run(
        [sys.executable, "-Pc", code], env=environment, capture_output=True, text=True, check=True
    )
    first, later = map(int, done.stdout.split())
    assert first > 8 * 3 * 2**20 / 2**16
    assert later < first


def test_garbage_is_collected_between_frames_and_where_several_are_in_work():
    with no_collection():
        assert not gc.isenabled()
        with no_collection():  # as of another thread
            assert gc.isenabled()
        assert gc.isenabled()
    assert gc.isenabled()


def test_collection_that_is_off_stays_off():
    gc.disable()
    try:
        with no_collection(), no_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
