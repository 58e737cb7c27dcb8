"""What WCSs say of which frames overlap: it saves tries, and costs no link where it is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.wcs import WCS

from spalipy_astro.groups import _pairs
from spalipy_astro.groups._pairs import find_links
from spalipy_astro.matching import Priors
from spalipy_astro.registration import prepare

FAR = 30_000  # px, of an arcsecond each


def wcs_of(truth, drawn, off=(0.0, 0.0), kind="RA---TAN DEC--TAN"):
    """Return the WCS of a frame; `off`, degrees, makes it wrong."""
    plane, own = WCS(naxis=2), WCS(naxis=2)
    plane.wcs.ctype = "RA---TAN", "DEC--TAN"
    plane.wcs.crval, plane.wcs.crpix, plane.wcs.cdelt = (150, 30), (1, 1), (-1 / 3600, 1 / 3600)
    own.wcs.ctype = kind.split()
    own.wcs.crval = plane.all_pix2world([truth.center], 0)[0] + off
    own.wcs.crpix = (drawn.NX + 1) / 2, (drawn.NY + 1) / 2
    own.wcs.cd = np.diag([-1, 1]) / 3600 @ truth.matrix
    return own


@pytest.fixture
def tries(monkeypatch):
    """The pairs that were tried. Those that do not overlap fail at once, as they would in time."""
    tried, link = set(), _pairs._link

    def spy(lists, i, source, j, template):
        tried.add((i, j))
        overlap = j == i + 1 and (i, j) != (2, 3)
        return link(lists, i, source, j, template) if overlap else None

    monkeypatch.setattr(_pairs, "_link", spy)
    return tried


def frames_of(truths, lists, drawn, offs=None, **options):
    offs = [(0, 0)] * len(truths) if offs is None else offs
    return [
        replace(prepare(table), shape=(drawn.NY, drawn.NX), wcs=wcs_of(t, drawn, off, **options))
        for t, table, off in zip(truths, lists, offs, strict=True)
    ]


def pairs_of(links):
    return sorted((link.i, link.j) for link in links)


@pytest.fixture(scope="module")
def islands(drawn):
    one, two = drawn.panels(3, nx=3, ny=1), drawn.panels(4, nx=3, ny=1, origin=(FAR, 0))
    return [*one, *two], drawn.scene(one, 5, density=90) + drawn.scene(two, 6, density=90)


def test_frames_far_apart_are_not_tried(islands, drawn, tries):
    inside = pairs_of(find_links(frames_of(*islands, drawn), Priors()))
    assert inside == [(0, 1), (1, 2), (3, 4), (4, 5)]
    assert all((i < 3) == (j < 3) for i, j in tries)


@pytest.mark.parametrize(
    ("offs", "options"),
    [
        ([(0, 0)] * 5 + [(2, 0)], {}),  # a link says that it is wrong
        ([(0, 0), (1, 3), (0, 0), (9, 9), (0, 0), (0, 0)], {}),
        ([(np.nan, 0)] * 6, {}),
        ([(0, 0)] * 6, {"kind": "LINEAR LINEAR"}),
    ],
)
def test_all_are_tried_where_a_wcs_is_wrong_or_has_no_sky(islands, drawn, tries, offs, options):
    truths, lists = islands
    frames = frames_of(truths, lists, drawn, offs, **options)
    expected = pairs_of(find_links([replace(f, wcs=None) for f in frames], Priors()))
    without = sorted(tries)
    assert any((i < 3) != (j < 3) for i, j in tries)
    tries.clear()
    assert pairs_of(find_links(frames, Priors())) == expected
    assert sorted(tries) == without


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("wrong", [(0, 1, 2), (2,), (0,), (0, 2)])
def test_no_link_is_lost_by_a_wrong_wcs(drawn, tries, monkeypatch, few, wrong):
    truths = drawn.panels(7, nx=3, ny=1)
    lists = drawn.scene(truths, 8, density=90)
    offs = [(3.0 * (k + 1), 2.0 * k) if k in wrong else (0, 0) for k in range(3)]
    if few:  # quads tell of one pair only
        votes = _pairs.pattern_votes

        def some(*args, **kwargs):
            found = votes(*args, **kwargs)
            found[2] = found[:, 2] = 0
            return found

        monkeypatch.setattr(_pairs, "pattern_votes", some)
    links = find_links(frames_of(truths, lists, drawn, offs), Priors())
    assert {(0, 1), (1, 2)} <= set(pairs_of(links))
