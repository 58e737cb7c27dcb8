"""The extension modules; all else about the package is in pyproject.toml."""

import os
import sys
import sysconfig

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FOLDER = "spalipy_astro/_compiled"
SOURCES = {
    "_detection": ["lines", "mesh", "neighbors", "peaks", "psf", "starfit"],
    "_matching": ["matching"],
    "_neighbors": ["strips"],
    "_resampling": ["interpolation", "positions"],
    "_splines": ["smoothing", "splines"],
}

# Nothing that would change results: no fused multiplications, which not every processor has, and no
# sum in another order. Floating-point traps and errno are not used. Short vectors are passed within
# a file only, where all functions have the same convention.
GCC_FLAGS = [
    "-O3",
    "-std=c99",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wno-psabi",
    "-g0",
]
MSVC_FLAGS = ["/O2", "/fp:precise"]

# Wheels must have the modules. Elsewhere they are built if they can be: without them numpy does the
# same, slower.
REQUIRED = os.environ.get("SPALIPY_ASTRO_REQUIRE_EXTENSIONS", "0") != "0"

# One build for Python 3.11 and later; builds of Python without the global lock have no stable ABI.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")


class BuildExt(build_ext):
    """Builds with the flags of the compiler that is found."""

    def build_extensions(self):
        """Choose the flags."""
        flags = MSVC_FLAGS if self.compiler.compiler_type == "msvc" else GCC_FLAGS
        for extension in self.extensions:
            extension.extra_compile_args = flags
            extension.optional = not REQUIRED  # Cython would forget it
        super().build_extensions()


def extensions():
    """Return the modules, one for each room."""
    macros = [("Py_LIMITED_API", "0x030B0000")] if LIMITED else []
    return [
        Extension(
            f"{FOLDER.replace('/', '.')}.{name}",
            [f"{FOLDER}/{name}.pyx", *(f"{FOLDER}/src/{part}.c" for part in parts)],
            depends=[f"{FOLDER}/arrays.pxi", *headers()],
            define_macros=macros,
            libraries=[] if sys.platform == "win32" else ["m"],
            py_limited_api=LIMITED,
        )
        for name, parts in SOURCES.items()
    ]


def headers():
    """Return what the C sources include."""
    return sorted(f"{FOLDER}/src/{n}" for n in os.listdir(f"{FOLDER}/src") if n.endswith(".h"))


setup(
    ext_modules=cythonize(extensions(), build_dir="build"),
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
)
