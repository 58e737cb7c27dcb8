"""Resampling: values, variances and masks against truth, and what becomes of CCDData."""

from __future__ import annotations

import sys
import tracemalloc
from importlib.util import find_spec

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.modeling.models import AffineTransformation2D, Identity, Shift
from astropy.nddata import (
    CCDData,
    FlagCollection,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS

from spalipy_astro.models import SplineDistortion2D
from spalipy_astro.resampling import METHODS, resample, resample_flags

INTERPOLATING = ["nearest", "bilinear", "bicubic", "lanczos3"]
WITHOUT_DRIZZLE = pytest.mark.skipif(
    find_spec("drizzle") is None, reason="the package drizzle is not installed"
)
DRIZZLE = pytest.param("drizzle", marks=WITHOUT_DRIZZLE)
OTHERS = ["adaptive", "exact", DRIZZLE]
SHAPE = (83, 121)


def affine(scale=1.0, rotation=0.0, source_shape=SHAPE, shape=SHAPE, shift=(0.0, 0.0)):
    """Backward map of a template with ``scale`` pixels to a source pixel, centers on each other."""
    cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    matrix = np.array([[cos, -sin], [sin, cos]]) / scale
    center = (np.array(shape[::-1]) - 1) / 2
    source_center = (np.array(source_shape[::-1]) - 1) / 2
    return AffineTransformation2D(matrix, source_center - matrix @ center + shift)


@pytest.fixture(scope="module")
def distorted():
    """Return a distortion of 2 px and a rotation: template px to source px."""
    rng = np.random.default_rng(3)
    coeff = rng.normal(0, 0.7, (2, 6, 7))
    spline = SplineDistortion2D(*coeff, bounds=((0, SHAPE[1] - 1), (0, SHAPE[0] - 1)))
    return spline | affine(rotation=3, shift=(0.3, 0.7))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).normal(100, 10, SHAPE).astype(np.float32)


def grid(shape=SHAPE):
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    return x, y


class TestValues:
    @pytest.mark.parametrize(
        ("method", "degree"), [("nearest", 0), ("bilinear", 1), ("bicubic", 2), ("lanczos3", 3)]
    )
    def test_polynomials_are_exact(self, distorted, method, degree):
        x, y = grid()
        poly = lambda x, y: 1 + (x / 60 - 1) ** degree - (y / 40 - 1) ** degree  # noqa: E731
        values = poly(x, y).astype(np.float32)
        out = resample(values, distorted, method=method, conserve_flux=False)
        u, v = distorted(x, y)
        inside = (u > 3) & (u < SHAPE[1] - 4) & (v > 3) & (v < SHAPE[0] - 4)
        assert inside.mean() > 0.8
        np.testing.assert_allclose(out[inside], poly(u, v)[inside], atol=2e-6)

    def test_kernels_are_those_that_are_named(self):
        impulse = np.zeros(SHAPE, np.float32)
        impulse[40, 60] = 1
        x = np.linspace(-3.2, 3.2, 65)
        shape = (1, x.size)
        for method, profile, tolerance in [
            ("bilinear", np.maximum(1 - abs(x), 0), 1e-6),
            ("lanczos3", np.where(abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0), 0.013),
        ]:
            backward = AffineTransformation2D([[0.1, 0], [0, 1]], [60 + x[0], 40])
            out = resample(impulse, backward, shape=shape, method=method, conserve_flux=False)
            np.testing.assert_allclose(out[0], profile, atol=tolerance)

    def test_stars_stay_where_they_are(self):
        # The plain Lanczos kernel moves stars by 13 mpx.
        x, y = grid((41, 51))
        worst = 0.0
        for shift in np.random.default_rng(0).uniform(0, 1, (20, 2)):
            out = resample(star(x, y, 25.2, 20.4, 3.0), Shift(shift[0]) & Shift(shift[1]))
            out = np.nan_to_num(out)
            centroid = np.array([(out * x).sum(), (out * y).sum()]) / out.sum()
            worst = max(worst, np.abs(centroid - (25.2, 20.4) + shift).max())
        assert worst < 0.001

    def test_bilinear_is_scipy(self, distorted, image):
        from scipy.ndimage import map_coordinates

        u, v = distorted(*grid())
        expected = map_coordinates(image.astype(float), [v, u], order=1, cval=np.nan)
        out = resample(image, distorted, method="bilinear", conserve_flux=False)
        inside = np.isfinite(expected)
        np.testing.assert_allclose(out[inside], expected[inside], rtol=1e-6)

    def test_bilinear_is_reproject(self, distorted, image):
        from reproject import reproject_interp

        from spalipy_astro.wcs import build_wcs

        wcs, template_wcs = build_wcs(distorted.inverse)
        expected, _ = reproject_interp(
            (image, wcs), template_wcs, shape_out=SHAPE, order="bilinear", roundtrip_coords=False
        )
        out = resample(image, distorted, method="bilinear", conserve_flux=False)
        both = np.isfinite(expected) & np.isfinite(out)
        assert both.sum() > 0.99 * np.isfinite(expected).sum()
        np.testing.assert_allclose(out[both], expected[both], rtol=1e-5)

    def test_identity_gives_the_image_back(self, image):
        for method in INTERPOLATING:
            np.testing.assert_array_equal(resample(image, Identity(2), method=method), image)

    def test_any_model_will_do(self, image, distorted):
        model = Shift(2.5) & Shift(-3.0)
        expected = resample(image, AffineTransformation2D(np.eye(2), [2.5, -3]))
        np.testing.assert_array_equal(resample(image, model), expected)
        spline = distorted.left
        np.testing.assert_allclose(
            resample(image, spline | Identity(2)), resample(image, spline), rtol=1e-5
        )

    def test_quantities_out_of_a_model_are_pixels(self, image):
        class WithUnits(type(Identity(2))):
            def evaluate(self, x, y):
                return (x + 2) * u.pix, (y - 3) * u.pix

        expected = resample(image, Shift(2) & Shift(-3))
        np.testing.assert_array_equal(resample(image, WithUnits(2)), expected)

    def test_offset_is_a_window_of_the_same_grid(self, distorted, image):
        whole = resample(image, distorted)
        part = resample(image, distorted, shape=(30, 41), offset=(17, 25))
        np.testing.assert_array_equal(part, whole[25:55, 17:58])

    def test_threads_and_tiles_do_not_show(self, distorted, image, monkeypatch):
        from spalipy_astro.resampling import _pixelmap

        expected = resample(image, distorted, n_threads=1)
        monkeypatch.setattr(_pixelmap, "_ROWS", 16)
        monkeypatch.setattr(_pixelmap, "_COLUMNS", 32)
        np.testing.assert_array_equal(resample(image, distorted, n_threads=3), expected)

    def test_nothing_in_common(self, image):
        out = resample(CCDData(image, unit="adu"), Shift(500) & Shift(0), fill_value=-1)
        assert out.mask.all()
        assert (out.data == -1).all()

    def test_undefined_positions_are_filled(self, image):
        class Half(type(Identity(2))):
            def evaluate(self, x, y):
                return np.where(x < 60, x, np.nan), y

        out = resample(image, Half(2))
        assert np.isnan(out[:, 60:]).all()
        np.testing.assert_array_equal(out[:, :59], image[:, :59])


def star(x, y, x0, y0, fwhm):
    """Return a Gaussian star of unit flux."""
    sigma = fwhm / 2.3548
    profile = np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    return profile.astype(np.float32)


class TestFlux:
    @pytest.mark.parametrize("rotation", [0, 37, 90])
    @pytest.mark.parametrize("scale", [0.25, 0.5, 0.81, 1.0, 2.0, 4.0])
    def test_stars_keep_their_flux(self, scale, rotation):
        source_shape, fwhm = (96, 130), 3.0
        x, y = grid(source_shape)
        rng = np.random.default_rng(5)
        for x0, y0 in rng.uniform([63, 46], [67, 50], (4, 2)):
            shape = (int(95 * max(scale, 1)), int(125 * max(scale, 1)))
            image = star(x, y, x0, y0, fwhm)
            backward = affine(scale, rotation, source_shape, shape)
            out = resample(image, backward, shape=shape)
            assert np.nansum(out) == pytest.approx(1, abs=1e-3 if scale == 0.81 else 3e-4)

    def test_distortion_is_in_the_flux(self, distorted):
        x, y = grid()
        image = star(x, y, 60.3, 40.1, 3.0)
        assert np.nansum(resample(image, distorted)) == pytest.approx(1, abs=2e-4)

    def test_surface_brightness(self, distorted):
        out = resample(np.full(SHAPE, 7, np.float32), distorted, conserve_flux=False)
        np.testing.assert_allclose(out[np.isfinite(out)], 7, rtol=1e-6)

    def test_anisotropic_pixels(self):
        x, y = grid()
        image = star(x, y, 60.3, 40.1, 3.0)
        backward = AffineTransformation2D([[2.0, 0], [0, 0.8]], [10, 5])
        out = resample(image, backward, shape=(100, 60))
        assert np.nansum(out) == pytest.approx(1, abs=1e-3)

    def test_thumbnail(self, monkeypatch):
        from spalipy_astro.resampling import _interpolate

        monkeypatch.setattr(_interpolate, "_BLOCK", 20_000)  # forces tiles to be divided
        image = np.full((500, 700), 3.0, np.float32)
        out = resample(image, affine(0.05, 0, (500, 700), (25, 35)), shape=(25, 35))
        np.testing.assert_allclose(out, 3.0 * 400, rtol=1e-5)

    @pytest.mark.parametrize("method", OTHERS)
    @pytest.mark.parametrize("scale", [0.5, 1.0])
    def test_other_methods(self, method, scale):
        x, y = grid()
        image = star(x, y, 60.3, 40.1, 4.0)
        out = resample(image, affine(scale, 20), method=method)
        assert np.nansum(out) == pytest.approx(1, abs=1e-3)

    @WITHOUT_DRIZZLE
    def test_exact_is_drizzle(self, distorted, image):
        backward = Shift(0) & Shift(0) | distorted
        exact, drizzled = (
            resample(image, backward, method=method, shape=(40, 50), offset=(30, 20))
            for method in ("exact", "drizzle")
        )
        np.testing.assert_allclose(exact, drizzled, rtol=1e-3)


class TestVariance:
    @pytest.mark.parametrize("scale", [1.0, 0.6])
    @pytest.mark.parametrize("method", [*INTERPOLATING, DRIZZLE])
    def test_monte_carlo(self, method, scale):
        rng = np.random.default_rng(8)
        x, _ = grid((45, 64))
        sigma = 5 + x / 20
        planes = rng.standard_normal((400, 45, 64)) * sigma
        cube = NDData(planes.astype(np.float32), uncertainty=StdDevUncertainty(sigma))
        backward = affine(scale, 12, (45, 64), (30, 40))
        out = resample(cube, backward, shape=(30, 40), method=method)
        good = ~out.mask[0]
        assert good.mean() > 0.7
        ratio = out.data.std(axis=0)[good] / out.uncertainty.array[0][good]
        assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1, abs=0.01)

    def test_is_squared_weights(self, distorted):
        impulse = np.zeros(SHAPE, np.float32)
        impulse[40, 60] = 1
        data = CCDData(impulse, unit="adu", uncertainty=VarianceUncertainty(impulse))
        out = resample(data, distorted)
        np.testing.assert_allclose(out.uncertainty.array, out.data**2, atol=1e-6)

    @pytest.mark.parametrize("cls", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
    def test_class_in_class_out(self, distorted, image, cls):
        power = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}[cls]
        data = CCDData(image, unit="adu", uncertainty=cls(np.full(SHAPE, 10.0**power)))
        out = resample(data, distorted)
        assert type(out.uncertainty) is cls
        sigma = out.uncertainty.array[~out.mask] ** (1 / power)
        assert np.median(sigma) == pytest.approx(8.9, abs=0.2)
        assert out.uncertainty.parent_nddata is out

    @pytest.mark.parametrize("method", ["lanczos3", DRIZZLE])
    def test_small_numbers(self, image, method):
        """The variance of fluxes in W/m2 is too small for float32."""
        sigma = np.full(SHAPE, 1e-24, np.float32)
        data = CCDData(image * 1e-23, unit="adu", uncertainty=StdDevUncertainty(sigma))
        out = resample(data, Shift(0.5) & Shift(0.5), method=method)
        assert 0.4e-24 < np.nanmedian(out.uncertainty.array) < 1e-24

    @pytest.mark.parametrize("method", INTERPOLATING)
    @pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
    def test_kinds_agree_in_any_unit(self, distorted, method, unit):
        """Of float32 pixels, too: squares of such errors have no place in float32."""
        rng = np.random.default_rng(8)
        data, error = rng.normal(100, 10, (2, *SHAPE))
        error = np.abs(error) * unit
        expected = None
        for dtype in (np.float64, np.float32):
            for kind, values, back in (
                (StdDevUncertainty, error, lambda t: t),
                (VarianceUncertainty, error**2, np.sqrt),
                (InverseVariance, error**-2, lambda t: 1 / np.sqrt(t)),
            ):
                source = CCDData(data.astype(dtype), unit="adu", uncertainty=kind(values))
                out = resample(source, distorted, method=method)
                found = back(out.uncertainty.array[~out.mask])
                expected = found if expected is None else expected
                assert np.all((found > 0) & np.isfinite(found))
                np.testing.assert_allclose(found, expected, rtol=1e-6)

    @pytest.mark.parametrize("unit", [1e-15, 1.0])
    def test_float32_holds_them(self, distorted, unit, monkeypatch):
        """In units of their own, with a few far larger and smaller ones, in every tiling."""
        from spalipy_astro.resampling import _pixelmap

        rng = np.random.default_rng(8)
        data = rng.normal(100, 10, SHAPE).astype(np.float32)
        error = (np.abs(data) * unit).astype(np.float32)
        error[40, 60:64], error[50, 30:34], error[30:38, 70:78] = 1e25 * unit, 0, 1e-20 * unit
        found = resample(data, distorted, uncertainty=StdDevUncertainty(error)).uncertainty.array
        wide = StdDevUncertainty(error.astype(float))
        expected = resample(data, distorted, uncertainty=wide).uncertainty.array
        assert found.dtype == np.float32
        assert np.nanmax(expected) > 1e24 * unit
        assert np.nanmin(expected) < 1e-3 * unit
        np.testing.assert_allclose(found, expected, rtol=3e-7)
        monkeypatch.setattr(_pixelmap, "_ROWS", 16)
        monkeypatch.setattr(_pixelmap, "_COLUMNS", 24)
        again = resample(data, distorted, uncertainty=StdDevUncertainty(error)).uncertainty.array
        np.testing.assert_array_equal(again, found)

    def test_nearest_keeps_their_bits(self, image):
        error = np.abs(image).astype(np.float32)
        data = CCDData(image, unit="adu", uncertainty=StdDevUncertainty(error))
        out = resample(data, Identity(2), method="nearest")
        np.testing.assert_array_equal(out.uncertainty.array, error)

    @pytest.mark.parametrize("method", INTERPOLATING)
    def test_what_a_bad_pixel_does_not_touch_keeps_its_bits(self, distorted, method):
        rng = np.random.default_rng(9)
        data = rng.normal(100, 10, SHAPE).astype(np.float32)
        error = StdDevUncertainty(np.full(SHAPE, 3, np.float32))
        whole = resample(CCDData(data, unit="adu", uncertainty=error), distorted, method=method)
        broken = data.copy()
        broken[40, 60] = np.nan
        out = resample(CCDData(broken, unit="adu", uncertainty=error), distorted, method=method)
        y, x = np.indices(SHAPE)
        u, v = distorted(x.astype(float), y.astype(float))
        far = (np.abs(u - 60) > 3) | (np.abs(v - 40) > 3)
        assert 0 < np.sum(~far) < 200
        for one, two in ((whole, out), (whole.uncertainty, out.uncertainty)):
            one, two = (t.data if t is whole or t is out else t.array for t in (one, two))
            np.testing.assert_array_equal(one[far], two[far])
        assert not np.array_equal(whole.data[~far], out.data[~far], equal_nan=True)

    def test_useless_uncertainties_are_bad_pixels(self, image):
        weight = np.ones(SHAPE, np.float32)
        weight[30, 50] = 0
        out = resample(CCDData(image, unit="adu", uncertainty=InverseVariance(weight)), Identity(2))
        assert np.argwhere(out.mask).tolist() == [[30, 50]]
        assert np.isnan(out.data[30, 50])
        assert out.uncertainty.array[30, 50] == 0

    @pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
    @pytest.mark.parametrize("method", ["lanczos3", "nearest", "drizzle"])
    def test_pixels_of_negative_uncertainties_are_bad(self, image, kind, dtype, method):
        spread = np.full(SHAPE, 2, dtype)
        spread[30, 50] = -2
        data = CCDData(image, unit="adu", uncertainty=kind(spread))
        options = {"weights": "ivar"} if method == "drizzle" else {}
        out = resample(data, Identity(2), method=method, **options)
        assert np.argwhere(out.mask[2:-2, 2:-2]).tolist() == [[28, 48]]
        assert np.isnan(out.data[30, 50])

    @pytest.mark.parametrize("method", ["adaptive", "exact"])
    def test_what_cannot_be_propagated_is_refused(self, image, method):
        data = CCDData(image, unit="adu", uncertainty=StdDevUncertainty(image))
        with pytest.raises(ValueError, match="cannot propagate uncertainties"):
            resample(data, Identity(2), method=method)


class TestBadPixels:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, "mask"])
    @pytest.mark.parametrize(
        ("method", "scale"),
        [*((method, 1.0) for method in INTERPOLATING), ("lanczos3", 0.6), ("nearest", 0.6)],
    )
    def test_reach_no_further_than_the_kernel(self, distorted, image, method, scale, bad):
        backward = distorted | affine(scale)
        rows, columns = slice(30, 40), slice(50, 60)
        mask = np.zeros(SHAPE, bool)
        mask[rows, columns] = True
        spoilt = image.copy()
        spoilt[rows, columns] = 1e30 if bad == "mask" else bad
        kwargs = {"mask": mask} if bad == "mask" else {}
        clean = resample(image, backward, method=method)
        out = resample(spoilt, backward, method=method, **kwargs)
        touched = resample(mask.astype(np.float32), backward, method=method, conserve_flux=False)
        x, y = backward(*grid())
        reach = {"nearest": 0.5, "bilinear": 1, "bicubic": 2, "lanczos3": 3}[method]
        reach += 2 / scale * 1.5 if scale < 1 and method != "nearest" else 0
        far = (x < 50 - reach) | (x > 59 + reach) | (y < 30 - reach) | (y > 39 + reach)
        np.testing.assert_array_equal(out[far], clean[far])
        np.testing.assert_array_equal(out[touched == 0], clean[touched == 0])
        assert not np.isfinite(out[(touched > 0.99) & ~far]).any()

    @pytest.mark.parametrize("method", OTHERS)
    def test_other_methods_keep_them_local(self, image, method):
        mask = np.zeros(SHAPE, bool)
        mask[30:40, 50:60] = True
        spoilt = np.where(mask, 1e6, image).astype(np.float32)
        backward = affine(1, 10)
        out, clean = (
            resample(d, backward, method=method, mask=m) for d, m in ((spoilt, mask), (image, None))
        )
        x, y = backward(*grid())
        far = (x < 44) | (x > 65) | (y < 24) | (y > 45)
        np.testing.assert_allclose(out[far], clean[far], rtol=1e-5)
        assert np.isnan(out[(x > 51) & (x < 58) & (y > 31) & (y < 38)]).all()
        assert np.nanmax(out) < 200

    def test_sums_are_renormalized(self, distorted):
        rng = np.random.default_rng(2)
        mask = rng.random(SHAPE) < 0.05
        data = CCDData(np.where(mask, np.nan, np.float32(7)), unit="adu", mask=mask)
        out, footprint = resample(data, distorted, conserve_flux=False, return_footprint=True)
        np.testing.assert_allclose(out.data[~out.mask], 7, rtol=1e-6)
        np.testing.assert_array_equal(out.mask, footprint < 0.75)
        assert 0.05 < out.mask[footprint > 0].mean() < 0.3

    def test_min_weight(self, image):
        mask = np.zeros(SHAPE, bool)
        mask[:, 60] = True
        backward = Shift(0.3) & Shift(0)
        bad = [
            resample(NDData(image, mask=mask), backward, method="bilinear", min_weight=w).mask
            for w in (0.25, 0.5, 0.9)
        ]
        columns = [np.flatnonzero(b[5]).tolist() for b in bad]
        assert columns == [[], [60], [59, 60]]

    def test_edges_are_good(self, image):
        out, footprint = resample(image, Shift(-0.4) & Shift(-0.4), return_footprint=True)
        assert np.isfinite(out).all()
        assert (footprint == 1).all()
        out, footprint = resample(image, Shift(-0.6) & Shift(0), return_footprint=True)
        assert np.isnan(out[:, 0]).all()
        assert (footprint[:, 0] == 0).all()

    def test_fill_value(self, image):
        out = resample(image, Shift(5) & Shift(0), fill_value=-99)
        assert (out[:, -5:] == -99).all()


class TestArrays:
    @pytest.mark.parametrize(
        ("dtype", "expected"),
        [
            ("f4", "f4"), ("f8", "f8"), (">f4", "f4"), (">f8", "f8"), ("f2", "f4"), ("u1", "f4"),
            (">i2", "f4"), ("u2", "f4"), ("i4", "f8"), (">u4", "f8"), ("i8", "f8"), ("?", "f4"),
        ],
    )  # fmt: skip
    def test_types(self, image, distorted, dtype, expected):
        data = (image > 100 if dtype == "?" else image).astype(dtype)
        out = resample(data, distorted)
        assert out.dtype == np.dtype(expected)
        assert out.dtype.isnative
        np.testing.assert_allclose(out, resample(data.astype(expected), distorted), rtol=1e-6)

    def test_large_counts(self):
        data = np.full((9, 11), 2**24 + 1, np.int32)
        assert (resample(data, Identity(2)) == 2**24 + 1).all()

    def test_memory_order_and_views(self, image, distorted):
        expected = resample(image, distorted)
        np.testing.assert_array_equal(resample(np.asfortranarray(image), distorted), expected)
        wide = np.zeros((SHAPE[0], 2 * SHAPE[1]), np.float32)
        wide[:, ::2] = image
        np.testing.assert_array_equal(resample(wide[:, ::2], distorted), expected)

    def test_memmap(self, image, distorted, tmp_path):
        fits.writeto(tmp_path / "image.fits", image)
        with fits.open(tmp_path / "image.fits", memmap=True) as hdus:
            out = resample(hdus[0].data, distorted)
        np.testing.assert_array_equal(out, resample(image, distorted))
        assert type(out) is np.ndarray

    def test_inputs_are_left_alone(self, image, distorted):
        image = image.copy()
        image.flags.writeable = False
        mask = np.zeros(SHAPE, bool)
        mask[3, 4] = True
        mask.flags.writeable = False
        data = CCDData(
            image, unit="adu", mask=mask, uncertainty=StdDevUncertainty(image), copy=False
        )
        resample(data, distorted)

    def test_cubes(self, distorted):
        rng = np.random.default_rng(4)
        cube = rng.normal(100, 10, (2, 3, *SHAPE)).astype(np.float32)
        cube[1, 2, 30, 50] = np.nan
        mask = rng.random(SHAPE) < 0.01
        out = resample(cube, distorted, mask=mask)
        assert out.shape == cube.shape
        for index in np.ndindex(2, 3):
            expected = resample(cube[index], distorted, mask=mask)
            np.testing.assert_array_equal(out[index], expected)

    @pytest.mark.parametrize("scale", [1.0, 0.6])
    def test_dask(self, image, distorted, monkeypatch, scale):
        da = pytest.importorskip("dask.array")
        from spalipy_astro.resampling import _dask

        monkeypatch.setattr(_dask, "_CHUNK", 32)
        backward = distorted | affine(scale)
        mask = np.random.default_rng(0).random(SHAPE) < 0.01
        cube = np.stack([image, image[::-1]])
        lazy = NDData(
            da.from_array(cube, chunks=(1, 30, 40)),
            mask=da.from_array(mask, chunks=50),
            uncertainty=StdDevUncertainty(cube),
        )
        out, footprint = resample(lazy, backward, return_footprint=True)
        eager, expected = resample(
            NDData(cube, mask=mask, uncertainty=StdDevUncertainty(cube)),
            backward,
            return_footprint=True,
        )
        assert isinstance(out.data, da.Array)
        assert out.data.dtype == np.float32
        np.testing.assert_allclose(out.data.compute(), eager.data, rtol=1e-6)
        np.testing.assert_array_equal(out.mask.compute(), eager.mask)
        np.testing.assert_allclose(
            out.uncertainty.array.compute(), eager.uncertainty.array, rtol=1e-6
        )
        np.testing.assert_allclose(footprint.compute(), expected, atol=1e-6)

    def test_masked_array_and_quantity(self, image, distorted):
        mask = np.zeros(SHAPE, bool)
        mask[30:40, 50:60] = True
        out = resample(np.ma.MaskedArray(image, mask), distorted)
        np.testing.assert_array_equal(out.mask, resample(NDData(image, mask=mask), distorted).mask)
        out = resample(image * u.Jy, distorted)
        assert out.unit == u.Jy

    def test_uncertainty_beside_an_array_gives_nddata(self, image, distorted):
        out = resample(image, distorted, uncertainty=StdDevUncertainty(image))
        assert type(out) is NDData
        assert out.uncertainty.array.shape == SHAPE

    def test_memory_beyond_the_output_does_not_grow(self):
        shape = (1400, 1700)
        image = np.ones(shape, np.float32)
        backward = affine(1, 3, shape, shape)
        resample(image[:50, :50], backward)
        tracemalloc.start()
        out = resample(image, backward, n_threads=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < out.nbytes * 1.25 + 2 * 12e6  # the mask; two tiles


class TestCCDData:
    def make(self, image):
        header = fits.Header()
        header["OBJECT"] = "M 27"
        header["EXPTIME"] = 30.0
        header["GAIN"] = (1.4, "e/adu")
        header["HISTORY"] = "flat-fielded"
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        for key in ("BZERO", "CHECKSUM", "DATASEC", "PC1_1", "A_ORDER", "CRVAL1", "LTV1", "NAXIS1"):
            header[key] = 1
        data = CCDData(image, unit="electron", meta=header, wcs=wcs, mask=image > 140)
        data.flags = np.where(image > 120, 5, 2).astype(np.uint8)
        return data

    def test_semantics(self, image, distorted):
        data = self.make(image)
        template_wcs = WCS(naxis=2)
        provenance = {"ALGNRMS": (0.05, "[px] rms"), "ALGNVERS": "1.0"}
        out = resample(data, distorted, wcs=template_wcs, provenance=provenance)
        assert type(out) is CCDData
        assert out.unit == u.electron
        assert out.wcs is template_wcs
        assert out.mask.dtype == bool
        assert out.uncertainty is None
        kept = ["OBJECT", "EXPTIME", "GAIN", "HISTORY", "ALGNRMS", "ALGNVERS"]
        assert sorted(out.header) == sorted(kept)
        assert out.header.comments["ALGNRMS"] == "[px] rms"
        assert "CRVAL1" in data.header
        nearest = resample_flags(data.flags, distorted)
        np.testing.assert_array_equal(out.flags, nearest)

    def test_the_old_wcs_does_not_stay(self, image, distorted):
        assert resample(self.make(image), distorted).wcs is None

    def test_plain_dictionaries(self, image, distorted):
        data = NDData(image, meta={"filter": "R", "CRPIX1": 3, 7: "seven"})
        out = resample(data, distorted, provenance={"ALGNNUM": (12, "stars")})
        assert type(out) is NDData
        assert out.meta == {"filter": "R", 7: "seven", "ALGNNUM": 12}

    def test_can_be_written(self, image, distorted, tmp_path):
        data = self.make(image)
        data.uncertainty = StdDevUncertainty(np.sqrt(np.abs(image)))
        out = resample(data, distorted, wcs=WCS(naxis=2))
        out.write(tmp_path / "out.fits")
        again = CCDData.read(tmp_path / "out.fits")
        np.testing.assert_array_equal(again.mask, out.mask)

    def test_masks_add_up(self, image, distorted):
        data = self.make(image)
        extra = np.zeros(SHAPE, bool)
        extra[:, :60] = True
        both = resample(data, distorted, mask=extra).mask
        own = resample(data, distorted).mask
        assert (both | own).sum() == both.sum() > own.sum()

    def test_psf_turns_with_the_image(self, image):
        y, x = np.mgrid[-7:8, -8:9]
        data = self.make(image)
        data.psf = np.exp(-(x**2) / 8 - y**2 / 2).astype(np.float32)
        turned = resample(data, affine(1, 90)).psf
        assert turned.shape == (17, 15)
        np.testing.assert_allclose(turned, data.psf.T, atol=1e-6)
        half = resample(data, affine(0.5, 0)).psf
        assert half.sum() == pytest.approx(data.psf.sum())
        assert half.shape[0] < 12

    def test_collections_of_flags(self, image, distorted):
        data = self.make(image)
        flags = FlagCollection(shape=SHAPE)
        flags["saturated"] = image > 120
        data.flags = flags
        out = resample(data, distorted)
        expected = resample_flags(image > 120, distorted)
        np.testing.assert_array_equal(out.flags["saturated"], expected)


class TestFlags:
    @pytest.mark.parametrize("dtype", ["u1", ">i4"])
    def test_nearest(self, dtype):
        flags = np.random.default_rng(0).integers(0, 128, SHAPE).astype(dtype)
        out = resample_flags(flags, Shift(3.4) & Shift(-2.4))
        assert out.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(out[2:, :-4], flags[:-2, 3:-1])
        assert (out[:2] == 0).all()

    def test_bits_of_all_pixels_under_the_kernel(self):
        flags = np.zeros((12, 17), np.uint8)
        flags[5, 8], flags[5, 9] = 4, 1
        out = resample_flags(flags, Shift(0.5) & Shift(0), flags_method="or", radius=2)
        assert out[5].tolist() == [0, 0, 0, 0, 0, 0, 4, 5, 5, 5, 1, 0, 0, 0, 0, 0, 0]
        assert out[:, 8].tolist() == [0, 0, 0, 0, 5, 5, 5, 0, 0, 0, 0, 0]

    def test_errors(self):
        with pytest.raises(TypeError, match="flags must be integers"):
            resample_flags(np.zeros((3, 4)), Identity(2))
        with pytest.raises(ValueError, match="must be a plane"):
            resample_flags(np.zeros((2, 3, 4), int), Identity(2), shape=(3, 4))
        with pytest.raises(ValueError, match="flags_method"):
            resample_flags(np.zeros((3, 4), int), Identity(2), flags_method="xor")


class TestErrors:
    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"method": "sinc"}, "method must be one of .*lanczos3.*'sinc'"),
            ({"shape": (10,)}, "two positive integers"),
            ({"shape": (10, 0)}, "two positive integers"),
            ({"shape": (10.5, 7)}, "two positive integers"),
            ({"min_weight": 0}, "min_weight must be"),
            ({"n_threads": 0}, "n_threads must be"),
            ({"mask": np.zeros((5, 6), bool)}, r"mask has shape \(5, 6\)"),
            (
                {"uncertainty": StdDevUncertainty(np.ones((5, 6)))},
                r"uncertainty has shape \(5, 6\)",
            ),
            ({"uncertainty": UnknownUncertainty(np.ones(SHAPE))}, "cannot be propagated"),
        ],
    )
    def test_values(self, image, kwargs, message):
        with pytest.raises(ValueError, match=message):
            resample(image, Identity(2), **kwargs)

    def test_dimensions(self):
        with pytest.raises(ValueError, match=r"must be an image .*\(5,\)"):
            resample(np.zeros(5), Identity(2))
        with pytest.raises(ValueError, match="must map two inputs"):
            resample(np.zeros(SHAPE), Shift(1))

    def test_types(self, image):
        with pytest.raises(TypeError, match="real numbers"):
            resample(image.astype(complex), Identity(2))
        with pytest.raises(TypeError, match="astropy model"):
            resample(image, np.eye(3))
        with pytest.raises(TypeError, match="wrap the array"):
            resample(image, Identity(2), uncertainty=np.ones(SHAPE))

    def test_drizzle_without_the_package(self, image, monkeypatch):
        monkeypatch.setitem(sys.modules, "drizzle.resample", None)
        with pytest.raises(ImportError, match="pip install drizzle"):
            resample(image, Identity(2), method="drizzle")

    def test_names(self):
        assert {*INTERPOLATING, "adaptive", "exact", "drizzle"} == set(METHODS)
