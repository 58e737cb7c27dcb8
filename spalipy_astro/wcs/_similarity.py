"""What two world coordinate systems say about the transform between their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.wcs.utils import pixel_to_pixel

__all__ = ["similarity_between"]


def similarity_between(
    source_wcs: Any,
    template_wcs: Any,
    shape: tuple[int, int] | None,
    pixels: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 1.0), (1.0, 1.0)),
) -> tuple[float, float, int, tuple[float, float]] | None:
    """
    Approximate the way from source to template pixels over the sky.

    Parameters
    ----------
    source_wcs, template_wcs : object or None
        APE-14 WCS.
    shape : tuple of int or None
        Shape ``(ny, nx)`` of the source.
    pixels : pair of (width, height), optional
        By what positions in the source and in the template are multiplied, from the edge of the
        frame on, to be those of square pixels; the similarity is that of these.

    Returns
    -------
    tuple or None
        Scale, rotation in degrees, parity, and the image ``(x, y)`` of the source's center; None
        if a WCS is missing, has no sky, or fails at the center.
    """
    if shape is None or not (_has_sky(source_wcs) and _has_sky(template_wcs)):
        return None
    x0, y0 = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    step = max(1.0, 0.1 * min(shape))
    try:
        x, y = pixel_to_pixel(
            source_wcs,
            template_wcs,
            x0 + step * np.array([0.0, 1.0, 0.0]),
            y0 + step * np.array([0.0, 0.0, 1.0]),
        )
    except Exception:  # a header can be wrong in any way; it is only a hint here
        return None
    of_source, of_template = (np.asarray(sizes, dtype=float) for sizes in pixels)
    x, y = ((c + 0.5) * size - 0.5 for c, size in zip((x, y), of_template, strict=True))
    matrix = np.array([[x[1] - x[0], x[2] - x[0]], [y[1] - y[0], y[2] - y[0]]]) / step / of_source
    determinant = float(np.linalg.det(matrix))
    if not np.isfinite(determinant) or determinant == 0:
        return None
    angle = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    parity = 1 if determinant > 0 else -1
    return float(np.sqrt(abs(determinant))), angle, parity, (float(x[0]), float(y[0]))


def _has_sky(wcs: Any) -> bool:
    """Whether a WCS maps two pixel axes to the sky."""
    low = getattr(wcs, "low_level_wcs", wcs)
    if low is None or getattr(low, "pixel_n_dim", 0) != 2:
        return False
    kinds = list(low.world_axis_physical_types)
    return sum(str(kind).startswith("pos.") for kind in kinds) == 2 and None not in kinds
