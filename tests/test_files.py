from __future__ import annotations

import os
import stat
import sys

import pytest

from spalipy_astro import FormatError
from spalipy_astro._files import free_name, refuse_existing, require_file, whole_file

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such names, links and pipes")


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


@posix
@pytest.mark.parametrize("chain", [1, 2])
def test_links_are_followed(tmp_path, chain):
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / "real.fits"
    real.write_text("old")
    link = tmp_path / "link.fits"
    for number in range(1, chain):
        (tmp_path / f"{number}").symlink_to("there/real.fits")
    link.symlink_to("1" if chain > 1 else "there/real.fits")
    with whole_file(link, overwrite=True) as partial:
        partial.write_text("new")
        assert real.read_text() == "old"
        assert partial.parent.parent == real.parent  # the same file system as the target
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert list(real.parent.iterdir()) == [real]
    with pytest.raises(FileExistsError, match=r"link\.fits exists already"), whole_file(link):
        pytest.fail("the block must not run")


@posix
def test_dangling_links_are_followed_and_loops_refused(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    with whole_file(link, overwrite=True) as partial:
        partial.write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "nowhere").read_text() == "new"
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with (
        pytest.raises(OSError, match="leads to itself"),
        whole_file(tmp_path / "a", overwrite=True),
    ):
        pytest.fail("the block must not run")
    link.unlink()
    link.symlink_to("no/such")
    with (
        pytest.raises(FileNotFoundError, match=r"there is no folder .*/no'"),
        whole_file(link, overwrite=True),
    ):
        pytest.fail("the block must not run")


@posix
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["a named pipe", "a folder", "a device"])
def test_what_is_no_file_stays(tmp_path, kind, overwrite, linked):
    path = tmp_path / "it"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a device":
        path = type(path)(os.devnull)
    else:
        os.mkfifo(path)
    if linked:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    before = os.stat(path)
    for write in (refuse_existing, lambda *a, **b: whole_file(*a, **b).__enter__()):
        with pytest.raises(FileExistsError, match=f"is {kind}, .* use another name"):
            write(path, overwrite=overwrite)
    assert os.stat(path) == before
    with pytest.raises(FormatError, match=f"is {kind}; a catalog is needed"):
        require_file(path, what="catalog")


@pytest.mark.parametrize("name", ["", "sub/", "a.fits/"])
def test_names_of_folders(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileExistsError, match="is a folder"), whole_file(name):
        pytest.fail("the block must not run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named_as_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(FileNotFoundError, match=r"^there is no folder 'no/such' to write to\.$"),
        whole_file("no/such/y.asdf"),
    ):
        pytest.fail("the block must not run")
    for name in ("no", "no/such", "\0"):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            require_file(name)


ODD_NAMES = (
    *("a#1", "a?b=c", "a;b", "a%41", "a\nb", "~", "~root", "-", " ", "a[1]", "a b", "http:", "é"),
    *("file:b", "x" * 250, *(["\udcff"] if sys.platform == "linux" else [])),
)


@posix
@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for path in (name, f"{name}.fits" if len(name) < 200 else name[5:]):
        with whole_file(path) as partial:
            partial.write_text("whole")
            assert partial.is_absolute()
        assert os.listdir() == [path]
        require_file(path)
        os.unlink(path)
    os.mkdir(name)
    with whole_file(os.path.join(name, "x")) as partial:
        partial.write_text("whole")
    assert os.listdir() == [name]
    assert os.listdir(name) == ["x"]
    assert stat.S_ISDIR(os.stat(name).st_mode)


def test_names_that_are_taken_get_a_number():
    taken = {"a", "a-2"}
    assert [free_name(name, taken) for name in ("A", "a", "b")] == ["A-3", "a-4", "b"]
    assert taken == {"a", "a-2", "a-3", "a-4", "b"}
