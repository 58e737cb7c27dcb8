"""The stars of one image."""

from __future__ import annotations

from typing import Any

from astropy.table import QTable
from astropy.units import Quantity

from spalipy_astro._blas import one_blas_thread
from spalipy_astro._checks import checked_call, detection_options, in_data_units
from spalipy_astro.detection import find_stars
from spalipy_astro.io import OBSERVATORY, as_image, is_file_like, open_image, open_mask
from spalipy_astro.typing import Finder, HDULike, ImageLike, MaskLike

__all__ = ["detect_stars"]


@checked_call
@one_blas_thread()
def detect_stars(
    image: ImageLike,
    *,
    hdu: HDULike | None = None,
    mask: MaskLike | None = None,
    ignore_flags: Any = OBSERVATORY,
    flag_name_map: Any = None,
    threshold: float = 5.0,
    fwhm: float | Quantity | None = None,
    gain: float | Quantity | None = None,
    saturation: float | Quantity | None = None,
    finder: Finder = "auto",
) -> QTable:
    """
    Find and measure the stars of an image.

    Parameters
    ----------
    image : path, HDU, HDUList, CCDData, NDData or array_like, shape (ny, nx)
        The image; its mask and uncertainty are used. Of color images and cubes it is the mean of
        the planes; see `find_alignment`.
    hdu : int, str or (str, int), optional
        Which HDU of a file or HDUList is the image; by default the first image.
    mask : array_like of bool, path, HDU or HDUList, optional
        Bad pixels in addition to the image's own; of a file all that are not zero.
    ignore_flags, flag_name_map : optional
        Which flags in a file do not make a pixel bad, as for `find_alignment`.
    threshold : float, optional
        Smallest signal-to-noise ratio of a star.
    fwhm : float or `~astropy.units.Quantity`, optional
        Full width at half maximum of the stars, px; measured by default.
    gain : float or `~astropy.units.Quantity`, optional
        Electrons per data unit; estimated from the sky noise by default.
    saturation : float or `~astropy.units.Quantity`, optional
        Data value at and above which a pixel is saturated; by default found from the data.
    finder : {"auto", "stars", "sources"} or callable, optional
        What finds the stars:

        "stars"
            a fit of the image's own PSF, the most exact for stars;
        "sources"
            photutils' segmentation, for objects of any shape: trailed stars, rings of defocus,
            galaxies. Errors are those of centers of light;
        "auto"
            the fit, and the segmentation instead where the PSF does not describe the bright
            sources: trails longer than about 6 FWHM, rings of more than about 10 px radius, fields
            of galaxies only;
        a star finder of photutils, such as ``DAOStarFinder(threshold=50, fwhm=3)``, or a function
            called as ``finder(data, mask=mask)`` with the image less its sky (float64, 0 where
            ``mask`` is True, in the image's unit), which returns what `read_catalog` reads.
            ``threshold``, ``fwhm``, ``gain`` and ``saturation`` do not apply to it.

    Returns
    -------
    `~astropy.table.QTable`
        One row per source, brightest first: ``x``, ``y`` (0-based px), ``x_err``, ``y_err``,
        ``flux``, ``flux_err``, ``fwhm``, ``snr`` and ``flag`` (`StarFlag` bits); from a finder of
        your own ``x``, ``y`` and those of the others that it gives. ``meta["finder"]`` tells what
        found them.

    Raises
    ------
    ImageError
        If the image has the wrong dimensions, no good pixels, or no contrast.
    CatalogError
        If what a finder of your own returns has no positions.
    TypeError, ValueError
        If an option is invalid, or has a unit that does not match the image's.
    """
    if hdu is not None and not is_file_like(image):
        raise ValueError(f"hdu is for files and HDULists, and the image is none; got {hdu!r}.")
    flags = {"ignore_flags": ignore_flags, "flag_name_map": flag_name_map}
    image = open_image(image, hdu=hdu, **flags)
    plain = as_image(image, mask=open_mask(mask, hdu=hdu, **flags))
    options = detection_options(
        threshold=threshold, fwhm=fwhm, gain=gain, saturation=saturation, finder=finder
    )
    options = in_data_units(options, image)
    return find_stars(plain.data, mask=plain.mask, error=plain.error, **options)
