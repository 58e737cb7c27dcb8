"""Catalogs as the programs write them: the same stars, wherever the first pixel is."""

from __future__ import annotations

import bz2
import gzip
import lzma

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning
from numpy.testing import assert_allclose, assert_array_equal

from spalipy_astro import CatalogError, FormatError, StarFlag, find_alignment, read_catalog
from spalipy_astro.catalogs import is_catalog

N = 30
rng = np.random.default_rng(8)
X, Y = rng.uniform(0, 640, N).round(3), rng.uniform(0, 410, N).round(3)
FLUX = np.sort(rng.uniform(1e3, 1e6, N).round(1))[::-1]
MAG = 25 - 2.5 * np.log10(FLUX)

XYLS = {"X": X + 1, "Y": Y + 1, "FLUX": FLUX}
LSST_FLAG = "base_PixelFlags_flag_saturatedCenter"
TABLES = {
    "astrometry.net": {**XYLS, "BACKGROUND": 0 * X},
    "sextractor": {"X_IMAGE": X + 1, "Y_IMAGE": Y + 1, "FLUX_AUTO": FLUX},
    "sep": {"x": X, "y": Y, "tnpix": X, "cxx": X, "flux": FLUX},
    "daophot.iraf": {"XCENTER": X + 1, "YCENTER": Y + 1, "MAG": MAG},
    "photutils": {"x_centroid": X, "y_centroid": Y, "segment_flux": FLUX},
    "photutils (old)": {"xcentroid": X, "ycentroid": Y, "flux": FLUX},
    "photutils (statistics)": {"x_centroid": X * u.pix, "y_centroid": Y * u.pix, "sum": FLUX},
    "photutils.psf": {"x_fit": X, "y_fit": Y, "flux_fit": FLUX},
    "photutils.psf (initial)": {"x_init": X, "y_init": Y, "flux_init": FLUX},
    "photutils.aperture": {"x_center": X, "y_center": Y, "aperture_sum": FLUX},
    "photutils.aperture (old)": {
        "xcenter": X * u.pix,
        "ycenter": Y * u.pix,
        "aperture_sum_0": FLUX,
    },
    "photutils.peaks": {"x_peak": X, "y_peak": Y, "peak_value": FLUX},
    "lsst": {"slot_Centroid_x": X, "slot_Centroid_y": Y, "slot_PsfFlux_instFlux": FLUX},
    "lsst (source table)": {"x": X, "y": Y, "psfFlux": FLUX},
    "spalipy": {"x": X, "y": Y, "flux": FLUX},
    "spalipy (magnitudes)": {"x": X, "y": Y, "mag": MAG},
    "sextractor (model)": {"XMODEL_IMAGE": X + 1, "YMODEL_IMAGE": Y + 1, "FLUX_MODEL": FLUX},
    "sextractor (double)": {"X_IMAGE_DBL": X + 1, "Y_IMAGE_DBL": Y + 1, "FLUX_AUTO": FLUX},
    "astrometry.net (corr)": {
        **{"field_x": X + 1, "field_y": Y + 1, "index_x": X + 1.2, "index_y": Y + 0.7},
        **{"field_ra": X, "field_dec": 0.1 * Y, "FLUX": FLUX},
    },
}


def check(stars, dialect):
    """Positions from 0, brightest first."""
    assert stars.meta["dialect"] == dialect
    assert_allclose(stars["x"], X, atol=1e-9)
    assert_allclose(stars["y"], Y, atol=1e-9)
    # magnitudes have a zero point of their own
    assert_allclose(stars["flux"] / stars["flux"][0], FLUX / FLUX[0], rtol=2e-4)


@pytest.mark.parametrize("name", TABLES)
def test_columns_of_programs(name):
    check(read_catalog(Table(TABLES[name])), name.split(" ")[0])


@pytest.mark.parametrize("name", ["astrometry.net", "sextractor", "lsst", "spalipy"])
@pytest.mark.parametrize("kind", ["pandas", "mapping", "fits"])
def test_kinds_of_tables(name, kind, tmp_path):
    columns = TABLES[name]
    if kind == "fits":
        thing = tmp_path / "stars.fits"
        Table(columns).write(thing)
    elif kind == "mapping":
        thing = dict(columns)
    else:
        thing = pytest.importorskip("pandas").DataFrame(columns)
    assert is_catalog(thing)
    check(read_catalog(thing), name)


def test_data_frames_align():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(TABLES["sextractor"])
    alignment = find_alignment(frame, Table({"x": X + 5, "y": Y - 3, "flux": FLUX}))
    assert_allclose(alignment.transform(100.0, 200.0), (105, 197), atol=1e-6)


def test_data_frames_without_names():
    pandas = pytest.importorskip("pandas")
    assert len(read_catalog(pandas.DataFrame(np.column_stack((X, Y))))) == N
    with pytest.raises(CatalogError, match=r"columns .* which are no names; make it a Table"):
        read_catalog(pandas.DataFrame(np.zeros((20, 30))))


def test_missing_values_of_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": X, "y": Y, "flux": FLUX}).convert_dtypes()
    frame.loc[3, "flux"] = pandas.NA
    assert_array_equal(read_catalog(frame)["row"], np.delete(np.arange(N), 3))


class Polars:
    """A data frame as of polars, as far as it is used."""

    def __init__(self, columns):
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name):
        return self._columns[name]

    def to_pandas(self):
        raise AssertionError("pandas is not needed")


def test_other_data_frames():
    check(read_catalog(Polars(TABLES["sextractor"])), "sextractor")


@pytest.mark.parametrize("hdu", [0, 1])
def test_xyls_told_by_its_card(tmp_path, hdu):
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(Table(XYLS))])
    hdus[hdu].header["AN_FILE"] = "XYLS"
    hdus.writeto(tmp_path / "field.xyls")
    check(read_catalog(tmp_path / "field.xyls"), "astrometry.net")


@pytest.mark.parametrize("kind", ["fits", "csv", "table"])
def test_capital_x_and_y_are_asked_about(kind, tmp_path):
    thing = Table({**XYLS})
    if kind != "table":
        thing = tmp_path / f"stars.{kind}"
        Table(XYLS).write(thing)
    with pytest.warns(AstropyUserWarning, match=r"origin=0\) or origin=1"):
        stars = read_catalog(thing)
    assert_allclose(stars["x"], X + 1)
    check(read_catalog(thing, origin=1), "spalipy")


def test_flags_of_lsst():
    saturated = np.arange(N) < 2
    stars = read_catalog(Table({**TABLES["lsst"], LSST_FLAG: saturated}))
    assert_array_equal(stars["flag"], np.where(saturated, int(StarFlag.SATURATED), 0))


HEAD = " NL   NX   NY  LOWBAD HIGHBAD  THRESH     AP1  PH/ADU  RNOISE    FRAD\n"
VALUES = "   -98.0 32000.0   20.00    3.00    5.00    1.00    3.5\n\n"


def daophot(kind):
    """What DAOPHOT and ALLSTAR write: 1-based."""
    stars = list(enumerate(zip(X + 1, Y + 1, MAG, strict=True), 1))
    number = {"ap": 2, "grp": 3}.get(kind, 1)
    lines = [HEAD, f"  {number}  640  410", VALUES]
    for k, (x, y, mag) in stars:
        start = f"{k:6d} {x:8.3f} {y:8.3f} {mag:8.4f}"
        lines += {
            "coo": f"{start}    0.512   -0.03    0.01\n",
            "als": f"{start}   0.0061    98.21       4.    1.020   -0.031\n",
            "ap": f"{start}   99.999\n  98.210  3.01  0.00  0.0061  9.9999\n\n",
            "grp": f"{start}   98.21\n" + "\n" * (k % 3 == 0),
        }[kind]
    return "".join(lines)


@pytest.mark.parametrize("kind", ["coo", "als", "ap", "grp"])
def test_files_of_daophot(kind, tmp_path):
    path = tmp_path / f"stars.{kind}"
    path.write_text(daophot(kind))
    check(read_catalog(path), "daophot.stetson")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  1  640", "  7  640", "its NL is 7; of DAOPHOT it is 1, 2 or 3"),
        ("     2 ", "     2 oops", "something that is no number"),
        ("  1  640", "  2  640", None),
    ],
)
def test_files_of_daophot_that_are_damaged(old, new, words, tmp_path):
    path = tmp_path / "stars.als"
    path.write_text(daophot("als").replace(old, new) + ("" if words else "1 2 3 4\n"))
    with pytest.raises(FormatError, match=words or "odd number of lines") as caught:
        read_catalog(path)
    assert str(path) in str(caught.value)


IRAF = """\
#K IRAF       = NOAO/IRAFV2.16          version    %-23s
#K USER       = me                      name       %-23s
#
#N ID    XCENTER   YCENTER   MAG         MERR          MSKY           NITER    \\
#U ##    pixels    pixels    magnitudes  magnitudes    counts         ##       \\
#F %-9d  %-10.3f   %-10.3f   %-12.3f     %-14.3f       %-15.7g        %-6d
#
#N         SHARPNESS   CHI         PIER  PERROR                                \\
#U         ##          ##          ##    perrors                               \\
#F         %-23.3f     %-12.3f     %-6d  %-13s
#
"""


def test_files_of_iraf(tmp_path):
    rows = [*zip(X + 1, Y + 1, MAG.round(4), strict=True), (500.0, 300.0, "INDEF")]
    lines = [
        f"{k:<9d}{x:<10.3f}{y:<10.3f}{mag!s:<12s}{0.005:<14.3f}{98.21:<15.7g}{4:<9d}\\\n"
        f"           {0.031:<12.3f}{1.02:<12.3f}{0:<6d}{'No_error':<13s}\n"
        for k, (x, y, mag) in enumerate(rows, 1)
    ]
    (tmp_path / "stars.als.1").write_text(IRAF + "".join(lines))
    check(read_catalog(tmp_path / "stars.als.1"), "daophot.iraf")


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".dat", ".tsv", ".ecsv", ".tbl", ""])
@pytest.mark.parametrize("pack", ["", ".gz", ".bz2", ".xz"])
def test_compressed_text(suffix, pack, tmp_path):
    plain = tmp_path / f"stars{suffix}"
    kind = {".csv": "csv", ".tsv": "tab", ".ecsv": "ecsv", ".tbl": "ipac"}.get(suffix, "basic")
    Table(TABLES["sextractor"]).write(plain, format=f"ascii.{kind}")
    packed = tmp_path / f"stars{suffix}{pack}"
    press = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[pack]
    packed.write_bytes(press(plain.read_bytes()))
    check(read_catalog(packed), "sextractor")


def test_votables_also_compressed(tmp_path):
    Table(TABLES["sextractor"]).write(tmp_path / "stars.xml", format="votable")
    packed = tmp_path / "stars.vot.gz"
    packed.write_bytes(gzip.compress((tmp_path / "stars.xml").read_bytes()))
    check(read_catalog(packed), "sextractor")


def camera(path, chips=2):
    """A FITS_LDAC catalog of a camera."""
    hdus = [fits.PrimaryHDU()]
    for chip in range(chips):
        card = fits.table_to_hdu(Table({"Field Header Card": ["SIMPLE  =                    T"]}))
        card.name = "LDAC_IMHEAD"
        stars = fits.table_to_hdu(Table(TABLES["sextractor"])[chip:])
        stars.name = "LDAC_OBJECTS"
        hdus += [card, stars]
    fits.HDUList(hdus).writeto(path)


def test_catalogs_of_several_chips(tmp_path):
    camera(tmp_path / "c.cat")
    with pytest.warns(AstropyUserWarning, match=r"stars in HDUs 2, 4.*hdu="):
        assert len(read_catalog(tmp_path / "c.cat")) == N
    assert len(read_catalog(tmp_path / "c.cat", hdu=4)) == N - 1
    with pytest.raises(CatalogError, match="has no HDU 9; it has 0 PRIMARY"):
        read_catalog(tmp_path / "c.cat", hdu=9)


@pytest.mark.parametrize("column", ["EXT_NUMBER", "ccdnum", "detector"])
def test_a_column_that_tells_chips(column):
    table = Table({**TABLES["sextractor"], column: np.arange(N) % 2 + 1})
    with pytest.warns(AstropyUserWarning, match=f"stars of 2 chips, by its column {column}"):
        read_catalog(table)
    check(read_catalog(Table({**TABLES["sextractor"], column: np.ones(N, int)})), "sextractor")


@pytest.mark.parametrize("pack", [gzip, bz2, lzma])
@pytest.mark.parametrize("cut", [30, -20])
def test_damaged_compressed_text(pack, cut, tmp_path):
    Table(TABLES["spalipy"]).write(tmp_path / "stars.csv")
    path = tmp_path / "packed.csv"
    path.write_bytes(pack.compress((tmp_path / "stars.csv").read_bytes())[:cut])
    with pytest.raises(FormatError, match=r"packed\.csv.*(unpack|marker)"):
        read_catalog(path)


def lines_of(cell="{}", between=","):
    """A csv file of our columns."""
    rows = [("x", "y", "flux"), *zip(X, Y, FLUX, strict=True)]
    return "".join(between.join(cell.format(value) for value in row) + "\n" for row in rows)


FORMS = {
    "excel": b"\xef\xbb\xbf" + lines_of().replace("\n", "\r\n").encode(),
    "utf-16": lines_of().encode("utf-16"),
    "latin-1": "# Sternwarte K\xf6ln\n".encode("latin-1") + lines_of().encode(),
    "comments": b"# made by hand\n\n" + lines_of().encode(),
    "named by a comment": b"# " + lines_of().encode(),
    "semicolons": lines_of(between=";").encode(),
    "decimal commas": lines_of(between="; ").replace(".", ",").encode(),
    "spaces": lines_of(between=" , ").encode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_texts_of_other_programs(form, suffix, tmp_path):
    path = tmp_path / f"stars{suffix}"
    path.write_bytes(FORMS[form])
    assert is_catalog(path)
    check(read_catalog(path), "spalipy")


@pytest.mark.parametrize("word", ["", "null", "NULL", "INDEF", "N/A", "--", "nan"])
@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_words_for_missing_values(word, suffix, tmp_path):
    path = tmp_path / f"stars{suffix}"
    path.write_text(f"{lines_of()}{word},{word},5.0\n17.5,4.5,{word}\n")
    stars = read_catalog(path)
    assert len(stars) == N
    check(stars, "spalipy")


def test_integers_that_are_null(tmp_path):
    """TNULL: a star at (-99, -99) would be one that nobody has seen."""
    cells = np.array([10, -99, 30, 40], "i4")
    columns = [fits.Column(name, "J", array=cells, null=-99) for name in ("x", "y")]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "stars.fits")
    assert read_catalog(tmp_path / "stars.fits")["x"].tolist() == [10, 30, 40]


def test_values_that_are_no_numbers(tmp_path):
    Table({"x": ["1.0", "2.0"], "y": ["4", "5x"], "flux": [3.0, 2.0]}).write(tmp_path / "stars.csv")
    with pytest.raises(CatalogError, match=r"stars\.csv.*column y .* no number .*5x"):
        read_catalog(tmp_path / "stars.csv")


def test_tables_without_pcount(tmp_path):
    """What libraries look up without asking is missed by its name."""
    path = tmp_path / "stars.fits"
    Table(TABLES["spalipy"]).write(path)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"PCOUNT  =", b"PCOUNX  ="))
    with pytest.raises(FormatError, match="lacks the card PCOUNT"):
        read_catalog(path)


def test_columns_of_sextractor_with_impossible_numbers(tmp_path):
    """One damaged digit: the gap up to that column would be filled for hours."""
    path = tmp_path / "stars.cat"
    path.write_text("# 1 X_IMAGE\n# 999999999 Y_IMAGE\n1 2\n")
    with pytest.raises(FormatError, match="column Y_IMAGE the number 999999999"):
        read_catalog(path)
