"""Checkpoints: round trips, published files, and files that are broken or hostile."""

import pickle
from argparse import Namespace

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
    save_released,
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
        (
            {
                f"{layer}.weight": torch.zeros(())
                for layer in ("encoder.conv1_1", "encoder.conv2", "decoder.heads")
            },
            "another network than the published one",
        ),
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


def wrapped(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.module."])
@pytest.mark.parametrize("container", [(), ("state_dict",), ("model",), ("state_dict", "model")])
def test_weights_saved_the_usual_way_load(prefix, container, tmp_path):
    model = build_model("resnet18", cspn_kernel_size=5)
    content = wrapped(model.state_dict(), prefix)
    for key in container:
        content = {"epoch": 3, "optimizer": {"lr": 0.1}, key: content}
    torch.save(content, tmp_path / "weights.pth")
    checkpoint = load_checkpoint(tmp_path / "weights.pth")
    assert checkpoint.kind == "weights-only" and not checkpoint.training
    assert checkpoint.args == {"arch": "resnet18", "refine": "cspn", "cspn_kernel_size": 5}
    load_weights(build_model("resnet18", cspn_kernel_size=5), checkpoint)


@pytest.mark.parametrize("name", ["code.pth", "models.pth", "constants.pkl.pt", "archive_format"])
def test_the_name_of_a_file_does_not_make_it_another_kind(name, tmp_path):
    torch.save(build_model("resnet18", refine="none").state_dict(), tmp_path / name)
    assert load_checkpoint(tmp_path / name).kind == "weights-only"


def test_a_compiled_part_of_a_network_loads_and_the_architecture_is_told_by_its_shapes(tmp_path):
    refinements = {"none": "resnet18", "spn": "resnet18", "cspn": "resnet10_half"}
    for refine, arch in refinements.items():
        state = build_model(arch, refine=refine).state_dict()
        state = {key.replace("encoder.", "encoder._orig_mod."): v for key, v in state.items()}
        torch.save(state, tmp_path / "weights.pth")
        args = load_checkpoint(tmp_path / "weights.pth").args
        assert args["refine"] == refine and args["arch"] == arch


def test_weights_of_a_width_that_no_network_has_get_a_sentence(tmp_path):
    state = build_model("resnet18").state_dict()
    state["encoder.conv2.weight"] = state["encoder.conv2.weight"][:100]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="has 100 output channels, expected one of 512, 2048"):
        load_checkpoint(tmp_path / "weights.pth")


def test_the_published_names_load_with_any_prefix(tmp_path):
    state = golden_state_dict("resnet18", dead=True)
    torch.save({"state_dict": wrapped(state, "module._orig_mod.")}, tmp_path / "weights.pth")
    checkpoint = load_checkpoint(tmp_path / "weights.pth")
    assert checkpoint.kind == "published"
    assert "module._orig_mod.conv3.weight" in checkpoint.dropped


def test_what_is_taken_for_a_checkpoint_gets_a_true_sentence(tmp_path):
    import safetensors.torch

    path = tmp_path / "weights.pth"
    layer = torch.nn.Conv2d(1, 1, 1)

    def export():
        torch.export.save(
            torch.export.export(layer, (torch.zeros(1, 1, 2, 2),)), tmp_path / "p.pt2"
        )
        (tmp_path / "p.pt2").replace(path)

    def arrays():
        np.savez(tmp_path / "a.npz", a=np.zeros(2))
        (tmp_path / "a.npz").replace(path)

    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    for write, sentence in (
        (lambda: torch.jit.script(layer).save(path), "TorchScript program"),
        (lambda: torch.save(layer, path), r"pickled torch\.nn\.modules\.conv\.Conv2d too"),
        (lambda: torch.save({"args": Namespace(), "model": {}}, path), "argparse.Namespace"),
        (
            lambda: safetensors.torch.save_file(layer.state_dict(), path),
            "state dict of another network",
        ),
        (export, "program of torch.export"),
        (arrays, "archive of NumPy arrays"),
        (lambda: path.write_text(pointer), "pointer of Git LFS"),
        (lambda: path.write_text("<!DOCTYPE html><html>"), "a web page"),
        (lambda: torch.save(layer.state_dict(), path), "state dict of another network"),
        (lambda: torch.save({"state_dict": {"a": 1}}, path), "nor a state dict"),
    ):
        write()
        with pytest.raises(CheckpointError, match=sentence):
            load_checkpoint(path)


def test_memory_that_runs_out_while_reading_is_not_a_damaged_file(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "c.pth", {"args": {}, "epoch": 1, "model": {"a": torch.ones(1)}})

    def load(*args, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(RuntimeError, match="can't allocate"):
        load_checkpoint(tmp_path / "c.pth")


def test_exported_released_weights_are_in_the_format_of_pytorch_0_4(tmp_path):
    path = tmp_path / "released.pth"
    assert save_released(path, build_model("resnet18")) > 100
    with path.open("rb") as stream:  # three pickles of protocol 2 precede the state dict
        assert stream.read(2) == b"\x80\x02"
        stream.seek(0)
        assert pickle.load(stream) == 0x1950A86A20F9469CFC6C  # PyTorch's magic number
        assert pickle.load(stream) == 1001
    assert load_checkpoint(path).kind == "published"
