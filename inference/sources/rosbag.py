"""ROS bags: ROS 1 `.bag`, ROS 2 folders of SQLite or MCAP, read without ROS through `rosbags`.

The image is an Image or CompressedImage; depth comes from a depth image of the same camera or of
another, or from PointCloud2 scans; cameras from camera_info, where sensors sit from /tf_static.
"""

import contextlib
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from dataloaders.errors import DataError
from inference.sources.calibration import read_camera, read_extrinsics
from inference.sources.frames import Pending, Source, damage, never_meet, require
from inference.sources.projection import Camera
from inference.sources.ros_messages import (
    Rig,
    camera_of_info,
    stamp_of,
    static_transform,
    transforms_of,
)

IMAGE, COMPRESSED, CLOUD = (f"sensor_msgs/msg/{n}" for n in ("Image", "CompressedImage",
                                                            "PointCloud2"))  # fmt: skip
INFO, TF = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
TF_TYPES = (TF, "tf/msg/tfMessage")
WAITING = 32  # messages of a topic that are kept while the other topic's are awaited


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
    distortion: str = "undo",
) -> Source:
    """Open a bag.

    Args:
        rgb_topic, depth_topic: None takes the only ones, a depth image before scans.
        intrinsics, extrinsics: files in place of camera_info and /tf_static (depth sensor to
            camera). max_dt: largest gap between the stamps of image and depth [s].
        depth_scale: metres = value / scale of 16-bit depth images.
        hidden_radius: see `projection.hidden`. distortion: see `projection.Camera.seen`.
    """
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        raise DataError(f"{path} holds no metadata.yaml, which the folder of a bag of ROS 2 has")
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
    bag.notes += camera.lens_notes(distortion)
    bag.rig = Rig(camera, depth_camera, transform, depth_scale, hidden_radius, distortion)
    return Source(path, bag.frames, counts[rgb], bag.notes)


class Bag:
    """The frames of a bag, in its own order."""

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

    def damage(self) -> contextlib.AbstractContextManager:
        """Return the context that makes a sentence of what `rosbags` raises."""
        require("rosbags", f"{self.path}: reading a bag")
        from apsw import Error as SqliteError
        from rosbags.highlevel.anyreader import AnyReaderError
        from rosbags.rosbag1 import ReaderError
        from rosbags.rosbag2 import ReaderError as ReaderError2

        errors = (AnyReaderError, ReaderError, ReaderError2, SqliteError, AssertionError)
        return damage(self.path, *errors)

    def frames(self) -> Iterator[Pending]:
        """Pair each image with the measurement nearest in time, each of either at most once."""
        images, scans = deque(), deque(maxlen=WAITING)
        paired = missing = largest = 0
        smallest, used = np.inf, None

        def pair(image: tuple, following: tuple | None) -> Pending | None:
            nonlocal smallest, largest, paired, missing, used
            scan = min(scans, key=lambda s: abs(s[0] - image[0]), default=(np.inf, None))
            gap = abs(scan[0] - image[0])
            smallest = min(smallest, gap)
            nearer = following is not None and abs(following[0] - scan[0]) < gap
            if gap > self.max_dt or nearer or scan[0] == used:
                missing += 1
                return None
            paired, largest, used = paired + 1, max(largest, gap), scan[0]
            return Pending(f"{image[0]:.6f}", partial(self.rig.frame, image[1], scan[1]))

        def is_due() -> bool:
            awaited = images[0][0] + self.max_dt
            return len(images) >= WAITING or bool(scans and scans[-1][0] >= awaited)

        for is_image, stamp, message in self._messages():
            (images if is_image else scans).append((stamp, message))
            while len(images) > 1 and is_due():
                if found := pair(images.popleft(), images[0]):
                    yield found
                while len(scans) > 1 and scans[1][0] < images[0][0] - self.max_dt:
                    scans.popleft()
        while images:
            if found := pair(images.popleft(), images[0] if images else None):
                yield found
        if not paired:
            raise DataError(never_meet(self.path, float(smallest), self.max_dt))
        if largest > 0.001:
            self.notes.append(f"image and depth are {1000 * largest:.0f} ms apart at most")
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
