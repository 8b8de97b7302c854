"""Recordings of sensors as frames of image, sparse depth and camera: `open_source(kind, path)`.

    for frame in open_source("tum", "rgbd_dataset_freiburg1_desk"):
        frame.rgb, frame.sparse_depth  # (H, W, 3) uint8, (H, W) float32 metres with 0 = none

docs/sensors.md has what each kind reads and its options.
"""

import inspect
from collections.abc import Callable
from pathlib import Path

from dataloaders.errors import DataError
from engine.errors import OptionError
from inference.sources.clouds import open_cloud
from inference.sources.colmap import open_colmap
from inference.sources.frames import Frame, Source
from inference.sources.ios import open_record3d, open_stray
from inference.sources.kitti import open_kitti
from inference.sources.rosbag import open_rosbag
from inference.sources.tum import open_tum
from inference.sources.video import open_video

KINDS: dict[str, Callable[..., Source]] = {
    "tum": open_tum,
    "kitti": open_kitti,
    "cloud": open_cloud,
    "colmap": open_colmap,
    "rosbag": open_rosbag,
    "record3d": open_record3d,
    "stray": open_stray,
    "video": open_video,
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
    given = {name: value for name, value in options.items() if value is not None}
    takes = [name for name in inspect.signature(KINDS[kind]).parameters if name != "path"]
    for name in given:
        if name not in takes:
            flags = ", ".join(f"--{option.replace('_', '-')}" for option in takes)
            raise OptionError(f"--{name.replace('_', '-')} is no option of {kind}; it has {flags}")
    if not Path(path).exists():
        raise DataError(f"{path} does not exist")
    return KINDS[kind](Path(path), **given)
