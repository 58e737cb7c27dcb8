"""Distortions that all frames of a camera share: as they are given, and as they are found."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.modeling import Model
from astropy.modeling.models import Identity
from numpy.typing import NDArray

from spalipy_astro.alignment import Alignment, ErrorTerm
from spalipy_astro.fitting import Covariance
from spalipy_astro.groups._alignments import distortion_of
from spalipy_astro.groups._equations import SharedEquations
from spalipy_astro.groups._joint import Solved
from spalipy_astro.groups._layout import Labels, frame_of
from spalipy_astro.groups._solution import Solution
from spalipy_astro.registration import StarFrame

__all__ = ["Undetermined", "cameras_of", "labels_of", "read_cameras", "without_misfits"]

FloatArray = NDArray[np.float64]

_MATTERS = 0.1  # px: rms of an uncertain distortion, below which it is no matter


@dataclass(frozen=True)
class Undetermined:
    """
    A distortion of which the frames do not show all.

    Attributes
    ----------
    reason : str
    """

    reason: str


def labels_of(name: str, labels: Sequence[Hashable] | None, n: int) -> list[int] | None:
    """Return labels as numbers, in the order in which they first occur."""
    if labels is None:
        return None
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise TypeError(f"{name} is a list with a label per image; got {labels!r}.")
    labels = list(labels)
    if not all(isinstance(label, Hashable) for label in labels):
        raise TypeError(f"{name}: a label is a text or a number; got {labels!r}.")
    if len(labels) != n:
        raise ValueError(f"{name} has {len(labels)} labels for {n} images; give one per image.")
    number = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    return [number[label] for label in labels]


def read_cameras(
    camera: Any, n: int
) -> tuple[list[int] | None, list[Hashable], dict[int, Alignment]]:
    """
    Make sense of what a user says of cameras.

    Parameters
    ----------
    camera : str, Alignment, Model, mapping, sequence or None
        As for `align_group`.
    n : int
        Number of images.

    Returns
    -------
    numbers : list of int or None
        A camera per image.
    names : list
        The label of each; an alignment or a model stands for itself.
    known : dict of int to Alignment
        The distortions that were given.

    Raises
    ------
    TypeError, ValueError
        If it makes no sense. The message begins with its name.
    """
    if camera is None:
        return None, [], {}
    if isinstance(camera, str) and camera != "shared":
        raise ValueError(
            "camera is 'shared', a distortion (of group.cameras, or a model), a label or a "
            f"distortion per image, or None; got {camera!r}."
        )
    if isinstance(camera, Mapping):
        raise TypeError(
            "camera is one distortion, or one per image; got a mapping. Write "
            "camera=[cameras[label] for label in labels], with a label per image."
        )
    if isinstance(camera, str | Alignment | Model):
        camera = [camera] * n
    numbers = labels_of("camera", camera, n)
    assert numbers is not None
    names: list[Hashable] = list(dict.fromkeys(camera))
    known = {
        k: _as_camera(each) for k, each in enumerate(names) if isinstance(each, Alignment | Model)
    }
    return numbers, names, known


def _as_camera(given: Alignment | Model) -> Alignment:
    """Return a distortion as an alignment of a frame with itself, made flat."""
    if isinstance(given, Alignment):
        return given
    try:
        return Alignment.from_transform(given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"camera: {error}") from error


def without_misfits(
    frames: Sequence[StarFrame | None], reasons: Sequence[str], labels: Labels
) -> tuple[list[StarFrame | None], list[str]]:
    """Leave out frames whose shape is not that of the camera that was given, and say why."""
    left, told = list(frames), list(reasons)
    for k, frame in enumerate(frames):
        camera = labels.known.get(labels.camera(k))
        if (
            frame is None
            or camera is None
            or None in (shapes := (frame.shape, camera.source_shape))
        ):
            continue
        if shapes[0] != shapes[1]:
            left[k] = None
            told[k] = (
                f"its shape is {shapes[0]}, and that of its camera {shapes[1]}: camera= is the "
                "distortion of whole, unbinned frames of one camera."
            )
    return left, told


def cameras_of(
    solution: Solution, solved: Solved, frames: Sequence[StarFrame | None]
) -> dict[int, Alignment | Undetermined]:
    """
    Return the distortions that were solved for together with the maps of their frames.

    Parameters
    ----------
    solution : Solution
    solved : Solved
    frames : sequence of StarFrame or None

    Returns
    -------
    dict of int to Alignment or Undetermined
        By the number of the camera.
    """
    found: dict[int, Alignment | Undetermined] = {}
    if not (solution.bent and isinstance(solved.equations, SharedEquations)):
        return found
    layout = solution.layout
    for name in sorted(set(layout.camera.values()) - layout.straight):
        members = [k for k, c in layout.camera.items() if c == name]
        k = members[0]
        shape = frame_of(frames, k).shape
        if shape is None:  # catalogs do not tell the size of their frames
            x, y = np.max([frame_of(frames, k).stars.xy.max(axis=0) for k in members], axis=0)
            shape = int(y) + 2, int(x) + 2
        coefficients = solution.distortions.get(name, np.zeros((layout.space.size, 2)))
        errors = np.concatenate([frame_of(frames, k).stars.search_err for k in members])
        factor, reason = _errors(solution, solved, name, float(np.median(errors)))
        if reason:
            found[name] = Undetermined(reason)
            continue
        camera = Alignment.from_transform(
            distortion_of(layout, k, coefficients), source_shape=shape, template_shape=shape
        )
        covariance = Covariance(layout.in_pixels(k), factor)
        found[name] = replace(
            camera,
            _errors=(ErrorTerm(covariance, Identity(2), 1.0),),
            provenance={**camera.provenance, "frames": len(members)},
        )
    return found


def _errors(solution: Solution, solved: Solved, name: int, star: float) -> tuple[FloatArray, str]:
    """
    Return the factor of the covariance of a camera's distortion, px, and what is not determined.

    Of that which an affine map makes no difference to, no more may be uncertain than the position
    of a single star, ``star`` px.
    """
    equations, layout = solved.equations, solution.layout
    assert isinstance(equations, SharedEquations)
    columns, slopes = equations.camera(name)
    values, vectors = np.linalg.eigh(solved.errors.covariance(columns))
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    errors = layout.radius * np.sqrt(solution.noise) * (slopes @ root)
    factor = np.concatenate(errors / np.sqrt(2), axis=1)
    x, y = np.meshgrid(*(side * np.linspace(-1, 1, 9) for side in layout.half))
    u = np.column_stack((x.ravel(), y.ravel()))
    off = layout.space.at(u).evaluate(np.concatenate(errors, axis=1))
    size = float(np.sqrt(np.sum(off**2) / len(u)))
    if size < max(_MATTERS, star):
        return factor, ""
    x, y = u.T
    squares = np.column_stack((np.ones(len(u)), x, y, x * x, x * y, y * y))
    rest = off - squares @ (np.linalg.pinv(squares) @ off)
    kind = "its quadratic terms" if np.sum(rest**2) < 0.5 * np.sum(off**2) else "parts of it"
    return factor, (
        f"the frames do not determine {kind}, which stay uncertain by {size:.2g} px: turn the "
        "camera for some of the exposures, by 90 degrees at best, or give a catalog of the sky as "
        "the reference."
    )
