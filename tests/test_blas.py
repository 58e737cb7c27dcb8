"""Linear algebra has one thread within blocks, whichever thread enters and leaves them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy  # noqa: F401, its BLAS is to be there
import pytest
from threadpoolctl import ThreadpoolController

from spalipy_astro._blas import one_blas_thread


def numbers():
    """Return how many threads each library may use."""
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    return {library.filepath: library.get_num_threads() for library in libraries}


@pytest.fixture(autouse=True)
def two():
    """Let libraries have two threads, on any machine."""
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        if not numbers() or set(numbers().values()) != {2}:
            pytest.skip("a BLAS that cannot have two threads")
        yield


def test_the_limit_is_lifted():
    with one_blas_thread():
        with one_blas_thread():
            assert set(numbers().values()) == {1}
        assert set(numbers().values()) == {1}
    assert set(numbers().values()) == {2}


def test_other_threads_have_it_too():
    with one_blas_thread():
        pass
    with ThreadPoolExecutor(1) as pool:  # the main thread lives, and was the first to limit
        inside = pool.submit(one_blas_thread()(numbers)).result()
        assert set(inside.values()) == {1}
        assert set(pool.submit(numbers).result().values()) == {2}
    assert set(numbers().values()) == {2}
    with one_blas_thread():
        assert set(numbers().values()) == {1}


def test_the_first_to_enter_may_leave_first():
    entered, left = Barrier(2), Barrier(2)

    def first():
        with one_blas_thread():
            entered.wait(10)
        left.wait(10)
        return numbers()

    def last():
        with one_blas_thread():
            entered.wait(10)
            left.wait(10)
            return numbers()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(first)
        assert set(pool.submit(last).result(20).values()) == {1}
    assert set(numbers().values()) == {2}


def test_an_error_lifts_it():
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        raise ZeroDivisionError
    assert set(numbers().values()) == {2}
