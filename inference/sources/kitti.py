"""KITTI's folders: raw drives, object detection, odometry, and the depth-completion benchmark."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from dataloaders.errors import DataError
from inference.image_files import read_depth, read_rgb
from inference.point_cloud import Intrinsics
from inference.sources.calibration import kitti_table, rigid
from inference.sources.clouds import read_cloud
from inference.sources.frames import Frame, Pending, Source, damage
from inference.sources.projection import Camera, scan_depth

EXPECTED = (
    "image_02/ and velodyne_points/ (a raw drive), image_2/ and velodyne/ (object, odometry), or "
    "image/ and velodyne_raw/ (the completion benchmark)"
)


def open_kitti(path: Path, *, camera: int = 2, hidden_radius: int | None = None) -> Source:
    """Open a folder of KITTI, of one of the layouts in `EXPECTED`.

    Args:
        camera: 2 (left) or 3 (right). hidden_radius: see `projection.hidden`.
    """
    options = {"radius": hidden_radius}
    if (path / "velodyne_raw").is_dir():
        return _completion(path)
    if (path / "velodyne_points").is_dir():
        return _raw(path, camera, options)
    if (path / "velodyne").is_dir():
        return _object_or_odometry(path, camera, options)
    raise DataError(f"{path} holds no folder of KITTI: expected {EXPECTED}")


def _raw(path: Path, camera: int, options: dict) -> Source:
    images = path / f"image_{camera:02d}"
    cam = _calibration(_near(path, "calib_cam_to_cam.txt"))
    velo = _calibration(_near(path, "calib_velo_to_cam.txt"))
    projection = _numbers(cam, f"P_rect_{camera:02d}", 12, path)
    rectified = rigid(_numbers(cam, "R_rect_00", 9, path), np.zeros(3))
    scanner = rigid(_numbers(velo, "R", 9, path), _numbers(velo, "T", 3, path))
    calibration = _split(projection, rectified @ scanner)
    stamps = _time_stamps(images / "timestamps.txt")
    files = _pictures(images / "data")
    pending = [
        _pending(file, path / "velodyne_points" / "data" / f"{file.stem}.bin", calibration, options,
                 stamps.get(i))
        for i, file in enumerate(files)
    ]  # fmt: skip
    return Source(path, pending, len(pending))


def _object_or_odometry(path: Path, camera: int, options: dict) -> Source:
    files = _pictures(path / f"image_{camera}")
    shared = path / "calib.txt"  # of odometry; object detection has one for each frame
    times = path / "times.txt"
    with damage(times):
        stamps = dict(enumerate(np.loadtxt(times, ndmin=1).tolist())) if times.is_file() else {}
    poses = _poses(path, camera) if shared.is_file() else {}
    pending = []
    for i, file in enumerate(files):
        own = shared if shared.is_file() else path / "calib" / f"{file.stem}.txt"
        scan = path / "velodyne" / f"{file.stem}.bin"
        calibration = partial(_of_table, own, camera)
        pending.append(_pending(file, scan, calibration, options, stamps.get(i), poses.get(i)))
    return Source(path, pending, len(pending), one_size=shared.is_file(), has_poses=bool(poses))


def _of_table(path: Path, camera: int) -> tuple[Intrinsics, np.ndarray]:
    """Return intrinsics and the scanner's extrinsics of an object's or a sequence's calib file."""
    table = _calibration(path)
    scanner = "Tr" if "Tr" in table else "Tr_velo_to_cam"
    scanner = np.vstack([_numbers(table, scanner, 12, path).reshape(3, 4), [0, 0, 0, 1]])
    rectified = np.eye(4)
    if "R0_rect" in table:
        rectified[:3, :3] = _numbers(table, "R0_rect", 9, path).reshape(3, 3)
    return _split(_numbers(table, f"P{camera}", 12, path), rectified @ scanner)


def _split(projection: np.ndarray, to_first: np.ndarray) -> tuple[Intrinsics, np.ndarray]:
    """Return intrinsics and scanner-to-camera of P = K [1 | t] (12 numbers) and the transform to
    the first camera: t = K^-1 of P's last column is this camera's offset from the first."""
    projection = projection.reshape(3, 4)
    offset = np.eye(4)
    offset[:3, 3] = np.linalg.solve(projection[:, :3], projection[:, 3])
    (fx, _, cx), (_, fy, cy), _ = projection[:, :3].tolist()
    return Intrinsics(fx, fy, cx, cy), offset @ to_first


def _pending(image: Path, scan: Path, calibration, options: dict, stamp=None, pose=None) -> Pending:
    def load() -> Frame:
        intrinsics, extrinsics = calibration() if callable(calibration) else calibration
        rgb = read_rgb(image)[0]
        camera = Camera(intrinsics).fitted(rgb.shape[:2])
        depth = scan_depth(read_cloud(scan), extrinsics, camera, rgb.shape[:2], **options)
        return Frame(rgb, depth, intrinsics, image.stem, stamp, pose)

    return Pending(image.stem, load)


def _completion(path: Path) -> Source:
    """The benchmark's selections: maps of 1 / 256 m, whose names tell the images'."""

    def load(image: Path) -> Frame:
        sparse = path / "velodyne_raw" / image.name.replace("_image_", "_velodyne_raw_", 1)
        rgb = read_rgb(image)[0]
        depth = read_depth(sparse, rgb.shape[:2], scale=256)[0]
        intrinsics = Intrinsics.parse(str(path / "intrinsics" / f"{image.stem}.txt"))
        return Frame(rgb, depth, intrinsics, image.stem)

    files = _pictures(path / "image")
    pending = [Pending(file.stem, partial(load, file)) for file in files]
    return Source(path, pending, len(files), one_size=False)


def _pictures(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.glob("[!.]*") if p.suffix.lower() in (".png", ".jpg"))
    if not files:
        raise DataError(f"{folder} holds no images (.png, .jpg)")
    return files


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
    return {i: np.vstack([row, [0, 0, 0, 1]]) @ to_first for i, row in enumerate(first)}
