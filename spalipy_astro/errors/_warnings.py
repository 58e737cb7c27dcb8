"""The warning of the package; of all this alone needs astropy."""

from astropy.utils.exceptions import AstropyUserWarning

__all__ = ["NotCompiledWarning"]


class NotCompiledWarning(AstropyUserWarning):
    """
    The pixel loops were not compiled when the package was installed, so they are slower.

    What it means and what to change: :ref:`not-compiled`.
    """
