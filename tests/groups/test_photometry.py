"""One flux scale for a group, on matches whose fluxes are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.modeling.models import Shift
from astropy.table import QTable

from spalipy_astro import Alignment
from spalipy_astro.groups._photometry import on_one_scale


def chain(brightness, *, noise=0.0, without=()):
    """A strip of frames; each shares its 30 stars with the next, and only with that."""
    rng = np.random.default_rng(3)
    flux = 10 ** rng.uniform(2, 4, 30 * (len(brightness) + 1))
    plain = Alignment.from_transform(
        Shift(1) & Shift(2), source_shape=(9, 9), template_shape=(9, 9)
    )
    alignments = {}
    for k, factor in enumerate(brightness):
        star = np.arange(30 * k, 30 * (k + 2))
        columns = {name: np.zeros(len(star)) for name in plain.matches.colnames}
        columns |= {"template_row": star, "used": np.ones(len(star), bool)}
        columns["flux_source"] = factor * flux[star] * (1 + noise * rng.normal(size=len(star)))
        columns["flux_template"] = np.full(len(star), np.nan)
        if k in without:
            columns["flux_source"][:] = np.nan
        alignments[k] = replace(plain, matches=QTable(columns))
    n = len(brightness)
    links = QTable({"i": np.arange(n - 1), "j": np.arange(1, n), "used": np.ones(n - 1, bool)})
    return alignments, links, flux


def test_fluxes_are_those_of_the_reference():
    brightness = (1.0, 0.5, 2.0, 0.1, 3.0)
    alignments, links, flux = chain(brightness)
    found = on_one_scale(alignments, links, 1, {})
    for k, alignment in found.items():
        star = np.asarray(alignment.matches["template_row"])
        template = np.asarray(alignment.matches["flux_template"])
        seen = np.isfinite(template)
        # the outermost stars of the strip are on one frame, which has no other to tell
        assert seen.sum() == (30 if k in (0, 4) else 60)
        assert np.allclose(template[seen], 0.5 * flux[star[seen]])
        assert alignment.flux_ratio[0] == pytest.approx(brightness[k] / 0.5)


def test_ratios_are_as_good_as_they_say():
    brightness = (1.0, 0.8, 1.2, 0.9)
    alignments, links, _ = chain(brightness, noise=0.02)
    found = on_one_scale(alignments, links, 0, {})
    assert found[0].flux_ratio[0] == 1
    for k in (1, 2, 3):
        ratio, error = found[k].flux_ratio
        assert ratio == pytest.approx(brightness[k], abs=0.02)
        assert 0.001 < error < 0.01


def test_what_is_not_known_is_nan():
    alignments, links, _ = chain((1.0, 2.0, 3.0, 4.0), without=(1,))
    found = on_one_scale(alignments, links, 3, {})
    assert np.isnan(found[0].flux_ratio[0])
    assert np.isnan(found[1].flux_ratio[0])
    assert found[2].flux_ratio[0] == pytest.approx(0.75)


def test_both_sides_know_how_good_they_are():
    alignments, links, _ = chain((1.0, 2.0))
    quality = {0: {"background": 100.0}, 1: {"background": 250.0}}
    found = on_one_scale(alignments, links, 0, quality)
    assert found[1].provenance["quality"] == {"source": quality[1], "template": quality[0]}
    assert alignments[1].provenance.get("quality") is None
