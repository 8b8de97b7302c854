"""Checkpoints: round trips, published files, and files that are broken or hostile."""

import pickle

import numpy as np
import pytest
import torch
from golden_weights import golden_state_dict

from engine.checkpoint import (
    FORMAT,
    CheckpointError,
    find_checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from engine.training import random_states, set_random_states
from models import build_model


@pytest.fixture
def saved(tmp_path):
    model = build_model("resnet18", cspn_steps=1)
    state = {
        "args": {"arch": "resnet18", "cspn_step": 1},
        "epoch": 3,
        "scores": {"RMSE": 0.5},
        "model": model.state_dict(),
    }
    save_checkpoint(tmp_path / "run" / "best_model.pth", state)
    return model, tmp_path / "run" / "best_model.pth"


def test_checkpoints_round_trip_and_leave_no_part_behind(saved):
    model, path = saved
    checkpoint = load_checkpoint(find_checkpoint(path.parent))
    assert checkpoint.kind == "this project's"
    assert checkpoint.args["arch"] == "resnet18" and checkpoint.epoch == 3
    other = build_model("resnet18")
    load_weights(other, checkpoint)
    for (name, ours), theirs in zip(
        model.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert [p.name for p in path.parent.iterdir()] == ["best_model.pth"]


def test_a_failed_save_keeps_the_good_file(saved):
    _, path = saved
    before = path.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        save_checkpoint(path, {"model": lambda: None})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["best_model.pth"]


def test_checkpoints_of_another_architecture_or_network_get_a_sentence(saved):
    _, path = saved
    checkpoint = load_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"another network: .* tensors differ, first encoder"):
        load_weights(build_model("resnet50"), checkpoint)
    with pytest.raises(CheckpointError, match=r"decoder\.heads\.weight, expected .* got"):
        load_weights(build_model("resnet18", refine=False), checkpoint)


class Hostile:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_hostile_checkpoint_runs_nothing(tmp_path):
    target = tmp_path / "owned"
    torch.save({"model": Hostile(target)}, tmp_path / "hostile.pth")
    with pytest.raises(CheckpointError, match="all that is loaded"):
        load_checkpoint(tmp_path / "hostile.pth")
    assert not target.exists()


def test_broken_checkpoints_get_a_sentence(saved, tmp_path):
    _, path = saved
    content = path.read_bytes()
    broken = tmp_path / "broken.pth"
    for cut in (0, 10, len(content) // 2, len(content) - 30):
        broken.write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match="broken"):
            load_checkpoint(broken)
    for value, sentence in (
        ([1, 2], "holds a list"),
        ({"format": "other 9"}, "format 'other 9'"),
        ({"format": FORMAT, "model": {}, "epoch": 1}, "lacks its args"),
        ({"format": FORMAT, "model": [], "args": {}, "epoch": 1}, "lacks its model"),
        ({"a": 1}, "neither"),
        ({"fc.weight": torch.zeros(1)}, "another network than the published one"),
    ):
        torch.save(value, broken)
        with pytest.raises(CheckpointError, match=sentence):
            load_checkpoint(broken)
    with pytest.raises(CheckpointError, match="does not exist"):
        find_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(CheckpointError, match=r"holds no best_model\.pth or last\.pth"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("folder", "norm_type"),
    [
        ("nyu_pretrain_cspn_1_net_cp500_bs8_adlr_ep40_8norm", "8sum"),
        ("nyu_pretrain_cspn_1_net_cp500_bs8_adlr_ep40", "8sum_abs"),
        ("elsewhere", "8sum"),
    ],
)
def test_published_checkpoints_are_recognised_with_their_settings(tmp_path, folder, norm_type):
    path = tmp_path / folder / "best_model.pth"
    path.parent.mkdir()
    state = golden_state_dict("resnet18", dead=True)
    torch.save({f"module.{k}": v for k, v in state.items()}, path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.kind == "published"
    assert checkpoint.args["arch"] == "resnet18"
    assert checkpoint.args["cspn_norm_type"] == norm_type
    assert "module.conv3.weight" in checkpoint.dropped
    load_weights(build_model("resnet18"), checkpoint)


def test_random_states_are_restored():
    import random

    states = random_states()
    draws = (torch.rand(2), np.random.rand(2), random.random())  # noqa: NPY002
    set_random_states(states)
    again = (torch.rand(2), np.random.rand(2), random.random())  # noqa: NPY002
    assert torch.equal(draws[0], again[0])
    assert np.array_equal(draws[1], again[1])
    assert draws[2] == again[2]
