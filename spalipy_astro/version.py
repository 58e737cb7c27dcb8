"""The version of this package."""

try:
    from spalipy_astro._version import __version__
except ImportError:  # a checkout that was never installed
    __version__ = "0.0.dev0"

__all__ = ["__version__"]
