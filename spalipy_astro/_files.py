"""
Files: read here or elsewhere, written whole or not at all, and never to another name than given.

What fsspec opens by its URL is read like a file of this machine.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from spalipy_astro.errors import FormatError

__all__ = [
    "absolute",
    "clear_partial",
    "free_name",
    "is_remote",
    "open_binary",
    "refuse_existing",
    "require_file",
    "require_folder",
    "scratch_folder",
    "size_of",
    "state_of",
    "suffix_path",
    "whole_file",
]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters or more: one is a drive of Windows
_PIECE = 2**18  # bytes that are fetched ahead: a header, or the next rows
_BLOCKS, _BLOCK = 16, 4096  # of a file that are looked at to see whether it is another, bytes
_MAX_WHOLE = 2**33  # bytes of a file whose server gives no pieces

_PREFIX = ".spalipy_astro-"
_FORGOTTEN = 3600.0  # s: what nobody has written to for so long is left by a process that is gone

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

    Notes
    -----
    Of a URL, nothing is asked: its server tells when it is opened.

    Raises
    ------
    FileNotFoundError
        If there is nothing at ``path``.
    FormatError
        If it is a folder, a pipe or a device.
    """
    if is_remote(path):
        return  # opening it tells
    name = repr(os.fspath(path))
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # or a name with a null
        hint = _hint_of_home(Path(os.fsdecode(path)))
        raise FileNotFoundError(f"there is no {what} {name}.{hint}") from error
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
        raise FileExistsError(
            f"{name} exists already; overwrite=True replaces it, another name keeps it"
        )


def require_folder(path: str | os.PathLike[str]) -> None:
    """
    Raise unless there is a folder for a file that is to be written.

    Parameters
    ----------
    path : str or path-like
        The file; of a symbolic link what it leads to.

    Raises
    ------
    FileNotFoundError
        If the folder is not there.
    PermissionError
        If it cannot be written to.
    """
    final = Path(path)
    folder = Path(os.path.realpath(path)).parent if final.is_symlink() else final.parent
    name = os.fspath(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {name!r} to write to.{_hint_of_home(folder)}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {name!r} cannot be written to.")


def _hint_of_home(path: Path) -> str:
    """Say what to do about a ``~``, which a shell would have replaced and nobody here does."""
    home = any(part.startswith("~") for part in path.parts)
    return " '~' stands for itself; os.path.expanduser takes it for your home." if home else ""


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
    require_folder(path)
    _clear_once(final.parent)
    try:  # not of the file's name, which may be as long as a name can be
        folder = tempfile.mkdtemp(prefix=_prefix(), dir=final.parent)
    except OSError as error:  # it names a folder that nobody has asked for
        raise OSError(error.errno, error.strerror, os.fspath(final.parent)) from error
    try:
        partial = Path(folder) / Path(path).name
        yield partial
        os.replace(partial, final)
    finally:
        shutil.rmtree(folder)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a new folder for temporary files, which vanishes at the end of the block."""
    clear_partial(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix=_prefix(), ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def clear_partial(folder: str | os.PathLike[str]) -> None:
    """
    Remove what processes that were killed have left in a folder.

    Parameters
    ----------
    folder : path-like
        What it holds of temporary folders of this package is removed if the process that made it
        is gone, or, where that cannot be told (it ran on another machine, or in another
        container), if it has not changed for an hour. What cannot be removed stays.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and _is_abandoned(entry):
                shutil.rmtree(entry.path, ignore_errors=True)


@cache
def _clear_once(folder: Path) -> None:
    """Look once in the life of a process for what others have left in a folder."""
    clear_partial(folder)


def _prefix() -> str:
    """Return how the names of this process's temporary folders begin."""
    pid = os.getpid()
    return f"{_PREFIX}{_place()}.{pid}.{_start_of(pid) or 0}-"


@cache
def _place() -> str:
    """Return a short name for where process numbers have the meaning that they have here."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/etc/machine-id").read_text(encoding="ascii"))
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.blake2b(repr(parts).encode(), digest_size=4).hexdigest()


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    """Whether the process that made a temporary folder is gone."""
    place, _, numbers = entry.name.removeprefix(_PREFIX).partition(".")
    pid, _, start = numbers.partition("-")[0].partition(".")
    if place == _place() and pid.isdecimal() and os.name != "nt":
        return not _is_running(int(pid), start)
    with suppress(OSError):
        newest = max([os.stat(entry).st_mtime, *(e.stat().st_mtime for e in os.scandir(entry))])
        return time.time() - newest > _FORGOTTEN
    return False


def _is_running(pid: int, start: str) -> bool:
    """Whether a process is alive, and is not another one that has got its number."""
    if (known := _start_of(pid)) is not None:
        return known == start
    if os.path.isdir("/proc/self"):
        return False
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _start_of(pid: int) -> str | None:
    """Return when a living process started, in ticks; None where there is no /proc to tell."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else fields[18]


def _kind(mode: int) -> str:
    """Describe something that is not a regular file."""
    return next((words for test, words in _KINDS if test(mode)), "no regular file")


def free_name(name: str, taken: set[str]) -> str:
    """
    Return a name that no other file has, with a number if it takes one.

    Parameters
    ----------
    name : str
    taken : set of str
        The names so far, in lower case; the new one comes to them.

    Returns
    -------
    str
    """
    free, again = name, 1
    while free.lower() in taken:
        again += 1
        free = f"{name}-{again}"
    taken.add(free.lower())
    return free


def is_remote(path: Any) -> bool:
    """Tell a URL, as ``https://`` and ``s3://``, from the name of a file on this machine."""
    return isinstance(path, str) and bool(_URL.match(path)) and not os.path.lexists(path)


def absolute(path: str | os.PathLike[str]) -> str:
    """Return a name that holds in every folder; a URL does."""
    return str(path) if is_remote(path) else os.fspath(Path(path).absolute())


def suffix_path(path: str | os.PathLike[str]) -> PurePosixPath | Path:
    """Return a path with the name of a file: of a URL without what is asked of its server."""
    return PurePosixPath(unquote(urlsplit(str(path)).path)) if is_remote(path) else Path(path)


@contextmanager
def open_binary(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """
    Open a file to read bytes at any place of it.

    Parameters
    ----------
    path : str or path-like
        A file of this machine, or a URL, of which only those pieces are fetched that are read, if
        its server gives pieces.

    Yields
    ------
    binary file
        It can seek.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ImportError
        If it is a URL, and what opens those of its kind is not installed.
    OSError
        If it cannot be opened for another reason.
    """
    if not is_remote(path):
        with open(path, "rb") as file:
            yield file
        return
    with _opened(str(path)) as remote:
        yield remote


def size_of(file: BinaryIO) -> int:
    """Return the bytes that a file has; it is then at its beginning."""
    size = file.seek(0, 2)
    file.seek(0)
    return size


def state_of(path: str | os.PathLike[str]) -> tuple[Any, ...]:
    """
    Return what changes when a file does, as far as its server tells.

    Of a file on this machine that is its size, its time, and some blocks of it: copies keep times.
    """
    if not is_remote(path):
        state = os.stat(path)
        return os.path.abspath(path), state.st_size, state.st_mtime_ns, _sample(path, state.st_size)
    system, name = _system(str(path))
    info = _asked(str(path), lambda: system.info(name))
    told = ("size", "ETag", "mtime", "LastModified", "last_modified", "etag")
    return str(path), *(str(info.get(key)) for key in told)


def _sample(path: str | os.PathLike[str], size: int) -> str:
    """Return a short name for the contents of evenly spread blocks, the first and last among them.

    What has been changed in one place between them is not seen; images of two exposures differ
    everywhere.
    """
    total = hashlib.blake2b(digest_size=8)
    with open(path, "rb", buffering=0) as file:
        for k in range(_BLOCKS):
            file.seek(k * max(size - _BLOCK, 0) // (_BLOCKS - 1))
            total.update(file.read(_BLOCK))
    return total.hexdigest()


def _system(url: str) -> tuple[Any, str]:
    """Return what opens files of the kind of a URL, and what it calls the file."""
    try:
        from fsspec.core import url_to_fs

        return cast(tuple[Any, str], url_to_fs(url))
    except ImportError as error:
        raise ImportError(
            f"{url!r} is not on this machine; to read it: pip install fsspec aiohttp "
            f"(s3:// also needs s3fs). {error}"
        ) from error
    except ValueError as error:
        raise FileNotFoundError(f"there is no file {url!r}: {error}.") from error


def _asked(url: str, question: Any) -> Any:
    """Ask a server, and say which file it is about if it refuses."""
    try:
        return question()
    except FileNotFoundError as error:
        # a server that does not answer is the cause of one, too
        why = f": {error.__cause__}" if error.__cause__ is not None else ""
        raise FileNotFoundError(f"there is no file {url!r}{why}.") from error
    except Exception as error:  # each kind of server has its own
        words = str(error) or type(error).__name__
        raise OSError(f"{url!r} cannot be opened: {words}.") from error


def _opened(url: str) -> BinaryIO:
    """Open a URL; a file whose server gives no pieces is fetched as a whole."""
    system, name = _system(url)

    def pieces() -> Any:
        file = system.open(name, "rb", block_size=_PIECE)
        try:
            file.seek(max(file.seek(0, 2) - 1, 0))
            file.read(1)
            file.seek(0)
        except (OSError, TypeError, ValueError):  # a stream, or a server that ignores the place
            file.close()
            return None
        return file

    def whole() -> BytesIO:
        with system.open(name, "rb", block_size=0) as stream:
            data = BytesIO()
            while piece := stream.read(_PIECE):  # it gives no more than has arrived
                if data.tell() + len(piece) > _MAX_WHOLE:
                    raise OSError(
                        f"it has more than {_MAX_WHOLE} bytes, of which its server gives no pieces"
                    )
                data.write(piece)
        data.seek(0)
        return data

    return cast(BinaryIO, _asked(url, pieces) or _asked(url, whole))
