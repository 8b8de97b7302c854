"""Signals that ask a run to stop: at the next step, with everything saved.

SIGTERM is what a scheduler sends before it takes a machine away, SIGINT what Ctrl-C sends, SIGUSR1
what schedulers can be told to send some time before either.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

# What a run that was stopped and saved exits with: "try again later" in sysexits.h, so that a
# scheduler can tell it from a failure (2) and from the end (0).
EXIT_STOPPED = 75
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)

# Signals within this many seconds are one request: a terminal or a scheduler may reach a process
# and what started it, which sends the signal on.
ONE_REQUEST = 1.0


class Stopped(Exception):
    """Raised once a run that was asked to stop is saved; the message is one sentence."""


class StopRequest:
    """The signal that asked, None so far; one that comes later acts at once."""

    def __init__(self):
        self.signal: signal.Signals | None = None
        self.received_at = 0.0

    @contextlib.contextmanager
    def received(self) -> Iterator["StopRequest"]:
        """Take the signals as requests within the context. Outside the main thread, where Python
        allows no handlers, nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self.received_at = signal.Signals(number), now
            # Not print: the signal may have come in the middle of one.
            os.write(2, b"\nasked to stop: saving after this step (ask again to stop at once)\n")
        elif now - self.received_at > ONE_REQUEST:
            again = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, again)
            signal.raise_signal(number)
