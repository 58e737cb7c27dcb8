"""The work of ``align-fits`` on one source, or on several extensions of it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from astropy.nddata import CCDData

from spalipy_astro._checks import frame_of, plane_of
from spalipy_astro._files import refuse_existing, require_folder, whole_file
from spalipy_astro.alignment import Alignment
from spalipy_astro.batch import check_matched, figures_of, stem_of
from spalipy_astro.catalogs import epoch_of
from spalipy_astro.commands._arguments import KEPT, extensions, find_options, method
from spalipy_astro.commands._console import Console
from spalipy_astro.commands._grid import drizzle_of, grid_of, pixels_of
from spalipy_astro.commands._night import levels_of
from spalipy_astro.commands._outputs import check_figure, check_page
from spalipy_astro.commands._run import UsageError
from spalipy_astro.commands._sky import on_its_window, sky_options, write_wcs
from spalipy_astro.commands._template import Template, template_of
from spalipy_astro.io import (
    Extension,
    chip_of,
    image_hdus,
    read_image,
    read_mask,
    read_uncertainty,
    to_hdus,
    write_hdus,
)
from spalipy_astro.registration import StarFrame, find_alignment, open_side, prepare

__all__ = ["align_one"]


class _Aligned(NamedTuple):
    """
    A source, or one extension of it, that has been aligned.

    Attributes
    ----------
    label : str
        What to call it.
    mark : str
        What tells the names of its files from those of other extensions.
    image : CCDData
        The source.
    template : Template or None
        None where a stored alignment is applied.
    alignment : Alignment
    result : CCDData
        The source on the grid that is asked for.
    """

    label: str
    mark: str
    image: CCDData
    template: Template | None
    alignment: Alignment
    result: CCDData


def align_one(options: argparse.Namespace, console: Console) -> None:
    """Align one source, or each of several extensions of it."""
    source = options.source_fits[0]
    output = Path(options.output_filename)
    if _is_folder(options.output_filename):
        output.mkdir(parents=True, exist_ok=True)
        output /= f"{stem_of(source)}_aligned.fits"
    units = _units(options.source_ext, source)
    marks = [""] if len(units) == 1 else [f"-{k}" for k in range(1, len(units) + 1)]
    transforms = [_marked(options.transform, mark) for mark in marks if options.transform]
    for path in [output, *transforms]:
        refuse_existing(path, overwrite=options.overwrite)
        require_folder(path)
    for mark in marks:
        if options.plot:
            check_figure("--plot", _marked(options.plot, mark), overwrite=options.overwrite)
        if options.report:
            check_page("--report", _marked(options.report, mark), overwrite=options.overwrite)
    find = find_options(options)
    templates = _templates(options, find, len(units))
    hdus: list[Any] = []
    rows: list[dict[str, Any]] = []
    solved: list[tuple[Extension | None, Alignment]] = []
    trouble: list[Exception] = []
    for number, (unit, mark) in enumerate(zip(units, marks, strict=True), 1):
        image = _source(options, unit)
        template = templates(number - 1)
        alignment = _alignment(options, image, template, find)
        aligned, weights = _resampled(options, image, alignment)
        name = str(image.header.get("EXTNAME") or "SCI") if mark else None
        hdus += to_hdus(aligned, name=name, ver=number, weights=weights)
        solved.append((unit, alignment))
        label = source if unit is None else f"{source}[{unit}]"
        done = _Aligned(label, mark, image, template, alignment, aligned)
        try:
            _save(options, done)
        except Exception as error:  # whatever it is, the image must be written first
            trouble.append(error)
        given = {name: value for name, value in figures_of(alignment).items() if value == value}
        rows.append({"source": label, "status": "ok", "reason": "", **given})
        if options.verbose:
            console.say(str(alignment.summary()))
    with whole_file(output, overwrite=options.overwrite) as part:
        write_hdus(hdus, part)
    if options.write_wcs:
        try:
            write_wcs(options, solved)
        except Exception as error:  # the image is written, and it is told first
            trouble.append(error)
    for row in rows:
        console.frame({**row, "output": os.fspath(output)})
    if trouble:
        raise trouble[0]


def _is_folder(name: str) -> bool:
    return name.endswith(("/", os.sep)) or Path(name).is_dir()


def _units(text: str | None, path: str) -> list[Extension | None]:
    """Return the extensions that an option names of a file."""
    return list(image_hdus(path)) if text == "all" else extensions(text)


def _templates(
    options: argparse.Namespace, find: dict[str, Any], number: int
) -> Callable[[int], Template | None]:
    """Return what gives the template of each extension of the source: one for all, or its own."""
    if options.apply:
        return lambda _: None
    units = _units(options.template_ext, options.template_fits or "")
    if len(units) == 1:
        one = template_of(options, find, units[0])
        return lambda _: one
    if len(units) != number:
        raise UsageError(
            f"--template-ext names {len(units)} extensions and --source-ext {number}: chips are "
            "aligned one to one, or all to one extension of the template"
        )
    return lambda k: template_of(options, find, units[k])


def _marked(path: str, mark: str) -> Path:
    """Put a mark before the suffix of a file name."""
    return Path(path).with_name(f"{Path(path).stem}{mark}{Path(path).suffix}")


def _source(options: argparse.Namespace, unit: Extension | None) -> CCDData:
    """Read the source with mask and uncertainty."""
    flags = {"ignore_flags": options.ignore_flags}
    mask = None
    if options.mask is not None:
        mask = read_mask(options.mask, hdu=chip_of(options.mask, unit), **flags)
    image = read_image(options.source_fits[0], hdu=unit, mask=mask, **flags)
    if options.uncertainty is not None:
        chip = chip_of(options.uncertainty, unit)
        image.uncertainty = read_uncertainty(options.uncertainty, hdu=chip)
    return image


def _alignment(
    options: argparse.Namespace, image: CCDData, template: Template | None, find: dict[str, Any]
) -> Alignment:
    """Find or read the alignment."""
    if template is None:
        return Alignment.read(options.apply)
    source: CCDData | StarFrame = image
    if options.source_cat:
        select = find.get("select")
        stars = prepare(open_side(options.source_cat, name="source"), name="source", select=select)
        source = replace(stars, shape=frame_of(image.shape), wcs=image.wcs)
    if template.on_sky:
        sky = sky_options(options)
        if sky["epoch"] is None:
            sky["epoch"] = epoch_of(image)  # which stars of a catalog do not have
        found = find_alignment(source, template.frame, **find, **sky)
        alignment = on_its_window(found, options.output_shape)
    else:
        alignment = find_alignment(source, template.frame, **find)
    check_matched(alignment.summary(), options.min_n_match)
    return alignment


def _resampled(
    options: argparse.Namespace, image: CCDData, alignment: Alignment
) -> tuple[CCDData, Any]:
    """Put the source on the grid that is asked for; of drizzle there is a weight map, too."""
    shape, pixels = options.output_shape, pixels_of(options)
    if "wcs" in pixels or grid_of(options) != "template":
        shape = None
    elif shape is None and alignment.template_shape is None:
        shape = frame_of(image.shape)
    drizzled = method(options) == "drizzle"
    found = alignment.resample(
        image,
        method=method(options),
        conserve_flux=KEPT[options.keep],
        fill_value=options.cval,
        shape=shape,
        output=grid_of(options),
        scale=pixels.get("grid_scale", 1),
        wcs=pixels.get("wcs"),
        return_weights=drizzled,
        **drizzle_of(options),
        **levels_of(options),
    )
    return found if drizzled else (found, None)


def _save(options: argparse.Namespace, done: _Aligned) -> None:
    """Write the alignment, its figure and its page where they are asked for."""
    if options.transform:
        path = _marked(options.transform, done.mark)
        done.alignment.write(path, overwrite=options.overwrite)
    if options.plot:
        _draw(options, done)
    if options.report:
        _report(options, done)


def _draw(options: argparse.Namespace, done: _Aligned) -> None:
    """Draw the alignment."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("--plot needs matplotlib: pip install matplotlib") from error
    figure = done.alignment.plot(**_shown(options, done))
    with whole_file(_marked(options.plot, done.mark), overwrite=options.overwrite) as part:
        # told the format, matplotlib does not add a suffix to a name that has none
        figure.savefig(part, dpi=150, format=part.suffix[1:] or "png")
    pyplot.close(figure)


def _report(options: argparse.Namespace, done: _Aligned) -> None:
    """Write the page about the alignment."""
    onto = options.template_fits or options.template_cat or options.apply
    done.alignment.report(
        _marked(options.report, done.mark),
        **_shown(options, done),
        title=f"{done.label} on {onto}",
        overwrite=options.overwrite,
    )


def _shown(options: argparse.Namespace, done: _Aligned) -> dict[str, CCDData]:
    """Return the source, the template and, if it is on the same grid, the aligned source."""
    shown = {"source": plane_of(done.image)}
    if done.template is None or done.template.image is None:
        return shown
    template = done.template.image
    shown["template"] = plane_of(template)
    same = frame_of(done.result.shape) == frame_of(template.shape)
    if same and grid_of(options) == "template" and not options.wcs and options.grid_scale == 1:
        shown["aligned"] = plane_of(done.result)
    return shown
