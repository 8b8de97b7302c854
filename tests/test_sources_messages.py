"""Messages of ROS in every encoding, as images, depth and scans."""

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from dataloaders import DataError
from inference.sources.ros_messages import (
    ENCODINGS,
    decode_cloud,
    decode_depth,
    decode_rgb,
    static_transform,
)

COLOR = (200, 40, 90)  # red, green, blue
SIZE = (8, 12)
YUV = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv")


def image(encoding, pixels, *, pad=5, big=False):
    """An Image whose rows are padded."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(SIZE[0], -1)
    data = np.pad(rows, ((0, 0), (0, pad)), constant_values=7)
    return SimpleNamespace(
        height=SIZE[0], width=SIZE[1], encoding=encoding, is_bigendian=big,
        step=data.shape[1], data=data.ravel(),
    )  # fmt: skip


def encoded(encoding):
    r, g, b = COLOR
    if encoding.startswith("bayer"):
        tile = [COLOR["rgb".index(letter)] for letter in encoding[6:10]]
        return np.tile(np.array(tile, np.uint8).reshape(2, 2), (SIZE[0] // 2, SIZE[1] // 2))
    if encoding in YUV:
        y = 0.257 * r + 0.504 * g + 0.098 * b + 16
        u = -0.148 * r - 0.291 * g + 0.439 * b + 128
        v = 0.439 * r - 0.368 * g - 0.071 * b + 128
        order = [y, u, y, v] if "yuy" in encoding else [u, y, v, y]
        return np.tile(np.rint(order).astype(np.uint8), (SIZE[0], SIZE[1] // 2))
    if encoding in ("mono8", "8UC1"):
        return np.full(SIZE, 77, np.uint8)
    order = {"8UC3": "bgr"}.get(encoding, encoding[:-1])
    return np.full((*SIZE, len(order)), [{"r": r, "g": g, "b": b, "a": 255}[c] for c in order],
                   np.uint8)  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_images_of_every_encoding_keep_their_colours(encoding):
    rgb = decode_rgb(image(encoding, encoded(encoding)))
    expected = (77, 77, 77) if encoding in ("mono8", "8UC1") else COLOR
    assert rgb.shape == (*SIZE, 3) and rgb.dtype == np.uint8
    limit = 3 if encoding in YUV else 0
    assert np.abs(rgb[2:-2, 2:-2].astype(int) - expected).max() <= limit
    with pytest.raises(DataError, match="images of encoding 64FC4 are not read"):
        decode_rgb(image("64FC4", encoded(encoding)))


def test_depth_is_metres_whatever_it_was_stored_in():
    metres = np.linspace(0.5, 4, 96).reshape(SIZE).astype(np.float32)
    mm = np.rint(metres * 1000).astype(np.uint16)
    for big in (False, True):
        stored = mm.astype(">u2" if big else "<u2")
        depth = decode_depth(image("16UC1", stored, big=big), 1000)
        np.testing.assert_allclose(depth, metres, atol=6e-4)
    holes = metres.copy()
    holes[0, :3] = np.nan, np.inf, -1
    depth = decode_depth(image("32FC1", holes), 1000)
    assert (depth[0, :3] == 0).all() and (depth[1:] == metres[1:]).all()
    png = cv2.imencode(".png", mm)[1].tobytes()
    message = SimpleNamespace(
        format="16UC1; compressedDepth png",
        data=np.frombuffer(struct.pack("<iff", 0, 0, 0) + png, np.uint8),
    )
    np.testing.assert_allclose(decode_depth(message, 1000), metres, atol=6e-4)
    a, b = 1000.0, 10.0  # stored value = a / depth + b
    png = cv2.imencode(".png", np.rint(a / metres + b).astype(np.uint16))[1].tobytes()
    message.format = "32FC1; compressedDepth"
    message.data = np.frombuffer(struct.pack("<iff", 0, a, b) + png, np.uint8)
    np.testing.assert_allclose(decode_depth(message, 1000), metres, rtol=3e-3)
    message.data = message.data[:20]
    with pytest.raises(DataError, match="is no 16-bit PNG"):
        decode_depth(message, 1000)


def test_scans_of_doubles_in_several_rows_are_read():
    points = np.random.default_rng(0).normal(size=(6, 3))
    packed = np.zeros(6, np.dtype({"names": ["x", "y", "z"], "formats": [">f8"] * 3,
                                   "offsets": [4, 12, 20], "itemsize": 32}))  # fmt: skip
    for i, axis in enumerate("xyz"):
        packed[axis] = points[:, i]
    fields = [SimpleNamespace(name=n, offset=4 + 8 * i, datatype=8) for i, n in enumerate("xyz")]
    message = SimpleNamespace(
        height=2, width=3, point_step=32, row_step=96, is_bigendian=True, fields=fields,
        data=packed.view(np.uint8),
    )  # fmt: skip
    np.testing.assert_array_equal(decode_cloud(message), points)
    message.fields = fields[:2]
    with pytest.raises(DataError, match="fields x, y, expected x, y, z"):
        decode_cloud(message)


def test_transforms_are_chained_forwards_and_backwards(tmp_path):
    step = np.eye(4)
    step[:3, 3] = 1, 2, 3
    tree = {("a", "b"): step, ("c", "b"): step, ("c", "d"): step}
    np.testing.assert_allclose(static_transform(tmp_path, tree, "/a", "d")[:3, 3], -step[:3, 3])
    with pytest.raises(DataError, match="in the frame 'a', images in 'e', and /tf_static does not"):
        static_transform(tmp_path, tree, "a", "e")
