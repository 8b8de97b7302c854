"""The files of a run: `args.json`, CSV tables and `log.jsonl`, in a folder one run owns."""

import contextlib
import errno
import importlib.metadata
import itertools
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from engine.errors import OptionError, RunError
from engine.files import replace_text, write_csv

try:
    import fcntl
except ImportError:  # Windows has no such lock; two runs on one folder go unnoticed there
    fcntl = None


# What a lock that another process holds is reported as; anything else means that there are none.
TAKEN = (errno.EAGAIN, errno.EACCES)
BEST, LAST, PREVIOUS = "best_model.pth", "last.pth", "previous.pth"
RUN_ID = "run_id"  # in the settings of checkpoints and args.json: which run wrote them
# What a run would replace: any of them means that the folder holds a run.
RUN_FILES = (LAST, PREVIOUS, BEST, "train.csv", "eval.csv")


def check_no_run(path: Path) -> None:
    """Raise OptionError for a folder of a training run, whose eval.csv is not an evaluation's."""
    if any((path / name).exists() for name in (LAST, PREVIOUS, "train.csv")):
        raise OptionError(
            f"--save_dir {path} is a run folder, whose eval.csv would be replaced; choose another "
            "one"
        )


def environment() -> dict[str, str | int | None]:
    """Return versions and devices that a run's numbers may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": importlib.metadata.version("torchvision"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu_threads": torch.get_num_threads(),
    }


class RunFolder:
    """A folder that a run writes its settings, tables, checkpoints and log into; raises OptionError
    where there is a file of that name."""

    def __init__(self, path: Path):
        self.path = path
        self.log_failed = False
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            file = next(part for part in (path, *path.parents) if part.is_file())
            raise OptionError(f"--save_dir {path} needs a folder, but {file} is a file") from error

    def run_files(self) -> list[str]:
        """Return the names of `RUN_FILES` that the folder holds; empty for a free folder."""
        return [name for name in RUN_FILES if (self.path / name).exists()]

    def settings(self) -> dict:
        """Return what args.json holds of a run's settings, {} where it does not."""
        try:
            args = json.loads((self.path / "args.json").read_text(encoding="utf-8"))["args"]
        except (OSError, ValueError, TypeError, KeyError):
            return {}
        return args if isinstance(args, dict) else {}

    def free_name(self, name: str) -> Path:
        """Return a path in the folder where nothing is: `name`, or it with a number."""
        first = self.path / name
        numbered = (first.with_stem(f"{first.stem}_{number}") for number in itertools.count(2))
        return next(path for path in itertools.chain([first], numbered) if not path.exists())

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Lock the folder for as long as the context lasts; the lock ends with the process. Where
        the file system has no locks, warn and lock nothing; where another process has locked it,
        raise RunError."""
        if fcntl is None:
            yield
            return
        with (self.path / ".lock").open("a+", encoding="utf-8") as stream:
            try:
                # Of the kinds of lock the one that loader processes do not inherit.
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in TAKEN:
                    stream.seek(0)
                    owner = stream.read().strip() or "process unknown"
                    raise RunError(f"{self.path} is in use by another run ({owner})") from error
                print(  # NFS without locks, Lustre, FUSE
                    f"warning: {self.path} cannot be locked ({error.strerror}): two runs in it "
                    "would go unnoticed",
                    file=sys.stderr,
                )
            else:
                stream.truncate(0)
                stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                stream.flush()
            yield

    def write_args(self, args: dict) -> None:
        """Write settings and environment, so that the run can be repeated. Another run's settings
        that args.json held stay under another name."""
        path, before = self.path / "args.json", self.settings()
        if before and before.get(RUN_ID) != args.get(RUN_ID):
            path.replace(self.free_name("args_before.json"))
        text = json.dumps({"args": args, "environment": environment()}, indent=2)
        replace_text(path, text + "\n")

    def log(self, event: str, **values: object) -> None:
        """Append one JSON object with the time to `log.jsonl`, on a line of its own even after an
        unfinished one. Warn once where it cannot be written, which never ends a run."""
        record = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **values}
        try:
            with (self.path / "log.jsonl").open("ab+") as stream:
                stream.seek(max(stream.seek(0, os.SEEK_END) - 1, 0))
                end = b"" if stream.read() in (b"", b"\n") else b"\n"
                stream.write(end + json.dumps(record).encode() + b"\n")  # in one piece
        except OSError as error:
            if not self.log_failed:
                print(f"warning: {self.path}/log.jsonl: {error}", file=sys.stderr)
            self.log_failed = True

    def write_rows(self, table: str, rows: list[dict]) -> None:
        """Write all rows of `<table>.csv`, whole or not at all."""
        if rows:
            write_csv(self.path / f"{table}.csv", pd.DataFrame(rows))
        else:
            (self.path / f"{table}.csv").unlink(missing_ok=True)


def format_table(rows: list[dict]) -> str:
    """Return dicts of equal keys as an aligned text table, numbers to four places, the first
    column the rows' names."""
    table = pd.DataFrame(rows).set_index(next(iter(rows[0])))
    table = table.rename_axis(index=None, columns=table.index.name)
    lines = table.to_string(float_format=" %.4f", na_rep="-").splitlines()
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
