"""The page about a group, and its figures."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from astropy.modeling.models import Shift
from astropy.table import QTable

pytest.importorskip("matplotlib")

from spalipy_astro import Alignment, GroupAlignment
from spalipy_astro.report._verdict import judge_group
from spalipy_astro.visualization import plot_group, plot_group_residuals

SHAPE = (60, 80)


def group_of(component=(0, 0, 0, -1), used=(True, True, True), error=0.01):
    """Four frames, 40 px apart, all with the stars of one list; the last one failed."""
    rng = np.random.default_rng(1)
    xy = rng.uniform((0, 0), (160, 60), (50, 2))
    alignments = []
    for k, part in enumerate(component):
        plain = Alignment.from_transform(
            Shift(40 * k) & Shift(0), source_shape=SHAPE, template_shape=SHAPE
        )
        inside = np.flatnonzero((xy[:, 0] > 40 * k) & (xy[:, 0] < 40 * k + 80))
        columns = {name: np.zeros(len(inside)) for name in plain.matches.colnames}
        columns |= {"x_template": xy[inside, 0], "y_template": xy[inside, 1]}
        columns |= {"dx": rng.normal(0, 0.1, len(inside)), "template_row": inside}
        columns |= {"x_source": xy[inside, 0] - 40 * k, "y_source": xy[inside, 1]}
        columns["used"] = np.ones(len(inside), bool)
        alignments.append(None if part < 0 else replace(plain, matches=QTable(columns)))
    good = np.array(component) >= 0
    n = len(component)
    table = QTable(
        {
            "source": [f"<frame{k}>.fits" for k in range(n)],
            "status": np.where(good, "ok", "failed"),
            "reason": np.where(good, "", "its stars could not be matched."),
            "component": np.array(component),
            "links": np.full(n, 2),
            "n_matched": np.full(n, 40),
            "rms": np.where(good, 0.1, np.nan),
            "error": np.where(good, error, np.nan),
            "fwhm": np.full(n, 2.51),
        }
    )
    ends = {"i": np.array([0, 1, 0]), "j": np.array([1, 2, 2])}
    links = QTable(
        {
            **ends,
            "n_matched": np.array([30, 20, 9]),
            "log_odds": np.array([99.0, 50, 33]),
            "rms_before": np.array([0.2, 0.2, 0.4]),
            "rms": np.where(used, [0.1, 0.12, 0.2], np.nan),
            "used": np.array(used),
        }
    )
    return GroupAlignment(0, alignments, table, links, {"options": {"threshold": 5.0}})


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "group.html"
    images = list(np.random.default_rng(2).normal(100, 3, (4, *SHAPE)))
    group_of(used=(True, True, False)).report(path, images=images, title="A <field>")
    return path.read_text(encoding="utf-8")


def test_the_page_has_all_of_it(page):
    assert "A &lt;field&gt;" in page
    assert "&lt;frame0&gt;.fits" in page
    for heading in ("Maps", "Where frames overlap", "Frames", "Links", "Provenance"):
        assert f"<h2>{heading}</h2>" in page
    assert "its stars could not be matched." in page
    assert "contradicts the others" in page
    assert ">2.51<" in page


def test_overlaps_are_blinked_with_the_names_of_the_frames(page):
    assert page.count('class="viewer"') == 2  # of the links that were used
    assert 'data-left="Frame 1" data-right="Frame 2"' in page
    assert page.index("frames 1 and 2") < page.index("frames 0 and 1")  # the worst first


def test_the_page_loads_nothing(page):
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert page.count("<img") == page.count('alt="')


def test_overlap_shows_the_same_part_of_the_sky():
    from spalipy_astro.report._group import _window

    group = group_of()
    (x0, y0), (ny, nx) = _window(*group.alignments[:2])
    assert (x0, x0 + nx) == (40, 80)
    assert (y0, y0 + ny) == (0, 60)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"component": (0, 0, 0, 0)}, "✓ All 4 frames are connected"),
        ({}, "! 3 of 4 frames are connected"),
        ({"component": (0, 0, 1, 1)}, "in 2 parts that do not overlap"),
        ({"used": (True, True, False)}, "1 of 3 links contradict the others"),
        ({"used": (True, True, False)}, "2 frames hang by one link"),
        ({"error": 0.9}, "uncertain by more than 0.3 px over 3 frames"),
        ({"component": (-1, -1, -1, -1)}, "✗ No two of 4 frames could be connected"),
    ],
)
def test_the_verdict(options, words):
    verdict = judge_group(group_of(**options))
    assert words in "\n".join([verdict.headline, *verdict.facts, *verdict.concerns])


def test_good_groups_have_no_concerns():
    assert judge_group(group_of((0, 0, 0, 0))).concerns == []


def test_map_of_the_frames():
    ax = plot_group(group_of(used=(True, True, False)))
    assert {text.get_text() for text in ax.texts} == {"0", "1", "2", "30", "20", "9"}
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert len(dashed) == 1
    assert np.allclose(dashed[0].get_xdata(), [39.5, 119.5])  # of frames 0 and 2
    with pytest.raises(ValueError, match="component is a number from 0 to 0"):
        plot_group(group_of(), component=1)


def test_arrows_go_from_where_the_others_have_a_star():
    group = group_of()
    ax = plot_group_residuals(group)
    (arrows,) = (c for c in ax.collections if hasattr(c, "U"))
    first = group.alignments[0].matches
    assert np.allclose(arrows.XY[: len(first), 0], first["x_template"])
    assert np.allclose(arrows.U[: len(first)], -first["dx"])


def test_of_many_stars_the_best_measured_quarter_has_arrows():
    n = 500
    rng = np.random.default_rng(3)
    names = ("x_template", "y_template", "dx", "dy")
    matches = QTable({name: rng.normal(size=n) for name in names})
    matches["used"], matches["sigma"] = True, rng.permutation(n) + 1.0
    group = group_of()
    there = next(k for k, alignment in enumerate(group.alignments) if alignment is not None)
    alignments = list(group.alignments)
    alignments[there] = replace(alignments[there], matches=matches)
    for k, alignment in enumerate(alignments):
        if k != there and alignment is not None:
            alignments[k] = replace(alignment, matches=alignment.matches[:0])
    ax = plot_group_residuals(replace(group, alignments=alignments))
    (arrows,) = (c for c in ax.collections if hasattr(c, "U"))
    assert np.allclose(arrows.U, -matches["dx"][matches["sigma"] <= 200])


def test_a_group_without_images_or_links(tmp_path):
    path = tmp_path / "none.html"
    group_of((-1, -1, -1, -1)).report(path)
    assert "could not be matched" in path.read_text(encoding="utf-8")
    with pytest.raises(FileExistsError):
        group_of().report(path)
    with pytest.raises(ValueError, match="images: 2 of them for 4 frames"):
        group_of().report(path, images=[np.ones(SHAPE)] * 2, overwrite=True)
