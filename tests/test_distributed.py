"""Two processes of torchrun against one, on CPUs: the same batches, losses and scores."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import eval as eval_script
import train as train_script
from dataloaders import DATA_SETS, DataError, make_loader
from dataloaders.loader import EpochSampler
from engine import distributed
from engine.checkpoint import save_checkpoint
from engine.errors import OptionError
from engine.sync_batchnorm import CPUSyncBatchNorm2d, convert_sync_batchnorm
from engine.training import seed_everything
from models import build_model
from tests.conftest import write_frames

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["--arch", "resnet10_half", "--cspn_step", "2", "--batch_size_train", "4", "--nesterov"]
FLAGS += ["--num_workers", "0", "--device", "cpu", "--sync_batchnorm", "--resume", "auto"]


def torchrun(processes, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*command, f"--nproc_per_node={processes}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Four training frames and three for validation, which two processes cannot halve."""
    return write_frames(tmp_path_factory.mktemp("frames"), n_train=4, n_val=3)


def test_two_processes_train_and_score_like_one_and_one_goes_on_for_two(frames, tmp_path):
    flags = [*FLAGS, "--data_root", str(frames), "--save_dir"]
    done = torchrun(2, "train.py", *flags, tmp_path / "two", "--num_epoch", 1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("epoch 1/1") == 1  # one of them speaks
    train_script.main([*flags, str(tmp_path / "one"), "--num_epoch", "1"])

    one, two = (torch.load(tmp_path / n / "last.pth", weights_only=True) for n in ("one", "two"))
    assert (one["step"], one["epoch"]) == (two["step"], two["epoch"]) == (1, 1)
    seed_everything(0)
    start = dict(build_model("resnet10_half", cspn_steps=2).named_parameters())
    steps = [
        torch.cat([(run["model"][name] - start[name]).flatten().double() for name in start])
        for run in (one, two)
    ]
    # Rounding in float32 moves gradients of this network by half a per cent (against float64);
    # a process that is left out, or normalises by itself, moves them by tens of per cent.
    assert (steps[1] - steps[0]).norm() < 0.02 * steps[0].norm()
    for table in ("train.csv", "eval.csv"):
        (ours,), (theirs,) = rows(tmp_path / "one" / table), rows(tmp_path / "two" / table)
        for column, value in ours.items():
            assert float(theirs[column]) == pytest.approx(float(value), rel=1e-3, abs=1e-4), column
    start = json.loads((tmp_path / "two" / "log.jsonl").read_text().splitlines()[0])
    assert start["processes"] == 2

    # The schedule and the position are those of the whole run, whoever goes on.
    for name in ("one", "two"):
        train_script.main([*flags, str(tmp_path / name), "--num_epoch", "2"])
    ours, theirs = (rows(tmp_path / name / "train.csv") for name in ("one", "two"))
    assert [row["epoch"] for row in theirs] == ["1", "2"]
    assert float(theirs[1]["LOSS"]) == pytest.approx(float(ours[1]["LOSS"]), rel=5e-3)


def test_bad_frames_are_counted_over_all_processes(tmp_path):
    root = write_frames(tmp_path / "frames", n_train=4, n_val=1)
    for number in (1, 3):  # seed 0 gives each process one of them
        (root / "train" / "room_0001" / f"{number:05d}.h5").write_bytes(b"torn")
    flags = [*FLAGS, "--data_root", str(root), "--save_dir", str(tmp_path / "run")]
    done = torchrun(2, "train.py", *flags, "--num_epoch", 1, "--bad_frames", "skip")
    assert done.returncode != 0
    assert "2 of 4 training frames cannot be used in this epoch, more than 1" in done.stderr


def test_two_processes_evaluate_like_one_and_one_of_them_writes(frames, tmp_path):
    state = {"args": {"arch": "resnet10_half", "cspn_step": 2}, "epoch": 1, "scores": {}}
    seed_everything(0)
    state["model"] = build_model("resnet10_half", cspn_steps=2).state_dict()
    save_checkpoint(tmp_path / "run" / "best_model.pth", state)
    flags = ["--resume", tmp_path / "run", "--data_root", frames, "--device", "cpu"]
    flags += ["--num_workers", 0, "--pictures", 1, "--no-baselines", "--save_dir"]
    done = torchrun(2, "eval.py", *flags, tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("3 frames of ") == done.stdout.count("written to") == 1
    eval_script.main([*map(str, flags), str(tmp_path / "one")])
    one, two = (tmp_path / name for name in ("one", "two"))
    assert [row["name"] for row in rows(one / "eval.csv")] == [
        *(f"val/official/0000{i}.h5" for i in (1, 2, 3)),
        "mean",
    ]
    for ours, theirs in zip(rows(one / "eval.csv"), rows(two / "eval.csv"), strict=True):
        assert ours["name"] == theirs["name"]
        assert float(theirs["RMSE"]) == pytest.approx(float(ours["RMSE"]), rel=1e-4)
    drawn = [json.loads((run / "evaluation.json").read_text())["pictures"] for run in (one, two)]
    assert drawn[0] == drawn[1] and "0" in drawn[0]
    pictures = [sorted(p.name for p in (run / "pictures").iterdir()) for run in (one, two)]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 3 * len(drawn[0])


def test_the_processes_batches_are_together_the_batches_of_one():
    whole = EpochSampler(11, shuffle=True, seed=3, batch_size=4)
    shares = [
        EpochSampler(11, shuffle=True, seed=3, batch_size=4, rank=rank, world_size=2)
        for rank in (0, 1)
    ]
    for sampler in (whole, *shares):
        sampler.epoch, sampler.start = 5, 2
    together = [list(share) for share in shares]
    assert [len(share) for share in shares] == [len(keys) for keys in together] == [4, 4]
    batches = [together[r][first : first + 2] for first in (0, 2) for r in (0, 1)]
    assert [key for batch in batches for key in batch] == list(whole)[:8]


def test_evaluation_gives_every_image_to_one_process():
    shares = [EpochSampler(7, shuffle=False, rank=rank, world_size=3) for rank in range(3)]
    assert sorted(index for share in shares for index, _ in share) == list(range(7))


def test_a_batch_that_cannot_be_shared_gets_a_sentence(frames):
    dataset = DATA_SETS["nyudepth"](frames, "train")
    with pytest.raises(DataError, match="a batch of 3 cannot be divided by 2 processes"):
        make_loader(dataset, 3, shuffle=True, world_size=2)
    with pytest.raises(DataError, match="4 frames are fewer than a batch of 8"):
        make_loader(dataset, 8, shuffle=True, world_size=2)


@pytest.mark.parametrize(
    "variables",
    [
        {"LOCAL_RANK": "0"},
        {"LOCAL_RANK": "0", "RANK": "", "WORLD_SIZE": "1", "MASTER_PORT": "29500"},
        {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"},
        {"LOCAL_RANK": "x", "RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "29500"},
        {"LOCAL_RANK": "0", "RANK": "3", "WORLD_SIZE": "2", "MASTER_PORT": "29500"},
        {"LOCAL_RANK": "-1", "RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "29500"},
        {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "99999999"},
    ],
    ids=str,
)
def test_an_environment_that_torchrun_did_not_make_is_a_sentence(variables, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    if "MASTER_PORT" in variables:
        variables = variables | {"MASTER_ADDR": "localhost"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match="unset LOCAL_RANK for one process"):
        distributed.start(torch.device("cpu"))
    monkeypatch.setenv("LOCAL_RANK", "")
    assert distributed.start(torch.device("cpu")) == torch.device("cpu")


def test_synchronised_normalisation_is_plain_normalisation_for_one_process(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    try:
        plain, synced = nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential(nn.BatchNorm2d(3))
        convert_sync_batchnorm(synced, torch.device("cpu"))
        assert type(synced[0]) is CPUSyncBatchNorm2d
        assert list(synced.state_dict()) == list(plain.state_dict())
        features = torch.randn(4, 3, 5, 6) * 3 + 100
        grads = []
        for model in (plain, synced):
            inputs = features.clone().requires_grad_()
            output = model(inputs)
            output.pow(3).sum().backward()
            grads.append((output.detach(), inputs.grad, model[0].weight.grad))
        for ours, theirs in zip(*grads, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
        for name, buffer in plain.state_dict().items():
            torch.testing.assert_close(synced.state_dict()[name], buffer, rtol=1e-4, atol=1e-5)
    finally:
        torch.distributed.destroy_process_group()
