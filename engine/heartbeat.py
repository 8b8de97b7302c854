"""Which processes of a run over several are lost, for the sentence that the others end with."""

import contextlib
import os
import socket
import threading
import time
from datetime import timedelta

import torch.distributed as dist

BEAT = 1.0  # seconds between a process's heartbeats
SILENCE = 5 * BEAT  # without one, after which a process counts as lost


class Heartbeat:
    """Which processes of the run are still there.

    A thread of each process counts in a store on the machine of process 0, and looks at the counts
    of the others: one that stands still is that of a process that ended, is stopped or cannot be
    reached. Clocks of different machines are not compared. With a slow process nothing happens.
    """

    def __init__(self, rank: int, world_size: int):
        self.rank, self.over = rank, threading.Event()  # set, it ends the thread
        self.master = os.environ["MASTER_ADDR"]
        self.store: dist.TCPStore | None = None
        self.count, self.reached = 0, time.monotonic()
        self.seen = [(b"", self.reached)] * world_size  # by rank: last count and when it was new
        self._tell()
        threading.Thread(target=self._beat, daemon=True).start()

    def _tell(self) -> None:
        """Put this process's next count into the store, where that can be reached."""
        with contextlib.suppress(RuntimeError):
            port = int(os.environ["MASTER_PORT"])
            self.store = self.store or dist.TCPStore(
                self.master, port, timeout=timedelta(seconds=3 * BEAT)
            )
            self.count += 1
            self.store.set(f"heartbeat {self.rank}", f"{self.count} {socket.gethostname()}")
            self.reached = time.monotonic()

    def _beat(self) -> None:
        keys = [f"heartbeat {rank}" for rank in range(len(self.seen))]
        while not self.over.wait(BEAT):
            self._tell()
            with contextlib.suppress(RuntimeError, AttributeError):  # not reached, or never yet
                for i, value in enumerate(self.store.multi_get(keys)):
                    if value != self.seen[i][0]:
                        self.seen[i] = value, time.monotonic()

    def lost(self) -> str:
        """Wait until the silence of a process would be noticed; return who is lost, as the
        beginning of a sentence."""
        time.sleep(SILENCE + BEAT)
        now = time.monotonic()
        lost = [
            f"process {i} on {value.decode().partition(' ')[2] or 'a machine unknown'}"
            for i, (value, changed) in enumerate(self.seen)
            if now - changed > SILENCE
        ]
        if now - self.reached > SILENCE:
            lost = [f"process 0 on {self.master}"]
        if lost:
            return f"{' and '.join(lost)} ended, is stopped or cannot be reached"
        return "another process of this run failed, or did not come this far in --dist_timeout"
