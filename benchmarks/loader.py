"""Time of a sample, from the file to tensors: this project against the plain published chain.

    python -m benchmarks.loader --csv benchmarks/results/loader_cpu.csv

One core: samples in one process, in turns, from uncompressed files, the same in tar shards (there
the plain chain reads the files) and gzip files, of sample rooms in a temporary folder; then samples
a second through a loader with one worker.
"""

import argparse
import csv
import functools
import platform
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import h5py
import numpy as np
import PIL
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as TF

from benchmarks.plain import training_item_plain
from benchmarks.timing import RESULTS, describe
from dataloaders import NYUDepthDataset, make_loader
from dataloaders.hdf5 import write_frame
from dataloaders.pillow_exact.jit import HAS_NUMBA
from engine.precision import keep_freed_memory
from sample_data.rooms import render_frame

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHARDS = "tar shards"
WRITERS = {"uncompressed": functools.partial(write_frame, compressed=False), "gzip": write_frame}
BATCH = 8


class PlainDataset(Dataset):
    """The published chain over the files of a split."""

    def __init__(self, root: Path, split: str):
        self.frames = NYUDepthDataset(root, split).frames
        self.item = {"train": training_item_plain, "val": validation_item_plain}[split]
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with h5py.File(self.frames[index], "r") as file:
            rgb, depth = np.array(file["rgb"]), np.array(file["depth"])
        return self.item(rgb, depth, self.rng)


def validation_item_plain(
    rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator, n_sample: int = 500
) -> tuple[torch.Tensor, torch.Tensor]:
    """One NYU validation sample by PIL and torchvision: rgbd (4, h, w), depth (1, h, w)."""
    images = Image.fromarray(rgb.transpose(1, 2, 0).copy()), Image.fromarray(depth)
    image, depth_image = (TF.center_crop(TF.resize(im, 240), (228, 304)) for im in images)
    image = TF.to_tensor(TF.to_pil_image(TF.normalize(TF.to_tensor(image), MEAN, STD)))
    depth_map = torch.from_numpy(np.array(depth_image))[None]
    mask = torch.from_numpy(rng.random(depth_map.shape) < n_sample / depth_map.numel())
    return torch.cat((image, depth_map * mask)), depth_map


def write_sets(folder: Path, count: int) -> dict[str, Path]:
    """Write the same rooms, `count` frames a split, in each way; return kind -> data root."""
    roots = {kind: folder / kind for kind in WRITERS}
    for split in ("train", "val"):
        for index in range(count):
            frame = render_frame(0, split, index)
            for kind, write in WRITERS.items():
                write(roots[kind] / split / "room" / f"{index + 1:05d}.h5", *frame)
        shard = folder / SHARDS / f"{split}-000000.tar"
        shard.parent.mkdir(exist_ok=True)
        with tarfile.open(shard, "w") as archive:
            archive.add(roots["uncompressed"] / split, split)
    first, *others = roots
    return {first: roots[first], SHARDS: folder / SHARDS} | {kind: roots[kind] for kind in others}


def _datasets(roots: dict[str, Path], kind: str, split: str) -> tuple[Dataset, NYUDepthDataset]:
    """Return the plain chain's data set and this project's; the plain one reads no shards."""
    plain_root = roots["uncompressed" if kind == SHARDS else kind]
    return PlainDataset(plain_root, split), NYUDepthDataset(roots[kind], split)


def take_turns(
    functions: dict[str, Callable[[int], object]], rounds: int, run: int = 8
) -> dict[str, float]:
    """Median seconds of each; they take turns in short runs, as a worker makes many in a row."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(-1, rounds):
        for name, function in functions.items():
            for step in range(run):
                started = time.perf_counter()
                function(max(turn, 0) * run + step)
                if turn >= 0:  # the first turn compiles and fills caches
                    seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def row_of(what: str, storage: str, plain: float, ours: float) -> dict[str, str]:
    """A row of the table from seconds a sample."""
    return {
        "what": what,
        "storage": storage,
        "plain_ms": f"{1000 * plain:.2f}",
        "ms": f"{1000 * ours:.2f}",
        "plain_per_second": f"{1 / plain:.0f}",
        "per_second": f"{1 / ours:.0f}",
        "times_faster": f"{plain / ours:.2f}",
    }


def single_samples(roots: dict[str, Path], repeats: int) -> list[dict[str, str]]:
    """Samples made one after another in this process."""
    functions, rows = {}, []
    for kind in roots:
        for split in ("train", "val"):
            plain, ours = _datasets(roots, kind, split)
            functions[split, kind, "plain"] = lambda i, data=plain: data[i % len(data)]
            # Another epoch each time: another augmentation.
            functions[split, kind, "ours"] = lambda i, data=ours: data[i % len(data), i]
    medians = take_turns(functions, repeats)
    for split, name in (("train", "training sample"), ("val", "validation sample")):
        for kind in roots:
            times = (medians[split, kind, form] for form in ("plain", "ours"))
            rows.append(row_of(name, kind, *times))
    return rows


def through_loaders(roots: dict[str, Path], repeats: int) -> list[dict[str, str]]:
    """Training samples through a loader with one worker, in batches."""
    rows = []
    for kind in roots:
        plain, ours = _datasets(roots, kind, "train")
        # Every frame many times over: an epoch of a few frames would be all start and end.
        times = max(1, 16 * BATCH // len(ours))
        plain.frames, ours.frames = (list(data.frames) * times for data in (plain, ours))
        loaders = {
            "plain": DataLoader(plain, BATCH, num_workers=1, persistent_workers=True),
            "ours": make_loader(ours, BATCH, shuffle=True, num_workers=1),
        }
        functions = {name: partial(_epoch, loader) for name, loader in loaders.items()}
        medians = take_turns(functions, max(1, repeats // 8), run=1)
        each = [medians[name] / len(ours) for name in ("plain", "ours")]
        rows.append(row_of("loader, one worker", kind, *each))
    return rows


def _epoch(loader: DataLoader, _turn: int) -> None:
    for _ in loader:
        pass


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--frames", type=int, default=8, help="frames a split (default 8)")
    parser.add_argument("--repeats", type=int, default=24, help="turns of 8 samples (default 24)")
    parser.add_argument(
        "--csv",
        type=Path,
        default=RESULTS / "loader_cpu.csv",
        help="results file (default benchmarks/results/loader_cpu.csv)",
    )
    args = parser.parse_args(argv)
    if args.frames < 1 or args.repeats < 1:
        parser.error("--frames and --repeats must be at least 1")
    keep_freed_memory()  # as train.py does, for both
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    about = (
        f"{describe(torch.device('cpu'))}; {platform.system()}, NumPy {np.__version__}, "
        f"Pillow {PIL.__version__}, h5py {h5py.__version__}, "
        f"{'with' if HAS_NUMBA else 'without'} numba"
    )
    print(about)
    print("frames 480x640, samples 228x304, medians")
    with tempfile.TemporaryDirectory() as folder:
        roots = write_sets(Path(folder), args.frames)
        rows = single_samples(roots, args.repeats) + through_loaders(roots, args.repeats)
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for line in [dict.fromkeys(rows[0]), *rows]:
        print("  ".join((value or key).ljust(widths[key]) for key, value in line.items()))
    args.csv.parent.mkdir(parents=True, exist_ok=True)
    with args.csv.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=[*rows[0], "measured_on"])
        writer.writeheader()
        writer.writerows({**row, "measured_on": about} for row in rows)
    print(f"written to {args.csv}")


if __name__ == "__main__":
    main()
