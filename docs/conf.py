"""Sphinx configuration. The build needs no network; intersphinx joins in where it is asked for."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from importlib.metadata import version as installed_version
from pathlib import Path

project = "spalipy_astro"
author = "spalipy_astro developers"
copyright = "2026, spalipy_astro developers"
release = installed_version("spalipy_astro")
version = ".".join(release.split(".")[:2])

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
extensions = [
    "command_line",
    "gallery",
    "mathml",
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx.ext.intersphinx",
    "sphinx_automodapi.automodapi",
    "sphinx_automodapi.smart_resolver",
    "sphinx_copybutton",
]
default_role = "obj"
copybutton_exclude = ".linenos, .gp, .go"  # prompts and what is printed are not copied
smartquotes_action = "qe"  # "--" is the start of an option, not a dash
# A name in `...` that is not found is an error. Those of other packages are found where there are
# inventories; and some docstrings name neighbors as their module's code does.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(astropy|ccdproc|concurrent|dask|drizzle|enum|gwcs|matplotlib|numpy)(\..*)?"),
    (r"py:.*", r"reproject(\..*)?"),
    (r"py:.*", r"align_many|select_stars|InverseFITSWCSTransform"),
    (r"py:class", r"spalipy_astro\.alignment\._summary\.Merits"),  # a private base: see results.rst
]
exclude_patterns = ["_build", "api/*.inc"]

autodoc_typehints = "none"  # numpydoc sections give the types, in words and with shapes
autodoc_default_options = {"no-value": True}
automodapi_toctreedirnm = "api"
automodapi_inheritance_diagram = False
automodsumm_inherited_members = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# A tutorial's code blocks share their variables through `:context:`; what they draw is in the page.
plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 120)]
plot_rcparams = {
    "figure.constrained_layout.use": True,
    "font.size": 9.0,
    "savefig.facecolor": "white",
}
plot_apply_rcparams = True
# Examples write files; not into the sources.
_scratch = tempfile.TemporaryDirectory()
shutil.copytree(Path(__file__).parent / "data", Path(_scratch.name) / "data")
shutil.copytree(
    Path(__file__).parents[1] / "benchmarks" / "results", Path(_scratch.name) / "results"
)
plot_working_directory = _scratch.name

# Fetching the inventories needs the network: Read the Docs has it, a checkout on a plane has not.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "astropy": ("https://docs.astropy.org/en/stable", None),
        "gwcs": ("https://gwcs.readthedocs.io/en/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "photutils": ("https://photutils.readthedocs.io/en/stable", None),
        "reproject": ("https://reproject.readthedocs.io/en/stable", None),
    }
    if os.environ.get("READTHEDOCS") or os.environ.get("SPALIPY_ASTRO_INTERSPHINX")
    else {}
)

html_theme = "pydata_sphinx_theme"
html_title = "spalipy_astro"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_search_scorer = str(Path(__file__).parent / "_ext" / "scorer.js")
html_math_renderer = "mathml"
