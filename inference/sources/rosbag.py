"""ROS bags: ROS 1 `.bag`, ROS 2 folders of SQLite or MCAP, read without ROS through `rosbags`.

The image is an Image or CompressedImage; depth comes from a depth image of the same camera or of
another, or from PointCloud2 scans; cameras from camera_info, where sensors sit from /tf_static.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dataloaders.errors import DataError
from inference.sources.calibration import camera_of, pose_matrix, read_camera, read_extrinsics
from inference.sources.frames import Damage, Frame, Pending, Source, never_meet, require
from inference.sources.projection import Camera, register, scan_depth

IMAGE, COMPRESSED, CLOUD = (f"sensor_msgs/msg/{n}" for n in ("Image", "CompressedImage",
                                                            "PointCloud2"))  # fmt: skip
INFO, TF = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
TF_TYPES = (TF, "tf/msg/tfMessage")
WAITING = 64  # messages of a topic that are kept while the other topic's are awaited

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
    """

    camera: Camera
    depth_camera: Camera | None
    extrinsics: np.ndarray
    depth_scale: float = 1000
    radius: int | None = None

    def frame(self, image: object, measured: object) -> Frame:
        """Return the frame of an Image or CompressedImage, and a depth image or PointCloud2."""
        rgb, stamp = decode_rgb(image), stamp_of(image)
        size, options = rgb.shape[:2], {"radius": self.radius}
        camera = self.camera.fitted(size)
        straight = camera.pinhole()
        if self.depth_camera is None:
            depth = scan_depth(decode_cloud(measured), self.extrinsics, straight, size, **options)
        else:
            depth = decode_depth(measured, self.depth_scale)
            own = self.depth_camera.fitted(depth.shape)
            if own == camera and np.allclose(self.extrinsics, np.eye(4)):
                depth = camera.undistort(depth)
            else:
                depth = register(depth, own, self.extrinsics, straight, size, **options)
        return Frame(camera.undistort(rgb), depth, camera.intrinsics, f"{stamp:.6f}", stamp)


def open_rosbag(
    path: Path,
    *,
    rgb_topic: str | None = None,
    depth_topic: str | None = None,
    intrinsics: str | None = None,
    extrinsics: str | None = None,
    max_dt: float = 0.02,
    depth_scale: float = 1000,
    hidden_radius: int | None = None,
) -> Source:
    """Open a bag.

    Args:
        rgb_topic, depth_topic: None takes the only ones, a depth image before scans.
        intrinsics, extrinsics: files in place of camera_info and /tf_static (depth sensor to
            camera). max_dt: largest gap between the stamps of image and depth [s].
        depth_scale: metres = value / scale of 16-bit depth images.
        hidden_radius: see `projection.hidden`.
    """
    bag = Bag(path, max_dt)
    with bag.damage(), bag.opened() as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        rgb = _chosen(path, reader, rgb_topic, is_depth=False)
        depth = _chosen(path, reader, depth_topic, is_depth=True)
        if not counts[rgb] or not counts[depth]:
            empty = rgb if not counts[rgb] else depth
            raise DataError(f"{path}: its topic {empty} has no messages")
        camera, frame = _camera(path, reader, rgb, intrinsics)
        depth_camera, depth_frame = None, None
        is_image = any(c.topic == depth and c.msgtype != CLOUD for c in reader.connections)
        if is_image:
            depth_camera, depth_frame = _camera(path, reader, depth, None, camera)
        else:
            depth_frame = _first_message(reader, depth).header.frame_id
        transform = read_extrinsics(Path(extrinsics)) if extrinsics is not None else None
        if transform is None:
            frame = frame or _first_message(reader, rgb).header.frame_id
            transform = static_transform(path, _static(reader), depth_frame, frame)
    bag.rgb, bag.depth = rgb, depth
    bag.rig = Rig(camera, depth_camera, transform, depth_scale, hidden_radius)
    return Source(path, bag, counts[rgb], bag.notes)


class Bag:
    """The frames of a bag in its own order, beginning anew with every walk."""

    def __init__(self, path: Path, max_dt: float):
        self.path, self.max_dt, self.notes = path, max_dt, []
        self.rgb = self.depth = self.rig = None  # topics and calibration, once they are known

    def opened(self):
        """Return `rosbags`' reader of the bag, for a `with` block."""
        from rosbags import highlevel
        from rosbags.typesys import Stores, get_typestore

        # Bags of ROS 2 before Iron do not hold the definitions of their messages.
        store = get_typestore(Stores.ROS2_HUMBLE)
        return highlevel.AnyReader([self.path], default_typestore=store)

    def damage(self) -> Damage:
        """Return the context that makes a sentence of what `rosbags` raises."""
        require("rosbags", f"{self.path}: reading a bag")
        from apsw import Error as SqliteError
        from rosbags.highlevel.anyreader import AnyReaderError
        from rosbags.rosbag1 import ReaderError
        from rosbags.rosbag2 import ReaderError as ReaderError2

        errors = (AnyReaderError, ReaderError, ReaderError2, SqliteError, AssertionError)
        return Damage(self.path, *errors)

    def __iter__(self) -> Iterator[Pending]:
        """Pair each image with the measurement nearest in time, if no other image is nearer."""
        images, scans, smallest = deque(maxlen=WAITING), deque(maxlen=WAITING), np.inf
        paired = missing = 0

        def pair(image: tuple, following: tuple | None) -> Pending | None:
            nonlocal smallest, paired, missing
            scan = min(scans, key=lambda s: abs(s[0] - image[0]), default=None)
            gap = abs(scan[0] - image[0]) if scan is not None else np.inf
            smallest = min(smallest, gap)
            taken = following is not None and scan and abs(following[0] - scan[0]) < gap
            if gap > self.max_dt or taken:
                missing += 1
                return None
            paired += 1
            return Pending(f"{image[0]:.6f}", partial(self.rig.frame, image[1], scan[1]))

        for is_image, stamp, message in self._messages():
            (images if is_image else scans).append((stamp, message))
            while len(images) > 1 and scans and scans[-1][0] >= images[0][0] + self.max_dt:
                if found := pair(images.popleft(), images[0]):
                    yield found
                while len(scans) > 1 and scans[1][0] < images[0][0] - self.max_dt:
                    scans.popleft()
        while images:
            if found := pair(images.popleft(), images[0] if images else None):
                yield found
        if not paired:
            raise DataError(never_meet(self.path, float(smallest), self.max_dt))
        if missing:
            self.notes.append(f"{missing} images had no depth within {self.max_dt:g} s (--max-dt)")

    def _messages(self) -> Iterator[tuple[bool, float, object]]:
        """Yield whether a message is an image, its stamp [s], and itself."""
        wanted, read = (self.rgb, self.depth), 0
        try:
            with self.damage(), self.opened() as reader:
                connections = [c for c in reader.connections if c.topic in wanted]
                for connection, _, raw in reader.messages(connections=connections):
                    message = reader.deserialize(raw, connection.msgtype)
                    read += 1
                    yield connection.topic == self.rgb, stamp_of(message), message
        except DataError as error:
            raise DataError(f"{error}; it breaks off after {read} messages") from error


def _chosen(path: Path, reader, topic: str | None, *, is_depth: bool) -> str:
    """Return the topic of the images or of the depth, or raise where it is not the only one."""
    kinds = (IMAGE, COMPRESSED, CLOUD) if is_depth else (IMAGE, COMPRESSED)
    topics = {c.topic: c.msgtype for c in reader.connections if c.msgtype in kinds}
    flag, what = ("--depth-topic", "depth") if is_depth else ("--rgb-topic", "images")
    listed = ", ".join(sorted(topics)) or "none"
    if topic is not None:
        if topic not in topics:
            raise DataError(f"{path} has no topic {topic} of {what}; it has {listed}")
        return topic
    maps = {name for name in topics if "depth" in name.lower() and topics[name] != CLOUD}
    scans = {name for name in topics if topics[name] == CLOUD}
    ordered = [maps, scans] if is_depth else [topics.keys() - maps]
    for found in ordered:
        if len(found) > 1:  # the image and its compressed twin, or infrared beside colours
            words = ("aligned",) if is_depth else ("rgb", "color", "colour")
            found = {n for n in found if any(w in n.lower() for w in words)} or found
            plain = {n for n in found if topics[n] != COMPRESSED}
            found = plain if len(plain) == 1 else found
        if len(found) == 1:
            return found.pop()
        if found:
            break
    many = "has no topic" if not found else "has several topics"
    raise DataError(f"{path} {many} of {what}; name one with {flag}: {listed}")


def _camera(
    path: Path, reader, topic: str, given: str | None, default: Camera | None = None
) -> tuple[Camera, str]:
    """Return the camera of an image topic and its frame, "" where a file gives the camera."""
    if given is not None:
        return read_camera(given), ""
    infos = [c.topic for c in reader.connections if c.msgtype == INFO and c.msgcount]
    parents = [topic.rsplit("/", i)[0] for i in (1, 2)]
    wanted = next((f"{p}/camera_info" for p in parents if f"{p}/camera_info" in infos), None)
    if wanted is None and default is not None:  # a depth image without one is the image's
        return default, _first_message(reader, topic).header.frame_id
    if wanted is None:
        raise DataError(
            f"{path} has no calibration of {topic} ({parents[0]}/camera_info): give --intrinsics"
        )
    message = _first_message(reader, wanted)
    return camera_of_info(message, "rect" in topic.rsplit("/", 1)[-1]), message.header.frame_id


def camera_of_info(message, rectified: bool = False) -> Camera:
    """Return the camera of a CameraInfo; that of a rectified image is its P, undistorted."""
    names = ("k", "d", "p", "distortion_model", "width", "height")  # ROS 1 has K, D and P
    values = {n: getattr(message, n, getattr(message, n.upper(), None)) for n in names}
    if rectified:
        values |= {"k": np.reshape(values["p"], (3, 4))[:, :3], "d": ()}
    return camera_of(values)


def _first_message(reader, topic: str):
    connections = [c for c in reader.connections if c.topic == topic]
    for connection, _, raw in reader.messages(connections=connections):
        return reader.deserialize(raw, connection.msgtype)
    raise DataError(f"its topic {topic} has no message that can be read")


def _static(reader) -> dict[tuple[str, str], np.ndarray]:
    """Return (parent, child) -> (4, 4) child to parent, of /tf_static."""
    found = {}
    connections = [
        c for c in reader.connections if c.topic == "/tf_static" and c.msgtype in TF_TYPES
    ]
    for connection, _, raw in reader.messages(connections=connections) if connections else ():
        found |= transforms_of(reader.deserialize(raw, connection.msgtype))
    return found


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
    child-to-parent transforms.

    Raises:
        DataError: no chain leads from one to the other.
    """
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
        image = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"its image ({message.format}) is damaged")
        return np.ascontiguousarray(image[..., ::-1])
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
    if depth.dtype == np.uint16:
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
