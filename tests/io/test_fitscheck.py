"""Headers of damaged files: every kind of card that tells a size, with values that cannot be."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import time

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from numpy.testing import assert_array_equal

from spalipy_astro import AlignmentError, FormatError, align_many, read_catalog
from spalipy_astro.catalogs import is_catalog
from spalipy_astro.io import image_hdus, is_complete, read_image, read_plane

SHAPE = (30, 41)
PACKERS = {"fits": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
METHODS = ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1")


def _pixels():
    return np.random.default_rng(3).normal(500, 10, SHAPE).astype(np.int16)


def _bytes(*hdus):
    out = io.BytesIO()
    fits.HDUList([*hdus]).writeto(out)
    return out.getvalue()


def _plain():
    return _bytes(fits.PrimaryHDU(_pixels()))


def _packed(method):
    pixels = _pixels().astype(np.int32) if method == "HCOMPRESS_1" else _pixels()
    return _bytes(fits.PrimaryHDU(), fits.CompImageHDU(pixels, compression_type=method))


def _table():
    columns = {name: np.arange(1.0, 40.0) for name in ("x", "y", "flux")}
    return _bytes(fits.PrimaryHDU(), fits.BinTableHDU(Table(columns)))


def _with(raw, key, value):
    """Return the file with another value of the last card of that name, or without the card."""
    out = bytearray(raw)
    at = raw.rfind(f"{key:8s}= ".encode())
    assert at >= 0
    card = "" if value is None else f"{key:8s}= {value:>20s}"
    out[at : at + 80] = card.ljust(80).encode()
    return bytes(out)


BAD_NUMBERS = ("-32", "-1", "2000000000", "99999999999999999999", "3.5", "'x'", "T")
DAMAGED = [
    *(("NAXIS", value) for value in (*BAD_NUMBERS, "64", None)),
    *((key, value) for key in ("NAXIS1", "NAXIS2") for value in (*BAD_NUMBERS, None)),
    *(("BITPIX", value) for value in (*BAD_NUMBERS, "0", "2", None)),
]


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize(("key", "value"), DAMAGED)
def test_sizes_that_cannot_be(tmp_path, packer, key, value):
    path = tmp_path / f"s.{packer}"
    path.write_bytes(PACKERS[packer](_with(_plain(), key, value)))
    for read in (image_hdus, read_image, read_plane):
        with pytest.raises(FormatError) as error:
            read(path)
        assert repr(str(path)) in str(error.value)
        # without as many axes as NAXIS says it is the first that lacks which is named
        assert key in str(error.value)
        if value is not None:
            assert value.strip("'") in str(error.value)
    if packer == "fits":
        assert not is_complete(path)


@pytest.mark.parametrize("key", ["PCOUNT", "GCOUNT"])
@pytest.mark.parametrize("value", BAD_NUMBERS)
def test_counts_that_cannot_be(tmp_path, key, value):
    path = tmp_path / "s.fits"
    raw = _bytes(fits.PrimaryHDU(), fits.ImageHDU(_pixels()))
    path.write_bytes(_with(raw, key, value))
    with pytest.raises(FormatError, match=rf"{key}"):
        read_image(path)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, value) for key in ("ZNAXIS1", "ZNAXIS2") for value in (*BAD_NUMBERS, None)),
        *(("ZNAXIS", value) for value in (*BAD_NUMBERS, None)),
        *(("ZBITPIX", value) for value in (*BAD_NUMBERS[1:], None)),
        *((key, value) for key in ("ZTILE1", "ZTILE2") for value in ("-1", "0", "1", "'x'")),
        *(("TFORM1", value) for value in ("'2000000000J'", "'2PB(9)'", None)),
        *(("TFIELDS", value) for value in ("-1", "1000", "2000000000", "0")),
        *(("PCOUNT", value) for value in ("-1", "2000000000")),
    ],
)
def test_sizes_of_compressed_images_that_cannot_be(tmp_path, method, key, value):
    raw = _packed(method)
    same = key == "ZTILE2" and value == "1" and method != "HCOMPRESS_1"
    path = tmp_path / "s.fits"
    path.write_bytes(_with(raw, key, value))
    if same:
        assert_array_equal(read_image(path).data, _pixels())
        return
    start = time.process_time()
    with pytest.raises(FormatError, match=r"s\.fits'") as error:
        read_image(path)
    assert time.process_time() - start < 5
    assert key in str(error.value) or "tiles of" in str(error.value)


def test_rows_of_tiles_too_long(tmp_path):
    """Where a row is a tile, only the bytes that are there tell that it is too long."""
    path = tmp_path / "s.fits"
    raw = _with(_packed("RICE_1"), "ZTILE1", "100000000")
    path.write_bytes(_with(raw, "ZNAXIS1", "100000000"))
    with pytest.raises(FormatError, match=r"ZNAXIS1 = 100000000, .* cannot come from \d+ bytes"):
        read_image(path)


def test_tiles_larger_than_the_image_has_room_for(tmp_path):
    """H-compressed tiles bring their size along: 30 rows are two tiles of 16, as 29 are."""
    path = tmp_path / "s.fits"
    for key, value in (("ZNAXIS2", "29"), ("ZNAXIS1", "40")):
        raw = _with(_packed("HCOMPRESS_1"), "ZTILE1", "41") if key == "ZNAXIS1" else None
        path.write_bytes(_with(raw or _packed("HCOMPRESS_1"), key, value))
        with pytest.raises(FormatError, match=r"tile \d of HDU 1 has the size"):
            read_image(path)


@pytest.mark.parametrize(
    ("name", "value"), [("BYTEPIX", "2000000000"), ("BYTEPIX", "3"), ("BLOCKSIZE", "0")]
)
def test_settings_of_the_compression_that_cannot_be(tmp_path, name, value):
    path = tmp_path / "s.fits"
    raw = _packed("RICE_1")
    number = raw[raw.rfind(name.encode()) - 12 - len("ZNAME1  = '") + 12 :][5:6].decode()
    path.write_bytes(_with(raw, f"ZVAL{number}", value))
    with pytest.raises(FormatError, match=f"ZVAL{number} is {value}"):
        read_image(path)


def test_a_table_without_its_number_of_columns(tmp_path):
    (tmp_path / "t.fits").write_bytes(_with(_table(), "TFIELDS", None))
    with pytest.raises(FormatError, match=r"t\.fits' is damaged: it lacks the card TFIELDS"):
        read_catalog(tmp_path / "t.fits")


@pytest.mark.parametrize("key", ["TTYPE1", "ZCMPTYPE", "TFIELDS", "ZTILE2", "ZVAL1"])
def test_cards_that_a_compressed_image_must_have(tmp_path, key):
    path = tmp_path / "s.fits"
    path.write_bytes(_with(_packed("RICE_1"), key, None))
    with pytest.raises(FormatError, match=rf"s\.fits' is damaged: it lacks the card {key}"):
        read_image(path)


def test_a_compressed_image_without_its_column(tmp_path):
    path = tmp_path / "s.fits"
    path.write_bytes(_with(_packed("RICE_1"), "TTYPE1", "'PIXELS'"))
    with pytest.raises(FormatError, match=r"of its columns, PIXELS, none is COMPRESSED_DATA"):
        read_image(path)


@pytest.mark.parametrize("method", METHODS)
def test_constant_images_pass(tmp_path, method):
    pixels = np.full((300, 500), 7, np.int32 if method == "HCOMPRESS_1" else np.int16)
    path = tmp_path / "s.fits"
    hdu = fits.CompImageHDU(pixels, compression_type=method, tile_shape=(100, 500))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    assert_array_equal(read_image(path).data, pixels)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("NAXIS1", "-24"),
        ("NAXIS1", "23"),
        ("NAXIS2", "-39"),
        ("NAXIS2", "2000000000"),
        ("PCOUNT", "2000000000"),
        ("TFIELDS", "2000000000"),
        ("TFIELDS", "2"),
        ("TFORM1", "'2000000000D'"),
        ("TFORM1", "'E'"),
        ("TFORM2", None),
    ],
)
def test_catalogs_of_sizes_that_cannot_be(tmp_path, key, value):
    path = tmp_path / "c.fits"
    path.write_bytes(_table())
    assert len(read_catalog(path)) == 39
    path.write_bytes(_with(_table(), key, value))
    for read in (read_catalog, is_catalog):
        with pytest.raises(FormatError, match=key.rstrip("12")):
            read(path)


def test_one_card_twice(tmp_path):
    """Some readers take the first of two cards, some the last."""
    path = tmp_path / "s.fits"
    raw = _bytes(fits.PrimaryHDU(_pixels(), fits.Header({"FREE": 1})))
    twice = bytearray(raw)
    at = raw.find(b"FREE    =")
    twice[at : at + 80] = b"NAXIS2  =                  -32".ljust(80)
    path.write_bytes(twice)
    with pytest.raises(FormatError, match="NAXIS2 appears twice, as 30 and as -32"):
        read_image(path)
    twice[at : at + 80] = b"NAXIS2  =                   30 / the same".ljust(80)
    path.write_bytes(twice)
    assert read_image(path).shape == SHAPE


def test_a_header_without_end(tmp_path):
    path = tmp_path / "s.fits"
    path.write_bytes(_plain().replace(b"END" + b" " * 77, b" " * 80))
    with pytest.raises(FormatError, match="HDU 0 has no card END"):
        read_image(path)


def test_what_follows_the_last_extension_is_left_out(tmp_path, caplog):
    """Also where it looks like a header with an endless size."""
    path = tmp_path / "s.fits"
    junk = _with(_plain(), "NAXIS2", "-32").replace(b"SIMPLE  =", b"JUNK    =")
    for packer in PACKERS.values():
        for tail in (junk, b"\0" * 2880, b"text"):
            path.write_bytes(packer(_plain() + tail))
            assert image_hdus(path) == [0]
            assert_array_equal(read_image(path).data, _pixels())
    assert "bytes after its last HDU are left out" in caplog.text


def test_random_groups_are_no_damage(tmp_path):
    path = tmp_path / "s.fits"
    data = fits.GroupData(np.ones((5, 1, 1, 3, 2), np.float32), bitpix=-32, parnames=["U"],
                          pardata=[np.arange(5.0)])  # fmt: skip
    fits.HDUList([fits.GroupsHDU(data), fits.ImageHDU(_pixels())]).writeto(path)
    assert is_complete(path)
    assert_array_equal(read_image(path, hdu=1).data, _pixels())


def test_a_small_file_does_not_unpack_for_ever(tmp_path):
    """What is unpacked is what the headers ask for, however much there is."""
    path = tmp_path / "s.fits.gz"
    path.write_bytes(gzip.compress(_plain()) + 3000 * gzip.compress(bytes(2**20)))
    start = time.process_time()
    assert_array_equal(read_image(path).data, _pixels())
    assert time.process_time() - start < 3


@pytest.mark.parametrize("key", ["NAXIS", "NAXIS2"])
def test_a_damaged_file_is_a_row_of_a_batch(tmp_path, key, monkeypatch):
    (tmp_path / "bad.fits").write_bytes(_with(_plain(), key, "-32"))
    xy = np.random.default_rng(0).uniform(0, 100, (30, 2))
    table = align_many([tmp_path / "bad.fits"], xy, progress=False)
    assert table["status"][0] == "failed"
    assert f"{key} is -32" in table["reason"][0]


@pytest.mark.filterwarnings("ignore")  # astropy warns of this and that which is damaged
@pytest.mark.parametrize("method", [None, *METHODS])
def test_whatever_is_damaged_is_read_or_refused(tmp_path, method):
    """One card after the other of a header, structural or not."""
    raw = _plain() if method is None else _packed(method)
    path = tmp_path / "s.fits"
    for at in range(0, len(raw), 80):
        key = raw[at : at + 8].decode("latin-1").strip()
        if raw[at + 8 : at + 10] != b"= " or not key.isalnum():
            continue
        for value in ("-32", "2000000000", "'x'", None):
            path.write_bytes(_with(raw, key, value))
            with contextlib.suppress(AlignmentError):
                read_image(path)
