"""The built-in sample set: layout, determinism, resume, and the geometry behind the pictures."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from dataloaders.hdf5 import write_frame
from engine.cli import exit_code
from sample_data import command, render, rooms, shapes
from sample_data import sample_set as set_module
from sample_data.contact_sheet import contact_sheet
from sample_data.rooms import ROOMS, fittings, furniture, light
from sample_data.rooms import scene as room_scene
from sample_data.rooms.plan import Plan
from sample_data.rooms.scene import Light, Room, sample_scene
from sample_data.rooms.view import camera_at
from sample_data.scene import Materials
from sample_data.textures import SIZE, Atlas

TRAIN, VAL = 4, 2
FRAMES_PER_SCENE = 2


def main(argv):
    return exit_code(partial(command.main, ROOMS), argv, interrupted=command.INTERRUPTED)


@pytest.fixture(scope="module")
def sample_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("rooms") / "set"
    rooms.generate(
        root,
        n_train=TRAIN,
        n_val=VAL,
        frames_per_scene=FRAMES_PER_SCENE,
        seed=5,
        workers=2,
        progress=False,
    )
    return root


def load(path):
    with h5py.File(path) as file:
        return file["rgb"][:], file["depth"][:]


def frames(root, split):
    return sorted((root / split).glob("*/*.h5"))


def empty_room(shapes=(), size=(6.0, 5.0, 3.0)):
    """A white room without texture, lit from (3, 2.5, 2.9)."""
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    column = np.ones(1, np.float32)
    none = np.zeros(1, bool)
    materials = Materials(column, 0 * column, 0 * column, column, none, Atlas({0: white}))
    lamp = Light(np.array([3.0, 2.5, 2.9]), np.full(3, 4.0, np.float32))
    options = {"lights": [lamp], "ambient": np.full(3, 0.2, np.float32)}
    return Room(np.array(size), (0,) * 6, list(shapes), materials, **options)


def test_files_have_the_layout_of_nyu(sample_set):
    names = [path.relative_to(sample_set).as_posix() for path in frames(sample_set, "train")]
    assert names == [f"train/room_000{k // 2}/0000{k % 2 + 1}.h5" for k in range(TRAIN)]
    names = [path.relative_to(sample_set).as_posix() for path in frames(sample_set, "val")]
    assert names == [f"val/official/0000{k + 1}.h5" for k in range(VAL)]
    for path in frames(sample_set, "train") + frames(sample_set, "val"):
        rgb, depth = load(path)
        assert rgb.shape == (3, 480, 640) and rgb.dtype == np.uint8
        assert depth.shape == (480, 640) and depth.dtype == np.float32


def test_depth_is_in_range_and_whole_millimetres(sample_set):
    for path in frames(sample_set, "train") + frames(sample_set, "val"):
        _, depth = load(path)
        valid = depth[depth > 0]
        assert valid.min() >= 0.5 and valid.max() <= 10.0
        assert np.abs(valid * 1000 - np.round(valid * 1000)).max() < 1e-3


def test_val_is_filled_and_train_has_holes_like_a_kinect(sample_set):
    for path in frames(sample_set, "val"):
        assert (load(path)[1] > 0).all()
    for path in frames(sample_set, "train"):
        depth = load(path)[1]
        assert 0.45 < (depth > 0).mean() < 0.82
        # The rim that the depth camera does not see, and some holes in the middle of the view.
        assert not depth[:36].any() and not depth[:, :24].any()
        assert 0.5 < (depth[60:420, 60:580] > 0).mean() < 0.999


def test_pictures_are_exposed_and_views_are_varied(sample_set):
    for path in frames(sample_set, "train") + frames(sample_set, "val"):
        rgb, depth = load(path)
        assert 25 < rgb[:, 10:-10, 10:-10].mean() < 190
        assert rgb[:, 10:-10, 10:-10].std() > 8
        valid = depth[depth > 0]
        assert np.percentile(valid, 95) > 1.2 * np.percentile(valid, 5)


def test_one_worker_and_two_workers_write_the_same_data(sample_set, tmp_path):
    options = {"frames_per_scene": FRAMES_PER_SCENE, "seed": 5, "progress": False}
    rooms.generate(tmp_path / "one", n_train=TRAIN, n_val=VAL, workers=1, **options)
    for path in frames(sample_set, "train") + frames(sample_set, "val"):
        other = load(tmp_path / "one" / path.relative_to(sample_set))
        assert all(np.array_equal(a, b) for a, b in zip(load(path), other, strict=True))


def test_a_frame_does_not_depend_on_the_size_of_the_set_or_on_earlier_frames(sample_set):
    sample_scene.cache_clear()
    rgb, depth = rooms.render_frame(5, "train", 3, frames_per_scene=FRAMES_PER_SCENE)
    stored = load(rooms.frame_path(sample_set, "train", 3, FRAMES_PER_SCENE))
    assert np.array_equal(rgb, stored[0]) and np.array_equal(depth, stored[1])


def test_rooms_differ_between_seeds_splits_and_numbers():
    keys = ((0, "train", 0), (1, "train", 0), (0, "val", 0), (0, "train", 1))
    sizes = [sample_scene(*key).size for key in keys]
    assert len({tuple(size) for size in sizes}) == 4


def test_resume_makes_only_what_is_missing(tmp_path):
    options = {"n_val": 0, "frames_per_scene": 2, "progress": False, "workers": 1}
    assert rooms.generate(tmp_path / "set", n_train=2, **options) == 2
    first, second = frames(tmp_path / "set", "train")
    wanted, kept = load(second), first.stat()
    second.unlink()
    # What a killed run leaves: a part under a temporary name is not a frame.
    (second.parent / ".00002.h5.1.part").write_bytes(b"half")
    assert rooms.generate(tmp_path / "set", n_train=2, **options) == 1
    assert first.stat().st_mtime_ns == kept.st_mtime_ns and first.stat().st_ino == kept.st_ino
    assert all(np.array_equal(a, b) for a, b in zip(load(second), wanted, strict=True))
    assert [path.name for path in frames(tmp_path / "set", "train")] == ["00001.h5", "00002.h5"]


def test_a_failed_write_leaves_no_file(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(OSError, match="no space"):
        write_frame(tmp_path / "1.h5", np.zeros((3, 4, 4), np.uint8), np.ones((4, 4)))
    assert list(tmp_path.iterdir()) == []


def test_processes_start_after_opencv_has_used_its_threads(tmp_path):
    script = tmp_path / "blur.py"
    script.write_text(
        "import cv2, numpy as np\n"
        "from dataloaders.processes import parallel_map\n"
        "def blur(size): return cv2.GaussianBlur(np.ones((size, size), 'f'), (0, 0), 7).shape\n"
        "cv2.setNumThreads(4)\n"
        "blur(2000)\n"
        "print(list(parallel_map(blur, [(600,), (700,)], 2, chunk=1)), cv2.getNumThreads())\n"
    )
    root = Path(__file__).resolve().parent.parent
    command, env = [sys.executable, str(script)], {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[(600, 600), (700, 700)] 4\n", done.stderr


def test_an_interrupt_ends_with_a_sentence(tmp_path, monkeypatch, capsys):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(set_module, "_make", interrupt)
    assert main(["--root", str(tmp_path / "set"), "--workers", "1"]) == 130
    assert "Interrupted" in capsys.readouterr().err
    assert (tmp_path / "set" / ROOMS.manifest).is_file()


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path, capsys):
    real = tmp_path / "train" / "dining_room" / "00001.h5"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"real data")
    assert main(["--root", str(tmp_path), "--n_train", "1", "--n_val", "1"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["00001.h5"]
    assert real.read_bytes() == b"real data"


@pytest.mark.parametrize("change", [{"seed": 6}, {"version": 0}, {"frames_per_scene": 3}])
def test_a_set_with_other_settings_is_refused(tmp_path, capsys, change):
    contents = {"version": ROOMS.version, "seed": 0, "frames_per_scene": 8}
    contents |= {"n_train": 0, "n_val": 0} | change
    (tmp_path / ROOMS.manifest).write_text(json.dumps(contents))
    assert main(["--root", str(tmp_path)]) == 2
    assert next(iter(change)) in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_manifest_and_bad_numbers_are_refused(tmp_path, capsys):
    assert main(["--root", str(tmp_path / "new"), "--workers", "0"]) == 2
    assert not (tmp_path / "new").exists()
    (tmp_path / ROOMS.manifest).write_text("[]")
    assert main(["--root", str(tmp_path)]) == 2
    assert "damaged" in capsys.readouterr().err


def test_contact_sheet_is_a_png(sample_set, tmp_path):
    contact_sheet(ROOMS, sample_set, tmp_path / "sheets" / "sheet.png")
    assert (tmp_path / "sheets" / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_many_kinds_of_furniture_occur(monkeypatch):
    """Which builders' pieces find a spot, by the name in a room's table or module."""
    placed, put = [], Plan._put

    def recording_put(plan, piece, *args):
        done = put(plan, piece, *args)
        if done:
            placed.append(made[id(piece)])
        return done

    made = {}

    def recorded(build):
        def builder(kit):
            piece = build(kit)
            made[id(piece)] = build.__name__
            pieces.append(piece)  # kept, so that no other gets its id
            return piece

        return builder

    pieces = []
    monkeypatch.setattr(Plan, "_put", recording_put)
    for table in ("ALONG_WALLS", "LOOSE"):
        monkeypatch.setattr(room_scene, table, [recorded(f) for f in getattr(room_scene, table)])
    monkeypatch.setattr(furniture, "table_with_chairs", recorded(furniture.table_with_chairs))
    for name in ("door", "window", "pictures", "wall_board"):
        monkeypatch.setattr(fittings, name, recorded(getattr(fittings, name)))
    kinds = []
    for number in range(6):
        placed.clear()
        sample_scene.__wrapped__(0, "train", number)  # not one that was built before
        kinds.append(set(placed))
    wanted = {"crates", "table", "shelf", "cylinders", "balls", "slope", "chair", "floor_lamp"}
    assert wanted <= set.union(*kinds)
    assert min(len(kind) for kind in kinds) >= 6


def test_a_wall_seen_squarely_has_one_depth():
    hits = render.cast(empty_room(), camera_at(np.array([2.0, 2.5, 1.5]), 0.0, 0.0, 0.0))
    middle = hits.depth[200:300, 250:400]
    assert np.abs(middle - 4.0).max() < 1e-5
    assert (hits.surface[200:300, 250:400] == 1).all()  # face +x of the room


def test_a_floor_follows_the_pinhole_model():
    camera = camera_at(np.array([1.0, 2.5, 1.5]), 0.0, 0.0, 0.0)
    depth = render.cast(empty_room(), camera).depth
    rows = np.arange(470, 480)
    assert np.allclose(depth[rows, 320], 1.5 / camera.v[rows, 0], atol=1e-4)


@pytest.mark.parametrize("yaw, pitch, roll", [(0.0, 0.0, 0.0), (0.7, -0.3, 0.1), (3.0, 0.2, -0.1)])
def test_a_sphere_has_the_depth_of_its_equation(yaw, pitch, roll):
    camera = camera_at(np.array([3.0, 2.5, 1.5]), yaw, pitch, roll)
    centre = camera.position + camera.axes @ np.array([0.1, -0.05, 1.6])
    ball = shapes.ellipsoid(tuple(centre), (0.3, 0.3, 0.3), 0)
    hits = render.cast(empty_room([ball]), camera)
    ball_pixels = hits.surface // shapes.FACES == 1
    u, v = np.meshgrid(camera.u[0].astype(float), camera.v[:, 0].astype(float))
    ray = np.stack([u, v, np.ones_like(u)], -1)
    toward = ray @ np.array([0.1, -0.05, 1.6])
    length = (ray**2).sum(-1)
    root = toward**2 - length * (0.1**2 + 0.05**2 + 1.6**2 - 0.3**2)
    expected = (toward - np.sqrt(np.maximum(root, 0))) / length
    assert (ball_pixels == (root > 0)).mean() > 0.9999
    inner = root > 0.005
    assert inner.sum() > 10000
    assert np.abs(hits.depth[inner] - expected[inner]).max() < 1e-3


def test_a_cylinder_and_a_box_have_their_front_where_they_should():
    camera = camera_at(np.array([1.0, 2.5, 1.2]), 0.0, 0.0, 0.0)
    tube = shapes.frustum((3.0, 2.5, 0.0), (0.25, 0.25), 2.0, 0)
    crate = shapes.box((3.0, 1.5, 1.0), (0.4, 0.5, 2.0), 0)
    depth = render.cast(empty_room([tube, crate]), camera).depth
    column = int(np.argmin(np.abs(camera.u)))
    assert abs(depth[240, column] - 1.75) < 1e-3
    column = int(np.argmin(np.abs(camera.u - 1.0 / 1.8)))
    assert abs(depth[240, column] - 1.8) < 1e-3


def test_a_near_solid_hides_a_far_one_whatever_their_order():
    camera = camera_at(np.array([1.0, 2.5, 1.5]), 0.0, 0.0, 0.0)
    near = shapes.box((2.5, 2.5, 1.5), (0.2, 0.8, 0.8), 0)
    far = shapes.box((4.0, 2.5, 1.5), (0.2, 3.0, 2.0), 0)
    pictures = [render.cast(empty_room(s), camera) for s in ([near, far], [far, near])]
    assert np.array_equal(pictures[0].depth, pictures[1].depth)
    owner = pictures[0].surface // shapes.FACES
    assert owner[253, 325] == 1 and owner[253, 560] == 2 and (owner == 0).any()


def test_a_solid_casts_a_shadow_under_the_lamp():
    camera = camera_at(np.array([0.6, 2.5, 1.8]), 0.0, -0.5, 0.0)
    plate = shapes.box((3.0, 2.5, 1.9), (0.8, 0.8, 0.05), 0)
    lit = []
    for solids in ([], [plate]):
        scene = empty_room(solids)
        hits = render.cast(scene, camera)
        seen = render.surfaces(scene, camera, hits)
        rgb, _ = light.shade(scene, seen)
        x, y, z = seen.point.reshape(3, *hits.depth.shape)
        lit.append((rgb[..., 0], (z < 0.01) & (np.hypot(x - 3, y - 2.5) < 0.5)))
        outside = (z < 0.01) & (np.hypot(x - 3, y - 2.5) > 2.2)
    (open_light, _), (shaded, spot) = lit
    assert spot.sum() > 500 and outside.sum() > 500
    assert shaded[spot].max() < 0.6 * open_light[spot].min()
    assert np.allclose(shaded[outside], open_light[outside], rtol=1e-3)


def test_a_frame_takes_little_cpu_time_to_render_and_write(tmp_path):
    rooms.render_frame(0, "train", 0)
    seconds = []
    for index in range(1, 6):
        start = time.process_time()
        write_frame(tmp_path / f"{index}.h5", *rooms.render_frame(0, "train", index))
        seconds.append(time.process_time() - start)
    assert np.median(seconds) < 1.5
