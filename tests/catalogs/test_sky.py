"""A catalog of sky positions is a template, and gives the source an absolute WCS."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Galactic, SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from astropy.wcs import WCS
from numpy.testing import assert_allclose

from spalipy_astro import CatalogError, FormatError, NoMatchError, detect_stars, find_alignment
from spalipy_astro.catalogs import epoch_of, is_sky_catalog, project_catalog

SHAPE = (400, 500)
SCALE = 0.7  # arcsec


def make_wcs(ra=266.4, dec=-29.0, angle=37.0, mirrored=False, sip=True):
    """The true WCS of the source: distorted, turned, perhaps mirrored."""
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    cd = SCALE / 3600 * np.array([[-c, s], [s, c]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    header = fits.Header({"NAXIS": 2, "NAXIS1": SHAPE[1], "NAXIS2": SHAPE[0]})
    suffix = "TAN-SIP" if sip else "TAN"
    header["CTYPE1"], header["CTYPE2"] = f"RA---{suffix}", f"DEC--{suffix}"
    header["CRVAL1"], header["CRVAL2"] = ra, dec
    header["CRPIX1"], header["CRPIX2"] = 230.0, 170.0
    for i in range(2):
        for j in range(2):
            header[f"CD{i + 1}_{j + 1}"] = cd[i, j]
    if sip:
        header.update(A_ORDER=3, B_ORDER=3, A_3_0=4e-8, A_1_2=4e-8, B_0_3=4e-8, B_2_1=4e-8)
    return WCS(header)


def make_scene(wcs, *, n=400, noise=0.03, seed=0):
    """A source list (px) and a catalog around it, which shows three times as much."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform((-200, -200), (700, 600), (n, 2))
    sky = wcs.pixel_to_world(*xy.T)
    flux = rng.uniform(0.003, 1, n) ** -1.5
    seen = np.all((xy > 0) & (xy < [SHAPE[1], SHAPE[0]]), axis=1) & (rng.uniform(size=n) < 0.8)
    source = Table(
        {
            "x": xy[seen, 0] + rng.normal(0, noise, seen.sum()),
            "y": xy[seen, 1] + rng.normal(0, noise, seen.sum()),
            "x_err": np.full(seen.sum(), noise),
            "y_err": np.full(seen.sum(), noise),
            "flux": flux[seen] * rng.lognormal(0, 0.1, seen.sum()),
        }
    )
    catalog = Table(
        {
            "ra": sky.icrs.ra.deg,
            "dec": sky.icrs.dec.deg,
            "phot_g_mean_mag": 15 - 2.5 * np.log10(flux),
        }
    )
    return source, catalog


def worst(alignment, wcs):
    """The largest error in px in the middle of the source."""
    x, y = np.meshgrid(np.linspace(30, 470, 12), np.linspace(30, 370, 11))
    off = alignment.pixel_to_sky(x, y).separation(wcs.pixel_to_world(x, y))
    return off.arcsec.max() / SCALE


@pytest.mark.parametrize(
    ("ra", "dec", "mirrored"),
    [(266.4, -29.0, True), (0.01, 12.0, False), (83.0, 89.95, False)],
    ids=["mirrored", "0h", "pole"],
)
def test_source_gets_a_wcs(ra, dec, mirrored):
    wcs = make_wcs(ra, dec, mirrored=mirrored)
    source, catalog = make_scene(wcs)
    position = SkyCoord(ra, dec, unit="deg").directional_offset_by(50 * u.deg, 40 * u.arcsec)
    found = find_alignment(source, catalog, position=position, pixel_scale=0.75)
    assert worst(found, wcs) < 0.12
    assert found.summary()["parity"] == (-1 if mirrored else 1)
    assert found.original_wcs.wcs.radesys == "ICRS"
    assert min(found.matches["x_template"].min(), found.matches["y_template"].min()) >= 0
    rows = found.matches["template_row"]
    there = found.original_wcs.world_to_pixel(
        SkyCoord(catalog["ra"][rows], catalog["dec"][rows], unit="deg")
    )
    assert_allclose(there[0], found.matches["x_template"], atol=1e-6)


def test_nothing_need_be_known():
    wcs = make_wcs()
    source, catalog = make_scene(wcs)
    found = find_alignment(source, catalog)
    assert worst(found, wcs) < 0.12
    assert found.summary()["scale"] == pytest.approx(1, abs=0.02)  # of the second projection


def test_header_for_the_source(make_sky_pair):
    """The stars of one image of a pair are the catalog of the other."""
    pair = make_sky_pair(rotation=37, distortion=0.004, n_stars=300)
    truth = make_wcs(sip=False)
    stars = detect_stars(pair.template)
    catalog = QTable({"sky": truth.pixel_to_world(stars["x"], stars["y"]), "flux": stars["flux"]})
    found = find_alignment(pair.source, catalog, position=catalog["sky"][0], radius=0.2 * u.deg)
    export = found.to_fits_header(tolerance=0.05)
    x, y = np.meshgrid(np.linspace(60, 300, 9), np.linspace(60, 220, 9))
    points = np.column_stack((x.ravel(), y.ravel()))
    expected = truth.pixel_to_world(*pair.forward(points).T)
    assert np.max(WCS(export.header).pixel_to_world(*points.T).separation(expected)) < (
        0.2 * SCALE * u.arcsec
    )


def test_wcs_of_the_source_is_a_hint(make_sky_pair):
    pair = make_sky_pair(n_stars=300)
    truth = make_wcs(sip=False)
    stars = detect_stars(pair.template)
    sky = truth.pixel_to_world(stars["x"], stars["y"])
    source = CCDData(pair.source, wcs=make_wcs(266.4 + 10 / 3600, -29.0, sip=False))
    found = find_alignment(source, Table({"RAJ2000": sky.ra, "DEJ2000": sky.dec}))
    expected = truth.pixel_to_world(*pair.forward(np.array([150.0, 140.0])))
    assert found.pixel_to_sky(150, 140).separation(expected).arcsec < 0.1 * SCALE
    assert found.original_wcs.wcs.cdelt[1] * 3600 == pytest.approx(SCALE, rel=1e-3)


def test_proper_motions():
    wcs = make_wcs()
    source, catalog = make_scene(wcs, noise=0.02)
    rng = np.random.default_rng(3)
    now = SkyCoord(catalog["ra"], catalog["dec"], unit="deg")
    pm = rng.normal(0, 80, (2, len(catalog)))  # mas/yr
    before = now.spherical_offsets_by(-20 * pm[0] * u.mas, -20 * pm[1] * u.mas)
    catalog["ra"], catalog["dec"] = before.ra.deg, before.dec.deg
    catalog["pmra"] = MaskedColumn(pm[0], unit=u.mas / u.yr)
    catalog["pmdec"] = MaskedColumn(pm[1], unit=u.mas / u.yr)
    catalog["ref_epoch"] = 2016.0
    moved = find_alignment(source, catalog, epoch=2036.0)
    still = find_alignment(source, catalog)
    assert moved.summary()["rms"] < 0.1 * still.summary()["rms"]
    assert worst(moved, wcs) < 0.08
    sky = SkyCoord(
        before.ra,
        before.dec,
        pm_ra_cosdec=pm[0] * u.mas / u.yr,
        pm_dec=pm[1] * u.mas / u.yr,
        obstime=Time(2016.0, format="jyear"),
    )
    same = find_alignment(
        source,
        QTable({"sky": sky, "mag": catalog["phot_g_mean_mag"]}),
        epoch=Time(2036, format="jyear"),
    )
    assert_allclose(same.transform(100.0, 200.0), moved.transform(100.0, 200.0), atol=1e-6)
    del catalog["ref_epoch"]
    with pytest.raises(CatalogError, match="ref_epoch"):
        find_alignment(source, catalog, epoch=2036.0)


def test_motion_over_the_pole():
    table = Table({"ra": [10.0], "dec": [89.9999], "pmra": [0.0], "pmdec": [72000.0]})
    table.meta["ref_epoch"] = 2000.0
    plane = project_catalog(
        table, position=SkyCoord(0, 90, unit="deg"), pixel_scale=1.0, epoch=2010.0
    )
    sky = plane.wcs.pixel_to_world(plane.table["x"], plane.table["y"])
    assert_allclose((sky.ra.deg, sky.dec.deg), [[190.0], [180 - 89.9999 - 0.2]], atol=1e-3)


def test_fields_without_stars_in_common_are_refused():
    source, _ = make_scene(make_wcs())
    _, catalog = make_scene(make_wcs(100.0, 20.0), seed=9)
    with pytest.raises(NoMatchError):
        find_alignment(source, catalog)


NAMES = [
    *(("RA", "DEC"), ("RAJ2000", "DEJ2000"), ("ALPHA_J2000", "DELTA_J2000"), ("ra", "dec")),
    *(("X_WORLD", "Y_WORLD"), ("raStack", "decStack"), ("sky_centroid.ra", "sky_centroid.dec")),
    ("RightAscension", "Declination"),
]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("unit", [None, u.deg, u.rad])
def test_names_and_units(names, unit):
    angles = np.array([[30.0, 30.01, 30.02, np.nan], [-1.0, -1.01, -1.0, 2.0]])
    columns = angles if unit is None else (angles * u.deg).to(unit)
    table = Table(dict(zip(names, columns, strict=True)))
    assert is_sky_catalog(table)
    plane = project_catalog(table, pixel_scale=1.0)
    sky = plane.wcs.pixel_to_world(plane.table["x"], plane.table["y"])
    assert_allclose(sky.ra.deg, angles[0, :3], atol=1e-9)
    assert_allclose(sky.dec.deg, angles[1, :3], atol=1e-9)
    assert plane.row.tolist() == [0, 1, 2]


def test_frames_errors_and_fluxes():
    sky = SkyCoord([10.0, 10.01, 10.01, 10.02], [5.0, 5.0, 5.0, 5.01], unit="deg").galactic
    assert isinstance(sky.frame, Galactic)
    assert is_sky_catalog(sky)
    table = QTable(
        {"where": sky, "mag": [10.0, 11.0, 11.0, np.nan], "ra_error": [30.0] * 4 * u.mas}
    )
    plane = project_catalog(table, pixel_scale=300 * u.mas)
    assert plane.row.tolist() == [0, 1]  # one row for each position, none without flux
    assert_allclose(plane.table["flux"][0] / plane.table["flux"][1], 10**0.4)
    assert_allclose(plane.table["x_err"], 0.1)
    back = plane.wcs.pixel_to_world(plane.table["x"], plane.table["y"])
    assert back.separation(sky[:2]).max() < 1e-6 * u.arcsec


def test_radius_and_epoch():
    table = Table({"ra": [10.0, 10.1, 11.0], "dec": [5.0, 5.0, 5.0]})
    position = SkyCoord(10.0, 5.0, unit="deg")
    assert len(project_catalog(table, position=position, radius=0.5).table) == 2
    assert len(project_catalog(table, position=position, radius=200 * u.arcmin).table) == 3
    scales = (300.0, 300 * u.arcsec, 300 * u.arcsec / u.pix, 5 * u.arcmin / u.pix)
    planes = [project_catalog(table, pixel_scale=scale) for scale in scales]
    assert_allclose([plane.pixel_scale for plane in planes], 300, rtol=1e-14)
    image = CCDData(np.zeros((3, 4)), unit="adu", meta={"DATE-OBS": "2012-06-17T01:56:40"})
    assert epoch_of(image).jyear == pytest.approx(2012.46, abs=0.01)
    image.meta["MJD-OBS"] = 58000.0
    assert epoch_of(image).mjd == 58000.0
    image.meta["MJD-OBS"], image.meta["DATE-OBS"] = "?", "last night"
    assert epoch_of(image) is None


@pytest.mark.parametrize(
    ("thing", "is_one"),
    [
        (Table({"x": [1.0], "y": [2.0], "ra": [1.0], "dec": [2.0]}), False),
        (Table({"X_IMAGE": [1.0], "Y_IMAGE": [2.0], "ALPHA_J2000": [1.0]}), False),
        (np.zeros((5, 2)), False),
        (np.zeros((5, 6)), False),
        (Table({"a": [1]}), False),
    ],
)
def test_what_is_a_catalog_of_the_sky(thing, is_one):
    assert is_sky_catalog(thing) == is_one


SOME = Table({"ra": [10.0, 10.1], "dec": [5.0, 5.0]})


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"position": (10, 5)}, TypeError, "one SkyCoord"),
        ({"position": SkyCoord(50, 5, unit="deg"), "radius": 1}, CatalogError, "nearest at 39"),
        ({"radius": -1}, ValueError, "radius is a positive angle"),
        ({"pixel_scale": 0 * u.arcsec}, ValueError, "pixel_scale is a positive angle"),
    ],
)
def test_senseless_options(options, error, words):
    with pytest.raises(error, match=words):
        project_catalog(SOME, **options)


def test_senseless_catalogs():
    with pytest.raises(CatalogError, match="its columns are a"):
        project_catalog(Table({"a": [1]}))
    with pytest.raises(CatalogError, match="finite"):
        project_catalog(Table({"ra": [np.nan], "dec": [1.0]}))
    with pytest.raises(CatalogError, match="is not numeric"):
        project_catalog(Table({"ra": [10.0], "dec": [1.0], "mag": ["bright"]}))
    stars = np.random.default_rng(0).uniform(0, 100, (20, 2))
    with pytest.raises(ValueError, match="the template is not one"):
        find_alignment(stars, stars, radius=3)


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")  # headers of 2003
@pytest.mark.parametrize(
    ("name", "limit"), [("sdss_r_night2", 0.15), ("sdss_g_to_r", 0.2), ("2mass_j_to_k", 0.1)]
)
def test_real_headers(real_pair, shared_data, name, limit):
    """Stars of one image on the sky of its header; the other image's header agrees."""
    pair = real_pair(name)
    wcs = []
    for side in ("source", "template"):
        with fits.open(shared_data / pair.row[side]) as hdus:
            wcs.append(WCS(hdus[0].header))
    x, y = pair.template_xy.T
    sky = wcs[1].pixel_to_world(x, y)
    found = find_alignment(pair.source_xy, Table({"ra": sky.icrs.ra, "dec": sky.icrs.dec}))
    xy = pair.source_xy.T
    off = found.pixel_to_sky(*xy).separation(sky).arcsec
    scale = np.sqrt(np.abs(np.linalg.det(wcs[1].pixel_scale_matrix))) * 3600
    assert np.sqrt(np.mean(off**2)) / scale < 2 * limit
    header = found.pixel_to_sky(*xy).separation(wcs[0].pixel_to_world(*xy)).arcsec
    assert np.median(header) / scale < 2 * limit


def sexagesimal(catalog):
    """The positions as text: hours of right ascension, degrees of declination."""
    sky = SkyCoord(catalog["ra"], catalog["dec"], unit=u.deg)
    return {
        "RAJ2000": sky.ra.to_string(u.hourangle, sep=" ", precision=5, pad=True),
        "DEJ2000": sky.dec.to_string(u.deg, sep=" ", precision=4, pad=True, alwayssign=True),
    }


@pytest.mark.parametrize("kind", ["table", "bytes", "csv", "pandas"])
def test_sexagesimal_columns(kind, tmp_path):
    wcs = make_wcs(83.0, -0.02)
    source, catalog = make_scene(wcs)
    columns = {**sexagesimal(catalog), "Vmag": catalog["phot_g_mean_mag"]}
    table = Table(columns)
    if kind == "bytes":
        table.convert_unicode_to_bytestring()
    elif kind == "pandas":
        table = pytest.importorskip("pandas").DataFrame({k: list(v) for k, v in columns.items()})
    elif kind == "csv":
        table.write(tmp_path / "sky.csv")
        table = tmp_path / "sky.csv"
    assert is_sky_catalog(table)
    assert worst(find_alignment(source, table), wcs) < 0.1


def test_missing_and_wrong_sexagesimal_values():
    columns = {"ra": ["10 08 22.3", "", "10:08:30"], "dec": ["-00 30 00", "+1 0 0", "1d12m"]}
    plane = project_catalog(Table(columns))
    assert list(plane.row) == [0, 2]
    sky = plane.wcs.pixel_to_world(plane.table["x"], plane.table["y"])
    assert_allclose(sky.dec.deg, [-0.5, 1.2], atol=1e-9)
    hours = [10 + 8 / 60 + 22.3 / 3600, 10 + 8.5 / 60]
    assert_allclose(sky.ra.deg, np.multiply(hours, 15), atol=1e-9)
    with pytest.raises(CatalogError, match=r"column 'ra' .* such as 'somewhere'"):
        project_catalog(Table({"ra": ["somewhere"], "dec": ["1 2 3"]}))


def test_degrees_as_text_are_degrees():
    plane = project_catalog(Table({"ra": ["150.5", "150.6"], "dec": ["2.25", "2.3"]}))
    assert_allclose(plane.wcs.pixel_to_world(*plane.table["x", "y"][0]).ra.deg, 150.5, atol=1e-9)


@pytest.mark.parametrize(
    ("columns", "meta", "years"),
    [
        ({"RA_ICRS": 83.0, "DE_ICRS": 0.0, "Gmag": 10.0}, {}, 2016.0),
        ({"RA_ICRS": 83.0, "DE_ICRS": 0.0}, {"description": "Gaia DR2 (I/345/gaia2)"}, 2015.5),
        ({"RAJ2000": 83.0, "DEJ2000": 0.0, "Vmag": 10.0}, {}, 2000.0),
        ({"ra": 83.0, "dec": 0.0, "ref_epoch": 1991.25}, {}, 1991.25),
    ],
)
def test_proper_motions_by_the_names_of_vizier(columns, meta, years):
    """A star of 3.6 arcsec a year in declination, beside one that stays."""
    rows = {name: [value, value] for name, value in columns.items()}
    names = ("pmra", "pmdec") if "ra" in columns else ("pmRA", "pmDE")
    table = Table({**rows, names[0]: [0.0, 0.0], names[1]: [3600.0, 0.0]}, meta=meta)
    plane = project_catalog(table, epoch=2026.0, pixel_scale=1.0)
    x, y = plane.table["x"], plane.table["y"]
    assert_allclose(y[0] - y[1], 3.6 * (2026 - years), rtol=1e-6)
    assert_allclose(x[0], x[1], atol=1e-6)


def test_units_of_fits_tables(tmp_path):
    """LSST's tables have radians."""
    columns = {"coord_ra": [1.0, 1.001] * u.rad, "coord_dec": [0.1, 0.101] * u.rad}
    QTable(columns).write(tmp_path / "sky.fits")
    plane = project_catalog(tmp_path / "sky.fits")
    sky = plane.wcs.pixel_to_world(plane.table["x"], plane.table["y"])
    assert_allclose(sky.ra.rad, [1.0, 1.001], atol=1e-12)


@pytest.mark.parametrize("names", [("GLON", "GLAT"), ("_Glon", "_Glat"), ("l", "b")])
def test_galactic_columns(names):
    sky = SkyCoord([10.0, 10.01, 10.01], [5.0, 5.0, 5.1], unit="deg")
    table = Table(dict(zip(names, (sky.galactic.l, sky.galactic.b), strict=True)))
    assert is_sky_catalog(table)
    plane = project_catalog(table)
    found = plane.wcs.pixel_to_world(plane.table["x"], plane.table["y"])
    assert found.separation(sky).arcsec.max() < 1e-6


def test_right_ascensions_in_hours_of_time():
    plane = project_catalog(Table({"ra": [1.0, 1.01] * u.h, "dec": [5.0, 5.1] * u.deg}))
    sky = plane.wcs.pixel_to_world(plane.table["x"], plane.table["y"])
    assert_allclose(sky.ra.deg, [15.0, 15.15], atol=1e-9)


def test_radians_or_degrees_of_lsst():
    """Tables of afw have radians, those of the data releases degrees; files may lose the unit."""
    table = Table({"coord_ra": [0.9, 0.901], "coord_dec": [-0.5, -0.501]})
    with pytest.raises(CatalogError, match=r"coord_ra and coord_dec .* may be radians"):
        project_catalog(table)
    table["coord_ra"].unit = table["coord_dec"].unit = "deg"
    sky = project_catalog(table).wcs.pixel_to_world(0, 0)
    assert abs(sky.ra.deg - 0.9) < 0.01
    plane = project_catalog(Table({"coord_ra": [53.1, 53.2], "coord_dec": [-28.0, -28.1]}))
    assert abs(plane.wcs.pixel_to_world(0, 0).dec.deg + 28) < 0.2


VIZIER = """#
#   VizieR Astronomical Server vizier.cds.unistra.fr
#INFO\t-out.form=| -Separated-Values
#Name: I/355/gaiadr3

{names}
{units}
{rule}
{rows}

#END#
"""


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
@pytest.mark.parametrize("text", [False, True], ids=["degrees", "sexagesimal"])
def test_texts_of_vizier(separator, text, tmp_path):
    """Below the names are units and a line of dashes; missing values are blanks."""
    wcs = make_wcs(83.0, -0.02)
    source, catalog = make_scene(wcs)
    if text:
        angles, units = sexagesimal(catalog).values(), ('"h:m:s"', '"d:m:s"')
    else:
        angles, units = (catalog["ra"], catalog["dec"]), ("deg", "deg")
    rows = [*zip(["  "] * len(catalog), *angles, catalog["phot_g_mean_mag"], strict=True)]
    lines = [("e_B", "_RAJ2000", "_DEJ2000", "Vmag"), ("mas", *units, "mag"), ("-" * 9,) * 4]
    names, units, rule = map(separator.join, lines)
    told = "\n".join(separator.join(map(str, row)) for row in rows)
    path = tmp_path / "sky.tsv"
    path.write_text(VIZIER.format(names=names, units=units, rule=rule, rows=told))
    assert is_sky_catalog(path)
    assert worst(find_alignment(source, path), wcs) < 0.1
    path.write_text(VIZIER.format(names=names, units=units, rule=rule, rows=told) * 2)
    with pytest.raises(FormatError, match=r"sky\.tsv.*it has 2 tables"):
        project_catalog(path)


def test_reference_catalogs_of_scamp(tmp_path):
    """The first of its tables holds a header."""
    sky = [150.0, 150.1] * u.deg, [2.0, 2.1] * u.deg
    head = fits.table_to_hdu(Table({"Field Header Card": ["SIMPLE  =                    T"]}))
    stars = fits.table_to_hdu(Table({"X_WORLD": sky[0], "Y_WORLD": sky[1], "MAG": [12.0, 13.0]}))
    fits.HDUList([fits.PrimaryHDU(), head, stars]).writeto(tmp_path / "ref.cat")
    assert is_sky_catalog(tmp_path / "ref.cat")
    assert len(project_catalog(tmp_path / "ref.cat").table) == 2
