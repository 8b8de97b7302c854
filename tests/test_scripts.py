"""train.py and eval.py as a user runs them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_frame, write_frames
from golden_weights import golden_state_dict
from PIL import Image

import eval as eval_script
import train as train_script
from engine.checkpoint import save_checkpoint
from engine.cli import exit_code
from engine.metrics import METRICS
from models import build_model, convert_released_state_dict

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--arch", "resnet10_half", "--cspn_step", "4"]
SMALL += ["--batch_size_train", "2", "--num_workers", "0"]


def train(*flags):
    train_script.main([*SMALL, *map(str, flags)])


def evaluate(*flags):
    eval_script.main(["--num_workers", "0", *map(str, flags)])


def read_csv(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def run(tiny_root, tmp_path_factory):
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "two_epochs"
    train("--data_root", tiny_root, "--save_dir", folder, "--num_epoch", 2, "--nesterov")
    return folder


def test_a_run_leaves_every_file_it_promises(run):
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "args.json",
        "best_model.pth",
        "curves.png",
        "eval.csv",
        "last.pth",
        "log.jsonl",
        "train.csv",
    }
    for table in ("train", "eval"):
        rows = read_csv(run / f"{table}.csv")
        assert [row["epoch"] for row in rows] == ["1", "2"]
        assert set(METRICS) | {"lr", "is_best"} <= rows[0].keys()
        assert rows[0]["is_best"] == "1"
        assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    assert json.loads((run / "args.json").read_text())["args"]["nesterov"] is True
    events = [json.loads(line)["event"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert events == ["start", "epoch", "epoch", "end"]


def test_training_reduces_the_training_loss(run):
    losses = [float(row["LOSS"]) for row in read_csv(run / "train.csv")]
    assert losses[1] < losses[0]


def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(run, tiny_root, tmp_path):
    flags = ["--data_root", tiny_root, "--save_dir", tmp_path / "run", "--nesterov"]
    train(*flags, "--num_epoch", 1)
    train(*flags, "--num_epoch", 2, "--resume")
    whole = torch.load(run / "last.pth", weights_only=True)
    resumed = torch.load(tmp_path / "run" / "last.pth", weights_only=True)
    for key, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][key]), key
    for index, state in whole["optimizer"]["state"].items():
        buffer = resumed["optimizer"]["state"][index]["momentum_buffer"]
        assert torch.equal(state["momentum_buffer"], buffer)
    assert resumed["schedule"] == whole["schedule"]
    assert resumed["best_rmse"] == whole["best_rmse"]
    for table in ("train.csv", "eval.csv"):
        assert (run / table).read_text() == (tmp_path / "run" / table).read_text()


def test_the_same_seed_gives_bit_identical_checkpoints_whatever_the_workers(tiny_root, tmp_path):
    for workers in (0, 2):
        flags = ["--data_root", tiny_root, "--save_dir", tmp_path / str(workers)]
        train(*flags, "--num_epoch", 1, "--seed", 5, "--num_workers", workers)
    one, two = (torch.load(tmp_path / w / "last.pth", weights_only=True) for w in "02")
    assert all(torch.equal(value, two["model"][key]) for key, value in one["model"].items())
    assert one["best_rmse"] == two["best_rmse"]
    other = ["--data_root", tiny_root, "--save_dir", tmp_path / "6", "--num_epoch", 1, "--seed", 6]
    train(*other)
    different = torch.load(tmp_path / "6" / "last.pth", weights_only=True)["model"]
    assert not torch.equal(
        different["encoder.conv1_1.weight"], one["model"]["encoder.conv1_1.weight"]
    )


def test_a_held_out_scene_chooses_the_best_epoch(tmp_path, capsys):
    root = write_frames(tmp_path / "frames", n_train=2, n_val=1)
    (root / "train" / "room_0002").mkdir()
    (root / "train" / "room_0001" / "00002.h5").rename(root / "train" / "room_0002" / "00002.h5")
    flags = ["--data_root", root, "--save_dir", tmp_path / "run", "--batch_size_train", 1]
    train(*flags, "--num_epoch", 1, "--holdout", 0.5)
    assert "1 training and 1 validation frames" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "args.json").read_text())["args"]["holdout"] == 0.5
    evaluate("--resume", tmp_path / "run", "--eval_split", "held_out", "--pictures", 0)
    own, mean = read_csv(tmp_path / "run" / "eval_result" / "eval.csv")
    assert own["name"].startswith("train/")
    (trained,) = read_csv(tmp_path / "run" / "eval.csv")
    assert float(mean["RMSE"]) == pytest.approx(float(trained["RMSE"]), rel=1e-5)


def test_weights_exported_under_the_releases_names_round_trip(tiny_root, tmp_path, capsys):
    saved = build_model("resnet18").state_dict()
    args = {"arch": "resnet18", "data_root": str(tiny_root)}
    state = {"args": args, "epoch": 1, "scores": {}, "model": saved}
    save_checkpoint(tmp_path / "run" / "best_model.pth", state)
    evaluate("--resume", tmp_path / "run", "--export-released", tmp_path / "released.pth")
    assert "under the release's names" in capsys.readouterr().out
    exported = torch.load(tmp_path / "released.pth", weights_only=True)
    assert "gud_up_proj_layer1.conv1.weight" in exported
    back = convert_released_state_dict(exported)
    assert back.keys() == saved.keys()
    assert all(torch.equal(back[key], saved[key]) for key in saved)


def test_an_evaluation_replaces_neither_a_runs_table_nor_a_checkpoint(run, tmp_path):
    from engine.errors import OptionError

    table, weights = (run / "eval.csv").read_bytes(), (run / "best_model.pth").read_bytes()
    with pytest.raises(OptionError, match=r"--save_dir .* is a run folder"):
        evaluate("--resume", run, "--save_dir", run)
    with pytest.raises(OptionError, match=r"best_model\.pth exists, and a checkpoint is never"):
        evaluate("--resume", run, "--export-released", run / "best_model.pth")
    with pytest.raises(OptionError, match="no scenes were held out"):
        evaluate("--resume", run, "--eval_split", "held_out", "--save_dir", tmp_path)
    assert (run / "eval.csv").read_bytes() == table
    assert (run / "best_model.pth").read_bytes() == weights


def test_a_run_is_never_overwritten_without_being_told(run, tiny_root):
    from engine.errors import OptionError

    with pytest.raises(OptionError, match=r"already holds a run \(.*; go on with --resume"):
        train("--data_root", tiny_root, "--save_dir", run)
    other = run / "best_model.pth"
    with pytest.raises(OptionError, match="already holds another run than"):
        train("--data_root", tiny_root, "--save_dir", run, "--resume", other)


def test_max_steps_ends_a_run_early(tiny_root, tmp_path):
    train("--data_root", tiny_root, "--save_dir", tmp_path, "--max_steps", 1)
    assert torch.load(tmp_path / "last.pth", weights_only=True)["step"] == 1


def test_evaluation_reads_its_settings_from_the_checkpoint(run, tiny_root, capsys):
    evaluate("--resume", run / "best_model.pth", "--pictures", 1)
    text = capsys.readouterr().out
    assert "this project's checkpoint, cspn_unet resnet10_half" in text
    assert "propagation: 4 steps, 8sum, coarse" in text
    result = run / "eval_result"
    rows = read_csv(result / "eval.csv")
    assert [row["name"] for row in rows] == [
        "val/official/00001.h5",
        "val/official/00002.h5",
        "mean",
    ]
    for metric in METRICS:
        mean = np.mean([float(row[metric]) for row in rows[:2]])
        assert float(rows[2][metric]) == pytest.approx(mean, rel=1e-4)
    summary = {row["method"]: row for row in read_csv(result / "summary.csv")}
    assert set(summary) == {"cspn_unet", "nearest", "linear"}
    # The run's own validation and this evaluation are one protocol.
    best = min(read_csv(run / "eval.csv"), key=lambda row: float(row["RMSE"]))
    assert float(summary["cspn_unet"]["RMSE"]) == pytest.approx(float(best["RMSE"]), rel=1e-5)
    # The first image by --pictures 1; the best and the worst are the only two there are.
    assert sorted(p.name for p in (result / "pictures").iterdir()) == [
        f"000{index}_{kind}.png" for index in (0, 1) for kind in ("affinity", "depth", "strip")
    ]
    recorded = json.loads((result / "evaluation.json").read_text())
    assert recorded["pictures"] == {"0": "val/official/00001.h5", "1": "val/official/00002.h5"}
    assert recorded["frames"] == 2 and recorded["args"]["n_sample"] == 500
    assert not (run / "report.html").exists()  # asked for a file, not for the run
    assert np.array(Image.open(result / "pictures" / "0000_depth.png")).shape == (228, 304)


def test_repeats_give_mean_and_deviation_over_sampling_seeds(run, tmp_path):
    evaluate("--resume", run, "--repeat", 2, "--pictures", 0, "--save_dir", tmp_path)
    rows = read_csv(tmp_path / "eval.csv")
    assert "mean of 2 draws" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not (run / "report.html").exists()  # --save_dir takes the page along
    assert [row["seed"] for row in rows] == ["0", "0", "1", "1", "all"]
    per_seed = [np.mean([float(r["RMSE"]) for r in rows if r["seed"] == s]) for s in "01"]
    summary = {row["method"]: row for row in read_csv(tmp_path / "summary.csv")}["cspn_unet"]
    assert float(summary["RMSE"]) == pytest.approx(np.mean(per_seed), rel=1e-4)
    assert float(summary["RMSE_std"]) == pytest.approx(np.std(per_seed, ddof=1), rel=0.02)
    assert float(summary["RMSE_std"]) > 0


def test_batch_size_does_not_change_the_scores(run, tmp_path):
    for size in (1, 2):
        flags = ["--resume", run, "--pictures", 0, "--batch_size_eval", size, "--no-baselines"]
        evaluate(*flags, "--save_dir", tmp_path / str(size))
    one, two = (read_csv(tmp_path / size / "eval.csv") for size in "12")
    for a, b in zip(one, two, strict=True):
        assert float(a["RMSE"]) == pytest.approx(float(b["RMSE"]), rel=1e-4)


def test_published_files_and_ours_score_the_same(tiny_root, tmp_path, capsys):
    state = golden_state_dict("resnet18", dead=True)
    published = tmp_path / "published" / "best_model.pth"
    published.parent.mkdir()
    torch.save({f"module.{key}": value for key, value in state.items()}, published)
    model = build_model("resnet18")
    model.load_state_dict(convert_released_state_dict(state))
    args = {"arch": "resnet18", "data_root": str(tiny_root)}
    save_checkpoint(
        tmp_path / "ours" / "best_model.pth",
        {"args": args, "epoch": 1, "scores": {}, "model": model.state_dict()},
    )
    common = ["--data_set", "nyudepth", "--pictures", 0, "--no-baselines"]
    evaluate("--resume", published, "--data_root", tiny_root, *common)
    assert "published checkpoint" in (text := capsys.readouterr().out)
    assert "module.conv3.weight" in text
    evaluate("--resume", tmp_path / "ours", *common)
    results = [
        (tmp_path / folder / "eval_result" / "eval.csv").read_text()
        for folder in ("published", "ours")
    ]
    assert results[0] == results[1]


def test_the_unet_alone_trains_and_evaluates(tiny_root, tmp_path):
    train("--data_root", tiny_root, "--save_dir", tmp_path, "--model", "unet", "--max_steps", 1)
    evaluate("--resume", tmp_path, "--pictures", 1)
    assert {row["method"] for row in read_csv(tmp_path / "eval_result" / "summary.csv")} == {
        "unet",
        "nearest",
        "linear",
    }
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "00001.h5" in page and "data:image/jpeg" in page


@pytest.mark.parametrize(
    ("data_set", "folder"), [("nyudepth", "nyudepth_hdf5"), ("kitti", "kitti_hdf5")]
)
def test_training_and_evaluation_run_on_the_real_frames(real_frames, tmp_path, data_set, folder):
    root = real_frames / folder
    flags = ["--data_set", data_set, "--data_root", root, "--save_dir", tmp_path]
    train(*flags, "--num_epoch", 1, "--max_steps", 2)
    evaluate("--resume", tmp_path, "--pictures", 1)
    summary = {r["method"]: r for r in read_csv(tmp_path / "eval_result" / "summary.csv")}
    assert float(summary["linear"]["RMSE"]) > 0
    assert (tmp_path / "eval_result" / "pictures" / "0000_strip.png").is_file()


def test_a_strangers_checkpoint_in_the_published_folder_is_evaluated_as_ours(tmp_path):
    """The authors' instructions: put best_model.pth there, run the script."""
    from sample_data.rooms import generate

    project = tmp_path / "project"
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    for name in listing.stdout.splitlines():
        if not name.startswith("tests/"):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_bytes((ROOT / name).read_bytes())
    generate(project / "data" / "sample_rooms", n_train=0, n_val=2, workers=1, progress=False)

    state = golden_state_dict("resnet18", dead=True)
    model = build_model("resnet18")
    model.load_state_dict(convert_released_state_dict(state))
    ours = {"args": {"arch": "resnet18"}, "epoch": 40, "scores": {}, "model": model.state_dict()}
    tables = []
    for save in (
        lambda path: torch.save({f"module.{k}": v for k, v in state.items()}, path),
        lambda path: save_checkpoint(path, ours),
    ):
        run = project / "output" / "nyu_pretrain_cspn_1_net_cp500_bs8_adlr_ep40_8norm"
        run.mkdir(exist_ok=True)
        save(run / "best_model.pth")
        done = subprocess.run(
            ["bash", "eval_nyudepth_cspn.sh", "--repeat", "1", "--pictures", "1"],
            cwd=project,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHON": sys.executable},
        )
        assert done.returncode == 0, done.stderr
        assert "BUILT-IN SAMPLE ROOMS" in done.stdout
        tables.append((run / "eval_result" / "eval.csv").read_text())
    assert tables[0] == tables[1]


def run_python(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def code_of(script, *arguments):
    """The exit code of a script, run in this process as `run_script` runs it."""
    return exit_code(script.main, [*map(str, arguments)], processes=True)


def broken_root(tmp_path):
    root = write_frames(tmp_path / "broken", n_train=2, n_val=1)
    path = root / "train" / "room_0001" / "00002.h5"
    path.write_bytes(path.read_bytes()[:500])
    return root


def nan_root(tmp_path):
    root = write_frames(tmp_path / "nan", n_train=2, n_val=1)
    write_frame(
        root / "val" / "official" / "00001.h5",
        np.zeros((3, 120, 160), np.uint8),
        np.full((120, 160), np.nan, np.float32),
    )
    return root


@pytest.mark.parametrize(
    ("make_root", "sentence"),
    [
        (lambda tmp: tmp / "nowhere", "is not a folder"),
        (lambda tmp: tmp, "has no folder train/"),
        (broken_root, "00002.h5 is not a readable HDF5 file"),
        (nan_root, "NaN or infinite value"),
    ],
)
def test_bad_data_ends_training_with_one_sentence(make_root, sentence, tmp_path, capfd):
    flags = ["--data_root", make_root(tmp_path), "--save_dir", tmp_path / "run"]
    assert code_of(train_script, *SMALL[:-1], 1, *flags) == 2  # in a worker process
    printed = capfd.readouterr().err
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and sentence in errors[0], printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data_root", "nowhere"], "nowhere"),  # the network in pretrained/
        (["--resume", "nowhere.pth"], "nowhere.pth does not exist"),
        (["--resume", "README.md"], "README.md is"),
        (["--resume", "tests"], "holds no best_model.pth"),
    ],
)
def test_bad_checkpoints_end_evaluation_with_one_sentence(arguments, sentence, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    assert code_of(eval_script, *arguments) == 2
    printed = capfd.readouterr().err
    assert printed.startswith("error: ") and sentence in printed
    assert "Traceback" not in printed


def test_a_checkpoint_of_another_architecture_gets_a_sentence(run):
    done = run_python("eval.py", "--resume", run, "--arch", "resnet50")
    assert done.returncode == 2
    assert "is a checkpoint of another network" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_flags_are_refused_by_name(capsys):
    for flags in (["--batch_size_train", "0"], ["--num_epo", "3"]):
        assert code_of(train_script, *flags) == 2
        assert flags[0] in capsys.readouterr().err
    done = run_python("train.py", "--lr", "-1")
    assert done.returncode == 2 and "--lr" in done.stderr
