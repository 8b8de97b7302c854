"""TUM RGB-D folders: `rgb.txt` and `depth.txt` list images by time, `groundtruth.txt` poses."""

import contextlib
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from dataloaders.errors import DataError
from inference.image_files import read_depth, read_rgb
from inference.point_cloud import Intrinsics
from inference.sources.calibration import pose_matrix, read_camera
from inference.sources.frames import (
    Frame,
    Pending,
    Source,
    damage,
    match_times,
    nearest_in_time,
)
from inference.sources.projection import Camera

# The calibration of the benchmark's cameras, by the number in the folder's name; the depth maps
# are registered to the images. Those of freiburg3 are undistorted already.
CAMERAS = {
    "1": Camera(
        Intrinsics(517.306408, 516.469215, 318.643040, 255.313989),
        distortion=(0.262383, -0.953104, -0.005358, 0.002628, 1.163314),
    ),
    "2": Camera(
        Intrinsics(520.908620, 521.007327, 325.141442, 249.701764),
        distortion=(0.231222, -0.784899, -0.003257, -0.000105, 0.917205),
    ),
    "3": Camera(Intrinsics(535.4, 539.2, 320.1, 247.6)),
}


def open_tum(
    path: Path,
    *,
    intrinsics: str | None = None,
    max_dt: float = 0.02,
    depth_scale: float = 5000,
    distortion: str = "undo",
) -> Source:
    """Open a TUM RGB-D folder.

    Args:
        intrinsics: see `calibration.read_camera`; None takes the benchmark's, by the folder's name.
        max_dt: largest gap between image and depth [s]. depth_scale: metres = value / scale.
        distortion: see `projection.Camera.seen`.
    """
    images, maps = (_listing(path / f"{name}.txt") for name in ("rgb", "depth"))
    camera, notes = _camera(path, intrinsics)
    notes += camera.lens_notes(distortion)
    pairs, gaps = match_times(path, images.index.values, maps.index.values, max_dt)
    poses, listed = {}, path / "groundtruth.txt"
    if listed.is_file() and len(table := _table(listed, 8)):
        for i, row in nearest_in_time(images.index, table[0]).iterrows():
            if row["gap"] <= max_dt:
                numbers = table.iloc[int(row["other"])].to_numpy(np.float64)
                poses[i] = pose_matrix(numbers[1:4], numbers[4:8])
    pending = [
        Pending(
            Path(images.iloc[i]).stem,
            partial(
                _load, path / images.iloc[i], path / maps.iloc[k], camera, depth_scale, distortion,
                time_stamp=float(images.index[i]), pose=poses.get(i),
            ),
        )
        for i, k in pairs
    ]  # fmt: skip
    return Source(path, pending, len(pending), notes + gaps, has_poses=bool(poses))


def _load(
    rgb_path: Path, depth_path: Path, camera: Camera, scale: float, distortion: str, **rest
) -> Frame:
    rgb = read_rgb(rgb_path)[0]
    depth = read_depth(depth_path, rgb.shape[:2], scale=scale)[0]
    camera = camera.fitted(depth.shape)
    rgb, depth = (camera.undistort(image, distortion) for image in (rgb, depth))
    return Frame(rgb, depth, camera.seen(distortion).of_frame, rgb_path.stem, **rest)


def _camera(path: Path, intrinsics: str | None) -> tuple[Camera, list[str]]:
    if intrinsics is not None:
        return read_camera(intrinsics), []
    number = re.search(r"(?:freiburg|fr)_?([123])", path.resolve().name)
    if number is None:
        raise DataError(
            f"{path} has no calibration of its own and its name no freiburg1, 2 or 3: give "
            "--intrinsics fx,fy,cx,cy, or a calibration file"
        )
    return CAMERAS[number[1]], [f"calibration of freiburg{number[1]}, by the folder's name"]


def _listing(path: Path) -> pd.Series:
    """Return the files of a list by their times [s]."""
    table = _table(path, 2)
    return pd.Series(table[1].to_numpy(), index=table[0].to_numpy())


def _table(path: Path, columns: int) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path} does not exist, which a TUM RGB-D folder has")
    with damage(path), contextlib.suppress(pd.errors.EmptyDataError):
        table = pd.read_csv(path, sep=r"[\s,]+", engine="python", comment="#", header=None)
        if table.shape[1] < columns:
            raise DataError(f"{path} has {table.shape[1]} columns, expected {columns}")
        return table.astype({0: float})
    return pd.DataFrame(columns=range(columns))
