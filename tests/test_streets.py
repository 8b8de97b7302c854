"""The sample streets: layout, scan pattern, geometry of scan and cameras, determinism, resume."""

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from dataloaders import KITTIDepthDataset
from dataloaders.hdf5 import write_frame
from engine.cli import exit_code
from sample_data import command, shapes, streets
from sample_data.contact_sheet import contact_sheet
from sample_data.render import cast
from sample_data.scene import Materials, Scene
from sample_data.streets import STREETS, daylight, foliage, generation, lidar, rig
from sample_data.streets.scene import sample_street
from sample_data.textures import SIZE, Atlas

TRAIN, VAL = 4, 2
FRAMES_PER_SCENE = 2


@pytest.fixture(scope="module")
def sample_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets") / "set"
    options = {"frames_per_scene": FRAMES_PER_SCENE, "seed": 3, "progress": False}
    streets.generate(root, n_train=TRAIN, n_val=VAL, workers=2, **options)
    return root


def load(path):
    with h5py.File(path) as file:
        return file["rgb"][:], file["depth"][:]


def frames(root):
    return sorted(root.glob("*/*/*.h5"))


def plain_scene(solids=()):
    """A grey plain under an empty sky."""
    grey = np.full((SIZE, SIZE, 3), 150, np.uint8)
    column = np.ones(1, np.float32)
    none = np.zeros(1, bool)
    materials = Materials(column, 0 * column, 0 * column, column, none, Atlas({0: grey}))
    return Scene(np.array([400.0, 400.0, 100.0]), (0,) * 6, list(solids), materials)


def plain_rig():
    return rig.rig_at(np.array([200.0, 200.0, 0.0]), 0.0, 0.0, 0.0, np.eye(3))


def test_files_have_the_layout_of_kitti_odometry(sample_set):
    names = [path.relative_to(sample_set).as_posix() for path in frames(sample_set)]
    assert names == [
        f"{folder}/00000-{side}.h5"
        for folder in ("train/00", "train/01", "val/11")
        for side in "LR"
    ]
    for path in frames(sample_set):
        rgb, depth = load(path)
        assert rgb.shape == (3, 375, 1242) and rgb.dtype == np.uint8
        assert depth.shape == (375, 1242) and depth.dtype == np.float32


def test_streets_fill_eleven_sequences_before_one_gets_a_second():
    paths = [generation.frame_path(Path(), "train", index, 4) for index in range(4 * 12)]
    assert len(set(paths)) == len(paths)
    assert sorted({path.parent.name for path in paths}) == [f"{k:02d}" for k in range(11)]
    assert paths[3].as_posix() == "train/00/00001-R.h5"
    assert paths[-1].as_posix() == "train/00/00003-R.h5"
    assert generation.frame_path(Path(), "val", 8, 4).as_posix() == "val/12/00000-L.h5"


def test_depth_is_one_scan_of_about_four_percent(sample_set):
    for path in frames(sample_set):
        _, depth = load(path)
        valid = depth > 0
        assert 0.032 < valid.mean() < 0.05
        assert depth[valid].min() >= 1.0 and depth.max() < 80.0
        assert np.percentile(depth[valid], 95) > 3 * np.percentile(depth[valid], 5)
        # Nothing above the highest laser, little but what is close in the rest of the top third.
        assert not valid[:90].any() and valid[:125].mean() < 0.005
        # Denser in the upper block of lasers than in the lower one, as in real frames.
        assert valid[150:250].mean() > 1.15 * valid[300:].mean() > 0


def test_pictures_are_exposed_and_not_alike(sample_set):
    pictures = [load(path)[0] for path in frames(sample_set)]
    for rgb in pictures:
        assert 50 < rgb.mean() < 150 and rgb.std() > 35
    assert np.abs(pictures[0].astype(int) - pictures[2]).mean() > 10


@pytest.mark.parametrize("number", [0, 1])
def test_the_scan_agrees_with_what_the_camera_sees(number):
    street = sample_street(3, "train", number, 1)
    scene, car = street.at(0)
    camera = car.camera("L")
    points = lidar.scan(scene, *car.lidar(), np.random.default_rng(0))
    depth, seen = lidar.project(points, camera), cast(scene, camera).depth
    error = np.abs(depth - seen)[depth > 0] / seen[depth > 0]
    assert np.median(error) < 0.01
    assert (error < 0.03).mean() > 0.9
    # LiDAR and camera stand apart: some points belong to what the camera does not see.
    assert (error > 0.1).any()


def test_left_and_right_camera_see_the_same_points_shifted_by_the_disparity(sample_set):
    for scene in ("train/00", "val/11"):
        left, right = (load(sample_set / scene / f"00000-{side}.h5")[1] for side in "LR")
        row, column = np.nonzero(left)
        z = left[row, column]
        target = np.rint(column - rig.FOCAL * rig.BASELINE / z).astype(int)
        inside = target >= 2
        row, z, target = row[inside], z[inside], target[inside]
        error = np.full(len(z), np.inf)
        for shift in (-1, 0, 1):
            found = right[row, target + shift]
            error = np.minimum(error, np.where(found > 0, np.abs(found - z), np.inf))
        assert len(z) > 10000 and (error < 1e-3).mean() > 0.9


def test_the_left_and_right_pictures_differ_by_parallax_only(sample_set):
    left, right = (load(sample_set / "train/00" / f"00000-{side}.h5") for side in "LR")
    row, column = np.nonzero(left[1])
    shifted = np.rint(column - rig.FOCAL * rig.BASELINE / left[1][row, column]).astype(int)
    inside = shifted >= 0
    row, column, shifted = row[inside], column[inside], shifted[inside]
    here = left[0][:, row, column].astype(int)
    there, unmoved = (right[0][:, row, k].astype(int) for k in (shifted, column))
    assert np.abs(here - there).mean() < 0.7 * np.abs(here - unmoved).mean()


def test_one_worker_and_two_workers_write_the_same_data(sample_set, tmp_path):
    options = {"frames_per_scene": FRAMES_PER_SCENE, "seed": 3, "progress": False}
    streets.generate(tmp_path / "one", n_train=2, n_val=1, workers=1, **options)
    assert len(frames(tmp_path / "one")) == 3
    for path in frames(tmp_path / "one"):
        other = load(sample_set / path.relative_to(tmp_path / "one"))
        assert all(np.array_equal(a, b) for a, b in zip(load(path), other, strict=True))


def test_resume_makes_only_what_is_missing(sample_set):
    lost = sample_set / "train" / "01" / "00000-R.h5"
    wanted = load(lost)
    others = {path: path.stat().st_mtime_ns for path in frames(sample_set) if path != lost}
    lost.unlink()
    (lost.parent / ".00000-R.h5.1.part").write_bytes(b"half")
    sample_street.cache_clear()
    generation._moment.cache_clear()
    options = {"frames_per_scene": FRAMES_PER_SCENE, "seed": 3, "progress": False}
    assert streets.generate(sample_set, workers=1, **options) == 1
    assert all(np.array_equal(a, b) for a, b in zip(load(lost), wanted, strict=True))
    assert {path: path.stat().st_mtime_ns for path in others} == others


def test_a_foreign_folder_is_refused_by_the_command_and_left_alone(tmp_path):
    (tmp_path / "rooms.json").write_text("{}")
    command = [sys.executable, "-m", "sample_data.streets", "--root", str(tmp_path)]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "sample streets" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rooms.json"]


@pytest.mark.parametrize("change", [{"seed": 6}, {"version": 0}, {"frames_per_scene": 3}])
def test_a_set_with_other_settings_is_refused(tmp_path, capsys, change):
    contents = {"version": STREETS.version, "seed": 0, "n_train": 0, "n_val": 0}
    contents |= {"frames_per_scene": STREETS.frames_per_scene} | change
    (tmp_path / STREETS.manifest).write_text(json.dumps(contents))
    assert exit_code(partial(command.main, STREETS), ["--root", str(tmp_path)]) == 2
    assert next(iter(change)) in capsys.readouterr().err


def test_contact_sheet_is_a_png(sample_set, tmp_path):
    contact_sheet(STREETS, sample_set, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_kitti_data_set_reads_it_and_draws_about_500_points(sample_set, split):
    data = KITTIDepthDataset(sample_set, split)
    assert len(data) == {"train": TRAIN, "val": VAL}[split]
    item = data[0]
    assert item["rgbd"].shape == (4, 228, 912)
    assert item["name"].startswith(("train/00/", "val/11/"))
    assert 400 < int((item["rgbd"][3] > 0).sum()) < 600
    assert (item["depth"] > 0).float().mean() > 0.02


def test_successive_moments_move_along_the_street_and_traffic_moves_too():
    street = sample_street(3, "train", 0, 1)
    (first, start), (second, end) = street.at(0), street.at(1)
    travelled = np.linalg.norm(end.position - start.position)
    assert abs(travelled - street.pace[0]) < 0.6
    assert 5.0 <= street.pace[0] / street.pace[1] <= 12.0
    fixed = len(street.shapes)
    assert first.shapes[:fixed] == second.shapes[:fixed] == street.shapes


def test_traffic_moves_with_its_speed():
    streets_with_traffic = (sample_street(3, "train", k, 1) for k in range(4))
    street = next(street for street in streets_with_traffic if street.drivers)
    place = len(street.shapes)
    before, after = (street.at(k)[0].shapes[place].centre for k in (0, 1))
    wanted = abs(street.drivers[0].speed) * street.pace[1]
    assert abs(np.linalg.norm(after - before) - wanted) < 0.1 * wanted


def test_a_plain_is_measured_at_its_height_with_two_centimetres_of_noise():
    position, axes = plain_rig().lidar()
    points = lidar.scan(plain_scene(), position, axes, np.random.default_rng(1))
    assert len(points) > 20000
    steep = points[np.linalg.norm(points - position, axis=1) < 6]
    # Along the ray the noise is 2 cm; its vertical part is smaller by the height over the range.
    span = np.linalg.norm(steep - position, axis=1)
    along = (steep[:, 2]) * span / position[2]
    assert abs(along.std() - lidar.RANGE_NOISE) < 0.003 and abs(along.mean()) < 0.002
    angle = np.degrees(np.arcsin((points[:, 2] - position[2]) / np.linalg.norm(
        points - position, axis=1)))  # fmt: skip
    nearest = np.abs(angle[:, None] - lidar.ELEVATIONS).min(1)
    assert nearest.max() < 0.35 and np.median(nearest) < 0.02
    assert np.degrees(np.arctan2(position[2], 80)) < -angle.max() + 0.1


def test_windows_of_the_scanner_lose_no_ray():
    rng = np.random.default_rng(4)
    solids = []
    for _ in range(60):
        spot = np.array([200.0, 200.0, 1.5]) + rng.uniform([-5, -15, -2], [40, 15, 4])
        size, yaw = rng.uniform(0.3, 5, 3), rng.uniform(0, 3)
        kind = rng.integers(3)
        if kind == 0:
            solids.append(shapes.box(tuple(spot), tuple(size), 0, yaw=yaw))
        elif kind == 1:
            solids.append(shapes.ellipsoid(tuple(spot), tuple(size / 2), 0, yaw=yaw))
        else:
            solids.append(shapes.frustum(tuple(spot), (size[0] / 3, size[1] / 4), size[2], 0))
    scene = plain_scene(solids)
    device = lidar.scanner(*plain_rig().lidar(), rng)
    whole = cast(plain_scene(), device).depth
    for solid in solids:
        origin = (solid.axes @ (device.position - solid.centre)).astype(np.float32)
        t, _ = shapes.intersect(solid, origin[:, None, None], device.rays(solid.axes))
        whole = np.minimum(whole, t)
    assert (whole < 30).mean() > 0.3
    assert np.allclose(cast(scene, device).depth, whole, rtol=1e-5)


def test_a_point_lands_in_the_pixel_it_came_from_and_the_nearest_stays():
    camera = plain_rig().camera("R")
    ray = camera.axes @ np.array([camera.u[0, 300], camera.v[200, 0], 1.0])
    points = camera.position + np.array([[20.0], [9.5], [12.0]]) * ray
    depth = lidar.project(points, camera)
    assert (depth > 0).sum() == 1
    assert abs(depth[200, 300] - 9.5) < 1e-5


def test_a_wall_keeps_the_sun_from_the_ground_behind_it():
    wall = shapes.box((0.0, 0.0, 2.0), (0.3, 6.0, 4.0), 0)
    sun = np.array([-np.sqrt(0.5), 0.0, np.sqrt(0.5)])
    x, y = [-2.0, 1.0, 3.9, 4.4, 2.0], [0.0, 0.0, 0.0, 0.0, 3.2]
    lit = daylight._is_lit([wall], sun, np.array([x, y, [0.0] * 5], np.float32))
    assert lit.tolist() == [True, False, False, True, True]


def test_leaves_fray_but_never_cover_what_stands_before_them():
    pole = shapes.frustum((208.0, 201.0, 0.0), (0.1, 0.1), 9.0, 0)
    crown = shapes.ellipsoid((215.0, 200.0, 3.0), (2.0, 3.0, 2.5), 1)
    scene = plain_scene([crown, pole])
    scene.materials.foliage = np.array([False, True])
    hits = cast(scene, plain_rig().camera("L"))
    before = hits.surface.copy() // shapes.FACES
    foliage.fray(scene, hits, np.random.default_rng(0))
    after = hits.surface // shapes.FACES
    changed = before != after
    assert np.array_equal(before == 2, after == 2)
    assert 300 < changed.sum() < 0.3 * (before == 1).sum()
    assert (before[changed] == 1).any() and (after[changed] == 1).any()


def test_a_frame_takes_little_cpu_time_to_render_and_write(tmp_path):
    streets.render_frame(0, "train", 0)
    seconds = []
    for index in range(1, 4):
        start = time.process_time()
        write_frame(tmp_path / f"{index}.h5", *streets.render_frame(0, "train", index))
        seconds.append(time.process_time() - start)
    assert np.median(seconds) < 1.5
