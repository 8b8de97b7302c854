"""Recordings of sensors as frames of image, sparse depth and camera: `open_source(kind, path)`.

    for frame in open_source("tum", "rgbd_dataset_freiburg1_desk"):
        frame.rgb, frame.sparse_depth  # (H, W, 3) uint8, (H, W) float32 metres with 0 = none

docs/sensors.md has what each kind reads and its options. Of those that several kinds have:

    intrinsics      text or a file, see `calibration.read_camera`
    distortion      "undo" or "keep", see `projection.Camera.seen`
    depth_scale     metres = value / scale
    hidden_radius   pixels, see `projection.hidden`
    max_dt          largest gap between the stamps of an image and its depth [s]
"""

import importlib
import inspect
from pathlib import Path

from dataloaders.errors import DataError
from engine.errors import OptionError
from inference.sources.frames import Frame, Source

# Kind -> the module that reads it, imported when it is used, and the function there is "open_KIND".
KINDS = {
    "tum": "tum",
    "kitti": "kitti",
    "cloud": "clouds",
    "colmap": "colmap",
    "rosbag": "rosbag",
    "record3d": "ios",
    "stray": "ios",
    "video": "video",
}

# What tells the kind of a folder.
_SIGNS = {
    "tum": ("rgb.txt", "depth.txt"),
    "kitti": ("velodyne_points", "velodyne", "velodyne_raw"),
    "colmap": ("sparse", "cameras.bin", "cameras.txt"),
    "rosbag": ("metadata.yaml",),
    "record3d": ("rgbd", "metadata"),
    "stray": ("camera_matrix.csv",),
}

__all__ = ["KINDS", "Frame", "Source", "open_source"]


def open_source(kind: str, path: str | Path, **options: object) -> Source:
    """Open a recording; its frames are read as they are walked.

    Args:
        kind: one of `KINDS`. path: file or folder.
        options: of the kind's function; None leaves an option at its default.

    Raises:
        OptionError: no such kind, or an option that it does not have.
        DataError: nothing is there, or it cannot be read.
    """
    if kind not in KINDS:
        raise OptionError(f"a recording is one of {', '.join(KINDS)}, got {kind!r}")
    module = importlib.import_module(f"inference.sources.{KINDS[kind]}")
    open_kind = getattr(module, f"open_{kind}")
    given = {name: value for name, value in options.items() if value is not None}
    takes = [name for name in inspect.signature(open_kind).parameters if name != "path"]
    for name in given:
        if name not in takes:
            flags = ", ".join(f"--{option.replace('_', '-')}" for option in takes)
            raise OptionError(f"--{name.replace('_', '-')} is no option of {kind}; it has {flags}")
    if not Path(path).exists():
        raise DataError(f"{path} does not exist")
    try:
        return open_kind(Path(path), **given)
    except DataError as error:
        signs = {k: any((Path(path) / name).exists() for name in s) for k, s in _SIGNS.items()}
        other = next((k for k, found in signs.items() if found and not signs.get(kind)), None)
        if other is None:
            raise
        raise DataError(f"{error}; the folder looks like a recording of kind {other}") from error
