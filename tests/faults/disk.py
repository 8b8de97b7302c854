"""A disk that fills up in the middle of a run: a small file system of its own where the machine
lets one be mounted, a limit on the size of a file elsewhere."""

import contextlib
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engine.checkpoint import load_checkpoint
from tests.faults.runs import FRAMES, command, differing_files, make_frames, start, untouched

# Room for one epoch's files (12 MB of weights, twice that to go on from), not for two.
SMALL, LARGE = "42m", "115m"


def run() -> bool:
    """Prints what happened; returns whether nothing was lost."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        data = make_frames(base)
        whole = untouched(data, base / "whole")
        with small_disk(base / "disk") as grow:
            wrong = full_file_system(data, base / "disk" / "run", whole, grow) if grow else None
        if wrong is None:
            print("no file system can be mounted here: only the limit on file sizes was tried")
        else:
            print(f"full file system: {'; '.join(wrong) or OUTCOME}")
        limited = limited_files(data, base / "limited", whole)
        print(f"limit on file sizes: {'; '.join(limited) or OUTCOME}")
    return not (wrong or limited)


OUTCOME = "said so, kept the last good checkpoint, went on bit for bit once there was room"


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[object]:
    """A file system with little room, and a function that gives it more; None where not allowed."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        grow = ["mount", "-o", f"remount,size={LARGE}", str(path)]
        yield lambda: subprocess.run(grow, check=True)
    finally:
        subprocess.run(["umount", str(path)], check=True)


def full_file_system(data: Path, folder: Path, whole: Path, grow) -> list[str]:
    """Fill the disk with the second epoch's files, then give it room and go on."""
    wrong = fails_cleanly(start(command(data, folder)), folder, epoch=1)
    grow()
    return wrong + goes_on(data, folder, whole)


def limited_files(data: Path, folder: Path, whole: Path) -> list[str]:
    """One epoch without a limit, the second with one below the size of last.pth."""
    one_epoch = ("--max_steps", str(FRAMES))
    first = start(command(data, folder, *one_epoch))
    first.communicate()
    most = (folder / "last.pth").stat().st_size * 4 // 5

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    process = start(command(data, folder), preexec_fn=limit)
    return fails_cleanly(process, folder, epoch=1) + goes_on(data, folder, whole)


def fails_cleanly(process: subprocess.Popen, folder: Path, epoch: int) -> list[str]:
    """What is wrong with how a run on a full disk ended."""
    _, errors = process.communicate()
    wrong = []
    if process.returncode != 2 or "could not be written" not in errors or "Traceback" in errors:
        wrong.append(f"exit code {process.returncode}: {errors[-500:]}")
    if load_checkpoint(folder / "last.pth").epoch != epoch:
        wrong.append("the last good checkpoint is gone")
    if list(folder.glob(".*.part*")):
        wrong.append("half a file was left behind")
    return wrong


def goes_on(data: Path, folder: Path, whole: Path) -> list[str]:
    """What differs after going on with room."""
    process = start(command(data, folder))
    _, errors = process.communicate()
    if process.returncode:
        return [errors[-500:]]
    return differing_files(whole, folder)
