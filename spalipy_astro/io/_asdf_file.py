"""Alignments in ASDF files: what is written, and what a file must be to be read."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asdf
from asdf.exceptions import AsdfConversionWarning
from astropy.table import QTable

from spalipy_astro._files import whole_file
from spalipy_astro.alignment import Alignment, ErrorTerm
from spalipy_astro.errors import FormatError
from spalipy_astro.wcs import pack_wcs, portable_wcs, unpack_wcs

__all__ = ["from_tree", "read_alignment", "to_tree", "write_alignment"]

log = logging.getLogger(__name__)


def to_tree(alignment: Alignment) -> dict[str, Any]:
    """Return what an ASDF file holds of an alignment."""
    tree = {
        "transform": alignment.transform,
        "matches": alignment.matches,
        "summary": dict(alignment._summary),
        "source_shape": _listed(alignment.source_shape),
        "template_shape": _listed(alignment.template_shape),
        "template_wcs": pack_wcs(alignment.original_wcs),
        "errors": [term.to_tree() for term in alignment._errors],
        "provenance": dict(alignment.provenance),
    }
    return {key: value for key, value in tree.items() if value is not None}


def from_tree(tree: Mapping[str, Any]) -> Alignment:
    """Rebuild an alignment from what an ASDF file holds."""
    return Alignment(
        transform=tree["transform"],
        matches=tree.get("matches", QTable()),
        source_shape=_shape(tree.get("source_shape")),
        template_shape=_shape(tree.get("template_shape")),
        original_wcs=unpack_wcs(tree.get("template_wcs")),
        _summary=dict(tree["summary"]),
        _errors=tuple(ErrorTerm.from_tree(term) for term in tree.get("errors", ())),
        provenance=dict(tree.get("provenance", {})),
    )


def _portable_tree(alignment: Alignment, tolerance: float) -> dict[str, Any]:
    """Return what a file for those without this package holds."""
    shape = alignment.source_shape
    if shape is None:
        raise ValueError(
            "the source was a catalog: without its shape nobody knows what to tabulate; use "
            "dataclasses.replace(alignment, source_shape=(ny, nx))."
        )
    portable = portable_wcs(
        alignment.transform,
        alignment.original_wcs,
        source_shape=shape,
        template_shape=alignment.template_shape,
        tolerance=tolerance,
    )
    log.info("tables every %g px, off by %.2g px at most", portable.step, portable.error)
    plain = to_tree(alignment)
    return {
        "wcs": portable.wcs,
        "alignment": {
            key: plain[key]
            for key in ("matches", "summary", "source_shape", "template_shape", "provenance")
            if key in plain
        },
        "portable": {
            "error": portable.error,
            "step": portable.step,
            "tolerance": float(tolerance),
        },
    }


def write_alignment(
    alignment: Alignment,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    portable: bool = False,
    tolerance: float = 1e-3,
) -> None:
    """Write an alignment to an ASDF file, whole or not at all; see `Alignment.write`."""
    tree = _portable_tree(alignment, tolerance) if portable else {"alignment": alignment}
    with whole_file(path, overwrite=overwrite) as part:
        asdf.AsdfFile({"wcs": alignment.wcs, **tree}).write_to(part)


def read_alignment(path: str | os.PathLike[str]) -> Any:
    """
    Read what stands under "alignment" in an ASDF file; see `Alignment.read`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is anything but a whole file of an alignment in a known version.
    """
    name = repr(os.fspath(path))
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file {name}.")
    try:
        with asdf.config_context() as config, warnings.catch_warnings():
            config.validate_on_read = True
            # what nobody can convert comes as bare numbers; no transform must be made of these
            warnings.simplefilter("error", AsdfConversionWarning)
            # Not lazy: the alignment must outlive the file.
            with asdf.open(
                path, lazy_load=False, lazy_tree=False, memmap=False, validate_checksums=True
            ) as file:
                tree = dict(file.tree)
    except AsdfConversionWarning as warning:
        raise FormatError(
            f"{name} holds something that this version of spalipy_astro, or of a package that it "
            f"uses, does not know: {_reason(warning)} Upgrade them."
        ) from warning
    except Exception as error:
        raise FormatError(
            f"{name} cannot be read as an alignment ({type(error).__name__}: {_reason(error)}). "
            "Files come from Alignment.write."
        ) from error
    if "portable" in tree:
        raise FormatError(
            f"{name} was written with portable=True and holds tables in place of the transform; "
            "use the WCS in it, asdf.open(path)['wcs'], or write it without portable=True."
        )
    return tree.get("alignment")


def _reason(error: BaseException) -> str:
    """Return the first line of an error message."""
    return (str(error).splitlines() or ["no reason given"])[0]


def _listed(shape: tuple[int, int] | None) -> list[int] | None:
    return None if shape is None else [int(n) for n in shape]


def _shape(listed: Any) -> tuple[int, int] | None:
    if listed is None:
        return None
    ny, nx = (int(n) for n in listed)
    return ny, nx
