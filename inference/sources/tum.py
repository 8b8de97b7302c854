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
from inference.sources.frames import Frame, Pending, Source, damage, match_times, nearest_in_time
from inference.sources.projection import Camera, map_frame

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
    """Open a TUM RGB-D folder; without `intrinsics` its camera is the benchmark's, by its name."""
    images, maps = (_listing(path / f"{name}.txt") for name in ("rgb", "depth"))
    camera, notes = _camera(path, intrinsics)
    notes += camera.lens_notes(distortion)
    pairs, gaps = match_times(path, images.index.values, maps.index.values, max_dt)
    poses, listed = {}, path / "groundtruth.txt"
    if listed.is_file() and len(table := _table(listed, 8)):
        with damage(listed):
            numbers = table.iloc[:, :8].to_numpy(np.float64)
        rows, away = nearest_in_time(images.index.to_numpy(), numbers[:, 0])
        near = np.flatnonzero(away <= max_dt)
        poses = {i: pose_matrix(numbers[rows[i], 1:4], numbers[rows[i], 4:8]) for i in near}

    def load(i: int, k: int) -> Frame:
        rgb = read_rgb(path / images.iloc[i])[0]
        depth = read_depth(path / maps.iloc[k], rgb.shape[:2], scale=depth_scale)[0]
        rest = {"time_stamp": float(images.index[i]), "pose": poses.get(i)}
        name = Path(images.iloc[i]).stem
        return map_frame(rgb, depth, camera, name, distortion=distortion, **rest)

    pending = [Pending(Path(images.iloc[i]).stem, partial(load, i, k)) for i, k in pairs]
    return Source(path, pending, len(pending), notes + gaps, has_poses=bool(poses))


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
