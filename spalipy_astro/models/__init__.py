"""The astropy models that a transform is made of."""

from spalipy_astro.models._bsplines import dense_basis, uniform_basis
from spalipy_astro.models._distortion import (
    InverseSplineDistortion2D,
    SplineDistortion2D,
    jacobian_determinant,
)
from spalipy_astro.models._fits_wcs import (
    FITSWCSTransform,
    InverseFITSWCSTransform,
    wcs_from_tree,
    wcs_to_tree,
)

__all__ = [
    "FITSWCSTransform",
    "InverseFITSWCSTransform",
    "InverseSplineDistortion2D",
    "SplineDistortion2D",
    "dense_basis",
    "jacobian_determinant",
    "uniform_basis",
    "wcs_from_tree",
    "wcs_to_tree",
]
