"""
The WCS of an alignment in models that every installation of gwcs knows: tables for distortions.

Points are ``(x, y)`` in pixels, 0-based, with pixel centers on integers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import astropy.units as u
import gwcs
import numpy as np
from astropy.modeling import Model
from astropy.modeling.core import CompoundModel
from astropy.modeling.models import (
    Mapping,
    Multiply,
    Pix2Sky_TAN,
    RotateNative2Celestial,
    Tabular2D,
)
from numpy.typing import NDArray

from spalipy_astro._checks import positive_number
from spalipy_astro.errors import ExportError
from spalipy_astro.wcs._pipeline import build_wcs
from spalipy_astro.wcs._unwrap import has_units

__all__ = ["PortableWCS", "portable_wcs"]

FloatArray = NDArray[np.float64]
Box = tuple[tuple[float, float], tuple[float, float]]  # ((x_lo, x_hi), (y_lo, y_hi))
Mapping2D = Callable[[FloatArray, FloatArray], Iterable[FloatArray]]

_STEPS = (512, 256, 128, 64, 32, 16, 8, 4, 2)  # px
_N_CHECKED = 48  # cells along an axis at which the error is measured


class PortableWCS(NamedTuple):
    """A WCS of a source image without models of this package, and how exact it is."""

    wcs: gwcs.WCS
    """From the frame ``source_detector`` over ``template_detector`` to the sky, if there is any."""
    error: float
    """Largest error anywhere on the source, and on the template on the way back, in px."""
    step: float
    """Distance between the nodes of the tables, px; infinite where none was needed."""


def portable_wcs(
    transform: Model,
    template_wcs: Any,
    *,
    source_shape: tuple[int, int],
    template_shape: tuple[int, int] | None = None,
    tolerance: float = 1e-3,
) -> PortableWCS:
    """
    Make a WCS that gwcs and asdf-astropy read without this package.

    Parameters
    ----------
    transform : astropy.modeling.Model
        Mapping of source pixels to template pixels, with an inverse.
    template_wcs : astropy.wcs.WCS, gwcs.WCS or None
        The WCS of the template.
    source_shape, template_shape : tuple of int
        Shapes ``(ny, nx)``. Without one for the template, its part that the source shows is taken.
    tolerance : float, optional
        Largest error allowed, px: of template positions on the way there, anywhere on the source,
        and of source positions on the way back, anywhere on the template.

    Returns
    -------
    PortableWCS
        ``wcs``, ``error`` and ``step``.

    Raises
    ------
    ExportError
        If tables cannot be as exact as ``tolerance`` demands, or the transform folds over.
    ValueError
        If ``tolerance`` is not a positive number.

    Notes
    -----
    Splines become tables of positions that are interpolated linearly, one for each direction, with
    nodes so close that the error measured between them is small enough. Outside of the frames
    tables continue linearly. A sky in other models than those of astropy is tabulated on the
    tangential plane at the middle of the template.

    Examples
    --------
    >>> import numpy as np
    >>> from spalipy_astro import SplineDistortion2D
    >>> from spalipy_astro.wcs import portable_wcs
    >>> coeff = np.random.default_rng(1).normal(0, 1, (2, 6, 6))
    >>> spline = SplineDistortion2D(*coeff, bounds=((0, 399), (0, 299)))
    >>> portable = portable_wcs(spline.inverse, None, source_shape=(300, 400), tolerance=0.01)
    >>> portable.error < 0.01, portable.step
    (True, 16.0)
    """
    tolerance = positive_number("tolerance", tolerance, "a positive number of px", u.pix)
    wcs, _ = build_wcs(
        transform, template_wcs, source_shape=source_shape, template_shape=template_shape
    )
    there = _frame_box(source_shape)
    back = _image_of(transform, there)
    if template_shape is not None:
        back = _hull(back, _frame_box(template_shape))
    truth = _Truth(transform, wcs, there, back)
    if truth.is_stock:
        return PortableWCS(wcs, 0.0, np.inf)
    best = np.inf
    for step in _STEPS:
        made = truth.tabulated(step)
        error = truth.error(made, step)
        if error <= tolerance:
            return PortableWCS(made, error, float(step))
        best = np.fmin(best, error)
    raise ExportError(
        f"tables with nodes every {_STEPS[-1]} px are off by {best:.2g} px, which is more than "
        f"tolerance={tolerance:g}; raise the tolerance, or save without portable=True."
    )


def _frame_box(shape: tuple[int, int]) -> Box:
    """Return the outer edges of an image's pixels."""
    return (-0.5, shape[1] - 0.5), (-0.5, shape[0] - 0.5)


def _image_of(mapping: Mapping2D, box: Box) -> Box:
    """Return the smallest box that holds the image of another one."""
    points = np.meshgrid(*(np.linspace(*side, 65) for side in box))
    x, y = (np.asarray(c) for c in mapping(*points))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ExportError(
            "the transform has no value on some pixels of the source, where it folds over or ends; "
            "save the alignment without portable=True, or crop the source."
        )
    return (float(x.min()), float(x.max())), (float(y.min()), float(y.max()))


def _hull(one: Box, other: Box) -> Box:
    """Return the smallest box that holds two."""
    x, y = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True))
    return x, y


def _is_stock(model: Model) -> bool:
    """Tell whether a model consists of such that come with astropy and gwcs."""
    parts = [model]
    while parts:
        part = parts.pop()
        if isinstance(part, CompoundModel):
            parts += [part.left, part.right]
        elif type(part).__module__.partition(".")[0] == "spalipy_astro":
            return False
    return True


@dataclass(frozen=True)
class _Truth:
    """What is tabulated, and where."""

    transform: Model
    wcs: gwcs.WCS
    there: Box
    """The source frame."""
    back: Box
    """What the template shows, and what of it the source does."""

    @cached_property
    def template(self) -> gwcs.WCS | None:
        """The WCS of the template's pixels; None if there is no sky."""
        steps = [(copy.deepcopy(s.frame), copy.deepcopy(s.transform)) for s in self.wcs.pipeline]
        return gwcs.WCS(steps[1:]) if len(steps) > 2 else None

    @cached_property
    def stock_sky(self) -> bool:
        """Whether the models of the sky can stay."""
        return self.template is None or _is_stock(self.template.forward_transform)

    @property
    def is_stock(self) -> bool:
        """Whether there is nothing to tabulate."""
        both = (self.transform, self.transform.inverse)
        return self.stock_sky and all(_is_stock(model) for model in both)

    @cached_property
    def sphere(self) -> Model:
        """The sky around the middle of the template, from its tangential plane in degrees."""
        assert self.template is not None
        middle = [np.array(sum(side) / 2) for side in self.back]
        lon, lat = (float(v) for v in self.template.pixel_to_world_values(*middle))
        if not np.isfinite((lon, lat)).all():
            raise ExportError("the middle of the template has no position on the sky.")
        return Pix2Sky_TAN() | RotateNative2Celestial(lon, lat, 180.0)

    def tabulated(self, step: float) -> gwcs.WCS:
        """Make the WCS with nodes every so many pixels."""
        steps = [(copy.deepcopy(s.frame), copy.deepcopy(s.transform)) for s in self.wcs.pipeline]
        model = self.transform.copy()
        if not all(_is_stock(part) for part in (model, model.inverse)):
            model = _table(self.transform, self.there, step)
            model.inverse = _table(self.transform.inverse, self.back, step)
        if self.template is not None and has_units(self.template):
            pixels = Multiply(1 * u.pix) & Multiply(1 * u.pix)
            model = pixels.inverse | model | pixels
        steps[0] = (steps[0][0], model)
        if not self.stock_sky:
            steps = [steps[0], (steps[1][0], self._sky(step)), (steps[-1][0], None)]
        made = gwcs.WCS(steps)
        made.array_shape = self.wcs.array_shape
        return made

    def _sky(self, step: float) -> Model:
        """Tabulate the way from template pixels to the tangential plane."""
        template = self.template
        assert template is not None

        def to_plane(x: FloatArray, y: FloatArray) -> Iterable[FloatArray]:
            return self.sphere.inverse(*template.pixel_to_world_values(x, y))

        def from_plane(x: FloatArray, y: FloatArray) -> Iterable[FloatArray]:
            return template.world_to_pixel_values(*self.sphere(x, y))

        plane = _image_of(to_plane, self.back)
        pixels = max(side[1] - side[0] for side in self.back)
        scale = max(side[1] - side[0] for side in plane) / pixels
        table = _table(to_plane, self.back, step)
        table.inverse = _table(from_plane, plane, step * scale)
        return table | self.sphere

    def error(self, made: gwcs.WCS, step: float) -> float:
        """Return the largest error between the nodes, on the way there and back, in px."""
        source, template = (_between_nodes(box, step) for box in (self.there, self.back))
        target = self.transform(*source)
        passed = made.get_transform("source_detector", "template_detector")
        unit = u.pix if self.template is not None and has_units(self.template) else 1
        found = [np.asarray(c / unit) for c in passed(*(c * unit for c in source))]
        errors = [_largest(found, target)]
        world = template
        if self.template is not None:
            seen = self.template.world_to_pixel_values(*made.pixel_to_world_values(*source))
            errors.append(_largest(seen, target))
            world = self.template.pixel_to_world_values(*template)
        errors.append(
            _largest(made.world_to_pixel_values(*world), self.transform.inverse(*template))
        )
        return float(np.max(errors))  # NaN if one is


def _nodes(side: tuple[float, float], step: float) -> FloatArray:
    """Return the nodes of a table along one axis."""
    lo, hi = side
    return np.linspace(lo, hi, 1 + max(1, int(np.ceil((hi - lo) / step - 1e-9))))


def _table(mapping: Mapping2D, box: Box, step: float) -> Model:
    """Tabulate a mapping, to be interpolated, and continued outside, linearly."""
    nodes = [_nodes(side, step) for side in box]
    tables = [
        Tabular2D(
            points=nodes,
            lookup_table=np.ascontiguousarray(np.asarray(values).T),
            bounds_error=False,
            fill_value=None,
        )
        for values in mapping(*np.meshgrid(*nodes))
    ]
    return Mapping((0, 1, 0, 1)) | (tables[0] & tables[1])


def _between_nodes(box: Box, step: float) -> list[FloatArray]:
    """Return nodes and points half-way between them, of a selection of nodes where it is dense."""
    axes = []
    for side in box:
        nodes = _nodes(side, step)
        chosen = np.unique(np.linspace(0, len(nodes) - 2, _N_CHECKED).astype(int))
        axes.append(np.concatenate((nodes[chosen], (nodes[chosen] + nodes[chosen + 1]) / 2)))
    return [c.ravel() for c in np.meshgrid(*axes)]


def _largest(found: Iterable[Any], truth: Iterable[Any]) -> float:
    """Return the largest distance of points from where they should be."""
    return float(np.max(np.hypot(*np.subtract(list(found), list(truth)))))
