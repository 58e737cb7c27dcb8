"""What a batch tells of itself, and what it checks before the first frame."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro import align_many

SMALL = {"source_shape": (210, 260), "template_shape": (240, 220), "n_stars": 90}


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(seed=4, **SMALL)


@pytest.mark.parametrize(
    "options",
    [{}, {"grid": "union"}, {"template": "best"}, {"n_workers": 2, "executor": "threads"}],
)
@pytest.mark.parametrize("write", [False, True])
def test_a_function_is_called_once_for_each_source(pair, tmp_path, options, write):
    calls = []
    sources = [pair.source, np.full((90, 80), np.nan), pair.source, pair.template]
    options = {"template": pair.template, "output": tmp_path / "out" if write else None, **options}
    table = align_many(sources, progress=lambda *call: calls.append(call), **options)
    assert [(done, total) for done, total, _ in calls] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for _, _, row in calls:
        of_table = table[table["source"] == row["source"]][0]
        names = set(table.colnames) - {"alignment"}
        assert set(row) == names
        for name in names - {"time"}:
            if isinstance(row[name], float):
                assert np.array_equal(row[name], of_table[name], equal_nan=True), name
            else:
                assert row[name] == of_table[name], name
        assert row["time"] == pytest.approx(of_table["time"])


@pytest.mark.parametrize("write", [False, True])
def test_rejected_frames_are_told_of_once(pair, tmp_path, write):
    calls = []
    table = align_many(
        [pair.source, pair.template, np.full((90, 80), np.nan)],
        pair.template,
        output=tmp_path / "out" if write else None,
        reject=lambda table: table["source"] == 1,
        progress=lambda *call: calls.append(call),
    )
    assert list(table["status"]) == ["ok", "rejected", "failed"]
    assert [done for done, _, _ in calls] == [1, 2, 3]
    assert {row["source"]: row["status"] for _, _, row in calls} == {
        0: "ok",
        1: "rejected",
        2: "failed",
    }


def test_the_total_is_unknown_for_what_has_no_length(pair):
    calls = []
    align_many(iter([pair.source]), pair.template, progress=lambda *call: calls.append(call))
    assert calls[0][:2] == (1, None)


def test_a_function_that_raises_is_heard(pair):
    def stop(done, total, row):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        align_many([pair.source], pair.template, progress=stop)


def test_all_is_checked_before_the_first_frame(pair, tmp_path):
    (tmp_path / "file").write_text("")
    gone = tmp_path / "gone.fits"
    for options, kind, words in (
        ({"progress": "bar"}, TypeError, "progress is True, False, None or a function"),
        ({"template": gone}, FileNotFoundError, "template: there is no file"),
        ({"template": str(tmp_path)}, Exception, "template: .*is a folder"),
        ({"source_mask": gone}, FileNotFoundError, "source_mask: there is no file"),
        ({"source_mask": [None, gone]}, FileNotFoundError, "source_mask: there is no file"),
        ({"source_mask": [None]}, ValueError, "source_mask has 1 masks"),
        ({"output": tmp_path / "file"}, FileExistsError, "output is the folder"),
        ({"output": tmp_path / "file" / "x"}, FileExistsError, "output is the folder"),
    ):
        rows = []
        arguments = {"template": pair.template, "progress": lambda *call: rows.append(call)}  # noqa: B023
        with pytest.raises(kind, match=f"^{words}"):
            align_many([pair.source] * 2, **{**arguments, **options})
        assert rows == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
