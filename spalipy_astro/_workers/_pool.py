"""One function on many items: here, in threads, in processes or on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

from spalipy_astro._blas import available_cores
from spalipy_astro._checks import whole_number
from spalipy_astro._files import scratch_folder

__all__ = ["Processes", "check_workers", "connected", "run", "started"]

Function = Callable[[Any], Any]
_UNGUARDED = (
    "worker processes do not start. A script must start them within "
    "'if __name__ == \"__main__\":'; executor='threads' does without them."
)


def check_workers(executor: Any, n_workers: Any) -> int | None:
    """
    Return the number of workers as a plain one; raise for what `run` cannot take.

    Raises
    ------
    TypeError, ValueError
        The message begins with the argument's name.
    """
    if not isinstance(executor, Executor) and executor not in ("processes", "threads"):
        raise ValueError(f"executor is 'processes', 'threads' or an Executor; got {executor!r}.")
    if n_workers is None:
        return None
    return whole_number("n_workers", n_workers, "a number of workers, or None", least=1)


@contextmanager
def connected(client: Any) -> Iterator[Any]:
    """Connect to the cluster of an address; a client, or None, stays what it is."""
    if not isinstance(client, str):
        if client is not None and not hasattr(client, "get_executor"):
            raise TypeError(f"client is a dask.distributed.Client or its address; got {client!r}.")
        yield client
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("a cluster needs dask.distributed: pip install distributed") from error
    with Client(client) as one:
        yield one


@contextmanager
def started(
    executor: str | Executor,
    n_workers: int,
    *,
    client: Any = None,
    most: int | None = None,
    modules: Sequence[str] = (),
) -> Iterator[str | Executor | Processes]:
    """
    Start the worker processes, if there are to be any, for one or more runs.

    Parameters
    ----------
    executor, n_workers, client
        As for `run`.
    most : int, optional
        The number of items, if it is known: there is no use for more processes.
    modules : sequence of str, optional
        What they import while the caller still does other things.

    Yields
    ------
    str, Executor or Processes
        What to give to `run` as the executor.
    """
    if client is not None or executor != "processes" or n_workers == 1:
        yield executor
        return
    number = n_workers if most is None else min(n_workers, max(most, 1))
    with Processes(number, modules) as processes:
        yield processes


def run(
    function: Function,
    items: Iterable[Any],
    *,
    n_workers: int = 1,
    executor: str | Executor | Processes = "processes",
    client: Any = None,
) -> Generator[tuple[int, Any], None, None]:
    """
    Apply a function to items.

    Parameters
    ----------
    function : callable
        It must be possible to pickle it, except for threads.
    items : iterable
        Taken one by one: only a few more than there are workers are held at a time.
    n_workers : int, optional
        1 is this very thread, whatever the executor.
    executor : {"processes", "threads"}, `concurrent.futures.Executor` or Processes, optional
    client : `dask.distributed.Client`, optional
        In place of an executor.

    Yields
    ------
    index : int
    result : object
        Of the item of that index, in order of completion; the exception where one was raised.
    """
    if client is not None:
        cores = sum(client.nthreads().values())
        job = client.scatter(function, broadcast=True, hash=False)
        pool = client.get_executor(pure=False)
        try:
            yield from _run(lambda item: pool.submit(_call, job, item), items, max(3 * cores, 4))
        finally:
            pool.shutdown(wait=False)
    elif isinstance(executor, Executor):
        most = max(4 * n_workers, 2 * available_cores())
        if isinstance(executor, ProcessPoolExecutor):
            with scratch_folder() as folder:
                path = _written(function, folder)
                yield from _run(
                    lambda item: executor.submit(_call_adopted, path, item), items, most
                )
        else:
            yield from _run(lambda item: executor.submit(function, item), items, most)
    elif isinstance(executor, Processes):
        yield from executor.run(function, items)
    elif n_workers == 1:
        for index, item in enumerate(items):
            try:
                yield index, function(item)
            except Exception as error:
                yield index, error
    elif executor == "threads":
        with ThreadPoolExecutor(n_workers) as threads:
            yield from _run(lambda item: threads.submit(function, item), items, 2 * n_workers)
    else:
        with Processes(n_workers) as processes:
            yield from processes.run(function, items)


def _call(function: Function, item: Any) -> Any:
    return function(item)


def _run(
    submit: Callable[[Any], Future[Any]], items: Iterable[Any], most: int
) -> Iterator[tuple[int, Any]]:
    """Submit items, at most so many at a time, and yield results as they come."""
    pending: dict[Future[Any], int] = {}
    try:
        for index, item in enumerate(items):
            pending[submit(item)] = index
            if len(pending) >= most:
                yield from _finished(pending)
        while pending:
            yield from _finished(pending)
    finally:
        for future in pending:
            future.cancel()


def _finished(pending: dict[Future[Any], int]) -> list[tuple[int, Any]]:
    """Wait for at least one result and take those that are there."""
    done = wait(pending, return_when=FIRST_COMPLETED).done
    return [(pending.pop(future), _result(future)) for future in done]


def _result(future: Future[Any]) -> Any:
    """Return a result, or the exception in its place."""
    try:
        return future.result()
    except Exception as error:
        return error


_adopted: tuple[str, Function] = "", repr  # of a worker process


def _call_adopted(path: str, item: Any) -> Any:
    """Call the function that is in a file: it comes once, not with every item."""
    global _adopted
    if _adopted[0] != path:
        _adopted = path, pickle.loads(Path(path).read_bytes())
    return _adopted[1](item)


def _written(function: Function, folder: Path) -> str:
    """Write a function to a new file, from which worker processes take it."""
    number, path = tempfile.mkstemp(suffix=".pickle", dir=folder)
    with open(number, "wb") as stream:
        pickle.dump(function, stream)
    return path


def _begin(life: Connection, folder: Path) -> None:
    """
    Begin the life of a worker process, which ends with the one that it works for.

    That one holds the other end of the pipe, and the system closes it whatever ends the process.
    Ctrl-C in a terminal goes to all processes: it is for the first one to act on it. Temporary
    files of libraries (astropy makes one to see whether files can be mapped) go to the folder,
    which the next run removes if this process is killed before it can.
    """
    tempfile.tempdir = str(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with, args=(life,), daemon=True).start()


def _end_with(life: Connection) -> None:
    with suppress(EOFError, OSError):
        life.recv_bytes()
    os._exit(1)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start processes that do not hear of Ctrl-C, even before they have begun: they inherit it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _import(modules: Sequence[str]) -> None:
    """Import modules, which shows too that a worker process is alive."""
    for name in modules:
        import_module(name)


class Processes:
    """
    Worker processes that are replaced when they die.

    Where one dies (killed for want of memory, or by a fault in a library) all items in work are
    lost. They are repeated one by one, so that only the deadly one is given up. All end at once
    when this process does, even if it is killed, and where an exception leaves the block.

    Parameters
    ----------
    n_workers : int
        How many.
    modules : sequence of str, optional
        What to import before there is work.
    """

    def __init__(self, n_workers: int, modules: Sequence[str] = ()) -> None:
        # In a worker that still imports the user's script a pool can neither start nor shut down.
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise RuntimeError(_UNGUARDED)
        self.n_workers = n_workers
        self.function = ""
        self.modules = modules
        self.proven = False
        self.context = multiprocessing.get_context("spawn")  # threads of BLAS do not survive a fork
        with ExitStack() as stack:
            # In a file: a process that dies before it has read its arguments would stop the one
            # that writes them to its pipe, if there is more of them than the pipe holds.
            self.folder = stack.enter_context(scratch_folder())
            self.life, self.end = self.context.Pipe(duplex=False)
            stack.callback(self.life.close)
            stack.callback(self.end.close)  # all workers end
            self.pool = self._start()
            self.stack = stack.pop_all()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        # That is the end of the workers, whatever they do. Those that are told to end take a
        # quarter of a second, and it ends in an error to leave them at it while this process ends.
        self.stack.close()
        self.pool.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            self.n_workers,
            mp_context=self.context,
            initializer=_begin,
            initargs=(self.life, self.folder),
        )
        # `run` will notice where the pool is broken
        with suppress(BrokenProcessPool), _without_interrupts():
            for _ in range(self.n_workers):  # each starts a process
                pool.submit(_import, self.modules)
        return pool

    def _restart(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.pool = self._start()
        if not self.proven:
            try:
                self.pool.submit(_import, self.modules).result()
            except BrokenProcessPool as error:
                raise RuntimeError(_UNGUARDED) from error

    def run(self, function: Function, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Apply a function to items; yield index and result in order of completion."""
        self.function = _written(function, self.folder)
        pending: dict[Future[Any], tuple[int, Any]] = {}
        for index, item in enumerate(items):
            self._submit(pending, index, item)
            if len(pending) >= 2 * self.n_workers:
                yield from self._finished(pending)
        while pending:
            yield from self._finished(pending)

    def _submit(self, pending: dict[Future[Any], tuple[int, Any]], index: int, item: Any) -> None:
        """Submit an item; one that finds the pool broken is treated as if it had been in it."""
        try:
            future = self.pool.submit(_call_adopted, self.function, item)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        pending[future] = index, item

    def _finished(self, pending: dict[Future[Any], tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Take the results that are there; after a death repeat what is lost."""
        done = wait(pending, return_when=FIRST_COMPLETED).done
        lost = []
        for future in done:
            index, item = pending.pop(future)
            result = _result(future)
            if isinstance(result, BrokenProcessPool):
                lost.append((index, item))
            else:
                self.proven = True
                yield index, result
        if not lost:
            return
        for future in list(wait(pending).done):  # all of them are broken, or finished before
            index, item = pending.pop(future)
            result = _result(future)
            if isinstance(result, BrokenProcessPool):
                lost.append((index, item))
            else:
                yield index, result
        self._restart()
        for index, item in sorted(lost, key=lambda pair: pair[0]):
            result = _result(self.pool.submit(_call_adopted, self.function, item))
            if isinstance(result, BrokenProcessPool):
                result = RuntimeError(
                    "the worker process died at this item: it ran out of memory, or a library "
                    "crashed"
                )
                self._restart()
            yield index, result
