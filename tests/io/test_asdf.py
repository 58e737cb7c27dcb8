"""What is written to ASDF is read back bit by bit; what does not fit the schemas is refused."""

from __future__ import annotations

import importlib.metadata
import io
import sys
import types
from pathlib import Path

import asdf
import asdf_astropy
import numpy as np
import pytest
import yaml
from asdf.exceptions import ValidationError
from astropy.modeling.models import AffineTransformation2D
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal
from packaging.version import Version

from spalipy_astro import Alignment
from spalipy_astro.io.asdf import get_extensions, get_resource_mappings
from spalipy_astro.models import FITSWCSTransform, SplineDistortion2D

BASE = "asdf://spalipy-astro.org/"


@pytest.fixture(autouse=True)
def extension():
    """Have the converters in asdf, also where the package is not installed."""
    with asdf.config_context() as config:
        for mapping in get_resource_mappings():
            config.add_resource_mapping(mapping)
        for extension in get_extensions():
            config.add_extension(extension)
        config.validate_on_read = True
        yield


def write(thing):
    stream = io.BytesIO()
    asdf.AsdfFile({"thing": thing}).write_to(stream)
    return stream.getvalue()


def read(content):
    with asdf.open(io.BytesIO(content)) as file:
        return file["thing"]


def make_spline(degree=3):
    coeff = np.random.default_rng(1).normal(0, 1, (2, degree + 2, degree + 4))
    return SplineDistortion2D(*coeff, bounds=((-0.5, 199.1), (-0.7, 119.3)), degree=degree)


def make_fits():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---CAR", "DEC--CAR"
    wcs.wcs.crval = 26.641681662498753, -2.900782497222213
    wcs.wcs.cdelt = -1e-4 / 3, 1e-4 / 3
    wcs.pixel_shape = 200, 120
    return FITSWCSTransform(wcs)


AFFINE = AffineTransformation2D([[0.8, -0.6], [0.6, 0.8]], [1 / 3, -2 / 7])
MODELS = {
    "spline": make_spline,
    "inverse spline": lambda: make_spline().inverse,
    "degree 5": lambda: make_spline(5),
    "backward": lambda: make_spline() | AFFINE,
    "forward": lambda: (make_spline() | AFFINE).inverse,
    "FITS WCS": make_fits,
    "inverse FITS WCS": lambda: make_fits().inverse,
    "all": lambda: (make_spline() | AFFINE).inverse | make_fits(),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_come_back_bit_by_bit(name):
    model = MODELS[name]()
    again = read(write(model))
    assert type(again) is type(model)
    x, y = np.random.default_rng(2).uniform(0, 100, (2, 300))
    if name == "inverse FITS WCS":
        x, y = model.inverse(x, y)
    assert_array_equal(again(x, y), model(x, y))
    assert_array_equal(again.inverse(*model(x, y)), model.inverse(*model(x, y)))


def test_what_a_model_is_called_comes_back():
    model = make_spline()
    model.name = "night 1"
    model.coeff_x.fixed = True
    model.inverse = AffineTransformation2D()
    again = read(write(model))
    assert again.name == "night 1"
    assert again.coeff_x.fixed
    assert again.degree == 3
    assert again.domain == model.domain
    assert isinstance(again.inverse, AffineTransformation2D)


def test_one_model_in_two_places_stays_one():
    spline = make_spline()
    both = read(write({"there": spline, "back": spline.inverse}))
    assert both["back"].inverse is both["there"]


def test_models_live_on_after_the_file_is_closed(tmp_path):
    path = tmp_path / "model.asdf"
    spline = make_spline(5)
    asdf.AsdfFile({"model": spline}).write_to(path, all_array_storage="internal")
    with asdf.open(path, memmap=True) as file:
        again = file["model"]
    path.unlink()
    assert again(30.0, 40.0) == spline(30.0, 40.0)


def test_resources_are_those_of_the_manifest():
    resources = {uri: text for mapping in get_resource_mappings() for uri, text in mapping.items()}
    for uri, text in resources.items():
        assert yaml.safe_load(text)["id"] == uri
    (extension,) = get_extensions()
    manifest = yaml.safe_load(resources[f"{BASE}manifests/spalipy-astro-1.0.0"])
    assert extension.extension_uri == manifest["extension_uri"]
    tags = {tag["tag_uri"]: tag["schema_uri"] for tag in manifest["tags"]}
    assert {uri for uri in resources if "/schemas/" in uri} == set(tags.values())
    for tag, schema in tags.items():
        assert tag.replace("/tags/", "/schemas/") == schema
        assert any(
            asdf.util.uri_match(pattern, tag)
            for converter in extension.converters
            for pattern in converter.tags
        )


@pytest.mark.parametrize("name", ["spline_distortion_2d", "fits_wcs_transform", "alignment"])
def test_schemas_are_schemas(name):
    schema = asdf.schema.load_schema(f"{BASE}schemas/{name}-1.0.0", resolve_references=True)
    asdf.schema.check_schema(schema)


def test_entry_points_name_what_there_is():
    points = [
        point
        for group in ("asdf.extensions", "asdf.resource_mappings")
        for point in importlib.metadata.entry_points(group=group)
        if point.name == "spalipy_astro"
    ]
    if not points:
        pytest.skip("spalipy_astro is not installed")
    assert {point.load() for point in points} == {get_extensions, get_resource_mappings}


HEADER = (
    "#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n"
    "--- !core/asdf-1.1.0\n"
)
CORE = "tag:stsci.edu:asdf/"


def text_file(name, body):
    lines = "\n".join(f"  {line}" for line in body.strip().splitlines())
    return f"{HEADER}thing: !<{BASE}tags/{name}-1.0.0>\n{lines}\n...\n".encode()


COEFF = "!core/ndarray-1.1.0 {data: [" + ", ".join(["[0.0, 0.0, 0.0, 0.5]"] * 4) + "]}"
SPLINE = f"""
coeff_x: {COEFF}
coeff_y: {COEFF}
domain: [[0, 9], [0, 5.5]]
degree: 3
inputs: [x, y]
outputs: [x, y]
"""


def test_a_spline_written_by_hand():
    model = read(text_file("spline_distortion_2d", SPLINE))
    assert model.domain == ((0, 9), (0, 5.5))
    assert model.coeff_x.value[1, 3] == 0.5


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("degree: 3", "degree: 7"),
        ("degree: 3", "degree: 2.5"),
        ("degree: 3", ""),
        ("domain: [[0, 9], [0, 5.5]]", "domain: [0, 9]"),
        ("domain: [[0, 9], [0, 5.5]]", "domain: [[0, 9], [0, up]]"),
        ("coeff_y", "coeff_z"),
        (COEFF, "[1.0, 2.0]"),
        (COEFF, "!core/ndarray-1.1.0 {data: [0.5, 0.5]}"),
        (COEFF, "!core/ndarray-1.1.0 {data: [[abc, abc]], datatype: [ascii, 3]}"),
    ],
)
def test_what_is_no_spline_is_refused(old, new):
    with pytest.raises(ValidationError):
        read(text_file("spline_distortion_2d", SPLINE.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("inverse_spline_distortion_2d", "spline"),
        ("inverse_fits_wcs_transform", "transform"),
        ("fits_wcs_transform", "wcs"),
    ],
)
def test_what_is_no_transform_is_refused(name, key):
    with pytest.raises(ValidationError):
        read(text_file(name, f"{key}: 3"))
    with pytest.raises(ValidationError, match=f"'{key}' is a required property"):
        read(text_file(name, "name: nothing"))


@pytest.mark.parametrize(
    ("old", "new"),
    [("crpix:", "krpix:"), ("lonpole: ", "lonpole: north # "), ("header:", "code:")],
)
def test_what_is_no_fits_wcs_is_refused(old, new):
    content = write(make_fits()).decode()
    assert old in content
    with pytest.raises(ValidationError):
        read(content.replace(old, new, 1).encode())


class FakeAlignment:
    """Stands in for the class that the converter knows by name only."""

    def __init__(self, tree):
        self.tree = tree


@pytest.fixture
def alignment_class(monkeypatch):
    module = types.ModuleType("spalipy_astro.alignment")
    fake = type("Alignment", (FakeAlignment,), {"__module__": module.__name__})
    module.Alignment = fake
    monkeypatch.setattr("spalipy_astro.io._asdf_file.to_tree", lambda alignment: alignment.tree)
    monkeypatch.setattr("spalipy_astro.io._asdf_file.from_tree", fake)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return fake


@pytest.mark.parametrize("with_matches", [True, False])
def test_tree_of_an_alignment(alignment_class, with_matches):
    matches = QTable({"x": [1.0, 2.0], "used": [True, False]}) if with_matches else None
    tree = {
        "transform": (make_spline() | AFFINE).inverse,
        "summary": {"rms": 0.03, "n_matched": 2, "notes": ["anything"]},
        "matches": matches,
        "source_shape": [120, 200],
        "template_shape": None,
        "template_wcs": make_fits(),
        "errors": [],
        "something else": 3,
    }
    again = read(write(alignment_class(tree)))
    assert isinstance(again, alignment_class)
    assert set(again.tree) == set(tree)
    assert again.tree["transform"](3.0, 4.0) == tree["transform"](3.0, 4.0)
    assert again.tree["summary"] == tree["summary"]
    assert again.tree["source_shape"] == [120, 200]
    if with_matches:
        assert_array_equal(again.tree["matches"]["x"], matches["x"])


@pytest.mark.parametrize(
    "change",
    [
        {"transform": None},
        {"summary": None},
        {"summary": "good"},
        {"source_shape": [120]},
        {"source_shape": [120.5, 200]},
        {"template_shape": [0, 200]},
        {"matches": [1, 2]},
        {"wcs": {"name": "not a gwcs"}},
        {"template_wcs": "TAN"},
        {"errors": [{"scale": 1.0}]},
        {"provenance": "unknown"},
    ],
    ids=str,
)
def test_what_is_no_alignment_is_refused(alignment_class, change):
    tree = {"transform": AFFINE, "summary": {}} | change
    with pytest.raises(ValidationError):
        write(alignment_class(tree))


# The file may come from newer packages than those that the oldest dependencies are.
@pytest.mark.filterwarnings("ignore::asdf.exceptions.AsdfPackageVersionWarning")
def test_files_of_earlier_versions():
    """The file was written by version 1.0.0 of the schemas, and holds what came out then."""
    with asdf.open(Path(__file__).parents[1] / "data" / "models-1.0.0.asdf", memmap=False) as file:
        points = np.array(file["points"])
        for name, model in file["models"].items():
            # exact here; other processors and libraries round the last digits otherwise
            assert_allclose(model(*points), file["results"][name], rtol=1e-12, err_msg=name)


@pytest.mark.filterwarnings("ignore::asdf.exceptions.AsdfPackageVersionWarning")
@pytest.mark.skipif(
    Version(asdf_astropy.__version__) < Version("0.11"),
    reason="the file was written with asdf-astropy 0.11, which earlier ones cannot read",
)
def test_alignments_of_earlier_versions():
    """As above; the alignment has a spline, a WCS with SIP and an error map."""
    path = Path(__file__).parents[1] / "data" / "alignment-1.0.0.asdf"
    alignment = Alignment.read(path)
    with asdf.open(path, memmap=False, lazy_load=False) as file:
        points, results = np.array(file["points"]), file["results"]
    assert_allclose(alignment.transform(*points), results["transform"], rtol=1e-12)
    assert_allclose(alignment.wcs(*points), results["sky"], rtol=1e-12)
    assert_allclose(alignment.error(*points), results["error"], rtol=1e-9)
    assert (alignment.source_shape, alignment.template_shape) == ((280, 360), (340, 320))
    assert len(alignment.matches) == alignment.summary()["n_matched"] > 50
    assert isinstance(alignment.original_wcs, WCS)
