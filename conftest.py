"""What tests, docs and docstrings share: the header and a place for doctests to write."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
from threadpoolctl import threadpool_limits

try:
    from pytest_astropy_header.display import PYTEST_HEADER_MODULES, TESTED_VERSIONS
except ImportError:  # the header is a convenience, the tests run without it
    PYTEST_HEADER_MODULES, TESTED_VERSIONS = {}, {}


def pytest_configure(config):
    config.option.astropy_header = True
    PYTEST_HEADER_MODULES.clear()
    for module in (
        "numpy",
        "scipy",
        "astropy",
        "photutils",
        "gwcs",
        "reproject",
        "asdf",
        "asdf_astropy",
        "matplotlib",
    ):
        PYTEST_HEADER_MODULES[module] = module
    try:
        TESTED_VERSIONS["spalipy_astro"] = version("spalipy_astro")
    except PackageNotFoundError:
        TESTED_VERSIONS["spalipy_astro"] = "not installed"


@pytest.fixture(autouse=True, scope="session")
def _one_blas_thread():
    """Fit as the package does: threads that wait for each other on a busy machine take minutes."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(autouse=True)
def _doctests_write_elsewhere(request, tmp_path_factory, monkeypatch):
    """Give every doctest an empty folder to work in: examples write files."""
    if type(request.node).__name__ == "DoctestItem":
        monkeypatch.chdir(tmp_path_factory.mktemp("doctest"))


@pytest.fixture(autouse=True)
def _close_figures():
    """Close what a test or an example has drawn; matplotlib keeps figures until told otherwise."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
