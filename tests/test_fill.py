"""Filling in sparse depth, and the networks that read it: any number of measurements, any unit."""

import numpy as np
import pytest
import torch

from dataloaders.sampling import Measurements, measure, sample_sparse_depth
from engine.baselines import interpolate_linear
from engine.confidence import relative_loss
from models import build_model
from models.fill import LEVELS, fill_depth


def scene(height=114, width=152):
    """(H, W) metres: a sloping floor, a wall and two boxes before it."""
    y, x = np.mgrid[:height, :width] / width
    depth = np.minimum(1 / (0.1 + y), 3.0 + 0.5 * np.sin(3 * x))
    depth[40:90, 20:60] = 1.8 + 0.2 * x[40:90, 20:60]
    depth[30:70, 90:130] = 2.2 - 0.3 * y[30:70, 90:130]
    return depth.astype(np.float32)


def filled(sparse_depth):
    return fill_depth(torch.from_numpy(sparse_depth)[None, None])


def rmse(depth, truth):
    return float(np.sqrt(((np.asarray(depth).squeeze() - truth) ** 2).mean()))


@pytest.mark.parametrize("count", [5, 50, 500, 5000])
def test_filled_depth_is_about_as_good_as_linear_interpolation(count):
    truth, errors = scene(), {"filled": 0.0, "linear": 0.0}
    for seed in range(6):
        sparse_depth = sample_sparse_depth(truth, count, "exact", np.random.default_rng(seed))
        errors["filled"] += rmse(filled(sparse_depth).depth, truth)
        errors["linear"] += rmse(interpolate_linear(sparse_depth), truth)
    assert errors["filled"] < 1.05 * errors["linear"]


def test_wrong_measurements_count_less_and_harm_less():
    truth, rng = scene(), np.random.default_rng(0)
    right = sample_sparse_depth(truth, 500, "exact", rng)
    wrong = right.copy()
    places = rng.choice(np.flatnonzero(right), 25, replace=False)
    wrong.flat[places] *= 2
    result = filled(wrong)
    weight = result.weight.numpy().ravel()
    others = np.setdiff1d(np.flatnonzero(right), places)
    assert weight[places].mean() < 0.2 < 0.8 < weight[others].mean()
    assert rmse(result.depth, truth) < 0.7 * rmse(interpolate_linear(wrong), truth)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 700), (300, 41)])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_or_no_measurements_give_finite_depth_everywhere(size, count):
    sparse_depth = np.zeros(size, np.float32)
    sparse_depth.flat[np.random.default_rng(0).integers(0, sparse_depth.size, count)] = 2.5
    result = filled(sparse_depth)
    assert all(value.isfinite().all() for value in result)
    torch.testing.assert_close(result.depth, torch.full_like(result.depth, 2.5 * (count > 0)))
    assert result.scale.item() == pytest.approx(2.5 if count else 1.0)
    if not count:
        assert (result.log_distance == LEVELS + 1).all()


def test_the_distance_to_a_measurement_is_about_its_logarithm():
    sparse_depth = np.zeros((257, 257), np.float32)
    sparse_depth[128, 128] = 1
    log_distance = filled(sparse_depth).log_distance[0, 0, 128]
    for distance in (4, 16, 64):
        assert abs(log_distance[128 + distance] - np.log2(distance)) < 1


def network(**options):
    """A network whose every head says something."""
    torch.manual_seed(0)
    model = build_model("resnet18", depth_input="filled", cspn_steps=4, **options)
    torch.nn.init.normal_(model.decoder.heads.weight.data[:, 0], std=0.01)
    return model


def rgbd(*sampler, size=(96, 128)):
    truth = scene(*size)
    measurements = Measurements(*sampler)
    rgb = np.random.default_rng(1).integers(0, 256, (3, *size), np.uint8)
    sparse_depth = measure(rgb, truth, measurements, np.random.default_rng(2))
    return torch.from_numpy(np.concatenate((rgb / np.float32(255), sparse_depth[None])))[None]


@pytest.mark.parametrize("unit", [1000.0, 3.28084, 0.001])
def test_depth_and_error_scale_with_the_unit_of_the_measurements(unit):
    model, metres = network(confidence=True).eval(), rgbd("exact", 200, 0.02, 0.1)
    other = metres.clone()
    other[:, 3] *= unit
    with torch.no_grad():
        expected, found = model(metres, with_error=True), model(other, with_error=True)
    for one, two in zip(expected, found, strict=True):
        difference = (two / unit - one).abs().max()
        assert difference < 1e-3 * one.abs().mean()


def test_a_filled_network_starts_from_the_filled_depth():
    model = build_model("resnet18", depth_input="filled", refine="none").eval()
    x = rgbd("exact", 100)
    with torch.no_grad():
        torch.testing.assert_close(model(x), fill_depth(x[:, 3:]).depth)


def test_without_a_measurement_depth_and_error_are_finite():
    x = rgbd("exact", 0)
    with torch.no_grad():
        depth, error = network(confidence=True).eval()(x, with_error=True)
    assert depth.isfinite().all() and error.isfinite().all() and (error > 0).all()


@pytest.mark.parametrize("confidence", [True, False])
def test_every_parameter_of_a_filled_network_receives_a_gradient(confidence):
    model, x = network(confidence=confidence), rgbd("exact", 100)
    depth, error = model(torch.cat((x, x.flip(-1))), with_error=True)
    assert (error is not None) == confidence == model.estimates_error
    (depth.square().mean() + (error.mean() if confidence else 0)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_published_network_has_nothing_of_the_error_nor_other_channels():
    published, filled_in = build_model("resnet18"), network(confidence=True)
    added = set(filled_in.state_dict()) - set(published.state_dict())
    assert added == {"decoder.error_head.weight", "log_error_offset"}
    assert published.encoder.conv1_1.weight.shape[1] == 4
    assert filled_in.encoder.conv1_1.weight.shape[1] == 7


def test_an_unknown_depth_input_gets_a_sentence():
    with pytest.raises(ValueError, match="depth_input must be one of sparse, filled, got 'dense'"):
        build_model("resnet18", depth_input="dense")


def test_the_relative_loss_has_no_unit_and_counts_images_alike():
    torch.manual_seed(0)
    target = torch.rand(2, 1, 8, 8) + 1
    target[:, :, :3] = 0  # no ground truth
    pred, error = target + torch.randn(2, 1, 8, 8) / 10, torch.rand(2, 1, 8, 8) / 5 + 0.01
    scale = torch.tensor([1.0, 1000.0])[:, None, None, None]
    losses = [relative_loss(pred * s, error * s, target * s) for s in (1, scale)]
    torch.testing.assert_close(*losses)


def test_the_relative_loss_is_least_where_the_error_is_the_mean_absolute_one():
    torch.manual_seed(0)
    target = torch.full((1, 1, 100, 100), 2.0)
    pred = target + torch.distributions.Laplace(0.0, 0.3).sample(target.shape)
    true = (pred - target).abs().mean()
    errors = torch.tensor([0.5, 0.9, 1.0, 1.1, 2.0]) * true
    gradients = []
    for error in errors:
        error = error.expand(target.shape).clone().requires_grad_()
        relative_loss(pred, error, target).backward()
        gradients.append(error.grad.sum().item())
    assert gradients[0] < gradients[1] < 0 < gradients[3]
    assert abs(gradients[2]) < 1e-3 * abs(gradients[0])


def test_an_image_without_ground_truth_adds_nothing_to_the_relative_loss():
    pred = torch.ones(1, 1, 4, 4, requires_grad=True)
    loss = relative_loss(pred, torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    loss.backward()
    assert loss == 0 and (pred.grad == 0).all()
