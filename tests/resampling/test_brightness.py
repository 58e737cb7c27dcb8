"""Which units keep their value on pixels of another size."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.modeling.models import AffineTransformation2D
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.units import Quantity, Unit
from numpy.testing import assert_allclose

from spalipy_astro.resampling import conserves_flux, resample

TWICE = AffineTransformation2D(2 * np.eye(2), [0.5, 0.5])  # output pixels of 2 x 2 source pixels


@pytest.mark.parametrize(
    "unit",
    [
        *("MJy/sr", "Jy/beam", "K", "erg/(s cm2 arcsec2)", "1/deg2", "mag", "K km/s", "km/s"),
        *("solLum/pc2", "1/kpc2"),
    ],
)
def test_brightness_keeps_its_value(unit):
    image = CCDData(np.full((20, 30), 7.0), unit=unit)
    image.uncertainty = StdDevUncertainty(np.full((20, 30), 1.0))
    out = resample(image, TWICE, shape=(10, 15))
    assert_allclose(out.data[3:7, 3:12], 7)
    assert_allclose(resample(Quantity(image), TWICE, shape=(10, 15)).value[3:7, 3:12], 7)
    assert out.uncertainty.array[5, 7] < 1
    told = resample(image, TWICE, shape=(10, 15), conserve_flux=True)
    assert_allclose(told.data[3:7, 3:12], 28)


@pytest.mark.parametrize("unit", ["adu", "electron/s", "Jy", "Jy/pix", "nmgy", "", "W/m2"])
def test_counts_keep_their_sum(unit):
    out = resample(NDData(np.full((20, 30), 7.0), unit=unit), TWICE, shape=(10, 15))
    assert_allclose(out.data[3:7, 3:12], 28)


def test_logarithms_do_not_add():
    class Logarithmic:
        unit = Unit("mag(AB)")

    assert not conserves_flux(Logarithmic())
    assert conserves_flux(np.ones((3, 3)))
