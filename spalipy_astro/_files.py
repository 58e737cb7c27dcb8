"""Files that are written whole or not at all, and never to another name than the one given."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spalipy_astro.errors import FormatError

__all__ = ["refuse_existing", "require_file", "whole_file"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


def require_file(path: str | os.PathLike[str], *, what: str = "file") -> None:
    """
    Raise if there is no regular file to read; others, such as pipes, may never end.

    Parameters
    ----------
    path : str or path-like
    what : str, optional
        What to call it in the message.

    Raises
    ------
    FileNotFoundError
        If there is nothing at ``path``.
    FormatError
        If it is a folder, a pipe or a device.
    """
    name = repr(os.fspath(path))
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # or a name with a null
        raise FileNotFoundError(f"there is no {what} {name}.") from error
    if not stat.S_ISREG(mode):
        raise FormatError(f"{name} is {_kind(mode)}; a {what} is needed.")


def refuse_existing(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """
    Raise where a file would be overwritten and nobody asked for that, or cannot be written.

    Raises
    ------
    FileExistsError
        If there is something at ``path`` and ``overwrite`` is false, or it is no regular file (nor
        a link to one), whose place a file must not take.
    """
    name = os.fspath(path)
    separators = tuple(filter(None, (os.sep, os.altsep)))
    if not name or name.endswith(separators):
        raise FileExistsError(f"{name!r} is a folder; give the name of a file")
    if not os.path.lexists(name):
        return
    mode = os.stat(name).st_mode if os.path.exists(name) else None
    if mode is not None and not stat.S_ISREG(mode):
        raise FileExistsError(
            f"{name} is {_kind(mode)}, which a file cannot replace; use another name"
        )
    if not overwrite:
        raise FileExistsError(f"{name} exists already; allow overwriting or use another name")


@contextmanager
def whole_file(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """
    Give a path to write to, whose file takes its final name only once it is complete.

    Parameters
    ----------
    path : str or path-like
        The final name. Of a symbolic link the file that it leads to is written, and the link stays.
    overwrite : bool, optional
        Whether a file of that name may be replaced.

    Yields
    ------
    pathlib.Path
        A file of the same name in a new folder beside ``path``: the same file system, so that the
        last step is one rename; the same suffix, from which many writers tell the format. It is
        absolute, which no library takes for a URL or for a user's home. If the block raises, the
        folder vanishes and ``path`` is what it was.

    Raises
    ------
    FileExistsError
        If there is something at ``path`` and ``overwrite`` is false, or it is no regular file.
    FileNotFoundError
        If the folder is not there.
    """
    refuse_existing(path, overwrite=overwrite)
    final = Path(path).absolute()
    if final.is_symlink():
        # realpath gives up at a loop of links, and what it returns is still one
        final = Path(os.path.realpath(final))
        if final.is_symlink():
            raise OSError(f"{os.fspath(path)} is a link that leads to itself; use another name")
    if not final.parent.is_dir():
        where = final.parent if Path(path).is_symlink() else Path(path).parent
        raise FileNotFoundError(f"there is no folder {os.fspath(where)!r} to write to")
    # not of the file's name, which may be as long as a name can be
    folder = tempfile.mkdtemp(prefix=".spalipy_astro-", dir=final.parent)
    try:
        partial = Path(folder) / Path(path).name
        yield partial
        os.replace(partial, final)
    finally:
        shutil.rmtree(folder)


def _kind(mode: int) -> str:
    """Describe something that is not a regular file."""
    return next((words for test, words in _KINDS if test(mode)), "no regular file")
