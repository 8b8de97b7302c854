"""A data set of millions of frames in tar shards, and shards on a slow disk.

    python -m benchmarks.data_at_scale                     # both parts, up to 4 million frames
    python -m benchmarks.data_at_scale --frames 48000      # up to as many as NYU has

The index: shards with the given number of members, each of 512 bytes, in --folder (1 KB a frame);
what making and opening the index takes, and the memory of the main process and of two loader
processes that have looked up 1,600 frames at random; beside it the same with a list of paths.

The slow disk: sample rooms in a shard, read by 1, 2 and 4 loader processes through one disk that
serves one read at a time: so long until it begins, then so many bytes a second.
"""

import argparse
import gc
import multiprocessing
import shutil
import tarfile
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.loader import SHARDS, write_sets
from benchmarks.timing import in_new_process, write_results
from dataloaders import NYUDepthDataset, make_loader
from dataloaders.shards import ShardMember
from engine.resume import frames_record

PER_SHARD = 4000
PER_SCENE = 200
BATCH, BATCHES = 8, 200
LISTED = 400_000  # frames up to which the list of paths is tried: that of 4 million takes gigabytes
# Name -> seconds until a read begins, bytes a second. The first is what the machine has.
DISKS = {"this machine's": (0.0, np.inf), "10 ms, 100 MB/s": (0.01, 1e8)}


class NoFrames(NYUDepthDataset):
    """A data set whose items are empty, so that what remains is the index."""

    def load(self, index: int, epoch: int) -> dict:
        name = self.name(self.frames[index])
        pixels = np.zeros((8, 8), np.float32)
        rgb = np.zeros((3, 8, 8), np.uint8)
        return {"rgb": rgb, "sparse_depth": pixels, "depth": pixels, "index": index, "name": name}


def write_shards(root: Path, frames: int) -> None:
    """Write `frames` members, without depth or colours, in shards of `PER_SHARD`."""
    root.mkdir()
    for first in range(0, frames, PER_SHARD):
        with (root / f"train-{first // PER_SHARD:06d}.tar").open("wb") as stream:
            for i in range(first, min(first + PER_SHARD, frames)):
                member = tarfile.TarInfo(f"train/scene_{i // PER_SCENE:06d}/{i:08d}.h5")
                member.size = tarfile.BLOCKSIZE
                stream.write(member.tobuf(tarfile.USTAR_FORMAT) + bytes(tarfile.BLOCKSIZE))
            stream.write(bytes(2 * tarfile.BLOCKSIZE))


def private_bytes(pid: int) -> int:
    """Return the memory that a process shares with no other (Linux)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private"))


def anonymous_bytes() -> int:
    """Return this process's memory that no file backs, shared with its children or not (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def _index_row(root: Path, listed: bool) -> str:
    """Return seconds and bytes of a process that opens the index and trains on it, as CSV."""
    before = anonymous_bytes()
    started = time.perf_counter()
    dataset = NoFrames(root, "train")
    if listed:
        dataset.frames = list(dataset.frames)
    opened = time.perf_counter()
    frames_record(dataset)
    recorded = time.perf_counter()
    loader = make_loader(dataset, BATCH, shuffle=True, num_workers=2)
    started_loader = time.perf_counter()
    for number, _ in enumerate(loader, start=1):
        if number == 1:
            first = time.perf_counter() - started_loader
        if number == BATCHES:
            break
    gc.collect()
    workers = max(private_bytes(pid) for pid in loader.watch.pids)
    main = anonymous_bytes() - before
    return f"{opened - started},{recorded - opened},{first},{main},{workers}"


def index_rows(folder: Path, counts: list[int]) -> list[dict]:
    """Return a row per number of frames and form of the index."""
    rows = []
    for frames in counts:
        root = folder / f"frames_{frames}"
        write_shards(root, frames)
        started = time.perf_counter()
        NoFrames(root, "train")
        made = time.perf_counter() - started
        (index,) = root.glob("shards-*.npy")
        for form in ("index", "list of paths")[: 1 + (frames <= LISTED)]:
            flags = ["--index_of", root, *(["--listed"] * (form == "list of paths"))]
            found = in_new_process("benchmarks.data_at_scale", *flags)
            opened, recorded, first, main, workers = map(float, found.split(","))
            rows.append(
                {
                    "frames": frames,
                    "form": form,
                    "index_MB": index.stat().st_size / 1e6,
                    "made_s": made,
                    "opened_s": opened,
                    "names_compared_s": recorded,
                    "first_batch_s": first,
                    "main_process_MB": main / 1e6,
                    "loader_process_MB": workers / 1e6,
                }
            )
        shutil.rmtree(root)
    return rows


class SlowDisk:
    """A disk that all processes share and that serves one read at a time.

    Args:
        latency: seconds until a read begins. rate: bytes a second.
    """

    def __init__(self, latency: float, rate: float):
        self.latency, self.rate = latency, rate
        self.free_at = multiprocessing.Value("d", 0.0)
        self.read = ShardMember.read_bytes

    def read_bytes(self, member: ShardMember) -> bytes:
        """Return what the member holds, when the disk would have it."""
        data = self.read(member)
        with self.free_at.get_lock():
            begin = max(time.monotonic(), self.free_at.value)
            self.free_at.value = done = begin + self.latency + len(data) / self.rate
        time.sleep(max(0.0, done - time.monotonic()))
        return data


def disk_rows(folder: Path, frames: int, seconds: float) -> list[dict]:
    """Return a row per disk, compression and number of loader processes."""
    rows, roots = [], write_sets(folder, frames)
    read = ShardMember.read_bytes
    for name, (latency, rate) in DISKS.items():
        disk = SlowDisk(latency, rate)
        ShardMember.read_bytes = lambda member, disk=disk: disk.read_bytes(member)
        for workers in (1, 2, 4):
            dataset = NYUDepthDataset(roots[SHARDS], "train")
            dataset.frames = list(dataset.frames) * (100_000 // len(dataset))
            loader = make_loader(dataset, BATCH, shuffle=True, num_workers=workers)
            batches = iter(loader)
            for _ in range(2 * workers):  # which compiles, and fills what is prefetched
                next(batches)
            started, samples = time.perf_counter(), 0
            while time.perf_counter() - started < seconds:
                samples += len(next(batches)["depth"])
            each = (time.perf_counter() - started) / samples
            memory = max(private_bytes(pid) for pid in loader.watch.pids)
            del batches, loader
            rows.append(
                {
                    "disk": name,
                    "loader_processes": workers,
                    "samples_per_second": 1 / each,
                    "MB_per_second": dataset.frames[0].size / each / 1e6,
                    "loader_process_MB": memory / 1e6,
                }
            )
        ShardMember.read_bytes = read
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument(
        "--frames", type=int, default=4_000_000, help="the most (default 4 million)"
    )
    parser.add_argument("--seconds", type=float, default=10, help="of each timing (default 10)")
    parser.add_argument("--folder", type=Path, help="on the disk to try (default temporary)")
    parser.add_argument("--index_of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--listed", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if args.index_of:
        print(_index_row(args.index_of, args.listed))
        return
    counts = [n for n in (48_000, 400_000, 4_000_000) if n < args.frames] + [args.frames]
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        write_results("data_at_scale", cpu, index_rows(Path(folder), counts))
        write_results("slow_disk", cpu, disk_rows(Path(folder), 8, args.seconds))


if __name__ == "__main__":
    main()
