"""The dialects of programs that come with the package."""

from __future__ import annotations

from spalipy_astro.catalogs._dialect import Dialect, Position
from spalipy_astro.catalogs._flags import StarFlag

__all__ = ["DIALECTS", "SPALIPY"]


def _sextractor_position(kind: str) -> Position:
    """Return the columns of one kind of SExtractor's positions."""
    return Position(
        f"X{kind}_IMAGE",
        f"Y{kind}_IMAGE",
        variances=(f"ERRX2{kind}_IMAGE", f"ERRY2{kind}_IMAGE"),
        ellipse=(f"ERRA{kind}_IMAGE", f"ERRB{kind}_IMAGE", f"ERRTHETA{kind}_IMAGE"),
    )


SPALIPY = Dialect(
    "spalipy",
    0,
    (Position("x", "y", axes=("x_err", "y_err")),),
    flux=(("flux", "flux_err"),),
    magnitude=("mag", "magnitude"),
    fwhm=("fwhm",),
    flag=("flag",),
)
"""Our own columns, which include those of spalipy."""

SEXTRACTOR = Dialect(
    "sextractor",
    1,
    (
        *(_sextractor_position(kind) for kind in ("WIN", "PSF", "MODEL")),
        Position("X_IMAGE_DBL", "Y_IMAGE_DBL"),
        _sextractor_position(""),
    ),
    flux=tuple(
        (f"FLUX_{kind}", f"FLUXERR_{kind}")
        for kind in "AUTO BEST PSF PETRO WIN APER ISOCOR ISO MODEL MAX".split()
    ),
    magnitude=("MAG_AUTO", "MAG_BEST", "MAG_PSF", "MAG_APER", "MAG_ISOCOR", "MAG_ISO"),
    fwhm=("FWHM_IMAGE",),
    half_light_radius=("FLUX_RADIUS",),
    moments=("A_IMAGE", "B_IMAGE"),
    flag=("FLAGS",),
    bits={
        1: StarFlag.NEIGHBOR,
        2: StarFlag.BLENDED,
        4: StarFlag.SATURATED,
        8: StarFlag.EDGE,
        16: StarFlag.EDGE,  # aperture data are incomplete: photometry alone suffers
        32: StarFlag.BAD_PIXELS,  # isophotal data are, and the position with them
        64: StarFlag.BLENDED,  # memory overflow while deblending
        128: StarFlag.UNSTABLE,  # memory overflow while extracting
    },
)
"""SExtractor 2 (Bertin & Arnouts 1996, A&AS, 117, 393, doi:10.1051/aas:1996164)."""

SEP = Dialect(
    "sep",
    0,
    (
        Position("xwin", "ywin", variances=("errx2", "erry2")),
        Position("x", "y", variances=("errx2", "erry2")),
    ),
    key=("x", "y", "tnpix", "cxx"),
    flux=(("flux", "flux_err"),),
    fwhm=("fwhm",),
    moments=("a", "b"),
    flag=("flag",),
    bits={
        1: StarFlag.BLENDED,
        2: StarFlag.EDGE,
        4: StarFlag.BLENDED,
        8: StarFlag.ARTIFACT,  # pixels on one line
        16: StarFlag.EDGE,
        32: StarFlag.BAD_PIXELS,
        64: StarFlag.BAD_PIXELS,
    },
)
"""The arrays of sep.extract (Barbary 2016, JOSS, 1, 58, doi:10.21105/joss.00058)."""

PHOTUTILS = Dialect(
    "photutils",
    0,
    tuple(
        Position(f"x{gap}centroid{kind}", f"y{gap}centroid{kind}")
        for kind in ("_win", "_quad", "")
        for gap in ("_", "")
    ),
    flux=(
        ("flux", "flux_err"),
        ("kron_flux", "kron_flux_err"),
        ("kron_flux", "kron_fluxerr"),
        ("segment_flux", "segment_flux_err"),
        ("segment_flux", "segment_fluxerr"),
        ("sum", "sum_err"),
    ),
    fwhm=("fwhm",),
    moments=("semimajor_axis", "semiminor_axis"),
)
"""Tables of photutils' SourceCatalog, ApertureStats and star finders."""

APERTURE_PHOTOMETRY = tuple(
    Dialect(
        "photutils.aperture",
        0,
        (Position("x_center", "y_center"), Position("xcenter", "ycenter")),
        key=(total,),
        flux=((total, total.replace("sum", "sum_err")),),
    )
    for total in ("aperture_sum", "aperture_sum_0")
)
"""Tables of photutils' aperture_photometry."""

PEAKS = Dialect("photutils.peaks", 0, (Position("x_peak", "y_peak"),), flux=(("peak_value", ""),))
"""Tables of photutils' find_peaks."""

PSF_PHOTOMETRY = Dialect(
    "photutils.psf",
    0,
    (
        Position("x_fit", "y_fit", axes=("x_err", "y_err")),
        Position("x_init", "y_init"),
        Position("x_0", "y_0"),
    ),
    flux=(
        ("flux_fit", "flux_err"),
        ("flux_fit", "flux_unc"),
        ("flux_init", ""),
        ("flux_0", ""),
        ("flux", ""),
    ),
    flag=("flags",),
    bits={
        1: StarFlag.EDGE,
        2: StarFlag.UNSTABLE,
        8: StarFlag.UNSTABLE,
        64: StarFlag.BAD_PIXELS,
        128: StarFlag.BAD_PIXELS,
        256: StarFlag.BAD_PIXELS,
        512: StarFlag.UNSTABLE,
    },
)
"""Tables of photutils' PSFPhotometry."""

XYLS = (
    *(
        Dialect(
            "astrometry.net",
            1,
            (Position("X", "Y"),),
            key=key,
            cased=True,
            flux=(("FLUX", ""),),
            signs=signs,
        )
        for key, signs in ((("X", "Y", "BACKGROUND"), ()), (("X", "Y"), ("AN_FILE",)))
    ),
    Dialect(
        "astrometry.net",
        1,
        (Position("field_x", "field_y"),),
        key=("field_x", "index_x"),
        flux=(("FLUX", ""),),
    ),
)
"""
Lists of image2xy and solve-field (Lang et al. 2010, AJ, 139, 1782,
doi:10.1088/0004-6256/139/5/1782): told by a column BACKGROUND or by the card AN_FILE. Last the
list of stars that solve-field has found in its index, of which the image's are taken.
"""

DAOPHOT = Dialect(
    "daophot.stetson", 1, (Position("X", "Y"),), magnitude=("MAG",), signs=("DAOPHOT",)
)
"""Files of DAOPHOT II and ALLSTAR (Stetson 1987, PASP, 99, 191, doi:10.1086/131977)."""

IRAF = Dialect(
    "daophot.iraf",
    1,
    (Position("XCENTER", "YCENTER", axes=("XERR", "YERR")),),
    key=("XCENTER", "YCENTER"),  # in small letters these are names of photutils, from 0
    cased=True,
    flux=(("FLUX", ""), ("FLUX1", "")),
    magnitude=("MAG", "MAG1"),
)
"""Tables of IRAF's digiphot: daofind, phot, nstar, allstar."""

_LSST_FLAGS = {
    "saturatedCenter": StarFlag.SATURATED,
    "interpolatedCenter": StarFlag.BAD_PIXELS,
    "bad": StarFlag.BAD_PIXELS,
    "edge": StarFlag.EDGE,
    "crCenter": StarFlag.ARTIFACT,
}
LSST = (
    Dialect(
        "lsst",
        0,
        tuple(
            Position(f"{slot}_x", f"{slot}_y", axes=(f"{slot}_xErr", f"{slot}_yErr"))
            for slot in ("slot_Centroid", "base_SdssCentroid", "base_NaiveCentroid")
        ),
        flux=tuple(
            (f"{slot}_instFlux", f"{slot}_instFluxErr")
            for slot in ("slot_PsfFlux", "base_PsfFlux", "slot_CalibFlux", "slot_ApFlux")
        ),
        marks={f"base_PixelFlags_flag_{name}": bit for name, bit in _LSST_FLAGS.items()},
    ),
    Dialect(
        "lsst",
        0,
        (Position("x", "y", axes=("xErr", "yErr")),),
        key=("psfFlux",),
        flux=(("psfFlux", "psfFluxErr"),),
        marks={f"pixelFlags_{name}": bit for name, bit in _LSST_FLAGS.items()},
    ),
)
"""
Rubin's science pipelines: afw tables, and the columns of Source tables (Bosch et al. 2018, PASJ,
70, S5, doi:10.1093/pasj/psx080).
"""

DIALECTS = (
    *(SEP, DAOPHOT, *XYLS, *LSST, SPALIPY, SEXTRACTOR, PSF_PHOTOMETRY, PHOTUTILS),
    *(IRAF, *APERTURE_PHOTOMETRY, PEAKS),
)
"""Asked in this order: many have columns x and y, too, but other flags or another first pixel."""
