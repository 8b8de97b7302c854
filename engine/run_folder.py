"""The files of a run: `args.json`, CSV tables and `log.jsonl`, in a folder one run owns."""

import contextlib
import csv
import errno
import io
import json
import math
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import torch
import torchvision

from engine.errors import RunError
from engine.files import replace_text

try:
    import fcntl
except ImportError:  # Windows has no such lock; two runs on one folder go unnoticed there
    fcntl = None


# What a lock that another process holds is reported as; anything else means that there are none.
TAKEN = (errno.EAGAIN, errno.EACCES)


class RunFolder:
    """A folder that a run writes its settings, tables and log into."""

    def __init__(self, path: Path):
        self.path = path
        self.log_failed = False
        path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the folder for as long as the context lasts; a process that dies lets go of it.
        Where the file system has no locks, that is said in a warning and nothing is held.

        Raises:
            RunError: another process holds it.
        """
        if fcntl is None:
            yield
            return
        with (self.path / ".lock").open("a+", encoding="utf-8") as stream:
            if self._lock(stream):
                stream.truncate(0)
                stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                stream.flush()
            yield

    def _lock(self, stream: TextIO) -> bool:
        """Whether the file is locked now; not where its file system has no locks."""
        try:
            # Of the kinds of lock the one that loader processes do not inherit.
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in TAKEN:  # NFS without locks, Lustre, FUSE
                print(
                    f"warning: {self.path} cannot be locked ({error.strerror}): two runs in it "
                    "would go unnoticed",
                    file=sys.stderr,
                )
                return False
            stream.seek(0)
            owner = stream.read().strip() or "process unknown"
            raise RunError(f"{self.path} is in use by another run ({owner})") from error
        return True

    def write_args(self, args: dict) -> None:
        """Settings and environment, so that the run can be repeated."""
        environment = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "cpu_threads": torch.get_num_threads(),
        }
        text = json.dumps({"args": args, "environment": environment}, indent=2)
        replace_text(self.path / "args.json", text + "\n")

    def log(self, event: str, **values: object) -> None:
        """Append one JSON object with the time to `log.jsonl`. A log that cannot be written is
        said once and never ends a run."""
        record = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **values}
        try:
            _append_line(self.path / "log.jsonl", json.dumps(record))
        except OSError as error:
            if not self.log_failed:
                print(f"warning: {self.path}/log.jsonl: {error}", file=sys.stderr)
            self.log_failed = True

    def write_rows(self, table: str, rows: list[dict]) -> None:
        """Write all rows of `<table>.csv`, whole or not at all."""
        if rows:
            replace_text(self.path / f"{table}.csv", _csv_text(rows))
        else:
            (self.path / f"{table}.csv").unlink(missing_ok=True)


def _append_line(path: Path, line: str) -> None:
    """Append a line in one write, on a line of its own whatever a killed run left behind."""
    with path.open("ab+") as stream:
        end = stream.seek(0, os.SEEK_END)
        if end:
            stream.seek(end - 1)
            if stream.read(1) != b"\n":
                line = "\n" + line
        stream.write(line.encode() + b"\n")


def _csv_text(rows: list[dict]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()


def write_table(path: Path, rows: list[dict]) -> None:
    """Write dicts of equal keys as a CSV file, whole or not at all."""
    replace_text(path, _csv_text(rows))


def format_table(rows: list[dict]) -> str:
    """Dicts of equal keys as an aligned text table, numbers to four places."""
    cells = [list(rows[0]), *[[_text(value) for value in row.values()] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def _text(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return str(value)
