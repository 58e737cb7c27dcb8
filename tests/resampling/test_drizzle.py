"""Drizzle: drops, weights and the weight map, against the package called directly."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.modeling.models import AffineTransformation2D
from astropy.nddata import CCDData, StdDevUncertainty

from spalipy_astro.resampling import DRIZZLE_KERNELS, resample

Drizzle = pytest.importorskip("drizzle.resample").Drizzle

SHAPE, OUT = (60, 80), (150, 190)
INSIDE = (slice(45, 105), slice(55, 135))  # no drop from beyond the frame's edge
COMBINATIONS = [(kernel, 1.0) for kernel in DRIZZLE_KERNELS]
COMBINATIONS += [(kernel, 0.6) for kernel in ("square", "turbo", "gaussian")] + [("square", 0.3)]


def turned(scale=2.0, degrees=11.0):
    """Map of a finer, turned grid onto the source, center on center."""
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
    center = (np.array(SHAPE[::-1]) - 1) / 2, (np.array(OUT[::-1]) - 1) / 2
    return AffineTransformation2D(matrix, center[0] - matrix @ center[1])


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).normal(100, 3, SHAPE).astype(np.float32)


def by_itself(image, backward, *, kernel="square", pixfrac=1.0, weights=None, variance=None):
    """Call the package as its manual does."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    total = Drizzle(kernel=kernel, out_shape=OUT, fillval=np.nan, disable_ctx=True)
    total.add_image(
        image,
        exptime=1.0,
        pixmap=np.stack(backward.inverse(x, y), axis=-1),
        weight_map=weights,
        pixfrac=pixfrac,
        pixel_scale_ratio=0.5,
        data2=None if variance is None else [variance],
    )
    return total


@pytest.mark.filterwarnings("ignore:Kernel .* is not a flux-conserving kernel")
@pytest.mark.parametrize(("kernel", "pixfrac"), COMBINATIONS)
def test_is_that_of_the_package(image, kernel, pixfrac):
    options = {"kernel": kernel, "pixfrac": pixfrac}
    out, weights = resample(
        image,
        turned(),
        shape=OUT,
        method="drizzle",
        conserve_flux=False,
        return_weights=True,
        **options,
    )
    known = by_itself(image, turned(), **options)
    np.testing.assert_array_equal(weights[INSIDE], known.out_wht[INSIDE])
    np.testing.assert_array_equal(out[INSIDE], known.out_img[INSIDE])
    np.testing.assert_array_equal(np.isnan(out[INSIDE]), known.out_wht[INSIDE] == 0)


def test_weights_of_pixels(image):
    weights = np.random.default_rng(2).uniform(0.5, 2, SHAPE).astype(np.float32)
    variance = np.random.default_rng(3).uniform(4, 9, SHAPE).astype(np.float32)
    source = CCDData(image, unit="adu", uncertainty=StdDevUncertainty(np.sqrt(variance)))
    how = {"shape": OUT, "method": "drizzle", "conserve_flux": False, "return_weights": True}
    out, found = resample(source, turned(), weights=weights, **how)
    known = by_itself(image, turned(), weights=weights, variance=variance)
    np.testing.assert_allclose(found[INSIDE], known.out_wht[INSIDE], rtol=1e-5)
    np.testing.assert_allclose(out.data[INSIDE], known.out_img[INSIDE], rtol=1e-5)
    spread = out.uncertainty.array[INSIDE]
    np.testing.assert_allclose(spread**2, known.out_img2[0][INSIDE], rtol=1e-5)
    by_variance, found = resample(source, turned(), weights="ivar", **how)
    known = by_itself(image, turned(), weights=1 / variance)
    np.testing.assert_allclose(found[INSIDE], known.out_wht[INSIDE], rtol=1e-5)
    np.testing.assert_allclose(by_variance.data[INSIDE], known.out_img[INSIDE], rtol=1e-5)


@pytest.mark.parametrize("weights", [None, "ivar"])
@pytest.mark.parametrize("pixfrac", [1.0, 0.7])
def test_flux_and_weight_are_conserved(pixfrac, weights):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light = 1e4 * np.exp(-((x - 39.3) ** 2 + (y - 28.6) ** 2) / (2 * 1.9**2))
    source = CCDData(light, unit="adu", uncertainty=StdDevUncertainty(np.full(SHAPE, 0.5)))
    out, found, wht = resample(
        source,
        turned(1.6),
        shape=OUT,
        method="drizzle",
        pixfrac=pixfrac,
        weights=weights,
        return_footprint=True,
        return_weights=True,
    )
    assert np.nansum(out.data) == pytest.approx(light.sum(), rel=1e-3)
    each = 1 if weights is None else 4
    assert wht.sum() == pytest.approx(each * light.size, rel=1e-4)
    assert found.max() == pytest.approx(1, abs=1e-5 if pixfrac < 1 else 0.01)


def test_bad_pixels_have_no_weight(image):
    mask = np.zeros(SHAPE, bool)
    mask[25:34, 30:41] = True
    source = np.where(mask, np.float32(1e9), image)
    out, wht = resample(
        source,
        turned(),
        shape=OUT,
        mask=mask,
        method="drizzle",
        pixfrac=0.6,
        return_weights=True,
    )
    x, y = turned().inverse(35.0, 29.0)
    assert wht[round(y), round(x)] == 0
    assert np.isnan(out[round(y), round(x)])
    assert np.nanmax(out) < 100
    assert wht.sum() == pytest.approx((~mask).sum(), rel=1e-4)
    # a pixel of weight 0 is such a one
    same = resample(source, turned(), shape=OUT, method="drizzle", pixfrac=0.6, weights=1.0 - mask)
    assert np.nanmax(same) < 100


def test_colors_last(image):
    cube = np.stack([image, 2 * image, image + 1], axis=-1)
    how = {"shape": OUT, "method": "drizzle", "pixfrac": 0.8, "return_weights": True}
    out, wht = resample(cube, turned(), colors_last=True, **how)
    one, its_weight = resample(2 * image, turned(), **how)
    assert wht.shape == out.shape == (*OUT, 3)
    np.testing.assert_array_equal(out[..., 1], one)
    np.testing.assert_array_equal(wht[..., 1], its_weight)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "lanczos3", "pixfrac": 0.5}, "pixfrac is for method='drizzle'"),
        ({"method": "bilinear", "kernel": "point"}, "kernel is for method='drizzle'"),
        ({"method": "exact", "return_weights": True}, "return_weights is for method='drizzle'"),
        ({"pixfrac": 1.5}, "pixfrac is .* from 0 to 1"),
        ({"kernel": "round"}, "kernel is one of square"),
        ({"kernel": "lanczos3", "pixfrac": 0.5}, "pixfrac is 1 for kernel='lanczos3'"),
        ({"weights": "exptime"}, "weights are an array, or 'ivar'"),
        ({"weights": "ivar"}, "weights='ivar' needs an image with an uncertainty"),
        ({"weights": np.ones((3, 3))}, "weights have the shape of the image"),
        ({"weights": -np.ones(SHAPE)}, "weights are finite and not negative"),
    ],
)
def test_what_makes_no_sense(image, options, words):
    with pytest.raises(ValueError, match=words):
        resample(image, turned(), shape=OUT, **{"method": "drizzle", **options})
