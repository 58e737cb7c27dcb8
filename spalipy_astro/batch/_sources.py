"""The sources of a batch: what they are, and the names of what is made of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.nddata import NDData
from astropy.table import Table

from spalipy_astro._checks import colors_go_last
from spalipy_astro._files import absolute, free_name, is_remote
from spalipy_astro.batch._made import made_from
from spalipy_astro.batch._names import expand, is_named_fits, stem_of
from spalipy_astro.batch._task import Task, files_of
from spalipy_astro.io import Extension, is_file_like, open_image

__all__ = ["check_weights", "list_sources", "make_tasks", "masks_each"]

_LONGEST = 200  # bytes of a name, to which a suffix comes


def check_weights(weights: Any, sources: Any) -> None:
    """
    Check the weights of pixels in a batch.

    Parameters
    ----------
    weights : object
        As for `align_many`.
    sources : iterable
        As `list_sources` returns them. Of files it is not known what they hold.

    Raises
    ------
    ValueError
        If they are the weights of one source, or follow from uncertainties and no source has one.
    """
    from spalipy_astro.resampling import require_uncertainty

    if not isinstance(weights, str | None):
        raise ValueError(
            "weights is 'ivar' or None in a batch, where each source has weights of its own; got "
            f"{type(weights).__name__}. Give them as uncertainties of the sources."
        )
    known = isinstance(sources, Sequence) and not any(is_file_like(source) for source in sources)
    if known and len(sources):
        require_uncertainty(weights, *(getattr(source, "uncertainty", None) for source in sources))


def list_sources(sources: Any, *, name: str = "sources") -> Iterable[Any]:
    """
    Return the sources one by one, or in a list.

    Parameters
    ----------
    sources : object
        As for `align_many`.
    name : str, optional
        The argument, for error messages.

    Raises
    ------
    TypeError
        If they are no list, but one image or one catalog, or a mapping.
    FileNotFoundError
        If a folder or a pattern stands for no file.
    """
    if isinstance(sources, str | os.PathLike):
        files = expand(sources, name=name)
        if files is not None:
            return files
        missing = not is_remote(sources) and not os.path.lexists(sources)
        if missing and not is_named_fits(os.fspath(sources)):
            raise FileNotFoundError(f"{name}: there is no folder or file {os.fspath(sources)!r}.")
        raise _single(name, "one path", repr(os.fspath(sources)))
    if hasattr(sources, "files_filtered"):  # ccdproc.ImageFileCollection
        return sources.files_filtered(include_path=True)
    kind = type(sources).__name__
    one = NDData | Table | fits.HDUList | fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU
    if isinstance(sources, one | fits.BinTableHDU | fits.TableHDU) or hasattr(sources, "to_table"):
        raise _single(name, f"one {kind}", "image")
    shape = getattr(sources, "shape", ())
    if len(shape) == 2 or (len(shape) == 3 and colors_go_last(shape)):
        raise _single(name, f"one array of shape {tuple(sources.shape)}", "image")
    if isinstance(sources, list | tuple) and any(isinstance(row, list) for row in sources[:1]):
        if not isinstance(sources[0], fits.HDUList):
            raise _single(name, "one list of rows", "np.array(image)")
    if isinstance(sources, Mapping):
        raise TypeError(
            f"{name} is a list of images, a folder or a pattern; got a {kind}, whose items are its "
            "keys. Write list(images.values())."
        )
    if not isinstance(sources, Iterable):
        raise TypeError(f"{name} is a list of images; got {sources!r}.")
    return sources


def make_tasks(
    sources: Iterable[Any],
    masks: Any,
    folder: Path | None,
    hdu: Extension | None,
    flags: Mapping[str, Any],
    seen: list[Task],
) -> Iterator[Task]:
    """
    Yield a task for each source, with its mask and its files' names.

    Parameters
    ----------
    sources : iterable
    masks : array_like, path, list of them, or None
        One mask for all sources, or a list with one for each.
    folder : Path or None
        Where to write.
    hdu : int, str or (str, int), optional
        Which HDU of an HDUList is the image.
    flags : mapping
        ``ignore_flags`` and ``flag_name_map``, for its flags.
    seen : list of Task
        To which the tasks are added, without their pixels.
    """
    many = masks_each(masks)
    if many is not None and isinstance(sources, Sequence) and len(many) != len(sources):
        raise ValueError(
            f"source_mask has {len(many)} masks for {len(sources)} sources; give one for all of "
            "them, or one (or None) for each."
        )
    taken: set[str] = set()
    for index, image in enumerate(sources):
        if many is not None and index >= len(many):
            raise ValueError(f"source_mask has {len(many)} masks, and there are more sources.")
        is_path = isinstance(image, str | os.PathLike)
        owner = stem = None
        if folder is not None:
            owner, stem = _place(folder, image if is_path else None, index, taken)
        task = Task(
            index,
            absolute(image) if is_path else _opened(image, hdu, flags),
            masks if many is None else many[index],
            stem,
            os.fspath(image) if is_path else index,
            owner=owner or "",
        )
        seen.append(replace(task, image=None, mask=None))
        yield task


def masks_each(masks: Any) -> list[Any] | None:
    """Return masks that are given one for each source; None for one that is for all of them."""
    one = isinstance(masks, fits.HDUList)  # which is a list
    return list(masks) if isinstance(masks, list | tuple) and not one else None


def _single(name: str, what: str, example: str) -> TypeError:
    """Return the error for one image in place of many."""
    return TypeError(
        f"{name} is a list of images, a folder or a pattern; got {what}. Write [{example}] for a "
        "list of one, or use find_alignment."
    )


def _opened(image: Any, hdu: Extension | None, flags: Mapping[str, Any]) -> Any:
    """Return the image of an HDU; what is wrong with it is for its row to tell."""
    try:
        return open_image(image, name="source", hdu=hdu, **flags)
    except Exception as error:
        return error


def _place(
    folder: Path, path: str | os.PathLike[str] | None, index: int, taken: set[str]
) -> tuple[str, Path]:
    """
    Choose the name of a source's files; return whose they are, too.

    It is the source's own, unless that is, in this run or in the folder, the name of another one of
    another folder: then the name of its folder and a number made of its whole path come to it. So
    the files of a source keep their names whatever other sources there are.
    """
    if path is None:
        return "", folder / f"{index:05d}"
    whole = os.path.abspath(path)
    owner = hashlib.blake2b(os.fsencode(whole), digest_size=8).hexdigest()
    name = _cut(stem_of(path))
    if name.lower() in taken or _is_of_another(folder / name, owner):
        name = _cut(f"{name}-{os.path.basename(os.path.dirname(whole))}") + f"-{owner[:8]}"
    return owner, folder / free_name(name, taken)  # a source may be given twice


def _is_of_another(stem: Path, owner: str) -> bool:
    """Whether the files of a name are those of another source."""
    other = next((known for path in files_of(stem) if (known := made_from(path))), owner)
    return other != owner


def _cut(name: str) -> str:
    """Cut a name that is too long to get a suffix, and tell it from others that begin like it."""
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST:
        return name
    mark = hashlib.blake2b(raw, digest_size=4).hexdigest()
    return f"{os.fsdecode(raw[: _LONGEST - 9]).encode('utf-8', 'ignore').decode()}-{mark}"
