"""Frames on disk: which files belong to a split, and one checked frame out of a file.

A frame is one HDF5 file with `rgb` (3, H, W) uint8 and `depth` (H, W) float metres, 0 = no
measurement. Every failure is a `DataError` of one sentence that names the file.
"""

import csv
from pathlib import Path, PurePosixPath

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
        with h5py.File(path, "r") as file:
            rgb = _read_array(file, "rgb", path)
            depth = _read_array(file, "depth", path)
    except (OSError, RuntimeError, KeyError) as error:
        if not path.exists():
            raise DataError(f"{path} does not exist") from error
        raise DataError(f"{path} is not a readable HDF5 file") from error

    if rgb.ndim != 3 or rgb.shape[0] != 3 or rgb.dtype != np.uint8:
        raise DataError(f"{path}: rgb must be (3, H, W) uint8, got {rgb.shape} {rgb.dtype}")
    if depth.shape != rgb.shape[1:] or depth.dtype.kind != "f":
        raise DataError(
            f"{path}: depth must be {rgb.shape[1:]} float like rgb, got {depth.shape} {depth.dtype}"
        )
    depth = depth.astype(np.float32, copy=False)
    if not np.isfinite(depth).all():
        raise DataError(f"{path}: depth holds NaN or infinite values, expected metres and 0")
    if depth.min(initial=0) < 0:
        raise DataError(f"{path}: depth holds negative values, expected metres and 0")
    return rgb, depth


def _read_array(file: h5py.File, key: str, path: Path) -> np.ndarray:
    link = file.get(key, getlink=True)
    if link is None:
        raise DataError(f"{path} has no dataset {key}, only: {', '.join(sorted(file)) or 'none'}")
    # A link could read any file of this machine as image data.
    if not isinstance(link, h5py.HardLink):
        raise DataError(f"{path}: {key} is a link to another place, which is refused")
    item = file[key]
    if not isinstance(item, h5py.Dataset) or item.external:
        raise DataError(f"{path}: {key} is not a plain dataset")
    # Refused before it is read: a small compressed file can claim terabytes.
    if item.size > MAX_VALUES:
        raise DataError(f"{path}: {key} has {item.size} values, more than {MAX_VALUES}")
    return item[()]


MAX_VALUES = 3 * 4096 * 8192
