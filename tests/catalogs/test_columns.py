"""Columns of every kind that tables have: masked, with units, times, objects, those of pandas."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from astropy.utils.masked import Masked

from spalipy_astro import CatalogError, align_group, align_many, find_alignment, fit_alignment

XY = np.random.default_rng(0).uniform(0, 1000, (60, 2))
FIRST = np.arange(60) < 5
FLUX = np.geomspace(1e4, 1e2, 60)


def table(xy, kind):
    """Return a catalog, of whose first five positions some kinds know nothing."""
    x, y = np.array(xy[:, 0]), np.array(xy[:, 1])
    unknown = np.where(FIRST, None, x)
    if kind.startswith("pandas"):
        pd = pytest.importorskip("pandas")
        columns = {
            "pandas": np.where(FIRST, np.nan, x),
            "pandas nullable": pd.array(np.where(FIRST, pd.NA, x), "Float64"),
            "pandas objects": unknown,
        }
        frame = pd.DataFrame({"x": columns[kind], "y": y, "flux": FLUX})
        return frame.assign(name="star", when=pd.Timestamp("2026-01-01"))
    made = {
        "masked": MaskedColumn(x, mask=FIRST),
        "masked objects": MaskedColumn(unknown, mask=FIRST, dtype=object),
        "masked integers": MaskedColumn(np.rint(x).astype(int), mask=FIRST),
        "masked quantity": Masked(x * u.pix, mask=FIRST),
    }[kind]
    kinds = QTable if kind == "masked quantity" else Table
    return kinds(
        {"x": made, "y": y, "flux": FLUX, "time": Time(60000 + np.arange(60), format="mjd")}
    )


KINDS = ["masked", "masked objects", "masked integers", "masked quantity"]
KINDS += ["pandas", "pandas nullable", "pandas objects"]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_a_position_do_not_count(kind):
    source, template = table(np.add(XY, (5.25, -7)), kind), table(XY, kind)
    tolerance = 0.6 if "integers" in kind else 1e-6
    alignments = [
        find_alignment(source, template, spline_order=0),
        fit_alignment(source, template, spline_order=0),
        align_group([template, source], spline_order=0).alignments[1],
    ]
    batch = align_many([source], template, n_workers=1, resample=False, spline_order=0)
    assert list(batch["status"]) == ["ok"], batch["reason"][0]
    for alignment in (*alignments, batch["alignment"][0]):
        assert alignment.n_matched == 55
        assert np.hypot(*np.subtract(alignment.transform(500.0, 400.0), (494.75, 407))) < tolerance


@pytest.mark.parametrize("name", ["x", "flux"])
def test_times_are_no_numbers(name):
    source = table(XY, "masked")
    source[name] = Time(60000 + np.arange(60), format="mjd")
    with pytest.raises(CatalogError, match=f"the column {name} .* no number .*Time"):
        find_alignment(source, XY)
    batch = align_many([source], XY, n_workers=1, resample=False)
    assert "no number" in batch["reason"][0]
