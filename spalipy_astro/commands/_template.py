"""The template of ``align-fits``: an image, a catalog, or both."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any, NamedTuple

from astropy.nddata import CCDData

from spalipy_astro._checks import frame_of
from spalipy_astro.catalogs import as_table, is_sky_catalog
from spalipy_astro.commands._arguments import is_batch
from spalipy_astro.commands._run import UsageError
from spalipy_astro.commands._sky import sky_options
from spalipy_astro.io import Extension, open_image
from spalipy_astro.registration import open_side, prepare

__all__ = ["Template", "template_of"]


class Template(NamedTuple):
    """The template's stars on its grid, and its image where there is one."""

    frame: Any
    """A `StarFrame`, or the table of a catalog of the sky."""
    image: CCDData | None
    on_sky: bool = False


def template_of(
    options: argparse.Namespace, find: dict[str, Any], unit: Extension | None
) -> Template:
    """Read the template."""
    detection = {key: find[key] for key in ("threshold", "finder", "select") if key in find}
    image = None
    if options.template_fits:
        image = open_image(
            options.template_fits, name="template", hdu=unit, ignore_flags=options.ignore_flags
        )
    if not options.template_cat:
        return Template(prepare(image, name="template", **detection), image)
    catalog = open_side(options.template_cat, name="template")
    if is_sky_catalog(catalog):
        if image is not None or is_batch(options):
            raise UsageError(
                f"{options.template_cat} is a catalog of the sky, which is a template by itself "
                "and for one source; align that, and others to the aligned image with -tf"
            )
        return Template(as_table(catalog, name="template"), None, on_sky=True)
    given = [name for name, value in sky_options(options).items() if value is not None]
    if given:
        raise UsageError(
            f"--{given[0].replace('_', '-')} is for catalogs of the sky; {options.template_cat} "
            "has positions in pixels"
        )
    frame = prepare(catalog, name="template", **detection)
    if image is not None:
        frame = replace(frame, shape=frame_of(image.shape), wcs=image.wcs)
    return Template(frame, image)
