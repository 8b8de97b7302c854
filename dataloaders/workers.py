"""Loader processes that die: which, how, and on which frame.

PyTorch says "DataLoader worker (pid 123) is killed by signal", which names no file. Each process
therefore writes the index of the frame that it begins into memory it shares with the main process:
one store a frame. The processes may be forked or spawned.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import weakref
from collections.abc import Callable, Iterator

from torch.utils.data import DataLoader, get_worker_info

from dataloaders.hdf5 import DataError

_NOTHING = -1
# PyTorch's two sentences: "... (pid 12) is killed by signal: ..." and "... (pid(s) 1, 2) exited".
_DEATH = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
_watches: weakref.WeakSet[WorkerWatch] = weakref.WeakSet()


class WorkerWatch:
    """What each process of one loader is reading; also the loader's `worker_init_fn`.

    Args:
        workers: how many processes the loader starts.
    """

    def __init__(self, workers: int):
        self.pids = multiprocessing.RawArray("q", workers)
        self.indices = multiprocessing.RawArray("q", [_NOTHING] * workers)
        self.loader: Callable[[], DataLoader | None] = lambda: None  # kept by a weak reference
        _watches.add(self)

    def __call__(self, worker: int) -> None:
        """In the process: tell its id, and have the data set tell each frame it begins."""
        leave_signals_to_the_main_process()
        self.pids[worker] = os.getpid()
        self.indices[worker] = _NOTHING
        indices = self.indices

        def note(index: int) -> None:
            indices[worker] = index

        get_worker_info().dataset.on_frame = note

    def __getstate__(self) -> dict:
        return {"pids": self.pids, "indices": self.indices}

    def frame_of(self, pid: int) -> int | None:
        """Index of the frame that process `pid` began last; None: not ours, or it began none."""
        pids = list(self.pids)
        if pid not in pids:
            return None
        index = self.indices[pids.index(pid)]
        return None if index == _NOTHING else index


def leave_signals_to_the_main_process() -> None:
    """Ctrl-C in a terminal, and what a scheduler sends, reaches every process. The main one
    finishes its step and saves, for which it needs the others; they end when it ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # Windows and macOS cannot tell who sent a signal
        return
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def end_when_the_parent_says_so() -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=end_when_the_parent_says_so, daemon=True).start()


class WatchedLoader(DataLoader):
    """A DataLoader whose dead processes raise a DataError that names the frame they were on."""

    def __init__(self, dataset, *, num_workers: int, **options):
        self.watch = WorkerWatch(num_workers) if num_workers else None
        super().__init__(dataset, num_workers=num_workers, worker_init_fn=self.watch, **options)
        if self.watch is not None:
            self.watch.loader = weakref.ref(self)

    def __iter__(self) -> Iterator[dict]:
        return _NamingIterator(self, super().__iter__())


class _NamingIterator:
    def __init__(self, loader: WatchedLoader, batches: Iterator[dict]):
        self.loader = loader  # which knows what its processes read
        self.batches = batches

    def __iter__(self) -> Iterator[dict]:
        return self

    def __next__(self) -> dict:
        try:
            return next(self.batches)
        except RuntimeError as error:
            death = worker_death(error)
            if death is None:
                raise
            raise death from error


def worker_death(error: BaseException) -> DataError | None:
    """The sentence for PyTorch's error about a dead loader process; None for any other error.

    PyTorch raises from a signal handler, so the error can surface anywhere in the main process,
    not only where the next batch is asked for.
    """
    found = _DEATH.search(str(error))
    if not isinstance(error, RuntimeError) or not found:
        return None
    pids = [int(pid) for pid in found.group(1).replace(",", " ").split()]
    return DataError("; ".join(_epitaph(pid, str(error)) for pid in pids))


def _epitaph(pid: int, text: str) -> str:
    for watch in list(_watches):
        loader = watch.loader()
        index = watch.frame_of(pid)
        if loader is not None and index is not None:
            path = loader.dataset.frames[index]
            how = _how_it_ended(loader, pid, text)
            return f"a loader process (pid {pid}) {how} while it was on {path}"
    return f"a loader process (pid {pid}) died before it read a frame: {text.strip()}"


def _how_it_ended(loader: DataLoader, pid: int, text: str) -> str:
    """From the process's exit code where it can still be had, else from PyTorch's sentence."""
    workers = getattr(getattr(loader, "_iterator", None), "_workers", [])
    codes = {worker.pid: worker.exitcode for worker in workers}
    code = codes.get(pid)
    if code is None:
        found = re.search(r"killed by signal: ([^.]*)", text)
        return f"was killed ({found.group(1).strip()})" if found else "died"
    if code >= 0:
        return f"ended with exit code {code}"
    number = -code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    reasons = {
        "SIGKILL": " (as the system does when memory runs out)",
        "SIGBUS": " (as happens when shared memory, /dev/shm, is full)",
        "SIGSEGV": " (a crash in a library)",
    }
    return f"was killed by {name}{reasons.get(name, '')}"
