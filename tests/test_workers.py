"""Loader processes that die, stall or lose a batch are reported with the file they were on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch

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


class StallingDataset(NYUDepthDataset):
    """Frame 2 neither comes nor fails, as on a file server that is gone."""

    stop = signal.SIGCONT  # does nothing: the process sleeps

    def load(self, index, epoch):
        self.on_frame(index)
        if index == 2:
            os.kill(os.getpid(), self.stop)
            time.sleep(1000)
        return super().load(index, epoch)


@pytest.mark.parametrize("stop", [signal.SIGCONT, signal.SIGSTOP])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_neither_delivers_nor_dies_is_given_up(tiny_root, workers, stop):
    dataset = StallingDataset(tiny_root, "train")
    dataset.stop = stop
    NYUDepthDataset(tiny_root, "train")[0]  # what numba compiles is compiled before
    loader = make_loader(dataset, 1, num_workers=workers, stall_limit=3)
    with pytest.raises(DataError) as error:
        list(loader)
    sentence = str(error.value)
    assert f"no progress for 3 s while it was on {dataset.frames[2]}" in sentence
    assert sentence.count("a loader process") == 1 and "\n" not in sentence
    pids = list(loader.watch.pids)
    del loader, error  # its processes are gone, the stopped one as well
    assert not [pid for pid in pids if is_running(pid)]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


class SlowDataset(NYUDepthDataset):
    """A batch takes longer than the limit, and each frame less."""

    def load(self, index, epoch):
        time.sleep(1)
        return super().load(index, epoch)


def test_a_slow_disk_is_no_stall(tiny_root):
    NYUDepthDataset(tiny_root, "train")[0]  # what numba compiles is compiled before
    loader = make_loader(SlowDataset(tiny_root, "train"), 4, num_workers=1, stall_limit=3)
    assert len(list(loader)) == 1


def test_a_batch_that_cannot_be_handed_over_ends_with_the_remedy(tiny_root):
    # PyTorch fails in a thread of the process, which prints a traceback and loses the batch.
    loader = make_loader(UnsharedDataset(tiny_root, "train"), 2, num_workers=2)
    with pytest.raises(DataError) as error:
        list(loader)
    sentence = str(error.value)
    for words in ("could not hand over a batch", "No space left", "--num_workers 0", "--shm-size"):
        assert words in sentence
    assert "file-descriptor sharing" in sentence and "\n" not in sentence


class UnsharedDataset(NYUDepthDataset):
    """Shared memory is full in the processes that read it."""

    def load(self, index, epoch):
        def full(tensor):
            raise RuntimeError("unable to allocate shared memory(shm): No space left on device")

        ForkingPickler.register(torch.Tensor, full)
        return super().load(index, epoch)


SMALL = """
mount -t tmpfs -o size=$1 tmpfs /dev/shm || exit 77
shift; exec "$@"
"""
FULL = """
import sys
sys.path.insert(0, {root!r})
from dataloaders import NYUDepthDataset, make_loader
from engine.cli import run_script

def main(argv):
    for workers in (0, 2):  # without processes nothing is shared
        batches = len(list(make_loader(NYUDepthDataset({data!r}, "train"), 4, num_workers=workers)))
        print(workers, "processes:", batches, "batch", flush=True)

run_script(main)
"""


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="mounts a small /dev/shm, which takes root and unshare",
)
def test_full_shared_memory_ends_with_the_remedy(tiny_root):
    code = FULL.format(root=str(ROOT), data=str(tiny_root))
    command = ["unshare", "-m", "bash", "-c", SMALL, "x", "256k", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "unshare" in done.stderr or done.returncode == 77:
        pytest.skip(f"no mount here: {done.stderr.strip()}")
    assert done.returncode == 2, done.stderr
    assert done.stdout == "0 processes: 1 batch\n"
    assert "--shm-size" in done.stderr and "Traceback" not in done.stderr


def test_processes_that_outlive_an_epoch_still_note_what_they_read(tiny_root):
    dataset = NYUDepthDataset(tiny_root, "train")
    loader = make_loader(dataset, 1, num_workers=1)
    for epoch in (1, 2):
        assert len(list(loader)) == len(dataset)
        assert list(loader.watch.indices) == [len(dataset) - 1]
        assert list(loader.watch.begun) == [epoch * len(dataset)]
    pid = loader.watch.pids[0]
    death = worker_death(
        RuntimeError(f"DataLoader worker (pid {pid}) is killed by signal: Killed. ")
    )
    assert f"pid {pid}" in str(death) and str(dataset.frames[-1]) in str(death)


def test_processes_end_with_their_loader(tiny_root):
    loader = make_loader(NYUDepthDataset(tiny_root, "train"), 1, num_workers=2)
    batches = iter(loader)
    next(batches), next(batches)  # one of each process
    pids = list(loader.watch.pids)
    assert all(map(is_running, pids))
    del loader, batches
    assert not any(map(is_running, pids))


def test_other_errors_are_left_alone():
    assert worker_death(RuntimeError("CUDA error")) is None
    assert worker_death(ValueError("DataLoader worker (pid 1) exited")) is None
    death = worker_death(RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly"))
    assert "pid 1" in str(death) and "pid 2" in str(death)


def test_a_script_ends_with_the_sentence_wherever_the_signal_strikes(tiny_root):
    # The main process never waits for a second batch: the error strikes outside of the loader.
    code = f"""
import sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from dataloaders import make_loader
from engine.cli import run_script
from test_workers import DeadlyDataset

def main(argv):
    dataset = DeadlyDataset({str(tiny_root)!r}, "train")
    # What numba compiles is compiled now: PyTorch's error would be lost in a callback of LLVM's,
    # and no later batch would raise it again.
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


class Marked(NYUDepthDataset):
    """Changes what an item holds, where `DepthDataset` makes it."""

    def item(self, loaded, **options):
        item = super().item(loaded, **options)
        return item | {"rgbd": item["rgbd"] + 1, "mark": loaded["index"]}


class MarkedAsPyTorchDoes(NYUDepthDataset):
    """Changes the finished item, which is how any data set of PyTorch's can be changed."""

    def __getitem__(self, key):
        item = super().__getitem__(key)
        return item | {"rgbd": item["rgbd"] + 1, "mark": item["index"]}


@pytest.mark.parametrize("kind", [Marked, MarkedAsPyTorchDoes])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_subclass_changes_items_whatever_the_number_of_workers(tiny_root, kind, shuffle):
    plain = NYUDepthDataset(tiny_root, "train")
    for workers in (0, 2):
        batches = [
            next(iter(make_loader(dataset, 2, shuffle=shuffle, num_workers=workers)))
            for dataset in (plain, kind(tiny_root, "train"))
        ]
        assert torch.equal(batches[1]["rgbd"], batches[0]["rgbd"] + 1)
        assert torch.equal(batches[1].pop("mark"), batches[0]["index"])
        assert batches[1].keys() == batches[0].keys()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_unpacked_in_a_thread_are_the_same(tiny_root, workers):
    dataset = NYUDepthDataset(tiny_root, "train")
    loader = make_loader(dataset, 1, shuffle=True, num_workers=workers)
    plain = list(loader)
    loader.unpacks_in_a_thread = True
    threaded = list(loader)
    assert len(plain) == len(threaded) == 4
    for one, other in zip(plain, threaded, strict=True):
        assert torch.equal(one["rgbd"], other["rgbd"]) and one["name"] == other["name"]


def test_an_error_in_a_loader_process_reaches_whoever_reads_unpacked_batches(tiny_root):
    loader = make_loader(StallingDataset(tiny_root, "train"), 1, num_workers=1, stall_limit=3)
    loader.unpacks_in_a_thread = True
    with pytest.raises(DataError, match="no progress for 3 s"):
        list(loader)
