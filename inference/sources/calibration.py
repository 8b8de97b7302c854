"""Intrinsics, lens distortion and poses from the files that calibration tools write.

Cameras: text of fx,fy,cx,cy or the 3x3 matrix; YAML or JSON of ROS (camera_info, by file or as a
message printed), of OpenCV (FileStorage) and of Kalibr. Extrinsics: text of 3x4 or 4x4 numbers;
KITTI's `R:` and `T:`; YAML or JSON with one matrix, a rotation and a translation, or a quaternion.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dataloaders.errors import DataError
from inference.point_cloud import Intrinsics
from inference.sources.frames import damage, require
from inference.sources.projection import Camera

# What tools call the same thing, in small letters without underscores.
_MATRIX = ("cameramatrix", "intrinsicmatrix", "k", "m1", "intrinsics", "mtx")
_DISTORTION = ("distortioncoefficients", "distortioncoeffs", "distcoeffs", "distortion", "d", "d1")
_DISTORTION += ("dist",)
_MODEL = ("distortionmodel", "cameramodel")
_SIZE = (("imagewidth", "width"), ("imageheight", "height"))
_TRANSFORM = ("transformationmatrix", "extrinsicmatrix", "extrinsics", "transform", "matrix", "t")
_TRANSFORM += ("tcamlidar", "tlidarcam", "lidartocamera", "tvelotocam", "rt", "pose")
_ROTATION = ("rotation", "r", "rotationmatrix", "quaternion", "orientation")
_TRANSLATION = ("translation", "t", "translationvector", "position")
_FISHEYE = ("equidistant", "fisheye", "kannalabrandt4")


def read_camera(text: str) -> Camera:
    """Read a camera from "fx,fy,cx,cy" or from a calibration file; see the module. Raises
    DataError: no such file, or no camera in it."""
    path = Path(text)
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        return Camera(Intrinsics.parse(text))
    values = _tree(path)
    camera = camera_of(values)
    if camera is None:
        raise DataError(
            f"{path} holds no camera: expected a 3x3 camera_matrix (ROS camera_info, OpenCV) or "
            f"intrinsics fx, fy, cx, cy; it holds {', '.join(map(str, list(values)[:8]))}"
        )
    return camera


def camera_of(values: dict) -> Camera | None:
    """Return the camera in a mapping such as a parsed camera_info, None where there is none. Raises
    DataError: numbers that are no camera."""
    matrix = _numbers(_first(values, _MATRIX))
    if matrix is None:
        return _inside(values, camera_of)
    intrinsics = Intrinsics.parse(",".join(map(repr, matrix.tolist())))
    distortion = _numbers(_first(values, _DISTORTION))
    name = re.sub("[^a-z0-9]", "", str(_first(values, _MODEL) or "").lower())
    width, height = (_first(values, names) for names in _SIZE)
    size = _numbers(_first(values, ("resolution", "imagesize")))
    if size is not None and len(size) == 2:
        width, height = size
    return Camera(
        intrinsics,
        "fisheye" if name in _FISHEYE else "opencv",
        () if distortion is None else tuple(distortion.tolist()),
        (int(height), int(width)) if width and height else None,
    )


def read_extrinsics(path: Path) -> np.ndarray:
    """Return the (4, 4) transform in a file, as it stands there; see the module. Raises DataError:
    no such file, no transform in it, or a rotation that is none."""
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        values = _tree(path)
    else:
        with damage(path):
            text = path.read_text(encoding="utf-8-sig")
        values = kitti_table(text) if ":" in text else {"matrix": text.replace(",", " ").split()}
    transform = transform_of(values)
    if transform is None:
        raise DataError(
            f"{path} holds no transform: expected a 3x4 or 4x4 matrix, or a rotation and a "
            "translation"
        )
    rotation = transform[:3, :3]
    if not (np.abs(rotation @ rotation.T - np.eye(3)) < 1e-2).all() or np.linalg.det(rotation) < 0:
        raise DataError(f"{path}: the first three columns of its transform are no rotation")
    return transform


def transform_of(values: dict) -> np.ndarray | None:
    """Return the (4, 4) transform in a mapping, None where there is none."""
    lowered = _lowered(values)
    for name in _TRANSFORM:
        inner = lowered.get(name)
        numbers = _numbers(inner)
        if numbers is not None and len(numbers) in (12, 16):
            return affine(numbers[:12])
        if isinstance(inner, dict) and (found := transform_of(inner)) is not None:
            return found
    rotation, translation = (_numbers(_first(values, n)) for n in (_ROTATION, _TRANSLATION))
    if rotation is None or translation is None or len(translation) != 3:
        return _inside(values, transform_of)
    if len(rotation) == 4:
        return pose_matrix(translation, rotation)
    return rigid(rotation, translation) if len(rotation) == 9 else None


def rigid(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return the (4, 4) transform of a rotation (9 numbers by rows) and a translation (3)."""
    return affine(np.column_stack([np.reshape(rotation, (3, 3)), translation]))


def affine(numbers: np.ndarray) -> np.ndarray:
    """Return the (4, 4) transform of which `numbers` (12 by rows) are the first three rows."""
    return np.vstack([np.reshape(numbers, (3, 4)), [0, 0, 0, 1]])


def pose_matrix(position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Return the (4, 4) transform of a position (3) and a quaternion x, y, z, w of any length."""
    x, y, z, w = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
    rotation = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return rigid(rotation, position)


def kitti_table(text: str) -> dict[str, list[str]]:
    """Return the lines `name: numbers` of a KITTI calibration file by name."""
    rows = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name.strip(): numbers.split() for name, _, numbers in rows}


def _tree(path: Path) -> dict:
    """Return the mapping in a YAML or JSON file, OpenCV's dialect included."""
    with damage(path):
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            values = json.loads(text)
        else:
            yaml = require("yaml", f"{path}: reading YAML")
            # OpenCV writes %YAML:1.0, which YAML does not know, and types behind !!.
            text = re.sub(r"\A%YAML.*\n|!!opencv[-\w]*|!<[^>]*>", "", text)
            try:
                values = next(yaml.safe_load_all(text), None)  # `ros2 topic echo` ends with ---
            except yaml.YAMLError as error:
                raise ValueError(f"not YAML: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} holds no names with values, expected those of a calibration")
    return values


def _inside(values: dict, find: Callable[[dict], object]) -> object:
    """Return the first that `find` does not return as None of the mappings in a mapping."""
    found = (find(value) for value in values.values() if isinstance(value, dict))
    return next((value for value in found if value is not None), None)


def _lowered(values: dict) -> dict[str, object]:
    return {re.sub("[^a-z0-9]", "", str(name).lower()): value for name, value in values.items()}


def _first(values: dict, names: tuple[str, ...]) -> object:
    lowered = _lowered(values)
    return next((lowered[name] for name in names if name in lowered), None)


def _numbers(value: object) -> np.ndarray | None:
    """Return the numbers of a list, nested lists, a matrix {rows, cols, data} or a vector or
    quaternion {x, y, z, w}; None of anything else."""
    if isinstance(value, dict):
        xyzw = [value[name] for name in "xyzw" if name in value]
        value = value.get("data", xyzw or None)
    if value is None or isinstance(value, str):
        return None
    try:
        return np.array(value, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        return None
