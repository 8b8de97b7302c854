"""NYU Depth v2 in one command: download, the official labelled file, folders of other layouts."""

import io
import os
import resource
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import imageio.v3 as iio
import numpy as np
import pytest
import scipy.io
from hub_server import Hub

from dataloaders import DataError
from dataloaders.hdf5 import read_frame, write_frame
from dataloaders.splits import list_frames
from tools.nyu import download
from tools.nyu.download import REPOSITORY
from tools.nyu.folder import convert_folder
from tools.nyu.found import describe_root
from tools.nyu.labeled import convert_labeled

ROOT = Path(__file__).resolve().parent.parent


def picture(seed):
    """An image (480, 640, 3) uint8 and its depth (480, 640) metres: boxes with clear edges."""
    rng = np.random.default_rng(seed)
    rgb, depth = np.full((480, 640, 3), 90, np.uint8), np.full((480, 640), 4.0, np.float32)
    for _ in range(6):
        top, left = rng.integers(0, 360), rng.integers(0, 480)
        box = (slice(top, top + 120), slice(left, left + 160))
        rgb[box] = rng.integers(0, 255, 3)
        depth[box] = rng.uniform(1, 3.5)
    return rgb, depth


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two small shards, with folders of another name above the scenes."""
    folder, files = tmp_path_factory.mktemp("frames"), {}
    for split, top, names in (
        ("train", "any/where", ["kitchen/00001.h5", "kitchen/00002.h5"]),
        ("val", "official_copy", ["official/00001.h5"]),
    ):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for seed, name in enumerate(names):
                rgb, depth = picture(seed + len(top))
                write_frame(folder / name, rgb.transpose(2, 0, 1), depth)
                archive.add(folder / name, f"{top}/{name}")
        files[f"data/{split}-000000.tar"] = stream.getvalue()
    return files


def run_download(hub, root, *flags, timeout=120, **options):
    """`python -m tools.nyu download` against a local hub."""
    environment = os.environ | {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HOME": str(root.parent / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "tools.nyu", "download", "--out", str(root), *flags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )


def test_the_download_goes_on_after_a_cut_and_ends_with_the_census(shards, tmp_path):
    with Hub(REPOSITORY, shards | {"README.md": b"not asked for"}) as hub:
        hub.cut_after["data/train-000000.tar"] = 1000
        done = run_download(hub, tmp_path / "root")
        assert done.returncode == 0, done.stderr
        assert "findings: none" in done.stdout
        assert not (tmp_path / "root" / "README.md").exists()
        for path, data in shards.items():
            assert (tmp_path / "root" / path).read_bytes() == data
        sent = len(hub.sent)
        assert run_download(hub, tmp_path / "root").returncode == 0
        assert len(hub.sent) == sent, "what is complete is not fetched again"
    line = describe_root(tmp_path / "root")
    assert line.endswith(
        "a part of the set, or another one; 2 train frames, 1 val frames, in tar shards"
    )


def test_a_damaged_shard_is_fetched_again_and_then_refused(shards, tmp_path):
    path = "data/val-000000.tar"
    with Hub(REPOSITORY, shards) as hub:
        hub.damaged[path] = shards[path][:-1] + b"x"
        done = run_download(hub, tmp_path / "root", "--split", "val")
        assert done.returncode == 2
        assert f"{path} is damaged: its checksum is not the hub's" in done.stderr
        assert [name for name, _ in hub.sent] == [path, path]
        hub.damaged.clear()
        done = run_download(hub, tmp_path / "root", "--split", "val")
        assert done.returncode == 0, done.stderr
        assert "fetching again" in done.stdout


def test_a_disk_that_fills_up_is_one_sentence_and_the_next_call_goes_on(shards, tmp_path):
    def small_disk() -> None:  # no file may grow further; what is written before stays
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    with Hub(REPOSITORY, shards) as hub:
        done = run_download(hub, tmp_path / "root", "--split", "val", preexec_fn=small_disk)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert not list((tmp_path / "root").rglob("*.tar"))
        done = run_download(hub, tmp_path / "root", "--split", "val")
        assert done.returncode == 0, done.stderr


def test_a_disk_without_room_is_refused_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    files = [
        SimpleNamespace(filename=f"data/val-00000{i}.tar", file_size=10**9, will_download=True)
        for i in range(2)
    ]
    monkeypatch.setattr(download, "snapshot_download", lambda **options: files)
    with pytest.raises(DataError, match=r"1\.0 GB free, and the shards take 2\.0 GB"):
        download.download(tmp_path, ["val"])


def test_a_hub_that_cannot_serve_is_one_sentence(shards, tmp_path):
    with Hub(REPOSITORY, {"data/train-000000.tar": b""}) as hub:
        done = run_download(hub, tmp_path / "a", "--split", "val")
        assert done.returncode == 2 and "has no shards data/val-*.tar" in done.stderr
        address = hub.address
    hub.address = address  # nobody answers there any more
    done = run_download(hub, tmp_path / "b")
    assert done.returncode == 2 and "run it again to go on" in done.stderr
    assert "Traceback" not in done.stderr


def write_labeled(folder, count=6, **changes):
    """A file of the structure of nyu_depth_v2_labeled.mat, and its splits.mat."""
    frames = [picture(i) for i in range(count)]
    content = {
        "images": np.stack([rgb.transpose(2, 1, 0) for rgb, _ in frames]),
        "depths": np.stack([depth.T for _, depth in frames]),
    }
    with h5py.File(folder / "labeled.mat", "w", userblock_size=512) as file:
        for key, value in (content | changes).items():
            if value is not None:
                file[key] = value
    return folder / "labeled.mat", frames


def write_splits(folder, train=(1, 4, 6), test=(2, 3, 5)):
    path = folder / "splits.mat"
    columns = {"trainNdxs": np.array([train]).T, "testNdxs": np.array([test]).T}
    scipy.io.savemat(path, columns)
    return path


def test_the_labelled_file_becomes_the_official_split(tmp_path):
    mat, frames = write_labeled(tmp_path)
    for _ in range(2):  # the second time nothing is left to do
        convert_labeled(mat, write_splits(tmp_path), tmp_path / "root")
    names = {
        split: [
            f.relative_to(tmp_path / "root").as_posix()
            for f in list_frames(tmp_path / "root", split)
        ]
        for split in ("train", "val")
    }
    assert names["train"] == [f"train/labeled/0000{i}.h5" for i in (1, 4, 6)]
    assert names["val"] == [f"val/official/0000{i}.h5" for i in (2, 3, 5)]
    rgb, depth = read_frame(tmp_path / "root/val/official/00003.h5")
    assert np.array_equal(rgb, frames[2][0].transpose(2, 0, 1))
    assert np.array_equal(depth, frames[2][1])


@pytest.mark.parametrize(
    ("changes", "splits", "sentence"),
    (
        ({"images": None}, {}, "has no variable images"),
        ({"depths": np.ones((6, 480, 640), np.float32)}, {}, "expected images"),
        ({"depths": np.full((6, 640, 480), 4000, np.float32)}, {}, "expected metres"),
        ({}, {"test": (2, 3, 7)}, "names frame 7"),
        ({}, {"test": (1, 2)}, "disjoint numbers from 1"),
        ({}, {"train": (0, 4)}, "disjoint numbers from 1"),
    ),
)
def test_a_labelled_file_of_another_structure_is_a_sentence(tmp_path, changes, splits, sentence):
    mat, _ = write_labeled(tmp_path, **changes)
    with pytest.raises(DataError, match=sentence):
        convert_labeled(mat, write_splits(tmp_path, **splits), tmp_path / "root")


def test_files_that_are_no_matlab_files_are_sentences(tmp_path):
    mat, _ = write_labeled(tmp_path)
    (tmp_path / "no.mat").write_bytes(b"MATLAB 5.0" * 99)
    with pytest.raises(DataError, match="holds no trainNdxs and testNdxs"):
        convert_labeled(mat, tmp_path / "no.mat", tmp_path / "root")
    with pytest.raises(DataError, match=r"not a readable MATLAB 7\.3 file"):
        convert_labeled(tmp_path / "no.mat", write_splits(tmp_path), tmp_path / "root")


def write_pairs(folder, rgb_name, depth_name, count=5, scale=1000):
    for i in range(count):
        rgb, depth = picture(i)
        for name, values in ((rgb_name, rgb), (depth_name, (depth * scale).astype(np.uint16))):
            path = folder / name.format(f"{i:05d}")
            path.parent.mkdir(parents=True, exist_ok=True)
            iio.imwrite(path, values)


@pytest.mark.parametrize(
    ("rgb_name", "depth_name", "scale"),
    (
        ("{}_colors.png", "{}_depth.png", 1000),
        ("study_0002/rgb_{}.jpg", "study_0002/sync_depth_{}.png", 1000),
        (
            "freiburg1_desk/rgb/130503{}.175304.png",
            "freiburg1_desk/depth/130503{}.160407.png",
            5000,
        ),
        ("a/left-{}.png", "a/left-{}-z.png", 256),
    ),
)
def test_folders_as_people_have_them_become_frames(tmp_path, rgb_name, depth_name, scale):
    write_pairs(tmp_path / "in", rgb_name, depth_name, scale=scale)
    own = {"rgb": "left-{}.png", "depth": "left-{}-z.png", "scale": 256} if scale == 256 else {}
    convert_folder(tmp_path / "in", tmp_path / "out", **own, val=0.2)
    train, val = (list_frames(tmp_path / "out", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (4, 1)
    rgb, depth = read_frame(train[0])
    expected, metres = picture(0)
    assert np.abs(rgb.transpose(1, 2, 0).astype(int) - expected).mean() < 3  # JPEG
    assert np.abs(depth - metres).max() < 1 / scale + 1e-6


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    (
        (None, {"rgb": "x_{}.png", "depth": "y_{}.png"}, "holds no pair"),
        (None, {"rgb": "{}_colors.png"}, "go together"),
        (None, {"rgb": "colors.png", "depth": "depth.png"}, "must have one {}"),
        (None, {"scale": 1.0}, "expected metres"),
        (lambda depth: depth[:240], {}, "is 640x240"),
        (lambda depth: depth[:, ::-1], {}, "do not fit their images"),
    ),
)
def test_a_folder_that_cannot_be_right_is_a_sentence(tmp_path, change, arguments, sentence):
    write_pairs(tmp_path, "{}_colors.png", "{}_depth.png")
    for path in tmp_path.glob("*_depth.png") if change else ():
        iio.imwrite(path, np.ascontiguousarray(change(iio.imread(path))))
    with pytest.raises(DataError, match=sentence):
        convert_folder(tmp_path, tmp_path / "out", **arguments)


def test_pairs_shifted_by_one_are_noticed(tmp_path):
    write_pairs(tmp_path, "{}_colors.png", "{}_depth.png")
    depths = [iio.imread(tmp_path / f"{i:05d}_depth.png") for i in range(5)]
    for i in range(5):
        iio.imwrite(tmp_path / f"{i:05d}_depth.png", depths[(i + 1) % 5])
    with pytest.raises(DataError, match=r"edges of the (previous|following) image fit"):
        convert_folder(tmp_path, tmp_path / "out")


def test_nothing_found_names_the_download_first(tmp_path):
    with pytest.raises(DataError, match=r"tools\.nyu download.*sample_data\.rooms"):
        describe_root(tmp_path)
