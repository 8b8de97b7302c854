"""Loader processes that die, stall or lose a batch: which, how, and on which frame.

PyTorch reports "DataLoader worker (pid 123) is killed by signal" without a file; a batch that a
process cannot hand over, since shared memory is full, is lost without an error, and a process that
hangs is waited for without end. Each process therefore writes the index of the frame that it begins
into memory it shares with the main process, ends when it cannot hand over a batch, and is ended
when no process has begun a frame for long. The processes may be forked or spawned.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.queues
import os
import re
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial

from torch.utils.data import DataLoader, get_worker_info

from dataloaders.errors import DataError

# Seconds, and no flag: a frame is read in milliseconds, from a slow disk or network in seconds, so
# ten minutes without one are a hang whatever the data set.
STALL_LIMIT = 600.0
POLL_INTERVAL = 5.0  # seconds between looks at processes that deliver nothing
REMEDY = (
    "loader processes hand over batches through shared memory (/dev/shm) and open files: use "
    "--num_workers 0 or fewer, give a container more (docker run --shm-size=1g), or raise "
    "`ulimit -n`, which PyTorch's file-descriptor sharing needs"
)
_NOTHING = -1
_REASON_BYTES = 512
# PyTorch's two sentences: "... (pid 12) is killed by signal: ..." and "... (pid(s) 1, 2) exited".
_DEATH = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
# Shared memory, or the open files that stand for it, have run out.
_EXHAUSTED = re.compile(r"\(shm\)|/dev/shm|shared memory|Too many open files|No space left")
_watches: weakref.WeakSet[WorkerWatch] = weakref.WeakSet()


class WorkerWatch:
    """What each process of one loader is reading; also the loader's `worker_init_fn`.

    Args:
        workers: how many processes the loader starts.
        stall_limit: seconds without a new frame in any process after which a batch is given up.

    Attributes:
        pids: of the processes. indices: of the frame that each began last.
        reading: 1 for a process between the beginning of a frame and the end of its batch.
        begun: how many frames each has begun. reasons: why each was ended, as UTF-8.
        delivered: batches so far. waiting: whether the main process waits for another.
    """

    def __init__(self, workers: int, stall_limit: float):
        self.pids = multiprocessing.RawArray("q", workers)
        self.indices = multiprocessing.RawArray("q", [_NOTHING] * workers)
        self.reading = multiprocessing.RawArray("b", workers)
        self.begun = multiprocessing.RawArray("q", workers)
        self.reasons = [multiprocessing.RawArray("c", _REASON_BYTES) for _ in range(workers)]
        self.stall_limit, self.delivered, self.waiting = stall_limit, 0, False
        self.guard: threading.Thread | None = None
        self.over = threading.Event()  # the loader is gone
        self.loader: Callable[[], WatchedLoader | None] = lambda: None  # kept by a weak reference
        _watches.add(self)

    def __call__(self, worker: int) -> None:
        """Set up this loader process: its signals, its notes, and its end on a queue's error."""
        leave_signals_to_the_main_process()
        self.pids[worker] = os.getpid()
        self.indices[worker] = _NOTHING
        get_worker_info().dataset.watch(partial(self._note, worker))
        hook = staticmethod(partial(self._end, worker))
        multiprocessing.queues.Queue._on_queue_feeder_error = hook

    def _note(self, worker: int, index: int | None) -> None:
        """Note the frame that begins, None at the end of a batch."""
        self.reading[worker] = index is not None
        if index is not None:
            self.indices[worker] = index
            self.begun[worker] += 1

    def _end(self, worker: int, error: Exception, batch: object) -> None:
        """End this process, whose batch cannot be handed over and would be waited for."""
        reason = f"could not hand over a batch ({' '.join(str(error).split())})"
        self.reasons[worker].value = reason.encode()[:_REASON_BYTES]
        os._exit(1)

    def __getstate__(self) -> dict:
        arrays = ("pids", "indices", "reading", "begun", "reasons")
        return {name: getattr(self, name) for name in arrays}

    def start_guard(self) -> None:
        """Start the thread that ends processes that stall, once."""
        if self.guard is None:
            self.guard = threading.Thread(target=self._guard, daemon=True)
            self.guard.start()

    def _guard(self) -> None:
        interval = min(POLL_INTERVAL, self.stall_limit / 3)
        stalled_for, seen = 0.0, None
        while stalled_for < self.stall_limit:
            if self.over.wait(interval):
                return
            progress = self.delivered, list(self.begun)
            # Intervals are counted, not the clock, which goes on while this process is stopped.
            stalls = self.waiting and progress == seen
            stalled_for, seen = stalled_for + interval if stalls else 0.0, progress
        stuck = [i for i, reads in enumerate(self.reading) if reads] or range(len(self.pids))
        for worker in stuck:
            self.reasons[worker].value = b"has made no progress for %g s" % self.stall_limit
        for worker in stuck:  # PyTorch raises this in the main process, wherever that waits
            os.kill(self.pids[worker], signal.SIGKILL)

    def describe(self, pid: int, text: str) -> str | None:
        """Return a sentence on the end of process `pid`; None where it is not this loader's.

        Args:
            text: PyTorch's words on it.
        """
        pids, loader = list(self.pids), self.loader()
        if loader is None or pid not in pids:
            return None
        worker = pids.index(pid)
        reason = self.reasons[worker].value.decode(errors="replace")
        how = reason or _how_it_ended(loader, pid, text)
        remedy = f"; {REMEDY}" if _EXHAUSTED.search(how) else ""
        if self.indices[worker] == _NOTHING:
            return f"a loader process (pid {pid}) {how} before it read a frame{remedy}"
        path = loader.dataset.frames[self.indices[worker]]
        where = "while it was on" if self.reading[worker] else "after a batch that ends with"
        return f"a loader process (pid {pid}) {how} {where} {path}{remedy}"


def leave_signals_to_the_main_process() -> None:
    """Ignore signals that reach every process of a job: Ctrl-C and those of a scheduler.

    The main process finishes its step and saves, for which it needs the others; they end when it
    ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # Windows and macOS cannot tell who sent a signal
        return
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def end_when_the_parent_ends_it() -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=end_when_the_parent_ends_it, daemon=True).start()


class WatchedLoader(DataLoader):
    """A DataLoader that raises a DataError where one of its processes dies or hangs.

    Args:
        dataset: has `frames`, paths by index, and `watch(function)`, which has the function called
            with the index of each frame that begins and with None after a batch.
        stall_limit: see `WorkerWatch`.
    """

    def __init__(self, dataset, *, num_workers: int, stall_limit: float = STALL_LIMIT, **options):
        self.watch = WorkerWatch(num_workers, stall_limit) if num_workers else None
        super().__init__(dataset, num_workers=num_workers, worker_init_fn=self.watch, **options)
        if self.watch is not None:
            over = self.watch.over
            self.watch.loader = weakref.ref(self, lambda _: over.set())

    def __iter__(self) -> Iterator:
        batches = self._guarded(super().__iter__)
        if self.watch is not None:
            self.watch.start_guard()
        while (batch := self._guarded(lambda: next(batches, None))) is not None:
            yield batch

    def _guarded(self, function: Callable):
        """Return what a function returns that may wait for processes, which are watched meanwhile.

        Raises:
            DataError: a process ended, or shared memory or open files ran out.
        """
        if self.watch is not None:
            self.watch.waiting = True
        try:
            try:
                return function()
            except (ConnectionError, EOFError):
                # A process ended as it handed over a batch: PyTorch's word on it comes as a signal.
                time.sleep(1)
                raise
        except (RuntimeError, OSError, EOFError) as error:
            failure, text = worker_death(error), str(error).strip()
            if failure is None and _EXHAUSTED.search(text):
                last_line = text.splitlines()[-1]
                failure = DataError(f"a batch cannot be received: {last_line}; {REMEDY}")
            if failure is None:
                raise
            # All processes end now, so that PyTorch raises no further death at some later moment.
            iterator, self._iterator = self._iterator, None
            with contextlib.suppress(RuntimeError, AttributeError):  # None: there are none
                iterator._shutdown_workers()
            raise failure from error
        finally:
            if self.watch is not None:
                self.watch.waiting = False
                self.watch.delivered += 1


def worker_death(error: BaseException) -> DataError | None:
    """Return the sentence for PyTorch's error about a dead loader process; None for another error.

    PyTorch raises from a signal handler, so the error can surface anywhere in the main process,
    not only where the next batch is asked for.
    """
    text = str(error).strip()
    found = _DEATH.search(text)
    if not isinstance(error, RuntimeError) or not found:
        return None
    deaths = []
    for pid in map(int, found.group(1).replace(",", " ").split()):
        known = (watch.describe(pid, text) for watch in list(_watches))
        deaths.append(next(filter(None, known), f"a loader process (pid {pid}) died: {text}"))
    return DataError("; ".join(deaths))


def _how_it_ended(loader: DataLoader, pid: int, text: str) -> str:
    """Return how, by the process's exit code where it can still be had, else PyTorch's words."""
    workers = getattr(getattr(loader, "_iterator", None), "_workers", [])
    code = {worker.pid: worker.exitcode for worker in workers}.get(pid)
    if code is None:
        found = re.search(r"killed by signal: ([^.]*)", text)
        return f"was killed ({found.group(1).strip()})" if found else "died"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    reasons = {
        "SIGKILL": " (as the system does when memory runs out)",
        "SIGBUS": " (as happens when shared memory, /dev/shm, is full)",
        "SIGSEGV": " (a crash in a library)",
    }
    return f"was killed by {name}{reasons.get(name, '')}"
