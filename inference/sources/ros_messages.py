"""Messages of ROS 1 and 2 as images, depth, scans and calibration, without ROS.

A message is anything that has the fields of its type: of `rosbags`, of rclpy or of rospy.
"""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dataloaders.errors import DataError
from inference.point_cloud import back_project
from inference.sources.calibration import camera_of, pose_matrix
from inference.sources.frames import Frame, decoded
from inference.sources.projection import Camera, map_frame, scan_frame

# Encoding of an image -> type, channels and OpenCV's conversion to RGB.
ENCODINGS = {
    "rgb8": (np.uint8, 3, None),
    "bgr8": (np.uint8, 3, cv2.COLOR_BGR2RGB),
    "8UC3": (np.uint8, 3, cv2.COLOR_BGR2RGB),
    "rgba8": (np.uint8, 4, cv2.COLOR_RGBA2RGB),
    "bgra8": (np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "mono8": (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": (np.uint8, 1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": (np.uint8, 1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": (np.uint8, 1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": (np.uint8, 1, cv2.COLOR_BayerGRBG2RGB),
    "yuv422": (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (np.uint8, 2, cv2.COLOR_YUV2RGB_YUYV),
    "yuyv": (np.uint8, 2, cv2.COLOR_YUV2RGB_YUYV),
}
DEPTH_ENCODINGS = {"16UC1": np.uint16, "mono16": np.uint16, "32FC1": np.float32}
# PointField's datatypes.
FIELD_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}


@dataclass
class Rig:
    """How an image and a measurement of depth, both messages of ROS, make a frame.

    camera: of the image; depth_camera: of a depth image, None for scans. extrinsics: (4, 4) depth
    sensor to camera. depth_scale: metres = value / scale of 16-bit depth. radius: see `hidden`.
    distortion: see `projection.Camera.seen`.
    """

    camera: Camera
    depth_camera: Camera | None
    extrinsics: np.ndarray
    depth_scale: float = 1000
    radius: int | None = None
    distortion: str = "undo"

    def frame(self, image: object, measured: object) -> Frame:
        """Return the frame of an Image or CompressedImage, and a depth image or PointCloud2."""
        rgb, stamp = decode_rgb(image), stamp_of(image)
        camera = self.camera.fitted(rgb.shape[:2])
        rest = {"name": f"{stamp:.6f}", "time_stamp": stamp, "distortion": self.distortion}
        if self.depth_camera is None:
            points = decode_cloud(measured)
        else:
            depth = decode_depth(measured, self.depth_scale)
            own = self.depth_camera.fitted(depth.shape)
            if own == camera and np.allclose(self.extrinsics, np.eye(4)):
                return map_frame(rgb, depth, camera, **rest)
            points, _ = back_project(depth, own)
        return scan_frame(rgb, points, self.extrinsics, camera, radius=self.radius, **rest)


def camera_of_info(message, rectified: bool = False) -> Camera:
    """Return the camera of a CameraInfo; that of a rectified image is its P, undistorted."""
    names = ("k", "d", "p", "distortion_model", "width", "height")  # ROS 1 has K, D and P
    values = {n: getattr(message, n, getattr(message, n.upper(), None)) for n in names}
    if rectified:
        values |= {"k": np.reshape(values["p"], (3, 4))[:, :3], "d": ()}
    return camera_of(values)


def transforms_of(message) -> dict[tuple[str, str], np.ndarray]:
    """Return (parent, child) -> (4, 4) child to parent, of a TFMessage."""
    found = {}
    for item in message.transforms:
        t, q = item.transform.translation, item.transform.rotation
        names = item.header.frame_id.lstrip("/"), item.child_frame_id.lstrip("/")
        found[names] = pose_matrix((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
    return found


def static_transform(
    path: Path, transforms: dict[tuple[str, str], np.ndarray], source: str, target: str
) -> np.ndarray:
    """Return the (4, 4) transform of points from a frame to another, along (parent, child) ->
    child-to-parent transforms. Raises DataError: no chain leads from one to the other."""
    source, target = source.lstrip("/"), target.lstrip("/")
    steps = {**transforms, **{(c, p): np.linalg.inv(t) for (p, c), t in transforms.items()}}
    found, queue = {source: np.eye(4)}, deque([source])
    while queue and target not in found:
        here = queue.popleft()
        for (to, of), step in steps.items():
            if of == here and to not in found:
                found[to] = step @ found[here]
                queue.append(to)
    if target not in found:
        raise DataError(
            f"{path}: depth is in the frame {source!r}, images in {target!r}, and /tf_static does "
            "not join them: give --extrinsics (depth sensor to camera)"
        )
    return found[target]


def stamp_of(message) -> float:
    """Return the time of a message's header in seconds."""
    return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec


def decode_rgb(message) -> np.ndarray:
    """Return (H, W, 3) uint8 of an Image or CompressedImage."""
    if not hasattr(message, "encoding"):
        return decoded(message.data, f"its image ({message.format})")
    if message.encoding not in ENCODINGS:
        raise DataError(f"images of encoding {message.encoding} are not read as colours")
    dtype, channels, conversion = ENCODINGS[message.encoding]
    pixels = _rows(message, dtype, channels)
    return pixels.copy() if conversion is None else cv2.cvtColor(pixels, conversion)


def decode_depth(message, scale: float) -> np.ndarray:
    """Return (H, W) float32 metres of a depth Image or compressedDepth: 16 bits are value / scale,
    floats are metres, NaN and infinite are 0."""
    if hasattr(message, "encoding"):
        if message.encoding not in DEPTH_ENCODINGS:
            raise DataError(f"images of encoding {message.encoding} are not depth")
        depth = _rows(message, DEPTH_ENCODINGS[message.encoding], 1)
    else:
        # compressed_depth_image_transport: a header of 12 bytes before the PNG.
        data = np.asarray(message.data)
        start = 12 if "compressedDepth" in message.format else 0
        depth = cv2.imdecode(data[start:], cv2.IMREAD_UNCHANGED)
        if depth is None or depth.dtype != np.uint16:
            raise DataError(f"its depth ({message.format}) is no 16-bit PNG")
        if message.format.startswith("32FC1"):  # inverse depth in steps
            a, b = np.frombuffer(data[4:12].tobytes(), "<f4")
            with np.errstate(divide="ignore"):
                return np.where(depth > 0, a / (depth - b), 0).astype(np.float32)
    if depth.dtype.kind == "u":
        return depth.astype(np.float32) / np.float32(scale)
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)


def _rows(message, dtype: type, channels: int) -> np.ndarray:
    """Return (H, W) or (H, W, C) of an Image, whose rows may be padded."""
    dtype = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    width = message.width * channels
    rows = np.asarray(message.data).reshape(message.height, message.step)
    pixels = np.ascontiguousarray(rows[:, : width * dtype.itemsize]).view(dtype)
    return pixels.reshape(message.height, message.width, *([channels] if channels > 1 else []))


def decode_cloud(message) -> np.ndarray:
    """Return the points (N, 3) of a PointCloud2."""
    fields = {field.name: field for field in message.fields}
    if not {"x", "y", "z"} <= fields.keys():
        raise DataError(f"its scan has the fields {', '.join(fields)}, expected x, y, z")
    order = ">" if message.is_bigendian else "<"
    dtype = np.dtype({
        "names": list("xyz"),
        "formats": [order + FIELD_TYPES[fields[axis].datatype] for axis in "xyz"],
        "offsets": [fields[axis].offset for axis in "xyz"],
        "itemsize": message.point_step,
    })  # fmt: skip
    rows = np.asarray(message.data).reshape(message.height, message.row_step)
    rows = np.ascontiguousarray(rows[:, : message.width * message.point_step])
    points = rows.view(dtype).ravel()
    return np.column_stack([points[axis] for axis in "xyz"]).astype(np.float64)
