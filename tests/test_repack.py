"""Repacking: the same values, uncompressed, and what happens to broken frames and folders."""

import shutil
import signal
from collections import namedtuple
from contextlib import closing

import h5py
import numpy as np
import pytest
from conftest import write_frames

from dataloaders import DataError, processes
from dataloaders.hdf5 import read_frame, write_frame
from engine.cli import exit_code
from tools import repack


@pytest.fixture
def source(tmp_path):
    """A compressed data set of eight frames."""
    root = write_frames(tmp_path / "frames", n_train=6, n_val=2, size=(24, 32))
    for path in root.rglob("*.h5"):
        write_frame(path, *read_frame(path))
    return root


def names(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("workers", [1, 2])
def test_every_value_is_kept_and_nothing_is_compressed(source, tmp_path, workers):
    copy = tmp_path / "plain"
    assert repack.repack(source, copy, workers=workers, progress=False) == (8, [])
    assert names(copy) == names(source)
    for name in names(source):
        with h5py.File(source / name) as before, h5py.File(copy / name) as after:
            assert before["rgb"].compression == "gzip"
            for key, kind in (("rgb", np.uint8), ("depth", np.float32)):
                assert after[key].dtype == kind
                assert after[key].chunks is None and after[key].compression is None
                assert before[key][()].tobytes() == after[key][()].tobytes()


def test_what_exists_is_kept_and_what_is_missing_or_torn_is_made(source, tmp_path):
    copy = tmp_path / "plain"
    repack.repack(source, copy, workers=1, progress=False)
    kept, torn, gone = (copy / name for name in names(copy)[:3])
    stamp = kept.stat().st_mtime_ns
    torn.write_bytes(b"torn")
    gone.unlink()
    assert repack.repack(source, copy, workers=1, progress=False) == (2, [])
    assert kept.stat().st_mtime_ns == stamp
    assert names(copy) == names(source)
    assert np.array_equal(read_frame(torn)[1], read_frame(source / torn.relative_to(copy))[1])
    assert repack.repack(source, copy, workers=1, progress=False) == (0, [])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_broken_frames_are_named_and_the_rest_is_made(source, tmp_path, capfd, workers):
    broken = source / "train" / "room_0001" / "00002.h5"
    broken.write_bytes(broken.read_bytes()[:300])
    copy = tmp_path / "plain"
    assert repack.main([str(source), str(copy), "--workers", workers]) == 1
    text = capfd.readouterr()
    assert f"left out: {broken} is not a readable HDF5 file" in text.err
    assert "error: 1 frame cannot be read" in text.err
    assert "7 frames written" in text.out
    assert len(names(copy)) == 7


def test_one_split_is_enough(source, tmp_path):
    shutil.rmtree(source / "train")
    assert repack.main([str(source), str(tmp_path / "plain"), "--workers", "1"]) == 0
    assert all(name.startswith("val/") for name in names(tmp_path / "plain"))


def test_requests_that_cannot_be_met_get_a_sentence(source, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(source)
    refused = [
        ([tmp_path / "nowhere", tmp_path / "plain"], "nowhere is not a folder"),
        ([tmp_path / "empty", tmp_path / "plain"], "neither a folder train/ nor val/"),
        ([source, source], "or inside it"),
        ([source, source / "plain"], "or inside it"),
        ([source, tmp_path / "link" / "plain"], "or inside it"),
        ([source, tmp_path / "file"], "is a file; choose a folder"),
        ([source, tmp_path / "plain", "--workers", "0"], "workers must be at least 1, got 0"),
    ]
    for arguments, sentence in refused:
        assert exit_code(repack.main, [str(a) for a in arguments]) == 2
        error = capsys.readouterr().err
        assert sentence in error and error.count("\n") == 1
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 0, 10))
    assert exit_code(repack.main, [str(source), str(tmp_path / "plain")]) == 2
    assert "0.0 GB free, and 8 frames take 0.0 GB" in capsys.readouterr().err
    assert not (tmp_path / "plain").exists()
    with pytest.raises(SystemExit) as stopped:
        repack.main([str(source)])
    assert stopped.value.code == 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interruption_leaves_whole_files_and_the_next_run_goes_on(
    source, tmp_path, capsys, monkeypatch, workers
):
    copy = tmp_path / "plain"
    monkeypatch.setattr(processes, "CHUNK", 1)

    def interrupted(*arguments):
        with closing(processes.parallel_map(*arguments)) as results:
            for result in results:
                yield result
                signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(repack, "parallel_map", interrupted)
        assert (
            exit_code(
                repack.main,
                [str(source), str(copy), "--workers", workers],
                interrupted=repack.INTERRUPTED,
            )
            == 130
        )
    assert "Interrupted; the same command goes on" in capsys.readouterr().err
    assert names(copy) and not any(name.endswith(".part") for name in names(copy))
    assert repack.main([str(source), str(copy), "--workers", workers]) == 0
    assert names(copy) == names(source)


def test_a_full_disk_is_an_error_and_not_a_broken_frame(source, tmp_path, monkeypatch):
    def full(path, rgb, depth, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(repack, "write_frame", full)
    assert exit_code(repack.main, [str(source), str(tmp_path / "plain"), "--workers", "1"]) == 2
    with pytest.raises(DataError, match="at least 1"):
        repack.repack(source, tmp_path / "plain", workers=0)
