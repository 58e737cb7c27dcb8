"""
Methods of an alignment that other rooms supply: figures, pages and files.

These rooms know what an alignment is, so they are imported when a method is first called, and it
knows of them no more than where they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from spalipy_astro._checks import check_names, check_pixels, checked_call
from spalipy_astro.errors import FormatError
from spalipy_astro.typing import HDULike, ImageLike

if TYPE_CHECKING:
    from spalipy_astro.alignment._alignment import Alignment

__all__ = ["opened", "opened_mask", "picture", "plot", "read", "report", "write"]

_PLACES = {
    "open_image": ("spalipy_astro.io", "open_image"),
    "open_mask": ("spalipy_astro.io", "open_mask"),
    "picture": ("spalipy_astro.visualization", "picture_of"),
    "plot": ("spalipy_astro.visualization", "plot_alignment"),
    "report": ("spalipy_astro.report", "report_alignment"),
    "read": ("spalipy_astro.io", "read_alignment"),
    "write": ("spalipy_astro.io", "write_alignment"),
}
_IMAGES = ("source", "template", "aligned")  # those of the arguments of `plot` that are images


def _supplied(method: str) -> Callable:
    """Import the function that a method calls."""
    module, function = _PLACES[method]
    return getattr(import_module(module), function)


def opened(image: Any, *, name: str, hdu: HDULike | None = None, **flags: Any) -> Any:
    """Return the image of a path, HDU or HDUList; anything else as it is."""
    return _supplied("open_image")(image, name=name, hdu=hdu, **flags)


def opened_mask(mask: Any, *, hdu: HDULike | None = None, **flags: Any) -> Any:
    """Return the bad pixels of a path, HDU or HDUList; anything else as it is."""
    return _supplied("open_mask")(mask, hdu=hdu, **flags)


def picture(self: Alignment) -> str:
    """Return a small picture of the alignment as an HTML element; "" without matplotlib."""
    try:
        return _supplied("picture")(self)
    except ImportError:
        return ""


def plot(self: Alignment, *, hdu: HDULike | None = None, **images: Any) -> Any:
    """
    Draw matches, residuals and distortion.

    Parameters
    ----------
    hdu : int, str or (str, int), optional
        Which HDU of files and HDULists is the image; by default the first image.
    **images
        ``source``, ``template`` and ``aligned`` images to show too: paths, HDUs, HDULists, CCDData,
        NDData or arrays; see `spalipy_astro.visualization.plot_alignment`.

    Returns
    -------
    `~matplotlib.figure.Figure`
        A notebook shows it once, whether it is the value of the cell or not.
    """
    check_names("plot()", images, (*_IMAGES, "region"))
    shown = {
        name: opened(image, name=name, hdu=hdu) if name in _IMAGES else image
        for name, image in images.items()
    }
    for name, image in shown.items():
        if name in _IMAGES and image is not None:
            check_pixels(image, name=name)
    return _supplied("plot")(self, **shown)


@checked_call
def report(
    self: Alignment,
    path: str | os.PathLike[str],
    *,
    source: ImageLike | None = None,
    template: ImageLike | None = None,
    aligned: ImageLike | None = None,
    hdu: HDULike | None = None,
    title: str = "Alignment report",
    overwrite: bool = False,
) -> None:
    """
    Write an HTML page about the alignment, which needs no other file and no network.

    Parameters
    ----------
    path : path-like
        The file. It is written whole or not at all.
    source, template : path, HDU, HDUList, CCDData, NDData or array_like, optional
        The images. With both the page has a viewer that blinks and subtracts them.
    aligned : path, HDU, HDUList, CCDData, NDData or array_like, optional
        The source on the template's grid; resampled from ``source`` by default.
    hdu : int, str or (str, int), optional
        Which HDU of files and HDULists is the image; by default the first image.
    title : str, optional
        What to write above.
    overwrite : bool, optional
        Replace a file that exists.

    Raises
    ------
    FileExistsError
        If the file exists and may not be replaced.
    ImportError
        If matplotlib is not installed.
    ValueError
        If an image does not have the shape of its frame, or the aligned source and the template
        are not on one grid.
    """
    _supplied("report")(
        self,
        path,
        source=source,
        template=template,
        aligned=aligned,
        hdu=hdu,
        title=title,
        overwrite=overwrite,
    )


@checked_call
def write(
    self: Alignment,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    portable: bool = False,
    tolerance: float = 1e-3,
) -> None:
    """
    Save to an ASDF file.

    Parameters
    ----------
    path : path-like
        The file. It is written whole or not at all.
    overwrite : bool, optional
        Replace a file that exists.
    portable : bool, optional
        Write for those who do not have spalipy_astro: under ``"wcs"`` a `gwcs.WCS` with tables
        instead of splines, under ``"alignment"`` matches, summary, shapes and provenance as
        they are, and under ``"portable"`` the ``error`` of the tables (px), their ``step`` and
        ``tolerance``. `read` does not take such a file.
    tolerance : float, optional
        Largest error of the tables, in px; see `spalipy_astro.wcs.portable_wcs`.

    Raises
    ------
    FileExistsError
        If the file exists and may not be replaced.
    ExportError
        If tables cannot be as exact as ``tolerance`` demands.
    ValueError
        If ``path`` has the suffix of another format, such as ``.fits``.
    """
    _supplied("write")(self, path, overwrite=overwrite, portable=portable, tolerance=tolerance)


def read(cls: type[Alignment], path: str | os.PathLike[str]) -> Alignment:
    """
    Open a file that `write` made.

    Nothing in the file is executed.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    Alignment

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is not an ASDF file, is damaged, contains no alignment, or was written by a later
        version.
    """
    alignment = _supplied("read")(path)
    if not isinstance(alignment, cls):
        raise FormatError(
            f"{os.fspath(path)!r} holds {type(alignment).__name__} under 'alignment', not an "
            "Alignment; it was not made by Alignment.write."
        )
    return alignment
