"""Training frames that cannot be used: named and stopped at, or left out up to a limit."""

import json

import numpy as np
import pytest
import torch
from conftest import write_frame, write_frames

import train as train_script
from dataloaders import DataError, NYUDepthDataset, make_loader
from dataloaders.datasets import most_skipped
from engine.data import build_training_sets
from engine.errors import RunError
from engine.training import SkippedFrames


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three training frames, of which the second cannot be read, and two validation frames."""
    root = write_frames(tmp_path_factory.mktemp("bad") / "frames", n_train=3)
    (root / "train" / "room_0001" / "00002.h5").write_bytes(b"torn")
    return root


def skipping(root, **options):
    return NYUDepthDataset(root, "train", bad_frames="skip", **options)


def test_a_bad_frame_stops_by_default_and_is_named(root):
    with pytest.raises(DataError, match=r"00002\.h5 is not a readable HDF5 file"):
        NYUDepthDataset(root, "train")[1]


def test_a_skipped_frame_gives_the_next_one_with_its_own_draw(root):
    dataset = skipping(root)
    item, following = dataset[1, 3], dataset[2, 3]
    assert torch.equal(item["rgbd"], following["rgbd"])
    assert item["index"] == 2 and item["name"] == "train/room_0001/00003.h5"
    assert len(item["skipped"]) == 1 and "00002.h5" in item["skipped"][0]
    assert following["skipped"] == []
    # A set without bad frames gives the same items, whichever way is chosen.
    assert torch.equal(following["rgbd"], NYUDepthDataset(root, "train")[2, 3]["rgbd"])


def test_batches_name_the_skipped_frames_whatever_the_workers(root):
    batches = {}
    for workers in (0, 2):
        loader = make_loader(skipping(root), 1, shuffle=True, num_workers=workers)
        batches[workers] = list(loader)
    names = [batch["skipped"] for batch in batches[0]]
    assert names == [batch["skipped"] for batch in batches[2]]
    for one, two in zip(batches[0], batches[2], strict=True):
        assert torch.equal(one["rgbd"], two["rgbd"])
    loader = make_loader(skipping(root), 3, shuffle=True, num_workers=0)
    assert len(next(iter(loader))["skipped"]) == 1


def test_the_last_frame_is_followed_by_the_first_and_runs_of_bad_frames_end(tmp_path):
    root = write_frames(tmp_path / "frames", n_train=3)
    folder = root / "train" / "room_0001"
    (folder / "00003.h5").write_bytes(b"")
    assert skipping(root)[2]["index"] == 0
    (folder / "00001.h5").unlink()
    (folder / "00001.h5").write_bytes(b"")
    with pytest.raises(DataError, match=r"00003\.h5 .*; 2 frames in a row cannot be used"):
        skipping(root)[2]


def test_frames_that_break_the_contract_or_are_too_small_are_skipped_too(tmp_path):
    root = write_frames(tmp_path / "frames", n_train=3)
    path = root / "train" / "room_0001" / "00002.h5"
    for rgb, depth, words in (
        (np.zeros((3, 120, 160)), np.full((120, 160), np.nan), "NaN"),
        (np.zeros((3, 160, 40)), np.ones((160, 40)), "smaller than"),
    ):
        write_frame(path, rgb.astype(np.uint8), depth.astype(np.float32))
        (sentence,) = skipping(root)[1]["skipped"]
        assert str(path) in sentence and words in sentence


def test_evaluation_never_skips(root):
    with pytest.raises(DataError, match="evaluation scores every frame"):
        NYUDepthDataset(root, "val", bad_frames="skip")
    with pytest.raises(DataError, match="evaluation scores every frame"):
        skipping(root, augment=False)
    args = train_script.build_parser().parse_args(
        ["--data_root", str(root), "--bad_frames", "skip"]
    )
    train_set, eval_set = build_training_sets(args)
    assert (train_set.bad_frames, eval_set.bad_frames) == ("skip", "stop")


def test_the_limit_is_one_percent_of_the_epoch_and_one_at_least():
    assert [most_skipped(n) for n in (1, 99, 199, 200, 47_584)] == [1, 1, 1, 2, 475]
    skipped = SkippedFrames(200)
    assert skipped.add({"skipped": ["a.h5 is torn"]}) == ["a.h5 is torn"]
    assert skipped.add({"skipped": ["a.h5 is torn", "b.h5 is torn"]}) == ["b.h5 is torn"]
    assert skipped.add({"skipped": []}) == skipped.add({}) == []
    resumed = SkippedFrames(200)
    # What two processes wrote, of which each once counted its own half, goes on in one.
    state = json.loads(json.dumps(skipped.state_dict())) | {"frames": 100}
    resumed.load_state_dict(state)
    for counter in (skipped, resumed):
        with pytest.raises(RunError, match=r"3 of 200 training frames .* more than 2 .*c\.h5"):
            counter.add({"skipped": ["c.h5 is torn"]})
    skipped.sentences.clear()
    assert skipped.add({"skipped": ["c.h5 is torn"]}) == ["c.h5 is torn"]


SMALL = ["--arch", "resnet10_half", "--cspn_step", "1", "--num_workers", "0", "--num_epoch", "1"]
SMALL += ["--bad_frames", "skip", "--batch_size_train", "3"]


def test_a_run_leaves_a_bad_frame_out_names_it_and_goes_on(root, tmp_path, capsys):
    flags = ["--data_root", str(root), "--save_dir", str(tmp_path)]
    train_script.main([*SMALL, *flags])
    assert "left out: " in (text := "".join(capsys.readouterr())) and "00002.h5" in text
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    (event,) = [event for event in events if event["event"] == "left out"]
    assert event["epoch"] == 1 and "00002.h5" in event["frames"][0]


def test_a_run_with_too_many_bad_frames_ends_with_a_sentence(tmp_path):
    root = write_frames(tmp_path / "frames", n_train=4)
    for number in (1, 3):
        (root / "train" / "room_0001" / f"{number:05d}.h5").write_bytes(b"torn")
    flags = ["--data_root", str(root), "--save_dir", str(tmp_path)]
    with pytest.raises(RunError, match="2 of 4 training frames cannot be used"):
        train_script.main([*SMALL, "--batch_size_train", "4", *flags])
