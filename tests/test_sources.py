"""Every kind of recording is read as it was written, and what is wrong with one is a sentence."""

import contextlib
import json
import shutil

import cv2
import imageio.v3 as iio
import numpy as np
import pytest
import recordings as made
from recordings import CAMERA, SCAN_TO_CAMERA, SIZE, check

from dataloaders import DataError
from engine.errors import OptionError
from inference.point_cloud import Intrinsics, back_project
from inference.sources import KINDS, open_source
from inference.sources.calibration import read_camera, read_extrinsics
from inference.sources.clouds import read_cloud
from inference.sources.colmap import MODELS
from inference.sources.projection import Camera, hidden, splat

TEXT = "518.86,518.86,325.58,253.74"


def frames_of(kind, path, **options):
    source = open_source(kind, path, **options)
    frames = list(source)
    assert source.length is None or source.length >= len(frames)
    assert len({frame.name for frame in frames}) == len(frames)
    return frames


@pytest.fixture
def extrinsics(tmp_path):
    path = tmp_path / "T.txt"
    path.write_text(made.text(SCAN_TO_CAMERA))
    return str(path)


def test_tum_folders_are_paired_by_time_and_have_poses(tmp_path):
    folder = made.write_tum(tmp_path / "rgbd")
    frames = frames_of("tum", folder, intrinsics=TEXT)
    assert len(frames) == 3
    for i, frame in enumerate(frames):
        check(frame, rgb=1e-3)
        assert frame.time_stamp == pytest.approx(1305031102.1 + i / 30, abs=1e-5)
        np.testing.assert_allclose(frame.pose[:3, 3], [i, 0, 0.5])


@pytest.mark.parametrize("layout", ["raw", "object", "odometry"])
def test_kitti_folders_project_their_scans(layout, tmp_path):
    (frame,) = frames_of("kitti", made.write_kitti(tmp_path, layout), hidden_radius=0)
    check(frame)
    if layout == "odometry":
        assert frame.time_stamp == 0.25
        np.testing.assert_allclose(frame.pose[:3, 3], [-0.06, 0, 0], atol=1e-9)
    if layout == "raw":
        assert frame.time_stamp == pytest.approx(1317042145.964389, abs=1e-4)


def test_the_completion_benchmarks_maps_are_read(tmp_path):
    (frame,) = frames_of("kitti", made.write_completion(tmp_path))
    np.testing.assert_allclose(frame.sparse_depth, made.sparse(), atol=0.5 / 256)
    assert frame.intrinsics == CAMERA


PCD = "a-ascii.pcd a-binary.pcd a-binary_compressed.pcd"


def write_cloud(path):
    cloud = made.scan()
    if path.suffix == ".ply":
        import plyfile

        vertex = np.array([tuple(p) for p in cloud], [(axis, "f8") for axis in "xyz"])
        plyfile.PlyData([plyfile.PlyElement.describe(vertex, "vertex")]).write(path)
    elif path.suffix == ".las":
        import laspy

        las = laspy.create()
        las.change_scaling(scales=[1e-5] * 3)
        las.xyz = cloud
        las.write(path)
    elif path.suffix == ".npy":
        np.save(path, np.column_stack([cloud, np.ones(320)]))
    elif path.name.endswith(".pcd.bin"):
        np.column_stack([cloud, np.ones((320, 2))]).astype("<f4").tofile(path)
    elif path.suffix == ".bin":
        np.column_stack([cloud, np.ones(320)]).astype("<f4").tofile(path)
    elif path.suffix == ".csv":
        rows = "".join(f"9,{z},{x},{y}\n" for x, y, z in cloud.tolist())
        path.write_text("id,z,x,y\n" + rows)
    elif path.suffix == ".xyz":
        path.write_text("".join(f"{x} {y} {z} 7\n" for x, y, z in cloud.tolist()))
    else:
        made.write_pcd(path, path.stem.split("-")[1])


@pytest.mark.parametrize(
    "name",
    ("a.ply a.las a.npy a.bin a.pcd.bin a.csv a.xyz " + PCD).split(),
)
def test_clouds_of_every_format_are_projected(name, tmp_path, extrinsics):
    package = {".ply": "plyfile", ".pcd": "pypcd4", ".las": "laspy"}.get(name[-4:])
    if package:
        pytest.importorskip(package, reason="requirements-sensors.txt is not installed")
    write_cloud(tmp_path / name)
    iio.imwrite(tmp_path / "photo.png", made.room()[0])
    options = {"intrinsics": TEXT, "extrinsics": extrinsics, "hidden_radius": 0}
    (frame,) = frames_of("cloud", tmp_path / name, rgb=str(tmp_path / "photo.png"), **options)
    check(frame)


@pytest.mark.parametrize("stored", ["ascii", "binary", "binary_compressed"])
def test_a_pcd_may_leave_out_count_and_a_damaged_one_is_a_sentence(stored, tmp_path):
    pytest.importorskip("pypcd4", reason="requirements-sensors.txt is not installed")
    path = tmp_path / "a.pcd"
    made.write_pcd(path, stored)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"COUNT 1 1 1 1\n", b""))
    np.testing.assert_allclose(read_cloud(path), made.scan(), atol=1e-6)
    for damaged, sentence in (
        (content[:60], "the header of a PCD lacks TYPE, POINTS, WIDTH"),
        (content.replace(b"TYPE F F F F", b"TYPE F F F Q"), "the header of a PCD lacks TYPE"),
        (content.replace(b"FIELDS intensity x y z", b"FIELDS a b c d"), "no field of name x"),
        (content[: len(content) // 2], "cannot be read"),
        (bytes(range(256)), "a\\.pcd"),
        (b"", "the header of a PCD lacks FIELDS"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=sentence) as caught:
            read_cloud(path)
        assert "\n" not in str(caught.value)


def calibrations():
    matrix, flat = made.matrix().tolist(), made.matrix().ravel().tolist()
    size = "image_width: 640\nimage_height: 480\n"
    ros = (
        f"{size}camera_name: head\ncamera_matrix:\n  rows: 3\n  cols: 3\n  data: {flat}\n"
        "distortion_model: {}\ndistortion_coefficients:\n  rows: 1\n  cols: 4\n"
        "  data: [0.1, -0.05, 0.001, 0.002]\n"
    )
    opencv = (
        "%YAML:1.0\n---\nimage_width: 640\nimage_height: 480\ncamera_matrix: !!opencv-matrix\n"
        f"   rows: 3\n   cols: 3\n   dt: d\n   data: {flat}\ndistortion_coefficients: "
        "!!opencv-matrix\n   rows: 4\n   cols: 1\n   dt: d\n   data: [0.1, -0.05, 0.001, 0.002]\n"
    )
    kalibr = (
        "cam0:\n  camera_model: pinhole\n  intrinsics: [518.86, 518.86, 325.58, 253.74]\n"
        "  distortion_model: radtan\n  distortion_coeffs: [0.1, -0.05, 0.001, 0.002]\n"
        "  resolution: [640, 480]\n"
    )
    message = f"height: 480\nwidth: 640\ndistortion_model: plumb_bob\nD: [0.1, -0.05, 0.001, 0.002]\nK: {flat}\n---\n"  # noqa: E501
    as_json = {"K": matrix, "dist_coeffs": [[0.1, -0.05, 0.001, 0.002]], "width": 640}
    return {
        "ros.yaml": ros.replace("{}", "plumb_bob"),
        "fisheye.yaml": ros.replace("{}", "equidistant"),
        "opencv.yml": opencv,
        "kalibr.yaml": kalibr,
        "message.yaml": message,
        "own.json": json.dumps(as_json | {"height": 480}),
    }


@pytest.mark.parametrize("name", calibrations())
def test_cameras_are_read_from_what_tools_write(name, tmp_path):
    (tmp_path / name).write_text(calibrations()[name])
    camera = read_camera(str(tmp_path / name))
    model = "fisheye" if "fisheye" in name else "opencv"
    assert camera == Camera(CAMERA, model, (0.1, -0.05, 0.001, 0.002), SIZE)


def transforms():
    t = SCAN_TO_CAMERA
    r = t[:3, :3]
    w = np.sqrt(1 + np.trace(r)) / 2
    x, y, z = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / 4 / w
    stamped = {
        "header": {"frame_id": "camera"},
        "transform": {
            "translation": dict(zip("xyz", t[:3, 3].tolist(), strict=True)),
            "rotation": {"x": x, "y": y, "z": z, "w": w},
        },
    }
    return {
        "a.txt": "\n".join(made.text(row) for row in t),
        "b.txt": made.text(t[:3]),
        "c.txt": f"R: {made.text(r)}\nT: {made.text(t[:3, 3])}\n",
        "a.yaml": f"rotation: {r.tolist()}\ntranslation: {t[:3, 3].tolist()}\n",
        "b.yaml": f"T_cam_lidar: {t.tolist()}\n",
        "c.yaml": json.dumps(stamped),
        "a.json": json.dumps({"extrinsics": t.ravel().tolist()}),
    }


@pytest.mark.parametrize("name", transforms())
def test_extrinsics_are_read_from_what_tools_write(name, tmp_path):
    (tmp_path / name).write_text(transforms()[name])
    np.testing.assert_allclose(read_extrinsics(tmp_path / name), SCAN_TO_CAMERA, atol=1e-9)


@pytest.mark.parametrize("form", ["bin", "txt"])
def test_colmap_models_give_the_good_points_of_each_image(form, tmp_path):
    values = [518.86, 518.86, 326.08, 254.24]  # COLMAP's first pixel is centred at 0.5
    folder = made.write_colmap(tmp_path, form, 1, values)
    source = open_source("colmap", folder)
    assert "320 of 360 points" in source.notes[0] and "up to scale" in source.notes[1]
    (frame,) = source
    check(frame)
    np.testing.assert_allclose(frame.pose, np.linalg.inv(SCAN_TO_CAMERA), atol=1e-6)
    (frame,) = frames_of("colmap", folder, metres_per_unit=2.0)
    np.testing.assert_allclose(frame.sparse_depth, 2 * made.sparse(), atol=1e-3)


# Parameters of every model of COLMAP, all with visible distortion.
_BENT = {
    2: [500, 326, 254, -0.15],
    3: [500, 326, 254, -0.15, 0.03],
    4: [500, 510, 326, 254, -0.2, 0.05, 0.002, -0.003],
    5: [300, 305, 326, 254, 0.02, -0.01, 0.003, -0.001],
    6: [500, 510, 326, 254, -0.2, 0.05, 0.002, -0.003, 0.01, 0.02, 0.01, 0.001],
    7: [400, 410, 326, 254, 0.9],
    8: [300, 326, 254, 0.02],
    9: [300, 326, 254, 0.02, -0.01],
    10: [300, 305, 326, 254, 0.02, -0.01, 0.001, -0.002, 0.003, -0.001, 0.002, 0.001],
}


def bent_camera(number):
    _, parameters, model, order = MODELS[number]
    known = dict(zip(parameters.split(), _BENT[number], strict=True)) | {"0": 0.0}
    fx, fy = (known.get(axis, known.get("f")) for axis in ("fx", "fy"))
    intrinsics = Intrinsics(fx, fy, known["cx"] - 0.5, known["cy"] - 0.5)
    return Camera(intrinsics, model, tuple(known[n] for n in order.split()))


@pytest.mark.parametrize("number", _BENT)
def test_points_and_the_undistorted_image_agree_for_every_camera_model(number, tmp_path):
    camera = bent_camera(number)
    rays = np.column_stack([np.mgrid[-0.4:0.41:0.2, -0.3:0.31:0.2].reshape(2, -1).T, np.ones(20)])
    at = camera.pixels(rays)
    assert np.abs(at - camera.pinhole().pixels(rays)).max() > 1
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.zeros(SIZE)
    for u, v in at:  # a bright spot where the lens sees each ray
        image += 255 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 8)
    straight = camera.undistort(np.repeat(image.astype(np.uint8)[..., None], 3, 2))[..., 0]
    for u, v in camera.pinhole().pixels(rays):
        top, left = round(v) - 9, round(u) - 9
        spot = straight[top : top + 19, left : left + 19].astype(float)
        y, x = np.mgrid[top : top + 19, left : left + 19]
        assert np.hypot((x * spot).sum() / spot.sum() - u, (y * spot).sum() / spot.sum() - v) < 0.5


def test_distortion_is_opencvs():
    points = np.random.default_rng(0).uniform((-0.5, -0.5, 1), (0.5, 0.5, 2), (50, 3))
    still, k = np.zeros(3), made.matrix()
    bent = Camera(CAMERA, "opencv", (-0.2, 0.05, 0.002, -0.003, 0.01))
    expected = cv2.projectPoints(points, still, still, k, np.array(bent.distortion))[0]
    np.testing.assert_allclose(bent.pixels(points), expected.reshape(-1, 2), atol=1e-6)
    fish = Camera(CAMERA, "fisheye", (0.02, -0.01, 0.003, -0.001))
    slopes = (points[:, :2] / points[:, 2:])[None]
    expected = cv2.fisheye.distortPoints(slopes, k, np.array(fish.distortion))
    np.testing.assert_allclose(fish.pixels(points), expected[0], atol=1e-6)


@pytest.mark.parametrize("number", _BENT)
def test_the_rays_of_a_lens_meet_their_pixels(number):
    camera = bent_camera(number)
    x, y = camera.rays(SIZE)
    found = np.isfinite(x)
    assert found.mean() > 0.99
    rays = np.stack([x, y, np.ones_like(x)], axis=-1)[found]
    rows, columns = np.nonzero(found)
    assert np.abs(camera.pixels(rays) - np.column_stack([columns, rows])).max() < 0.06


LENS = (-0.2, 0.05, 0.002, -0.003)


def check_kept(frame, rgb=0):
    """Raise unless a frame has the pixels as the lens `LENS` took them, and gives their points."""
    still = np.zeros(3)
    at = cv2.projectPoints(made.points(), still, still, made.matrix(), np.array(LENS))[0][:, 0]
    inside = ((at > 0) & (at < [639, 479])).all(axis=1)
    at, expected = at[inside], made.points()[inside]
    rows, columns = np.nonzero(frame.sparse_depth)
    off = np.abs(np.column_stack([columns, rows])[None] - at[:, None]).max(axis=2)
    assert len(rows) == inside.sum() and off.min(axis=1).max() <= 0.5
    points = back_project(frame.sparse_depth, frame.intrinsics)[0][off.argmin(axis=1)]
    half_a_pixel = 0.5 * expected[:, 2:] / CAMERA.fx
    assert (np.abs(points - expected) <= 1.3 * half_a_pixel + 1e-3).all()
    assert np.abs(points[:, 2] - expected[:, 2]).max() < 1e-3
    assert np.abs(frame.rgb.astype(float) - made.room()[0]).mean() <= rgb


def test_distortion_is_kept_where_depth_of_the_images_own_pixels_is_wanted(tmp_path, extrinsics):
    camera = {"K": made.matrix().tolist(), "D": LENS, "width": 640, "height": 480}
    (tmp_path / "camera.json").write_text(json.dumps(camera))
    options = {"intrinsics": str(tmp_path / "camera.json"), "distortion": "keep"}
    write_cloud(tmp_path / "a.npy")
    iio.imwrite(tmp_path / "a.png", made.room()[0])
    (frame,) = frames_of("cloud", tmp_path / "a.npy", extrinsics=extrinsics, hidden_radius=0,
                         rgb=str(tmp_path / "a.png"), **options)  # fmt: skip
    check_kept(frame)
    undone = open_source("cloud", tmp_path / "a.npy", extrinsics=extrinsics, hidden_radius=0,
                         rgb=str(tmp_path / "a.png"), intrinsics=options["intrinsics"])  # fmt: skip
    assert next(iter(undone)).intrinsics == CAMERA
    assert "distortion is undone" in undone.notes[-1] and "--distortion keep" in undone.notes[-1]

    folder = made.write_colmap(
        tmp_path / "model", "bin", 4, [518.86, 518.86, 326.08, 254.24, *LENS]
    )
    check_kept(*frames_of("colmap", folder, distortion="keep"))

    # Maps that are the image's own already stay as they are.
    kept = frames_of("tum", made.write_tum(tmp_path / "desk"), **options)[0]
    np.testing.assert_allclose(kept.sparse_depth, made.sparse(), atol=1e-3)
    for name in ("photos", "maps"):
        (tmp_path / name).mkdir()
    iio.imwrite(tmp_path / "photos/1.png", made.room()[0])
    np.save(tmp_path / "maps/1.npy", made.sparse())
    video = frames_of("video", tmp_path / "photos", sparse=str(tmp_path / "maps"), **options)[0]
    for frame in (kept, video):
        assert frame.intrinsics == Camera(CAMERA, "opencv", LENS, SIZE)
    np.testing.assert_array_equal(video.rgb, made.room()[0])
    np.testing.assert_array_equal(video.sparse_depth, made.sparse())


def test_the_folder_of_another_kind_is_told(tmp_path):
    folder = made.write_tum(tmp_path / "desk")
    for kind in ("kitti", "colmap", "rosbag", "record3d", "stray"):
        with pytest.raises(DataError, match=r"; the folder looks like a recording of kind tum$"):
            open_source(kind, folder)
    drive = made.write_kitti(tmp_path, "object")
    with pytest.raises(DataError, match=r"rgb\.txt does not exist, .* of kind kitti$"):
        open_source("tum", drive)
    (folder / "groundtruth.txt").write_text("# no pose yet\n")
    source = open_source("tum", folder, intrinsics=TEXT)
    assert len(list(source)) == 3 and not source.has_poses
    (folder / "rgb.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match=r"desk holds 0 images and 3 measurements of depth$"):
        open_source("tum", folder, intrinsics=TEXT)


def test_points_far_aside_do_not_come_back_into_the_image():
    bent = Camera(CAMERA, "opencv", (-0.3, 0.0, 0.0, 0.0))
    assert np.isfinite(bent.pixels(np.array([[0.5, 0, 1]]))).all()
    assert np.isnan(bent.pixels(np.array([[1.6, 0, 1.0], [0, 0, -1]]))).all()


def test_the_nearest_point_of_a_pixel_hides_the_others():
    pixels = np.array([[3.4, 1.0], [2.6, 0.6], [3.0, 1.4], [-0.6, 0], [9, 9]])
    depth = splat(pixels, np.array([2.0, 1.5, 3.0, 1.0, 1.0]), (4, 6))
    assert depth[1, 3] == 1.5 and np.count_nonzero(depth) == 1


def test_points_seen_through_a_nearer_surface_are_removed_and_the_ground_stays():
    depth = np.zeros((200, 1200), np.float32)
    depth[20::6, ::3] = 30.0  # a far wall behind
    depth[23::6, 400:800:3] = 6.0  # a car, a few pixels between its points
    gone = hidden(depth)
    assert gone[50:150, 410:790].sum() == np.count_nonzero(depth[50:150, 410:790] == 30)
    assert not gone[:, :390].any() and not gone[:, 810:].any() and not gone[depth == 6].any()
    rows = np.arange(200)[:, None]
    ground = np.where((rows > 10) & (rows % 4 == 0), 1.65 * 720 / np.maximum(rows, 1), 0)
    assert not hidden(np.broadcast_to(ground, (200, 1200)).astype(np.float32)).any()
    assert not hidden(depth, radius=0).any()


@pytest.mark.parametrize("form", ["ros1", "sqlite", "mcap"])
@pytest.mark.parametrize("depth", ["image", "scan"])
def test_bags_are_read_without_ros(form, depth, tmp_path):
    pytest.importorskip("rosbags", reason="requirements-sensors.txt is not installed")
    path = tmp_path / ("bag.bag" if form == "ros1" else "bag")
    made.write_bag(path, form, depth=depth, compressed=depth == "scan")
    source = open_source("rosbag", path, hidden_radius=0)
    frames = list(source)
    assert source.length == 4 and "image and depth are 3 ms apart at most" in source.notes
    assert [f.name for f in frames] == (
        [f"{100 + i / 30:.6f}" for i in ((0, 1, 2, 3) if depth == "image" else (0, 3))]
    )
    for frame in frames:
        check(frame)


def test_ios_captures_are_read(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="requirements-sensors.txt is not installed")
    captures = {"stray": made.write_stray(tmp_path / "stray")}
    with contextlib.suppress(ImportError):  # without LZFSE
        captures["record3d"] = made.write_record3d(tmp_path / "a.r3d")
    for kind, path in captures.items():
        frames = frames_of(kind, path)
        assert len(frames) == (3 if kind == "stray" else 2)
        for frame in frames:
            np.testing.assert_allclose(frame.sparse_depth, made.small()[1], atol=1e-3)
            assert np.abs(frame.rgb.astype(float) - made.room()[0]).mean() < 6
            assert frame.intrinsics == CAMERA
            # Both upright: down is the world's -y, forwards its -z.
            np.testing.assert_allclose(frame.pose[:3, :3], np.diag([1, -1, -1]), atol=1e-12)
        assert frames[1].time_stamp == pytest.approx(5 + 1 / 60)


def test_films_and_folders_have_a_sparse_map_a_frame(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="requirements-sensors.txt is not installed")
    (tmp_path / "sparse").mkdir()
    (tmp_path / "images").mkdir()
    for i in range(3):
        np.save(tmp_path / "sparse" / f"{i + 8}.npy", made.sparse())
        iio.imwrite(tmp_path / "images" / f"{i + 8}.png", made.room()[0])
    film = made.write_film(tmp_path / "film.mp4", 3)
    options = {"sparse": str(tmp_path / "sparse"), "intrinsics": TEXT}
    for path, limit in ((film, 6.0), (tmp_path / "images", 0.0)):
        frames = frames_of("video", path, **options)
        assert len(frames) == 3
        for frame in frames:
            check(frame, rgb=limit)
    assert [f.name for f in frames_of("video", film, **options)] == ["8", "9", "10"]


# What is wrong with a recording -> the sentence it gets.


def refused(match, kind, path, **options):
    with pytest.raises((DataError, OptionError), match=match) as caught:
        list(open_source(kind, path, **options))
    assert "\n" not in str(caught.value)


def test_missing_calibration_is_named_with_the_way_out(tmp_path):
    refused("no calibration of its own .* give --intrinsics", "tum", made.write_tum(tmp_path / "a"))
    drive = made.write_kitti(tmp_path / "b", "raw")
    (drive.parent / "calib_velo_to_cam.txt").unlink()
    refused(r"calib_velo_to_cam\.txt does not exist", "kitti", drive)
    drive = made.write_kitti(tmp_path / "c", "object")
    shutil.rmtree(drive / "calib")
    refused(r"frame 000000: .*calib/000000\.txt does not exist", "kitti", drive)
    write_cloud(tmp_path / "a.xyz")
    refused("needs its camera: give --intrinsics", "cloud", tmp_path / "a.xyz")
    pytest.importorskip("rosbags", reason="requirements-sensors.txt is not installed")
    bag = made.write_bag(tmp_path / "bag", "sqlite", info=False)
    refused("no calibration of /camera/color/image_raw .* give --intrinsics", "rosbag", bag)
    bag = made.write_bag(tmp_path / "bag2", "sqlite", tf=False, depth="scan")
    refused("'lidar', images in 'camera', and /tf_static does not join", "rosbag", bag)


def test_clocks_that_never_meet_are_named_with_their_gap(tmp_path):
    folder = made.write_tum(tmp_path / "a", late=3600.0)
    refused(
        r"clocks .* never meet, the nearest two are 3\d+\.\d+ s", "tum", folder, intrinsics=TEXT
    )
    pytest.importorskip("rosbags", reason="requirements-sensors.txt is not installed")
    bag = made.write_bag(tmp_path / "bag", "sqlite", late=0.5)
    refused(r"never meet, .* 0\.4 s apart, expected at most 0\.02 \(--max-dt\)", "rosbag", bag)


@pytest.mark.parametrize("form", ["ros1", "sqlite", "mcap"])
def test_a_truncated_bag_is_a_sentence(form, tmp_path):
    pytest.importorskip("rosbags", reason="requirements-sensors.txt is not installed")
    path = made.write_bag(tmp_path / ("bag.bag" if form == "ros1" else "bag"), form)
    file = path if form == "ros1" else next(p for p in path.iterdir() if p.suffix != ".yaml")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused("bag", "rosbag", path)


def test_scans_of_another_camera_and_empty_scans_name_the_frame(tmp_path):
    folder = made.write_kitti(tmp_path, "odometry")
    file = folder / "velodyne/000000.bin"
    backwards = np.fromfile(file, "<f4").reshape(-1, 4) * np.float32([-1, -1, 1, 1])
    backwards.tofile(file)
    refused("frame 000000: 0 of 320 points of its scan fall into its image", "kitti", folder)
    file.write_bytes(b"")
    refused(r"frame 000000: .*000000\.bin holds no points", "kitti", folder)
    file.write_bytes(b"12345")
    refused(r"frame 000000: .*has 5 bytes, expected 4 floats a point", "kitti", folder)
    write_cloud(tmp_path / "a.npy")
    iio.imwrite(tmp_path / "a.png", made.room()[0])
    (tmp_path / "T.txt").write_text(made.text(np.linalg.inv(SCAN_TO_CAMERA)))
    options = {"intrinsics": TEXT, "extrinsics": str(tmp_path / "T.txt")}
    refused("extrinsics turned round 3\\d\\d would", "cloud", tmp_path / "a.npy", **options)


def test_a_stream_goes_on_after_frames_that_are_bad_and_counts_them(tmp_path):
    folder = made.write_tum(tmp_path / "a", frames=6)
    images, maps = (sorted((folder / name).iterdir()) for name in ("rgb", "depth"))
    iio.imwrite(images[1], made.room()[0][:240, :320])
    iio.imwrite(maps[1], np.full((240, 320), 9999, np.uint16))
    maps[2].write_bytes(b"")
    iio.imwrite(maps[3], np.zeros(SIZE, np.uint16))
    images[4].unlink()
    source, bad = open_source("tum", folder, intrinsics=TEXT), {}
    frames = list(source.frames(report=lambda name, error: bad.update({name: str(error)})))
    assert [f.name for f in frames] == [images[0].stem, images[5].stem]
    ends = ["lies outside of", "", "no measurement falls into its image", "does not exist"]
    for path, end in zip(images[1:5], ends, strict=True):
        assert bad[path.stem].startswith(f"{folder}, frame {path.stem}: ")
        assert end in bad[path.stem]
    source = open_source("tum", folder, intrinsics=TEXT)
    with pytest.raises(DataError):
        list(source)


def test_frames_that_change_their_size_are_refused(tmp_path):
    (tmp_path / "sparse").mkdir()
    for i, rows in enumerate((480, 400, 480)):
        np.save(tmp_path / "sparse" / f"{i}.npy", made.sparse()[:rows])
        iio.imwrite(tmp_path / f"{i}.png", made.room()[0][:rows])
    refused("frame 1: it is 640x400, those before 640x480", "video", tmp_path,
            sparse=str(tmp_path / "sparse"))  # fmt: skip


def test_kinds_and_options_that_do_not_exist_are_refused(tmp_path):
    refused("one of tum, kitti, .*got 'lidar'", "lidar", tmp_path)
    refused("--sparse is no option of tum; it has --intrinsics", "tum", tmp_path, sparse="a")
    for kind in KINDS:
        refused("nothing does not exist", kind, tmp_path / "nothing")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    {
        "tum": r"rgb\.txt does not exist",
        "kitti": "holds no folder of KITTI: expected image_02/",
        "colmap": "holds no COLMAP model",
        "stray": r"camera_matrix\.csv does not exist",
        "record3d": "freiburg1 holds no file metadata",
        "rosbag": "freiburg1",
        "video": "has the stem of one in",
    }.items(),
)
def test_a_folder_of_something_else_is_refused(kind, sentence, tmp_path):
    if kind == "rosbag":
        pytest.importorskip("rosbags", reason="requirements-sensors.txt is not installed")
    (tmp_path / "freiburg1").mkdir()
    refused(sentence, kind, tmp_path / "freiburg1")
