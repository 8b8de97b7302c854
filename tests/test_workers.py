"""Loader processes that die are reported with the file that they were on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dataloaders import DataError, NYUDepthDataset, make_loader
from dataloaders.workers import worker_death

ROOT = Path(__file__).resolve().parent.parent


class DeadlyDataset(NYUDepthDataset):
    """Frame 2 kills the process that reads it, as a decoder or the system may."""

    signal = signal.SIGKILL

    def load(self, index, epoch):
        self.on_frame(index)
        if index == 2:
            os.kill(os.getpid(), self.signal)
        return super().load(index, epoch)


@pytest.mark.parametrize(
    ("method", "number", "words"),
    [("fork", signal.SIGKILL, "memory"), ("spawn", signal.SIGSEGV, "crash")],
)
def test_a_process_that_dies_names_its_file_and_signal(tiny_root, method, number, words):
    dataset = DeadlyDataset(tiny_root, "train")
    dataset.signal = number
    loader = make_loader(dataset, 1, num_workers=2)
    loader.multiprocessing_context = method
    with pytest.raises(DataError) as error:
        for _ in loader:
            pass
    sentence = str(error.value)
    assert f"while it was on {dataset.frames[2]}" in sentence
    assert number.name in sentence and words in sentence and "\n" not in sentence


def test_processes_that_outlive_an_epoch_still_tell_what_they_read(tiny_root):
    dataset = NYUDepthDataset(tiny_root, "train")
    loader = make_loader(dataset, 1, num_workers=1)
    for _ in range(2):
        assert len(list(loader)) == len(dataset)
        assert list(loader.watch.indices) == [len(dataset) - 1]
    pid = loader.watch.pids[0]
    death = worker_death(
        RuntimeError(f"DataLoader worker (pid {pid}) is killed by signal: Killed. ")
    )
    assert f"pid {pid}" in str(death) and str(dataset.frames[-1]) in str(death)


def test_other_errors_are_left_alone():
    assert worker_death(RuntimeError("CUDA error")) is None
    assert worker_death(ValueError("DataLoader worker (pid 1) exited")) is None
    death = worker_death(RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly"))
    assert "pid 1" in str(death) and "pid 2" in str(death)


def test_a_script_ends_with_the_sentence_wherever_the_signal_strikes(tiny_root):
    # The main process never asks for a second batch: the error strikes outside of the loader.
    code = f"""
import sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from dataloaders import make_loader
from engine.cli import run_script
from test_workers import DeadlyDataset

def main(argv):
    dataset = DeadlyDataset({str(tiny_root)!r}, "train")
    # What numba compiles is compiled now: PyTorch's error would be lost in a callback of LLVM's,
    # and here nobody asks for the batch that would raise it again.
    dataset.on_frame = lambda index: None
    dataset[0]
    batches = iter(make_loader(dataset, 1, num_workers=1))
    next(batches)
    for _ in range(100):
        time.sleep(0.1)

run_script(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "error: a loader process" in done.stderr and "00003.h5" in done.stderr
    assert "Traceback" not in done.stderr
