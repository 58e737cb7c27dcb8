"""What scripts are to write, looked at before the first image is."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from spalipy_astro._files import refuse_existing, require_folder
from spalipy_astro.commands._run import UsageError

__all__ = ["PICTURES", "check_figure", "check_fits", "check_page"]

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Suffixes of what is no FITS file."""


def check_page(option: str, path: str | Path, *, overwrite: bool) -> None:
    """
    Raise unless a report can be written where an option says.

    Raises
    ------
    UsageError
        If the name is that of another kind of file.
    FileExistsError, FileNotFoundError, PermissionError
        As for `~spalipy_astro._files.refuse_existing` and `require_folder`.
    ImportError
        If matplotlib, which draws its figures, is not installed.
    """
    _require_matplotlib(option)
    from spalipy_astro.report import check_path  # matplotlib comes in with it

    try:
        check_path(path, overwrite=overwrite)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def check_figure(option: str, path: str | Path, *, overwrite: bool) -> None:
    """Raise, as `check_page` does, unless a figure can be written where an option says."""
    _require_matplotlib(option)
    from matplotlib.backend_bases import FigureCanvasBase

    kinds = FigureCanvasBase.get_supported_filetypes()
    suffix = Path(path).suffix
    if suffix and suffix[1:].lower() not in kinds:
        raise UsageError(
            f"{option} is the name of a picture, one that ends in .{', .'.join(sorted(kinds))}; "
            f"got {path}"
        )
    refuse_existing(path, overwrite=overwrite)
    require_folder(path)


def check_fits(option: str, path: str, *, overwrite: bool) -> None:
    """Raise, as `check_page` does, unless an image can be written where an option says."""
    if Path(path).suffix.lower() in PICTURES:
        raise UsageError(
            f"{option}: images are written as FITS files, and {path} has the name of a picture; "
            "give it another suffix"
        )
    refuse_existing(path, overwrite=overwrite)
    require_folder(path)


def _require_matplotlib(option: str) -> None:
    """Raise before there is anything to draw."""
    if find_spec("matplotlib") is None:
        raise ImportError(f"{option} needs matplotlib: pip install matplotlib")
