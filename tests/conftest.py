"""Small data sets and helpers that several test files share."""

import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs behind it
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "real"


def write_frame(path: Path, rgb: np.ndarray, depth: np.ndarray) -> Path:
    """One frame in the published HDF5 layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["rgb"] = rgb
        file["depth"] = depth
    return path


def write_frames(root: Path, n_train: int = 4, n_val: int = 2, size=(120, 160)) -> Path:
    """A tiny NYU-like data set: tilted planes with a coloured box in front, and some holes."""
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    for split, scene, count in (("train", "room_0001", n_train), ("val", "official", n_val)):
        for i in range(count):
            depth = 2 + rows * rng.uniform(0, 0.01) + columns * rng.uniform(0, 0.01)
            rgb = rng.integers(0, 60, (3, *size)) + 90
            top, left = rng.integers(10, size[0] // 2), rng.integers(10, size[1] // 2)
            box = (slice(top, top + size[0] // 3), slice(left, left + size[1] // 3))
            depth[box] = rng.uniform(1, 1.8)
            rgb[(slice(None), *box)] += rng.integers(20, 100)
            if split == "train":
                depth[:4, :4] = 0
            write_frame(
                root / split / scene / f"{i + 1:05d}.h5",
                rgb.astype(np.uint8),
                depth.astype(np.float32),
            )
    return root


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory) -> Path:
    """A data set of four training and two validation frames; read only."""
    return write_frames(tmp_path_factory.mktemp("tiny") / "frames")


@pytest.fixture(scope="session")
def real_frames() -> Path:
    """A few real sensor frames, which are not part of this repository."""
    if not REAL.is_dir():
        pytest.skip("the real frames are not on this machine")
    return REAL
