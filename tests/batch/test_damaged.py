"""What damage has left of an earlier run's files is made again; files of others stay."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from astropy.io import fits

from spalipy_astro import Alignment, align_many
from spalipy_astro.batch._made import is_remnant


@pytest.fixture(scope="module")
def night(make_sky_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    pair = make_sky_pair(shift=(6.3, -4.8), n_stars=60)
    for name in ("source", "template"):
        image = getattr(pair, name).data.astype(np.float32)[:240, :260]
        fits.PrimaryHDU(image).writeto(folder / f"{name}.fits")
    return folder


@pytest.fixture(scope="module")
def made(night):
    """What a run writes: the bytes of the aligned image and of the alignment."""
    table = run(night, night / "first")
    assert list(table["status"]) == ["ok"]
    return {path.name: path.read_bytes() for path in (night / "first").iterdir()}


def run(night, output, **options):
    sources = [night / "source.fits"]
    return align_many(sources, night / "template.fits", output=output, n_workers=1, **options)


def flipped(data, start):
    part = bytes(byte ^ 0xFF for byte in data[start : start + 40])
    return data[:start] + part + data[start + 40 :]


ASDF = {
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "cut before its notes": lambda data: data[: data.index(b"provenance:") - 9],
    "cut in its notes": lambda data: data[: data.index(b"batch:") + 40],
    "cut behind its text": lambda data: data[: data.index(b"\n...") + 20],
    "half": lambda data: data[: len(data) // 2],
    "damaged notes": lambda data: flipped(data, data.index(b"batch:") + 120),
    "damaged block": lambda data: flipped(data, len(data) // 2),
}
FITS = {
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "half": lambda data: data[: len(data) // 2],
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [*(("source_alignment.asdf", d) for d in ASDF), *(("source_aligned.fits", d) for d in FITS)],
)
def test_damaged_file_is_made_again(night, made, tmp_path, name, damage, caplog):
    for other, data in made.items():
        (tmp_path / other).write_bytes(data)
    kinds = ASDF if name.endswith(".asdf") else FITS
    (tmp_path / name).write_bytes(kinds[damage](made[name]))
    with caplog.at_level(logging.WARNING):
        table = run(night, tmp_path)
    assert list(table["status"]) == ["ok"], table["reason"][0]
    if name.endswith(".asdf"):
        assert f"{name} is damaged, and is made again" in caplog.text
        first = Alignment.read(night / "first" / name)
        again = Alignment.read(tmp_path / name)
        assert again.transform(90.0, 80.0) == first.transform(90.0, 80.0)
        assert again.n_matched == first.n_matched
    else:
        np.testing.assert_array_equal(
            fits.getdata(tmp_path / name), fits.getdata(night / "first" / name)
        )


def test_what_is_whole_is_kept(night, made, tmp_path):
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in made}
    run(night, tmp_path)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in made} == times


@pytest.mark.parametrize("kind", ["text", "other options", "other software", "other options, cut"])
def test_files_of_others_stay(night, made, tmp_path, kind):
    name = "source_alignment.asdf"
    data = made[name]
    key = data[data.index(b"batch: ") + 7 :][:16]
    other = data.replace(key, b"0123456789abcdef")
    foreign = {
        "text": b"my own notes",
        "other options": other,
        "other options, cut": other[: len(other) // 2],
        "other software": data[: data.index(b"provenance:") - 9].replace(b"spalipy_astro", b"mine"),
    }[kind]
    (tmp_path / name).write_bytes(foreign)
    table = run(night, tmp_path)
    assert list(table["status"]) == ["failed"]
    assert "was not made from the current source" in table["reason"][0]
    assert (tmp_path / name).read_bytes() == foreign
    assert not is_remnant(tmp_path / name, key.decode())
