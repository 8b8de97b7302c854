"""Frames on disk: which files belong to a split, and one checked frame out of a file.

A frame is one HDF5 file with `rgb` (3, H, W) uint8 and `depth` (H, W) float metres, 0 = no
measurement. Every failure is a `DataError` of one sentence that names the file.
"""

import contextlib
import csv
import math
import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import h5py
import numpy as np


class DataError(ValueError):
    """Data that is missing or does not keep the contract; the message is one sentence."""


def list_frames(root: Path, split: str, file_list: Path | None = None) -> list[Path]:
    """The frames of a split, in a fixed order.

    Args:
        root: data root, holding `<split>/` with one folder a scene.
        split: "train" or "val".
        file_list: CSV with the header `Name` and one path a row, relative to `root` (leading
            folders up to and including the root's own may be written out). None walks the folder.

    Raises:
        DataError: no such root or list, an empty list, or a listed file that is not under root.
    """
    if not root.is_dir():
        raise DataError(f"data root {root} is not a folder")
    if file_list is not None:
        return _read_list(root, file_list)
    folder = root / split
    if not folder.is_dir():
        raise DataError(f"data root {root} has no folder {split}/")
    frames = sorted(
        path
        for path in folder.rglob("*.h5")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not frames:
        raise DataError(f"{folder} holds no .h5 file")
    return frames


def split_scenes(frames: list[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Set whole scenes (folders) aside, so that no room is in both parts.

    Args:
        frames: of one split. share: of the scenes to hold out, 0..1; at least one where it is
            not 0. The scenes are spread evenly over their sorted names, the same ones every time.

    Returns:
        The frames that stay and those held out, each in the given order.

    Raises:
        DataError: fewer than two scenes, or nothing would stay.
    """
    scenes = sorted({frame.parent for frame in frames})
    count = max(1, round(share * len(scenes))) if share > 0 else 0
    if count >= len(scenes):
        raise DataError(f"cannot hold out {count} of {len(scenes)} scenes and train on the rest")
    held_out = {scenes[i * len(scenes) // count] for i in range(count)}
    stay = [frame for frame in frames if frame.parent not in held_out]
    return stay, [frame for frame in frames if frame.parent in held_out]


def _read_list(root: Path, file_list: Path) -> list[Path]:
    try:
        with file_list.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            if "Name" not in (reader.fieldnames or []):
                raise DataError(f"list {file_list} has no column Name")
            names = [row["Name"] for row in reader if row["Name"]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"list {file_list} cannot be read: {error}") from error
    if not names:
        raise DataError(f"list {file_list} is empty")
    return [_resolve(root, name, file_list) for name in names]


def _resolve(root: Path, name: str, file_list: Path) -> Path:
    """`name` below `root`; published lists write other people's leading folders out, so those
    are dropped one by one until the rest exists. Nothing outside the root is ever opened."""
    parts = PurePosixPath(name.strip().replace("\\", "/")).parts
    for start in range(len(parts)):
        rest = parts[start:]
        if ".." in rest or rest[0].startswith("/"):
            continue
        path = root.joinpath(*rest)
        if path.is_file():
            return path
    raise DataError(f"{file_list} names {name}, which is not under {root}")


def read_frame(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one frame.

    Returns:
        rgb (3, H, W) uint8 and depth (H, W) float32 metres, finite, 0 = no measurement.

    Raises:
        DataError: an unreadable file, a missing key, or a wrong shape, type or value.
    """
    try:
        # h5py's low-level calls: its objects for files and data sets cost more than the reading.
        with contextlib.closing(h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY)) as file:
            rgb, depth = (_open_array(file, key, path) for key in ("rgb", "depth"))
            _check_layout(rgb, depth, path)
            rgb, depth = rgb.read(), depth.read()
    except DataError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        if not path.exists():
            raise DataError(f"{path} does not exist") from error
        raise DataError(f"{path} is not a readable HDF5 file") from error

    depth = depth.astype(np.float32, copy=False)
    low, high = depth.min(), depth.max()  # either is NaN where any value is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{path}: depth holds NaN or infinite values, expected metres and 0")
    if low < 0:
        raise DataError(f"{path}: depth holds negative values, expected metres and 0")
    return rgb, depth


class _Array(NamedTuple):
    """An open data set; asking HDF5 for its shape and type takes time, so that is done once."""

    data: h5py.h5d.DatasetID
    shape: tuple[int, ...] | None
    dtype: np.dtype

    def read(self) -> np.ndarray:
        array = np.empty(self.shape, self.dtype)
        self.data.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
        return array


def _open_array(file: h5py.h5f.FileID, key: str, path: Path) -> _Array:
    """A data set of a file, refused before it is read where it is not plainly stored in it."""
    name = key.encode()
    if not file.links.exists(name):
        found = sorted(other.decode(errors="replace") for other in file)
        raise DataError(f"{path} has no dataset {key}, only: {', '.join(found) or 'none'}")
    # A link could read any file of this machine as image data.
    if file.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise DataError(f"{path}: {key} is a link to another place, which is refused")
    data = h5py.h5o.open(file, name)
    if not isinstance(data, h5py.h5d.DatasetID):
        raise DataError(f"{path}: {key} is not a plain dataset")
    # So could storage in external files, and a virtual data set, which is put together from them.
    creation = data.get_create_plist()
    if creation.get_external_count() or creation.get_layout() not in _STORED_IN_THE_FILE:
        raise DataError(f"{path}: {key} is not a plain dataset")
    array = _Array(data, data.shape, data.dtype)
    # A small compressed file can claim terabytes.
    size = math.prod(array.shape or ())
    if size > MAX_VALUES:
        raise DataError(f"{path}: {key} has {size} values, more than {MAX_VALUES}")
    return array


def _check_layout(rgb: _Array, depth: _Array, path: Path) -> None:
    if len(rgb.shape or ()) != 3 or rgb.shape[0] != 3 or rgb.dtype != np.uint8:
        raise DataError(f"{path}: rgb must be (3, H, W) uint8, got {rgb.shape} {rgb.dtype}")
    if depth.shape != rgb.shape[1:] or depth.dtype.kind != "f":
        raise DataError(
            f"{path}: depth must be {rgb.shape[1:]} float like rgb, got {depth.shape} {depth.dtype}"
        )
    if 0 in depth.shape:
        raise DataError(f"{path}: an image of {depth.shape} has no pixels")


MAX_VALUES = 3 * 4096 * 8192

_STORED_IN_THE_FILE = (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT)
