"""What sources are, and the names of what is made of them."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table

from spalipy_astro import Alignment, TooFewStarsError, align_many, detect_stars
from spalipy_astro.batch import expand, is_made, stem_of
from spalipy_astro.io import peek_alignment

SHIFTS = [(6.3, -4.8), (-12.25, 3.5), (20.0, 11.1)]
SMALL = {"source_shape": (210, 260), "template_shape": (240, 220), "n_stars": 90}


@pytest.fixture(scope="module")
def night(make_sky_pair):
    """A template, and frames of the same sky."""
    pairs = [make_sky_pair(shift=shift, seed=4, **SMALL) for shift in SHIFTS]
    return pairs[0].source, [pair.template for pair in pairs]


@pytest.fixture
def folders(night, tmp_path, monkeypatch):
    """Frames of one name in three folders, a card tells them apart; the template beside them."""
    template, frames = night
    for number, frame in enumerate(frames):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / "img.fits"
        fits.writeto(path, frame.data.astype("f4"), fits.Header({"NIGHT": number}))
    fits.writeto(tmp_path / "template.fits", template.data.astype("f4"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def nights(table):
    """Whose frames the aligned images are."""
    assert list(table["status"]) == ["ok"] * len(table), list(table["reason"])
    return [fits.getval(path, "NIGHT") for path in table["aligned"]]


@pytest.mark.parametrize("options", [{}, {"alignments": False}])
@pytest.mark.parametrize("first", [(1,), (1, 2), (2, 1), (2,)])
def test_files_belong_to_their_source_whatever_others_there_are(folders, first, options):
    def run(numbers):
        names = [f"{number}/img.fits" for number in numbers]
        return align_many(names, "template.fits", output="out", **options)

    one = run(first)
    assert nights(one) == list(first)
    two = run((0, 1, 2))
    assert nights(two) == [0, 1, 2]
    assert [bool(two["resumed"][number]) for number in first] == [True] * len(first)
    assert [str(two["aligned"][number]) for number in first] == list(map(str, one["aligned"]))
    three = run((2, 0))
    assert nights(three) == [2, 0]
    assert all(three["resumed"])


def test_alignments_belong_to_their_source(folders):
    options = {"output": "out", "resample": False}
    align_many(["1/img.fits"], "template.fits", **options)
    table = align_many(["0/img.fits", "1/img.fits"], "template.fits", **options)
    assert list(table["resumed"]) == [False, True]
    shifts = [Alignment.read(path).shift[0] for path in table["asdf"]]
    np.testing.assert_allclose(shifts, [-SHIFTS[0][0], -SHIFTS[1][0]], atol=0.05)


def test_a_source_given_twice_has_two_results(folders):
    table = align_many(["0/img.fits", "0/img.fits"], "template.fits", output="out")
    assert nights(table) == [0, 0]
    assert len(set(table["aligned"])) == 2


@pytest.mark.parametrize(
    "name", ["..fits", "...fits", "a b#?[x].fits", "~.fits", "-.fits", ".hidden.fit", "x" * 245]
)
def test_files_of_odd_names_are_in_the_folder(folders, name):
    shutil.copy("0/img.fits", name)
    before = set(os.listdir("."))
    table = align_many([name], "template.fits", output="out")
    assert nights(table) == [0]
    assert set(os.listdir(".")) - before == {"out"}
    assert {os.path.join(folders, "out", entry) for entry in os.listdir("out")} == {
        str(table["aligned"][0]),
        str(table["asdf"][0]),
    }


def test_stems():
    names = {"raw/a.fits": "a", "a.fits.fz": "a", "a.b.fit": "a.b", "..fits": "_", "...fits": "__"}
    assert {name: stem_of(name) for name in names} == names


def test_folders_and_patterns(folders):
    shutil.copy("1/img.fits", "0/b.FIT")
    shutil.copy("1/img.fits", "0/c.fits.gz.txt")
    table = align_many("0", "template.fits", output="out")
    assert list(table["source"]) == ["0/b.FIT", "0/img.fits"]
    assert list(align_many("?/img.fits", "template.fits")["source"]) == [
        f"{number}/img.fits" for number in range(3)
    ]
    # what was made of the frames of a folder is none of them
    align_many("1/", "template.fits", output="1")
    again = align_many("1", "template.fits", output="1")
    assert (list(again["source"]), list(again["resumed"])) == (["1/img.fits"], [True])
    (folders / "none").mkdir()
    for name, words in (("none", "contains no FITS files"), ("*.nothing", "no file matches")):
        with pytest.raises(FileNotFoundError, match=f"^sources: .*{words}"):
            align_many(name, "template.fits")
    assert expand("0/img.fits") is None


def test_a_folder_is_without_what_an_earlier_run_has_made(tmp_path):
    data, owner = np.ones((4, 5), "f4"), fits.Header({"ALGNSRC": "align-group"})
    for name in ("coadd.fits", "coadd-1 old.fits", "a_aligned.fits"):
        fits.writeto(tmp_path / name, data, owner)
        assert is_made(tmp_path / name)
        assert is_made(tmp_path / name, by="align-group")
        assert not is_made(tmp_path / name, by="align-fits")
    fits.writeto(tmp_path / "raw.fits", data, owner)  # whose name is that of a frame
    fits.writeto(tmp_path / "coadd of mine.fits", data)  # whose header has no owner
    names = [os.path.basename(path) for path in expand(tmp_path)]
    assert names == ["coadd of mine.fits", "raw.fits"]
    assert not is_made(tmp_path / "coadd-2.fits")


def test_one_image_is_no_list(night, folders):
    template, frames = night
    path = "0/img.fits"
    ones = [
        *(path, frames[0], CCDData(frames[0], unit="adu"), frames[0].data, frames[0].data.tolist()),
        fits.HDUList([fits.PrimaryHDU(frames[0].data)]),
        fits.ImageHDU(frames[0].data),
        detect_stars(frames[0]),
    ]
    for one in ones:
        with pytest.raises(TypeError, match=r"^sources is a list of images.*Write \["):
            align_many(one, template)
    for one in (3, None, object()):
        with pytest.raises(TypeError, match=r"^sources is a list"):
            align_many(one, template)
    with pytest.raises(TypeError, match=r"^sources .*got a dict.*list\(images\.values\(\)\)"):
        align_many({"a": frames[0]}, template)


def test_what_is_no_image_is_a_row_that_says_so(night):
    template, frames = night
    odd = [None, 3, np.array([None, None]), np.zeros((9, 9), complex), [[1, 2], [3]]]
    table = align_many([*odd, frames[0]], template, n_workers=np.float64(1))
    assert list(table["status"]) == ["failed"] * 5 + ["ok"]
    for reason in table["reason"][:5]:
        assert "source is an image: a path, an HDU or HDUList" in reason
    with pytest.raises(TooFewStarsError, match="sources is empty"):
        align_many([], "best")


def test_every_kind_of_image_is_a_source_and_a_template(night, folders):
    template, frames = night
    data = frames[0].data
    with fits.open("0/img.fits") as hdus:
        sources = [data, CCDData(data, unit="adu"), hdus, hdus[0], "0/img.fits", fits.PrimaryHDU()]
        table = align_many(sources, fits.PrimaryHDU(template.data), output="out")
        assert align_many([data], fits.HDUList([fits.PrimaryHDU(template.data)]))["status"] == "ok"
    assert list(table["status"]) == ["ok"] * 5 + ["failed"]
    assert "contains no image" in table["reason"][-1]
    assert len(set(table["shift_x"][:5])) == 1


def test_catalogs_are_sources_and_templates(night, folders):
    template, frames = night
    stars = [detect_stars(frame)["x", "y", "flux"] for frame in frames]
    stars[0].write("0/stars.ecsv")
    of_template = detect_stars(template)["x", "y", "flux"]
    xy = np.column_stack([np.asarray(stars[1][name]) for name in ("x", "y")])
    for where in (of_template, template):
        table = align_many(["0/stars.ecsv", Table(stars[1]), xy], where, output=None)
        assert list(table["status"]) == ["ok"] * 3, list(table["reason"])
        points = np.array([[100.0, 80.0], [180.0, 150.0]])
        for alignment, shift in zip(table["alignment"], np.array(SHIFTS)[[0, 1, 1]], strict=True):
            moved = np.column_stack(alignment.transform(*points.T)) - points
            # both shapes differ: the sky pair brings the centers together, then shifts
            center = (np.array([259, 209]) - np.array([219, 239])) / 2
            np.testing.assert_allclose(moved, np.broadcast_to(center - shift, (2, 2)), atol=0.1)
    saved = align_many(["0/stars.ecsv"], of_template, output="out", resample=False)
    assert Alignment.read(saved["asdf"][0]).n_matched == saved["n_matched"][0]
    again = align_many(["0/stars.ecsv"], of_template, output="out", resample=False)
    assert list(again["resumed"]) == [True]
    failed = align_many(["0/stars.ecsv", stars[1]], template, output="images")
    for reason in failed["reason"]:
        assert "resample=False" in reason


def test_notes_of_a_file_are_those_of_its_alignment(night, folders):
    table = align_many([night[1][0]], night[0], output="out", resample=False)
    alignment = Alignment.read(table["asdf"][0])
    summary, provenance = peek_alignment(table["asdf"][0])
    # the error of the transform is derived from what the file holds
    assert {**summary, "error": alignment.summary()["error"]} == dict(alignment.summary())
    assert provenance == dict(alignment.provenance)
    path = folders / "cut.asdf"
    path.write_bytes((folders / "out" / "00000_alignment.asdf").read_bytes()[:-3000])
    with pytest.raises(Exception, match="not a whole file"):
        peek_alignment(path)
