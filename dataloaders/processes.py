"""Spread independent jobs over processes, for commands that go through a whole data set."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import cv2

from dataloaders.errors import DataError

CHUNK = 16  # jobs that a process takes at a time: few enough to stop soon, enough to keep it busy
_stop = None  # in a worker: the event that is set when it shall finish


class WorkerError(DataError):
    """A worker process died; the message is one sentence."""


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_map(
    function: Callable,
    jobs: list[tuple],
    workers: int,
    *,
    chunk: int | None = None,
    isolated: bool = False,
) -> Iterator:
    """Yield `function(*job)` of every job, in order; close it where it is not exhausted.

    On Ctrl-C, jobs in progress are finished and the others left.

    Args:
        workers: processes; one means this process.
        chunk: jobs that a process takes at a time; None means `CHUNK`.
        isolated: use another process even for one worker, since it may crash.

    Raises:
        WorkerError: a worker process died.
    """
    if not jobs or (workers == 1 and not isolated):
        yield from (function(*job) for job in jobs)
        return
    # Forked workers start at once and import nothing; macOS libraries do not survive a fork.
    forks = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    context = multiprocessing.get_context("fork" if forks else "spawn")
    stop, chunk, threads = context.Event(), chunk or CHUNK, cv2.getNumThreads()
    chunks = [jobs[start : start + chunk] for start in range(0, len(jobs), chunk)]
    cv2.setNumThreads(1)  # before any fork: a forked OpenCV thread pool would hang
    with _one_interrupt():
        pool = ProcessPoolExecutor(min(workers, len(chunks)), context, _start_worker, (stop,))
        try:
            for future in [pool.submit(_call_each, function, chunk) for chunk in chunks]:
                yield from future.result()
        except BrokenProcessPool as error:
            raise WorkerError("a worker process died, perhaps for lack of memory") from error
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            cv2.setNumThreads(threads)


def _call_each(function: Callable, jobs: list[tuple]) -> list:
    return [function(*job) for job in jobs if not _stop.is_set()]


def _start_worker(stop) -> None:
    """Leave Ctrl-C to the parent process, which lets the work in progress finish."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


@contextlib.contextmanager
def _one_interrupt() -> Iterator[None]:
    """Let only the first Ctrl-C raise: a second one would break off the end of the pool."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def once(number, frame) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
