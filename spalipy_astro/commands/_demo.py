"""
The command line: arguments in, files out.

The exit status is 0 if all went well, 1 if the work failed, 2 if the command was not understood.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from spalipy_astro._files import refuse_existing, whole_file
from spalipy_astro.errors import AlignmentError
from spalipy_astro.example import example_pair
from spalipy_astro.registration import find_alignment

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run ``python -m spalipy_astro``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` by default.

    Returns
    -------
    int
        The exit status.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (AlignmentError, ImportError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser; the function that does a command's work is its ``run``."""
    parser = argparse.ArgumentParser(
        prog="python -m spalipy_astro",
        description="Registration of astronomical images by their stars.",
        epilog="Exit status: 0 all went well, 1 the work failed, 2 the command was not understood.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="align the two frames that come with the package",
        description="Align the two real frames that come with the package and write "
        "aligned.fits, alignment.asdf and alignment.png.",
    )
    demo.add_argument(
        "outdir", type=Path, metavar="OUTDIR", help="folder to write to; created if needed"
    )
    demo.add_argument("--overwrite", action="store_true", help="replace files of an earlier run")
    demo.set_defaults(run=_demo)
    return parser


def _demo(options: argparse.Namespace) -> None:
    """Align the bundled pair and write what comes of it."""
    try:
        from matplotlib import pyplot

        from spalipy_astro import visualization
    except ImportError as error:
        raise ImportError("the figure needs matplotlib: pip install matplotlib") from error
    image, transform, figure = (
        options.outdir / name for name in ("aligned.fits", "alignment.asdf", "alignment.png")
    )
    options.outdir.mkdir(parents=True, exist_ok=True)
    for path in (image, transform, figure):
        refuse_existing(path, overwrite=options.overwrite)

    source, template = example_pair()
    print("Aligning two frames of the TrES-1 field, raw from the camera:")
    for name, frame in (("source", source), ("template", template)):
        ny, nx = frame.shape
        print(f"  {name:9s} {frame.header['DATE-OBS']}  {nx} x {ny} pixels")

    start = time.perf_counter()
    alignment = find_alignment(source, template)
    found = time.perf_counter()
    aligned = alignment.resample(source)
    done = time.perf_counter()
    print(f"\n{alignment.summary()}\n")
    print(f"Found in {found - start:.1f} s, resampled in {done - found:.1f} s.")

    with whole_file(image, overwrite=options.overwrite) as path:
        aligned.write(path)
    with whole_file(transform, overwrite=options.overwrite) as path:
        alignment.write(path)
    with whole_file(figure, overwrite=options.overwrite) as path:
        overview = visualization.plot_alignment(
            alignment, source=source, aligned=aligned, template=template
        )
        overview.savefig(path, dpi=150)
        pyplot.close(overview)

    print("\nWritten:")
    for path, meaning in (
        (image, "the source on the template's grid"),
        (transform, "the transform; Alignment.read gets it back"),
        (figure, "before and after, matched stars, residuals"),
    ):
        print(f"  {path.resolve()}  {meaning}")
