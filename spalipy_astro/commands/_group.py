"""The work of ``align-group``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from spalipy_astro._files import free_name, refuse_existing, require_folder, whole_file
from spalipy_astro.alignment import Alignment
from spalipy_astro.batch import OWNER, expand, is_made, stem_of
from spalipy_astro.commands._align_group import COADD, GROUP, TABLE
from spalipy_astro.commands._arguments import KEPT, extension, selection_of
from spalipy_astro.commands._console import Console
from spalipy_astro.commands._outputs import check_page
from spalipy_astro.commands._run import UsageError
from spalipy_astro.groups import GroupAlignment
from spalipy_astro.groups import align_group as solve
from spalipy_astro.io import read_image, to_hdus, write_hdus

__all__ = ["work"]

_OWNER = "align-group", "what has made it"


def work(options: argparse.Namespace, console: Console) -> int:
    """Do what the options ask for; return the exit status."""
    folder = Path(options.output)
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"-o is the folder to write to; {options.output} is a file")
    files = _files(options.files)
    # a pattern may also stand for what an earlier run has written to the folder
    here = folder.absolute()
    made = {f for f in files if Path(f).absolute().parent == here and is_made(f, by=_OWNER[0])}
    kept = [file for file in files if file not in made]
    if len(kept) < len(files):
        console.note(f"{len(files) - len(kept)} files that an earlier run has made are left out")
    files, names = kept, _names(kept)
    if len(files) < 2 and options.source_ext != "all":
        raise UsageError(f"a group takes at least two files; {len(files)} given")
    reference = _reference(options.reference, files)
    aligned = [folder / f"{name}_aligned.fits" for name in names]
    _refuse(options, folder, files, aligned)
    if options.workers < 1:
        raise UsageError(f"--workers is a number from 1; got {options.workers}")
    camera: Any = options.camera
    if camera not in (None, "shared"):
        camera = Alignment.read(camera)
    folder.mkdir(parents=True, exist_ok=True)
    require_folder(folder / GROUP)

    def tell(done: int, total: int | None, row: Mapping[str, Any]) -> None:
        what = "pairs of frames" if row.get("step") == "pairs" else "stars of frames"
        console.step(what, done, total)

    group = solve(
        files,
        reference=reference,
        camera=camera,
        hdu=extension(options.source_ext),
        n_workers=options.workers,
        progress=tell,
        threshold=options.sep_thresh,
        finder=options.finder,
        spline_order=options.spline_order,
        **selection_of(options),
    )
    group.write(folder / GROUP, overwrite=options.overwrite)
    written = _write_aligned(options, console, group, files, aligned)
    table = group.table.copy()
    table["aligned"] = [str(path) for path in written]
    with (
        whole_file(folder / TABLE, overwrite=options.overwrite) as part,
        open(part, "w", encoding="utf-8", newline="") as stream,  # names of files, in any locale
    ):
        table.write(stream, format="ascii.ecsv")
    n_parts = int(table["component"].max()) + 1
    if n_parts > 1:
        console.note(
            f"the frames form {n_parts} parts that do not overlap, each on a grid of its own"
        )
    if not options.no_coadd:
        for component in range(n_parts):
            _write_coadd(options, console, group, files, component)
    if options.report:
        group.report(
            options.report,
            images=files,
            hdu=extension(options.source_ext),
            title=f"{len(table)} frames, {os.path.basename(files[0])} and others",
            overwrite=options.overwrite,
        )
    failed = int((table["component"] < 0).sum())
    if failed:
        console.error(f"{failed} of {len(table)} frames could not be connected")
    return 1 if failed else 0


def _files(given: Sequence[str]) -> list[str]:
    """Replace folders and patterns by the files that they stand for."""
    files: list[str] = []
    for name in given:
        found = expand(name, name="FILE")
        files += [name] if found is None else found
    return files


def _names(files: Sequence[str]) -> list[str]:
    """Return a name for each file, which no other has."""
    stems = [stem_of(file) for file in files]
    count: dict[str, int] = {}
    for stem in stems:
        count[stem.lower()] = count.get(stem.lower(), 0) + 1
    names: list[str] = []
    taken: set[str] = set()
    for file, stem in zip(files, stems, strict=True):
        base = stem
        if count[stem.lower()] > 1:  # of files in several folders
            base = f"{stem}-{os.path.basename(os.path.dirname(os.path.abspath(file)))}"
        names.append(free_name(base, taken))
    return names


def _reference(text: str, files: Sequence[str]) -> int | str:
    """Return the number of the file that is named."""
    if text in files:
        return files.index(text)
    same = [k for k, file in enumerate(files) if os.path.abspath(file) == os.path.abspath(text)]
    if same:
        return same[0]
    if text == "best":
        return text
    if text.isdecimal() and int(text) < len(files):
        return int(text)
    raise UsageError(
        f"--reference is one of the files, or its number from 0 to {len(files) - 1}; got {text}"
    )


def _refuse(
    options: argparse.Namespace, folder: Path, files: Sequence[str], aligned: Sequence[Path]
) -> None:
    """Raise for files to be written that may not be: those that exist, and the frames."""
    results = [folder / GROUP, folder / TABLE]
    results += [] if options.no_images else aligned
    results += [] if options.no_coadd else [folder / COADD]
    results += [Path(options.report)] if options.report else []
    own = {os.path.realpath(file) for file in files}
    for path in results:
        if os.path.realpath(path) in own:
            raise UsageError(f"{path} is one of the frames, never replaced: give another -o")
        refuse_existing(path, overwrite=options.overwrite)
    if not (options.no_coadd or options.overwrite):
        # how many parts there will be nobody knows yet
        for path in sorted(folder.glob(f"{Path(COADD).stem}-[0-9]*.fits")):
            refuse_existing(path, overwrite=False)
    if options.report:
        if os.path.realpath(options.report) in {os.path.realpath(path) for path in results[:-1]}:
            raise UsageError(f"--report is {options.report}, which is a file of the group's own")
        check_page("--report", options.report, overwrite=options.overwrite)


def _rows_by_file(group: GroupAlignment) -> Iterator[list[int]]:
    """Yield the rows of each file: one, or one for each of its images."""
    if "hdu" not in group.table.colnames:
        yield from ([k] for k in range(len(group.table)))
        return
    rows: list[int] = []
    for k, (source, hdu) in enumerate(group.table["source", "hdu"].iterrows()):
        before = None if not rows else (group.table["source"][k - 1], group.table["hdu"][k - 1])
        if before is not None and (source != before[0] or hdu <= before[1]):
            yield rows
            rows = []
        rows.append(k)
    yield rows


def _write_aligned(
    options: argparse.Namespace,
    console: Console,
    group: GroupAlignment,
    files: Sequence[str],
    paths: Sequence[Path],
) -> list[Path | str]:
    """Write the aligned images, tell of each frame, and return the file of each, "" for none."""
    made: list[Path | str] = [""] * len(group.table)
    n_parts = int(group.table["component"].max(initial=-1)) + 1
    grids = [group.canvas(component)[:2] for component in range(n_parts)]
    done = 0
    for file, path, rows in zip(files, paths, _rows_by_file(group), strict=True):
        hdus: list[Any] = []
        for k in rows:
            alignment = group.alignments[k]
            if options.no_images or alignment is None or alignment.source_shape is None:
                continue
            made[k] = path
            grid = group.window(k) if options.trim else grids[group.table["component"][k]]
            image = _aligned(options, group, k, file, grid)
            single = len(rows) == 1
            name = None if single else str(image.header.get("EXTNAME") or "SCI")
            hdus += to_hdus(image, name=name, ver=1 if single else rows.index(k) + 1)
        if hdus:
            with whole_file(path, overwrite=options.overwrite) as part:
                write_hdus(hdus, part)
        for k in rows:
            done += 1
            row = {name: group.table[name][k] for name in group.table.colnames}
            row |= {"aligned": str(made[k]), "asdf": os.path.join(options.output, GROUP)}
            console.frame(row, done, len(group.table))
    return made


def _aligned(
    options: argparse.Namespace,
    group: GroupAlignment,
    k: int,
    file: str,
    grid: tuple[tuple[int, int], tuple[int, int]],
) -> Any:
    """Return a frame on a grid of shape (ny, nx) that begins at an offset (x0, y0)."""
    alignment = group.alignments[k]
    assert alignment is not None
    shape, offset = grid
    hdu = extension(options.source_ext)
    if "hdu" in group.table.colnames:
        hdu = int(group.table["hdu"][k])
    image = alignment.resample(
        read_image(file, hdu=hdu),
        shape=shape,
        offset=offset,
        method=options.method or "lanczos3",
        conserve_flux=KEPT[options.keep],
        fill_value=options.cval,
        # nothing tells the flux scale of a chip that the geometry has placed
        scale_flux=options.scale_flux and len(alignment.matches) > 0,
    )
    image.header[OWNER] = _OWNER
    return image


def _write_coadd(
    options: argparse.Namespace,
    console: Console,
    group: GroupAlignment,
    files: Sequence[str],
    component: int,
) -> None:
    """Combine the frames of a part, where they are images."""
    members = np.flatnonzero(np.asarray(group.table["component"]) == component)
    if any(group.alignments[k].source_shape is None for k in members):  # type: ignore[union-attr]
        console.note(f"part {component} has catalogs among its frames, which cannot be combined")
        return
    canvas, footprint = group.coadd(
        files,
        combine=options.combine,
        match_background=options.match_background,
        scale_flux=options.scale_flux,
        component=component,
        hdu=extension(options.source_ext),
        method=options.method or "lanczos3",
        conserve_flux=KEPT[options.keep],
    )
    canvas.data[np.isnan(canvas.data)] = options.cval
    canvas.header[OWNER] = _OWNER
    mark = f"-{component}" if component else ""
    path = Path(options.output) / f"{Path(COADD).stem}{mark}.fits"
    hdus = to_hdus(canvas)
    hdus.append(fits.ImageHDU(footprint.astype(np.int16), name="FOOTPRINT"))
    with whole_file(path, overwrite=options.overwrite) as part:
        write_hdus(hdus, part)
    ny, nx = footprint.shape
    console.say(f"{len(members)} frames -> {os.path.relpath(path)}, {nx} x {ny} px")
