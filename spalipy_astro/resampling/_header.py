"""Header keywords that describe an image's old pixel grid or how it was stored."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from copy import deepcopy
from typing import Any

from astropy.io.fits import Header

__all__ = ["fresh_meta"]

_ALTERNATE = "[A-Z]?"
_STALE = re.compile(
    "|".join(
        [
            # the world coordinate system, its alternates, and its distortions
            f"(WCSAXES|WCSNAME|LONPOLE|LATPOLE|RADESYS|EQUINOX){_ALTERNATE}",
            f"(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CNAME|CRDER|CSYER){r'[1-9]'}{_ALTERNATE}",
            rf"(PC|CD|PV|PS)\d+_\d+{_ALTERNATE}",
            "RADECSYS|CROTA[1-9]|(A|B|AP|BP)_(ORDER|DMAX|[0-9]+_[0-9]+)",
            r"(CPDIS|CQDIS|CPERR|CQERR|DP|DQ|D2IMDIS|D2IMERR|DVERR)\d.*|DET2IM|D2IMARR|D2IMEXT",
            r"WCSDIM|WAT\d_\d+|LT[VM]\d(_\d)?|DT[VM]\d(_\d)?",
            r"ORIENTAT|OC[XY]1[01]|IDCSCALE|NPOLEXT"
            # the area of a pixel on the sky, the outline of the frame
            r"|PIXAR_(SR|A2)|S_REGION"
            # of drafts of the standard
            r"|PC00[1-9]00[1-9]"
            # a photographic plate's, which some take for that of the image
            r"|AMD[XY]\d+|PPO\d|PLTRA[HMS]|PLTDEC(SN|[DMS])|CNPIX\d",
            # sections of the detector, color filters before its pixels
            r"(DATA|TRIM|BIAS|CCD|AMP|DET|ORIG)SEC\d*|BAYERPAT|[XY]BAYROFF",
            # the array in the file
            r"INHERIT|NEXTEND|SIMPLE|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|BZERO|BSCALE|BLANK|DATAMIN|DATAMAX",
            r"CHECKSUM|DATASUM|ZHECKSUM|ZDATASUM|ZIMAGE|ZCMPTYPE|ZBITPIX|ZNAXIS\d*|ZTILE\d+",
            r"ZNAME\d+|ZVAL\d+|ZQUANTIZ|ZDITHER0|ZBLANK|ZSIMPLE|ZEXTEND|ZPCOUNT|ZGCOUNT|ZTENSION",
        ]
    )
)


def fresh_meta(meta: MutableMapping[str, Any], provenance: Mapping[str, Any] | None) -> Any:
    """
    Copy the header of an image for one on another grid.

    Parameters
    ----------
    meta : Header or dict
        Of the source.
    provenance : dict or None
        Cards to add: values, or tuples of value and comment.

    Returns
    -------
    Header or dict
        Of the type of ``meta``.
    """
    if isinstance(meta, Header):  # in one go: to remove a card from one of hundreds takes long
        fresh: Any = Header([c for c in meta.cards if not _STALE.fullmatch(c.keyword)], copy=True)
    else:
        fresh = deepcopy(meta)
        for key in [key for key in fresh if isinstance(key, str) and _STALE.fullmatch(key)]:
            del fresh[key]
    for key, card in (provenance or {}).items():
        plain = not isinstance(fresh, Header) and isinstance(card, tuple)
        fresh[key] = card[0] if plain else card
    return fresh
