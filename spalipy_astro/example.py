"""The pair of real frames that comes with the package."""

from __future__ import annotations

from importlib.resources import as_file, files

from astropy.io import fits
from astropy.nddata import CCDData

__all__ = ["example_pair"]


def example_pair() -> tuple[CCDData, CCDData]:
    """Read the two bundled frames of the TrES-1 field.

    The frames are raw 60 s exposures of one night (2012-06-17, University of Maryland observatory,
    SBIG ST-10), nearly four hours apart. The stars drifted by 140 pixels in x and in y between
    them; the hot pixels did not move.

    Returns
    -------
    source, template : `~astropy.nddata.CCDData`
        Images of shape ``(736, 1092)``, ``uint16``, in adu, with the headers that the camera
        software wrote. They have no WCS, mask or uncertainty.

    Notes
    -----
    The frames come from OSCAAR (https://github.com/OSCAAR/OSCAAR) under the MIT license; see
    ``data/README.md`` in the package.

    Examples
    --------
    >>> from spalipy_astro.example import example_pair
    >>> source, template = example_pair()
    >>> template.shape
    (736, 1092)
    >>> source.header["DATE-OBS"]
    '2012-06-17T05:41:00'
    """
    return _read("tres1_source.fits.fz"), _read("tres1_template.fits.fz")


def _read(name: str) -> CCDData:
    """Read a bundled frame: tile-compressed, so that the image is in extension 1."""
    # Not CCDData.read: it would make a WCS of the date alone, with a warning.
    with as_file(files("spalipy_astro") / "data" / name) as path, fits.open(path) as hdus:
        return CCDData(hdus[1].data, unit="adu", meta=hdus[1].header)
