"""Alignments of transforms that are known: any model, with an inverse or without."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.modeling import Model
from astropy.modeling.models import (
    AffineTransformation2D,
    Const1D,
    Identity,
    Mapping,
    Polynomial2D,
    Rotation2D,
    Scale,
    Shift,
)
from astropy.wcs import WCS

from spalipy_astro import Alignment, ExportError
from spalipy_astro.commands import align_fits
from spalipy_astro.models import NumericalInverse2D, SplineDistortion2D

SHAPE, OTHER = (300, 400), (310, 390)
SHAPES = {"source_shape": SHAPE, "template_shape": OTHER}
COEFFICIENTS = {"c0_0": 3, "c1_0": 1, "c2_0": 1e-5, "c1_1": -2e-5}
BENT = Mapping((0, 1, 0, 1)) | (
    Polynomial2D(2, **COEFFICIENTS) & Polynomial2D(2, c0_1=1, c0_2=2e-5)
)


def models():
    spline = SplineDistortion2D(
        np.random.default_rng(0).normal(0, 1, (6, 6)),
        np.random.default_rng(1).normal(0, 1, (6, 6)),
        bounds=((0, 400), (0, 300)),
    )
    rough = BENT.copy()
    rough.inverse = Shift(-3) & Identity(1)  # off by more than an inverse may be
    return {
        "shift": Shift(4.5) & Shift(-2.25),
        "turned": Rotation2D(137) | (Scale(2.5) & Scale(2.5)) | (Shift(900) & Shift(400)),
        "mirrored": Mapping((1, 0)) | (Shift(2) & Shift(3)),
        "affine": AffineTransformation2D([[0.5, 0.1], [-0.2, 1.5]], [30, 40]),
        "bent": BENT,
        "bent and turned": BENT | Rotation2D(80) | (Shift(500) & Shift(-20)),
        "spline": spline,
        "rough": rough,
    }


@pytest.mark.parametrize("name", models())
def test_there_and_back(name, tmp_path):
    model = models()[name]
    before = model.copy()
    alignment = Alignment.from_transform(model, **SHAPES)
    x, y = np.random.default_rng(3).uniform(0, 1, (2, 200)) * [[399], [299]]
    image = alignment.transform(x, y)
    np.testing.assert_array_equal(image, before(x, y))
    np.testing.assert_allclose(alignment.transform.inverse(*image), (x, y), atol=1e-7)
    np.testing.assert_allclose(alignment.inverse.transform(*image), (x, y), atol=1e-7)
    assert alignment.inverse.inverse is alignment
    twice = alignment.inverse.transform.inverse
    np.testing.assert_allclose(twice(x, y), image, atol=1e-6)
    np.testing.assert_allclose(alignment.wcs(x, y), image, atol=1e-9)
    alignment.write(tmp_path / "a.asdf")
    again = Alignment.read(tmp_path / "a.asdf")
    np.testing.assert_array_equal(again.transform(x, y), image)
    np.testing.assert_allclose(again.transform.inverse(*image), (x, y), atol=1e-7)
    assert dict(again.summary()) == dict(alignment.summary())
    alignment.inverse.write(tmp_path / "b.asdf")
    back = Alignment.read(tmp_path / "b.asdf")
    np.testing.assert_allclose(back.transform(*image), (x, y), atol=1e-7)


def test_model_of_the_user_is_left_alone():
    model = BENT.copy()
    Alignment.from_transform(model, **SHAPES)
    with pytest.raises(NotImplementedError):
        _ = model.inverse


def test_what_does_not_exist_is_absent():
    alignment = Alignment.from_transform(Rotation2D(30) | (Shift(9) & Shift(8)), **SHAPES)
    s = alignment.summary()
    np.testing.assert_allclose([s["scale"], s["rotation"], s["distortion"]], [1, 30, 0], atol=1e-9)
    assert set(s) == {
        *("n_matched", "n_used", "n_clipped"),
        *("scale", "rotation", "parity", "shift_x", "shift_y", "distortion"),
    }
    assert (s["n_matched"], len(alignment.matches)) == (0, 0)
    assert len(alignment.matches.colnames) == 12
    assert "stars" not in str(s)
    assert "nan" not in repr(alignment) + str(s)
    with pytest.raises(ValueError, match="no error estimate"):
        alignment.error(1.0, 2.0)
    aligned = alignment.resample(np.ones(SHAPE))
    assert aligned.shape == OTHER
    assert not (alignment.coverage() & 2).any()


class Waves(Model):
    """A model that asdf does not know."""

    n_inputs = n_outputs = 2

    def evaluate(self, x, y):
        return x + 0.5 * np.sin(y / 90), y + 0.5 * np.sin(x / 90)


@pytest.mark.parametrize("after", [None, Shift(3) & Shift(4)])
def test_model_that_asdf_does_not_know(tmp_path, after):
    alignment = Alignment.from_transform(Waves() | after if after else Waves(), **SHAPES)
    np.testing.assert_allclose(
        alignment.transform.inverse(*alignment.transform(30.0, 70.0)), (30, 70), atol=1e-9
    )
    with pytest.raises(ExportError, match=r"Waves[\s\S]*portable=True"):
        alignment.write(tmp_path / "a.asdf")
    assert not list(tmp_path.iterdir())


def test_pickled(tmp_path):
    alignment = pickle.loads(pickle.dumps(Alignment.from_transform(BENT, **SHAPES)))
    back = alignment.transform.inverse(*alignment.transform(30.0, 70.0))
    np.testing.assert_allclose(back, (30, 70), atol=1e-9)


def test_shift_of_the_center_and_distortion():
    shifted = Alignment.from_transform(
        Shift(10) & Shift(-4), source_shape=SHAPE, template_shape=SHAPE
    )
    np.testing.assert_allclose(
        [shifted.summary()[k] for k in ("shift_x", "shift_y")], [10, -4], atol=1e-12
    )
    bend = Mapping((0, 1, 1)) | (Polynomial2D(2, c1_0=1, c2_0=1e-4) & Identity(1))
    alignment = Alignment.from_transform(bend, source_shape=(101, 201))
    # x**2 over 200 px departs from a line by c (200 / 2)**2 (2 / 3) at the ends, nearly
    assert 0.5 < alignment.summary()["distortion"] / (1e-4 * 100**2 * 2 / 3) < 1.2


def test_pictures_and_cards(tmp_path):
    pytest.importorskip("matplotlib")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), (10.0, 20.0)
    wcs.wcs.cdelt = (-1e-4, 1e-4)
    alignment = Alignment.from_transform(BENT, **SHAPES, wcs=wcs)
    alignment.plot()
    image = np.random.default_rng(0).normal(100, 3, SHAPE)
    alignment.report(tmp_path / "r.html", source=image, template=np.ones(OTHER))
    assert "The transform was given" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert alignment.to_fits_header().error < 0.01
    fits.writeto(tmp_path / "s.fits", image)
    alignment.write(tmp_path / "a.asdf")
    status = align_fits(
        [*(str(tmp_path / n) for n in ("s.fits", "o.fits")), "--apply", str(tmp_path / "a.asdf")]
    )
    assert status == 0
    header = fits.getheader(tmp_path / "o.fits")
    assert header["CTYPE1"] == "RA---TAN"
    assert not {"ALGNODDS", "ALGNNUM"} & set(header)


def test_chain_with_a_given_transform(tmp_path):
    shift = Alignment.from_transform(Shift(3) & Shift(4), source_shape=SHAPE, template_shape=SHAPE)
    both = shift.then(shift)
    assert both.transform(1.0, 2.0) == (7.0, 10.0)
    binned = both.binned(source=2, template=2)
    np.testing.assert_allclose(binned.transform(0.0, 0.0), (3, 4))
    moved = shift.shifted(template=(5, 0)).cropped(source=np.s_[10:20, 20:40])
    np.testing.assert_allclose(moved.transform(0.0, 0.0), (28, 14))
    both.write(tmp_path / "a.asdf")
    assert Alignment.read(tmp_path / "a.asdf").transform(1.0, 2.0) == (7.0, 10.0)


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (np.eye(3), TypeError, "AffineTransformation2D"),
        (Shift(1), ValueError, "two inputs onto two outputs; got 1 and 1"),
        (Shift(1 * u.pix) & Shift(2 * u.pix), ValueError, "units"),
        (Shift([1, 2], n_models=2) & Shift([1, 2], n_models=2), ValueError, "set of 2"),
        (Const1D(3) & Identity(1), ValueError, "folds"),
        (
            Mapping((0, 1, 1)) | (Polynomial2D(2, c2_0=1, c1_0=-300) & Identity(1)),
            ValueError,
            "folds",
        ),
        (Shift(np.nan) & Identity(1), ValueError, "not finite at 289 of 289"),
    ],
)
def test_models_that_are_no_transform(model, error, words):
    with pytest.raises(error, match=words):
        Alignment.from_transform(model, **SHAPES)


@pytest.mark.parametrize("name", ["source_shape", "template_shape"])
def test_shapes_are_checked(name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        Alignment.from_transform(Identity(2), **{name: (3, -1)})


def test_something_else_than_a_wcs():
    with pytest.raises(TypeError, match="wcs"):
        Alignment.from_transform(Identity(2), wcs="sky")


def test_numerical_inverse_is_nan_where_there_is_no_point():
    bowl = Mapping((0, 1, 1)) | (Polynomial2D(2, c1_0=1, c2_0=1e-3) & Identity(1))
    back = NumericalInverse2D(bowl, np.eye(2), np.zeros(2))
    assert np.isnan(back(-1000.0, 5.0)[0])
    np.testing.assert_allclose(back(*bowl(200.0, 7.0)), (200, 7), atol=1e-9)
    assert back(np.empty(0), np.empty(0))[0].shape == (0,)
