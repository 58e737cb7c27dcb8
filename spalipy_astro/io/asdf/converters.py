"""Converters between the objects of this package and the nodes of an ASDF tree."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from asdf.extension import Converter
from asdf_astropy.converters.transform.core import TransformConverterBase

__all__ = ["CONVERTERS"]

# The methods import late: asdf asks for the converters of all packages whenever it opens a file.

_TAGS = "asdf://spalipy-astro.org/tags/"


class SplineDistortion2DConverter(TransformConverterBase):
    """Write a spline as its coefficients, domain and degree."""

    tags = (f"{_TAGS}spline_distortion_2d-1.*",)
    types = ("spalipy_astro.models.SplineDistortion2D",)

    def to_yaml_tree_transform(self, model: Any, tag: str, ctx: Any) -> dict[str, Any]:
        """Take the spline apart."""
        return {
            "coeff_x": model.coeff_x.value,
            "coeff_y": model.coeff_y.value,
            "domain": [list(interval) for interval in model.domain],
            "degree": model.degree,
        }

    def from_yaml_tree_transform(self, node: dict[str, Any], tag: str, ctx: Any) -> Any:
        """Put the spline together."""
        from spalipy_astro.models import SplineDistortion2D

        return SplineDistortion2D(
            node["coeff_x"], node["coeff_y"], bounds=node["domain"], degree=node["degree"]
        )


class InverseSplineDistortion2DConverter(TransformConverterBase):
    """Write an inverse spline as the spline that it inverts."""

    tags = (f"{_TAGS}inverse_spline_distortion_2d-1.*",)
    types = ("spalipy_astro.models.InverseSplineDistortion2D",)

    def to_yaml_tree_transform(self, model: Any, tag: str, ctx: Any) -> dict[str, Any]:
        """Give the spline."""
        return {"spline": model.spline}

    def from_yaml_tree_transform(self, node: dict[str, Any], tag: str, ctx: Any) -> Any:
        """Invert the spline."""
        from spalipy_astro.models import InverseSplineDistortion2D

        return InverseSplineDistortion2D(node["spline"])


class FITSWCSTransformConverter(TransformConverterBase):
    """Write a FITS WCS as header cards, and beside them what must not be rounded."""

    tags = (f"{_TAGS}fits_wcs_transform-1.*",)
    types = ("spalipy_astro.models.FITSWCSTransform",)

    def to_yaml_tree_transform(self, model: Any, tag: str, ctx: Any) -> dict[str, Any]:
        """Give the WCS, taken apart."""
        return {"wcs": model.tree}

    def from_yaml_tree_transform(self, node: dict[str, Any], tag: str, ctx: Any) -> Any:
        """Put the WCS together."""
        from spalipy_astro.models import FITSWCSTransform, wcs_from_tree

        return FITSWCSTransform(wcs_from_tree(node["wcs"]))


class InverseFITSWCSTransformConverter(TransformConverterBase):
    """Write the way from the sky as the transform that it inverts."""

    tags = (f"{_TAGS}inverse_fits_wcs_transform-1.*",)
    types = ("spalipy_astro.models.InverseFITSWCSTransform",)

    def to_yaml_tree_transform(self, model: Any, tag: str, ctx: Any) -> dict[str, Any]:
        """Give the transform."""
        return {"transform": model.transform}

    def from_yaml_tree_transform(self, node: dict[str, Any], tag: str, ctx: Any) -> Any:
        """Invert the transform."""
        from spalipy_astro.models import InverseFITSWCSTransform

        return InverseFITSWCSTransform(node["transform"])


class NumericalInverse2DConverter(TransformConverterBase):
    """Write an inverse that is solved for as the transform that it inverts."""

    tags = (f"{_TAGS}numerical_inverse_2d-1.*",)
    types = ("spalipy_astro.models.NumericalInverse2D",)

    def to_yaml_tree_transform(self, model: Any, tag: str, ctx: Any) -> dict[str, Any]:
        """Give the transform, and where its inversion begins."""
        return {
            "forward": model.forward,
            "matrix": model.matrix.tolist(),
            "offset": model.offset.tolist(),
        }

    def from_yaml_tree_transform(self, node: dict[str, Any], tag: str, ctx: Any) -> Any:
        """Invert the transform."""
        from spalipy_astro.models import NumericalInverse2D

        return NumericalInverse2D(node["forward"], node["matrix"], node["offset"])


class AlignmentConverter(Converter):
    """Write an alignment as a tree of what it was made of."""

    tags = (f"{_TAGS}alignment-1.*",)
    types = ("spalipy_astro.alignment.Alignment",)

    def to_yaml_tree(self, alignment: Any, tag: str, ctx: Any) -> dict[str, Any]:
        """Take the alignment apart."""
        from spalipy_astro.io._asdf_file import to_tree

        return to_tree(alignment)

    def from_yaml_tree(self, node: dict[str, Any], tag: str, ctx: Any) -> Any:
        """Put the alignment together."""
        from spalipy_astro.io._asdf_file import from_tree

        return from_tree(dict(node))


class GroupAlignmentConverter(Converter):
    """Write a group as its alignments and tables."""

    tags = (f"{_TAGS}group-1.*",)
    types = ("spalipy_astro.groups.GroupAlignment",)

    def to_yaml_tree(self, group: Any, tag: str, ctx: Any) -> dict[str, Any]:
        """Take the group apart."""
        return group.to_tree()

    def from_yaml_tree(self, node: dict[str, Any], tag: str, ctx: Any) -> Any:
        """Put the group together."""
        # by its name: groups are made from files, and stand above them
        module, _, name = self.types[0].rpartition(".")
        return getattr(import_module(module), name).from_tree(dict(node))


CONVERTERS = (
    SplineDistortion2DConverter(),
    InverseSplineDistortion2DConverter(),
    FITSWCSTransformConverter(),
    InverseFITSWCSTransformConverter(),
    NumericalInverse2DConverter(),
    AlignmentConverter(),
    GroupAlignmentConverter(),
)
