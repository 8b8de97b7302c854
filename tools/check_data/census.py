"""Every frame of a data set read once: what it holds, and what would hurt training.

Frames are those below `train/` and `val/`; depth is in metres, 0 = no measurement. The words of
the column `what` are explained in `tools.check_data`, which prints a census.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from dataloaders.datasets import DATA_SETS, DepthDataset
from dataloaders.errors import DataError
from dataloaders.hdf5 import checked_depth, read_stored
from dataloaders.processes import CHUNK, WorkerError, cores, parallel_map
from dataloaders.splits import SPLITS, present_splits, walk_frames

CONTRACT = "rgb (3, H, W) uint8 and depth (H, W) float metres, finite, 0 = no measurement"


class Frame(NamedTuple):
    """What the census keeps of a frame; `what` is empty for one that can be used."""

    path: Path
    height: int = 0
    width: int = 0
    dtype: str = ""
    nearest: float = np.nan  # metres, of the measured pixels; NaN where there is none
    farthest: float = np.nan
    holes: float = 1.0  # fraction of the pixels without a measurement
    digest: bytes = b""
    what: str = ""
    got: str = ""


@dataclass(frozen=True)
class Census:
    """A data set that was read.

    Attributes:
        frames: columns of `Frame`, and split. findings: path, split, what, expected and got.
    """

    root: Path
    data_set: str
    frames: pd.DataFrame
    findings: pd.DataFrame
    seconds: float


def take_census(root: str | Path, data_set: str, *, workers: int | None = None) -> Census:
    """Read every frame of a data set.

    Args:
        root: folder with `train/` or `val/` or both. data_set: "nyudepth" or "kitti".
        workers: processes; None means one per CPU core.

    Raises:
        DataError: no such folder, no split in it, or no frame at all.
    """
    started, root = time.perf_counter(), Path(root)
    workers = cores() if workers is None else workers
    if workers < 1:
        raise DataError(f"num_workers must be at least 1, got {workers}")
    paths, findings = [], []
    for split in present_splits(root):
        for path, problem in sorted(walk_frames(root, split)):
            if problem is None:
                paths.append((split, path))
            else:
                findings.append((path, split, problem.what, problem.expected, problem.got))
    if not paths:
        raise DataError(f"{root} holds no .h5 file")
    with tqdm(total=len(paths), unit="frame", desc="check") as bar:
        frames = pd.DataFrame(read_frames([path for _, path in paths], workers, bar))
    frames["split"] = pd.Categorical([split for split, _ in paths], SPLITS)
    kind = DATA_SETS[data_set]
    bad = ((frame, found) for frame in frames.itertuples() for found in _problems(frame, kind))
    findings += [(frame.path, frame.split, *found) for frame, found in bad]
    findings += _copies(frames, root)
    table = pd.DataFrame(findings, columns=["path", "split", "what", "expected", "got"])
    table["path"] = [path.relative_to(root).as_posix() for path in table["path"]]
    table = table.sort_values(["split", "path", "what"], ignore_index=True)
    return Census(root, data_set, frames, table, time.perf_counter() - started)


def read_frames(paths: list[Path], workers: int, bar: tqdm) -> list[Frame]:
    """Return every frame in the given order, read in processes of their own, which may crash."""
    frames: list[Frame] = []

    def read(some: list[Path], workers: int) -> None:
        with closing(parallel_map(inspect, [(p,) for p in some], workers, isolated=True)) as read:
            for frame in read:
                frames.append(frame)
                bar.update()

    while len(frames) < len(paths):
        try:
            read(paths[len(frames) :], workers)
        except WorkerError:
            # The frame that crashed its process is one of the next: read them one at a time.
            for path in paths[len(frames) : len(frames) + CHUNK * workers]:
                try:
                    read([path], 1)
                except WorkerError:
                    frames.append(Frame(path, what="crash", got="the reading process died"))
                    bar.update()
    return frames


def inspect(path: Path) -> Frame:
    """Read one frame and sum it up; a bad one is returned with `what` and `got`."""
    try:
        rgb, stored = read_stored(path)
        depth = checked_depth(stored, path)
    except DataError as error:
        sentence = str(error)
        readable = sentence.startswith(f"{path}: ") or " has no dataset " in sentence
        got = sentence.removeprefix(str(path)).removeprefix(":").strip()
        return Frame(path, what="contract" if readable else "unreadable", got=got)
    digest = hashlib.blake2b(np.ascontiguousarray(rgb), digest_size=16)
    digest.update(repr(rgb.shape).encode())
    digest.update(np.ascontiguousarray(depth))
    frame = Frame(path, *depth.shape, stored.dtype.name, digest=digest.digest())
    measured = depth[depth > 0]
    if not measured.size:
        return frame
    holes = 1 - measured.size / depth.size
    return frame._replace(
        nearest=float(measured.min()), farthest=float(measured.max()), holes=holes
    )


def _problems(frame: Frame, kind: type[DepthDataset]) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with one frame of a data set: what, expected, got."""
    if frame.what:
        yield frame.what, CONTRACT, frame.got
        return
    height, width = kind.crop_size
    try:
        kind.check_size((frame.height, frame.width))
    except ValueError as error:
        yield "too_small", f"space for the {height}x{width} crop", str(error)
    if frame.holes == 1:
        yield "no_depth", "measured pixels", "depth 0 everywhere"
    elif frame.farthest > kind.max_metres:
        yield "depth_range", f"at most {kind.max_metres} m", f"up to {frame.farthest:.6g}"


def _copies(frames: pd.DataFrame, root: Path) -> list[tuple]:
    """Return the findings about frames of equal content, within a split and across."""
    good = frames[frames["what"] == ""]
    firsts = good.drop_duplicates(["split", "digest"]).set_index(["split", "digest"])["path"]
    findings = []
    for frame in good.itertuples():
        first = firsts[frame.split, frame.digest]
        of_val = firsts.get(("val", frame.digest)) if frame.split == "train" else None
        for what, expected, other in (
            ("duplicate", "a frame of its own", None if first == frame.path else first),
            ("train_in_val", "no frame of val", of_val if first == frame.path else None),
        ):
            if other is not None:
                got = f"same as {other.relative_to(root).as_posix()}"
                findings.append((frame.path, frame.split, what, expected, got))
    return findings
