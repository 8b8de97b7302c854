"""Metrics, loss and schedule against the published code's numbers."""

import json

import numpy as np
import pytest
import torch
from golden_weights import GOLDEN
from torch import nn

from engine.errors import RunError
from engine.evaluation import evaluate, mean_scores, with_ground_truth
from engine.metrics import METRICS, EpochScores, depth_loss, depth_metrics
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
    running = EpochScores()
    for block in (slice(0, 2), slice(2, 5)):
        running.update(torch.ones(()), pred[block], target[block])
    expected = depth_metrics(pred, target)
    means = running.means()
    assert means.pop("LOSS") == 1
    for name, value in means.items():
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


def test_a_rate_below_the_schedules_floor_is_never_raised():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-7)
    schedule = ReduceOnPlateau(optimizer)
    for _ in range(20):
        schedule.step(1.0)
    assert optimizer.param_groups[0]["lr"] == 3e-7


def test_images_without_ground_truth_are_nan_and_do_not_enter_means():
    pred = torch.full((2, 1, 3, 3), 2.0)
    target = torch.stack((torch.zeros(1, 3, 3), torch.ones(1, 3, 3)))
    scores = depth_metrics(pred, target)
    assert scores["MAE"][0].isnan() and scores["MAE"][1] == 1
    running = EpochScores()
    running.update(torch.ones(()), pred, target)
    assert running.means()["MAE"] == 1
    rows = [{m: scores[m][i].item() for m in METRICS} for i in range(2)]
    assert mean_scores(rows)["MAE"] == 1
    loss = depth_loss(pred.requires_grad_(), torch.zeros_like(pred))
    loss.backward()
    assert loss == 0 and (pred.grad == 0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_running_mean_shows_a_prediction_that_is_not_finite(value):
    running = EpochScores()
    pred, target = torch.ones(2, 1, 3, 3), torch.ones(2, 1, 3, 3)
    pred[0, 0, 1, 1] = value
    running.update(torch.ones(()), pred, target)
    assert not np.isfinite(running.means()["RMSE"]) and running.sums["count"] == 2


class Constant(nn.Module):
    """Predicts what its one number says at the pixels where `where` is above 0."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, rgbd):
        return torch.where(rgbd[:, :1] > 0, self.value, 1.0)


def batch_of(*pixels):
    """A batch of 4x4 images: for each a pair of the pixels that have ground truth, and of those
    where `Constant` predicts its value."""
    rgbd, depth = torch.zeros(len(pixels), 4, 4, 4), torch.zeros(len(pixels), 1, 4, 4)
    for i, (measured, predicted) in enumerate(pixels):
        depth[i].view(-1)[:measured] = 2.0
        rgbd[i, 0].view(-1)[:predicted] = 1.0
    index = torch.arange(len(pixels))
    return {"rgbd": rgbd, "depth": depth, "name": [f"{i}.h5" for i in index], "index": index}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("amp", ["off", "fp16"])
def test_a_prediction_that_is_not_finite_is_an_error_that_names_the_frame(value, amp):
    loader = [batch_of((16, 0), (0, 3)), batch_of((5, 1), (5, 0))]
    loader[1]["index"] += 2
    loader[1]["name"] = ["2.h5", "3.h5"]
    with pytest.raises(
        RunError, match=r"eval: the depth predicted for 2\.h5 is not finite"
    ) as error:
        evaluate(Constant(value), loader, torch.device("cpu"), amp=amp)
    assert ("bf16" in str(error.value)) == (amp == "fp16")


def test_a_frame_without_ground_truth_has_no_score_whatever_is_predicted():
    rows = evaluate(
        Constant(float("nan")), [batch_of((0, 3), (1, 0), (16, 0))], torch.device("cpu")
    )
    assert [np.isnan(row["RMSE"]) for row in rows] == [True, False, False]
    assert mean_scores(rows)["RMSE"] == 1 and len(with_ground_truth(rows)) == 2


def test_no_ground_truth_at_all_is_an_error():
    with pytest.raises(RunError, match="no image of 2 has ground truth"):
        evaluate(Constant(1.0), [batch_of((0, 0), (0, 0))], torch.device("cpu"))


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


def test_a_finished_cosine_goes_on_along_the_longer_one():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    schedule = build_schedule("cosine", optimizer, 2)
    for _ in range(2):
        schedule.step(1.0)
    longer = build_schedule("cosine", optimizer, 4)
    longer.load_state_dict(schedule.state_dict())
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.005)
    longer.set_lr(0.002)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
