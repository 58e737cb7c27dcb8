"""Calls with misspelled options, and with words where True or False belongs."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.modeling.models import Shift
from astropy.table import Table

from spalipy_astro import (
    Alignment,
    align,
    align_group,
    align_many,
    detect_stars,
    find_alignment,
    fit_alignment,
    read_catalog,
)
from spalipy_astro._checks import check_flags, checked_call
from spalipy_astro.catalogs import register_dialect
from spalipy_astro.report import report_sequence

IMAGE = np.zeros((20, 30))


@pytest.fixture(scope="module")
def alignment():
    moved = Shift(1) & Shift(2)
    return Alignment.from_transform(moved, source_shape=(20, 30), template_shape=(20, 30))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: find_alignment(IMAGE, IMAGE, treshold=3), "find_alignment.* did you mean thres"),
        (lambda a: align(IMAGE, IMAGE, Rotation=(0, 1)), r"align\(\) .*'Rotation'; did you mean r"),
        (lambda a: align_many([IMAGE], IMAGE, ouput="x"), r"align_many\(\) .* did you mean output"),
        (lambda a: align_group([IMAGE], camra="shared"), r"align_group\(\) .* did you mean camera"),
        (lambda a: detect_stars(IMAGE, gian=2), r"detect_stars\(\) .* did you mean gain"),
        (lambda a: fit_alignment(IMAGE, IMAGE, weight=2), r"fit_align.* did you mean weights"),
        (lambda a: read_catalog("x.cat", colums=2), r"read_catalog\(\) .* did you mean columns"),
        (lambda a: a.resample(IMAGE, methd="nearest"), r"resample\(\) .* did you mean method"),
        (lambda a: a.write("x.asdf", overwite=True), r"write\(\) .* did you mean overwrite"),
        (lambda a: a.report("x.html", tittle="x"), r"report\(\) .* did you mean title"),
        (lambda a: a.cropped(sorce=np.s_[:5, :5]), r"cropped\(\) .* did you mean source"),
        (lambda a: Alignment.from_transform(Shift(1), wsc=1), r"from_transform.* did you mean wcs"),
    ],
)
def test_the_nearest_name_is_suggested(alignment, tmp_path, monkeypatch, call, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match=words):
        call(alignment)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["no", "False", "", 2, 0.0, None, [False], np.ones(2)])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("overwrite", lambda a, no: a.write("x.asdf", overwrite=no)),
        ("portable", lambda a, no: a.write("x.asdf", portable=no)),
        ("overwrite", lambda a, no: a.report("x.html", overwrite=no)),
        ("scale_flux", lambda a, no: a.resample(IMAGE, scale_flux=no)),
        ("return_footprint", lambda a, no: a.resample(IMAGE, return_footprint=no)),
        ("closed", lambda a, no: a.transform_polygon([[0, 0], [1, 1]], closed=no)),
        ("match_background", lambda a, no: align(IMAGE, IMAGE, match_background=no)),
        ("overwrite", lambda a, no: align_many([IMAGE], IMAGE, output="out", overwrite=no)),
        ("resample", lambda a, no: align_many([IMAGE], IMAGE, output="out", resample=no)),
        ("overwrite", lambda a, no: report_sequence(Table(), "x.html", overwrite=no)),
        ("overwrite", lambda a, no: register_dialect(None, overwrite=no)),
    ],
)
def test_a_word_is_no_truth_value(alignment, tmp_path, monkeypatch, name, call, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match=f"^{name} is True or False; got "):
        call(alignment, value)
    assert not list(tmp_path.iterdir())


def test_truth_values_of_other_types_and_none(alignment):
    given = [
        alignment.resample(IMAGE + 1, return_footprint=yes) for yes in (True, 1, np.bool_(True))
    ]
    assert all(isinstance(one, tuple) for one in given)
    alignment.resample(IMAGE, conserve_flux=None)
    with pytest.raises(TypeError, match=r"^conserve_flux is True, False or None; got 'no'"):
        alignment.resample(IMAGE, conserve_flux="no")


def test_the_function_stays_what_it_is():
    @checked_call
    def add(x: float, *, twice: bool = False) -> float:
        """Add."""
        return 2 * x if twice else x

    assert add(3.0, twice=True) == 6.0
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    with pytest.raises(TypeError, match=r"^add\(\) has no option 'twic'; did you mean twice"):
        add(3.0, twic=True)


@pytest.mark.parametrize(
    ("wrong", "names"), [("SEEN", {"SATURATED": 1}), ("1;2", None), (1.5, None)]
)
def test_flags_that_no_file_has_are_refused_before_the_work(wrong, names):
    """Also where no image has flags."""
    for function, images in ((detect_stars, [IMAGE]), (find_alignment, [IMAGE, IMAGE])):
        with pytest.raises(ValueError, match="ignore_flags is a number, bits or names"):
            function(*images, ignore_flags=wrong, flag_name_map=names)
    with pytest.raises(ValueError, match="ignore_flags is a number, bits or names"):
        align_many([IMAGE], IMAGE, ignore_flags=wrong, flag_name_map=names)


@pytest.mark.parametrize(
    "flags", ["CR, DETECTED", ["CR"], "None", None, "~4", [1, 2], "observatory"]
)
def test_flags_that_a_file_may_have_are_not_refused(flags):
    check_flags(flags)
