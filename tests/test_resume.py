"""Whose settings a run takes that goes on, what starts anew, and what is never replaced."""

import csv
import json
import shutil

import pytest
import torch
from conftest import write_frames
from golden_weights import golden_state_dict

import train as train_script
from engine.config import TrainConfig
from engine.errors import CheckpointError, OptionError
from engine.flags import Resume

SMALL = ["--arch", "resnet10_half", "--cspn_step", "2"]
SMALL += ["--batch_size_train", "2", "--num_workers", "0"]
OWN = ["--rgb_encoding", "normalized", "--cspn_norm_type", "8sum_abs", "--n_sample", "100"]
OWN += ["--lr_schedule", "cosine", "--num_epoch", "2", "--refine", "none", "--seed", "3"]


def train(*flags):
    train_script.main([*map(str, flags)])


def args_of(folder):
    return json.loads((folder / "args.json").read_text())["args"]


def rates(folder):
    with (folder / "train.csv").open(newline="") as stream:
        return [float(row["lr"]) for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def finished(tiny_root, tmp_path_factory):
    """A run of two epochs with settings of its own."""
    folder = tmp_path_factory.mktemp("resume") / "run"
    train(*SMALL, *OWN, "--data_root", tiny_root, "--save_dir", folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def test_a_run_keeps_its_settings_without_their_flags(run):
    before = args_of(run)
    train("--save_dir", run, "--resume", "--num_epoch", 3)
    of_this_call = {"save_dir", "resume", "num_epoch"}
    after = args_of(run)
    assert {k: v for k, v in after.items() if k not in of_this_call} == {
        k: v for k, v in before.items() if k not in of_this_call
    }
    assert after["num_epoch"] == 3
    assert torch.load(run / "last.pth", weights_only=True)["args"] == after


def test_a_finished_cosine_run_goes_on_at_the_longer_runs_rate(run):
    train("--save_dir", run, "--resume", "--num_epoch", 4)
    assert rates(run) == pytest.approx([0.01, 0.005, 0.005, 0.00146447], rel=1e-4)


def test_the_rate_and_the_optimisers_settings_follow_the_flags(run, capsys):
    flags = ["--lr", 0.002, "--momentum", 0.5, "--nesterov", "--weight_decay", 0]
    train("--save_dir", run, "--resume", "--num_epoch", 4, *flags)
    assert rates(run)[2] == pytest.approx(0.001)  # halfway along the cosine
    (group,) = torch.load(run / "last.pth", weights_only=True)["optimizer"]["param_groups"]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.5, True, 0)
    assert args_of(run)["lr"] == 0.002
    assert "from now on --lr 0.002, so far --lr 0.01" in capsys.readouterr().out


def test_a_plateau_rate_follows_the_flag_once(tiny_root, tmp_path):
    where = ["--data_root", tiny_root, "--save_dir", tmp_path, "--resume", "auto"]
    train(*SMALL, *where, "--num_epoch", 1)
    train(*where, "--num_epoch", 2, "--lr", 0.003)
    assert rates(tmp_path) == [0.01, 0.003]
    train(*where, "--num_epoch", 3)
    assert rates(tmp_path) == [0.01, 0.003, 0.003]


FIXED = {
    "n_sample": "500",
    "sampler": "exact",
    "noise": "0.1",
    "outliers": "0.1",
    "depth_input": "filled",
    "optimizer": "adamw",
    "crop": "random",
    "rgb_encoding": "released",
    "depth_resize": "hole_aware",
    "data_set": "kitti",
    "arch": "resnet50",
    "refine": "cspn",
    "model": "cspn_unet",
    "cspn_step": "24",
    "cspn_kernel_size": "5",
    "cspn_norm_type": "8sum",
    "cspn_anchor": "sparse",
    "lr_schedule": "plateau",
    "batch_size_train": "4",
    "accumulate": "2",
    "holdout": "0.5",
    "seed": "0",
}


@pytest.mark.parametrize("name", FIXED)
def test_what_changes_the_meaning_of_numbers_is_refused(finished, name):
    before = (finished / "args.json").read_bytes()
    flag = "--refine cspn" if name == "model" else f"--{name} {FIXED[name]}"
    with pytest.raises(OptionError, match=f"was trained with .*, and {flag} would change what"):
        train("--save_dir", finished, "--resume", "--num_epoch", 3, f"--{name}", FIXED[name])
    assert (finished / "args.json").read_bytes() == before


def test_every_flag_has_a_rule():
    rules = {name: field.metadata["resume"] for name, field in TrainConfig.fields().items()}
    assert set(rules.values()) == set(Resume)
    fixed = {name for name, rule in rules.items() if rule is Resume.FIXED}
    assert fixed - set(FIXED) == {"pretrain", "confidence"}  # those without a value


def test_moved_data_are_followed_and_other_data_refused(run, tiny_root, tmp_path):
    moved = shutil.copytree(tiny_root, tmp_path / "moved")
    train("--save_dir", run, "--resume", "--num_epoch", 3, "--data_root", moved)
    assert args_of(run)["data_root"] == str(moved)
    other = write_frames(tmp_path / "other", n_train=4, size=(120, 176))
    with pytest.raises(OptionError, match=r"--data_root .*other would change what its numbers"):
        train("--save_dir", run, "--resume", "--num_epoch", 4, "--data_root", other)


def test_a_changed_validation_set_resets_the_best(tmp_path, capsys):
    root = write_frames(tmp_path / "frames")
    where = ["--data_root", root, "--save_dir", tmp_path / "run", "--resume", "auto"]
    train(*SMALL, *where, "--num_epoch", 1)
    state = torch.load(tmp_path / "run" / "last.pth", weights_only=True)
    torch.save(state | {"best_rmse": 1e-3}, tmp_path / "run" / "last.pth")
    train(*where, "--num_epoch", 2)
    assert torch.load(tmp_path / "run" / "last.pth", weights_only=True)["best_rmse"] == 1e-3
    (root / "val" / "official" / "00002.h5").unlink()
    train(*where, "--num_epoch", 3)
    assert "validation frames have changed (1, before 2)" in capsys.readouterr().out
    assert torch.load(tmp_path / "run" / "last.pth", weights_only=True)["best_rmse"] > 1e-3
    assert torch.load(tmp_path / "run" / "best_model.pth", weights_only=True)["epoch"] == 3


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_finished_run_named_for_other_data_is_a_fine_tuning(finished, tmp_path, capsys, epochs):
    far = write_frames(tmp_path / "far", n_train=2, n_val=1)
    flags = ["--data_root", far, "--save_dir", tmp_path / "new", "--resume", finished]
    train(*flags, "--num_epoch", epochs, "--batch_size_train", 2, "--num_workers", 0)
    out = capsys.readouterr().out
    assert "started from the weights of" in out and f"epoch {epochs}/{epochs}" in out
    assert ": this is a new run, from its weights" in out
    assert len(rates(tmp_path / "new")) == epochs
    assert (tmp_path / "new" / "best_model.pth").exists()
    args = args_of(tmp_path / "new")  # the network and its input are the checkpoint's
    assert (args["refine"], args["rgb_encoding"], args["n_sample"]) == ("none", "normalized", 100)
    assert (args["lr_schedule"], args["data_root"]) == ("plateau", str(far))


def test_an_unfinished_run_goes_on_in_another_folder_with_a_best_of_its_own(
    finished, tmp_path, capsys
):
    flags = ["--save_dir", tmp_path / "new", "--resume", finished, "--num_epoch", 3]
    train(*flags)
    assert "so the best score starts anew" in capsys.readouterr().out
    assert len(rates(tmp_path / "new")) == 3
    best = torch.load(tmp_path / "new" / "best_model.pth", weights_only=True)
    assert best["epoch"] == 3
    assert args_of(tmp_path / "new")["run_id"] != args_of(finished)["run_id"]


def test_a_run_that_is_named_goes_on_in_its_own_folder(run):
    train("--resume", run, "--num_epoch", 3)
    assert len(rates(run)) == 3


def test_a_finished_run_says_that_nothing_is_left(finished, capsys):
    train("--save_dir", finished, "--resume")
    assert "nothing left to train: 2 epochs are done" in capsys.readouterr().out


@pytest.mark.parametrize("resume", [(), ("--resume", "auto")])
def test_the_authors_file_in_the_run_folder_survives(tiny_root, tmp_path, resume):
    published = {f"module.{k}": v for k, v in golden_state_dict("resnet18", dead=True).items()}
    torch.save(published, tmp_path / "best_model.pth")
    before = (tmp_path / "best_model.pth").read_bytes()
    with pytest.raises(OptionError, match=r"best_model\.pth"):
        train(*SMALL, "--data_root", tiny_root, "--save_dir", tmp_path, *resume)
    assert {path.name for path in tmp_path.iterdir()} <= {"best_model.pth", ".lock"}
    assert (tmp_path / "best_model.pth").read_bytes() == before


@pytest.mark.parametrize("name", ["train.csv", "eval.csv", "previous.pth", "last.pth"])
def test_what_another_run_left_survives(tiny_root, tmp_path, name):
    (tmp_path / name).write_text("epoch,RMSE\n1,0.5\n")
    for resume in ((), ("--resume", "auto")):
        with pytest.raises((OptionError, CheckpointError), match=name):
            train(*SMALL, "--data_root", tiny_root, "--save_dir", tmp_path, *resume)
    assert (tmp_path / name).read_text() == "epoch,RMSE\n1,0.5\n"


def test_a_run_killed_between_its_first_two_files_starts_anew(run, tiny_root, capsys):
    for name in ("last.pth", "previous.pth", "train.csv", "eval.csv"):
        (run / name).unlink()
    flags = [*SMALL, *OWN, "--data_root", tiny_root, "--save_dir", run, "--resume", "auto"]
    train(*flags, "--num_epoch", 1)
    assert "epoch 1/1" in capsys.readouterr().out and (run / "last.pth").exists()


def test_another_runs_settings_and_damaged_files_are_kept(tiny_root, run, tmp_path):
    folder = tmp_path / "early"
    folder.mkdir()
    (folder / "args.json").write_text('{"args": {"lr": 7, "run_id": "another"}}')
    train(*SMALL, "--data_root", tiny_root, "--save_dir", folder, "--num_epoch", 1)
    assert "another" in (folder / "args_before.json").read_text()
    (run / "damaged.pth").write_bytes(b"kept")
    (run / "last.pth").write_bytes(b"PK torn")
    train("--save_dir", run, "--resume", "--num_epoch", 2)
    assert (run / "damaged.pth").read_bytes() == b"kept"
    assert (run / "damaged_2.pth").read_bytes() == b"PK torn"


def test_a_file_for_a_run_folder_gets_a_sentence(tiny_root, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OptionError, match=r"--save_dir .* but .*file is a file"):
            train(*SMALL, "--data_root", tiny_root, "--save_dir", path)


def test_a_held_out_scene_and_a_list_of_validation_frames_exclude_each_other(tiny_root, tmp_path):
    (tmp_path / "val.csv").write_text("Name\nval/official/00001.h5\n")
    flags = ["--holdout", 0.5, "--eval_list", tmp_path / "val.csv", "--save_dir", tmp_path / "run"]
    with pytest.raises(OptionError, match=r"held-out scenes are training scenes \(--holdout\)"):
        train(*SMALL, "--data_root", tiny_root, *flags)
