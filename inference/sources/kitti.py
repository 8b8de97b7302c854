"""KITTI's folders: raw drives, object detection, odometry, and the depth-completion benchmark."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from dataloaders.errors import DataError
from inference.image_files import read_depth, read_rgb
from inference.point_cloud import Intrinsics
from inference.sources.calibration import affine, kitti_table, rigid
from inference.sources.clouds import read_cloud
from inference.sources.frames import Frame, Pending, Source, damage
from inference.sources.projection import Camera, scan_frame

EXPECTED = (
    "image_02/ and velodyne_points/ (a raw drive), image_2/ and velodyne/ (object, odometry), or "
    "image/ and velodyne_raw/ (the completion benchmark)"
)


def open_kitti(path: Path, *, camera: int = 2, hidden_radius: int | None = None) -> Source:
    """Open a folder of KITTI, of one of the layouts in `EXPECTED`; `camera` is 2 (left) or 3."""
    if (path / "velodyne_raw").is_dir():
        return _completion(path)
    if (path / "velodyne_points").is_dir():
        return _raw(path, camera, hidden_radius)
    if (path / "velodyne").is_dir():
        return _object_or_odometry(path, camera, hidden_radius)
    raise DataError(f"{path} holds no folder of KITTI: expected {EXPECTED}")


def _raw(path: Path, camera: int, radius: int | None) -> Source:
    images, scans = path / f"image_{camera:02d}", path / "velodyne_points" / "data"
    cam = _calibration(_near(path, "calib_cam_to_cam.txt"))
    velo = _calibration(_near(path, "calib_velo_to_cam.txt"))
    projection = _numbers(cam, f"P_rect_{camera:02d}", 12, path)
    rectified = rigid(_numbers(cam, "R_rect_00", 9, path), np.zeros(3))
    scanner = rigid(_numbers(velo, "R", 9, path), _numbers(velo, "T", 3, path))
    calibration = _split(projection, rectified @ scanner)
    stamps = _time_stamps(images / "timestamps.txt")

    def load(i: int, image: Path) -> Frame:
        return _frame(image, scans, calibration, radius, time_stamp=stamps.get(i))

    return _source(path, images / "data", load)


def _object_or_odometry(path: Path, camera: int, radius: int | None) -> Source:
    shared = path / "calib.txt"  # of odometry; object detection has one for each frame
    is_odometry, times = shared.is_file(), path / "times.txt"
    with damage(times):
        stamps = dict(enumerate(np.loadtxt(times, ndmin=1).tolist())) if times.is_file() else {}
    poses = _poses(path, camera) if is_odometry else {}

    def load(i: int, image: Path) -> Frame:
        own = shared if is_odometry else path / "calib" / f"{image.stem}.txt"
        rest = {"time_stamp": stamps.get(i), "pose": poses.get(i)}
        return _frame(image, path / "velodyne", _of_table(own, camera), radius, **rest)

    folder = path / f"image_{camera}"
    return _source(path, folder, load, one_size=is_odometry, has_poses=bool(poses))


def _completion(path: Path) -> Source:
    """The benchmark's selections: maps of 1 / 256 m, whose names tell the images'."""

    def load(_: int, image: Path) -> Frame:
        sparse = path / "velodyne_raw" / image.name.replace("_image_", "_velodyne_raw_", 1)
        rgb = read_rgb(image)[0]
        depth = read_depth(sparse, rgb.shape[:2], scale=256)[0]
        intrinsics = Intrinsics.parse(str(path / "intrinsics" / f"{image.stem}.txt"))
        return Frame(rgb, depth, intrinsics, image.stem)

    return _source(path, path / "image", load, one_size=False)


def _source(path: Path, images: Path, load: Callable[[int, Path], Frame], **rest: bool) -> Source:
    """Return the recording of a folder's images, of which `load` reads the frame by number."""
    files = sorted(p for p in images.glob("[!.]*") if p.suffix.lower() in (".png", ".jpg"))
    if not files:
        raise DataError(f"{images} holds no images (.png, .jpg)")
    pending = [Pending(file.stem, partial(load, i, file)) for i, file in enumerate(files)]
    return Source(path, pending, len(pending), **rest)


def _frame(
    image: Path,
    scans: Path,
    calibration: tuple[Intrinsics, np.ndarray],
    radius: int | None,
    **rest: object,
) -> Frame:
    intrinsics, extrinsics = calibration
    rgb, points = read_rgb(image)[0], read_cloud(scans / f"{image.stem}.bin")
    camera = Camera(intrinsics)
    return scan_frame(rgb, points, extrinsics, camera, image.stem, radius=radius, **rest)


def _of_table(path: Path, camera: int) -> tuple[Intrinsics, np.ndarray]:
    """Return intrinsics and the scanner's extrinsics of an object's or a sequence's calib file."""
    table = _calibration(path)
    scanner = affine(_numbers(table, "Tr" if "Tr" in table else "Tr_velo_to_cam", 12, path))
    if "R0_rect" in table:
        scanner = rigid(_numbers(table, "R0_rect", 9, path), np.zeros(3)) @ scanner
    return _split(_numbers(table, f"P{camera}", 12, path), scanner)


def _split(projection: np.ndarray, to_first: np.ndarray) -> tuple[Intrinsics, np.ndarray]:
    """Return intrinsics and scanner-to-camera of P = K [1 | t] (12 numbers) and the transform to
    the first camera: t = K^-1 of P's last column is this camera's offset from the first."""
    projection = projection.reshape(3, 4)
    offset = rigid(np.eye(3), np.linalg.solve(projection[:, :3], projection[:, 3]))
    (fx, _, cx), (_, fy, cy), _ = projection[:, :3].tolist()
    return Intrinsics(fx, fy, cx, cy), offset @ to_first


def _near(path: Path, name: str) -> Path:
    """Return a calibration file of a drive, which lies beside the drives of its day."""
    candidates = [folder / name for folder in (path, path.resolve().parent)]
    return next((file for file in candidates if file.is_file()), candidates[1])


def _calibration(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        raise DataError(f"{path} does not exist, without which scans cannot be projected")
    with damage(path):
        return kitti_table(path.read_text(encoding="utf-8-sig"))


def _numbers(table: dict[str, list[str]], name: str, count: int, path: Path) -> np.ndarray:
    try:
        numbers = np.array(table[name], dtype=np.float64)
    except (KeyError, ValueError):
        numbers = np.empty(0)
    if len(numbers) != count:
        raise DataError(f"{path}: its calibration has no {name} of {count} numbers")
    return numbers


def _time_stamps(path: Path) -> dict[int, float]:
    """Return seconds by the frame's number of a raw drive's `timestamps.txt`, {} without one."""
    if not path.is_file():
        return {}
    with damage(path):
        times = pd.to_datetime(pd.Series(path.read_text().split("\n")[:-1]), format="ISO8601")
        return dict(enumerate((times - pd.Timestamp(0)).dt.total_seconds().tolist()))


def _poses(path: Path, camera: int) -> dict[int, np.ndarray]:
    """Return the poses (4, 4) of a camera by the frame's number: those of odometry's
    `poses/<sequence>.txt` are camera 0's, beside which the sequence's calibration puts it."""
    path = path.resolve()
    file = path.parent.parent / "poses" / f"{path.name}.txt"
    if not file.is_file():
        return {}
    with damage(file):
        first = np.loadtxt(file, ndmin=2).reshape(-1, 3, 4)
    projection = _numbers(_calibration(path / "calib.txt"), f"P{camera}", 12, path)
    to_first = np.linalg.inv(_split(projection, np.eye(4))[1])
    return {i: affine(row) @ to_first for i, row in enumerate(first)}
