"""Every frame of a data set read once: what it holds, and what would hurt training.

Frames are those below `train/` and `val/`; depth is in metres, 0 = no measurement. The words of
`Finding.what` are explained in `tools.check_data`, which prints a census.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataloaders.datasets import DATA_SETS
from dataloaders.errors import DataError
from dataloaders.hdf5 import checked_depth, read_stored
from dataloaders.processes import WorkerError, cores, run_jobs, stopping
from dataloaders.splits import SPLITS, RootBounds

# Metres no frame of the sensor exceeds: Kinect reads to 10, KITTI's LiDAR to 120.
FARTHEST = {"nyudepth": 20, "kitti": 200}

CONTRACT = "rgb (3, H, W) uint8 and depth (H, W) float metres, finite, 0 = no measurement"

# Frames a process takes at a time.
SHARE = 16


@dataclass(frozen=True)
class Finding:
    """One row of the CSV: a file, what is wrong with it, and what was expected and got."""

    path: str
    split: str
    what: str
    expected: str
    got: str


@dataclass(frozen=True)
class Frame:
    """What the census keeps of a frame; `problem` (what, got) where it cannot be used."""

    path: Path
    size: tuple[int, int] = (0, 0)
    dtype: str = ""
    nearest: float = 0.0  # metres, of the measured pixels
    farthest: float = 0.0
    holes: float = 1.0  # share of the pixels without a measurement
    digest: bytes = b""
    problem: tuple[str, str] | None = None


@dataclass
class Census:
    """Frames and findings of a data set, by split in the order of `SPLITS`."""

    root: Path
    data_set: str
    frames: dict[str, list[Frame]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, path: Path, split: str, what: str, expected: str, got: str) -> None:
        """Record a finding under the path relative to the root."""
        name = path.relative_to(self.root).as_posix()
        self.findings.append(Finding(name, split, what, expected, got))


def take_census(
    root: str | Path, data_set: str, *, workers: int | None = None, progress: bool = True
) -> Census:
    """Read every frame of a data set.

    Args:
        root: folder with `train/` or `val/` or both. data_set: "nyudepth" or "kitti".
        workers: processes; None means one a CPU core.
        progress: whether to show a progress bar on stderr.

    Raises:
        DataError: no such folder, no split in it, or no frame at all.
    """
    started = time.perf_counter()
    census = Census(Path(root), data_set)
    workers = cores() if workers is None else workers
    if workers < 1:
        raise DataError(f"num_workers must be at least 1, got {workers}")
    if not census.root.is_dir():
        raise DataError(f"data root {root} is not a folder")
    splits = [split for split in SPLITS if (census.root / split).is_dir()]
    if not splits:
        raise DataError(f"data root {root} has neither a folder train/ nor val/")
    paths = {split: sorted(_walk(census, split)) for split in splits}
    total = sum(map(len, paths.values()))
    if not total:
        raise DataError(f"{root} holds no .h5 file")
    with tqdm(total=total, unit="frame", desc="check", disable=not progress) as bar:
        for split in splits:
            census.frames[split] = read_frames(paths[split], workers, bar)
            _judge_frames(census, split)
    _find_copies(census)
    census.seconds = time.perf_counter() - started
    return census


def _walk(census: Census, split: str) -> Iterator[Path]:
    """The frames below a split; files that are none become findings. Hidden ones are left out."""
    bounds = RootBounds(census.root)

    def unreadable(error: OSError) -> None:
        census.add(Path(error.filename), split, "unreadable", "a folder", str(error.strerror))

    for parent, folders, files in os.walk(census.root / split, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink():
                census.add(path, split, "link", "a folder", "a link to a folder")
        for path in (Path(parent, name) for name in files if not name.startswith(".")):
            if path.suffix != ".h5":
                census.add(path, split, "stray", "frames (*.h5)", path.name)
            elif path.is_symlink() and not bounds.contain(path):
                census.add(path, split, "link", "a file below the data root", "a link out of it")
            elif not path.is_file():
                census.add(path, split, "unreadable", "a file", "a pipe, device or broken link")
            else:
                yield path


def read_frames(paths: list[Path], workers: int, bar: tqdm) -> list[Frame]:
    """Every frame in the given order, read in processes of their own, which files may crash."""
    read: dict[Path, Frame] = {}

    def keep(frames: list[Frame]) -> None:
        read.update((frame.path, frame) for frame in frames)
        bar.update(len(frames))

    while left := [path for path in paths if path not in read]:
        jobs = [(left[start : start + SHARE],) for start in range(0, len(left), SHARE)]
        try:
            run_jobs(_inspect_all, jobs, workers, keep, apart=True)
        except WorkerError:
            # Jobs start in order, so what was being read is among the first that are not done.
            undone = [paths for (paths,) in jobs if paths[0] not in read]
            for path in (path for share in undone[:workers] for path in share):
                try:
                    run_jobs(_inspect_all, [([path],)], 1, keep, apart=True)
                except WorkerError:
                    keep([Frame(path, problem=("crash", "the reading process died"))])
    return [read[path] for path in paths]


def _inspect_all(paths: list[Path]) -> list[Frame]:
    frames = []
    for path in paths:
        if stopping():
            break
        frames.append(inspect(path))
    return frames


def inspect(path: Path) -> Frame:
    """Read one frame and sum it up; a bad one becomes a `problem`, never an exception."""
    try:
        rgb, stored = read_stored(path)
        depth = checked_depth(stored, path)
    except DataError as error:
        sentence = str(error)
        readable = sentence.startswith(f"{path}: ") or " has no dataset " in sentence
        got = sentence.removeprefix(str(path)).removeprefix(":").strip()
        return Frame(path, problem=("contract" if readable else "unreadable", got))
    measured = depth[depth > 0]
    digest = hashlib.blake2b(np.ascontiguousarray(rgb), digest_size=16)
    digest.update(repr(rgb.shape).encode())
    digest.update(np.ascontiguousarray(depth))
    return Frame(
        path,
        size=depth.shape,
        dtype=stored.dtype.name,
        nearest=float(measured.min()) if measured.size else 0.0,
        farthest=float(measured.max()) if measured.size else 0.0,
        holes=1 - measured.size / depth.size,
        digest=digest.digest(),
    )


def _judge_frames(census: Census, split: str) -> None:
    """Findings about single frames."""
    kind, farthest = DATA_SETS[census.data_set], FARTHEST[census.data_set]
    too_small: dict[tuple[int, int], str | None] = {}
    for frame in census.frames[split]:
        if frame.problem:
            what, got = frame.problem
            census.add(frame.path, split, what, CONTRACT, got)
            continue
        if frame.size not in too_small:
            too_small[frame.size] = _reason(kind, frame.size)
        if too_small[frame.size]:
            height, width = kind.crop_size
            expected = f"room for the {height}x{width} crop"
            census.add(frame.path, split, "too_small", expected, too_small[frame.size])
        if frame.holes == 1:
            census.add(frame.path, split, "no_depth", "measured pixels", "depth 0 everywhere")
        elif frame.farthest > farthest:
            expected, got = f"at most {farthest} m", f"up to {frame.farthest:.6g}"
            census.add(frame.path, split, "depth_range", expected, got)


def _reason(kind: type, size: tuple[int, int]) -> str | None:
    try:
        kind.check_size(size)
    except ValueError as error:
        return str(error)
    return None


def _find_copies(census: Census) -> None:
    """Findings about frames of equal content, within a split and across."""
    firsts: dict[str, dict[bytes, Path]] = {}
    for split, frames in census.frames.items():
        first = firsts.setdefault(split, {})
        for frame in frames:
            if frame.problem:
                continue
            earlier = first.setdefault(frame.digest, frame.path)
            if earlier != frame.path:
                got = f"same as {earlier.relative_to(census.root).as_posix()}"
                census.add(frame.path, split, "duplicate", "a frame of its own", got)
    train, val = (firsts.get(split, {}) for split in SPLITS)
    for digest in train.keys() & val.keys():
        got = f"same as {val[digest].relative_to(census.root).as_posix()}"
        census.add(train[digest], "train", "train_in_val", "no frame of val", got)
    census.findings.sort(key=lambda finding: (finding.split, finding.path, finding.what))
