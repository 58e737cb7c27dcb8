from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.modeling.models import AffineTransformation2D
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.testing import assert_allclose, assert_array_equal

from spalipy_astro import align, align_many
from spalipy_astro.commands import parser_of_align_fits
from spalipy_astro.example import example_pair
from spalipy_astro.resampling import METHODS, Kernel, resample

SHIFT = AffineTransformation2D(np.eye(2), [0.3, -0.4])


def keys(t):
    """Cubic convolution with a = -1/2, as Keys wrote it down."""
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t <= 1, near, np.where(t <= 2, far, 0.0))


def mitchell(t):
    """The cubic of Mitchell and Netravali with B = C = 1/3."""
    near = (7 * t**3 - 12 * t**2 + 16 / 3) / 6
    far = (-7 / 3 * t**3 + 12 * t**2 - 20 * t + 32 / 3) / 6
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


def step(t):
    """Two taps, and not linear between pixels."""
    return 1 - t * t * (3 - 2 * t)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(3).normal(100, 5, (31, 37))


def test_kernel_of_ones_own_is_the_one_that_comes_along(image):
    assert_allclose(
        resample(image, SHIFT, method=Kernel(4, keys, degree=2)),
        resample(image, SHIFT, method="bicubic"),
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("taps", "profile"), [(2, step), (4, mitchell), (6, lambda t: np.exp(-(t**2)))]
)
def test_values_are_weighted_sums(image, taps, profile):
    out = resample(image, SHIFT, method=Kernel(taps, profile), conserve_flux=False)
    y, x = 15, 20
    columns = np.arange(x - taps // 2, x + taps // 2) + 1
    rows = np.arange(y - 1 - taps // 2, y - 1 + taps // 2) + 1
    along_x, along_y = profile(np.abs(columns - (x + 0.3))), profile(np.abs(rows - (y - 0.4)))
    expected = along_y @ image[np.ix_(rows, columns)] @ along_x / (along_x.sum() * along_y.sum())
    assert out[y, x] == pytest.approx(expected, rel=1e-6)


def test_degree_keeps_stars_in_place():
    ramp = np.add.outer(2.0 * np.arange(31), 3.0 * np.arange(37))
    kernels = [Kernel(4, lambda t: np.exp(-(t**4)), degree=degree) for degree in (0, 1)]
    errors = []
    for kernel in kernels:
        out = resample(ramp, SHIFT, method=kernel, conserve_flux=False)
        errors.append(abs(out[15, 20] - (2 * (15 - 0.4) + 3 * (20 + 0.3))))
    assert errors[1] < 1e-4 < errors[0]


def test_all_that_comes_with_an_image(image):
    source = CCDData(
        image, unit="adu", mask=image > 112, uncertainty=StdDevUncertainty(np.full(image.shape, 5))
    )
    source.flags = (image > 110).astype(np.uint8)
    own, known = (resample(source, SHIFT, method=m) for m in (Kernel(4, keys, 2), "bicubic"))
    assert_array_equal(own.mask, known.mask)
    assert_array_equal(own.flags, known.flags)
    assert_allclose(own.data, known.data, rtol=1e-12)
    assert_allclose(own.uncertainty.array, known.uncertainty.array, rtol=1e-12)


def test_larger_pixels(image):
    """No flux is lost between the pixels of a coarser grid."""
    coarse = AffineTransformation2D(3 * np.eye(2), [1.0, 1.0])
    out = resample(image, coarse, shape=(10, 12), method=Kernel(4, mitchell))
    assert np.nansum(out[2:8, 2:10]) == pytest.approx(image[6:24, 6:30].sum(), rel=0.01)


def test_dask(image):
    da = pytest.importorskip("dask.array")
    kernel = Kernel(4, mitchell)
    lazy = resample(da.from_array(image, chunks=16), SHIFT, method=kernel)
    assert_array_equal(lazy.compute(scheduler="synchronous"), resample(image, SHIFT, method=kernel))


def test_align_takes_kernels(tmp_path):
    source, template = example_pair()
    aligned = align(source, template, method=Kernel(4, keys, degree=2))
    assert_allclose(aligned.data, align(source, template, method="bicubic").data, rtol=1e-5)


def test_batch_knows_a_kernel_by_its_weights(tmp_path, make_sky_pair):
    pair = make_sky_pair(rotation=5, seed=4)
    for image, name in ((pair.source, "source"), (pair.template, "template")):
        image.write(tmp_path / f"{name}.fits")
    call = [tmp_path / "source.fits"], tmp_path / "template.fits"
    out = tmp_path / "out"
    assert align_many(*call, output=out, method=Kernel(4, keys))["status"][0] == "ok"
    made = (out / "source_aligned.fits").stat().st_mtime_ns
    assert align_many(*call, output=out, method=Kernel(4, keys))["status"][0] == "ok"
    assert (out / "source_aligned.fits").stat().st_mtime_ns == made
    again = align_many(*call, output=out, method=Kernel(4, mitchell))
    assert again["status"][0] == "failed", again
    assert "exists, but" in again["reason"][0]


def test_repr_tells_kernels_apart():
    one, same, other = Kernel(4, keys), Kernel(4, lambda t: keys(t)), Kernel(4, mitchell)
    assert repr(one) == repr(same) != repr(other)
    assert re.fullmatch(r"Kernel\(taps=4, degree=0, weights=[0-9a-f]{8}\)", repr(one))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((3, keys), ValueError, "taps is one of 1, 2, 4, 6; got 3"),
        ((8, keys), ValueError, "taps is one of"),
        ((4, keys, 4), ValueError, "degree is a whole number from 0 to 3 .* got 4"),
        ((4, keys, 1.5), ValueError, "degree is a whole number"),
        ((4, "keys"), TypeError, "profile is a function .* got str"),
        ((4, lambda t: 1.0), ValueError, "profile returns one weight for each distance"),
        ((4, lambda t: np.full_like(t, np.nan)), ValueError, "profile returns finite weights"),
        ((4, lambda t: np.zeros_like(t)), ValueError, "whose sum does not vanish"),
    ],
)
def test_what_is_no_kernel(arguments, error, words):
    with pytest.raises(error, match=words):
        Kernel(*arguments)


@pytest.mark.parametrize("method", ["sinc", keys, ["lanczos3"]])
def test_what_is_no_method(image, method):
    with pytest.raises(ValueError, match=r"method must be one of .*lanczos3.*, or a Kernel; got"):
        resample(image, SHIFT, method=method)


def test_one_list_of_methods():
    """The command line and the page on kernels have those that `resample` has."""
    (action,) = (a for a in parser_of_align_fits()._actions if a.dest == "method")
    assert tuple(action.choices) == METHODS
    page = Path(__file__).parents[2] / "docs" / "howto" / "kernels.rst"
    named = re.findall(r'^``"(\w+)"`` ', page.read_text(encoding="utf-8"), re.M)
    assert sorted(named) == sorted(METHODS)
