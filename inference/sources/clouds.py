"""Point clouds of any format with the images they were taken beside.

.ply .pcd .las .laz     as their headers say
.bin                    float32 x, y, z, intensity, as KITTI's scans; .pcd.bin: five floats
.npy                    (N, 3 or more) numbers
.csv .txt .xyz          columns named x, y, z, or the first three
"""

import io
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from dataloaders.errors import DataError
from inference.image_files import RGB_SUFFIXES, read_rgb
from inference.sources.calibration import read_camera, read_extrinsics
from inference.sources.frames import Frame, Pending, Source, damage, require
from inference.sources.projection import scan_frame


def open_cloud(
    path: Path,
    *,
    rgb: str | None = None,
    intrinsics: str | None = None,
    extrinsics: str | None = None,
    hidden_radius: int | None = None,
    distortion: str = "undo",
) -> Source:
    """Open a cloud or a folder of clouds, and the image or folder of images of the same stems.

    Args:
        rgb: image or folder; None looks beside the clouds.
        extrinsics: file with the transform cloud to camera; None takes the clouds to be in the
            camera's frame. The other options are those of every kind, see the package.
    """
    if intrinsics is None:
        raise DataError(f"{path}: a cloud needs its camera: give --intrinsics (YAML, JSON, text)")
    camera, notes = read_camera(intrinsics), []
    transform = np.eye(4) if extrinsics is None else read_extrinsics(Path(extrinsics))
    if extrinsics is None:
        notes.append("without --extrinsics the points are taken to be in the camera's frame")
    folder = path if path.is_dir() else path.parent
    clouds = sorted(p for p in path.iterdir() if is_cloud(p)) if path.is_dir() else [path]
    images = Path(rgb) if rgb is not None else folder
    if path.is_dir() or images.is_dir():
        found = {p.stem: p for p in images.glob("*") if p.suffix.lower() in RGB_SUFFIXES}
        pairs = [(found[stem], p) for p in clouds if (stem := _stem(p)) in found]
    else:
        pairs = [(images, path)]
    if not pairs:
        raise DataError(f"no image in {images} has the stem of a cloud in {path} (--rgb)")
    if missing := len(clouds) - len(pairs):
        notes.append(f"{missing} of {len(clouds)} clouds have no image and are left out")

    def load(image: Path, cloud: Path) -> Frame:
        options = {"distortion": distortion, "radius": hidden_radius}
        rgb, points = read_rgb(image)[0], read_cloud(cloud)
        return scan_frame(rgb, points, transform, camera, image.stem, **options)

    pending = [Pending(image.stem, partial(load, image, cloud)) for image, cloud in pairs]
    return Source(path, pending, len(pending), notes + camera.lens_notes(distortion))


def is_cloud(path: Path) -> bool:
    """Return whether a file's name is that of a cloud."""
    return path.suffix.lower() in _READERS and path.name[0] != "."


def _stem(path: Path) -> str:
    return path.stem.removesuffix(".pcd") if path.suffix == ".bin" else path.stem


def read_cloud(path: Path) -> np.ndarray:
    """Return the points (N, 3) of a file, in its own unit and frame. Raises DataError: missing,
    damaged, no points in it, or a format that is not read."""
    if path.suffix.lower() not in _READERS:
        raise DataError(f"{path} is not a cloud this reads: {', '.join(_READERS)}")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    with damage(path):
        points = _READERS[path.suffix.lower()](path)
    if not len(points):
        raise DataError(f"{path} holds no points")
    return points


def _read_bin(path: Path) -> np.ndarray:
    columns = 5 if path.name.endswith(".pcd.bin") else 4
    values = np.fromfile(path, "<f4")
    if path.stat().st_size % (4 * columns):
        raise DataError(
            f"{path} has {path.stat().st_size} bytes, expected {columns} floats a point"
        )
    return values.reshape(-1, columns)[:, :3]


def _read_npy(path: Path) -> np.ndarray:
    points = np.load(path, allow_pickle=False)
    if points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind not in "fiu":
        raise DataError(f"{path} holds {points.shape} {points.dtype}, expected (N, 3) numbers")
    return points[:, :3].astype(np.float64)


def _read_text(path: Path) -> np.ndarray:
    table = pd.read_csv(path, sep=r"[\s,;]+", engine="python", header=None, comment="#")
    if not pd.to_numeric(table.iloc[0], errors="coerce").notna().all():
        table = table[1:].set_axis(table.iloc[0].astype(str).str.strip('"').str.lower(), axis=1)
    wanted = ["x", "y", "z"] if {"x", "y", "z"} <= set(table) else list(table)[:3]
    points = table[wanted].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if points.shape[1] != 3 or np.isnan(points).all(axis=0).any():
        raise DataError(f"{path}: expected columns x, y, z, got {', '.join(map(str, table))}")
    return points


def _read_ply(path: Path) -> np.ndarray:
    plyfile = require("plyfile", f"{path}: reading PLY")
    with damage(path, plyfile.PlyParseError):
        vertex = plyfile.PlyData.read(path)["vertex"]
        return np.column_stack([vertex[axis] for axis in "xyz"]).astype(np.float64)


def _read_las(path: Path) -> np.ndarray:
    laspy = require("laspy", f"{path}: reading LAS")
    if path.suffix.lower() == ".laz":
        require("lazrs", f"{path}: reading LAZ")
    with damage(path, laspy.errors.LaspyException):
        return np.asarray(laspy.read(path).xyz)


def _read_pcd(path: Path) -> np.ndarray:
    pypcd4 = require("pypcd4", f"{path}: reading PCD")
    from pydantic import ValidationError

    header, data, body = path.read_bytes().partition(b"\nDATA ")
    fields = re.search(rb"^FIELDS(.*)", header, re.MULTILINE)
    if fields and b"\nCOUNT" not in header:  # which may be left out, and is 1 then
        header += b"\nCOUNT" + b" 1" * len(fields[1].split())
    try:
        cloud = pypcd4.PointCloud.from_fileobj(io.BytesIO(header + data + body))
        return cloud.numpy(("x", "y", "z"))
    except ValidationError as error:
        wrong = ", ".join(str(fault["loc"][0]).upper() for fault in error.errors())
        raise DataError(f"{path}: the header of a PCD lacks {wrong}, or they are wrong") from error


_READERS = {
    ".ply": _read_ply,
    ".pcd": _read_pcd,
    ".las": _read_las,
    ".laz": _read_las,
    ".bin": _read_bin,
    ".npy": _read_npy,
    **dict.fromkeys((".csv", ".txt", ".xyz"), _read_text),
}
