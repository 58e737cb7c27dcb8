"""``python -m spalipy_astro``: the demo, and the scripts by names that no other package takes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from spalipy_astro._files import refuse_existing, whole_file
from spalipy_astro.commands._collector import imported
from spalipy_astro.commands._console import Console
from spalipy_astro.commands._run import Parser, run
from spalipy_astro.commands._start import align_fits, align_fits_simple, align_group

__all__ = ["main"]

_PROGRAM = "python -m spalipy_astro"
_SCRIPTS = {
    "align-fits": (align_fits, "align FITS images to a template"),
    "align-fits-simple": (align_fits_simple, "align one FITS image to another"),
    "align-group": (align_group, "align images that overlap each other, such as a mosaic"),
}


def main(arguments: Sequence[str] | None, *, prog: str) -> int:
    """Run ``python -m spalipy_astro``; return the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    for name, (script, _) in _SCRIPTS.items():
        if words[:1] == [name]:
            return script(words[1:], prog=f"{prog} {name}")
    parser = _parser(prog)
    options = parser.parse_args(words)
    return run(parser, options, options.run)


def _parser(prog: str = _PROGRAM) -> Parser:
    """Return the parser; the function that does a command's work is its ``run``."""
    parser = Parser(prog=prog, description="Registration of astronomical images by their stars.")
    quiet = {"verbose": 0, "quiet": False, "json": False, "log_file": None}
    parser.set_defaults(**quiet)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (_, meaning) in _SCRIPTS.items():
        commands.add_parser(
            name,
            help=meaning,
            description=f"The script {name}: takes its arguments and does what it does.",
            add_help=False,
        )
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


def _demo(options: argparse.Namespace, console: Console) -> int:
    """Align the bundled pair and write what comes of it; return the exit status."""
    from spalipy_astro.example import example_pair  # takes a while to import
    from spalipy_astro.registration import find_alignment

    try:
        from matplotlib import pyplot

        from spalipy_astro import visualization
    except ImportError as error:
        raise ImportError("the figure needs matplotlib: pip install matplotlib") from error
    imported()
    image, transform, figure = (
        options.outdir / name for name in ("aligned.fits", "alignment.asdf", "alignment.png")
    )
    options.outdir.mkdir(parents=True, exist_ok=True)
    for path in (image, transform, figure):
        refuse_existing(path, overwrite=options.overwrite)

    source, template = example_pair()
    console.say("Aligning two frames of the TrES-1 field, raw from the camera:")
    for name, frame in (("source", source), ("template", template)):
        ny, nx = frame.shape
        console.say(f"  {name:9s} {frame.header['DATE-OBS']}  {nx} x {ny} pixels")

    start = time.perf_counter()
    alignment = find_alignment(source, template)
    found = time.perf_counter()
    aligned = alignment.resample(source)
    done = time.perf_counter()
    console.say(f"\n{alignment.summary()}\n")
    console.say(f"Found in {found - start:.1f} s, resampled in {done - found:.1f} s.")

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

    console.say("\nWritten:")
    for path, meaning in (
        (image, "the source on the template's grid"),
        (transform, "the transform; Alignment.read gets it back"),
        (figure, "before and after, matched stars, residuals"),
    ):
        console.say(f"  {path.resolve()}  {meaning}")
    return 0
