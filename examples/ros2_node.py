"""Dense depth on a robot: a node of ROS 2 around the network.

    source /opt/ros/jazzy/setup.bash
    python examples/ros2_node.py --ros-args -p checkpoint:=output/my_run \\
        -r image:=/camera/color/image_raw -r camera_info:=/camera/color/camera_info \\
        -r depth:=/velodyne_points

Comes in: `image` (Image), its `camera_info`, `depth` (PointCloud2, or with -p depth_image:=true a
depth Image of the same camera) and /tf_static. Goes out: `completed`, an Image of 32FC1 metres with
the image's header, in the pixels of the undistorted image. `Completion` needs no ROS: it takes
whatever has the fields of the messages.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dataloaders import DataError
from inference.predictor import Predictor
from inference.sources.ros_messages import (
    Rig,
    camera_of_info,
    stamp_of,
    static_transform,
    transforms_of,
)


class Completion:
    """Keeps the last measurement and the calibration, and completes the depth of each image.

    Args:
        max_dt: largest gap between the stamps of an image and its measurement [s].
    """

    def __init__(self, predictor: Predictor, max_dt: float = 0.1):
        self.predictor, self.max_dt = predictor, max_dt
        self.camera = self.measured = None
        self.transforms: dict = {}

    def on_camera_info(self, message) -> None:
        self.camera = camera_of_info(message)

    def on_transforms(self, message) -> None:
        self.transforms |= transforms_of(message)

    def on_depth(self, message) -> None:
        self.measured = message

    def on_image(self, message) -> np.ndarray:
        """Return the dense depth (H, W) float32 metres of an image.

        Raises:
            DataError: what is missing or does not fit, as one sentence.
        """
        for name, part in (("camera_info", self.camera), ("depth", self.measured)):
            if part is None:
                raise DataError(f"no message of {name} has come yet")
        gap = abs(stamp_of(message) - stamp_of(self.measured))
        if gap > self.max_dt:
            raise DataError(f"image and depth are {gap:.3f} s apart, expected {self.max_dt:g}")
        frames = (m.header.frame_id for m in (self.measured, message))
        extrinsics = static_transform(Path("ROS"), self.transforms, *frames)
        is_image = hasattr(self.measured, "encoding")
        rig = Rig(self.camera, self.camera if is_image else None, extrinsics)
        frame = rig.frame(message, self.measured)
        if not frame.sparse_depth.any():
            raise DataError("no measurement falls into the image")
        return self.predictor(frame.rgb, frame.sparse_depth).depth


def main() -> None:
    import rclpy
    from rclpy.node import Node
    from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
    from sensor_msgs.msg import CameraInfo, Image, PointCloud2
    from tf2_msgs.msg import TFMessage

    rclpy.init()
    node = Node("depth_completion")
    given = {"checkpoint": "output/my_run", "device": "auto", "depth_image": False}
    for name, default in given.items():
        given[name] = node.declare_parameter(name, default).value
    predictor = Predictor.from_checkpoint(given["checkpoint"], device=given["device"])
    node.get_logger().info(predictor.describe())
    completion = Completion(predictor)
    publisher = node.create_publisher(Image, "completed", qos_profile_sensor_data)

    def on_image(message: Image) -> None:
        try:
            depth = completion.on_image(message)
        except DataError as error:
            node.get_logger().warning(str(error), throttle_duration_sec=1.0)
            return
        height, width = depth.shape
        out = Image(header=message.header, height=height, width=width, encoding="32FC1")
        out.step, out.data = 4 * width, depth.astype("<f4").tobytes()
        publisher.publish(out)

    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    of_depth = Image if given["depth_image"] else PointCloud2
    for kind, topic, callback, qos in (
        (CameraInfo, "camera_info", completion.on_camera_info, qos_profile_sensor_data),
        (TFMessage, "/tf_static", completion.on_transforms, latched),
        (of_depth, "depth", completion.on_depth, qos_profile_sensor_data),
        (Image, "image", on_image, qos_profile_sensor_data),
    ):
        node.create_subscription(kind, topic, callback, qos)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
