"""Whole recordings: overlapped, bounded, resumed; and data sets made of them."""

import threading
import time
import weakref

import cv2
import h5py
import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import recordings as made
import torch

import predict
from dataloaders import DataError
from engine.errors import OptionError, RunError
from inference.predictor import Prediction
from inference.sources import open_source
from inference.sources.frames import Frame, Pending, Source
from inference.stream import Results, run_stream
from tools import make_dataset

TEXT = "518.86,518.86,325.58,253.74"
SIZE = (24, 32)


class Filled:
    """A predictor in a moment: the mean of the measurements everywhere."""

    device = torch.device("cpu")

    model = None

    def __init__(self):
        self.calls = 0

    def describe(self) -> str:
        return "filled"

    def prepare(self, rgb, sparse_depth):
        return sparse_depth

    def run(self, sparse_depth):
        self.calls += 1
        return np.full(sparse_depth.shape, sparse_depth[sparse_depth > 0].mean(), np.float32), 1

    def finish(self, prepared, depth, tiles) -> Prediction:
        return Prediction(depth, depth, "none", depth.shape, tiles, 1, 1, None, 0 * depth + 0.01)


def recording(path, count=8, *, size=SIZE, read=None, pose=range(99), camera=made.CAMERA) -> Source:
    """Frames of depth 1, 2, 3 ... m, of which those in `pose` have one."""

    def load(i):
        if read is not None:
            read.append(i)
        depth = np.zeros(size, np.float32)
        depth[::4, ::4] = i + 1
        transform = np.eye(4)
        transform[0, 3] = 10 * i
        rgb = np.full((*size, 3), 40 + i, np.uint8)
        has_pose = pose is not None and i in pose
        return Frame(rgb, depth, camera, f"{i:03d}", i / 10, transform if has_pose else None)

    pending = [Pending(f"{i:03d}", lambda i=i: load(i)) for i in range(count)]
    return Source(path, pending, count, has_poses=pose is not None)


def test_results_are_those_of_the_frames_in_every_layout(tmp_path):
    formats = ["png", "npy", "tum", "cloud"]
    outcome = run_stream(recording(tmp_path / "r"), Filled(), Results(tmp_path / "out", formats))
    assert (outcome.done, outcome.skipped, outcome.bad) == (8, 0, [])
    for i in range(8):
        name = f"{i:03d}"
        assert (iio.imread(tmp_path / f"out/{name}_depth.png") == 1000 * (i + 1)).all()
        assert (np.load(tmp_path / f"out/{name}_depth.npy") == i + 1).all()
        assert (iio.imread(tmp_path / f"out/depth/{name}.png") == 5000 * (i + 1)).all()
    listed = pd.read_csv(tmp_path / "out/depth.txt", sep=" ", comment="#", header=None)
    assert listed[1].tolist() == [f"depth/{i:03d}.png" for i in range(8)]
    plyfile = pytest.importorskip("plyfile", reason="requirements-sensors.txt is not installed")
    vertex = plyfile.PlyData.read(tmp_path / "out/cloud.ply")["vertex"]
    assert len(vertex) == 8 * 6 * 8  # every fourth row and column
    assert set(np.rint(vertex["z"])) == set(range(1, 9))
    x = vertex["x"].reshape(8, -1).mean(axis=1)  # each frame where its pose is
    assert (np.abs(np.diff(x) - 10) < 1).all()
    np.testing.assert_allclose(vertex["nz"], -1, atol=1e-5)


def test_reading_network_and_writing_overlap(tmp_path):
    began = {name: threading.Event() for name in ("read 4", "network 3", "write 2")}
    waited = []

    class Network(Filled):
        def run(self, *args):
            if self.calls == 3:  # while this runs, a later frame is read and an earlier one written
                began["network 3"].set()
                waited.extend(began[name].wait(60) for name in ("read 4", "write 2"))
            return super().run(*args)

    class Writing(Results):
        def write(self, frame, prediction):
            if frame.name == "002":
                waited.append(began["network 3"].wait(60))
                began["write 2"].set()
            super().write(frame, prediction)

    read = type("Read", (list,), {"append": lambda self, i: i == 4 and began["read 4"].set()})()
    source = recording(tmp_path / "r", read=read)
    outcome = run_stream(source, Network(), Writing(tmp_path / "out", ["npy"]))
    assert waited == [True] * 3 and outcome.done == 8
    assert "8 frames in" in str(outcome) and "the network" in str(outcome)


def test_only_a_few_frames_are_read_ahead_of_the_network(tmp_path):
    read, most = [], []

    class Slow(Filled):
        def run(self, *args):
            time.sleep(0.02)
            most.append(len(read) - self.calls)
            return super().run(*args)

    results = Results(tmp_path / "out", ["npy"])
    run_stream(recording(tmp_path / "r", 30, read=read), Slow(), results)
    assert len(read) == 30 and max(most) <= 5


def test_a_stream_that_was_interrupted_reads_and_writes_the_rest_alone(tmp_path):
    class Interrupted(Filled):
        def run(self, *args):
            if self.calls == 5:
                raise KeyboardInterrupt
            return super().run(*args)

    first = Results(tmp_path / "out", ["png", "tum"])
    with pytest.raises(KeyboardInterrupt):
        run_stream(recording(tmp_path / "r"), Interrupted(), first)
    there = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert 1 <= len(there) <= 5
    (tmp_path / "out/depth/001.png").unlink()  # half of a frame's results is none
    kept = (tmp_path / "out/000_depth.png").stat().st_mtime_ns
    read, predictor = [], Filled()
    source = recording(tmp_path / "r", read=read)
    outcome = run_stream(source, predictor, Results(tmp_path / "out", ["png", "tum"]))
    assert outcome.skipped == len(there) - 1 and outcome.done == 9 - len(there) == len(read)
    assert 1 in read and 0 not in read
    assert (tmp_path / "out/000_depth.png").stat().st_mtime_ns == kept
    assert len((tmp_path / "out/depth.txt").read_text().splitlines()) == 9
    again = run_stream(source, predictor, Results(tmp_path / "out", ["png", "tum"]))
    assert (again.done, again.skipped) == (0, 8)


def test_bad_frames_are_said_and_counted_and_the_rest_is_written(tmp_path):
    source, said = recording(tmp_path / "r"), []
    good = source.pending[3].load

    def empty():
        frame = good()
        frame.sparse_depth[:] = 0
        return frame

    source.pending[3] = Pending("003", empty)

    class Picky(Filled):
        def prepare(self, rgb, sparse_depth):
            if sparse_depth.max() == 6:
                raise DataError("six is refused")
            return super().prepare(rgb, sparse_depth)

        def run(self, sparse_depth):
            if sparse_depth.max() == 7:
                raise DataError("seven is refused")
            return super().run(sparse_depth)

    results = Results(tmp_path / "out", ["npy"])
    outcome = run_stream(source, Picky(), results, sentence=str, say=said.append)
    assert outcome.done == 5 and len(outcome.bad) == len(said) == 3
    assert "r, frame 003: no measurement falls into its image" in said[0]
    assert "r, frame 005: six is refused" in said[1]
    assert "r, frame 006: seven is refused" in said[2]
    assert not (tmp_path / "out/003_depth.npy").exists()
    assert "3 left out, as said above" in str(outcome)


def test_a_video_shows_image_and_depth_side_by_side(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="requirements-sensors.txt is not installed")
    source = recording(tmp_path / "r", size=(48, 64))
    run_stream(source, Filled(), Results(tmp_path / "out", ["video"]))
    capture = cv2.VideoCapture(str(tmp_path / "out/side_by_side_000.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 8
    picture = capture.read()[1]
    assert picture.shape == (48, 128, 3)
    assert np.abs(picture[:, :60].astype(int) - 40).max() < 12


def test_a_bag_holds_the_depth_at_the_frames_time_stamps(tmp_path):
    pytest.importorskip("rosbags", reason="requirements-sensors.txt is not installed")
    from rosbags.highlevel import AnyReader

    from inference.sources.ros_messages import decode_depth, stamp_of

    run_stream(recording(tmp_path / "r"), Filled(), Results(tmp_path / "out", ["bag"]))
    with AnyReader([tmp_path / "out/bag_000"]) as reader:
        messages = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages()]
    for i, message in enumerate(messages):
        assert stamp_of(message) == pytest.approx(i / 10)
        assert (decode_depth(message, 1) == i + 1).all()
    assert len(messages) == 8
    with pytest.raises(DataError, match="bag_000 is there from an earlier run"):
        run_stream(recording(tmp_path / "r"), Filled(), Results(tmp_path / "out", ["bag"]))


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(
        OptionError, match="one of png, npy, ply, tum, bag, video, cloud, got 'exr'"
    ):
        Results(tmp_path / "out", ["exr"])
    with pytest.raises(DataError, match=r"is the recording; choose another --out"):
        Results(tmp_path, ["png"], [tmp_path])
    source, predictor = recording(tmp_path / "r", pose=None), Filled()
    with pytest.raises(DataError, match=r"r has no poses, .*; --write ply makes one of each frame"):
        run_stream(source, predictor, Results(tmp_path / "out", ["png", "cloud"]))
    assert predictor.calls == 0
    source = recording(tmp_path / "r", camera=None)
    for name in ("ply", "cloud"):
        with pytest.raises(DataError, match="frame 000 has no intrinsics"):
            run_stream(source, Filled(), Results(tmp_path / "out", [name]))


def vertices(path):
    plyfile = pytest.importorskip("plyfile", reason="requirements-sensors.txt is not installed")
    return plyfile.PlyData.read(path)["vertex"]


def test_frames_without_a_pose_are_counted_and_not_in_the_cloud(tmp_path):
    source = recording(tmp_path / "r", pose=(2, 3, 5))
    outcome = run_stream(source, Filled(), Results(tmp_path / "out", ["npy", "cloud"]))
    assert outcome.notes == ["5 of 8 frames have no pose and are not in the cloud"]
    assert outcome.done == 8 == len(list((tmp_path / "out").glob("*.npy")))
    assert set(np.rint(vertices(tmp_path / "out/cloud.ply")["z"])) == {3, 4, 6}


def test_each_frame_can_have_a_cloud_of_its_own(tmp_path):
    source = recording(tmp_path / "r", pose=None)
    run_stream(source, Filled(), Results(tmp_path / "out", ["ply"]))
    for i in (0, 7):
        assert (vertices(tmp_path / f"out/{i:03d}.ply")["z"] == i + 1).all()
    again = run_stream(source, Filled(), Results(tmp_path / "out", ["ply"]))
    assert (again.done, again.skipped) == (0, 8)


def test_a_cloud_holds_each_frame_once_whatever_was_written_before(tmp_path):
    points, source = 8 * 6 * 8, recording(tmp_path / "r")

    def run(*formats):
        outcome = run_stream(source, Filled(), Results(tmp_path / "out", formats))
        assert len(vertices(tmp_path / "out/cloud.ply")) == points
        return outcome.done

    assert run("cloud") == run("cloud") == 8  # no maps to tell what is there, so it begins anew
    assert run("npy", "cloud") == 8 and run("npy", "cloud") == 0
    (tmp_path / "out/cloud.ply").unlink()
    assert run("npy", "cloud") == 8  # the maps are there, the cloud is not


def test_depth_that_16_bits_do_not_hold_is_said(tmp_path):
    source = recording(tmp_path / "r", 16)
    outcome = run_stream(source, Filled(), Results(tmp_path / "out", ["png", "tum"]))
    (note,) = outcome.notes
    assert note.startswith("3 of 16 frames have depth beyond 13.107 m") and "depth" in note


def test_memory_does_not_grow_with_the_recording(tmp_path):
    alive, most = [], []

    class Watched(Filled):
        def finish(self, prepared, depth, tiles):
            alive.append(weakref.ref(depth))
            most.append(sum(ref() is not None for ref in alive))
            return super().finish(prepared, depth, tiles)

    run_stream(recording(tmp_path / "r", 40), Watched(), Results(tmp_path / "out", ["npy"]))
    assert len(most) == 40 and max(most) <= 8


@pytest.fixture
def filled(monkeypatch):
    predictor = Filled()
    monkeypatch.setattr(predict.Predictor, "from_checkpoint", lambda *a, **k: predictor)
    return predictor


def test_predict_runs_a_recording_and_ends_with_2_after_bad_frames(tmp_path, filled, capsys):
    folder = made.write_tum(tmp_path / "rgbd")
    flags = ["--from", "tum", str(folder), "--resume", "a", "--out", str(tmp_path / "out")]
    flags += ["--intrinsics", TEXT, "--write", "tum", "npy"]
    predict.main(flags)
    assert "3 frames in" in capsys.readouterr().out
    assert len((tmp_path / "out/depth.txt").read_text().splitlines()) == 4
    predict.main(flags)
    assert filled.calls == 3
    assert "3 were there already" in capsys.readouterr().out
    sorted((folder / "rgb").iterdir())[0].write_bytes(b"")
    with pytest.raises(RunError, match="1 frame left out, as said above"):
        predict.main([*flags[:-3], "--out", str(tmp_path / "other")])
    assert len(list((tmp_path / "other").glob("*.png"))) == 2
    for wrong, match in (
        (["--from", "lidar", str(folder)], "a recording is one of"),
        (["--from", "tum", str(folder), "--sample-from", "a"], "goes with --rgb without --from"),
        (["--from", "tum", str(folder), "-n", "9"], "--n-sample goes with --sample-from"),
        (["--from", "tum", str(folder), "--flying-pixels", "keep"], "or --write ply or cloud"),
        (["--from", "tum", str(folder), "--camera", "3"], "--camera is no option of tum"),
        ([], "give --rgb and its measurements, or a recording"),
    ):
        with pytest.raises(OptionError, match=match):
            predict.main(wrong)


def test_a_recording_becomes_a_data_set_with_its_last_frames_held_out(tmp_path, capsys):
    folder = made.write_tum(tmp_path / "desk", frames=4)
    root = tmp_path / "mine"
    flags = ["--from", "tum", str(folder), "--out", str(root), "--intrinsics", TEXT]
    flags += ["--holdout", "0.25"]
    images = sorted((folder / "rgb").iterdir())
    content = images[2].read_bytes()
    images[2].write_bytes(b"")
    assert make_dataset.main(flags) == 0  # the census finds nothing
    said = capsys.readouterr().out
    assert f"left out: {folder}, frame {images[2].stem}: " in said and "findings: none" in said
    images[2].write_bytes(content)
    assert make_dataset.main(flags) == 0
    train = sorted(p.stem for p in (root / "train/desk").iterdir())
    val = sorted(p.stem for p in (root / "val/desk").iterdir())
    assert train + val == [path.stem for path in images] and len(val) == 1
    with h5py.File(root / "val/desk" / f"{val[0]}.h5") as file:
        assert file["rgb"].shape == (3, 480, 640) and file["rgb"].dtype == np.uint8
        np.testing.assert_allclose(file["depth"][:], made.sparse(), atol=1e-3)


def test_a_recording_without_a_good_frame_makes_no_data_set(tmp_path):
    folder = made.write_tum(tmp_path / "desk", frames=1)
    next((folder / "depth").iterdir()).write_bytes(b"")
    source = open_source("tum", folder, intrinsics=TEXT)
    with pytest.raises(DataError, match=r"holds no frame that can be used: .*desk, frame"):
        make_dataset.convert(source, tmp_path / "mine", "desk", 0.1)
