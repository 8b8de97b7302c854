"""Small training runs in processes of their own, and whether two of them ended the same."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

from tests.conftest import write_frames

ROOT = Path(__file__).resolve().parent.parent.parent
FRAMES = 4
FLAGS = (
    *("--arch", "resnet10_half", "--cspn_step", "2", "--batch_size_train", "1", "--nesterov"),
    *("--num_workers", "2", "--device", "cpu", "--num_epoch", "2"),
)


def make_frames(folder: Path) -> Path:
    """The data that every run here trains on."""
    return write_frames(folder / "frames", n_train=FRAMES, n_val=2)


def command(data: Path, folder: Path, *flags: str) -> list[str]:
    """train.py on `data` into `folder`, going on where it holds a run."""
    paths = ("--data_root", str(data), "--save_dir", str(folder), "--resume", "auto")
    return [sys.executable, str(ROOT / "train.py"), *FLAGS, *paths, *flags]


def untouched(data: Path, folder: Path) -> Path:
    """The run that nobody disturbs, to compare with."""
    process = start(command(data, folder))
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    return folder


def start(command: list[str], **options: object) -> subprocess.Popen:
    """The command in a process group of its own, so that a signal can reach its workers too."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def end_all(process: subprocess.Popen) -> None:
    """Kill a process and its workers, if they are still there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def differences(one: object, two: object, name: str = "") -> list[str]:
    """Where two checkpoints differ, bit for bit; `args`, which name the folder, are left out."""
    if isinstance(one, torch.Tensor):
        same = isinstance(two, torch.Tensor) and one.dtype == two.dtype
        # As bytes: -0.0 and 0.0 are equal, and NaN is not.
        return [] if same and one.numpy().tobytes() == two.numpy().tobytes() else [name]
    if isinstance(one, dict):
        if not isinstance(two, dict) or one.keys() != two.keys():
            return [name]
        keys = [key for key in one if key != "args" or name]
        return [d for key in keys for d in differences(one[key], two[key], f"{name}/{key}")]
    if isinstance(one, (list, tuple)):
        if type(one) is not type(two) or len(one) != len(two):
            return [name]
        pairs = enumerate(zip(one, two, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{name}/{i}")]
    return [] if type(one) is type(two) and repr(one) == repr(two) else [name]


def differing_files(one: Path, two: Path) -> list[str]:
    """What two finished run folders disagree in: parts of checkpoints (the first
    few), or tables."""
    found = []
    for name in ("last.pth", "best_model.pth"):
        first, second = (torch.load(f / name, weights_only=True) for f in (one, two))
        found += [f"{name}{part}" for part in differences(first, second)]
    tables = ("train.csv", "eval.csv")
    return found[:5] + [n for n in tables if (one / n).read_bytes() != (two / n).read_bytes()]
