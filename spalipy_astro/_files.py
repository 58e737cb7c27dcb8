"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["refuse_existing", "whole_file"]


def refuse_existing(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """
    Raise where a file would be overwritten and nobody asked for that.

    Raises
    ------
    FileExistsError
        If there is something at ``path`` and ``overwrite`` is false.
    """
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(
            f"{os.fspath(path)} exists already; ask for it to be overwritten or use another name"
        )


@contextmanager
def whole_file(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """
    Give a path to write to, whose file takes its final name only once it is complete.

    Parameters
    ----------
    path : str or path-like
        The final name.
    overwrite : bool, optional
        Whether a file of that name may be replaced.

    Yields
    ------
    pathlib.Path
        A file of the same name in a new folder beside ``path``: the same file system, so that the
        last step is one rename; the same suffix, from which many writers tell the format. If the
        block raises, the folder vanishes and ``path`` is what it was.

    Raises
    ------
    FileExistsError
        If there is something at ``path`` and ``overwrite`` is false.
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    folder = tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        partial = Path(folder) / path.name
        yield partial
        os.replace(partial, path)
    finally:
        shutil.rmtree(folder)
