"""Groups on a catalog of the sky."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from spalipy_astro import CatalogError, GroupAlignment, NoMatchError, align_group
from spalipy_astro.wcs import to_fits_header  # noqa: F401  # gwcs comes in with it


@pytest.fixture(scope="module")
def field(drawn):
    """Six panels, the last two of them an island, on a catalog."""
    truths = drawn.panels(1, nx=2, ny=2)
    truths += drawn.panels(5, origin=(1600, 100), nx=2, ny=1)
    lists, catalog, wcs = drawn.sky_scene(truths, 2, density=70, depth=0.7)
    known = {"rotation": (-9, 9), "scale": (0.9, 1.1), "parity": 1}  # of pairs: fails in less time
    return truths, lists, catalog, wcs, align_group(lists, reference=catalog, **known)


def test_every_frame_has_its_place_on_the_sky(field, drawn):
    truths, _, _, wcs, group = field
    assert list(group.table["component"]) == [0] * 6
    assert group.reference is None
    errors = drawn.sky_errors(group, truths, wcs)
    assert errors.max() < 0.05
    ratio = errors / np.asarray(group.table["error"])
    assert 0.6 < np.sqrt(np.mean(ratio**2)) < 1.5
    assert [a.wcs.available_frames[-1] for a in group.alignments] == ["icrs"] * 6
    assert min(group.table["n_catalog"]) > 25
    assert min(group.links["j"]) >= 0


def test_canvas_has_its_wcs(field, drawn):
    group = field[-1]
    x, y = group.alignments[0].transform(100.0, 50.0)
    sky = group.wcs.pixel_to_world(x - group.offset[0], y - group.offset[1])
    assert sky.separation(group.alignments[0].pixel_to_sky(100.0, 50.0)).arcsec < 1e-6
    edge = group.wcs.pixel_to_world(*[c.ravel() for c in np.mgrid[0 : group.shape[1] : 50, 0:1]])
    assert np.ptp(edge.ra.deg) > 0.5


def test_file_and_report_hold_it(field, drawn, tmp_path):
    group = field[-1]
    group.write(tmp_path / "group.asdf")
    again = GroupAlignment.read(tmp_path / "group.asdf")
    assert again.reference is None
    assert again.shape == group.shape
    pair, other = group.between(0, 5), again.between(0, 5)
    assert np.array_equal(pair.error(*drawn.GRID.T), other.error(*drawn.GRID.T))
    page = tmp_path / "group.html"
    group.report(page)
    assert page.stat().st_size > 1000
    assert "n_catalog" not in group.links.colnames


def test_frames_of_two_fields_are_compared_over_the_sky(field):
    truths, _, _, _, group = field
    there = truths[5].back(truths[0](np.array([[300.0, 250.0]])))[0]
    pair = group.between(0, 5)
    assert np.hypot(*(np.ravel(pair.transform(300.0, 250.0)) - there)) < 4 * pair.error(
        300.0, 250.0
    )


def test_catalog_determines_what_shifts_do_not(drawn):
    steps = np.random.default_rng(3).uniform(-120, 120, (4, 2))
    truths = [drawn.Truth(s, bend=6.0) for s in steps]
    lists, catalog, wcs = drawn.sky_scene(truths, 5, density=100)
    group = align_group(lists, reference=catalog, camera="shared")
    assert group.undetermined == {}
    image = np.column_stack(group.cameras["shared"].transform(*drawn.GRID.T))
    assert drawn.rms(drawn.flattened(image, truths[0](drawn.GRID))) < 0.03
    assert drawn.sky_errors(group, truths, wcs).max() < 0.03


def test_what_is_no_such_catalog_is_refused(field, drawn):
    _, lists, catalog, _, _ = field
    rng = np.random.default_rng(7)
    other = Table({"ra": rng.uniform(10, 10.2, 100), "dec": rng.uniform(-5, -4.8, 100)})
    with pytest.raises(NoMatchError, match="reference: none of 2 frames"):
        align_group(lists[:2], reference=other[:20])
    with pytest.raises(ValueError, match="reference is 'best', the number of an image, or a cat"):
        align_group(lists[:2], reference=Table({"flux": [1.0]}))
    with pytest.raises(ValueError, match="pixel_scale: only with a catalog of the sky"):
        align_group(lists[:2], pixel_scale=1.0)
    moving = catalog.copy()
    moving["pmra"], moving["pmdec"] = 1.0, 1.0
    with pytest.raises(CatalogError, match="proper motions but no reference epoch"):
        align_group(lists[:2], reference=moving, epoch=2020.0)


def test_frames_that_only_the_catalog_connects_are_reported(drawn, tmp_path):
    truths = [drawn.Truth(place) for place in ((0, 0), (1600, 100))]
    lists, catalog, _ = drawn.sky_scene(truths, 3, density=70)
    known = {"rotation": (-9, 9), "scale": (0.9, 1.1), "parity": 1}
    group = align_group(lists, reference=catalog, **known)
    assert list(group.table["component"]) == [0, 0]
    assert len(group.links) == 0
    group.report(tmp_path / "group.html")
    assert "All 2 frames are connected" in (tmp_path / "group.html").read_text(encoding="utf-8")
