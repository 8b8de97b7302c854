"""ROS bags: ROS 1 `.bag`, ROS 2 folders of SQLite or MCAP, read without ROS through `rosbags`.

The image is an Image or CompressedImage; depth comes from a depth image of the same camera or of
another, or from PointCloud2 scans; cameras from camera_info, where sensors sit from /tf_static.
"""

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from dataloaders.errors import DataError
from inference.sources.calibration import read_camera, read_extrinsics
from inference.sources.frames import Pending, Source, damage, gap_notes, never_meet, require
from inference.sources.projection import Camera
from inference.sources.ros_messages import (
    Rig,
    camera_of_info,
    stamp_of,
    static_transform,
    transforms_of,
)

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CLOUD, INFO = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/CameraInfo"
TF_TYPES = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
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
            camera).
    """
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        raise DataError(f"{path} holds no metadata.yaml, which the folder of a bag of ROS 2 has")
    with _opened(path) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        rgb = _chosen(path, reader, rgb_topic, is_depth=False)
        depth = _chosen(path, reader, depth_topic, is_depth=True)
        if not counts[rgb] or not counts[depth]:
            empty = rgb if not counts[rgb] else depth
            raise DataError(f"{path}: its topic {empty} has no messages")
        camera, frame = _camera(path, reader, rgb, intrinsics)
        if any(c.topic == depth and c.msgtype == CLOUD for c in reader.connections):
            depth_camera, depth_frame = None, _first_message(reader, depth).header.frame_id
        else:
            depth_camera, depth_frame = _camera(path, reader, depth, None, camera)
        if extrinsics is not None:
            transform = read_extrinsics(Path(extrinsics))
        else:
            frame = frame or _first_message(reader, rgb).header.frame_id
            transform = static_transform(path, _static(reader), depth_frame, frame)
    rig = Rig(camera, depth_camera, transform, depth_scale, hidden_radius, distortion)
    bag = _Bag(path, rgb, depth, rig, max_dt, camera.lens_notes(distortion))
    return Source(path, bag.frames, counts[rgb], bag.notes)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator:
    """Yield `rosbags`' reader of a bag; what it raises becomes a sentence."""
    require("rosbags", f"{path}: reading a bag")
    from apsw import Error as SqliteError
    from rosbags import highlevel, rosbag1, rosbag2, typesys

    errors = (highlevel.AnyReaderError, rosbag1.ReaderError, rosbag2.ReaderError)
    # Bags of ROS 2 before Iron do not hold the definitions of their messages.
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    with (
        damage(path, *errors, SqliteError, AssertionError),
        highlevel.AnyReader([path], default_typestore=store) as reader,
    ):
        yield reader


@dataclass
class _Bag:
    """The frames of a bag, in its own order; `rgb` and `depth` are topics."""

    path: Path
    rgb: str
    depth: str
    rig: Rig
    max_dt: float
    notes: list[str] = field(default_factory=list)

    def frames(self) -> Iterator[Pending]:
        """Pair each image with the measurement nearest in time, each of either at most once."""
        paired, unpaired, used = [], [], None
        for (stamp, image), following, scans in self._windows():
            at, scan = min(scans, key=lambda s: abs(s[0] - stamp), default=(np.inf, None))
            gap = abs(at - stamp)
            if gap > self.max_dt or abs(following - at) < gap or at == used:
                unpaired.append(gap)
                continue
            paired.append(gap)
            used = at
            yield Pending(f"{stamp:.6f}", partial(self.rig.frame, image, scan))
        if not paired:
            raise DataError(never_meet(self.path, min(unpaired, default=np.inf), self.max_dt))
        self.notes += gap_notes(paired, len(paired) + len(unpaired), self.max_dt)

    def _windows(self) -> Iterator[tuple[tuple[float, object], float, deque]]:
        """Yield each image with its stamp, the stamp of the next image, infinite for the last one,
        and the measurements around it with theirs."""
        images, scans = deque(), deque(maxlen=WAITING)
        for is_image, stamp, message in self._messages():
            (images if is_image else scans).append((stamp, message))
            while len(images) > 1:
                is_due = bool(scans) and scans[-1][0] >= images[0][0] + self.max_dt
                if not is_due and len(images) < WAITING:
                    break
                yield images.popleft(), images[0][0], scans
                while len(scans) > 1 and scans[1][0] < images[0][0] - self.max_dt:
                    scans.popleft()
        while images:
            yield images.popleft(), images[0][0] if images else np.inf, scans

    def _messages(self) -> Iterator[tuple[bool, float, object]]:
        """Yield whether a message is an image, its stamp [s], and itself."""
        read = 0
        try:
            with _opened(self.path) as reader:
                for topic, message in _walk(reader, (self.rgb, self.depth)):
                    read += 1
                    yield topic == self.rgb, stamp_of(message), message
        except DataError as error:
            raise DataError(f"{error}; it breaks off after {read} messages") from error


def _walk(
    reader, topics: tuple[str, ...], kinds: tuple[str, ...] = ()
) -> Iterator[tuple[str, object]]:
    """Yield topic and message of what a bag has of `topics`, of `kinds` where any are given."""
    wanted = [c for c in reader.connections if c.topic in topics]
    wanted = [c for c in wanted if c.msgtype in kinds or not kinds]
    for connection, _, raw in reader.messages(connections=wanted) if wanted else ():
        yield connection.topic, reader.deserialize(raw, connection.msgtype)


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
    found = (maps or scans) if is_depth else topics.keys() - maps
    if len(found) > 1:  # the image and its compressed twin, or infrared beside colours
        words = ("aligned",) if is_depth else ("rgb", "color", "colour")
        found = {n for n in found if any(w in n.lower() for w in words)} or found
        plain = {n for n in found if topics[n] != COMPRESSED}
        found = plain if len(plain) == 1 else found
    if len(found) == 1:
        return found.pop()
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
    for _, message in _walk(reader, (topic,)):
        return message
    raise DataError(f"its topic {topic} has no message that can be read")


def _static(reader) -> dict[tuple[str, str], np.ndarray]:
    """Return (parent, child) -> (4, 4) child to parent, of /tf_static."""
    found = {}
    for _, message in _walk(reader, ("/tf_static",), TF_TYPES):
        found |= transforms_of(message)
    return found
