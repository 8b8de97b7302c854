"""Back-projection and PLY files."""

import numpy as np
import pytest

from dataloaders import DataError
from inference.point_cloud import (
    Intrinsics,
    PlyWriter,
    back_project,
    flying_pixels,
    normals_of,
    save_ply,
    vertices_of,
    without_flying_pixels,
)

CAMERA = Intrinsics(500.0, 400.0, 3.0, 2.0)


def read_ply(path):
    """Read with nothing of the writer's: header lines, then packed little-endian records."""
    content = path.read_bytes()
    header, body = content.split(b"end_header\n", 1)
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(next(line for line in lines if line.startswith("element vertex")).split()[-1])
    names = ("x", "y", "z", "nx", "ny", "nz")
    assert [line.split()[1:] for line in lines if line.startswith("property")] == [
        *(["float", name] for name in names),
        *(["uchar", name] for name in ("red", "green", "blue")),
    ]
    assert len(body) == 27 * count
    records = np.frombuffer(body, np.uint8).reshape(count, 27)
    points = np.ascontiguousarray(records[:, :24]).view("<f4")
    return points[:, :3], records[:, 24:]


def test_points_project_back_to_their_pixels():
    depth = np.random.default_rng(0).uniform(0.5, 8, (5, 7)).astype(np.float32)
    points, seen = back_project(depth, CAMERA)
    assert seen.all()
    rows, columns = np.mgrid[:5, :7]
    x, y, z = points.T
    np.testing.assert_allclose(x / z * 500 + 3, columns.ravel(), atol=1e-4)
    np.testing.assert_allclose(y / z * 400 + 2, rows.ravel(), atol=1e-4)
    np.testing.assert_array_equal(z, depth.ravel())


def test_a_ply_file_holds_the_points_and_their_colours(tmp_path):
    rng = np.random.default_rng(1)
    depth = rng.uniform(0.5, 8, (5, 7)).astype(np.float32)
    depth[1, 2], depth[3, 3], depth[4, 6] = 0, -1, np.nan
    rgb = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert save_ply(tmp_path / "cloud.ply", depth, rgb, CAMERA) == 32
    points, colors = read_ply(tmp_path / "cloud.ply")
    expected, seen = back_project(depth, CAMERA)
    assert not seen[1, 2] and not seen[3, 3] and not seen[4, 6]
    np.testing.assert_array_equal(points, expected)
    np.testing.assert_array_equal(colors, rgb[seen])


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,x", "0,1,2,3", "500,-1,2,3", "nan,1,2,3", ""])
def test_wrong_intrinsics_are_refused(text):
    with pytest.raises(ValueError, match="intrinsics must be"):
        Intrinsics.parse(text)


def test_intrinsics_are_read_from_a_flag():
    assert Intrinsics.parse("500,400,3,2.0") == CAMERA


@pytest.mark.parametrize(
    "text",
    [
        "500 0 3\n0 400 2\n0 0 1\n",
        "500, 0, 3\r\n0, 400, 2\r\n0, 0, 1",
        "[[5e2, 0, 3], [0, 4e2, 2], [0, 0, 1]]",
        "500 400 3 2",
    ],
)
def test_intrinsics_are_read_from_a_text_file(text, tmp_path):
    (tmp_path / "K.txt").write_text(text)
    assert Intrinsics.parse(str(tmp_path / "K.txt")) == CAMERA


@pytest.mark.parametrize("text", ["500 0 3 0 400 2", "500 9 3\n0 400 2\n0 0 1", "width: 5", ""])
def test_files_without_intrinsics_are_refused_by_name(text, tmp_path):
    (tmp_path / "K.txt").write_text(text)
    with pytest.raises(DataError, match=r"or a text file with them or the matrix.*K\.txt"):
        Intrinsics.parse(str(tmp_path / "K.txt"))


def test_intrinsics_of_another_resolution_are_noticed():
    nyu = Intrinsics(518.86, 519.47, 325.58, 253.74)
    assert nyu.notes((480, 640)) == []
    with pytest.raises(DataError, match=r"\(325.58, 253.74\) lies outside of the image of 320x240"):
        nyu.notes((240, 320))
    assert "far from the middle; are the intrinsics of 1280x960" in nyu.notes((960, 1280))[0]


WIDE, LONG = Intrinsics(50.0, 50.0, 31.5, 23.5), Intrinsics(200.0, 200.0, 31.5, 23.5)


def step(blur: int = 0) -> np.ndarray:
    """A box at 1 m before a wall at 3 m, with a slope of `blur` pixels between the two."""
    depth = np.full((48, 64), 3, np.float32)
    depth[12:36, 20:44] = 1
    for i in range(blur):
        fraction = np.float32((i + 1) / (blur + 1))
        depth[12:36, 19 - i] = depth[12:36, 44 + i] = 1 + 2 * fraction
    return depth


def test_a_sharp_edge_and_a_floor_seen_at_two_degrees_have_no_flying_pixels():
    assert not flying_pixels(step(), WIDE).any() and not flying_pixels(step(), LONG).any()
    rows = np.arange(26, 48)[:, None]
    floor = np.zeros((48, 64), np.float32)
    floor[26:] = 1.4 * 50 / (rows - 23.5)  # 1.4 m below the camera
    assert not flying_pixels(floor[26:], WIDE).any()


@pytest.mark.parametrize("blur", [1, 2, 3])
def test_what_a_regression_lays_between_two_surfaces_is_dropped_or_moved_to_one(blur):
    depth = step(blur)
    between = (depth > 1) & (depth < 3)
    flying = flying_pixels(depth, LONG)
    assert (flying & between).sum() >= 0.95 * between.sum()
    assert (flying & ~between).sum() <= 0.05 * between.sum()
    dropped = without_flying_pixels(depth, LONG)
    assert (dropped[flying] == 0).all() and (dropped[~flying] == depth[~flying]).all()
    snapped = without_flying_pixels(depth, LONG, how="snap")
    assert np.isin(snapped[flying], (1, 3)).all()
    assert without_flying_pixels(depth, LONG, how="keep") is depth


def test_pixels_that_the_network_doubts_are_dropped():
    depth, error = step(), np.zeros((48, 64), np.float32)
    error[:, 44:46] = 0.5
    flying = flying_pixels(depth, LONG, error)
    assert flying[14:34, 44].all() and not flying[:, :43].any() and not flying[:, 46:].any()


def test_normals_are_the_surfaces_and_face_the_camera():
    rows, columns = np.mgrid[:48, :64]
    # The plane n . p = d seen along each pixel's ray.
    normal = np.array([0.3, -0.2, -0.93])
    normal /= np.linalg.norm(normal)
    rays = np.stack([(columns - 31.5) / 50, (rows - 23.5) / 50, np.ones(rows.shape)], axis=-1)
    depth = (-2.0 / (rays @ normal)).astype(np.float32)
    normals = normals_of(depth, WIDE)
    np.testing.assert_allclose(normals, np.broadcast_to(normal, normals.shape), atol=1e-3)
    depth[10, 10] = 0
    assert not normals_of(depth, WIDE)[10, 10].any()


def test_a_cloud_grows_and_survives_an_interruption(tmp_path):
    depth, rgb = step(), np.zeros((48, 64, 3), np.uint8)
    vertices = vertices_of(depth, rgb, WIDE)
    writer = PlyWriter(tmp_path / "a.ply")
    writer.append(vertices)
    writer.stream.write(b"half a point")
    writer.stream.close()  # as a kill leaves it: the header does not count the points yet
    writer = PlyWriter(tmp_path / "a.ply")
    assert writer.count == len(vertices)
    pose = np.eye(4)
    pose[:3, 3] = 0, 0, 5
    writer.append(vertices_of(depth, rgb, WIDE, pose))
    writer.close()
    points, _ = read_ply(tmp_path / "a.ply")
    assert len(points) == 2 * len(vertices)
    np.testing.assert_allclose(points[len(vertices) :], points[: len(vertices)] + pose[:3, 3])
