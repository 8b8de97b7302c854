"""Signals that stop a run at the next step, with everything saved.

A scheduler sends SIGTERM before it takes a machine away, and can be set to send SIGUSR1 some time
before; Ctrl-C sends SIGINT, a closed terminal SIGHUP.
"""

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator

# What a run that was stopped and saved exits with: "try again later" in sysexits.h, so that a
# scheduler can tell it from a failure (2) and from the end (0).
EXIT_STOPPED = 75
SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
    if hasattr(signal, name)
)

# Signals within this many seconds are one request: a terminal or a scheduler may reach a process
# and what started it, which sends the signal on.
ONE_REQUEST = 1.0
# Printed on stderr at the first signal.
ASKED = b"\nasked to stop: saving after this step (ask again to stop at once)\n"
HANGUP = getattr(signal, "SIGHUP", None)


class Stopped(Exception):
    """Raised once a run that a signal stops is saved; the message is one sentence."""


class StopRequest:
    """The first signal that a run received, None so far; a later one ends the process at once."""

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
        before = {
            number: signal.signal(number, self._receive)
            for number in SIGNALS
            if number != HANGUP or signal.getsignal(number) != signal.SIG_IGN  # nohup ignores it
        }
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
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(2, ASKED)
            if number == HANGUP:
                _leave_terminal()
        elif now - self.received_at > ONE_REQUEST:
            again = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, again)
            signal.raise_signal(number)


def _leave_terminal() -> None:
    """Send what this process prints to the null device where it went to a terminal: the terminal
    is gone, and printing to it is an error that would end the run before it is saved."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (1, 2):
        if stat.S_ISCHR(os.fstat(number).st_mode):
            os.dup2(null, number)
    os.close(null)
