"""What finds the stars: the PSF fit, photutils' segmentation and star finders, or a function."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from photutils.detection import DAOStarFinder, IRAFStarFinder, StarFinder
from photutils.segmentation import make_2dgaussian_kernel
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter
from scipy.spatial import cKDTree

from spalipy_astro import AlignmentError, detect_stars, find_alignment
from spalipy_astro._checks import name_of_finder
from spalipy_astro.catalogs import UNUSABLE, StarFlag
from spalipy_astro.errors import CatalogError, TooFewStarsError

SKY, NOISE, GAIN = 100.0, 8.0, 2.0
SHIFT = np.array([17.3, -11.6])


def profile_of(shape_function, radius, seeing=2.2, fine=4):
    """Return the profile of a shape seen through the atmosphere, integrated over pixels."""
    c = int((radius + 3 * seeing) * fine)
    v, u = np.mgrid[-c : c + 1, -c : c + 1] / fine
    table = gaussian_filter(shape_function(u, v).astype(float), seeing / 2.3548 * fine)
    table = uniform_filter(table, fine + 1)
    table *= fine**2 / table.sum()

    def profile(dx, dy):
        return map_coordinates(table, np.broadcast_arrays(dy * fine + c, dx * fine + c), order=1)

    return profile, int(radius + 3 * seeing + 1)


def trail(length, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return profile_of(
        lambda u, v: (abs(u * c + v * s) <= length / 2) & (abs(v * c - u * s) < 0.2), length / 2 + 1
    )


def ring(radius):
    return profile_of(
        lambda u, v: (np.hypot(u, v) < radius) & (np.hypot(u, v) > 0.4 * radius), radius + 1
    )


def moffat(fwhm, beta=3.0):
    a = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    scale = (beta - 1) / (np.pi * a * a)
    return (lambda dx, dy: scale * (1 + (dx**2 + dy**2) / a**2) ** -beta), int(5 * fwhm)


def draw(shape, xy, flux, profile, radius):
    image = np.zeros(shape)
    for (x, y), f in zip(xy, flux, strict=True):
        rows = np.arange(max(0, round(y) - radius), min(shape[0], round(y) + radius + 1))
        columns = np.arange(max(0, round(x) - radius), min(shape[1], round(x) + radius + 1))
        if len(rows) and len(columns):
            place = columns[None, :] - x, rows[:, None] - y
            image[np.ix_(rows, columns)] += f * profile(*place)
    return image


def expose(rng, light):
    noise = np.sqrt(NOISE**2 + np.maximum(light, 0) / GAIN)
    return light + SKY + rng.normal(size=light.shape) * noise


def sky_of(rng, n, shape, faintest):
    """Return positions and fluxes of stars with a signal-to-noise ratio above ``faintest``."""
    xy = rng.uniform(-30, np.array(shape[::-1]) + 30, (n, 2))
    flux = faintest * NOISE * 4.5 * rng.uniform(0.05, 1, n) ** -0.7
    return xy, flux


def pair_of(profile, *, n=50, shape=(400, 500), faintest=60.0, seed=0):
    rng = np.random.default_rng(seed)
    xy, flux = sky_of(rng, n, shape, faintest)
    places = xy - SHIFT, xy
    return [expose(rng, draw(shape, place, flux, *profile)) for place in places], xy, flux


def error_of(alignment):
    x, y = np.meshgrid(np.linspace(30, 460, 7), np.linspace(30, 360, 7))
    tx, ty = alignment.transform(x, y)
    return np.sqrt(np.mean((tx - x - SHIFT[0]) ** 2 + (ty - y - SHIFT[1]) ** 2))


SHAPES = {
    "trails of 10 px": (trail(10, 25), 40.0, 0.2),
    "trails of 20 px": (trail(20, 70), 60.0, 0.5),
    "rings of 10 px": (ring(10), 75.0, 0.6),
    "rings of 14 px": (ring(14), 100.0, 1.0),
}


@pytest.mark.parametrize("name", SHAPES)
def test_sources_are_found_where_they_are(name):
    """Their centers are exact to their errors, which are honest."""
    profile, faintest, _ = SHAPES[name]
    (image, _), xy, _ = pair_of(profile, n=30, faintest=faintest, seed=4)
    table = detect_stars(image, finder="sources")
    table = table[(table["flag"] & int(UNUSABLE | StarFlag.BLENDED)) == 0]
    assert table.meta["finder"] == "sources"
    distance, row = cKDTree(xy - SHIFT).query(np.column_stack((table["x"], table["y"])))
    here = distance < 5
    assert here.sum() >= 10
    off = np.column_stack((table["x"], table["y"]))[here] - (xy - SHIFT)[row[here]]
    pull = off / np.column_stack((table["x_err"], table["y_err"]))[here]
    assert np.median(np.abs(pull)) / 0.6745 < 1.5
    assert np.mean(np.abs(pull) > 5) < 0.1


@pytest.mark.parametrize("degrees", [0, 20, 68, 125])
@pytest.mark.parametrize("length", [20, 40])
def test_trails_that_are_brighter_at_their_ends(length, degrees):
    """As a mount leaves them that halts there: each is one object."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    def shape(u, v):
        along, across = u * c + v * s, v * c - u * s
        ends = 1 + 0.5 * (abs(along) > 0.3 * length)
        return ends * ((abs(along) <= length / 2) & (abs(across) < 0.5))

    profile = profile_of(shape, length / 2 + 1)
    (image, _), xy, _ = pair_of(profile, n=26, shape=(300, 360), faintest=120.0, seed=5)
    table = detect_stars(image)
    assert table.meta["finder"] == "sources"
    table = table[(table["flag"] & int(UNUSABLE)) == 0]
    away = cKDTree(xy - SHIFT).query(np.column_stack((table["x"], table["y"])))[0]
    assert np.count_nonzero(away < 2) >= 8
    assert np.count_nonzero(away > 3) <= 2


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", SHAPES)
def test_auto_finds_trails_and_rings(name, seed):
    profile, faintest, limit = SHAPES[name]
    (source, template), _, _ = pair_of(profile, faintest=faintest, seed=seed)
    alignment = find_alignment(source, template)
    assert error_of(alignment) < limit
    assert alignment.provenance["options"]["finder"] == "auto"


@pytest.mark.parametrize(("length", "seed"), [(18, 3), (20, 1), (20, 10), (22, 38)])
def test_stars_of_no_optics_are_objects(length, seed):
    """The fit's profile may follow trails, drawn out as no optics do, and their pieces."""
    profile = trail(length, np.random.default_rng(seed).uniform(0, 180))
    (source, _), _, _ = pair_of(profile, n=45, faintest=25 + 1.5 * length, seed=seed)
    assert detect_stars(source).meta["finder"] == "sources"


def disks(rng, n, shape):
    """Draw inclined exponential disks, without a star among them."""
    image, (v, u) = np.zeros(shape), np.indices(shape)
    for _ in range(n):
        x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        size, ratio, angle = rng.uniform(1.5, 5), rng.uniform(0.25, 1), rng.uniform(0, np.pi)
        dx, dy = u - x, v - y
        along = dx * np.cos(angle) + dy * np.sin(angle)
        across = (dy * np.cos(angle) - dx * np.sin(angle)) / ratio
        image += 60 * 30 ** rng.uniform() * np.exp(-np.hypot(np.hypot(along, across), 0.5) / size)
    return gaussian_filter(image, 1.1)


@pytest.mark.parametrize(("n", "seed"), [(35, 1), (80, 2)])
def test_galaxies_match_their_own_crop(n, seed):
    rng = np.random.default_rng(seed)
    whole = expose(rng, disks(rng, n, (400, 500)))
    crop = whole[52:332, 71:431].copy()
    alignment = find_alignment(crop, whole)
    x, y = np.meshgrid(np.linspace(0, 359, 9), np.linspace(0, 279, 9))
    tx, ty = alignment.transform(x, y)
    assert np.sqrt(np.mean((tx - x - 71) ** 2 + (ty - y - 52) ** 2)) < 0.02


@pytest.mark.parametrize(("fwhm", "n"), [(2.5, 60), (6, 40), (6, 1500), (10, 600), (18, 20)])
def test_auto_keeps_to_the_fit_where_there_are_stars(fwhm, n):
    """Also of wide and of crowded stars; the table is that of the fit, bit for bit."""
    rng = np.random.default_rng([n, int(fwhm)])
    shape = (400, 500)
    xy, flux = sky_of(rng, n, shape, 10.0 * fwhm)
    image = expose(rng, draw(shape, xy, flux, *moffat(fwhm)))
    table = detect_stars(image)
    assert table.meta["finder"] == "stars"
    fitted = detect_stars(image, finder="stars")
    assert all(np.array_equal(table[name], fitted[name]) for name in table.colnames)


FINDERS = {
    "DAOStarFinder": DAOStarFinder(threshold=40, fwhm=3.0),
    "IRAFStarFinder": IRAFStarFinder(threshold=40, fwhm=3.0),
    "StarFinder": StarFinder(40, make_2dgaussian_kernel(3.0, size=9).array),
}


@pytest.fixture(scope="module")
def stars():
    return pair_of(moffat(3.0), n=60, faintest=15.0, seed=8)


@pytest.mark.parametrize("name", FINDERS)
def test_star_finders_of_photutils(stars, name):
    (source, template), _, _ = stars
    alignment = find_alignment(source, template, finder=FINDERS[name])
    assert error_of(alignment) < 0.3
    kept = alignment.provenance["options"]["finder"]
    assert name in kept
    assert "0x" not in kept  # another run writes the same


def test_function_of_the_user(stars):
    """It is given the image less its sky, and a mask of bad pixels, where the data are 0."""
    (source, template), _, _ = stars
    source = source.copy()
    source[100:104, 200:207] = np.nan
    seen = []

    def brightest(data, mask=None):
        seen.append((data, mask))
        top = (data == np.max(data)) & ~mask
        y, x = np.nonzero(top)
        return Table({"x": x.astype(float), "y": y.astype(float), "flux": data[y, x]})

    table = detect_stars(source, finder=brightest)
    data, mask = seen[0]
    assert np.array_equal(mask, np.isnan(source))
    assert np.all(data[mask] == 0)
    assert np.median(data) == pytest.approx(0, abs=NOISE / 2)
    y, x = np.unravel_index(np.nanargmax(source), source.shape)
    assert (table["x"][0], table["y"][0]) == pytest.approx((x, y), abs=1)
    assert table.meta["finder"].endswith("brightest")
    with pytest.raises(TooFewStarsError, match="1 usable"):
        find_alignment(source, template, finder=brightest)


def test_finder_that_finds_nothing(stars):
    (source, template), _, _ = stars
    assert len(detect_stars(source, finder=lambda data, mask=None: None)) == 0
    with pytest.raises(AlignmentError, match="0 usable"):
        find_alignment(source, template, finder=lambda data, mask=None: None)


def test_finder_without_positions(stars):
    (source, _), _, _ = stars
    with pytest.raises(CatalogError, match="finder returns"):
        detect_stars(source, finder=lambda data, mask=None: Table({"a": [1.0, 2.0]}))
    for odd in (lambda data, mask: 7, lambda data, mask: [None]):
        with pytest.raises((TypeError, CatalogError), match="finder returns"):
            detect_stars(source, finder=odd)


def test_empty_sky_has_no_sources():
    image = np.random.default_rng(1).normal(100, 5, (200, 250))
    assert len(detect_stars(image, finder="sources")) == 0


@pytest.mark.parametrize(
    ("finder", "error", "words"),
    [
        ("galaxies", ValueError, "'galaxies'"),
        (7, TypeError, "got 7"),
        (None, TypeError, "got None"),
        (DAOStarFinder, TypeError, r"DAOStarFinder\(\.\.\.\)"),
        (lambda data: None, TypeError, r"called as finder\(data, mask=mask\); got .*\(data\)"),
        (lambda data, mask, fwhm: None, TypeError, r"called as .*\(data, mask, fwhm\)"),
    ],
)
def test_senseless_finders(stars, finder, error, words):
    (source, template), _, _ = stars
    with pytest.raises(error, match=f"^finder is .*{words}"):
        find_alignment(source, template, finder=finder)


def test_names_of_finders():
    assert name_of_finder("auto") == "auto"
    assert name_of_finder(DAOStarFinder(threshold=40, fwhm=3.0)) == name_of_finder(
        DAOStarFinder(threshold=40, fwhm=3.0)
    )
    assert name_of_finder(DAOStarFinder(threshold=40, fwhm=3.0)) != name_of_finder(
        DAOStarFinder(threshold=50, fwhm=3.0)
    )


def disc(radius):
    return profile_of(lambda u, v: np.hypot(u, v) < radius, radius + 1)


# a fit of Moffat's profile alone was up to 7 % off on trails, 15 % on discs, 60 % on pieces
LIGHT = {
    "a star": (moffat(3.0), 0.01),
    "a short trail": (trail(6, 115), 0.015),
    "a trail in pieces": (trail(12, 115), 0.015),
    "a long trail": (trail(24, 25), 0.015),
    "a disc": (disc(3), 0.015),
    "a wide disc": (disc(5), 0.03),
}


@pytest.mark.parametrize("name", LIGHT)
def test_flux_is_all_the_light(name):
    profile, limit = LIGHT[name]
    (image, _), xy, flux = pair_of(profile, n=60, shape=(300, 360), faintest=150.0, seed=3)
    table = detect_stars(image)
    assert name != "a trail in pieces" or table.meta["finder"] == "sources"
    table = table[(table["flag"] & int(UNUSABLE | StarFlag.BLENDED)) == 0][:25]
    distance, row = cKDTree(xy - SHIFT).query(np.column_stack((table["x"], table["y"])))
    ratio = np.asarray(table["flux"] / flux[row])[distance < 3]
    assert len(ratio) > 10
    assert np.median(ratio) == pytest.approx(1, abs=limit)


@pytest.mark.parametrize(("length", "degrees"), [(9, 20.0), (20, 70.0)])
def test_the_shape_of_objects(length, degrees):
    image = pair_of(trail(length, degrees), n=40, shape=(300, 360), faintest=150.0, seed=3)[0][0]
    meta = detect_stars(image, finder="sources").meta
    # of a box along the trail, with the seeing
    long, short = np.hypot(length / np.sqrt(12), 2.2 / 2.3548), 2.2 / 2.3548
    assert meta["orientation"] == pytest.approx(degrees, abs=2)
    # noise around them makes objects a little rounder
    assert 0.55 < meta["ellipticity"] < 1.05 * (1 - short / long)
    assert 1 < meta["fwhm"] / (2.3548 * np.sqrt(long * short)) < 1.6


@pytest.mark.parametrize("kind", ["sources", "photutils"])
def test_real_pair_by_other_finders(real_pair, kind):
    pair = real_pair("sdss_r_night2")
    finders = {"photutils": DAOStarFinder(threshold=30, fwhm=4.0)}
    images = (np.asarray(image.data)[:700, :700] for image in (pair.source, pair.template))
    alignment = find_alignment(*images, finder=finders.get(kind, kind))
    here = (pair.source_xy < 690).all(axis=1) & (pair.template_xy < 690).all(axis=1)
    found = np.column_stack(alignment.transform(*pair.source_xy[here].T))
    miss = found - pair.template_xy[here]
    rms = np.sqrt(np.mean(np.sum(miss**2, axis=1)))
    # the reference is a cubic fitted to these very stars
    assert rms < 1.25 * float(pair.row["rms_poly_px"])
    assert len(miss) > 20


def test_sources_in_a_crowd():
    """Where light is everywhere, all of it is not one object."""
    rng = np.random.default_rng(5)
    xy, flux = rng.uniform(0, (170, 150), (3000, 2)), 10 ** rng.uniform(2.5, 4.3, 3000)
    columns = np.exp(-0.5 * ((np.arange(170) - xy[:, :1]) / 1.1) ** 2)
    rows = np.exp(-0.5 * ((np.arange(150) - xy[:, 1:]) / 1.1) ** 2)
    image = 50 + (rows.T * flux) @ columns / (2 * np.pi * 1.1**2) + rng.normal(0, 3, (150, 170))
    table = detect_stars(image, finder="sources")
    assert len(table) > 100
    assert np.median(table["fwhm"]) < 4
    found = np.column_stack((table["x"], table["y"]))
    brightest = xy[np.argsort(-flux)[:100]]
    assert np.count_nonzero(cKDTree(found).query(brightest)[0] < 0.7) > 20
