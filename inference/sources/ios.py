"""Captures of an iPhone's or iPad's LiDAR: Record3D's .r3d files and folders of Stray Scanner.

Their depth has fewer pixels than the image; each is a measurement at its centre in the image.
"""

import json
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd

from dataloaders.errors import DataError
from inference.point_cloud import Intrinsics
from inference.sources.calibration import pose_matrix
from inference.sources.frames import Frame, Pending, Source, damage, decoded, require
from inference.sources.projection import spread
from inference.sources.video import Film

# From a camera with x right, y up, looking backwards (ARKit) to one with y down, looking forwards.
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def open_stray(path: Path, *, confidence: int = 1) -> Source:
    """Open a Stray Scanner folder: rgb.mp4, depth/ and confidence/ by number, camera_matrix.csv.

    The poses of odometry.csv are camera to world with x right, y down, z forward already: the app
    turns ARKit's camera half around its x axis before it writes them (OdometryEncoder.swift of
    strayrobots/scanner, q_WA * q_AC), and kekeblom/StrayVisualizer reads them as they are.

    Args:
        confidence: least confidence of a measurement, 0 to 2 of ARKit's.
    """
    matrix, odometry = path / "camera_matrix.csv", path / "odometry.csv"
    if not matrix.is_file():
        raise DataError(f"{matrix} does not exist, without which there is no camera")
    intrinsics, poses, stamps = Intrinsics.parse(str(matrix)), {}, {}
    if odometry.is_file():
        with damage(odometry):
            table = pd.read_csv(odometry, skipinitialspace=True)
            for row in table.itertuples():
                pose = pose_matrix((row.x, row.y, row.z), (row.qx, row.qy, row.qz, row.qw))
                poses[int(row.frame)], stamps[int(row.frame)] = pose, float(row.timestamp)
    film = Film(path / "rgb.mp4")

    def load(i: int, picture: Callable[[], np.ndarray]) -> Frame:
        rgb, depth = picture(), _read_map(path / "depth", i) / np.float32(1000)
        if confidence and (path / "confidence").is_dir():
            depth = _sure(depth, _read_map(path / "confidence", i), confidence)
        depth = spread(depth.astype(np.float32), rgb.shape[:2])
        return Frame(rgb, depth, intrinsics, f"{i:06d}", stamps.get(i), poses.get(i))

    def walk() -> Iterator[Pending]:
        for i, picture in enumerate(film):
            yield Pending(f"{i:06d}", partial(load, i, picture))

    return Source(path, walk, len(film), has_poses=bool(poses))


def _sure(depth: np.ndarray, confidence: np.ndarray, least: int) -> np.ndarray:
    if confidence.shape != depth.shape:
        raise DataError(f"its confidence is {confidence.shape}, its depth {depth.shape}")
    return np.where(confidence >= least, depth, np.float32(0))


def _read_map(folder: Path, i: int) -> np.ndarray:
    """Return the map of a number, .png or .npy."""
    path = folder / f"{i:06d}.png"
    if not path.is_file():
        path = path.with_suffix(".npy")
    if not path.is_file():
        raise DataError(f"{folder} holds no {i:06d}.png or .npy")
    with damage(path):
        return np.load(path) if path.suffix == ".npy" else iio.imread(path)


def open_record3d(path: Path, *, confidence: int = 1) -> Source:
    """Open a .r3d file of Record3D, or its unpacked folder.

    Its poses are ARKit's, of a camera with y up that looks backwards.
    It holds `metadata` (JSON) and, in `rgbd/`, by number the image (.jpg), the depth in metres
    (.depth, float32) and its confidence (.conf, bytes), both compressed by LZFSE.

    Args:
        confidence: least confidence of a measurement, 0 to 2 of ARKit's.
    """
    if path.is_dir() and not (path / "metadata").is_file():
        raise DataError(f"{path} holds no file metadata, which a capture of Record3D has")
    with damage(path, zipfile.BadZipFile):
        # A folder is read through the same calls as the archive.
        root = path if path.is_dir() else zipfile.Path(path)
        facts = json.loads((root / "metadata").read_text(encoding="utf-8"))
        matrix = np.array(facts["K"], np.float64).reshape(3, 3).T  # stored by columns
        intrinsics = Intrinsics(*matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist())
        names = [file.name for file in (root / "rgbd").iterdir() if file.name.endswith(".jpg")]
        size, poses = (facts["dh"], facts["dw"]), facts.get("poses", [])
        stamps = facts.get("frameTimestamps", [])
    if not names:
        raise DataError(f"{path} holds no images rgbd/*.jpg")
    lzfse = require("liblzfse", f"{path}: LZFSE, which Record3D compresses depth with,")

    def load(i: int) -> Frame:
        image, stored, conf = (root / "rgbd" / f"{i}.{kind}" for kind in ("jpg", "depth", "conf"))
        rgb = decoded(image.read_bytes(), "its image")
        depth = np.frombuffer(lzfse.decompress(stored.read_bytes()), "<f4").reshape(size)
        depth = np.nan_to_num(depth)
        if confidence and conf.exists():
            sure = np.frombuffer(lzfse.decompress(conf.read_bytes()), np.uint8)
            depth = _sure(depth, sure.reshape(size), confidence)
        pose = pose_matrix(poses[i][4:], poses[i][:4]) @ _FLIP if i < len(poses) else None
        stamp = float(stamps[i]) if i < len(stamps) else None
        depth = spread(depth, rgb.shape[:2])
        return Frame(rgb, depth, intrinsics, f"{i:06d}", stamp, pose)

    numbers = sorted(int(Path(name).stem) for name in names)
    pending = [Pending(f"{i:06d}", partial(load, i)) for i in numbers]
    return Source(path, pending, len(numbers), has_poses=bool(poses))
