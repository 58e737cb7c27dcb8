"""The work of ``align-fits`` on several sources."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

from spalipy_astro._checks import frame_of
from spalipy_astro.batch import align_many
from spalipy_astro.commands._arguments import KEPT, extension, find_options, method
from spalipy_astro.commands._console import Console
from spalipy_astro.commands._grid import drizzle_of, grid_of, pixels_of
from spalipy_astro.commands._night import night_options, write_stack
from spalipy_astro.commands._outputs import check_page
from spalipy_astro.commands._template import template_of
from spalipy_astro.io import image_hdus, read_image

__all__ = ["align_several"]


def align_several(options: argparse.Namespace, console: Console) -> int:
    """Align several sources; return the exit status."""

    def tell(done: int, total: int | None, row: Mapping[str, Any]) -> None:
        console.frame(row, done, total or len(options.source_fits))

    if options.report:
        check_page("--report", options.report, overwrite=options.overwrite)
    find = find_options(options)
    shape = options.output_shape
    template: Any = options.template_fits
    chips = options.source_ext == "all"
    best = template == "best" and not os.path.lexists("best")
    if not best and (not chips or options.template_cat):
        template = template_of(options, find, extension(options.template_ext)).frame
        if template.shape is None and shape is None:
            first = options.source_fits[0]
            unit = image_hdus(first)[0] if chips else extension(options.source_ext)
            shape = frame_of(read_image(first, hdu=unit).shape)
    table = align_many(
        options.source_fits,
        template,
        output=options.output_filename,
        overwrite=options.overwrite,
        grid=grid_of(options),
        **pixels_of(options),
        **drizzle_of(options),
        shape=shape,
        method=method(options),
        fill_value=options.cval,
        hdu=extension(options.source_ext),
        template_hdu=None if options.template_ext == "all" else extension(options.template_ext),
        source_mask=options.mask,
        ignore_flags=options.ignore_flags,
        conserve_flux=KEPT[options.keep],
        min_matched=options.min_n_match,
        n_workers=options.workers,
        progress=tell,
        **night_options(options),
        **find,
    )
    if best:
        console.say(f"template: {table.meta['template']}, {table.meta['template_reason']}")
    failed = int((table["status"] == "failed").sum())
    if failed:
        console.error(f"{failed} of {len(table)} sources were not aligned")
    elif console.shows_status:
        console.say(f"{len(table)} sources were aligned into {options.output_filename}")
    if options.stack:
        number = write_stack(options, table)
        console.say(f"{number} frames -> {options.stack}")
    if options.report:
        from spalipy_astro.report import report_sequence

        title = f"{len(table)} frames on {options.template_fits or options.template_cat}"
        report_sequence(table, options.report, title=title, overwrite=options.overwrite)
    return 1 if failed else 0
