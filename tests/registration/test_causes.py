"""A search that finds nothing says why, the likeliest cause first."""

from __future__ import annotations

import pickle
from itertools import pairwise

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import Table
from astropy.wcs import WCS

from spalipy_astro import AmbiguousMatchError, NoMatchError, TooFewStarsError, find_alignment
from spalipy_astro.errors import AlignmentError, ImageError


def causes(source, template, **options):
    """The causes in the message, in their order."""
    with pytest.raises(NoMatchError, match=r"^no transform matches") as caught:
        find_alignment(source, template, **options)
    text = str(caught.value)
    places = [text.index(f"({k}) ") for k in (1, 2, 3)] + [text.index(" The figures of")]
    return [text[a + 4 : b] for a, b in pairwise(places)], caught.value


def lists(n, m, seed=0, size=1000.0):
    """Two unrelated star lists."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, size, (n, 2)), rng.uniform(0, size, (m, 2))


def test_unrelated_images(make_sky_pair):
    one, two = make_sky_pair(seed=1).source, make_sky_pair(seed=2).template
    words, error = causes(one, two)
    assert "do not show the same part of the sky" in words[0]
    assert "a mask hides it" in words[1]
    assert "scale=(0.1, 10)" in words[2]
    for jargon in ("hypothes", "log-odds", "13.8"):
        assert jargon not in str(error)
    details = error.details
    assert details["required"] == pytest.approx(np.log(1e6))
    assert details["hypotheses"] > 100
    assert details["n_source"] > 20
    assert details["log_odds"] < details["required"]


def test_a_negative_with_something_bright_in_it(make_sky_pair):
    """It has false stars, so it is compared; dead pixels and a border without data are no stars."""
    one, two = make_sky_pair(seed=1).source.data, make_sky_pair(seed=2).template.data
    negative = one.max() - one
    y, x = np.mgrid[: one.shape[0], : one.shape[1]]
    for x0, y0 in np.random.default_rng(3).uniform(20, 260, (15, 2)):
        negative = negative + 4000 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 3)
    for pair, name in (((negative, two), "source"), ((two, negative), "template")):
        words, _ = causes(*pair)
        assert words[0].startswith(f"the {name} looks like a negative, with dark stars")
    dark = one.copy()
    dark[:, :80] = dark[::7, ::9] = 0
    words, error = causes(dark, two)
    assert "negative" not in str(error)


def test_priors_come_first(make_sky_pair):
    pair = make_sky_pair(rotation=37)
    words, _ = causes(pair.source, pair.template, rotation=(-10, 10), scale=(0.9, 1.1))
    assert words[0].startswith("scale= or rotation= may exclude the right transform")


def test_few_stars():
    words, _ = causes(*lists(7, 60))
    assert words[0].startswith("the source has few stars, 7: a lower threshold= than 5 ")
    words, _ = causes(*lists(60, 7), threshold=8)
    assert words[0].startswith("the template has few stars, 7: a lower threshold= than 8 ")


def test_one_side_is_deeper():
    words, _ = causes(*lists(20, 900))
    assert words[0].startswith("the template is far deeper (900 stars)")


def test_headers_that_point_elsewhere(make_sky_pair):
    frames = []
    for k, image in enumerate((make_sky_pair(seed=1).source, make_sky_pair(seed=2).template)):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), (150.0 + k, 20.0)
        wcs.wcs.crpix, wcs.wcs.cdelt = (160.0, 150.0), (-2e-4, 2e-4)
        frames.append(CCDData(image.data, wcs=wcs, unit="adu"))
    words, _ = causes(*frames)
    assert words[0].startswith("by their headers the images do not overlap")
    distance = int(words[0].split(" lies ")[1].split(" px")[0])
    assert distance == pytest.approx(np.cos(np.deg2rad(20)) / 2e-4 - 160, abs=60)


@pytest.mark.parametrize("seed", [3, 4])
def test_a_wide_sky_catalog_asks_for_a_position(seed):
    rng = np.random.default_rng(seed)
    n = 20_000
    ra, dec = 150 + rng.uniform(-3, 3, n), 20 + rng.uniform(-3, 3, n)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), (150.0, 20.0)
    wcs.wcs.crpix, wcs.wcs.cdelt = (200.0, 200.0), (-1 / 3600, 1 / 3600)
    x, y = wcs.world_to_pixel_values(ra, dec)
    near = (x > 0) & (x < 500) & (y > 0) & (y < 500)
    flux = 10 ** rng.uniform(2, 4, n)
    source = Table({"x": x[near], "y": y[near], "flux": flux[near]})
    sky = Table({"ra": ra * u.deg, "dec": dec * u.deg, "flux": flux})
    words, _ = causes(source, sky)
    assert "give position=SkyCoord" in words[0]
    position = SkyCoord(150, 20, unit="deg")
    try:
        find_alignment(source, sky, position=position, radius=0.2)
    except NoMatchError as error:
        assert "give position=" not in str(error)  # noqa: PT017


def test_errors_survive_the_way_between_processes():
    for error in (
        NoMatchError("none", 3.5, details={"hypotheses": 7}),
        AmbiguousMatchError("two", 30.0, 29.0, details={"n": 1}),
        TooFewStarsError("few", details={"n": 2}),
        ImageError("bad"),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert vars(copy) == vars(error)
        assert isinstance(copy, AlignmentError)
    assert AmbiguousMatchError("two", 30.0, 29.0).rival_log_odds == 29.0
