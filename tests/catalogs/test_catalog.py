from __future__ import annotations

import gzip

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable, Table
from numpy.testing import assert_allclose, assert_array_equal

from spalipy_astro import (
    CatalogError,
    FormatError,
    ImageError,
    StarFlag,
    TooFewStarsError,
    find_alignment,
    read_catalog,
)
from spalipy_astro.catalogs import as_stars, select_stars

N = 40
SEP_COLUMNS = ["thresh", "npix", "tnpix", "x", "y", "errx2", "erry2", "a", "b", "cxx", "flux"]


@pytest.fixture(scope="module")
def truth():
    """Stars, brightest first: x, y in 0-based px, and what goes with them."""
    rng = np.random.default_rng(3)
    return {
        "x": rng.uniform(0, 640, N),
        "y": rng.uniform(0, 410, N),
        "flux": np.sort(rng.uniform(1e3, 1e6, N))[::-1],
        "fwhm": rng.uniform(2, 4, N),
        "x_err": rng.uniform(0.01, 0.02, N),
        "y_err": rng.uniform(0.02, 0.04, N),
        "flags": rng.integers(0, 16, N),
    }


def sextractor(truth, **more):
    """As SExtractor writes it: 1-based; the isophotal positions are poorer ones."""
    return Table(
        {
            "NUMBER": np.arange(1, N + 1),
            "X_IMAGE": truth["x"] + 1.3,
            "Y_IMAGE": truth["y"] + 0.8,
            "XWIN_IMAGE": truth["x"] + 1,
            "YWIN_IMAGE": truth["y"] + 1,
            "FLUX_AUTO": truth["flux"],
            "FWHM_IMAGE": truth["fwhm"],
            "FLAGS": truth["flags"],
            **{name: np.broadcast_to(values, N) for name, values in more.items()},
        }
    )


def ascii_head(table):
    """Write a table as SExtractor's ASCII_HEAD."""
    names = enumerate(table.colnames, 1)
    head = [f"# {number:3d} {name:22s} What it is    [pixel]" for number, name in names]
    rows = [" ".join(f"{value:14.6f}" for value in row) for row in table]
    return "\n".join(head + rows) + "\n"


def ldac(table, path):
    """Write a table as SExtractor's FITS_LDAC."""
    card = fits.BinTableHDU.from_columns(
        [fits.Column("Field Header Card", "80A", array=["SIMPLE  =                    T"])],
        name="LDAC_IMHEAD",
    )
    objects = fits.table_to_hdu(table)
    objects.name = "LDAC_OBJECTS"
    objects.columns["XWIN_IMAGE"].unit = "pixel"
    objects.header["TUNIT6"] = "furlong/fortnight"  # units beyond every standard do happen
    fits.HDUList([fits.PrimaryHDU(), card, objects]).writeto(path)


def write(table, path, kind):
    if kind == "ascii_head":
        path.write_text(ascii_head(table))
    elif kind == "ascii_head.gz":
        with gzip.open(path, "wt") as stream:
            stream.write(ascii_head(table))
    elif kind == "ascii":
        path.write_text("\n".join(ascii_head(table).splitlines()[len(table.colnames) :]))
    elif kind == "ldac":
        ldac(table, path)
    else:
        formats = {"fits": "fits", "ecsv": "ascii.ecsv", "csv": "ascii.csv", "votable": "votable"}
        table.write(path, format=formats[kind])


@pytest.mark.parametrize(
    "kind", ["ascii_head", "ascii_head.gz", "ascii", "ldac", "fits", "ecsv", "csv", "votable"]
)
def test_files_of_sextractor_become_zero_based(truth, tmp_path, kind):
    table = sextractor(truth)
    path = tmp_path / f"stars.{kind}"
    write(table, path, kind)
    stars = read_catalog(path, columns=table.colnames if kind == "ascii" else None)
    assert isinstance(stars, QTable)
    assert stars.meta["dialect"] == "sextractor"
    assert stars.meta["n_rows"] == N
    for column in ("x", "y", "flux", "fwhm"):
        assert_allclose(stars[column], truth[column], rtol=0, atol=2e-6)
    assert_array_equal(stars["flag"], truth["flags"])  # the first four bits are the same
    assert_array_equal(stars["row"], np.arange(N))


def test_positions_of_lower_precision_serve_where_there_are_no_others(truth):
    table = sextractor(truth)
    table.remove_column("XWIN_IMAGE")
    assert_allclose(read_catalog(table)["x"], truth["x"] + 0.3)


def test_letter_case_does_not_matter(truth):
    table = sextractor(truth)
    table.rename_columns(table.colnames, [name.lower() for name in table.colnames])
    assert_allclose(read_catalog(table)["x"], truth["x"])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (0, 0),
        (1, StarFlag.NEIGHBOR),
        (4 | 2, StarFlag.SATURATED | StarFlag.BLENDED),
        (8, StarFlag.EDGE),
        (16, StarFlag.EDGE),
        (32, StarFlag.BAD_PIXELS),
        (64, StarFlag.BLENDED),
        (128 | 1, StarFlag.UNSTABLE | StarFlag.NEIGHBOR),
    ],
)
def test_flags_of_sextractor_become_ours(truth, theirs, ours):
    stars = read_catalog(sextractor({**truth, "flags": np.full(N, theirs)}))
    assert_array_equal(stars["flag"], int(ours))


@pytest.mark.parametrize("angle", [0, 30, 90, -60])
def test_error_ellipses_are_projected(truth, angle):
    a, b = 0.05, 0.02
    errors = {"ERRAWIN_IMAGE": a, "ERRBWIN_IMAGE": b, "ERRTHETAWIN_IMAGE": angle}
    stars = read_catalog(sextractor(truth, **errors))
    t = np.deg2rad(angle)
    turn = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    covariance = turn @ np.diag([a**2, b**2]) @ turn.T
    assert_allclose(stars["x_err"], np.sqrt(covariance[0, 0]))
    assert_allclose(stars["y_err"], np.sqrt(covariance[1, 1]))


def test_an_error_ellipse_without_angle_is_taken_for_a_circle(truth):
    stars = read_catalog(sextractor(truth, ERRAWIN_IMAGE=0.05, ERRBWIN_IMAGE=0.02))
    assert_allclose(stars["x_err"], np.sqrt((0.05**2 + 0.02**2) / 2))
    assert_allclose(stars["y_err"], stars["x_err"])


def test_impossible_errors_become_the_largest_of_the_others(truth):
    variances = {"ERRX2WIN_IMAGE": truth["x_err"] ** 2, "ERRY2WIN_IMAGE": truth["y_err"] ** 2}
    variances["ERRX2WIN_IMAGE"][[2, 7]] = 0, np.nan
    stars = read_catalog(sextractor(truth, **variances))
    others = np.delete(np.arange(N), [2, 7])
    assert_allclose(stars["x_err"][others], truth["x_err"][others])
    assert_allclose(stars["x_err"][[2, 7]], truth["x_err"][others].max())


def test_magnitudes_serve_where_there_is_no_flux(truth):
    table = sextractor(truth, MAG_AUTO=-2.5 * np.log10(truth["flux"]))
    table.remove_column("FLUX_AUTO")
    table["MAG_AUTO"][3] = 99.0
    stars = read_catalog(table)
    assert_allclose(stars["flux"], np.delete(truth["flux"], 3))


@pytest.mark.parametrize(
    ("columns", "fwhm"),
    [
        ({"FLUX_RADIUS": 1.5}, 3.0),
        ({"A_IMAGE": 1.5, "B_IMAGE": 1.5}, 1.5 * 2 * np.sqrt(2 * np.log(2))),
    ],
)
def test_width_is_derived_where_it_is_not_given(truth, columns, fwhm):
    table = sextractor(truth, **columns)
    table.remove_column("FWHM_IMAGE")
    assert_allclose(read_catalog(table)["fwhm"], fwhm)


def test_arrays_of_sep(truth):
    array = np.zeros(N, [(name, float) for name in SEP_COLUMNS] + [("flag", np.int16)])
    for name in ("x", "y", "flux"):
        array[name] = truth[name]
    array["a"] = array["b"] = 1.2
    array["errx2"], array["erry2"] = truth["x_err"] ** 2, truth["y_err"] ** 2
    array["flag"][:4] = 1, 2, 8, 0  # merged, truncated, on one line
    stars = read_catalog(array)
    assert stars.meta["dialect"] == "sep"
    for name in ("x", "y", "flux", "x_err", "y_err"):
        assert_allclose(stars[name], truth[name])
    assert list(stars["flag"][:4]) == [StarFlag.BLENDED, StarFlag.EDGE, StarFlag.ARTIFACT, 0]
    assert_allclose(stars["fwhm"], 1.2 * 2 * np.sqrt(2 * np.log(2)))
    array["errx2"] = array["erry2"] = 0  # as they are if sep was given no noise
    assert "x_err" not in read_catalog(array).colnames


def test_tables_of_photutils():
    from photutils.detection import DAOStarFinder, IRAFStarFinder
    from photutils.segmentation import SourceCatalog, detect_sources

    ny, nx = 90, 130
    positions = np.array([[20.3, 30.6], [60.0, 44.5], [101.7, 70.2], [80.25, 15.75]])
    y, x = np.mgrid[:ny, :nx]
    data = np.zeros((ny, nx))
    for k, (x0, y0) in enumerate(positions):
        data += (400 - 60 * k) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.5**2))
    catalogs = [
        SourceCatalog(data, detect_sources(data, 5.0, 5)),
        SourceCatalog(data, detect_sources(data, 5.0, 5)).to_table(),
        DAOStarFinder(threshold=20, fwhm=3.5)(data),
        IRAFStarFinder(threshold=20, fwhm=3.5)(data),
    ]
    for catalog in catalogs:
        stars = read_catalog(catalog)
        assert stars.meta["dialect"] == "photutils"
        assert_allclose(np.column_stack((stars["x"], stars["y"])), positions, atol=0.25)
        assert np.all(np.diff(stars["flux"]) < 0)
    assert_allclose(read_catalog(catalogs[0])["fwhm"], 1.5 * 2.355, rtol=0.05)


def test_tables_of_psf_photometry(truth):
    table = Table(
        {
            "x_fit": truth["x"],
            "y_fit": truth["y"],
            "flux_fit": truth["flux"],
            "x_err": truth["x_err"],
            "y_err": truth["y_err"],
            "flags": np.where(np.arange(N) == 5, 8, 0),
        }
    )
    stars = read_catalog(table)
    assert_allclose(stars["y_err"], truth["y_err"])
    assert list(np.flatnonzero(stars["flag"])) == [5]
    assert len(as_stars(table)) == N - 1


@pytest.mark.parametrize("unit", [None, u.pix])
def test_tables_of_spalipy(truth, unit):
    """Its columns are taken as they are, in pixels counted from 0."""
    table = QTable({name: truth[name] for name in ("x", "y", "flux", "fwhm")})
    table["flag"] = truth["flags"]
    if unit is not None:
        table["x"] = table["x"] * unit
    assert_allclose(read_catalog(table)["x"], truth["x"])
    assert_allclose(as_stars(table).xy[:, 0], truth["x"])
    assert_allclose(read_catalog(table, origin=1)["y"], truth["y"] - 1)


def test_unknown_columns_can_be_named(truth):
    table = Table({"XCEN": truth["x"] + 1, "YCEN": truth["y"] + 1, "COUNTS": truth["flux"]})
    with pytest.raises(CatalogError, match="XCEN, YCEN, COUNTS"):
        read_catalog(table)
    columns = {"x": "XCEN", "y": "YCEN", "flux": "COUNTS"}
    stars = read_catalog(table, columns=columns, origin=1)
    assert_allclose(stars["x"], truth["x"])
    assert_allclose(stars["flux"], truth["flux"])
    with pytest.raises(CatalogError, match="no column MAG"):
        read_catalog(table, columns={**columns, "flux": "MAG"})


def test_rows_that_are_no_stars_are_left_out(truth):
    table = Table(sextractor(truth), masked=True)
    table["XWIN_IMAGE"].mask[4] = True
    table["YWIN_IMAGE"][6] = np.nan
    table["FLUX_AUTO"][8] = -3.0
    for name in ("XWIN_IMAGE", "YWIN_IMAGE"):
        table[name][11] = table[name][10]
    stars = read_catalog(table)
    assert list(stars["row"]) == sorted(set(range(N)) - {4, 6, 8, 11})
    assert stars.meta["n_rows"] == N


def test_stars_are_sorted_by_brightness_and_know_their_row(truth):
    order = np.random.default_rng(5).permutation(N)
    table = sextractor(truth)[order]
    stars = read_catalog(table)
    assert_allclose(stars["x"], truth["x"])
    assert_array_equal(order[stars["row"]], np.arange(N))
    assert_array_equal(as_stars(table).row, stars["row"][stars["flag"] < 16])


def test_filters(truth):
    table = sextractor(truth)
    table["XWIN_IMAGE"][12] = table["XWIN_IMAGE"][30] + 3
    table["YWIN_IMAGE"][12] = table["YWIN_IMAGE"][30] + 4
    all_stars = read_catalog(table)
    bits = int(StarFlag.SATURATED | StarFlag.EDGE)
    assert_array_equal(
        read_catalog(table, bad_flags=bits)["row"], np.flatnonzero((truth["flags"] & bits) == 0)
    )
    assert_array_equal(read_catalog(table, min_fwhm=3)["row"], np.flatnonzero(truth["fwhm"] >= 3))
    assert_array_equal(read_catalog(table, brightest=7)["row"], np.arange(7))
    assert_array_equal(read_catalog(table, brightest=0.25)["row"], np.arange(N // 4))
    assert len(read_catalog(table, brightest=1)) == N  # a fraction, as in spalipy
    apart = set(range(N)) - set(read_catalog(table, min_sep=5.0001)["row"])
    assert {12, 30} <= apart
    distance = np.hypot(*(all_stars[c][:, None] - all_stars[c] for c in ("x", "y")))
    np.fill_diagonal(distance, np.inf)
    assert apart == set(np.flatnonzero(distance.min(axis=1) < 5.0001))
    assert {12, 30} - set(read_catalog(table, min_sep=5)["row"]) <= apart


def test_the_brightest_of_positions_alone_are_the_first():
    positions = Table({"x": [5.0, 3.0, 9.0, 1.0, 7.0], "y": [1.0, 2.0, 4.0, 8.0, 16.0]})
    assert list(select_stars(positions, brightest=2)["x"]) == [5.0, 3.0]


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"min_fwhm": 2}, CatalogError, "fwhm"),
        ({"bad_flags": 4}, CatalogError, "flag"),
        ({"bad_flags": -1}, ValueError, "-1"),
        ({"min_sep": -2}, ValueError, "min_sep"),
        ({"min_fwhm": np.nan}, ValueError, "nan"),
        ({"brightest": 0}, ValueError, "0"),
        ({"brightest": 2.5}, ValueError, "2.5"),
        ({"origin": 2}, ValueError, "2"),
    ],
)
def test_filters_that_make_no_sense(option, error, message):
    table = Table({"x": [1.0, 2.0], "y": [5.0, 9.0]})
    with pytest.raises(error, match=message):
        read_catalog(table, **option)


def test_files_that_hold_no_catalog(tmp_path, truth):
    with pytest.raises(FileNotFoundError, match="missing"):
        read_catalog(tmp_path / "missing.cat")
    image = tmp_path / "image.fits"
    fits.PrimaryHDU(np.zeros((5, 7))).writeto(image)
    with pytest.raises(CatalogError, match=r"CCDData\.read"):
        read_catalog(image)
    with pytest.raises(ImageError, match="too small"):
        find_alignment(image, image)  # it is taken for what it is
    nonsense = tmp_path / "nonsense.cat"
    nonsense.write_bytes(bytes(range(256)))
    with pytest.raises(FormatError, match="format="):
        read_catalog(nonsense)
    path = tmp_path / "bare.cat"
    write(sextractor(truth), path, "ascii")
    with pytest.raises(CatalogError, match="8 columns; 2 names"):
        read_catalog(path, columns=["x", "y"])
    with pytest.raises(CatalogError, match="name its columns"):
        read_catalog(path, format="ascii")


@pytest.mark.parametrize("text", ["", "secret.csv", "# 1 -32"])
def test_a_text_of_one_line_is_no_name_of_another_file(tmp_path, monkeypatch, truth, text):
    truth_of_others = Table({"x": [1.0, 2.0], "y": [3.0, 4.0]})
    truth_of_others.write(tmp_path / "secret.csv")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.cat").write_text(text)
    with pytest.raises((FormatError, CatalogError), match=r"a\.cat'"):
        read_catalog(tmp_path / "a.cat")


def test_an_empty_catalog_has_no_rows(tmp_path, truth):
    path = tmp_path / "empty.cat"
    path.write_text(ascii_head(sextractor(truth)[:0]))
    assert len(read_catalog(path)) == 0
    with pytest.raises(TooFewStarsError, match="0 usable stars"):
        as_stars(path)


def test_catalogs_are_not_changed(truth):
    table = sextractor(truth)
    before = table.copy()
    read_catalog(table, brightest=3)
    as_stars(table)
    assert table.colnames == before.colnames
    assert all(np.array_equal(table[name], before[name]) for name in table.colnames)


@pytest.mark.parametrize("as_path", [False, True])
def test_catalogs_of_either_side_are_aligned(truth, tmp_path, as_path):
    """A SExtractor catalog, 1-based, on our positions, 0-based: a known shift and turn."""
    angle = np.deg2rad(37)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    xy = np.column_stack((truth["x"], truth["y"])) @ turn.T + np.array([300.0, -40.0])
    source = sextractor({**truth, "flags": np.zeros(N, int)})
    if as_path:
        source.write(tmp_path / "source.fits")
        source = tmp_path / "source.fits"
    alignment = find_alignment(source, xy)
    assert alignment.summary()["n_matched"] == N
    x, y = alignment.transform(100.0, 200.0)
    assert_allclose([x, y], turn @ [100.0, 200.0] + np.array([300.0, -40.0]), atol=1e-4)


def test_select_is_for_images_and_catalogs_alike(truth):
    xy = np.column_stack((truth["x"], truth["y"]))
    alignment = find_alignment(xy, xy + np.array([5, 9]), select={"brightest": 15})
    assert len(alignment.matches) == 15
    assert alignment.matches["source_row"].max() == 14
    with pytest.raises(TooFewStarsError, match="filters leave 2"):
        find_alignment(xy, xy, select={"brightest": 2})


@pytest.mark.parametrize("frame", ["tres1-021", "tres1-229", "Light_1069", "fpC-004192-r4-0300"])
def test_real_catalogs_of_both_formats_agree(shared_data, frame):
    head = read_catalog(shared_data / "catalogs" / f"{frame}.cat")
    ldac = read_catalog(shared_data / "catalogs" / f"{frame}.ldac.fits")
    assert len(head) == len(ldac) > 100
    head.sort("row")
    ldac.sort("row")
    for column in ("x", "y"):
        assert_allclose(head[column], ldac[column], rtol=0, atol=1e-4)
    assert_array_equal(head["flag"], ldac["flag"])


@pytest.mark.parametrize(
    ("pair", "source", "template"),
    [
        ("tres1_4h", "tres1-229.cat", "tres1-021.ldac.fits"),
        ("als_m27_26min", "Light_1069.ldac.fits", "Light_1283.cat"),
        ("sdss_r_night2", "fpC-006377-r4-0399.cat", "fpC-004192-r4-0300.cat"),
    ],
)
def test_real_catalogs_are_aligned(shared_data, real_pair, pair, source, template):
    folder = shared_data / "catalogs"
    alignment = find_alignment(folder / source, folder / template)
    known = real_pair(pair)
    x, y = alignment.transform(*known.source_xy.T)
    offsets = np.column_stack((x, y)) - known.template_xy
    # SExtractor's pixels taken for 0-based ones on one side alone would show as 1 px
    assert np.all(np.abs(np.median(offsets, axis=0)) < 0.1)
    assert np.sqrt(np.mean(offsets**2)) < 0.4
