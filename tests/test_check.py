"""The census of a data set: what it counts, what it finds, and what it refuses."""

import csv
import os
import shutil
import signal

import numpy as np
import pytest
from conftest import write_frame, write_frames

import tools.check_data.__main__ as check
from dataloaders import processes
from engine.cli import exit_code
from tools.check_data import census

SIZE = (120, 160)


@pytest.fixture
def root(tmp_path):
    return write_frames(tmp_path / "frames", n_train=4, n_val=2)


def findings(root, tmp_path, *flags):
    """Exit code of the command, and its findings as (path, what)."""
    out = tmp_path / "findings.csv"
    code = check.main([str(root), "--out", str(out), "--num_workers", "1", *flags])
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(row.keys() == {"path", "split", "what", "expected", "got"} for row in rows)
    return code, {(row["path"], row["what"]) for row in rows}


def test_a_sound_set_is_clean_however_small(root, tmp_path, capsys):
    assert findings(root, tmp_path) == (0, set())
    text = capsys.readouterr().out
    assert "findings: none" in text
    assert "note: train has 4 in 1 folder; a complete nyudepth has 47,584 in 280 folders" in text
    assert "note: val has 2; a complete nyudepth has 654" in text
    row = next(line for line in text.splitlines() if line.startswith("train"))
    assert row.split()[:6] == ["train", "4", "1", "0", "120x160", "float32"]
    depth = np.concatenate([census.read_stored(path)[1] for path in root.glob("train/*/*.h5")])
    valid = depth[depth > 0]
    assert f"{valid.min():.2f} to {valid.max():.2f}" in row
    assert f"{100 * 16 / depth[:120].size:.1f} %" in row


@pytest.mark.parametrize("workers", [1, 2])
def test_every_kind_of_bad_file_is_found_and_named(root, tmp_path, workers, capsys):
    scene = root / "train" / "room_0001"
    good = np.zeros((3, *SIZE), np.uint8), np.ones(SIZE, np.float32)
    (scene / "00001.h5").write_bytes(b"torn")
    write_frame(scene / "00005.h5", good[0], good[1] * np.nan)
    write_frame(scene / "00006.h5", good[0][:, :, :40], good[1][:, :40])
    write_frame(scene / "00007.h5", good[0], good[1] * 0)
    write_frame(scene / "00008.h5", good[0], good[1] * 30)
    shutil.copy(scene / "00003.h5", scene / "00009.h5")
    shutil.copy(root / "val" / "official" / "00001.h5", scene / "00010.h5")
    (root / "train" / "linked").symlink_to(tmp_path)
    (tmp_path / "outside.h5").touch()
    (scene / "00011.h5").symlink_to(tmp_path / "outside.h5")
    os.mkfifo(scene / "00012.h5")
    (scene / "notes.txt").touch()
    (scene / ".00013.h5.77.part").touch()
    code, found = findings(root, tmp_path, "--num_workers", str(workers))
    place = "train/room_0001"
    assert code == 1
    assert found == {
        (f"{place}/00001.h5", "unreadable"),
        (f"{place}/00005.h5", "contract"),
        (f"{place}/00006.h5", "too_small"),
        (f"{place}/00007.h5", "no_depth"),
        (f"{place}/00008.h5", "depth_range"),
        (f"{place}/00009.h5", "duplicate"),
        (f"{place}/00010.h5", "train_in_val"),
        ("train/linked", "link"),
        (f"{place}/00011.h5", "link"),
        (f"{place}/00012.h5", "unreadable"),
        (f"{place}/notes.txt", "stray"),
    }
    text = capsys.readouterr().out
    assert "1 train_in_val" in text and "2 link" in text and "2 unreadable" in text


def deadly(path):
    if path.match("train/*/00002.h5"):
        os.kill(os.getpid(), signal.SIGKILL)
    return census_inspect(path)


census_inspect = census.inspect


def test_a_file_that_kills_its_reader_is_found_and_the_rest_is_read(root, tmp_path, monkeypatch):
    monkeypatch.setattr(census, "inspect", deadly)
    monkeypatch.setattr(processes, "CHUNK", 2)
    code, found = findings(root, tmp_path)
    assert (code, found) == (1, {("train/room_0001/00002.h5", "crash")})


def test_a_frame_too_small_for_kitti_is_found(root, tmp_path):
    code, found = findings(root, tmp_path, "--data_set", "kitti")
    assert code == 1 and len(found) == 6
    assert {what for _, what in found} == {"too_small"}


def test_what_cannot_be_checked_is_one_sentence(root, tmp_path, capsys):
    (tmp_path / "empty" / "train").mkdir(parents=True)
    (tmp_path / "none").mkdir()
    for arguments, sentence in (
        ([tmp_path / "nowhere"], "nowhere is not a folder"),
        ([tmp_path / "none"], "neither a folder train/ nor val/"),
        ([tmp_path / "empty"], "holds no .h5 file"),
        ([root, "--num_workers", "0"], "num_workers must be at least 1, got 0"),
        ([root, "--out", tmp_path / "no" / "where.csv"], "No such file"),
    ):
        assert exit_code(check.main, [str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and sentence in error and error.count("\n") == 1


def test_many_findings_are_cut_on_the_screen_and_whole_in_the_file(root, tmp_path, capsys):
    for i in range(25):
        (root / "train" / f"note {i}.txt").touch()
    assert len(findings(root, tmp_path)[1]) == 25
    assert "and 5 more" in capsys.readouterr().out
