"""
Read damaged files: none may hang or crash the process, or raise anything but documented errors.

    python benchmarks/fuzz.py [--files 10000] [--seed 1] [--minutes M] [--kind fits asdf catalog]

Small FITS, ASDF and catalog files are damaged at random, with a seed, and read by `read_image`,
`Alignment.read`, `GroupAlignment.read` (what they accept is used, too) and `read_catalog`, in a
process with a limit of memory. One line a kind is printed, and an example of each message that
names no problem. The exit status is 1 if there was a hang, a crash, an undocumented exception, or
more than 1 % such messages.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gzip
import io
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from asdf import AsdfFile
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS, DistortionLookupTable

from spalipy_astro import Alignment, AlignmentError, align_group, find_alignment, read_catalog
from spalipy_astro.groups import GroupAlignment
from spalipy_astro.io import image_hdus, read_image, to_hdus

MEMORY = 4 * 2**30  # bytes of address space
PATIENCE = 20.0  # s a file
LSST = ("IMAGE", "MASK", "VARIANCE")
# a library's words for its own surprise, which name nothing that is in the file
VAGUE = re.compile(
    r"\((KeyError|IndexError|AttributeError|TypeError|AssertionError|UnboundLocalError|EOFError"
    r"|RecursionError|StopIteration|struct\.error|error)\b"
)
WILD = ["0", "1", "-1", "-32", "999999999", "2000000000", "9223372036854775807", "1e400", "nan"]
WILD += ["'", "T", "", "*a", "{", "!!python/object", "&a [*a, *a]"]


def stars(n=40):
    """Return positions and fluxes of some stars."""
    rng = np.random.default_rng(5)
    return rng.uniform(0, 90, (n, 2)), np.sort(rng.uniform(1e3, 1e5, n))[::-1]


def written(hdus):
    """Return the bytes of a FITS file."""
    out = io.BytesIO()
    fits.HDUList(hdus).writeto(out)
    return out.getvalue()


def seeds():
    """Return sound files by kind and name."""
    xy, flux = stars()
    rng = np.random.default_rng(6)
    image = rng.normal(100, 3, (60, 70)).astype("f4")
    whole = (image * 10).astype("i2")
    cards = fits.Header({"BUNIT": "adu", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    cards.update(CRVAL1=150.0, CRVAL2=2.0, CDELT1=-1e-4, CDELT2=1e-4, CRPIX1=30.0, CRPIX2=30.0)
    mask = fits.ImageHDU((image > 105).astype("u1"), name="MASK")
    plain = written([fits.PrimaryHDU(image, cards)])
    table = Table({"X_IMAGE": xy[:, 0] + 1, "Y_IMAGE": xy[:, 1] + 1, "FLUX_AUTO": flux})
    observed = [_observed(image, cards, names) for names in (("SCI", "ERR", "DQ"), LSST)]
    xyls = Table({"X": xy[:, 0] + 1, "Y": xy[:, 1] + 1, "FLUX": flux, "BACKGROUND": 0 * flux})
    objects = fits.table_to_hdu(table)
    objects.name = "LDAC_OBJECTS"
    with tempfile.TemporaryDirectory() as folder:
        alignment = find_alignment(xy, xy @ [[1, 0.01], [-0.01, 1]] + [3, 4])
        alignment.write(f"{folder}/a.asdf")
        asdf = {"a.asdf": Path(folder, "a.asdf").read_bytes()}
        turned = xy @ [[1, -0.01], [0.01, 1]] - [5, 1]
        align_group([xy, xy + 3.0, turned]).write(f"{folder}/group.asdf")
        asdf["group.asdf"] = Path(folder, "group.asdf").read_bytes()
        model = _model(image, alignment.wcs)
        asdf["roman.asdf"] = model
        for name, kind in (("csv", "ascii.csv"), ("ecsv", "ascii.ecsv"), ("xml", "votable")):
            table.write(f"{folder}/c.{name}", format=kind)
        texts = {f"c.{e}": Path(folder, f"c.{e}").read_bytes() for e in ("csv", "ecsv", "xml")}
    rows = [" ".join(f"{value:.3f}" for value in row) for row in table]
    head = [f"# {k:3d} {name:20s} words [pixel]" for k, name in enumerate(table.colnames, 1)]
    texts["c.cat"] = "\n".join([*head, *rows, ""]).encode()
    als = [f"{k} {x:.3f} {y:.3f} 12.1 0.01 98.2 4 1.0 0.0" for k, (x, y) in enumerate(xy + 1)]
    start = [" NL   NX   NY  LOWBAD HIGHBAD  THRESH", "  1   70   60   -98.0 32000.0  20.0", ""]
    texts["c.als"] = "\n".join([*start, *als, ""]).encode()
    texts["c.csv.gz"] = gzip.compress(texts["c.csv"])
    texts["c.xyls"] = written([fits.PrimaryHDU(), fits.table_to_hdu(xyls)])
    texts["c.ldac"] = written([fits.PrimaryHDU(), objects])
    packed = {
        f"{method}.fits.fz": written(
            [fits.PrimaryHDU(), fits.CompImageHDU(whole, compression_type=method)]
        )
        for method in ("RICE_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1")
    }
    return {
        "fits": {
            "plain.fits": plain,
            "planes.fits": written([fits.PrimaryHDU(image, cards), mask]),
            "hst.fits": written(observed[0]),
            "lsst.fits": written(observed[1]),
            "tables.fits": _with_lookup_tables(image, cards),
            "jwst.fits": _with_asdf(image, model),
            "gz.fits.gz": gzip.compress(plain),
            **packed,
        },
        "asdf": asdf,
        "catalog": texts,
    }


def _observed(image, cards, names):
    """Return the HDUs of an observatory's file: science, uncertainty and flags."""
    header = fits.Header({**cards, "BUNIT": "electrons/s", "TELESCOP": "HST", "INHERIT": True})
    bits = {f"HIERARCH MP_{name}": k for k, name in enumerate(("BAD", "SAT", "CR", "DETECTED"))}
    planes = {"ERR": image * 0 + 3, "VARIANCE": image * 0 + 9}
    hdus = [fits.PrimaryHDU(header=fits.Header({"DATE-OBS": "2020-01-01"}))]
    for name in names:
        data = planes.get(name, (image > 105).astype("i2") if name != names[0] else image)
        own = header if name == names[0] else bits if name == "MASK" else {}
        hdus.append(fits.ImageHDU(data, fits.Header(own), name=name))
    return hdus


def _with_lookup_tables(image, cards):
    """Return a file whose WCS has tables of distortions."""
    wcs = WCS(cards)
    wave = np.sin(np.arange(64.0).reshape(8, 8)).astype("f4")
    wcs.cpdis1 = DistortionLookupTable(wave, (1, 1), (1.0, 1.0), (10.0, 10.0))
    wcs.cpdis2 = DistortionLookupTable(-wave, (1, 1), (1.0, 1.0), (10.0, 10.0))
    return written(to_hdus(CCDData(image, unit="adu", wcs=wcs)))


def _model(image, wcs):
    """Return an ASDF file with a data model such as Roman's."""
    out = io.BytesIO()
    planes = {"data": image, "err": image * 0 + 3, "dq": (image > 105).astype("u4")}
    exposure = {"start_time": Time("2027-01-01"), "exposure_time": 60.0}
    meta = {"telescope": "ROMAN", "model_type": "ImageModel", "exposure": exposure, "wcs": wcs}
    AsdfFile({"roman": {**planes, "meta": meta}, "meta": meta}).write_to(out)
    return out.getvalue()


def _with_asdf(image, model):
    """Return a FITS file with an ASDF extension."""
    raw = np.frombuffer(model, "u1")
    column = fits.Column("ASDF_METADATA", f"{len(raw)}B", array=raw[np.newaxis])
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(image, name="SCI")]
    return written([*hdus, fits.BinTableHDU.from_columns([column], name="ASDF")])


def damage(raw, rng):
    """Damage a file in one to three ways; the heads, where structure is, more often."""
    data = bytearray(raw)
    for _ in range(rng.integers(1, 4)):
        top = len(data) if rng.random() < 0.4 else min(len(data), 6000)
        at, length = int(rng.integers(0, max(top, 1))), int(rng.integers(1, 90))
        kind = rng.integers(0, 8)
        if kind == 0:
            data[at : at + 1] = bytes([int(rng.integers(0, 256))])
        elif kind == 1:
            data = data[:at]
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            data[at:at] = rng.bytes(length)
        elif kind == 5:
            data[at : at + length] = rng.bytes(length)
        else:  # a number or a word becomes another one; in FITS the card keeps its length
            words = list(re.finditer(rb"[\w.+-]+", bytes(data[:top])))
            if words:
                word = words[int(rng.integers(0, len(words)))]
                new = WILD[int(rng.integers(0, len(WILD)))].encode()
                if kind == 7:
                    new = new.ljust(word.end() - word.start())
                data[word.start() : word.end()] = new
    return bytes(data)


def use(kind, path):
    """Read a file, and use what is read."""
    if kind == "fits":
        read_image(path)
        for hdu in image_hdus(path):
            read_image(path, hdu=hdu)
    elif kind == "catalog":
        read_catalog(path)
    elif "roman" in path.name:
        read_image(path)
    elif "group" in path.name:
        group = GroupAlignment.read(path)
        repr(group), str(group.table), group.shape, group.offset
        group.between(0, 1).transform(3.0, 4.0)
    else:
        alignment = Alignment.read(path)
        repr(alignment), str(alignment.summary())
        alignment.transform(3.0, 4.0)
        alignment.transform.inverse(3.0, 4.0)
        with contextlib.suppress(ValueError):  # of those that have no error estimate
            alignment.error(3.0, 4.0)
        alignment.coverage((20, 30))


def worker(pipe, folder):
    """Read files that come by a pipe, and tell what became of each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr = open(os.devnull, "w")
    while (job := pipe.recv()) is not None:
        kind, name, raw = job
        path = Path(folder, name)
        path.write_bytes(raw)
        try:
            use(kind, path)
            verdict = ("read", "")
        except AlignmentError as error:
            words = str(error)
            vague = name not in words or VAGUE.search(words)
            verdict = ("vague" if vague else "refused", f"{type(error).__name__}: {words}")
        except Exception as error:
            verdict = ("undocumented", f"{type(error).__name__}: {error}")
        pipe.send(verdict)


class Reader:
    """A process that reads, and another one when it has gone."""

    def __init__(self, folder):
        self.folder = folder
        self.process = None

    def read(self, job):
        """Read one file; return what became of it."""
        if self.process is None:
            here, there = multiprocessing.Pipe()
            self.pipe = here
            self.process = multiprocessing.Process(target=worker, args=(there, self.folder))
            self.process.start()
            there.close()
        try:
            self.pipe.send(job)
            if self.pipe.poll(PATIENCE):
                return self.pipe.recv()
            verdict = ("hang", f"more than {PATIENCE:g} s")
        except (EOFError, OSError):
            self.process.join()
            verdict = ("crash", f"the process ended with {self.process.exitcode}")
        self.process.kill()
        self.process.join()
        self.process = None
        return verdict

    def close(self):
        """End the process."""
        if self.process is not None:
            self.pipe.send(None)
            self.process.join()


def main():
    """Damage and read files, and tell what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--files", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--kind", nargs="*", choices=["fits", "asdf", "catalog"])
    parser.add_argument("--keep", metavar="FOLDER", help="where to put files that show a fault")
    options = parser.parse_args()
    sound = {k: v for k, v in seeds().items() if not options.kind or k in options.kind}
    counts = {kind: collections.Counter() for kind in sound}
    faults: dict[str, list[str]] = {}
    slowest = 0.0
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(folder)
        for kind, files in sound.items():  # the fuzzer's own files must be sound
            for name, raw in files.items():
                verdict = reader.read((kind, name, raw))
                if verdict[0] != "read":
                    sys.exit(f"the sound file {name} is not read: {verdict[1]}")
        number = 0
        while number < options.files and time.monotonic() - start < 60 * options.minutes:
            rng = np.random.default_rng([options.seed, number])
            kind = list(sound)[number % len(sound)]
            name = list(sound[kind])[int(rng.integers(0, len(sound[kind])))]
            raw = damage(sound[kind][name], rng)
            begin = time.monotonic()
            result, words = reader.read((kind, name, raw))
            slowest = max(slowest, time.monotonic() - begin)
            counts[kind][result] += 1
            if result not in ("read", "refused"):
                same = f"{kind} {result}: {re.sub('[0-9]+', '0', words)[:160]}"
                faults.setdefault(same, []).append(f"file {number}: {words[:400]}")
                if options.keep:
                    os.makedirs(options.keep, exist_ok=True)
                    Path(options.keep, f"{number}-{result}-{name}").write_bytes(raw)
            number += 1
        reader.close()
    for kind, count in counts.items():
        told = ", ".join(f"{count[r]} {r}" for r in ("read", "refused", "vague", "undocumented"))
        print(
            f"{kind:8s} {sum(count.values()):6d} files: {told}, {count['hang']} hang, "
            f"{count['crash']} crash"
        )
    for example in sorted(faults.values(), key=len, reverse=True)[:20]:
        print(f"  {len(example)} x {example[0]}")
    print(f"{number} files, seed {options.seed}, slowest {slowest:.2f} s")
    total = sum(counts.values(), collections.Counter())
    bad = total["undocumented"] + total["hang"] + total["crash"]
    return int(bad > 0 or total["vague"] > 0.01 * number)


if __name__ == "__main__":
    sys.exit(main())
