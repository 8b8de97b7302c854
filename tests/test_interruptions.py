"""Runs that are stopped, damaged or crowded, and go on as if nothing had happened.

The small form of `python -m tests.faults`, mostly within one process.
"""

import json
import os
import random
import shutil
import signal
import time
from collections import Counter

import pytest
import torch

import train as train_script
from engine import signals
from engine.checkpoint import CheckpointError
from engine.signals import Stopped, StopRequest
from tests.faults import disk, kills, runs, twins
from tests.faults.runs import differing_files

SMALL = ["--arch", "resnet10_half", "--cspn_step", "2", "--batch_size_train", "1", "--nesterov"]
SMALL += ["--num_epoch", "2", "--num_workers", "0"]


def train(root, folder, *flags):
    where = ["--data_root", str(root), "--save_dir", str(folder), "--resume", "auto"]
    train_script.main([*SMALL, *where, *map(str, flags)])


@pytest.fixture(scope="module")
def whole(tiny_root, tmp_path_factory):
    """Two epochs of four steps and two validation images that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(tiny_root, folder)
    return folder


@pytest.fixture
def signal_at(monkeypatch):
    """Send this process a signal at the n-th call of a function of train.py."""

    def arm(function, call, number=signal.SIGTERM):
        original, calls = getattr(train_script, function), Counter()

        def counted(*args, **kwargs):
            calls["n"] += 1
            if calls["n"] == call:
                os.kill(os.getpid(), number)
            return original(*args, **kwargs)

        monkeypatch.setattr(train_script, function, counted)

    return arm


@pytest.mark.parametrize(
    ("function", "call", "number", "workers", "accumulate"),
    [
        ("autocast", 1, signal.SIGTERM, 0, 1),  # the first step
        ("autocast", 6, signal.SIGINT, 2, 1),  # within the second epoch
        ("autocast", 3, signal.SIGTERM, 0, 2),  # within a group of accumulated batches
        ("evaluate", 1, signal.SIGTERM, 0, 1),  # validation
    ],
)
def test_a_run_stopped_at_any_step_goes_on_bit_for_bit(
    whole, tiny_root, tmp_path, signal_at, function, call, number, workers, accumulate
):
    if accumulate > 1:
        train(tiny_root, tmp_path / "whole", "--accumulate", accumulate)
        whole = tmp_path / "whole"
    flags = ["--accumulate", accumulate, "--num_workers", workers]
    signal_at(function, call, number)
    with pytest.raises(Stopped, match=f"stopped by {number.name} after step .*--resume auto"):
        train(tiny_root, tmp_path / "run", *flags)
    state = torch.load(tmp_path / "run" / "last.pth", weights_only=True)
    assert state["position"] > 0 and state["step"] < 8
    train(tiny_root, tmp_path / "run", *flags)
    assert differing_files(whole, tmp_path / "run") == []


def test_adamw_with_filled_depth_and_any_measurements_goes_on_bit_for_bit(
    tiny_root, tmp_path, signal_at
):
    flags = ["--depth_input", "filled", "--confidence", "--optimizer", "adamw", "--sampler", "any"]
    flags += ["--crop", "random", "--batch_size_train", 2]
    train(tiny_root, tmp_path / "whole", *flags)
    signal_at("autocast", 3)  # the first of two steps of the second epoch
    with pytest.raises(Stopped):
        train(tiny_root, tmp_path / "run", *flags)
    train(tiny_root, tmp_path / "run", *flags)
    assert differing_files(tmp_path / "whole", tmp_path / "run") == []


def test_two_signals_at_once_are_one_request_and_a_later_one_acts(monkeypatch):
    monkeypatch.setattr(signals, "ONE_REQUEST", 0.05)
    request = StopRequest()
    with request.received():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert request.signal is signal.SIGTERM
        time.sleep(0.1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def damage_end(path):
    path.write_bytes(path.read_bytes()[:-5000])


def damage_weights(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_end, damage_weights, os.unlink])
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_used(
    whole, tiny_root, tmp_path, capsys, damage
):
    folder = shutil.copytree(whole, tmp_path / "run")
    damage(folder / "last.pth")
    train(tiny_root, folder)
    assert differing_files(whole, folder) == []
    if damage is not os.unlink:
        assert "going on from previous.pth" in capsys.readouterr().err
        events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert "damaged checkpoint" in {event["event"] for event in events}
        assert (folder / "damaged.pth").exists()


def test_two_damaged_checkpoints_are_an_error_and_stay(tiny_root, tmp_path):
    for name in ("last.pth", "previous.pth"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(CheckpointError, match=r"previous.pth is truncated or not a checkpoint"):
        train(tiny_root, tmp_path)
    assert (tmp_path / "last.pth").exists()


def test_a_checkpoint_that_lacks_a_part_says_which(whole, tiny_root, tmp_path):
    state = torch.load(whole / "last.pth", weights_only=True)
    for part, change in (("optimizer", {"param_groups": 3}), ("rng", {"torch": 1})):
        (tmp_path / part).mkdir()
        torch.save(state | {part: change}, tmp_path / part / "last.pth")
        with pytest.raises(CheckpointError, match=f"cannot be resumed: its {part} is missing or"):
            train(tiny_root, tmp_path / part)


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory):
    """The data of the runs in processes of their own, and what they should come to."""
    base = tmp_path_factory.mktemp("disturbed")
    data = runs.make_frames(base)
    return data, runs.untouched(data, base / "whole")


def test_runs_killed_at_random_moments_end_like_the_one_nobody_touched(disturbed, tmp_path):
    data, whole = disturbed
    rng, happened, saved = random.Random(3), Counter(), Counter()
    # A run takes some 10 seconds on an idle machine.
    wrong = kills.chain(data, tmp_path / "run", whole, rng, 10.0, happened, saved, most=2)
    assert wrong == [] and happened.total() >= 1


def test_a_full_disk_costs_the_newest_file_only(disturbed, tmp_path):
    assert disk.limited_files(disturbed[0], tmp_path / "run", disturbed[1]) == []


def test_a_second_run_on_a_folder_refuses_and_the_first_does_not_notice(disturbed, tmp_path):
    assert twins.twins(disturbed[0], tmp_path / "run", disturbed[1]) == []
