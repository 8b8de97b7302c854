"""Metrics, loss and schedule against the published code's numbers."""

import json

import numpy as np
import pytest
import torch
from golden_weights import GOLDEN

from engine.evaluation import mean_scores
from engine.loss import depth_loss
from engine.metrics import METRICS, RunningMetrics, depth_metrics
from engine.schedule import ReduceOnPlateau, build_schedule


def golden_images():
    golden = np.load(GOLDEN / "metrics.npz")
    published = json.loads((GOLDEN / "metrics.json").read_text())
    return torch.from_numpy(golden["pred"]), torch.from_numpy(golden["gt"]), published


def test_metrics_are_the_published_ones_but_for_negative_predictions_and_lg10():
    pred, target, published = golden_images()
    scores = depth_metrics(pred, target)
    assert tuple(scores) == METRICS
    negative_images = 0
    for i, expected in enumerate(published):
        valid = target[i] > 1e-4
        negative = ((pred[i] <= 0) & valid).sum().item() / valid.sum().item()
        negative_images += negative > 0
        for name in METRICS:
            if name == "LG10":
                continue
            # The release counts every negative prediction as correct in all deltas.
            value = expected[name] - (negative if name.startswith("DELTA") else 0)
            assert scores[name][i].item() == pytest.approx(value, rel=1e-5, abs=1e-7), (i, name)
    assert negative_images > 0  # else the deviation above is not exercised


def test_loss_is_the_published_one():
    pred, target, published = golden_images()
    for i, expected in enumerate(published):
        assert depth_loss(pred[i : i + 1], target[i : i + 1]).item() == pytest.approx(
            expected["LOSS"], rel=1e-6
        )


def test_metrics_of_a_case_computed_by_hand():
    target = torch.tensor([[2.0, 4.0, 0.0, 1.0]]).view(1, 1, 2, 2)
    pred = torch.tensor([[2.2, 3.0, 9.0, -1.0]]).view(1, 1, 2, 2)
    scores = {name: value.item() for name, value in depth_metrics(pred, target).items()}
    assert scores["MSE"] == pytest.approx((0.04 + 1 + 4) / 3)
    assert scores["RMSE"] == pytest.approx(((0.04 + 1 + 4) / 3) ** 0.5)
    assert scores["MAE"] == pytest.approx((0.2 + 1 + 2) / 3)
    assert scores["ABS_REL"] == pytest.approx((0.1 + 0.25 + 2) / 3)
    assert scores["LG10"] == pytest.approx((np.log10(1.1) + np.log10(4 / 3) + 4) / 3, rel=1e-5)
    assert scores["DELTA1.05"] == 0
    assert scores["DELTA1.25"] == pytest.approx(1 / 3)  # 1.1; 4/3 and -1 are out
    assert scores["DELTA1.25^2"] == pytest.approx(2 / 3)


def test_running_metrics_average_over_images_not_batches():
    pred, target, _ = golden_images()
    running = RunningMetrics()
    for block in (slice(0, 2), slice(2, 5)):
        running.update(depth_metrics(pred[block], target[block]))
    expected = depth_metrics(pred, target)
    for name, value in running.means().items():
        assert value == pytest.approx(expected[name].double().mean().item(), rel=1e-6)


def test_metrics_refuse_shapes_that_differ():
    with pytest.raises(ValueError, match="must both be"):
        depth_metrics(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3))


def test_the_learning_rate_follows_the_published_schedule():
    golden = json.loads((GOLDEN / "lr_schedule.json").read_text())
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    schedule = ReduceOnPlateau(optimizer)
    for epoch, (mae, lr) in enumerate(zip(golden["mae"], golden["lr_after_epoch"], strict=True)):
        if epoch == 22:  # a resumed schedule goes on where it was
            state = schedule.state_dict()
            schedule = ReduceOnPlateau(optimizer)
            schedule.load_state_dict(state)
        schedule.step(mae)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(lr), epoch
    for _ in range(40):
        schedule.step(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-6)


def test_images_without_ground_truth_are_nan_and_do_not_enter_means():
    pred = torch.full((2, 1, 3, 3), 2.0)
    target = torch.stack((torch.zeros(1, 3, 3), torch.ones(1, 3, 3)))
    scores = depth_metrics(pred, target)
    assert scores["MAE"][0].isnan() and scores["MAE"][1] == 1
    running = RunningMetrics()
    running.update(scores)
    assert running.means()["MAE"] == 1
    rows = [{m: scores[m][i].item() for m in METRICS} for i in range(2)]
    assert mean_scores(rows)["MAE"] == 1
    loss = depth_loss(pred.requires_grad_(), torch.zeros_like(pred))
    loss.backward()
    assert loss == 0 and (pred.grad == 0).all()


def test_the_cosine_schedule_ends_at_zero_and_resumes():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    schedule = build_schedule("cosine", optimizer, 4)
    rates = []
    for epoch in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        if epoch == 2:
            state = schedule.state_dict()
            schedule = build_schedule("cosine", optimizer, 4)
            schedule.load_state_dict(state)
        schedule.step(1.0)
    assert rates == pytest.approx([0.01, 0.00853553, 0.005, 0.00146447], rel=1e-4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)
