"""Files of a web server on this machine: fetched in pieces, and errors that name them."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from numpy.testing import assert_array_equal

from spalipy_astro import Alignment, FormatError, align, align_many, find_alignment, read_catalog
from spalipy_astro.batch import stem_of
from spalipy_astro.commands import align_fits
from spalipy_astro.io import read_image

pytest.importorskip("aiohttp")
pytest.importorskip("fsspec")


class Handler(SimpleHTTPRequestHandler):
    """Give pieces of files, and count the bytes."""

    pieces = True
    sent = 0

    def do_GET(self):
        try:
            with open(self.translate_path(self.path), "rb") as file:
                data = file.read()
        except OSError:
            self.send_error(404)
            return
        first, last = 0, len(data) - 1
        wanted = self.headers.get("Range")
        partly = self.pieces and wanted is not None
        if partly:
            one, _, two = wanted.removeprefix("bytes=").partition("-")
            first, last = int(one), min(int(two or last), last)
        self.send_response(206 if partly else 200)
        if partly:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes" if self.pieces else "none")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        type(self).sent += last - first + 1
        self.wfile.write(data[first : last + 1])

    def log_message(self, *args):
        """Keep quiet."""


@pytest.fixture(params=[True, False], ids=["pieces", "whole"])
def server(request, tmp_path, monkeypatch):
    """A server of a folder of its own; the working folder is another one."""
    served, work = tmp_path / "served", tmp_path / "work"
    served.mkdir(), work.mkdir()
    monkeypatch.chdir(work)
    kind = type("Counting", (Handler,), {"pieces": request.param, "sent": 0})
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(served)))
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}/", served, kind
    http.shutdown()
    thread.join()
    http.server_close()


def test_images_alignments_and_batches(server, make_sky_pair):
    url, folder, _ = server
    pair = make_sky_pair(rotation=5, seed=4)
    source, template = (np.float32(side.data) for side in (pair.source, pair.template))
    fits.writeto(folder / "s.fits", source)
    fits.writeto(folder / "t.fits.gz", template)
    there = align(f"{url}s.fits", f"{url}t.fits.gz")
    assert_array_equal(there.data, align(folder / "s.fits", folder / "t.fits.gz").data)
    alignment = find_alignment(f"{url}s.fits", template)
    alignment.write(folder / "a.asdf")
    assert Alignment.read(f"{url}a.asdf").summary()["rms"] == alignment.summary()["rms"]
    sources = [f"{url}s.fits", f"{url}missing.fits"]
    table = align_many(sources, f"{url}t.fits.gz", output="out", progress=False)
    assert list(table["status"]) == ["ok", "failed"]
    assert "missing.fits" in table["reason"][1]
    assert_array_equal(fits.getdata("out/s_aligned.fits"), there.data)
    again = align_many(sources[:1], f"{url}t.fits.gz", output="out", progress=False)
    assert again["resumed"][0]
    assert align_fits([f"{url}s.fits", "one.fits", "-tf", f"{url}t.fits.gz"]) == 0
    assert_array_equal(fits.getdata("one.fits"), there.data)


def test_only_what_is_needed_is_fetched(server):
    url, folder, kind = server
    rng = np.random.default_rng(0)
    chips = [rng.normal(size=(1000, 1000)).astype(np.float32) for _ in range(8)]
    named = [fits.ImageHDU(c, name=f"CHIP{k}") for k, c in enumerate(chips)]
    fits.HDUList([fits.PrimaryHDU(), *named]).writeto(folder / "c.fits")
    assert_array_equal(read_image(f"{url}c.fits", hdu="CHIP3").data, chips[3])
    whole = (folder / "c.fits").stat().st_size
    # a chip and, of each, what is fetched with its header
    assert kind.sent < (0.35 * whole if kind.pieces else 2.1 * whole)


@pytest.mark.parametrize("name", ["c.csv", "c.ecsv", "c.fits", "c.xml", "c.csv.gz"])
def test_catalogs(server, name):
    url, folder, _ = server
    x = np.arange(20.0)
    table = Table({"X_IMAGE": x + 1, "Y_IMAGE": x**2 + 1, "FLUX_AUTO": 100 - x})
    plain = folder / name.removesuffix(".gz")
    table.write(plain, format="votable" if name.endswith("xml") else None)
    if name.endswith(".gz"):
        import gzip

        (folder / name).write_bytes(gzip.compress(plain.read_bytes()))
    stars = read_catalog(f"{url}{name}")
    assert_array_equal(stars["x"], x)
    assert stars.meta["catalog"] == f"{url}{name}"


def test_errors_name_the_file(server):
    url, folder, _ = server
    (folder / "bad.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 5000)
    with pytest.raises(FormatError, match=r"bad\.fits' is truncated or damaged"):
        read_image(f"{url}bad.fits")
    for read in (read_image, read_catalog):
        with pytest.raises(FileNotFoundError, match=r"there is no file 'http.*missing\.fits'"):
            read(f"{url}missing.fits")
    assert align_fits([f"{url}missing.fits", "o.fits", "-tf", f"{url}bad.fits"]) == 1


def test_servers_that_are_not_there():
    with pytest.raises(OSError, match=r"'http://127\.0\.0\.1:9/s\.fits'.*[Cc]onnect"):
        read_image("http://127.0.0.1:9/s.fits")
    with pytest.raises(FileNotFoundError, match=r"there is no file 'nowhere://s.fits'"):
        read_image("nowhere://s.fits")


def test_names_of_results():
    assert stem_of("https://x.org/a/frame01.fits.fz?token=1#2") == "frame01"


def test_any_file_system_of_fsspec(make_sky_pair, tmp_path):
    """A bucket in memory: images with their planes, a mask, a table that says what is not there."""
    import fsspec

    pair = make_sky_pair(rotation=5, seed=4)
    system = fsspec.filesystem("memory")
    flags = np.zeros(pair.source.shape, "u1")
    flags[:, :60] = 1
    files = {
        "s.fits": [fits.ImageHDU(pair.source.data, name="SCI"), fits.ImageHDU(flags, name="DQ")],
        "t.fits.fz": [fits.CompImageHDU(pair.template.data, quantize_level=0)],
        "m.fits": [fits.ImageHDU(flags, name="MASK")],
    }
    for name, hdus in files.items():
        with system.open(f"/bucket/{name}", "wb") as stream:
            fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(stream)
    source, template, mask = (f"memory://bucket/{name}" for name in files)
    assert read_image(source).mask[:, :60].all()
    gone = "memory://bucket/gone.fits"
    table = align_many([source, gone], template, output=tmp_path, progress=False)
    assert list(table["status"]) == ["ok", "failed"]
    assert table["reason"][1] == f"there is no file {gone!r}."
    masked = align_many([pair.source.data], template, source_mask=mask, progress=False)
    assert masked["n_matched"][0] == table["n_matched"][0]
