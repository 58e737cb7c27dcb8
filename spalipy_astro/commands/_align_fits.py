"""
The console scripts ``align-fits`` and ``align-fits-simple``: arguments in, files out.

Their options are those of spalipy 3.5 and a few more. The exit status is 0 if all went well, 1 if
the work failed (for one of several sources, too), 2 if the command was not understood.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from astropy.nddata import CCDData, StdDevUncertainty

from spalipy_astro._files import refuse_existing, whole_file
from spalipy_astro.alignment import Alignment
from spalipy_astro.batch import align_many, check_matched, stem_of
from spalipy_astro.commands._arguments import (
    WITHOUT_EFFECT,
    UsageError,
    check,
    extension,
    extensions,
    find_options,
    is_batch,
    method,
    parser_of_align_fits,
    parser_of_align_fits_simple,
)
from spalipy_astro.errors import AlignmentError
from spalipy_astro.io import Extension, image_hdus, read_image, read_plane, to_hdus, write_hdus
from spalipy_astro.registration import StarFrame, find_alignment, prepare

__all__ = ["align_fits", "align_fits_simple"]


def align_fits(arguments: Sequence[str] | None = None) -> int:
    """
    Run ``align-fits``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` by default.

    Returns
    -------
    int
        The exit status.
    """
    parser = parser_of_align_fits()
    return _run(parser, parser.parse_intermixed_args(arguments))


def align_fits_simple(arguments: Sequence[str] | None = None) -> int:
    """
    Run ``align-fits-simple``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` by default.

    Returns
    -------
    int
        The exit status.
    """
    parser = parser_of_align_fits_simple()
    # what it has no option for is as align-fits has it by default
    defaults = vars(parser_of_align_fits().parse_intermixed_args(["source", "output"]))
    return _run(parser, parser.parse_args(arguments, argparse.Namespace(**defaults)))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Do the work and turn what goes wrong into an exit status."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(options.verbose, 2)]
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("spalipy_astro").setLevel(level)
    for name, _, instead in WITHOUT_EFFECT:
        if getattr(options, name[2:].replace("-", "_"), None) is not None:
            print(f"note: {name} has no effect: {instead}", file=sys.stderr)
    try:
        check(options)
        if is_batch(options):
            return _align_several(options)
        _align_one(options)
    except UsageError as error:
        parser.error(str(error))
    except (AlignmentError, ImportError, MemoryError, OSError, ValueError) as error:
        print(f"{parser.prog}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _is_folder(name: str) -> bool:
    return name.endswith(("/", os.sep)) or Path(name).is_dir()


@dataclass(frozen=True)
class _Template:
    """The template's stars on its grid, and its image where there is one."""

    frame: StarFrame
    image: CCDData | None


def _template(options: argparse.Namespace, find: dict[str, Any]) -> _Template:
    """Read the template."""
    detection = {key: find[key] for key in ("threshold", "finder", "select") if key in find}
    image = None
    if options.template_fits:
        image = read_image(options.template_fits, hdu=extension(options.template_ext))
    if not options.template_cat:
        return _Template(prepare(image, name="template", **detection), image)
    frame = prepare(options.template_cat, name="template", **detection)
    if image is not None:
        frame = replace(frame, shape=image.shape, wcs=image.wcs)
    return _Template(frame, image)


def _align_several(options: argparse.Namespace) -> int:
    """Align several sources; return the exit status."""
    if options.report:
        refuse_existing(options.report, overwrite=options.overwrite)
    find = find_options(options)
    template = _template(options, find)
    shape = options.output_shape
    if template.frame.shape is None and shape is None:
        first = options.source_fits[0]
        shape = read_image(first, hdu=extension(options.source_ext)).shape
    table = align_many(
        options.source_fits,
        template.frame,
        output=options.output_filename,
        overwrite=options.overwrite,
        grid="union" if options.preserve_footprints else "template",
        shape=shape,
        method=method(options),
        fill_value=options.cval,
        hdu=extension(options.source_ext),
        source_mask=options.mask,
        min_matched=options.min_n_match,
        n_workers=options.workers,
        **find,
    )
    for row in table:
        if row["status"] == "ok":
            done = " (done before)" if row["resumed"] else ""
            figures = f"{row['n_matched']} stars, rms {row['rms']:.3f} px"
            print(_printable(f"{row['source']} -> {row['aligned']}: {figures}{done}"))
        else:
            print(f"{row['source']}: {row['reason']}", file=sys.stderr)
    failed = int((table["status"] == "failed").sum())
    if failed:
        print(f"{failed} of {len(table)} sources were not aligned", file=sys.stderr)
    if options.report:
        from spalipy_astro.report import report_sequence

        title = f"{len(table)} frames on {options.template_fits or options.template_cat}"
        report_sequence(table, options.report, title=title, overwrite=options.overwrite)
    return 1 if failed else 0


def _align_one(options: argparse.Namespace) -> None:
    """Align one source, or each of several extensions of it."""
    source = options.source_fits[0]
    output = Path(options.output_filename)
    if _is_folder(options.output_filename):
        output.mkdir(parents=True, exist_ok=True)
        output /= f"{stem_of(source)}_aligned.fits"
    elif not output.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {os.fspath(output.parent)!r} to write to")
    units = extensions(options.source_ext)
    if options.source_ext == "all":
        units = list(image_hdus(source))
    marks = [""] if len(units) == 1 else [f"-{k}" for k in range(1, len(units) + 1)]
    results = [output]
    others = (options.transform, options.plot, options.report)
    results += [_marked(path, mark) for path in others if path for mark in marks]
    for path in results:
        refuse_existing(path, overwrite=options.overwrite)
    find = find_options(options)
    template = None if options.apply else _template(options, find)
    hdus: list[Any] = []
    trouble: list[Exception] = []
    for number, (unit, mark) in enumerate(zip(units, marks, strict=True), 1):
        image = _source(options, unit)
        alignment = _alignment(options, image, template, find)
        aligned = _resampled(options, image, alignment)
        name = str(image.header.get("EXTNAME") or "SCI") if mark else None
        hdus += to_hdus(aligned, name=name, ver=number)
        label = source if unit is None else f"{source}[{unit}]"
        try:
            _save(options, alignment, mark, image, aligned, template)
            if options.report:
                _report(options, alignment, mark, image, aligned, template, label)
        except Exception as error:  # whatever it is, the image must be written first
            trouble.append(error)
        s = alignment.summary()
        words = f"{label} -> {output}: {s['n_matched']} stars, rms {s['rms']:.3f} px"
        print(_printable(words))
        if options.verbose:
            print(s)
    with whole_file(output, overwrite=options.overwrite) as part:
        write_hdus(hdus, part)
    if trouble:
        raise trouble[0]


def _printable(words: str) -> str:
    """Escape the bytes of file names that are no text in the file system's encoding."""
    return words.encode("utf-8", "backslashreplace").decode("utf-8")


def _marked(path: str, mark: str) -> Path:
    """Put a mark before the suffix of a file name."""
    return Path(path).with_name(f"{Path(path).stem}{mark}{Path(path).suffix}")


def _source(options: argparse.Namespace, unit: Extension | None) -> CCDData:
    """Read the source with mask and uncertainty."""
    mask = None if options.mask is None else read_plane(options.mask) != 0
    image = read_image(options.source_fits[0], hdu=unit, mask=mask)
    if options.uncertainty is not None:
        image.uncertainty = StdDevUncertainty(read_plane(options.uncertainty))
    return image


def _alignment(
    options: argparse.Namespace, image: CCDData, template: _Template | None, find: dict[str, Any]
) -> Alignment:
    """Find or read the alignment."""
    if template is None:
        return Alignment.read(options.apply)
    source: CCDData | StarFrame = image
    if options.source_cat:
        select = find.get("select")
        stars = prepare(options.source_cat, name="source", select=select)
        source = replace(stars, shape=image.shape, wcs=image.wcs)
    alignment = find_alignment(source, template.frame, **find)
    check_matched(alignment.summary(), options.min_n_match)
    return alignment


def _resampled(options: argparse.Namespace, image: CCDData, alignment: Alignment) -> CCDData:
    """Put the source on the grid that is asked for."""
    shape = options.output_shape
    if options.preserve_footprints:
        shape = None
    elif shape is None and alignment.template_shape is None:
        shape = image.shape
    return alignment.resample(
        image,
        method=method(options),
        fill_value=options.cval,
        shape=shape,
        output="union" if options.preserve_footprints else "template",
    )


def _save(
    options: argparse.Namespace,
    alignment: Alignment,
    mark: str,
    image: CCDData,
    aligned: CCDData,
    template: _Template | None,
) -> None:
    """Write the alignment and its figure where they are asked for."""
    if options.transform:
        alignment.write(_marked(options.transform, mark), overwrite=options.overwrite)
    if options.plot:
        _draw(options, alignment, mark, image, aligned, template)


def _draw(
    options: argparse.Namespace,
    alignment: Alignment,
    mark: str,
    image: CCDData,
    aligned: CCDData,
    template: _Template | None,
) -> None:
    """Draw the alignment."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("--plot needs matplotlib: pip install matplotlib") from error
    shown = {"source": image, **_on_the_template(options, aligned, template)}
    figure = alignment.plot(**shown)
    with whole_file(_marked(options.plot, mark), overwrite=options.overwrite) as part:
        # told the format, matplotlib does not add a suffix to a name that has none
        figure.savefig(part, dpi=150, format=part.suffix[1:] or "png")
    pyplot.close(figure)


def _on_the_template(
    options: argparse.Namespace, aligned: CCDData, template: _Template | None
) -> dict[str, CCDData]:
    """Return the template and, if it is on the same grid, the aligned source."""
    if template is None or template.image is None:
        return {}
    shown = {"template": template.image}
    if aligned.shape == template.image.shape and not options.preserve_footprints:
        shown["aligned"] = aligned
    return shown


def _report(
    options: argparse.Namespace,
    alignment: Alignment,
    mark: str,
    image: CCDData,
    aligned: CCDData,
    template: _Template | None,
    label: str,
) -> None:
    """Write the page about the alignment."""
    alignment.report(
        _marked(options.report, mark),
        source=image,
        **_on_the_template(options, aligned, template),
        title=f"{label} on {options.template_fits or options.template_cat or options.apply}",
        overwrite=options.overwrite,
    )
