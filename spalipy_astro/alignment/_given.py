"""An alignment of a transform that is known: what follows from it alone, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.modeling import Model
from astropy.table import QTable

from spalipy_astro import _geometry
from spalipy_astro._checks import check_shape, check_wcs, checked_call
from spalipy_astro.alignment._summary import NOMINAL, derived_figures, provenance
from spalipy_astro.fitting import fit_linear
from spalipy_astro.models import NumericalInverse2D, jacobian_determinant

if TYPE_CHECKING:
    from spalipy_astro.alignment._alignment import Alignment

__all__ = ["from_transform", "no_matches"]

Shape = tuple[int, int]

_GRID = 17  # positions along each side of the source at which a transform is looked at
_EXACT = 1e-6  # px: how well an inverse must lead back


@checked_call
def from_transform(
    cls: type[Alignment],
    model: Model,
    *,
    source_shape: tuple[int, int] | None = None,
    template_shape: tuple[int, int] | None = None,
    wcs: Any = None,
) -> Alignment:
    """
    Make an alignment of a transform that is known.

    Parameters
    ----------
    model : `~astropy.modeling.Model`
        Source px to template px, any model of two inputs and two outputs whose parameters have
        no units. Its inverse is checked on the source frame; where it has none, or one that is
        off by more than 1e-6 px, it is inverted numerically.
    source_shape, template_shape : tuple of int, optional
        Shapes ``(ny, nx)`` of the images. `resample` needs the template's. Without the source's
        the model is checked on 1000 x 1000 px.
    wcs : `astropy.wcs.WCS` or `gwcs.WCS`, optional
        The template's.

    Returns
    -------
    Alignment
        Its table of matches is empty, it has no `error`, and `summary` has no figures of a fit.

    Raises
    ------
    TypeError
        If the model is none, or the WCS is none.
    ValueError
        If the model has other inputs or outputs, or units, is not finite, or is not one-to-one
        over the source frame; or a shape is not two positive integers.

    Examples
    --------
    >>> from astropy.modeling.models import Rotation2D, Shift
    >>> from spalipy_astro import Alignment
    >>> turned = Rotation2D(90) | (Shift(99) & Shift(0))
    >>> Alignment.from_transform(turned, source_shape=(100, 200), template_shape=(200, 100))
    <Alignment of a given transform, scale 1.00000, rotation 90.000 deg>
    """
    shapes = [
        None if shape is None else check_shape(shape, name=name)
        for name, shape in (("source_shape", source_shape), ("template_shape", template_shape))
    ]
    check_wcs(wcs)
    transform = _invertible(model, shapes[0] or NOMINAL)
    matches = no_matches()
    alignment = cls(
        transform=transform,
        matches=matches,
        source_shape=shapes[0],
        template_shape=shapes[1],
        original_wcs=wcs,
        _summary=derived_figures({}, transform, matches, *shapes),
        provenance=provenance({}),
    )
    if wcs is not None:
        alignment.wcs  # noqa: B018  # raises for what is no WCS, now and not at first use
    return alignment


def no_matches() -> QTable:
    """Return a table of matches without rows."""
    floats = ("x_source", "y_source", "x_template", "y_template", "flux_source", "flux_template")
    columns: dict[str, Any] = dict.fromkeys(floats, float)
    columns |= {"source_row": int, "template_row": int, "dx": float, "dy": float}
    columns |= {"sigma": float, "used": bool}
    return QTable({name: np.empty(0, kind) for name, kind in columns.items()})


def _invertible(model: Any, shape: Shape) -> Model:
    """Return a copy of a model whose inverse leads back from everywhere in the source frame."""
    if not isinstance(model, Model):
        raise TypeError(
            f"model is an astropy model of source px to template px; got {type(model).__name__}. "
            "Of a matrix it is AffineTransformation2D(matrix, translation)."
        )
    if (model.n_inputs, model.n_outputs) != (2, 2) or len(model) != 1:
        raise ValueError(
            f"model maps two inputs onto two outputs; got {model.n_inputs} and {model.n_outputs} "
            f"of a set of {len(model)}."
        )
    if any(getattr(model, name).unit is not None for name in model.param_names):
        raise ValueError(
            "model has parameters with units; positions are plain numbers of px, so give it "
            "plain parameters."
        )
    model = model.copy()
    points = np.stack(_geometry.spread(shape, _GRID))
    images = np.stack([np.asarray(c, dtype=float) for c in model(*points)])
    good = np.isfinite(images).all(axis=0)
    if np.count_nonzero(good) < len(good) / 2:
        raise ValueError(
            f"model is not finite at {np.count_nonzero(~good)} of {len(good)} positions spread "
            f"over the source of shape {shape}; check that it maps source px to template px."
        )
    points, images = points[:, good], images[:, good]
    matrix, offset = fit_linear(points.T, images.T)
    signs = np.sign(jacobian_determinant(model, *points))
    signs = signs[np.isfinite(signs)]  # at the edge of where it is defined it has no derivative
    if not (np.all(signs == 1) or np.all(signs == -1)) or not abs(np.linalg.det(matrix)) > 0:
        raise ValueError(
            f"model folds the plane over within the source of shape {shape}: two positions have "
            "one image, so that there is no way back."
        )
    try:
        if _miss(model.inverse, points, images) <= _EXACT:
            return model
    except (NotImplementedError, ValueError):  # it has none, or only one that does not work
        pass
    model.inverse = None
    back = NumericalInverse2D(model.copy(), matrix, offset)
    miss = _miss(back, points, images)
    if not miss <= _EXACT:
        raise ValueError(
            f"model cannot be inverted over the source of shape {shape}: the way back misses by "
            f"{miss:.3g} px."
        )
    model.inverse = back
    return model


def _miss(inverse: Model, points: Any, images: Any) -> float:
    """Return by how much an inverse misses the points, px; NaN where it finds none."""
    found = np.stack([np.asarray(c, dtype=float) for c in inverse(*images)])
    return float(np.max(np.hypot(*(found - points))))
