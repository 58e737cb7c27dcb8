"""``--finder`` of the scripts: each value says what finds the stars, and aligns."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from spalipy_astro import Alignment, find_alignment
from spalipy_astro.commands import align_fits, align_fits_simple, align_group
from spalipy_astro.groups import GroupAlignment

VALUES = ("auto", "stars", "sources")


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(
        rotation=20, seed=12, n_stars=90, source_shape=(210, 260), template_shape=(240, 220)
    )


@pytest.fixture
def folder(pair, tmp_path, monkeypatch):
    for name in ("source", "template"):
        image = getattr(pair, name).data.astype(np.float32)
        fits.PrimaryHDU(image).writeto(tmp_path / f"{name}.fits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def miss(pair, alignment):
    ny, nx = pair.source.shape
    xy = np.array([[0.3 * nx, 0.3 * ny], [0.5 * nx, 0.5 * ny], [0.7 * nx, 0.6 * ny]])
    return np.abs(np.column_stack(alignment.transform(*xy.T)) - pair.forward(xy)).max()


@pytest.mark.parametrize("value", VALUES)
def test_align_fits(pair, folder, value):
    words = ["source.fits", "out.fits", "-tf", "template.fits", "--transform", "a.asdf"]
    assert align_fits([*words, "--finder", value]) == 0
    alignment = Alignment.read("a.asdf")
    assert alignment.provenance["options"]["finder"] == value
    assert miss(pair, alignment) < 0.15


@pytest.mark.parametrize("value", VALUES)
def test_align_fits_simple(pair, folder, value):
    assert align_fits_simple(["source.fits", "out.fits", "template.fits", "--finder", value]) == 0
    template, source = (fits.getdata(f"{name}.fits") for name in ("template", "source"))
    expected = find_alignment(source, template, finder=value).resample(source)
    np.testing.assert_array_equal(fits.getdata("out.fits"), expected)


@pytest.mark.parametrize("value", VALUES)
def test_align_group(pair, folder, value):
    words = ["template.fits", "source.fits", "-o", "out", "--no-images", "--no-coadd"]
    assert align_group([*words, "--finder", value]) == 0
    group = GroupAlignment.read("out/group.asdf")
    assert miss(pair, group.alignments[1].then(group.alignments[0].inverse)) < 0.15


@pytest.mark.parametrize("script", [align_fits, align_fits_simple, align_group])
def test_other_values_are_refused(script, capsys):
    with pytest.raises(SystemExit) as end:
        script(["a.fits", "b.fits", "c.fits", "--finder", "galaxies"])
    assert end.value.code == 2
    words = capsys.readouterr().err
    assert "galaxies" in words
    for value in VALUES:
        assert value in words
