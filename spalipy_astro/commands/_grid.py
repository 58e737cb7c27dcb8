"""Options of ``align-fits`` for the grid of aligned images, and for drizzle."""

from __future__ import annotations

import argparse
from typing import Any

from spalipy_astro._choices import DRIZZLE_KERNELS
from spalipy_astro.commands._run import UsageError

__all__ = ["add_grid", "check_grid_options", "drizzle_of", "grid_of", "pixels_of"]


def add_grid(group: Any) -> None:
    """Add the options to a group."""
    add = group.add_argument
    add(
        "--intersection",
        action="store_true",
        help="cut the template's grid to the largest rectangle that all frames cover",
    )
    add(
        "--grid-scale",
        type=float,
        default=1.0,
        metavar="N",
        help="pixels of the aligned image per pixel of the template along each axis, as 2 for a "
        "grid twice as fine (default: %(default)g)",
    )
    add(
        "--wcs",
        metavar="GRID",
        help="FITS file, or header as text, whose WCS and size the aligned image gets; the "
        "template must have a WCS",
    )
    add(
        "--pixfrac",
        type=float,
        metavar="SIZE",
        help="with --method drizzle: size of the drops that pixels shrink to, 0 to 1 (default: 1)",
    )
    add(
        "--kernel",
        choices=DRIZZLE_KERNELS,
        help="with --method drizzle: shape of the drops (default: square)",
    )
    add(
        "--weights",
        choices=("ivar",),
        help="with --method drizzle: weigh pixels by 1 / variance (default: all alike). Drizzled "
        "images have an extension WHT, the weight map",
    )


def check_grid_options(options: argparse.Namespace) -> None:
    """Raise UsageError for options that do not go together."""
    if options.intersection and options.preserve_footprints:
        raise UsageError("--intersection and --preserve-footprints are two grids; give one of them")
    if not 0 < options.grid_scale < float("inf"):
        raise UsageError(f"--grid-scale is a positive number; got {options.grid_scale:g}")
    if options.wcs:
        for name in ("intersection", "preserve_footprints"):
            if getattr(options, name):
                raise UsageError(
                    f"--wcs is a grid of its own; leave --{name.replace('_', '-')} out"
                )
        if options.grid_scale != 1:
            raise UsageError("--wcs is a grid of its own; leave --grid-scale out")
    for name in drizzle_of(options):
        if options.method != "drizzle":
            raise UsageError(f"--{name} is for --method drizzle")


def grid_of(options: argparse.Namespace) -> str:
    """Return the grid that is asked for: template, union or intersection."""
    if options.preserve_footprints:
        return "union"
    return "intersection" if options.intersection else "template"


def pixels_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return ``grid_scale`` or ``wcs`` of `align_many`."""
    if not options.wcs:
        return {"grid_scale": options.grid_scale}
    from spalipy_astro.io import read_grid  # takes a while to import

    wcs, shape = read_grid(options.wcs)
    shape = options.output_shape or shape
    if shape is None:
        raise UsageError(f"{options.wcs} does not tell the size of the image; add --output-shape")
    return {"wcs": (wcs, shape)}


def drizzle_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return ``pixfrac``, ``kernel`` and ``weights`` of `align_many`, where they are given."""
    given = {name: getattr(options, name) for name in ("pixfrac", "kernel", "weights")}
    return {name: value for name, value in given.items() if value is not None}
