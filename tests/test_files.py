from __future__ import annotations

import pytest

from spalipy_astro._files import refuse_existing, whole_file


def _fail_halfway(path, *, overwrite):
    with whole_file(path, overwrite=overwrite) as partial:
        partial.write_text("ha")
        raise RuntimeError("disk full")


def test_file_appears_when_complete(tmp_path):
    path = tmp_path / "result.fits.gz"
    with whole_file(path) as partial:
        partial.write_text("whole")
        assert partial.name == path.name
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError, match="disk full"):
        _fail_halfway(tmp_path / "result.fits", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_what_was_there(tmp_path):
    path = tmp_path / "result.fits"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk full"):
        _fail_halfway(path, overwrite=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_overwriting_is_asked_for(tmp_path):
    path = tmp_path / "result.fits"
    path.write_text("old")
    with pytest.raises(FileExistsError, match=r"result\.fits exists already"), whole_file(path):
        pytest.fail("the block must not run")
    with whole_file(path, overwrite=True) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"


def test_file_is_readable_as_any_other(tmp_path):
    (tmp_path / "plain").touch()
    with whole_file(tmp_path / "whole") as partial:
        partial.touch()
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_dangling_link_counts_as_existing(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        refuse_existing(link, overwrite=False)
