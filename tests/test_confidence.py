"""How far the error that a network expects can be trusted; and the table that says so."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import write_frames
from imageio.v3 import imread

from benchmarks.any_density import CASES, main
from benchmarks.sparsification import coverage, sparsification, sparsification_error
from engine.checkpoint import save_checkpoint
from engine.confidence import calibration_factor
from models import build_model


def laplace(scale, size=(120, 160)):
    """Prediction, expected error and ground truth (1, 1, H, W), half of it four times as sure."""
    torch.manual_seed(0)
    target = torch.full((1, 1, *size), 3.0)
    error = torch.full_like(target, 0.4)
    error[..., : size[1] // 2] = 0.1
    pred = target + torch.distributions.Laplace(0.0, error * scale).sample()
    target[..., :10, :] = 0  # no ground truth
    return pred, error, target


@pytest.mark.parametrize("probability", [0.5, 0.9])
def test_the_interval_of_a_true_scale_covers_what_it_should(probability):
    found = coverage(*laplace(1.0), probability)
    assert abs(found.item() - probability) < 0.01
    assert coverage(*laplace(2.0), probability) < probability - 0.1
    assert coverage(*laplace(0.5), probability) > probability + 0.05


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_a_calibrated_interval_covers_what_it_should(scale):
    pred, error, target = laplace(scale)
    ratios = ((pred - target).abs() / error)[target > 0]
    factor = calibration_factor(ratios)
    assert factor == pytest.approx(scale, rel=0.05)
    assert coverage(pred, factor * error, target).item() == pytest.approx(0.9, abs=1e-3)


def test_dropping_what_is_uncertain_leaves_what_is_right():
    pred, error, target = (value[0, 0] for value in laplace(1.0))
    curve = sparsification(pred, error, target, steps=4)
    valid = target > 0
    expected = (pred - target)[valid].square().mean().sqrt()
    assert curve[0].item() == pytest.approx(expected.item())
    assert curve[2] < 0.5 * curve[0]  # the certain half is left
    assert curve[2].item() == pytest.approx(0.1 * 2**0.5, rel=0.1)


def test_the_area_is_0_for_the_true_order_and_grows_with_disorder():
    pred, error, target = (value[0, 0] for value in laplace(1.0))
    true = (pred - target).abs()
    curves = [sparsification(pred, order, target) for order in (true, error, -error, -true)]
    areas = [sparsification_error(curve, curves[0]) for curve in curves]
    assert areas[0] == 0 and areas == sorted(areas)


def test_one_command_scores_network_and_interpolation_on_the_same_measurements(tmp_path, capsys):
    root = write_frames(tmp_path / "data", n_train=1, n_val=2, size=(240, 320))
    torch.manual_seed(0)
    model = build_model("resnet18", depth_input="filled", confidence=True, cspn_steps=2)
    args = {"arch": "resnet18", "depth_input": "filled", "confidence": True, "cspn_step": 2}
    checkpoint = tmp_path / "run" / "best_model.pth"
    save_checkpoint(checkpoint, {"args": args, "epoch": 1, "model": model.state_dict()})
    cases, out = ["50", "16 lines", "500, 10 % wrong"], tmp_path / "out" / "table.csv"
    command = ["--resume", str(checkpoint), "--set", f"nyu={root}", "--draws", "2"]
    curves = tmp_path / "out" / "curves.png"
    main([*command, "--cases", *cases, "--out", str(out), "--curves", str(curves)])
    assert imread(curves).std() > 10
    table = pd.read_csv(out)
    assert list(table["case"].unique()) == cases and set(cases) <= set(CASES)
    assert list(table["method"]) == ["nearest", "linear", "network"] * 3
    linear = table[table["method"] == "linear"]
    assert (linear["times_linear"] == 1).all() and table["RMSE"].notna().all()
    network = table[table["method"] == "network"]
    assert network[["coverage", "without_fifth", "ause", "RMSE_std"]].notna().all(axis=None)
    assert (network["unit"] < 1e-3).all() and np.isnan(linear["unit"]).all()
    assert "times_linear" in capsys.readouterr().out
