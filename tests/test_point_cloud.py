"""Back-projection and PLY files."""

import numpy as np
import pytest

from dataloaders import DataError
from inference.point_cloud import Intrinsics, back_project, save_ply

CAMERA = Intrinsics(500.0, 400.0, 3.0, 2.0)


def read_ply(path):
    """Read with nothing of the writer's: header lines, then packed little-endian records."""
    content = path.read_bytes()
    header, body = content.split(b"end_header\n", 1)
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(next(line for line in lines if line.startswith("element vertex")).split()[-1])
    assert [line.split()[1:] for line in lines if line.startswith("property")] == [
        ["float", "x"],
        ["float", "y"],
        ["float", "z"],
        ["uchar", "red"],
        ["uchar", "green"],
        ["uchar", "blue"],
    ]
    assert len(body) == 15 * count
    records = np.frombuffer(body, np.uint8).reshape(count, 15)
    points = np.ascontiguousarray(records[:, :12]).view("<f4")
    return points, records[:, 12:]


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
