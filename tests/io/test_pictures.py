"""PNG, JPEG and TIFF files: their own values, in the layout of FITS."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from astropy.io import fits

from spalipy_astro import FormatError, align_many, find_alignment
from spalipy_astro.commands import align_fits
from spalipy_astro.io import is_picture, read_image, read_picture, read_plane

Image = pytest.importorskip("PIL.Image")
tifffile = pytest.importorskip("tifffile")

RNG = np.random.default_rng(5)
GRAY8 = RNG.integers(0, 256, (20, 30), np.uint8)
GRAY16 = RNG.integers(0, 65536, (20, 30), np.uint16)
COLOR8 = RNG.integers(0, 256, (20, 30, 3), np.uint8)
COLOR16 = RNG.integers(0, 65536, (20, 30, 3), np.uint16)


@pytest.mark.parametrize(
    ("name", "array"),
    [("a.png", GRAY8), ("b.png", GRAY16), ("c.png", COLOR8)],
)
def test_png(tmp_path, name, array):
    Image.fromarray(array).save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert is_picture(tmp_path / name)
    assert image.data.dtype == array.dtype
    assert image.mask is None
    np.testing.assert_array_equal(
        image.data, np.moveaxis(array, -1, 0) if array.ndim > 2 else array
    )


@pytest.mark.parametrize("array", [GRAY8, GRAY16, COLOR8, COLOR16, COLOR16.astype(np.float32)])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tiff(tmp_path, array, byteorder, bigtiff):
    kind = "rgb" if array.ndim == 3 else "minisblack"
    tifffile.imwrite(
        tmp_path / "a.tif", array, photometric=kind, byteorder=byteorder, bigtiff=bigtiff
    )
    image = read_image(tmp_path / "a.tif")
    assert image.data.dtype == array.dtype
    assert image.data.dtype.isnative
    np.testing.assert_array_equal(
        image.data, np.moveaxis(array, -1, 0) if array.ndim > 2 else array
    )


def test_tiff_with_separate_planes(tmp_path):
    planes = np.ascontiguousarray(np.moveaxis(COLOR16, -1, 0))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").data, planes)


def test_jpeg_is_near(tmp_path):
    y, x = np.mgrid[:40, :60]
    smooth = np.stack([x, y, x + y], -1).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=98, subsampling=0)
    image = read_picture(tmp_path / "a.jpg")
    np.testing.assert_allclose(image.data, np.moveaxis(smooth, -1, 0), atol=4)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("color", [False, True])
def test_transparent_pixels_are_masked(tmp_path, name, color):
    opacity = np.full((20, 30, 1), 255, np.uint8)
    opacity[3:5, 7] = 0
    pixels = np.concatenate((COLOR8 if color else GRAY8[..., np.newaxis], opacity), -1)
    if name == "a.png":
        Image.fromarray(pixels).save(tmp_path / name)
    else:
        kind = "rgb" if color else "minisblack"
        tifffile.imwrite(tmp_path / name, pixels, photometric=kind, extrasamples=["unassalpha"])
    image = read_picture(tmp_path / name)
    assert image.shape == ((3, 20, 30) if color else (20, 30))
    mask = image.mask[0] if color else image.mask
    np.testing.assert_array_equal(mask, opacity[..., 0] == 0)


def test_png_of_16_bits_a_color_is_read_coarsely_and_told(tmp_path, caplog):
    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in COLOR16)
    head = struct.pack(">IIBBBBB", 30, 20, 16, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    image = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(image.data, np.moveaxis(COLOR16 >> 8, -1, 0))
    assert "save it as TIFF" in caplog.text
    caplog.clear()
    Image.fromarray(GRAY16).save(tmp_path / "b.png")
    read_picture(tmp_path / "b.png")
    assert not caplog.text


def test_palette(tmp_path):
    picture = Image.fromarray(COLOR8 // 64 * 64).quantize(64)
    picture.save(tmp_path / "a.png")
    expected = np.moveaxis(np.asarray(picture.convert("RGB")), -1, 0)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").data, expected)


def test_mask_in_a_picture(tmp_path):
    Image.fromarray(GRAY8).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_plane(tmp_path / "a.png"), GRAY8)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_damaged_pictures(tmp_path, name):
    Image.fromarray(COLOR8).save(tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[:60])
    with pytest.raises(FormatError, match=name):
        read_image(tmp_path / name)


def test_pictures_have_no_extensions(tmp_path):
    Image.fromarray(GRAY8).save(tmp_path / "a.png")
    with pytest.raises(FormatError, match="no extension 1"):
        read_image(tmp_path / "a.png", hdu=1)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_batch_and_command(make_sky_pair, tmp_path, suffix):
    pair = make_sky_pair(seed=4, source_shape=(200, 230), template_shape=(210, 220))
    pictures = []
    for name, image in (("s", pair.source.data), ("t", pair.template.data)):
        values = np.clip((image - 150) / 4, 0, 255)
        colors = np.stack([values, 0.8 * values, 0.6 * values], -1)
        if suffix == "tif":
            tifffile.imwrite(tmp_path / f"{name}.tif", (257 * colors).astype(np.uint16))
        else:
            Image.fromarray(colors.astype(np.uint8)).save(tmp_path / f"{name}.{suffix}")
        pictures.append(str(tmp_path / f"{name}.{suffix}"))
    table = align_many(pictures[:1], pictures[1], output=tmp_path / "out")
    assert list(table["status"]) == ["ok"], list(table["reason"])
    assert align_fits([pictures[0], str(tmp_path / "o.fits"), "-tf", pictures[1]]) == 0
    alignment = find_alignment(*(read_image(path) for path in pictures))
    np.testing.assert_allclose(
        np.column_stack(alignment.transform([50.0, 180.0], [60.0, 150.0])),
        pair.forward(np.array([[50.0, 60.0], [180.0, 150.0]])),
        atol=0.3,
    )
    expected = alignment.resample(read_image(pictures[0]))
    for name in ("o.fits", "out/s_aligned.fits"):
        np.testing.assert_array_equal(fits.getdata(tmp_path / name), expected.data)


def test_command_writes_no_pictures(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        align_fits(["a.png", str(tmp_path / "b.png"), "-tf", "c.png"])
    assert stop.value.code == 2
    assert "aligned images are FITS files" in capsys.readouterr().err
