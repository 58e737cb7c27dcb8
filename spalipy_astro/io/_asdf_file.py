"""Alignments in ASDF files: what is written, and what a file must be to be read."""

from __future__ import annotations

import logging
import os
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO

import asdf
import astropy.units as u
import numpy as np
from asdf.exceptions import AsdfConversionWarning, AsdfSerializationError, ValidationError
from astropy.table import QTable

from spalipy_astro._checks import path_of, positive_number
from spalipy_astro._files import is_remote, open_binary, require_file, whole_file
from spalipy_astro.alignment import Alignment, ErrorTerm
from spalipy_astro.errors import ExportError, FormatError
from spalipy_astro.io._asdf_text import check_aliases, check_asdf_name, reason_of
from spalipy_astro.wcs import pack_wcs, portable_wcs, unpack_wcs

__all__ = [
    "from_tree",
    "look_into",
    "read_alignment",
    "read_tree",
    "require_inverse",
    "require_writable",
    "to_tree",
    "write_alignment",
]

log = logging.getLogger(__name__)

_UNKNOWN = (ValidationError, AsdfSerializationError)
"""What asdf raises for objects that it cannot write, with schemas and without."""

_WHOLE = "/core/asdf-"  # in the name of the schema of a whole file
_ANYTHING = "asdf://spalipy-astro.org/anything"
"""Name of a schema that allows everything; given one, asdf does not go through all of the tree."""

_COUNTS = ("n_source", "n_template", "n_expected", "n_matched", "n_used", "n_clipped", "parity")
# those of any transform, of one that was fitted to stars, and of one whose stars were searched for:
# of the last two a file has all or none
_FIGURES = (
    *("n_matched", "n_used", "n_clipped"),
    *("parity", "scale", "rotation", "shift_x", "shift_y", "distortion"),
)
_OF_A_FIT = (
    *("n_source", "n_template", "excess_scatter", "freedom", "coverage"),
    *("rms_x", "rms_y", "rms", "chi2_x", "chi2_y"),
)
_OF_A_SEARCH = ("n_expected", "log_odds", "hypotheses")
_COLUMNS = (
    *("x_source", "y_source", "x_template", "y_template", "flux_source", "flux_template"),
    *("source_row", "template_row", "dx", "dy", "sigma", "used"),
)


def to_tree(alignment: Alignment) -> dict[str, Any]:
    """Return the contents of an ASDF file for an alignment."""
    tree = {
        "transform": alignment.transform,
        "matches": alignment.matches.as_array(),  # one block, where a table has one a column
        "summary": dict(alignment._summary),
        "source_shape": _listed(alignment.source_shape),
        "template_shape": _listed(alignment.template_shape),
        "template_wcs": pack_wcs(alignment.original_wcs),
        "errors": [term.to_tree() for term in alignment._errors],
        "provenance": dict(alignment.provenance),
    }
    return {key: value for key, value in tree.items() if value is not None}


def from_tree(tree: Mapping[str, Any]) -> Alignment:
    """
    Rebuild an alignment from the contents of an ASDF file.

    Raises
    ------
    FormatError
        If it lacks something without which an alignment cannot be used.
    """
    _check_entries(tree)
    return Alignment(
        transform=tree["transform"],
        matches=_table(tree["matches"]),
        source_shape=_shape(tree.get("source_shape")),
        template_shape=_shape(tree.get("template_shape")),
        original_wcs=unpack_wcs(tree.get("template_wcs")),
        _summary=dict(tree["summary"]),
        _errors=tuple(ErrorTerm.from_tree(term) for term in tree.get("errors", ())),
        provenance=dict(tree.get("provenance", {})),
    )


def _check_entries(tree: Mapping[str, Any]) -> None:
    """Raise for what is missing, or is of another kind than what was written."""
    model = tree["transform"]
    if (model.n_inputs, model.n_outputs) != (2, 2):
        raise FormatError(
            f"its transform has {model.n_inputs} inputs and {model.n_outputs} outputs, not two."
        )
    summary = tree["summary"]
    needed: tuple[str, ...] = _FIGURES
    for group in (_OF_A_FIT, _OF_A_SEARCH):
        needed += group if any(name in summary for name in group) else ()
    if "log_odds" in needed and "freedom" not in needed:
        raise FormatError("its summary has the odds of a match, but no figures of a fit.")
    for name in needed:
        kind, words = (Integral, "whole number") if name in _COUNTS else (Real, "number")
        if not isinstance(summary.get(name), kind):
            raise FormatError(
                f"its summary has {summary.get(name)!r} as {name}, where a {words} is needed."
            )
    matches: Any = tree.get("matches")
    names = getattr(getattr(matches, "dtype", None), "names", None) or ()
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise FormatError(f"its table of matches lacks the columns {', '.join(missing)}.")
    for name in _COLUMNS:
        if matches[name].dtype.kind not in "biuf":
            raise FormatError(f"the column {name} of its matches is of type {matches[name].dtype}.")


def _portable_tree(alignment: Alignment, tolerance: float) -> dict[str, Any]:
    """Return the contents of a portable file."""
    shape = alignment.source_shape
    tolerance = positive_number("tolerance", tolerance, "a positive number of px", u.pix)
    if shape is None:
        raise ValueError(
            "the source was a catalog: without its shape the region to tabulate is unknown; use "
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
            "matches": alignment.matches,
            **{
                key: plain[key]
                for key in ("summary", "source_shape", "template_shape", "provenance")
                if key in plain
            },
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
    validate: bool = True,
) -> None:
    """
    Write an alignment to an ASDF file, whole or not at all; see `Alignment.write`.

    Parameters
    ----------
    alignment : Alignment
    path : path-like
    overwrite, portable, tolerance : optional
        As for `Alignment.write`.
    validate : bool, optional
        Whether to compare it with the schemas, which takes two thirds of the time. It can be left
        out for what `find_alignment` has found with a template that `require_writable` took.

    Raises
    ------
    ExportError
        If it has something that asdf cannot write.
    """
    path = path_of("path", path)
    check_asdf_name(path)
    tree = _portable_tree(alignment, tolerance) if portable else {"alignment": alignment}
    tree = {"wcs": alignment.wcs, **tree}
    # In memory first: asdf writes a word at a time. And a path it takes for a URI, in which what
    # follows "#" or "?" is no part of the name.
    content = BytesIO()
    with whole_file(path, overwrite=overwrite) as part:
        try:
            if validate:
                asdf.AsdfFile(tree).write_to(content)
            else:
                with _without_schemas():
                    asdf.AsdfFile(tree, custom_schema=_ANYTHING).write_to(content)
        except _UNKNOWN as error:
            raise ExportError(
                f"asdf cannot write this alignment: {reason_of(error)}. It knows the models of "
                "astropy, gwcs and this package; build the transform of these, or use "
                "portable=True, which writes tables of it."
            ) from error
        part.write_bytes(content.getbuffer())


def require_writable(wcs: Any, *, name: str = "template") -> None:
    """
    Raise ExportError if the files of alignments with a template of this WCS could not be read.

    Parameters
    ----------
    wcs : astropy.wcs.WCS, gwcs.WCS or None
    name : str, optional
        The argument, for the message.
    """
    try:
        asdf.AsdfFile({"template_wcs": pack_wcs(wcs)}).validate()
    except _UNKNOWN as error:
        raise ExportError(
            f"{name}: asdf cannot write its WCS: {reason_of(error)}. It knows the models of "
            "astropy, gwcs and this package; alignments=False writes aligned images alone."
        ) from error


@contextmanager
def _configured() -> Iterator[asdf.config.AsdfConfig]:
    """Give the configuration of asdf to change, in this thread and until the end of the block."""
    # Before the block, at whose end asdf forgets what it has found there: it would go through the
    # extensions of all packages again for each file, which takes longer than to read it.
    _extensions()
    with asdf.config_context() as config:
        yield config


def _extensions() -> list[Any]:
    """Return the extensions of all packages, which asdf looks for when it is first asked."""
    return asdf.get_config().extensions


@contextmanager
def _without_schemas() -> Iterator[None]:
    """
    Have asdf write, in this thread, with schemas that allow everything.

    asdf has no switch for that, and parses the schemas again for each file.
    """
    with _configured() as config:
        config.add_resource_mapping(_lenient_schemas())
        yield


@cache
def _lenient_schemas() -> Mapping[str, bytes]:
    """Return a schema that allows everything in place of each that a package has for its tags."""
    tags = (tag for extension in _extensions() for tag in extension.tags)
    uris = [_ANYTHING, *(uri for tag in tags for uri in tag.schema_uris)]
    # an empty one would send asdf through all that is below
    anything = dict.fromkeys(uris, b"title: anything")
    # the order of what files begin with, as their schema has it
    return anything | {u: b"propertyOrder: [asdf_library, history]" for u in uris if _WHOLE in u}


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
    path = path_of("path", path)
    name = repr(path)
    tree = read_tree(path, what="an alignment", maker="Alignment.write")
    if "portable" in tree:
        raise FormatError(
            f"{name} was written with portable=True and contains tables instead of the transform; "
            "use the WCS in it, asdf.open(path)['wcs'], or write it without portable=True."
        )
    alignment = tree.get("alignment")
    if alignment is None and "group" in tree:
        raise FormatError(
            f"{name} holds a group of frames, not an Alignment; GroupAlignment.read opens it."
        )
    if isinstance(alignment, Alignment):
        require_inverse(alignment, name)
    return alignment


def require_inverse(alignment: Alignment, name: str) -> None:
    """Raise FormatError for a transform without an inverse; asdf gives models theirs last."""
    try:
        inverse = alignment.transform.inverse
    except NotImplementedError as error:
        raise FormatError(f"{name}: its transform has no inverse.") from error
    if (inverse.n_inputs, inverse.n_outputs) != (2, 2):
        raise FormatError(
            f"{name}: the inverse of its transform has {inverse.n_inputs} inputs and "
            f"{inverse.n_outputs} outputs, not two."
        )


def read_tree(
    path: str | os.PathLike[str], *, what: str, maker: str, strict: bool = True
) -> dict[str, Any]:
    """
    Read all of an ASDF file, for good: nothing of it stays open, and nothing in it is executed.

    Parameters
    ----------
    path : path-like
    what : str
        What it should be, for messages: "an alignment".
    maker : str
        What writes such files: "Alignment.write".
    strict : bool, optional
        Whether contents that nobody here knows are an error, instead of plain mappings.

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is no whole ASDF file, or has something that nobody here knows.
    """
    path = path_of("path", path)
    name = repr(path)
    require_file(path)
    try:
        # by its absolute name, in which asdf finds nobody's home
        with (
            open_binary(path if is_remote(path) else Path(path).absolute()) as stream,
            _configured() as config,
            warnings.catch_warnings(),
        ):
            check_aliases(stream)
            config.validate_on_read = strict
            # what nobody can convert comes as bare numbers; no transform must be made of these
            warnings.simplefilter("error" if strict else "ignore", AsdfConversionWarning)
            # Not lazy: what is read must outlive the file.
            with asdf.open(
                stream, lazy_load=False, lazy_tree=False, memmap=False, validate_checksums=True
            ) as file:
                return dict(file.tree)
    except AsdfConversionWarning as warning:
        raise FormatError(
            f"{name} contains something that is unknown to this version of spalipy_astro, or to "
            f"that of a package that it uses: {reason_of(warning)} Upgrade them."
        ) from warning
    except KeyError as error:
        raise FormatError(
            f"{name} cannot be read as {what}: it lacks an entry {reason_of(error)}. Files come "
            f"from {maker}."
        ) from error
    except struct.error as error:
        raise FormatError(
            f"{name} is truncated or damaged: a block of its numbers is cut short. Files come from "
            f"{maker}."
        ) from error
    except Exception as error:
        raise FormatError(
            f"{name} cannot be read as {what} ({type(error).__name__}: {reason_of(error)}). "
            f"Files come from {maker}."
        ) from error


def look_into(stream: BinaryIO, pick: Callable[[Any], Any]) -> Any:
    """
    Take one thing out of an ASDF tree; what else is in it is not read.

    Parameters
    ----------
    stream : binary file
    pick : callable
        Is given the tree, and returns the thing.

    Returns
    -------
    object
        As a plain mapping where nobody here knows what it is.

    Raises
    ------
    Exception
        Whatever asdf raises for damaged files.
    """
    check_aliases(stream)
    with _configured() as config, warnings.catch_warnings():
        config.validate_on_read = False  # arrays of the tree may lie in other extensions
        warnings.simplefilter("ignore", AsdfConversionWarning)
        with asdf.open(stream, lazy_load=True, lazy_tree=True, memmap=False) as file:
            return pick(file.tree)


def _table(matches: Any) -> QTable:
    """Return the matches as a table, with columns that lie in memory as those of a fit do."""
    return QTable({name: np.ascontiguousarray(matches[name]) for name in matches.dtype.names})


def _listed(shape: tuple[int, int] | None) -> list[int] | None:
    return None if shape is None else [int(n) for n in shape]


def _shape(listed: Any) -> tuple[int, int] | None:
    if listed is None:
        return None
    ny, nx = (int(n) for n in listed)
    return ny, nx
