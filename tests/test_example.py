from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
from astropy.io import fits


def test_frames_are_whole(example_pair):
    for frame in example_pair:
        assert frame.shape == (736, 1092)
        assert frame.data.dtype == np.uint16
        assert frame.unit == "adu"
        assert frame.header["INSTRUME"] == "SBIG ST-10 3 CCD Camera"
        assert frame.wcs is None


def test_source_is_the_later_frame(example_pair):
    source, template = example_pair
    hours = 24 * (source.header["JD"] - template.header["JD"])
    assert hours == pytest.approx(3.74, abs=0.01)


@pytest.mark.parametrize(
    ("index", "original"), [(0, "tres1/tres1-229.fit"), (1, "tres1/tres1-021.fit")]
)
def test_compression_lost_nothing(example_pair, shared_data, index, original):
    np.testing.assert_array_equal(example_pair[index].data, fits.getdata(shared_data / original))


def test_small_and_licensed():
    folder = files("spalipy_astro") / "data"
    sizes = {entry.name: len(entry.read_bytes()) for entry in folder.iterdir()}
    assert sum(sizes.values()) < 2_000_000
    assert "The MIT License" in (folder / "LICENSE.txt").read_text()
    assert all(name in (folder / "README.md").read_text() for name in sizes if name.endswith(".fz"))
