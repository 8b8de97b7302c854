"""List files: what they hold, and that the data sets accept them."""

import csv

import numpy as np
import pytest
from conftest import write_frame

from dataloaders import KITTIDepthDataset, NYUDepthDataset
from engine.cli import exit_code
from tools.make_lists import frame_names, main


@pytest.fixture(scope="module")
def kitti_root(tmp_path_factory):
    """Four moments of KITTI-like frames with few points, and things that are no frames."""
    root = tmp_path_factory.mktemp("lists") / "my_kitti"
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (3, 375, 1242)).astype(np.uint8)
    depth = np.where(rng.random((375, 1242)) < 0.04, 9.0, 0.0).astype(np.float32)
    for folder, moments in (("train/01", 1), ("train/00", 2), ("val/11", 1)):
        for moment in range(moments):
            for side in "LR":
                write_frame(root / folder / f"{moment:05d}-{side}.h5", rgb, depth)
    (root / "train/00/.00007-L.h5").write_bytes(b"half a copy")
    (root / "train/.old").mkdir()
    (root / "train/.old/00000-L.h5").write_bytes(b"hidden")
    (root / "train/00/notes.txt").write_text("no frame")
    return root


def read(path):
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["Name"] and all(len(row) == 1 for row in rows)
    return [row[0] for row in rows[1:]]


def test_lists_are_sorted_relative_and_without_hidden_files(kitti_root, tmp_path):
    main([str(kitti_root), "--out", str(tmp_path / "new")])
    names = [f"train/{scene}-{side}.h5" for scene in ("00/00000", "00/00001", "01/00000")
             for side in "LR"]  # fmt: skip
    assert read(tmp_path / "new" / "my_kitti_train.csv") == names
    val = read(tmp_path / "new" / "my_kitti_val.csv")
    assert val == ["val/11/00000-L.h5", "val/11/00000-R.h5"]


@pytest.mark.parametrize("cameras, suffix", [("left", "-L.h5"), ("right", "-R.h5")])
def test_one_camera_can_be_selected(kitti_root, cameras, suffix):
    names = frame_names(kitti_root, "train", cameras)
    assert len(names) == 3 and all(name.endswith(suffix) for name in names)


def test_one_split_writes_one_list(kitti_root, tmp_path):
    main([str(kitti_root), "--split", "val", "--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["my_kitti_val.csv"]


def test_a_kitti_list_is_accepted_by_its_data_set(kitti_root, tmp_path):
    main([str(kitti_root), "--cameras", "right", "--out", str(tmp_path)])
    for split, count in (("train", 3), ("val", 1)):
        file_list = tmp_path / f"my_kitti_{split}.csv"
        frames = KITTIDepthDataset(kitti_root, split, file_list=file_list)
        assert len(frames) == count
        assert frames[0]["name"] == read(file_list)[0]
        assert frames[0]["rgbd"].shape == (4, 228, 912)


def test_a_nyu_list_names_what_the_folder_walk_finds(tiny_root, tmp_path):
    main([str(tiny_root), "--out", str(tmp_path)])
    for split in ("train", "val"):
        file_list = tmp_path / f"{tiny_root.name}_{split}.csv"
        listed = NYUDepthDataset(tiny_root, split, file_list=file_list)
        assert listed.frames == NYUDepthDataset(tiny_root, split).frames


def test_counts_stand_beside_the_published_ones(kitti_root, tiny_root, tmp_path, capsys):
    main([str(kitti_root), "--out", str(tmp_path)])
    text = capsys.readouterr().out
    assert "6 train" in text and "46,402" in text and "40,702" in text and "47,584" not in text
    main([str(tiny_root), "--out", str(tmp_path)])
    assert "complete" not in capsys.readouterr().out
    main([str(tiny_root), "--data_set", "nyudepth", "--out", str(tmp_path)])
    text = capsys.readouterr().out
    assert "47,584 in 280 folders" in text and "654" in text


@pytest.mark.parametrize("flags", [["--cameras", "left"], ["--split", "val"]])
def test_what_is_not_there_is_one_sentence_and_leaves_no_list(tmp_path, capsys, flags):
    root = tmp_path / "set"
    (root / "train/room").mkdir(parents=True)
    (root / "train/room/00001.h5").write_bytes(b"")
    assert exit_code(main, [str(root), "--out", str(tmp_path / "out"), *flags]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert exit_code(main, [str(tmp_path / "missing"), "--out", str(tmp_path / "out")]) == 2


def test_an_unwritable_place_is_one_sentence(kitti_root, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert exit_code(main, [str(kitti_root), "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
