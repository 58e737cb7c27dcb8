"""Files that are like those of `Alignment.write`, and not whole, are refused when they are read."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import asdf
import pytest
from asdf.util import load_yaml
from astropy.modeling import Model
from astropy.table import QTable

from spalipy_astro import Alignment, ExportError, FormatError
from spalipy_astro.io import write_alignment
from spalipy_astro.io._asdf_file import from_tree, to_tree


@pytest.fixture
def raw(alignment, tmp_path):
    alignment.write(tmp_path / "a.asdf")
    return (tmp_path / "a.asdf").read_bytes()


def test_every_figure_is_asked_for(alignment, raw, tmp_path):
    path = tmp_path / "b.asdf"
    start = raw.index(b"summary:")
    for name in set(alignment.summary()) - {"error"}:  # which follows from the rest of the file
        at = start + re.search(rf"\b{name}:".encode(), raw[start:]).start()
        path.write_bytes(raw[:at] + b"x" + raw[at + 1 :])
        with pytest.raises(FormatError, match=rf"b\.asdf' .* has None as {name}, where a"):
            Alignment.read(path)


@pytest.mark.parametrize("value", [b"text", b"null", b"[1]", b"1.5"])
def test_figures_are_numbers(raw, tmp_path, value):
    path = tmp_path / "b.asdf"
    path.write_bytes(raw.replace(b"n_matched: 40", b"n_matched: " + value))
    with pytest.raises(FormatError, match="as n_matched, where a whole number is needed"):
        Alignment.read(path)


def test_every_column_is_asked_for(alignment, tmp_path):
    path = tmp_path / "b.asdf"
    for name in alignment.matches.colnames:
        matches = alignment.matches.copy()
        matches.remove_column(name)
        replace(alignment, matches=matches).write(path, overwrite=True)
        with pytest.raises(FormatError, match=f"lacks the columns {name}"):
            Alignment.read(path)
    replace(alignment, matches=QTable()).write(path, overwrite=True)
    with pytest.raises(FormatError, match="lacks the columns x_source, y_source"):
        Alignment.read(path)
    matches = alignment.matches.copy()
    matches["dx"] = ["text"] * len(matches)
    replace(alignment, matches=matches).write(path, overwrite=True)
    with pytest.raises(FormatError, match="the column dx of its matches is of type"):
        Alignment.read(path)


def test_a_table_is_asked_for(raw, tmp_path):
    path = tmp_path / "b.asdf"
    path.write_bytes(raw.replace(b"\n  matches:", b"\n  matchez:"))
    with pytest.raises(FormatError, match="lacks the columns x_source"):
        Alignment.read(path)


@pytest.mark.parametrize("levels", [6, 40])
def test_aliases_of_aliases(raw, tmp_path, levels):
    lines = ["b0: &b0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"b{k}: &b{k} [{','.join([f'*b{k - 1}'] * 9)}]" for k in range(1, levels + 1)]
    at = raw.index(b"alignment:")
    path = tmp_path / "b.asdf"
    path.write_bytes(raw[:at] + "\n".join(lines).encode() + b"\n" + raw[at:])
    start = time.process_time()
    with pytest.raises(FormatError, match="aliases expand to more than"):
        Alignment.read(path)
    assert time.process_time() - start < 3


def test_an_entry_that_holds_itself(raw, tmp_path):
    at = raw.index(b"alignment:")
    path = tmp_path / "b.asdf"
    path.write_bytes(raw[:at] + b"b: &b [" + b",".join([b"*b"] * 9) + b"]\n" + raw[at:])
    start = time.process_time()
    with pytest.raises(FormatError):
        Alignment.read(path)
    assert time.process_time() - start < 3


def test_some_aliases_do_no_harm(alignment, raw, tmp_path):
    at = raw.index(b"alignment:")
    path = tmp_path / "b.asdf"
    path.write_bytes(raw[:at] + b"a: &a [x,x]\nb: [" + b",".join([b"*a"] * 50) + b"]\n" + raw[at:])
    assert Alignment.read(path).transform(1.0, 2.0) == alignment.transform(1.0, 2.0)


@pytest.mark.parametrize("name", ["x.fits", "X.FIT", "a.b.fits.gz", "x.fits.fz", "x.png", "x.csv"])
def test_the_name_of_another_format_is_refused(alignment, tmp_path, name):
    with pytest.raises(ValueError, match=r"^path is that of an ASDF file.*Write '.*\.asdf'"):
        alignment.write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x", "x.fits.asdf", "night.1", ".asdf", "x.ASDF"])
def test_other_names_are_free(alignment, tmp_path, name):
    alignment.write(tmp_path / name)
    assert Alignment.read(tmp_path / name).rms == alignment.rms


@pytest.mark.parametrize(("key", "value"), [("degree", 99999), ("shape", [5, 1])])
def test_errors_of_impossible_splines_are_refused(key, value):
    """One damaged digit: the spline would be evaluated for hours, or fail later."""
    from spalipy_astro.alignment import ErrorTerm

    tree = {"bounds": [[0, 1], [0, 1]], "shape": [6, 6], "degree": 5, "null_order": 2, key: value}
    with pytest.raises(FormatError, match="a degree is 0 to 5"):
        ErrorTerm.from_tree(tree)


def test_the_same_is_written_without_schemas(alignment, raw, tmp_path):
    path = tmp_path / "b.asdf"
    write_alignment(alignment, path, validate=False)
    assert path.stat().st_size == len(raw)
    trees = [load_yaml(tmp_path / name, tagged=True) for name in ("a.asdf", "b.asdf")]
    for tree in trees:  # asdf lists them in any order
        tree["history"]["extensions"].sort(key=lambda entry: entry["extension_uri"])
    assert trees[0] == trees[1]
    assert list(trees[0]) == list(trees[1])
    assert str(Alignment.read(path).summary()) == str(alignment.summary())
    schemas = asdf.get_config().resource_manager
    assert b"provenance" in schemas["asdf://spalipy-astro.org/schemas/alignment-1.0.0"]


class Waves(Model):
    """A model that asdf does not know."""

    n_inputs = n_outputs = 2

    def evaluate(self, x, y):
        return x, y


def test_what_asdf_does_not_know_is_not_written_without_schemas(alignment, tmp_path):
    unknown = Waves()
    unknown.inverse = Waves()
    with pytest.raises(ExportError, match=r"Waves[\s\S]*portable=True"):
        write_alignment(replace(alignment, transform=unknown), tmp_path / "b.asdf", validate=False)
    assert not list(tmp_path.iterdir())


def test_asdf_looks_for_the_extensions_of_all_packages_once(raw, tmp_path, monkeypatch):
    """That takes longer than to read or write a file."""
    look, seen = asdf._entry_points.get_extensions, []
    monkeypatch.setattr("asdf._entry_points.get_extensions", lambda: seen.append(1) or look())
    with asdf.config_context() as config:
        config.reset_extensions()  # as in a new process
        for name in ("b.asdf", "c.asdf"):
            write_alignment(Alignment.read(tmp_path / "a.asdf"), tmp_path / name, validate=False)
    assert len(seen) == 1


@pytest.mark.parametrize("kind", [QTable, QTable.as_array])
def test_matches_are_read_from_a_table_and_from_an_array(alignment, kind):
    tree = {**to_tree(alignment), "matches": kind(alignment.matches)}
    matches = from_tree(tree).matches
    assert type(matches) is QTable
    assert matches.colnames == alignment.matches.colnames
    for name in matches.colnames:
        assert matches[name].tobytes() == alignment.matches[name].tobytes()
        assert matches[name].flags.c_contiguous
