"""
How the models and the alignments are written to ASDF files.

The entry points of the package give `get_extensions` and `get_resource_mappings` to asdf, which
then reads and writes the models wherever they occur: ``asdf.open(path)["alignment"]`` is a live
object.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from asdf.extension import Extension, ManifestExtension
from asdf.resource import DirectoryResourceMapping

from spalipy_astro.io.asdf.converters import CONVERTERS

__all__ = ["get_extensions", "get_resource_mappings"]

# asdf prefers the first that knows a type
_MANIFESTS = ("asdf://spalipy-astro.org/manifests/spalipy-astro-1.0.0",)


def get_extensions() -> list[Extension]:
    """
    Give the extensions of asdf that this package provides.

    Returns
    -------
    list of asdf.extension.Extension
        One for each version of the manifest, the newest first.

    Notes
    -----
    asdf must know the manifests by then; see `get_resource_mappings`.
    """
    return [ManifestExtension.from_uri(uri, converters=CONVERTERS) for uri in _MANIFESTS]


def get_resource_mappings() -> list[Mapping[str, bytes]]:
    """
    Give the schemas and manifests of this package to asdf.

    Returns
    -------
    list of collections.abc.Mapping
        From the address of a schema or manifest to its text.
    """
    folder = resources.files("spalipy_astro.io.asdf")
    return [
        DirectoryResourceMapping(folder / kind, f"asdf://spalipy-astro.org/{kind}/")
        for kind in ("schemas", "manifests")
    ]
