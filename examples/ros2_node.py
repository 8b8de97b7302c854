"""Dense depth on a robot: a node of ROS 2 around the network.

    source /opt/ros/jazzy/setup.bash    # Python with ROS's packages and those of requirements.txt
    python examples/ros2_node.py --ros-args -r image:=/camera/color/image_raw \\
        -r camera_info:=/camera/color/camera_info -r depth:=/velodyne_points

Subscribed: `image` (Image) and its `camera_info`, `depth` (PointCloud2) and /tf_static, from which
the pose of the depth sensor is taken. Published, with the stamp and frame of the image and in the
pixels of the undistorted image, whose calibration is `completed/camera_info`:
    completed/depth   Image of 32FC1 metres, NaN where the network gives none
    completed/error   the same of the expected absolute error, of a network that estimates it

Parameters (`-p NAME:=VALUE`):
    checkpoint    file or run folder (default: the shipped network)
    device        auto, cpu or cuda (default auto)
    max_dt        largest gap between the stamps of an image and its measurement [s]; less than half
                  of the sensor's period (default 0.02)
    compressed    `image` is a CompressedImage (default false)
    depth_image   `depth` is an Image; one of another frame than the image's needs its
                  `depth_camera_info` (default false)
    depth_scale   units per metre of 16-bit depth images (default 1000.0)
    reliable      receive nothing but what is sent reliably: large images no longer get lost on the
                  way, but drivers that send "best effort" are not received (default false)
    extrinsics    file with the pose depth sensor to camera, in place of /tf_static (default none)

An image whose topic's name has "rect" in it is taken as rectified. A slow network skips images; it
does not lag behind. `Completion` needs no ROS: it takes whatever has the fields of the messages.
"""

import array
import contextlib
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dataloaders import DataError
from engine.checkpoint import shipped_network
from engine.cli import run_script
from engine.errors import OptionError
from inference.point_cloud import Intrinsics
from inference.predictor import Predictor
from inference.sources.calibration import read_extrinsics
from inference.sources.frames import damage
from inference.sources.ros_messages import (
    Rig,
    camera_of_info,
    stamp_of,
    static_transform,
    transforms_of,
)

WAITING = 10  # messages of a topic that are kept while the other topic's are awaited


class Completed(NamedTuple):
    """What is published for an image.

    header: the image's. depth, error: (H, W) float32 metres, NaN where not positive; error is None
    of a network that does not estimate it. intrinsics: of these pixels, without distortion.
    """

    header: object
    depth: np.ndarray
    error: np.ndarray | None
    intrinsics: Intrinsics


@dataclass
class Completion:
    """Pairs images and measurements by their stamps, and completes the depth of each pair.

    Args:
        max_dt: largest gap between the stamps of a pair [s]; a message is paired once, with the
            nearest one that has come.
        depth_scale: units per metre of 16-bit depth images.
        rectified: images are rectified, so that the P of their camera_info holds.
        extrinsics: (4, 4) depth sensor to camera, None to take it from /tf_static.
    """

    predictor: Predictor
    max_dt: float = 0.02
    depth_scale: float = 1000
    rectified: bool = False
    extrinsics: np.ndarray | None = None

    def __post_init__(self):
        self.camera = self.depth_camera = None
        self.transforms: dict = {}
        self.images, self.measured = deque(maxlen=WAITING), deque(maxlen=WAITING)

    def on_camera_info(self, message) -> None:
        """Keep the calibration of the images."""
        with damage("camera_info"):
            self.camera = camera_of_info(message, self.rectified)

    def on_depth_camera_info(self, message) -> None:
        """Keep the calibration of the depth images."""
        with damage("depth_camera_info"):
            self.depth_camera = camera_of_info(message)

    def on_transforms(self, message) -> None:
        """Keep what /tf_static says."""
        self.transforms |= transforms_of(message)

    def on_image(self, message) -> Completed | None:
        """Return the depth of an image, None until its measurement has come. Raises DataError: what
        is missing or does not fit, as one sentence."""
        is_full = len(self.images) == WAITING
        measured = self._nearest(message, self.measured, self.images)
        if measured is not None:
            return self._completed(message, measured)
        if is_full:
            gaps = [abs(stamp_of(message) - stamp_of(other)) for other in self.measured]
            found = f"the nearest is {min(gaps):.3f} s away" if gaps else "no message has come"
            raise DataError(f"{WAITING} images have no depth within {self.max_dt:g} s: {found}")
        return None

    def on_depth(self, message) -> Completed | None:
        """Return the depth of the image that a measurement belongs to; see `on_image`."""
        image = self._nearest(message, self.images, self.measured)
        return None if image is None else self._completed(image, message)

    def _nearest(self, message, others: deque, own: deque):
        """Return that of `others` which is nearest in time, after dropping all up to it; where none
        is near enough, keep `message` in `own` and return None."""
        stamp = stamp_of(message)
        nearest = min(others, key=lambda other: abs(stamp_of(other) - stamp), default=None)
        if nearest is None or abs(stamp_of(nearest) - stamp) > self.max_dt:
            own.append(message)
            return None
        own.clear()
        while others.popleft() is not nearest:
            pass
        return nearest

    def _completed(self, image, measured) -> Completed:
        if self.camera is None:
            raise DataError("no message of camera_info has come yet")
        source, target = (m.header.frame_id for m in (measured, image))
        depth_camera = None
        if not hasattr(measured, "fields"):  # an image
            depth_camera = self.depth_camera or self.camera
            if self.depth_camera is None and source != target:
                raise DataError(
                    f"depth images are in the frame {source!r}, images in {target!r}, and no "
                    "message of depth_camera_info has come yet"
                )
        extrinsics = self.extrinsics
        if extrinsics is None:
            extrinsics = static_transform(Path("tf"), self.transforms, source, target)
        with damage("a message"):
            rig = Rig(self.camera, depth_camera, extrinsics, self.depth_scale)
            frame = rig.frame(image, measured)
        if not frame.sparse_depth.any():
            raise DataError("no measurement falls into the image")
        prediction = self.predictor(frame.rgb, frame.sparse_depth)
        depth = np.where(prediction.depth > 0, prediction.depth, np.float32(np.nan))
        return Completed(image.header, depth, prediction.error, frame.intrinsics)


def fill_map(message, header, values: np.ndarray) -> object:
    """Return an empty Image with (H, W) float32 metres in it."""
    message.header, message.encoding = header, "32FC1"
    message.height, message.width = values.shape
    message.step = 4 * message.width
    # rclpy checks any other type than this byte by byte.
    message.data = array.array("B", values.astype("<f4").tobytes())
    return message


def fill_info(message, header, size: tuple[int, int], camera: Intrinsics) -> object:
    """Return an empty CameraInfo with the calibration of an undistorted image (H, W) in it."""
    message.header, (message.height, message.width) = header, size
    message.distortion_model, message.d = "plumb_bob", [0.0] * 5
    k = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]], float)
    message.k, message.r = k.ravel().tolist(), np.eye(3).ravel().tolist()
    message.p = np.column_stack([k, np.zeros(3)]).ravel().tolist()
    return message


PARAMETERS = {
    "checkpoint": "",
    "device": "auto",
    "max_dt": 0.02,
    "compressed": False,
    "depth_image": False,
    "depth_scale": 1000.0,
    "reliable": False,
    "extrinsics": "",
}


def main(argv: list[str] | None = None) -> None:
    """Run the node."""
    try:
        import rclpy
        from rclpy.executors import ExternalShutdownException
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
    except ImportError as error:
        raise OptionError(f"{error}: source the setup.bash of a ROS 2 first") from error

    rclpy.init(args=argv)
    node = rclpy.create_node("depth_completion")
    given = {name: node.declare_parameter(name, v).value for name, v in PARAMETERS.items()}
    checkpoint = given["checkpoint"] or shipped_network()
    predictor = Predictor.from_checkpoint(checkpoint, device=given["device"])
    node.get_logger().info(predictor.describe())
    completion = Completion(
        predictor,
        max_dt=given["max_dt"],
        depth_scale=given["depth_scale"],
        rectified="rect" in node.resolve_topic_name("image").rsplit("/", 1)[-1],
        extrinsics=read_extrinsics(Path(given["extrinsics"])) if given["extrinsics"] else None,
    )
    kinds = {"depth": Image, "error": Image, "camera_info": CameraInfo}
    # Reliable, which every subscriber can read.
    publish = {
        name: node.create_publisher(kind, f"completed/{name}", QoSProfile(depth=1)).publish
        for name, kind in kinds.items()
    }

    def subscribe(kind: type, topic: str, callback, qos: QoSProfile) -> None:
        def on_message(message) -> None:
            try:
                completed = callback(message)
            except DataError as error:
                node.get_logger().warning(f"{topic}: {error}", throttle_duration_sec=1.0)
                return
            if completed is None:
                return
            header, depth, error, camera = completed
            publish["camera_info"](fill_info(CameraInfo(), header, depth.shape, camera))
            publish["depth"](fill_map(Image(), header, depth))
            if error is not None:
                publish["error"](fill_map(Image(), header, error))

        node.create_subscription(kind, topic, on_message, qos)

    # The newest message alone; what reads BEST_EFFORT reads senders of either reliability.
    any_sender = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    newest = QoSProfile(depth=1) if given["reliable"] else any_sender
    subscribe(CameraInfo, "camera_info", completion.on_camera_info, any_sender)
    if completion.extrinsics is None:
        from tf2_msgs.msg import TFMessage

        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        subscribe(TFMessage, "/tf_static", completion.on_transforms, latched)
    if given["depth_image"]:
        subscribe(CameraInfo, "depth_camera_info", completion.on_depth_camera_info, any_sender)
    depth_kind = Image if given["depth_image"] else PointCloud2
    subscribe(depth_kind, "depth", completion.on_depth, newest)
    image_kind = CompressedImage if given["compressed"] else Image
    subscribe(image_kind, "image", completion.on_image, newest)
    with contextlib.suppress(ExternalShutdownException):
        rclpy.spin(node)


if __name__ == "__main__":
    run_script(main)
