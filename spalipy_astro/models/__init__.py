"""The astropy models that a transform is made of."""

from spalipy_astro.models._bsplines import TensorSpline, uniform_basis
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
from spalipy_astro.models._numerical import NumericalInverse2D

__all__ = [
    "FITSWCSTransform",
    "InverseFITSWCSTransform",
    "InverseSplineDistortion2D",
    "NumericalInverse2D",
    "SplineDistortion2D",
    "TensorSpline",
    "jacobian_determinant",
    "uniform_basis",
    "wcs_from_tree",
    "wcs_to_tree",
]

# pickles and reprs name the room, so that its modules may change
for _model in (
    SplineDistortion2D,
    InverseSplineDistortion2D,
    FITSWCSTransform,
    InverseFITSWCSTransform,
    NumericalInverse2D,
):
    _model.__module__ = __name__
del _model
