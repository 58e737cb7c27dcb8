"""`align_group`: stars of all frames, links between them, one solution a component."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from astropy.modeling import Model
from astropy.table import QTable

from spalipy_astro._blas import one_blas_thread
from spalipy_astro._checks import check_names
from spalipy_astro._geometry import spread
from spalipy_astro.alignment import Alignment, provenance
from spalipy_astro.catalogs import read_catalog
from spalipy_astro.errors import AlignmentError
from spalipy_astro.groups._cameras import Undetermined, labels_of, read_cameras
from spalipy_astro.groups._component import Component, solve_component
from spalipy_astro.groups._graph import Link, find_links, parts_of
from spalipy_astro.groups._layout import Labels
from spalipy_astro.groups._result import GroupAlignment
from spalipy_astro.io import is_fits, read_image
from spalipy_astro.registration import FindOptions, StarFrame, prepare

__all__ = ["align_group"]

_OPTIONS = (
    *("threshold", "fwhm", "gain", "saturation", "select"),
    *("scale", "rotation", "parity", "spline_order"),
)


@one_blas_thread()
def align_group(
    images: Sequence[Any],
    *,
    reference: int | str = "best",
    camera: str | Alignment | Model | Sequence[Hashable] | None = None,
    chips: Sequence[Hashable] | None = None,
    exposures: Sequence[Hashable] | None = None,
    **options: Any,
) -> GroupAlignment:
    """
    Align frames that overlap each other, without a template and without a WCS.

    Parameters
    ----------
    images : sequence
        Images, catalogs of their stars, or paths of either, as for `find_alignment`. Pixels are
        needed for the detection only: one image is read at a time.
    reference : int or "best", optional
        The frame whose pixels are the grid of its component; by default the one that is connected
        best with all others.
    camera : "shared" or sequence, optional
        ``"shared"`` if all frames have the distortion of one camera; or a label per frame, the
        same for those of one camera. Dithered frames then show the camera's distortion itself, but
        for an affine part, and the grid is the reference's without it. By default each frame has
        its own distortion relative to the reference.
    chips, exposures : sequence, optional
        Labels per frame of the chip and of the exposure, both or none: chips have a fixed
        geometry, and each exposure has one pointing. Each chip has its own distortion.
    **options
        ``threshold``, ``fwhm``, ``gain``, ``saturation``, ``select``, ``scale``, ``rotation``,
        ``parity`` and ``spline_order``, as for `find_alignment`; with ``spline_order=0`` there are
        no distortions.

    Returns
    -------
    GroupAlignment
        A frame that cannot be read or connected is a row of its table with the reason.

    Raises
    ------
    TypeError, ValueError
        If an argument makes no sense. The message begins with its name.

    Notes
    -----
    Quads of all frames stand in one index (Lang et al. 2010, AJ, 139, 1782,
    doi:10.1088/0004-6256/139/5/1782). Pairs with quads in common are matched as by
    `find_alignment`, with the same odds. A link that contradicts the others is dropped. Each star
    then is one unknown position that all its frames observe, and all maps follow from one
    least-squares solution; the weights of the penalties of the distortions come from restricted
    maximum likelihood.

    Examples
    --------
    >>> from spalipy_astro import align_group
    >>> from spalipy_astro.example import example_pair
    >>> group = align_group(example_pair())
    >>> group.table["status"].tolist()
    ['ok', 'ok']
    """
    images = list(images)
    check_names("align_group()", options, _OPTIONS)
    given = FindOptions(**options)
    n = len(images)
    if n < 2:
        raise ValueError(f"images: a group takes at least two; got {n}.")
    if isinstance(reference, bool) or not (
        reference == "best" or (isinstance(reference, int | np.integer) and 0 <= reference < n)
    ):
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
    frames: list[StarFrame | None] = []
    reasons = [""] * n
    for k, image in enumerate(images):
        try:
            frames.append(prepare(_read(image), name=f"image {k}", **given.detection))
        except (AlignmentError, OSError) as error:
            frames.append(None)
            reasons[k] = str(error)
    links = find_links(frames, given.priors)
    part = parts_of(n, links)
    components = []
    labels = Labels(cameras, chip, exposure, known)
    for name in range(int(part.max()) + 1):
        members = np.flatnonzero(part == name).tolist()
        mine = [link for link in links if part[link.i] == name]
        if not mine:
            continue
        top = reference if reference in members else _best(members, mine)
        components.append(
            solve_component(
                frames,
                mine,
                int(top),
                labels=labels,
                spline_order=given.spline_order,
                options=given.recorded,
            )
        )
    return _result(images, components, names, reasons, provenance(given.recorded))


def _read(image: Any) -> Any:
    """Read a file; hand back anything else."""
    if not isinstance(image, str | os.PathLike):
        return image
    if is_fits(image):
        return read_image(image)
    return read_catalog(image)


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
    """Return the rms error that is expected over a frame, grid px."""
    if alignment.source_shape is None:
        x, y = alignment.matches["x_source"], alignment.matches["y_source"]
    else:
        x, y = spread(alignment.source_shape, 9)
    return float(np.sqrt(2 * np.mean(alignment.error(x, y) ** 2)))


def _result(
    images: Sequence[Any],
    components: Sequence[Component],
    labels: Sequence[Hashable],
    reasons: list[str],
    record: Any,
) -> GroupAlignment:
    """Put the components together."""
    n = len(images)
    alignments: list[Any] = [None] * n
    component = np.full(n, -1)
    count = np.zeros(n, dtype=int)
    rows = []
    for number, part in enumerate(components):
        for k, alignment in part.alignments.items():
            alignments[k], component[k] = alignment, number
        for link, rms in [*part.links, *((link, np.nan) for link in part.dropped)]:
            used = bool(np.isfinite(rms))
            count[[link.i, link.j]] += used
            rows.append((link.i, link.j, len(link.stars_i), link.log_odds, link.rms, rms, used))
    rows.sort()
    names = ("i", "j", "n_matched", "log_odds", "rms_before", "rms", "used")
    kinds = (int, int, int, float, float, float, bool)
    links = QTable(rows=rows or None, names=names, dtype=kinds)
    ok = [a is not None for a in alignments]
    for k in range(n):
        if not ok[k] and not reasons[k]:
            reasons[k] = "its stars could not be matched with those of any other frame."
    table = QTable(
        {
            "source": [
                os.fspath(s) if isinstance(s, str | os.PathLike) else str(k)
                for k, s in enumerate(images)
            ],
            "status": ["ok" if good else "failed" for good in ok],
            "reason": reasons,
            "component": component,
            "links": count,
            "n_matched": [0 if a is None else len(a.matches) for a in alignments],
            "rms": [np.nan if a is None else a.summary()["rms"] for a in alignments],
            "error": [np.nan if a is None else _error_of(a) for a in alignments],
        }
    )
    top = components[0].reference if components else None
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
    return GroupAlignment(top, alignments, table, links, record, cameras, undetermined, joint)
