"""The node of ROS 2 (examples/ros2_node.py) on bags, without ROS: its logic, and all of it beside a
stand-in for rclpy that plays a bag."""

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import recordings as made

from dataloaders import DataError
from engine.cli import exit_code

pytest.importorskip("rosbags", reason="requirements-sensors.txt is not installed")

NODE = Path(__file__).resolve().parent.parent / "examples" / "ros2_node.py"
TOPICS = {
    "/camera/color/image_raw": "image",
    "/camera/color/image_raw/compressed": "image",
    "/camera/color/camera_info": "camera_info",
    "/camera/aligned_depth_to_color/image_raw": "depth",
    "/lidar_points": "depth",
    "/tf_static": "/tf_static",
}


class Predictor:
    """Depth one metre behind the measurements, and -1 without; the error is a tenth of it."""

    def __init__(self, error: bool = True):
        self.seen, self.error = [], error

    def __call__(self, rgb, sparse_depth):
        assert rgb.shape[:2] == sparse_depth.shape
        self.seen.append(sparse_depth)
        depth = np.where(sparse_depth > 0, sparse_depth + 1, np.float32(-1))
        return SimpleNamespace(depth=depth, error=depth / 10 if self.error else None)

    def describe(self):
        return "a network"


def messages(bag: Path) -> list[tuple[str, object]]:
    """Return the topic of the node and the message, in the order in which a bag has them."""
    from rosbags.highlevel import AnyReader

    with AnyReader([bag]) as reader:
        return [
            (TOPICS[connection.topic], reader.deserialize(raw, connection.msgtype))
            for connection, _, raw in reader.messages()
        ]


def complete(completion, bag: Path) -> tuple[list, list[str]]:
    """Return what is published for a bag, and the sentences that are logged."""
    takes = {
        "/tf_static": completion.on_transforms,
        "camera_info": completion.on_camera_info,
        "depth": completion.on_depth,
        "image": completion.on_image,
    }
    done, refused = [], []
    for topic, message in messages(bag):
        try:
            done.append(takes[topic](message))
        except DataError as error:
            refused.append(str(error))
    return [completed for completed in done if completed is not None], refused


@pytest.fixture(scope="module")
def node():
    return SimpleNamespace(**runpy.run_path(str(NODE)))


@pytest.mark.parametrize("late", [-0.003, 0, 0.003])
@pytest.mark.parametrize("depth", ["scan", "image"])
def test_each_image_is_completed_with_its_own_measurement_whichever_comes_first(
    node, tmp_path, depth, late
):
    completion = node.Completion(predictor := Predictor())
    bag = made.write_bag(tmp_path / "bag", "mcap", depth=depth, late=late, compressed=late == 0)
    done, refused = complete(completion, bag)
    stamps = [node.stamp_of(completed) for completed in done]
    # A scan comes with every third of the four images, a depth image with each.
    expected = (0, 3) if depth == "scan" else (0, 1, 2, 3)
    np.testing.assert_allclose(stamps, [100 + i / 30 for i in expected], atol=1e-6)
    assert not refused
    for completed, sparse_depth in zip(done, predictor.seen, strict=True):
        np.testing.assert_array_equal(sparse_depth > 0, made.sparse() > 0)
        np.testing.assert_allclose(sparse_depth, made.sparse(), atol=1e-3)
        np.testing.assert_array_equal(np.isnan(completed.depth), sparse_depth == 0)
        np.testing.assert_array_equal(
            completed.depth[sparse_depth > 0], 1 + sparse_depth[sparse_depth > 0]
        )
        assert completed.header.frame_id == "camera"
        assert completed.intrinsics == made.CAMERA


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"info": False}, "no message of camera_info has come yet"),
        (
            {"tf": False},
            "depth is in the frame 'lidar', images in 'camera', and /tf_static does not",
        ),
        ({"empty": 0}, "its scan holds no points"),
        ({"late": 0.4, "frames": 24}, "10 images have no depth within 0.01 s: no message has come"),
        (
            {"late": 1 / 60, "frames": 24},
            "10 images have no depth within 0.01 s: the nearest is 0.017 s",
        ),
    ],
)
def test_what_is_missing_is_said_in_a_sentence_and_the_next_frame_is_tried(
    node, tmp_path, options, sentence
):
    options = {"depth": "scan"} | options
    bag = made.write_bag(tmp_path / "bag", "mcap", **options)
    _, refused = complete(node.Completion(Predictor(), max_dt=0.01), bag)
    assert any(
        text.split(": ", text.startswith("tf: "))[-1].startswith(sentence) for text in refused
    )


def test_images_of_another_size_and_damaged_messages_do_not_end_the_node(node, tmp_path):
    parts = dict(messages(made.write_bag(tmp_path / "bag", "mcap", depth="scan", late=0)))
    completion = node.Completion(Predictor())
    completion.on_transforms(parts["/tf_static"])
    completion.on_camera_info(parts["camera_info"])

    def shape_of_the_depth() -> tuple[int, int]:
        assert completion.on_depth(parts["depth"]) is None
        return completion.on_image(image).depth.shape

    image, info = parts["image"], parts["camera_info"]
    assert shape_of_the_depth() == (480, 640)
    # The camera changes to half its resolution and says so a moment later.
    pixels = np.asarray(image.data).reshape(480, 640, 3)
    image.height, image.width, image.step = 240, 320, 960
    image.data = np.ascontiguousarray(pixels[::2, ::2]).reshape(-1)
    with pytest.raises(DataError, match="it is 320x240 and its calibration for 640x480"):
        shape_of_the_depth()
    info.height, info.width, info.k = 240, 320, info.k * np.repeat([0.5, 0.5, 1], 3)
    completion.on_camera_info(info)
    assert shape_of_the_depth() == (240, 320)
    whole, image.data = image.data, image.data[:-7]
    with pytest.raises(DataError, match="a message cannot be read: cannot reshape"):
        shape_of_the_depth()
    image.data, image.encoding = whole, "nv12"
    with pytest.raises(DataError, match="images of encoding nv12 are not read as colours"):
        shape_of_the_depth()
    image.encoding, info.k = "bgr8", info.k * 0
    with pytest.raises(DataError):
        completion.on_camera_info(info)  # an uncalibrated camera
    assert shape_of_the_depth() == (240, 320)


def test_a_depth_image_of_another_camera_needs_its_calibration(node, tmp_path):
    bag = made.write_bag(tmp_path / "bag", "mcap", late=0)
    completion = node.Completion(Predictor(), extrinsics=np.eye(4))
    parts = dict(messages(bag))
    completion.on_camera_info(parts["camera_info"])
    parts["depth"].header.frame_id = "depth_camera"
    assert completion.on_image(parts["image"]) is None
    with pytest.raises(
        DataError, match="'depth_camera', images in 'camera', and no message of depth"
    ):
        completion.on_depth(parts["depth"])
    completion.on_depth_camera_info(parts["camera_info"])
    assert completion.on_depth(parts["depth"]) is None  # its image is used up
    completed = completion.on_image(parts["image"])
    np.testing.assert_array_equal(np.isnan(completed.depth), made.sparse() == 0)


def fake_ros(bag: Path, parameters: dict[str, object], published: list, log: list[str]):
    """Return modules that stand in for rclpy and its messages; `spin` plays a bag."""
    callbacks = {}

    class Node:
        def declare_parameter(self, name, default):
            assert isinstance(parameters.get(name, default), type(default))
            return SimpleNamespace(value=parameters.get(name, default))

        def get_logger(self):
            return SimpleNamespace(info=log.append, warning=lambda text, **_: log.append(text))

        def resolve_topic_name(self, name):
            return f"/camera/color/{name}_rect"

        def create_publisher(self, kind, topic, qos):
            return SimpleNamespace(publish=lambda message: published.append((topic, message)))

        def create_subscription(self, kind, topic, callback, qos):
            callbacks[topic] = callback

    def spin(node):
        for topic, message in messages(bag):
            callbacks[topic](message)
        raise modules["rclpy.executors"].ExternalShutdownException

    values = SimpleNamespace(TRANSIENT_LOCAL=0, BEST_EFFORT=0)
    contents = {
        "rclpy": {"init": lambda args: None, "create_node": lambda name: Node(), "spin": spin},
        "rclpy.executors": {"ExternalShutdownException": type("Ended", (Exception,), {})},
        "rclpy.qos": {
            "QoSProfile": SimpleNamespace,
            "DurabilityPolicy": values,
            "ReliabilityPolicy": values,
        },
        "sensor_msgs.msg": dict.fromkeys(
            ("CameraInfo", "CompressedImage", "Image", "PointCloud2"), SimpleNamespace
        ),
        "tf2_msgs.msg": {"TFMessage": SimpleNamespace},
    }
    modules = {name: ModuleType(name) for name in contents}
    for name, values in contents.items():
        vars(modules[name]).update(values)
    return modules


@pytest.mark.parametrize("error", [True, False])
def test_the_whole_node_publishes_depth_error_and_calibration(node, tmp_path, monkeypatch, error):
    from inference.predictor import Predictor as Loaded

    published, log = [], []
    bag = made.write_bag(tmp_path / "bag", "mcap", depth="scan", late=-0.003)
    fake = fake_ros(bag, {"max_dt": 0.01}, published, log)
    for name, module in fake.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Loaded, "from_checkpoint", lambda path, **_: Predictor(error))
    node.main([])
    assert log == ["a network"]
    names = ["camera_info", "depth", "error"][: 3 if error else 2]
    assert [topic for topic, _ in published] == [f"completed/{name}" for name in names] * 2
    info, depth = (message for _, message in published[:2])
    assert (info.height, info.width, info.k) == (480, 640, made.matrix().ravel().tolist())
    assert info.header.stamp.sec == depth.header.stamp.sec == 100
    values = np.frombuffer(depth.data, "<f4").reshape(depth.height, depth.step // 4)
    np.testing.assert_array_equal(np.isnan(values), made.sparse() == 0)
    np.testing.assert_allclose(
        values[made.sparse() > 0], 1 + made.sparse()[made.sparse() > 0], atol=1e-3
    )


def test_without_ros_a_sentence_says_what_to_source(node, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert exit_code(node.main, []) == 2
    assert "source the setup.bash of a ROS 2 first" in capsys.readouterr().err
