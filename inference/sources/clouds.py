"""Point clouds of any format with the images they were taken beside.

.ply .pcd .las .laz     as their headers say
.bin                    float32 x, y, z, intensity, as KITTI's scans; .pcd.bin: five floats
.npy                    (N, 3 or more) numbers
.csv .txt .xyz          columns named x, y, z, or the first three
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from dataloaders.errors import DataError
from inference.image_files import RGB_SUFFIXES, read_rgb
from inference.sources.calibration import read_camera, read_extrinsics
from inference.sources.frames import Frame, Pending, Source, damage, require
from inference.sources.projection import Camera, scan_depth


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
        intrinsics: see `calibration.read_camera`.
        extrinsics: file with the transform cloud to camera; None takes the clouds to be in the
            camera's frame. hidden_radius: see `projection.hidden`.
        distortion: see `projection.Camera.seen`.
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
    pending = [
        Pending(
            image.stem, partial(_load, image, cloud, camera, transform, hidden_radius, distortion)
        )
        for image, cloud in pairs
    ]
    notes += camera.lens_notes(distortion)
    return Source(path, pending, len(pending), notes)


def _load(
    image: Path,
    cloud: Path,
    camera: Camera,
    transform: np.ndarray,
    radius: int | None,
    distortion: str,
) -> Frame:
    rgb = read_rgb(image)[0]
    camera, size = camera.fitted(rgb.shape[:2]), rgb.shape[:2]
    taken = camera.seen(distortion)
    depth = scan_depth(read_cloud(cloud), transform, taken, size, radius=radius)
    return Frame(camera.undistort(rgb, distortion), depth, taken.of_frame, image.stem)


def is_cloud(path: Path) -> bool:
    """Return whether a file's name is that of a cloud."""
    return path.suffix.lower() in _READERS and path.name[0] != "."


def _stem(path: Path) -> str:
    return path.stem.removesuffix(".pcd") if path.suffix == ".bin" else path.stem


def read_cloud(path: Path) -> np.ndarray:
    """Return the points (N, 3) of a file, in its own unit and frame.

    Raises:
        DataError: missing, damaged, no points in it, or a format that is not read.
    """
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
    """PCD 0.7: `FIELDS`, `SIZE`, `TYPE` and `COUNT` describe a point, `DATA` the rest."""
    with path.open("rb") as stream:
        header = {}
        while "DATA" not in header:
            line = stream.readline()
            if not line:
                raise DataError(f"{path} ends before its points: no line DATA in its header")
            name, *values = line.decode("ascii", "replace").split() or ["#"]
            header[name] = values
        body = stream.read()
    counts = [int(count) for count in header.get("COUNT", ["1"] * len(header["FIELDS"]))]
    kinds = [k.lower() + s for k, s in zip(header["TYPE"], header["SIZE"], strict=True)]
    fields = list(zip(header["FIELDS"], kinds, counts, strict=True))
    number, stored = int(header["POINTS"][0]), header["DATA"][0]
    dtype = np.dtype([(f"{name}{i}" if name == "_" else name, f"<{kind}", (count,))
                      for i, (name, kind, count) in enumerate(fields)])  # fmt: skip
    if stored == "ascii":
        first = np.cumsum([0, *counts])
        columns = [first[header["FIELDS"].index(axis)] for axis in "xyz"]
        return np.loadtxt(body.decode("ascii").splitlines(), ndmin=2)[:number, columns]
    if stored == "binary":
        points = np.frombuffer(body, dtype, number)
        return np.column_stack([points[axis][:, 0] for axis in "xyz"]).astype(np.float64)
    packed, size = np.frombuffer(body, "<u4", 2)
    body = _lzf(body[8 : 8 + packed], int(size))
    found, start = {}, 0  # field by field, all points of each
    for name, kind, count in fields:
        values = np.frombuffer(body, f"<{kind}", number * count, start)
        found[name], start = values[::count], start + values.nbytes
    return np.column_stack([found[axis] for axis in "xyz"]).astype(np.float64)


def _lzf(data: bytes, size: int) -> bytes:
    """Undo LZF: runs of literal bytes, and copies of what came up to 8 kB before."""
    out, i = bytearray(), 0
    while i < len(data):
        control, i = data[i], i + 1
        if control < 32:
            out += data[i : i + control + 1]
            i += control + 1
            continue
        length = control >> 5
        if length == 7:
            length, i = length + data[i], i + 1
        back, i = ((control & 31) << 8) + data[i] + 1, i + 1
        for _ in range(length + 2):
            out.append(out[-back])
    if len(out) != size:
        raise ValueError(f"{len(out)} bytes unpacked, expected {size}")
    return bytes(out)


_READERS = {
    ".ply": _read_ply,
    ".pcd": _read_pcd,
    ".las": _read_las,
    ".laz": _read_las,
    ".bin": _read_bin,
    ".npy": _read_npy,
    **dict.fromkeys((".csv", ".txt", ".xyz"), _read_text),
}
