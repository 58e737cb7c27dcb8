"""`align_group`: stars of all frames, links between them, one solution a component."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from inspect import signature
from typing import Any

import numpy as np
from astropy.modeling import Model
from astropy.nddata.bitmask import interpret_bit_flags
from astropy.table import QTable

from spalipy_astro._blas import one_blas_thread
from spalipy_astro._checks import check_hdu, check_names, checked_call
from spalipy_astro._workers import Told, check_progress, check_workers
from spalipy_astro.alignment import Alignment, error_over, provenance
from spalipy_astro.batch import list_sources
from spalipy_astro.catalogs import is_sky_catalog
from spalipy_astro.groups._cameras import Undetermined, labels_of, read_cameras, without_misfits
from spalipy_astro.groups._component import Component, solve_component
from spalipy_astro.groups._frames import find_frames
from spalipy_astro.groups._geometry import Lone
from spalipy_astro.groups._graph import Link, parts_of
from spalipy_astro.groups._layout import Labels
from spalipy_astro.groups._pairs import find_links
from spalipy_astro.groups._photometry import on_one_scale, quality_columns
from spalipy_astro.groups._result import GroupAlignment
from spalipy_astro.groups._sky import with_catalog
from spalipy_astro.groups._sources import Sheet, each_sheet, labels_of_chips
from spalipy_astro.groups._work import working
from spalipy_astro.io import OBSERVATORY, Extension
from spalipy_astro.registration import FindOptions, StarFrame

__all__ = ["align_group"]

log = logging.getLogger(__name__)

_OPTIONS = (
    *("threshold", "fwhm", "gain", "saturation", "finder", "select"),
    *("scale", "rotation", "parity", "spline_order"),
    *("position", "radius", "pixel_scale", "epoch"),
)
_UNMATCHED = "its stars could not be matched with those of any other frame."


@checked_call
@one_blas_thread()
def align_group(
    images: Iterable[Any],
    *,
    reference: Any = "best",
    camera: str | Alignment | Model | Sequence[Hashable] | None = None,
    chips: Sequence[Hashable] | None = None,
    exposures: Sequence[Hashable] | None = None,
    hdu: Extension | None = None,
    ignore_flags: Any = OBSERVATORY,
    flag_name_map: Any = None,
    n_workers: int | None = 1,
    executor: str | Executor = "processes",
    client: Any = None,
    progress: bool | Told | None = None,
    **options: Any,
) -> GroupAlignment:
    """
    Align frames that overlap each other, without a template and without a WCS.

    Parameters
    ----------
    images : iterable, folder or pattern
        Images, catalogs of their stars, or paths of either, as for `align_many`. Pixels are needed
        for the detection only: one image is read at a time, and none is kept.
    reference : int, "best" or a catalog of the sky, optional
        The frame whose pixels are the grid of its component; by default the one that is connected
        best with all others. Or a catalog of sky positions, as `find_alignment` takes it as a
        template: every frame then gets an absolute WCS, the grid is a tangential plane, north up,
        with pixels of the frames' size, and frames that do not overlap are related over the sky.
        It takes part in the solution as a frame that does not move.
    camera : "shared", Alignment, `~astropy.modeling.Model` or sequence, optional
        ``"shared"`` if all frames have the distortion of one camera; or a label per frame, the
        same for those of one camera. Dithered frames then show the camera's distortion itself, but
        for an affine part, and the grid is the reference's without it: ``cameras`` of the result.
        Or such a distortion, from an earlier group, or any model of px to px without distortion,
        for all frames or one (or a label) per frame: it is not solved for, and frames need few
        stars. By default each frame has its own distortion relative to the reference.
    chips, exposures : sequence, optional
        Labels per frame of the chip and of the exposure, both or none: chips have a fixed
        geometry, and each exposure has one pointing. Each chip has its own distortion. An image
        of such a chip that has no star in common with any other, or no stars at all, is placed by
        the geometry that other exposures show and the pointing that its other chips show.
    hdu : int, str or (str, int), optional
        Extension of files; by default the first image. With ``"all"`` every image of a file is one
        of the group, with a row of its own and a column ``hdu``. If a file has several, they are
        the chips of a camera: the name and version of an extension (or its number, where names do
        not differ) are the label of the chip, and each file is an exposure, unless ``chips`` and
        ``exposures`` say otherwise. All labels may then be given for each image or for each file.
    ignore_flags, flag_name_map : optional
        Which flags in files do not make a pixel bad, as for `find_alignment`. What is made of the
        group, such as `GroupAlignment.coadd`, takes the same for bad.
    n_workers : int, optional
        How many images, and pairs of them, to work on at a time; 1 by default, None for as many as
        there are cores. The result is the same, bit for bit.
    executor : {"processes", "threads"} or `concurrent.futures.Executor`, optional
        How to run them if ``n_workers`` is not 1; as for `align_many`.
    client : `dask.distributed.Client` or str, optional
        A cluster to work on instead, or its address. Its workers must find the files at the same
        paths.
    progress : bool or callable, optional
        Whether to show bars (with tqdm); by default on a terminal and in a notebook. A function is
        called as ``progress(done, total, row)``: for each image whose stars were looked for, with
        ``row["step"]`` "stars", ``source``, ``status``, ``reason`` and ``n_stars``; then, with
        "pairs", for each image that was compared with others, with ``image`` (its row), ``pairs``
        (how many) and ``links`` (how many of them show the same stars).
    **options
        ``threshold``, ``fwhm``, ``gain``, ``saturation``, ``finder``, ``select``, ``scale``,
        ``rotation``, ``parity`` and ``spline_order``, as for `find_alignment`; with
        ``spline_order=0`` there are no distortions. With a catalog of the sky also ``position``,
        ``radius``, ``pixel_scale`` and ``epoch``; what is not given is taken from the frames.

    Returns
    -------
    GroupAlignment
        A frame that cannot be read or connected is a row of its table with the reason.

    Raises
    ------
    TypeError, ValueError
        If an argument makes no sense. The message begins with its name.
    NoMatchError
        If no frame is found in the catalog that is the reference.
    CatalogError
        If that catalog lacks what it must have.
    FileNotFoundError
        If a folder or a pattern stands for no file.
    ImportError
        If ``progress`` is requested and tqdm is not installed.

    Notes
    -----
    Quads of all frames stand in one index (Lang et al. 2010, AJ, 139, 1782,
    doi:10.1088/0004-6256/139/5/1782). Pairs with quads in common are matched as by
    `find_alignment`, with the same odds. While parts of the group stay apart, pairs with few or
    none are tried, too, except for those that are a degree apart by WCSs with which all links
    agree. A link that contradicts the others is dropped. Each star
    then is one unknown position that all its frames observe, and all maps follow from one
    least-squares solution; the weights of the penalties of the distortions come from restricted
    maximum likelihood. The time grows with the number of frames where each overlaps a few others,
    also with a distortion each; where a hundred and more all overlap each other, distortions of
    their own are coarser, and beyond some four hundred they are left out with a warning.

    Worker processes start anew: a script must call this within ``if __name__ == "__main__":``.

    Examples
    --------
    >>> from spalipy_astro import align_group
    >>> from spalipy_astro.example import example_pair
    >>> group = align_group(example_pair())
    >>> group.table["status"].tolist()
    ['ok', 'ok']
    """
    own = signature(align_group).parameters.keys() - {"options"}
    check_names("align_group()", options, {*own, *_OPTIONS})
    given = FindOptions(**options)
    check_hdu(hdu)
    n_workers = check_workers(executor, n_workers)
    progress = check_progress(progress)
    catalog = _catalog_of(reference)
    if catalog is not None:
        reference = "best"
    elif named := " and ".join(name for name, value in given.sky.items() if value is not None):
        raise ValueError(f"{named}: only with a catalog of the sky as the reference.")
    camera, chips, exposures = _listed(camera), _listed(chips), _listed(exposures)
    listed = list_sources(images, name="images")
    flags = {"ignore_flags": ignore_flags, "flag_name_map": flag_name_map}
    sheets: Iterable[Sheet] = each_sheet(listed, hdu, flags)
    total = None
    labeled = any(labels is not None for labels in (camera, chips, exposures))
    if isinstance(listed, Sequence) or labeled or hdu == "all":
        sheets = list(sheets)
        total = len(sheets)
        if hdu == "all":
            camera, chips, exposures = labels_of_chips(sheets, camera, chips, exposures)
        _check(total, reference, camera, chips, exposures)
    modules = (find_frames.__module__,)
    with working(n_workers, executor, client, progress, most=total, modules=modules) as work:
        seen, frames, reasons, lone = find_frames(sheets, given.detection, work, total=total)
        n = len(seen)
        labels, names = _check(n, reference, camera, chips, exposures)
        links = find_links(frames, given.priors, work)
    frames, reasons = without_misfits(frames, reasons, labels)
    if catalog is not None:
        sky = with_catalog(catalog, frames, links, given)
        reference, labels = n, replace(labels, sky=n)
        frames = [*frames, sky.frame]
        links = sorted([*links, *sky.links], key=lambda a: (-len(a.stars_i), a.i, a.j))
    part = parts_of(len(frames), links)
    linked = {k for link in links for k in (link.i, link.j)}
    for k, frame in enumerate(frames):
        if frame is not None and frame.shape is not None and k not in linked:
            lone[k] = Lone(frame.shape, _UNMATCHED)
    order = list(range(int(part.max()) + 1))
    if reference != "best":
        order.sort(key=lambda name: name != part[int(reference)])  # its grid is the group's
    components = []
    for name in order:
        members = np.flatnonzero(part == name).tolist()
        mine = [link for link in links if part[link.i] == name]
        if not mine:
            continue
        top = reference if reference in members else _best(members, mine)
        component = solve_component(
            frames,
            mine,
            int(top),
            labels=labels,
            lone=lone,
            spline_order=given.spline_order,
            options=given.recorded,
        )
        components.append(component)
        for k in component.by_geometry:
            reasons[k] = f"placed by the geometry of the chips: {lone.pop(k).reason}"
        for k, reason in component.refused.items():
            reasons[k] = reason
    if components and reference not in ("best", components[0].reference):
        log.warning(
            "reference: image %s is connected with no other one; the grid is that of image %d.",
            reference,
            components[0].reference,
        )
    record = provenance(given.recorded)
    if hdu is not None:
        record = {**record, "hdu": list(hdu) if isinstance(hdu, tuple) else hdu}
    if ignore_flags != OBSERVATORY:  # for those who open the images once more
        bits = ignore_flags
        if not isinstance(bits, str | int) or flag_name_map is not None:
            bits = interpret_bit_flags(bits, flag_name_map=flag_name_map)
        record = {**record, "flags": {"ignore_flags": bits}}
    return _result(seen, frames, components, names, reasons, record)


def _catalog_of(reference: Any) -> Any:
    """Return the reference if it is a catalog of the sky; None if it is an image of the group."""
    if isinstance(reference, int | np.integer) and not isinstance(reference, bool):
        if reference >= 0:
            return None
    elif isinstance(reference, str) and reference == "best":
        return None
    elif not isinstance(reference, str) or os.path.exists(reference):
        if is_sky_catalog(reference):
            return reference
    raise ValueError(
        "reference is 'best', the number of an image, or a catalog of the sky, with columns such "
        f"as ra and dec; got {reference!r}."
    )


def _listed(labels: Any) -> Any:
    """Put labels that come one by one into a list, since they are gone through more than once."""
    return list(labels) if isinstance(labels, Iterator) else labels


def _check(
    n: int, reference: Any, camera: Any, chips: Any, exposures: Any
) -> tuple[Labels, Sequence[Hashable]]:
    """Return the labels of cameras, chips and exposures of n images, and the cameras' names."""
    if n < 2:
        raise ValueError(f"images: a group takes at least two; got {n}.")
    if reference != "best" and reference >= n:
        raise ValueError(f"reference is 'best' or an index from 0 to {n - 1}; got {reference!r}.")
    if (chips is None) != (exposures is None):
        raise ValueError("chips and exposures go together: give a label per image for both.")
    cameras, names, known = read_cameras(camera, n)
    chip, exposure = labels_of("chips", chips, n), labels_of("exposures", exposures, n)
    if camera is None and chips is not None:
        names = list(dict.fromkeys(chips))
    if chip is not None and exposure is not None:
        both = list(zip(chip, exposure, strict=True))
        if len(set(both)) < n:
            k = next(k for k in range(n) if both[k] in both[:k])
            raise ValueError(
                f"chips, exposures: image {k} has the chip and the exposure of image "
                f"{both.index(both[k])}; each image needs a pair of its own."
            )
    return Labels(cameras, chip, exposure, known), names


def _best(members: Sequence[int], links: Sequence[Link]) -> int:
    """Return the frame from which all others are reached by the most stars."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import shortest_path

    place = {k: n for n, k in enumerate(members)}
    i, j = [place[link.i] for link in links], [place[link.j] for link in links]
    cost = [1 / len(link.stars_i) for link in links]
    graph = coo_matrix((cost, (i, j)), shape=(len(members),) * 2).tocsr()
    distance = shortest_path(graph, directed=False)
    return members[int(np.argmin(distance.sum(axis=1)))]


def _error_of(alignment: Alignment) -> float:
    """Return the rms error that is expected over a whole frame, grid px."""
    stars = np.asarray(alignment.matches["x_source"]), np.asarray(alignment.matches["y_source"])
    return error_over(alignment._errors, alignment.transform, alignment.source_shape, None, stars)


def _result(
    sheets: Sequence[Sheet],
    frames: Sequence[StarFrame | None],
    components: Sequence[Component],
    labels: Sequence[Hashable],
    reasons: list[str],
    record: Any,
) -> GroupAlignment:
    """Put the components together."""
    n = len(sheets)
    alignments: list[Any] = [None] * n
    component = np.full(n, -1)
    count, in_catalog = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    rows = []
    for number, part in enumerate(components):
        for k, alignment in part.alignments.items():
            alignments[k], component[k] = alignment, number
        for link, rms in [*part.links, *((link, np.nan) for link in part.dropped)]:
            used = bool(np.isfinite(rms))
            if link.j == n:  # the catalog
                in_catalog[link.i] = len(link.stars_i) if used else 0
                continue
            count[[link.i, link.j]] += used
            rows.append((link.i, link.j, len(link.stars_i), link.log_odds, link.rms, rms, used))
    rows.sort()
    columns = ("i", "j", "n_matched", "log_odds", "rms_before", "rms", "used")
    kinds = (int, int, int, float, float, float, bool)
    links = QTable(rows=rows or None, names=columns, dtype=kinds)
    quality = {k: frame.quality for k, frame in enumerate(frames[:n]) if frame is not None}
    for part in components:
        top = part.reference
        if top == n:  # the fluxes of a catalog are not those of images
            top = max(part.alignments, key=lambda k: len(part.alignments[k].matches))
        for k, alignment in on_one_scale(part.alignments, links, top, quality).items():
            alignments[k] = alignment
    ok = [a is not None for a in alignments]
    for k in range(n):
        if not ok[k] and not reasons[k]:
            reasons[k] = _UNMATCHED
    table = QTable(
        {
            "source": [sheet.label for sheet in sheets],
            "status": ["ok" if good else "failed" for good in ok],
            "reason": reasons,
            "component": component,
            "links": count,
            "n_matched": [0 if a is None else len(a.matches) for a in alignments],
            "rms": [np.nan if a is None else a.summary().get("rms", np.nan) for a in alignments],
            "error": [np.nan if a is None else _error_of(a) for a in alignments],
            **quality_columns(alignments, quality),
        }
    )
    if any(sheet.by_hdu for sheet in sheets):
        numbers = [-1 if sheet.hdu is None else sheet.hdu for sheet in sheets]
        table.add_column(numbers, name="hdu", index=1)
    first = components[0].reference if components else None
    if first == n:
        table.add_column(in_catalog, name="n_catalog", index=table.index_column("links") + 1)
        first = None
    cameras: dict[Hashable, Alignment] = {}
    undetermined: dict[Hashable, str] = {}
    for part in reversed(components):  # what several have solved for is the largest one's
        for number, camera in part.cameras.items():
            name = labels[number]
            cameras.pop(name, None)
            undetermined.pop(name, None)
            if isinstance(camera, Undetermined):
                undetermined[name] = camera.reason
            else:
                cameras[name] = camera
    joint = [part.errors for part in components]
    return GroupAlignment(first, alignments, table, links, record, cameras, undetermined, joint)
