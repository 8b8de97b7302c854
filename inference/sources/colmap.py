"""COLMAP's sparse models, binary or text: the points that each image was seen to observe.

Written from COLMAP's description of its output format. Its pixels have their centres at 0.5.
"""

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from dataloaders.errors import DataError
from inference.image_files import read_rgb
from inference.point_cloud import Intrinsics
from inference.sources.calibration import pose_matrix
from inference.sources.frames import Frame, Pending, Source, damage
from inference.sources.projection import Camera, moved, splat

_FULL = "fx fy cx cy k1 k2 p1 p2"
# Number -> name, parameters, and which of them are fx fy cx cy and the model's distortion.
MODELS = {
    0: ("SIMPLE_PINHOLE", "f cx cy", "opencv", ""),
    1: ("PINHOLE", "fx fy cx cy", "opencv", ""),
    2: ("SIMPLE_RADIAL", "f cx cy k1", "opencv", "k1 0 0 0"),
    3: ("RADIAL", "f cx cy k1 k2", "opencv", "k1 k2 0 0"),
    4: ("OPENCV", _FULL, "opencv", "k1 k2 p1 p2"),
    5: ("OPENCV_FISHEYE", "fx fy cx cy k1 k2 k3 k4", "fisheye", "k1 k2 k3 k4"),
    6: ("FULL_OPENCV", f"{_FULL} k3 k4 k5 k6", "opencv", "k1 k2 p1 p2 k3 k4 k5 k6"),
    7: ("FOV", "fx fy cx cy w", "fov", "w"),
    8: ("SIMPLE_RADIAL_FISHEYE", "f cx cy k1", "fisheye", "k1 0 0 0"),
    9: ("RADIAL_FISHEYE", "f cx cy k1 k2", "fisheye", "k1 k2 0 0"),
    10: ("THIN_PRISM_FISHEYE", f"{_FULL} k3 k4 sx1 sy1", "fisheye", "k1 k2 k3 k4 p1 p2 sx1 sy1"),
}
_BY_NAME = {name: number for number, (name, *_) in MODELS.items()}


class _Image(NamedTuple):
    """name: of the file. camera: its number. pose: (4, 4) world to camera. points: (P,) numbers."""

    name: str
    camera: int
    pose: np.ndarray
    points: np.ndarray


def open_colmap(
    path: Path,
    *,
    rgb: str | None = None,
    metres_per_unit: float | None = None,
    max_error: float = 2.0,
    min_track: int = 3,
    distortion: str = "undo",
) -> Source:
    """Open a sparse model, in the folder itself or in its `sparse/0` or `sparse`.

    Args:
        rgb: folder of the images, None for `images` beside the model.
        metres_per_unit: scale of the model; None takes its units to be metres, and says so.
        max_error: largest reprojection error of a point [pixels].
        min_track: fewest images that saw it.
    """
    forms = {folder: _form(folder) for folder in (path, path / "sparse/0", path / "sparse")}
    model, form = next(((folder, form) for folder, form in forms.items() if form), (path, None))
    if form is None:
        raise DataError(f"{path} holds no COLMAP model (cameras, images and points3D .bin or .txt)")
    images = _images_folder(path, rgb)
    cameras, views, rows = _READERS[form](model)
    points = pd.DataFrame(rows, columns=["number", "x", "y", "z", "error", "track"])
    points = points.set_index("number")
    good = points[(points["error"] <= max_error) & (points["track"] >= min_track)]
    notes = [
        f"{len(good)} of {len(points)} points have an error of at most {max_error:g} pixels and "
        f"were seen in {min_track} images or more"
    ]
    if metres_per_unit is None:
        notes.append(
            "a COLMAP model is up to scale and its units are taken as metres: depth is right up to "
            "that factor (--metres-per-unit)"
        )
    bent = (camera.lens_notes(distortion) for camera in cameras.values())
    notes += next(filter(None, bent), [])
    scale = metres_per_unit or 1.0

    def load(view: _Image) -> Frame:
        image = read_rgb(images / view.name)[0]
        if view.camera not in cameras:
            raise DataError(f"the model has no camera {view.camera}")
        camera = cameras[view.camera].fitted(image.shape[:2])
        seen = good.loc[good.index.isin(view.points), ["x", "y", "z"]]
        local = moved(seen.to_numpy(), view.pose)
        taken = camera.seen(distortion)
        depth = splat(taken.pixels(local), scale * local[:, 2], image.shape[:2])
        pose = np.linalg.inv(view.pose)
        pose[:3, 3] *= scale
        image = camera.undistort(image, distortion)
        return Frame(image, depth, taken.of_frame, _name(view), pose=pose)

    views = sorted(views, key=lambda view: view.name)
    pending = [Pending(_name(view), partial(load, view)) for view in views]
    return Source(path, pending, len(pending), notes, one_size=False, has_poses=True)


def _name(view: _Image) -> str:
    return "_".join(Path(view.name).with_suffix("").parts)


def _form(folder: Path) -> str | None:
    files = ("cameras", "images", "points3D")
    return next((s for s in _READERS if all((folder / f"{f}{s}").is_file() for f in files)), None)


def _images_folder(path: Path, rgb: str | None) -> Path:
    folders = [Path(rgb)] if rgb is not None else [p / "images" for p in (path, *path.parents[:3])]
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        raise DataError(f"{folders[0]} is not a folder; name that of the images with --rgb")
    return found


def _camera(number: int, width: int, height: int, values: list[float], path: Path) -> Camera:
    if number not in MODELS:
        raise DataError(
            f"{path} has a camera of model {number}, which is not read; undistort the images with "
            "colmap image_undistorter"
        )
    name, parameters, model, distortion = MODELS[number]
    known = dict(zip(parameters.split(), values, strict=False)) | {"0": 0.0}
    if len(values) != len(parameters.split()):
        raise DataError(f"{path}: a camera {name} has {len(values)} parameters: {parameters}")
    fx, fy = (known.get(axis, known.get("f")) for axis in ("fx", "fy"))
    intrinsics = Intrinsics(fx, fy, known["cx"] - 0.5, known["cy"] - 0.5)
    return Camera(
        intrinsics, model, tuple(known[name] for name in distortion.split()), (height, width)
    )


def _view(name: str, camera: int, pose: np.ndarray, points: np.ndarray) -> _Image:
    pose = pose_matrix(pose[4:], np.roll(pose[:4], -1))  # w first
    return _Image(name, camera, pose, points[points >= 0])


def _read_binary(folder: Path) -> tuple:
    """Return cameras by number, images, and of each point its number, position, error and the
    length of its track, (P, 6)."""
    cameras, views, rows = {}, [], []
    path = folder / "cameras.bin"
    with damage(path):
        data, at = path.read_bytes(), 8
        for _ in range(struct.unpack_from("<Q", data)[0]):
            number, model, width, height = struct.unpack_from("<iiQQ", data, at)
            count = len(MODELS[model][1].split()) if model in MODELS else 0
            values = list(struct.unpack_from(f"<{count}d", data, at + 24))
            cameras[number] = _camera(model, width, height, values, path)
            at += 24 + 8 * count
    path = folder / "images.bin"
    with damage(path):
        data, at = path.read_bytes(), 8
        for _ in range(struct.unpack_from("<Q", data)[0]):
            _, *pose, camera = struct.unpack_from("<i7di", data, at)
            end = data.index(b"\0", at + 64)
            name, (count,) = data[at + 64 : end].decode(), struct.unpack_from("<Q", data, end + 1)
            seen = np.frombuffer(data, "<i8", 3 * count, end + 9)[2::3]  # after two doubles each
            views.append(_view(name, camera, np.array(pose), seen))
            at = end + 9 + 24 * count
    path = folder / "points3D.bin"
    with damage(path):
        data, at = path.read_bytes(), 8
        for _ in range(struct.unpack_from("<Q", data)[0]):
            rows.append(struct.unpack_from("<Q3d3xdQ", data, at))
            at += 51 + 8 * rows[-1][-1]
        return cameras, views, np.array(rows, float).reshape(-1, 6)


def _read_text(folder: Path) -> tuple:
    """As `_read_binary`."""
    cameras, views = {}, []
    path = folder / "cameras.txt"
    with damage(path):
        for number, model, width, height, *values in _lines(path):
            model = _BY_NAME.get(model, model)
            values = [float(value) for value in values]
            cameras[int(number)] = _camera(model, int(width), int(height), values, path)
    path = folder / "images.txt"
    with damage(path):
        lines = _lines(path, keep_empty=True)
        for line in lines:
            if not line:
                continue
            pose, seen = np.array(line[1:8], float), np.array(next(lines, [])[2::3], np.int64)
            views.append(_view(" ".join(line[9:]), int(line[8]), pose, seen))
    path = folder / "points3D.txt"
    with damage(path):
        rows = [(*line[:4], line[7], (len(line) - 8) // 2) for line in _lines(path)]
        return cameras, views, np.array(rows, float).reshape(-1, 6)


def _lines(path: Path, keep_empty: bool = False) -> Iterator[list[str]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            words = line.split()
            if (words or keep_empty) and not line.startswith("#"):
                yield words


_READERS = {".bin": _read_binary, ".txt": _read_text}
