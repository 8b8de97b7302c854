"""Making the missing frames of a sample set with several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2

from dataloaders.processes import WorkerError, cores, run_jobs, stopping
from sample_data.files import (
    SampleSetError,
    is_complete,
    read_manifest,
    write_frame,
    write_manifest,
)
from sample_data.kinds import SampleSet


def generate(
    kind: SampleSet,
    root: str | Path,
    *,
    n_train: int | None = None,
    n_val: int | None = None,
    frames_per_scene: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> int:
    """Makes the missing frames of a sample set.

    Args:
        kind: the kind of sample set.
        root: folder of the set; new, empty, or a set of this kind with the same settings.
        n_train, n_val: frames of the splits; frames beyond them that exist are kept. None is
            what the folder was begun with, the kind's own numbers for a new one.
        frames_per_scene: train frames that share a scene; None is the kind's own number.
        seed: seed of the whole set, at least 0.
        workers: processes; None means one a CPU core.
        progress: whether to show a progress bar on stderr.

    Returns:
        the number of frames written by this call.

    Raises:
        SampleSetError: the folder holds something else, or a number is out of range.
    """
    root = Path(root)
    workers = cores() if workers is None else workers
    frames_per_scene = kind.frames_per_scene if frames_per_scene is None else frames_per_scene
    settings = {"version": kind.version, "seed": seed, "frames_per_scene": frames_per_scene}
    found = read_manifest(kind, root, settings)
    n_train = found.get("n_train", kind.n_train) if n_train is None else n_train
    n_val = found.get("n_val", kind.n_val) if n_val is None else n_val
    for name, value, least in (
        ("n_train", n_train, 0),
        ("n_val", n_val, 0),
        ("frames_per_scene", frames_per_scene, 1),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        if value < least:
            raise SampleSetError(f"{name} must be at least {least}, got {value}")
    root.mkdir(parents=True, exist_ok=True)
    # Written first, so that a folder left by an interruption is recognised.
    counts = {
        "n_train": max(n_train, found.get("n_train", 0)),
        "n_val": max(n_val, found.get("n_val", 0)),
    }
    write_manifest(kind, root, {**settings, **counts})

    jobs = list(_jobs(kind, root, seed, {"train": n_train, "val": n_val}, frames_per_scene))
    missing = sum(len(job[4]) for job in jobs)
    if not missing:
        return 0
    with _bar(kind, missing, progress) as bar, _single_threaded():
        try:
            run_jobs(_make, jobs, workers, bar.update)
        except WorkerError as error:
            raise SampleSetError(str(error)) from error
    return missing


def _jobs(
    kind: SampleSet, root: Path, seed: int, totals: dict[str, int], frames_per_scene: int
) -> Iterator[tuple]:
    """Arguments of `_make` for every scene with missing frames."""
    for split, total in totals.items():
        share = kind.share(split, frames_per_scene)
        for start in range(0, total, share):
            indices = [
                index
                for index in range(start, min(start + share, total))
                if not is_complete(kind.frame_path(root, split, index, frames_per_scene))
            ]
            if indices:
                yield kind, root, seed, split, indices, frames_per_scene


def _make(
    kind: SampleSet, root: Path, seed: int, split: str, indices: list[int], frames_per_scene: int
) -> int:
    """Renders and writes frames of one scene; returns how many it wrote."""
    for done, index in enumerate(indices):
        if stopping():
            return done
        rgb, depth = kind.render(seed, split, index, frames_per_scene=frames_per_scene)
        write_frame(kind.frame_path(root, split, index, frames_per_scene), rgb, depth)
    return len(indices)


def _bar(kind: SampleSet, total: int, progress: bool):
    from tqdm import tqdm

    return tqdm(total=total, unit="frame", desc=kind.name, disable=not progress)


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """One OpenCV thread a process, set before any fork: a forked thread pool would hang."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
