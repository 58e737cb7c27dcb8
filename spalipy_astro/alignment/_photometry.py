"""One flux scale and one sky: what brings an aligned image to those of the template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from astropy.nddata import InverseVariance, NDData, StdDevUncertainty
from astropy.units import Quantity

if TYPE_CHECKING:
    from spalipy_astro.alignment._alignment import Alignment

__all__ = ["Photometry"]


class Photometry(NamedTuple):
    """
    How the pixels of an aligned image compare with the template's.

    Attributes
    ----------
    factor : float
        Multiplies the aligned image to give stars the flux that they have in the template.
    sky : float
        Sky of the aligned image, per pixel of its grid.
    template_sky : float
        Sky of the template, per pixel of that grid. NaN where one is not known.
    """

    factor: float
    sky: float
    template_sky: float

    @classmethod
    def of(cls, alignment: Alignment, *, conserve_flux: bool, pixel: float = 1.0) -> Photometry:
        """
        Compare the images of an alignment, the source resampled with or without its flux.

        A pixel of the grid has the area ``pixel`` in template px squared.
        """
        area = float(alignment._summary["scale"]) ** 2  # template px per source px
        quality = alignment.provenance.get("quality", {})
        sky, template_sky = (
            float(quality.get(side, {}).get("background", np.nan))
            for side in ("source", "template")
        )
        ratio = alignment.flux_ratio[0]
        if conserve_flux:
            return cls(1 / ratio, sky * pixel / area, template_sky * pixel)
        return cls(1 / (ratio * area), sky, template_sky)

    def check(self, *, scale_flux: bool, match_background: bool) -> None:
        """Raise ValueError where the images do not tell what is asked for."""
        if scale_flux and not np.isfinite(self.factor):
            raise ValueError(
                "scale_flux=True needs matched stars with fluxes in both images; less than three "
                "have them. Leave it out, or give catalogs with a column flux."
            )
        if match_background and not np.isfinite(self.sky - self.template_sky):
            raise ValueError(
                "match_background=True needs the sky of two images; one of them was a catalog. "
                "Leave it out, or find the alignment of the images."
            )

    def cards(self, *, scale_flux: bool, match_background: bool) -> dict[str, tuple[float, str]]:
        """Return header cards for what is left to do: image * FLXSCALE - ALGNBACK."""
        factor, sky = self.factor, self.sky
        if match_background:
            sky = self.template_sky
        if scale_flux:
            sky = sky if match_background else sky * factor
            factor = 1.0
        back = sky * factor - self.template_sky
        cards = {
            "FLXSCALE": (factor, "factor to the flux scale of the template"),
            "ALGNBACK": (back, "sky above the template's, after FLXSCALE"),
        }
        return {name: card for name, card in cards.items() if np.isfinite(card[0])}

    def apply(self, image: Any, *, scale_flux: bool, match_background: bool) -> Any:
        """Return an aligned image, whose pixels without data are NaN, with flux and sky changed."""
        factor = self.factor if scale_flux else 1.0
        zero = self.sky * factor - self.template_sky if match_background else 0.0
        if isinstance(image, NDData):
            image.data[...] = image.data * factor - zero
            spread = image.uncertainty
            if spread is not None and spread.array is not None and factor != 1:
                power = 1 if isinstance(spread, StdDevUncertainty) else 2
                power = -power if isinstance(spread, InverseVariance) else power
                spread.array[...] = spread.array * factor**power
            return image
        if isinstance(image, Quantity):
            return image * factor - zero * image.unit
        return image * factor - zero
