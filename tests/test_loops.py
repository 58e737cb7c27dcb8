"""Compiled loops: kept on disk as object code, the same whoever compiled them."""

import ast
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.modeling.models import AffineTransformation2D
from astropy.nddata import StdDevUncertainty

import spalipy_astro
from spalipy_astro import _loops
from spalipy_astro._loops import _machinecode
from spalipy_astro._loops._machinecode import Loop
from spalipy_astro.example import example_pair
from spalipy_astro.resampling import resample, resample_flags
from spalipy_astro.resampling._kernels import KERNELS

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="object code is used on Linux only")

ALIGN = """if True:
    import sys
    import spalipy_astro
    from spalipy_astro.example import example_pair

    aligned = spalipy_astro.align(*example_pair())
    print("numba" in sys.modules, hash(aligned.data.tobytes()))
"""


def run(code, **environment):
    """Run Python in a new process; return the words that it prints."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder for object code."""
    monkeypatch.setattr(_machinecode, "_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def compilations(monkeypatch):
    """Count what is compiled."""
    from spalipy_astro._loops import _compiling

    done = []
    compile_ = _compiling.object_code

    def counted(*args):
        done.append(args)
        return compile_(*args)

    monkeypatch.setattr(_compiling, "object_code", counted)
    return done


def extent(loop, x):
    """Call the shortest of the loops."""
    out = np.empty(4)
    loop(x, x.copy(), (30, 40), out)
    return out.tolist()


POSITIONS = np.arange(36.0).reshape(6, 6)
INNER = [7.0, 28.0, 7.0, 28.0]


@pytest.fixture
def loop():
    """A loop that nobody has called yet."""
    return Loop("positions", "source_extent")


@LINUX
def test_numba_is_imported_only_to_compile():
    run(ALIGN)
    imported, here = run(ALIGN)
    assert imported == "False"
    imported, by_numba = run(ALIGN.replace("import sys", "import sys, numba"))
    assert (imported, by_numba) == ("True", here)


@LINUX
def test_each_loop_is_object_code(monkeypatch):
    """Nothing that the package calls its loops with needs the interpreter."""
    found = []
    find = Loop._find

    def noted(self, kinds):
        found.append((self._name, find(self, kinds)))
        return found[-1][1]

    for name in _loops.__all__:
        monkeypatch.setattr(getattr(_loops, name), "_known", {})
    monkeypatch.setattr(Loop, "_find", noted)
    spalipy_astro.align(*example_pair())
    image = np.random.default_rng(5).normal(size=(50, 60)).astype(np.float32)
    image[20, 30] = np.nan
    uncertainty = StdDevUncertainty(np.ones((50, 60)))
    for method, scale in [(name, 1) for name in KERNELS] + [("lanczos3", 0.5)]:
        backward = AffineTransformation2D(np.eye(2) / scale)
        resample(image, backward, method=method, uncertainty=uncertainty)
        resample(image.astype(float), backward, method=method)
    resample_flags(np.zeros((50, 60), np.uint16), backward, flags_method="or")
    assert {name for name, _ in found} == set(_loops.__all__)
    assert [name for name, function in found if function is None] == []


def test_loops_use_only_their_own_folder():
    """Object code is known by these sources: what else it used could change unnoticed."""
    for path in Path(_loops.__file__).parent.glob("[!_]*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("spalipy_astro"):
                assert node.module.startswith("spalipy_astro._loops"), path


@LINUX
def test_kept_on_disk(loop, folder, compilations):
    assert extent(loop, POSITIONS) == INNER
    (path,) = folder.iterdir()
    assert len(compilations) == 1
    assert extent(Loop("positions", "source_extent"), POSITIONS) == INNER
    assert len(compilations) == 1
    assert list(folder.iterdir()) == [path]


@LINUX
@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "removed"])
def test_damaged_object_code_is_made_anew(loop, folder, compilations, damage):
    extent(loop, POSITIONS)
    (path,) = folder.iterdir()
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        changed = content[:-1] + bytes([content[-1] ^ 1])
        path.write_bytes({"cut": content[:-100], "empty": b"", "changed": changed}[damage])
    assert extent(Loop("positions", "source_extent"), POSITIONS) == INNER
    assert len(compilations) == 2
    assert len(path.read_bytes()) == len(content)


@LINUX
def test_other_sources_are_compiled_anew(loop, folder, compilations, monkeypatch):
    extent(loop, POSITIONS)
    build = _machinecode._build()
    for k in range(len(build)):
        other = (*build[:k], "other", *build[k + 1 :])
        monkeypatch.setattr(_machinecode, "_build", lambda other=other: other)
        extent(Loop("positions", "source_extent"), POSITIONS)
    assert len(compilations) == 1 + len(build) == len(list(folder.iterdir()))


@LINUX
def test_folder_that_cannot_be_written(loop, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(_machinecode, "_folder", lambda: tmp_path / "file" / "folder")
    assert extent(loop, POSITIONS) == INNER


class TestFolder:
    """Object code is kept beside the byte code, or where the user may write."""

    @pytest.fixture(autouse=True)
    def _anew(self):
        _machinecode._folder.cache_clear()
        yield
        _machinecode._folder.cache_clear()

    def test_beside_the_package(self):
        if os.access(_machinecode._HERE, os.W_OK):
            assert _machinecode._folder() == _machinecode._HERE / "__pycache__"

    def test_of_the_user(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda *_: False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert tmp_path in _machinecode._folder().parents

    def test_nowhere(self, monkeypatch, tmp_path):
        (tmp_path / "file").touch()
        monkeypatch.setattr(os, "access", lambda *_: False)
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert _machinecode._folder() == _machinecode._HERE / "__pycache__"


@LINUX
def test_code_that_needs_the_interpreter_is_left_to_numba(loop, folder, monkeypatch):
    monkeypatch.setattr(_machinecode, "_function", lambda *_: allocating)
    assert extent(loop, POSITIONS) == [4.0] * 4
    assert list(folder.iterdir()) == []


def allocating(x, y, frame, out):
    """Need memory, which numba's runtime gives."""
    out[:] = np.full(out.size, 4.0) * np.ones(x.shape[0])[: out.size]


def test_systems_without_object_code(loop, folder, monkeypatch):
    monkeypatch.setattr(_machinecode, "_supported", lambda: False)
    assert extent(loop, POSITIONS) == INNER
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("order", ["F", "strided"])
def test_arrays_in_another_order(loop, order):
    x = POSITIONS.copy(order="F") if order == "F" else np.repeat(POSITIONS, 2, axis=1)[:, ::2]
    out = np.empty(4)
    loop(x, x, (30, 40), out)
    assert out.tolist() == INNER


def test_left_in_python():
    """As `numba` does, to measure coverage or to debug."""
    code = """if True:
        import numpy as np
        from spalipy_astro import _loops
        x, out = np.arange(36.0).reshape(6, 6), np.empty(4)
        _loops.source_extent(x, x, (30, 40), out)
        print(*out)
    """
    assert run(code, NUMBA_DISABLE_JIT="1") == [str(value) for value in INNER]


@LINUX
def test_many_threads_compile_once(loop, folder, compilations):
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: extent(loop, POSITIONS), range(32)))
    assert results == [INNER] * 32
    assert len(compilations) == 1
