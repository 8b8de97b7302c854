"""Recordings of a sample room in the containers of `inference.sources`, written with nothing of its
readers: 320 points of the room's exact depth, seen by a camera whose calibration is known."""

import json
import struct
import zipfile
from functools import cache
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np

from inference.point_cloud import Intrinsics
from sample_data.rooms.generation import render_frame

CAMERA = Intrinsics(518.86, 518.86, 325.58, 253.74)
SIZE = (480, 640)


def turned(x: float, y: float, z: float) -> np.ndarray:
    """(3, 3) rotation by a vector of radians."""
    return cv2.Rodrigues(np.array([x, y, z], float))[0]


# A scanner above and left of the camera that looks along its own x axis, as KITTI's.
SCAN_TO_CAMERA = np.eye(4)
SCAN_TO_CAMERA[:3, :3] = turned(0.01, -0.02, 0.005) @ [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
SCAN_TO_CAMERA[:3, 3] = 0.03, -0.2, -0.1
CAMERA_TO_SCAN = np.linalg.inv(SCAN_TO_CAMERA)


@cache
def room() -> tuple[np.ndarray, np.ndarray]:
    """(480, 640, 3) uint8 and (480, 640) exact metres."""
    rgb, depth = render_frame(0, "val", 0)
    return np.ascontiguousarray(rgb.transpose(1, 2, 0)), depth


@cache
def sparse() -> np.ndarray:
    """(480, 640) metres at the centres of 320 pixels of the room, 0 elsewhere."""
    depth, chosen = room()[1], np.zeros(SIZE, np.float32)
    rows, columns = np.mgrid[12:480:30, 16:640:32]
    chosen[rows, columns] = depth[rows, columns]
    return chosen


def points() -> np.ndarray:
    """(320, 3) the same in the camera's frame."""
    rows, columns = np.nonzero(sparse())
    z = sparse()[rows, columns].astype(np.float64)
    x, y = (columns - CAMERA.cx) / CAMERA.fx, (rows - CAMERA.cy) / CAMERA.fy
    return np.column_stack([x * z, y * z, z])


def scan() -> np.ndarray:
    """(320, 3) the same in the scanner's frame."""
    return points() @ CAMERA_TO_SCAN[:3, :3].T + CAMERA_TO_SCAN[:3, 3]


def matrix() -> np.ndarray:
    return np.array([[CAMERA.fx, 0, CAMERA.cx], [0, CAMERA.fy, CAMERA.cy], [0, 0, 1]])


def check(frame, *, rgb: float = 0.0) -> None:
    """Raise unless a frame shows the room: each point in its pixel, to a millimetre."""
    expected = sparse()
    np.testing.assert_array_equal(frame.sparse_depth > 0, expected > 0)
    np.testing.assert_allclose(frame.sparse_depth, expected, atol=1e-3)
    values = [getattr(frame.intrinsics, name) for name in ("fx", "fy", "cx", "cy")]
    np.testing.assert_allclose(values, [518.86, 518.86, 325.58, 253.74], atol=1e-4)
    assert frame.rgb.dtype == np.uint8 and frame.sparse_depth.dtype == np.float32
    assert np.abs(frame.rgb.astype(float) - room()[0]).mean() <= rgb


def text(values: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(values))


def write_tum(folder: Path, frames: int = 3, late: float = 0.004, size=SIZE) -> Path:
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    lists = {"rgb": ["# color images"], "depth": ["# depth maps"], "groundtruth": ["# poses"]}
    for i in range(frames):
        stamp, marked = 1305031102.1 + i / 30, room()[0].copy()
        marked[0, 0] = i  # so that no two frames are the same
        for name, image, time in (
            ("rgb", marked, stamp),
            ("depth", np.rint(sparse() * 5000).astype(np.uint16), stamp + late),
        ):
            iio.imwrite(folder / name / f"{time:.6f}.png", image[: size[0], : size[1]])
            lists[name].append(f"{time:.6f} {name}/{time:.6f}.png")
        lists["groundtruth"].append(f"{stamp + 0.001:.4f} {i} 0 0.5 0 0 0 1")
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_kitti(folder: Path, layout: str) -> Path:
    """A folder of KITTI with camera 2 the room's, 6 cm beside camera 0."""
    beside = np.eye(4)
    beside[0, 3] = 0.06
    projection = (np.column_stack([matrix(), np.zeros(3)]) @ beside).ravel()
    rectify = turned(0.002, 0.001, -0.003)
    unrectified = np.linalg.inv(beside) @ SCAN_TO_CAMERA  # to camera 0, rectified
    unrectified[:3] = rectify.T @ unrectified[:3]
    cloud = np.column_stack([scan(), np.full(320, 0.3)]).astype("<f4")
    if layout == "raw":
        drive = folder / "2011_09_26" / "2011_09_26_drive_0001_sync"
        image, scans, name = drive / "image_02/data", drive / "velodyne_points/data", "0000000000"
        cam = {"P_rect_02": projection, "R_rect_00": rectify, "S_02": [640, 480]}
        velo = {"R": unrectified[:3, :3], "T": unrectified[:3, 3]}
        drive.mkdir(parents=True)
        write_table(drive.parent / "calib_cam_to_cam.txt", {"calib_time": [9], **cam})
        write_table(drive.parent / "calib_velo_to_cam.txt", velo)
        (drive / "image_02").mkdir()
        (drive / "image_02/timestamps.txt").write_text("2011-09-26 13:02:25.964389445\n")
    else:
        drive = folder / ("training" if layout == "object" else "sequences/00")
        image, scans, name = drive / "image_2", drive / "velodyne", "000000"
        to_first = np.diag([1.0, 1, 1, 1])
        to_first[:3, :3] = rectify if layout == "odometry" else np.eye(3)
        table = {"P2": projection}
        if layout == "object":
            table |= {"R0_rect": rectify, "Tr_velo_to_cam": unrectified[:3]}
            write_table(drive / "calib" / f"{name}.txt", table)
        else:
            write_table(drive / "calib.txt", table | {"Tr": (to_first @ unrectified)[:3]})
            (drive / "times.txt").write_text("0.25\n")
            (folder / "poses").mkdir()
            (folder / "poses/00.txt").write_text(text(np.eye(4)[:3]) + "\n")
    image.mkdir(parents=True, exist_ok=True)
    scans.mkdir(parents=True)
    iio.imwrite(image / f"{name}.png", room()[0])
    cloud.tofile(scans / f"{name}.bin")
    return drive


def write_completion(folder: Path) -> Path:
    name = "2011_09_26_drive_0002_sync_{}_0000000005_image_02"
    for part in ("image", "velodyne_raw", "intrinsics"):
        (folder / part).mkdir(parents=True)
    iio.imwrite(folder / "image" / f"{name.format('image')}.png", room()[0])
    depth = np.rint(sparse() * 256).astype(np.uint16)
    iio.imwrite(folder / "velodyne_raw" / f"{name.format('velodyne_raw')}.png", depth)
    (folder / "intrinsics" / f"{name.format('image')}.txt").write_text(text(matrix()))
    return folder


def write_table(path: Path, table: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}: {text(values)}\n" for name, values in table.items()))


def write_pcd(path: Path, stored: str) -> None:
    """Fields beside the coordinates, so that offsets matter."""
    cloud = np.zeros(320, [("intensity", "<f4"), ("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    for i, axis in enumerate("xyz"):
        cloud[axis] = scan()[:, i]
    header = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS intensity x y z\nSIZE 4 4 4 4\nTYPE F F F F\n"
        f"COUNT 1 1 1 1\nWIDTH 320\nHEIGHT 1\nPOINTS 320\nDATA {stored}\n"
    ).encode()
    if stored == "ascii":
        body = "\n".join(" ".join(map(repr, map(float, row))) for row in cloud).encode()
    elif stored == "binary":
        body = cloud.tobytes()
    else:
        # LZF: the zeros of the intensity as copies of the bytes before, the rest as literals.
        plain = b"".join(cloud[name].tobytes() for name in cloud.dtype.names)
        packed = b"\x00\x00" + bytes([0xE0, 255 - 0, 0])  # 1 zero, then 264 from 1 byte back
        done = 1 + 7 + 255 + 2
        while done < len(plain):
            piece = plain[done : done + 32]
            packed, done = packed + bytes([len(piece) - 1]) + piece, done + len(piece)
        body = struct.pack("<II", len(packed), len(plain)) + packed
    path.write_bytes(header + body)


def write_colmap(folder: Path, form: str, number: int, values: list[float], camera=None) -> Path:
    """A model of one image, of which every third point is of a bad kind: a short track, a large
    error. `camera` draws the image; see `test_sources`."""
    from inference.sources.colmap import MODELS

    model, images = folder / "sparse/0", folder / "images"
    model.mkdir(parents=True)
    images.mkdir()
    iio.imwrite(images / "a b.png", room()[0] if camera is None else camera)
    rotation, translation = SCAN_TO_CAMERA[:3, :3], SCAN_TO_CAMERA[:3, 3]
    w = np.sqrt(1 + np.trace(rotation)) / 2
    r = rotation
    quaternion = [w, *(np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / 4 / w)]
    good = [(i, p, 0.5, 3) for i, p in enumerate(scan())]
    bad = [(500 + i, p + 0.5, *kind) for i, p in enumerate(scan()[:20]) for kind in [(9.0, 3)]]
    bad += [(700 + i, p + 0.5, 0.5, 2) for i, p in enumerate(scan()[:20])]
    name, parameters = MODELS[number][:2]
    assert len(values) == len(parameters.split())
    rows = [*good, *bad]
    if form == "txt":
        (model / "cameras.txt").write_text(f"# cameras\n3 {name} 640 480 {text(values)}\n")
        seen = " ".join(f"1.5 2.5 {i}" for i, *_ in rows) + " 3.5 4.5 -1"
        pose = text([*quaternion, *translation])
        (model / "images.txt").write_text(f"# images\n7 {pose} 3 a b.png\n{seen}\n")
        lines = [f"{i} {text(p)} 1 2 3 {e}" + " 7 0" * n for i, p, e, n in rows]
        (model / "points3D.txt").write_text("# points\n" + "\n".join(lines) + "\n")
        return folder
    packed = struct.pack("<QiiQQ", 1, 3, number, 640, 480) + np.array(values, "<f8").tobytes()
    (model / "cameras.bin").write_bytes(packed)
    packed = struct.pack("<Qi7di", 1, 7, *quaternion, *translation, 3) + b"a b.png\0"
    packed += struct.pack("<Q", len(rows) + 1)
    for i in (*(row[0] for row in rows), -1):
        packed += struct.pack("<ddq", 1.5, 2.5, i)
    (model / "images.bin").write_bytes(packed)
    packed = struct.pack("<Q", len(rows))
    for i, p, e, n in rows:
        packed += struct.pack("<Q3d3BdQ", i, *p, 1, 2, 3, e, n) + struct.pack("<ii", 7, 0) * n
    (model / "points3D.bin").write_bytes(packed)
    return folder


def write_bag(
    path: Path, form: str, *, depth: str = "image", late: float = 0.003, info: bool = True,
    frames: int = 4, compressed: bool = False, tf: bool = True, empty: int = -1,
) -> Path:  # fmt: skip
    """A bag of `form` ros1, sqlite or mcap; depth is an aligned image or a scan at a third of the
    images' rate. Frame `empty` has a scan without points."""
    from rosbags import rosbag1, rosbag2
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    tf_type = "tf2_msgs/msg/TFMessage"
    store = get_typestore(Stores.ROS1_NOETIC if form == "ros1" else Stores.ROS2_HUMBLE)
    if form == "ros1":
        definition = "geometry_msgs/TransformStamped[] transforms"
        store.register(get_types_from_msg(definition, tf_type))
    types = store.types

    def header(stamp: float, frame: str):
        time = types["builtin_interfaces/msg/Time"](int(stamp), round(stamp % 1 * 1e9))
        extra = {"seq": 0} if form == "ros1" else {}
        return types["std_msgs/msg/Header"](stamp=time, frame_id=frame, **extra)

    def image(stamp: float, frame: str, encoding: str, pixels: np.ndarray):
        flat = np.ascontiguousarray(pixels).view(np.uint8).ravel()
        return types["sensor_msgs/msg/Image"](
            header(stamp, frame), *SIZE, encoding, 0, flat.size // SIZE[0], flat
        )

    def cloud(stamp: float, xyz: np.ndarray):
        field = types["sensor_msgs/msg/PointField"]
        fields = [field(axis, 4 * (i + 1), 7, 1) for i, axis in enumerate("xyz")]
        packed = np.column_stack([np.zeros(len(xyz)), xyz]).astype("<f4")
        return types["sensor_msgs/msg/PointCloud2"](
            header(stamp, "lidar"), 1, len(xyz), fields, False, 16, 16 * len(xyz),
            packed.view(np.uint8).ravel(), True,
        )  # fmt: skip

    def camera_info(stamp: float):
        region = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        k, p = matrix().ravel(), np.column_stack([matrix(), np.zeros(3)]).ravel()
        return types["sensor_msgs/msg/CameraInfo"](
            header(stamp, "camera"), *SIZE, "plumb_bob", np.zeros(5), k, np.eye(3).ravel(), p, 0, 0,
            region,
        )  # fmt: skip

    def static(stamp: float):
        # lidar -> body -> camera, so that a chain has to be walked, one link of it backwards.
        vector, turn = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Quaternion"]
        r = CAMERA_TO_SCAN[:3, :3]
        w = np.sqrt(1 + np.trace(r)) / 2
        q = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / 4 / w
        parts = (
            ("lidar", "body", (0, 0, 0), (0, 0, 0, 1)),
            ("body", "camera", CAMERA_TO_SCAN[:3, 3], (*q, w)),
        )
        stamped = types["geometry_msgs/msg/TransformStamped"]
        transform = types["geometry_msgs/msg/Transform"]
        return types[tf_type](
            [stamped(header(stamp, a), b, transform(vector(*map(float, t)), turn(*map(float, q))))
             for a, b, t, q in parts]
        )  # fmt: skip

    if form == "ros1":
        writer, serialize = rosbag1.Writer(path), store.serialize_ros1
    else:
        plugin = rosbag2.StoragePlugin.MCAP if form == "mcap" else rosbag2.StoragePlugin.SQLITE3
        writer = rosbag2.Writer(path, version=9, storage_plugin=plugin)
        serialize = store.serialize_cdr
    with writer:
        open_topics = {}

        def put(topic: str, message) -> None:
            kind = message.__msgtype__
            if topic not in open_topics:
                open_topics[topic] = writer.add_connection(topic, kind, typestore=store)
            stamp = message.header.stamp if hasattr(message, "header") else None
            time = round((stamp.sec + stamp.nanosec * 1e-9) * 1e9) if stamp else 10**9
            writer.write(open_topics[topic], time, serialize(message, kind))

        if tf:
            put("/tf_static", static(1.0))
        if info:
            put("/camera/color/camera_info", camera_info(1.0))
        for i in range(frames):
            stamp = 100 + i / 30
            if compressed:
                good, data = cv2.imencode(".png", room()[0][..., ::-1])
                assert good
                kind = types["sensor_msgs/msg/CompressedImage"]
                message = kind(header(stamp, "camera"), "rgb8; png compressed bgr8", data.ravel())
                put("/camera/color/image_raw/compressed", message)
            else:
                bgr = room()[0][..., ::-1]
                put("/camera/color/image_raw", image(stamp, "camera", "bgr8", bgr))
            if depth == "image":
                mm = np.rint(sparse() * 1000).astype("<u2")
                message = image(stamp + late, "camera", "16UC1", mm)
                put("/camera/aligned_depth_to_color/image_raw", message)
            elif i % 3 == 0:
                xyz = scan()[:0] if i == empty else scan()
                put("/lidar_points", cloud(stamp + late, xyz))
    return path


def write_film(path: Path, frames: int) -> Path:
    import imageio_ffmpeg

    writer = imageio_ffmpeg.write_frames(
        str(path), SIZE[::-1], fps=30, codec="libx264", macro_block_size=1, quality=9
    )
    writer.send(None)
    for _ in range(frames):
        writer.send(np.ascontiguousarray(room()[0]))
    writer.close()
    return path


def small() -> tuple[np.ndarray, np.ndarray]:
    """The sparse points as a map of 96x128 without and as the image's pixels they belong to."""
    low = np.zeros((96, 128), np.float32)
    rows, columns = np.mgrid[4:96:9, 3:128:9]
    rows_high, columns_high = 5 * rows + 2, 5 * columns + 2
    low[rows, columns] = room()[1][rows_high, columns_high]
    high = np.zeros(SIZE, np.float32)
    high[rows_high, columns_high] = low[rows, columns]
    return low, high


def write_stray(folder: Path, frames: int = 3) -> Path:
    for name in ("depth", "confidence"):
        (folder / name).mkdir(parents=True)
    low = small()[0]
    for i in range(frames):
        noisy = np.rint(low * 1000).astype(np.uint16)
        noisy[0, :5] = 777  # of confidence 0
        iio.imwrite(folder / "depth" / f"{i:06d}.png", noisy)
        sure = np.full(low.shape, 2, np.uint8)
        sure[0, :5] = 0
        iio.imwrite(folder / "confidence" / f"{i:06d}.png", sure)
    (folder / "camera_matrix.csv").write_text(
        "\n".join(",".join(map(str, row)) for row in matrix())
    )
    # An upright camera, as the app writes it: half a turn around x from ARKit's own axes.
    rows = [f"{5 + i / 60}, {i:06d}, {i}, 0, 0, 1, 0, 0, 0" for i in range(frames)]
    header = "timestamp, frame, x, y, z, qx, qy, qz, qw"
    (folder / "odometry.csv").write_text("\n".join([header, *rows]) + "\n")
    write_film(folder / "rgb.mp4", frames)
    return folder


def write_record3d(path: Path, frames: int = 2) -> Path:
    import liblzfse

    low = small()[0]
    facts = {"w": 640, "h": 480, "K": matrix().T.ravel().tolist(), "dw": 128, "dh": 96, "fps": 60}
    facts["poses"] = [[0, 0, 0, 1, 0, 0, i] for i in range(frames)]
    facts["frameTimestamps"] = [5 + i / 60 for i in range(frames)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata", json.dumps(facts))
        for i in range(frames):
            good, jpg = cv2.imencode(".jpg", room()[0][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
            assert good
            noisy, sure = low.copy(), np.full(low.shape, 2, np.uint8)
            noisy[0, 1], noisy[0, 2] = np.nan, 3
            sure[0, 2] = 0
            archive.writestr(f"rgbd/{i}.jpg", jpg.tobytes())
            archive.writestr(f"rgbd/{i}.depth", liblzfse.compress(noisy.tobytes()))
            archive.writestr(f"rgbd/{i}.conf", liblzfse.compress(sure.tobytes()))
    return path
