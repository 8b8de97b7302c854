"""The network in pretrained/: it loads everywhere, and is better than interpolation."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hubconf
from engine.baselines import interpolate_linear
from engine.checkpoint import WEIGHTS, shipped_network
from inference.predictor import Predictor
from sample_data.rooms import render_frame


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_checkpoint(shipped_network(), device="cpu")


@pytest.fixture(scope="module")
def frame() -> tuple[np.ndarray, np.ndarray]:
    """A rendered room that is in no set: (H, W, 3) uint8, (H, W) metres."""
    rgb, depth = render_frame(12345, "val", 0)
    return np.ascontiguousarray(rgb.transpose(1, 2, 0)), depth


def measurements(depth: np.ndarray, count: int) -> np.ndarray:
    chosen = np.random.default_rng(0).choice(depth.size, count, replace=False)
    sparse_depth = np.zeros_like(depth)
    sparse_depth.flat[chosen] = depth.flat[chosen]
    return sparse_depth


def rmse(pred: np.ndarray, depth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((pred - depth)[depth > 0] ** 2)))


@pytest.mark.parametrize(("count", "ratio"), [(20, 0.9), (500, 0.7), (20_000, 0.95)])
def test_any_number_of_measurements_gives_better_depth_than_interpolation(
    predictor, frame, count, ratio
):
    rgb, depth = frame
    sparse_depth = measurements(depth, count)
    prediction = predictor(rgb, sparse_depth)
    assert rmse(prediction.depth, depth) < ratio * rmse(interpolate_linear(sparse_depth), depth)


def test_the_refinement_improves_the_coarse_depth(predictor, frame):
    rgb, depth = frame
    prediction = predictor(rgb, measurements(depth, 500))
    assert rmse(prediction.depth, depth) < rmse(prediction.coarse_depth, depth)


def test_the_unit_of_the_measurements_is_that_of_the_result(predictor, frame):
    rgb, depth = frame
    sparse_depth = measurements(depth, 200)
    metres = predictor(rgb, sparse_depth)
    for unit in (0.3048, 3.0):
        other = predictor(rgb, sparse_depth * np.float32(unit))
        np.testing.assert_allclose(other.depth, metres.depth * unit, rtol=1e-3)
        np.testing.assert_allclose(other.error, metres.error * unit, rtol=1e-3)


def test_the_expected_error_tells_good_pixels_from_bad_ones(predictor, frame):
    rgb, depth = frame
    prediction = predictor(rgb, measurements(depth, 500))
    errors = np.abs(prediction.depth - depth)
    kept = prediction.error <= np.quantile(prediction.error, 0.8)
    assert np.sqrt(np.mean(errors[kept] ** 2)) < 2 / 3 * np.sqrt(np.mean(errors**2))
    assert 0.8 < np.mean(errors < np.log(10) * prediction.error) < 0.99


def test_without_a_measurement_the_result_is_finite(predictor, frame):
    prediction = predictor(frame[0], np.zeros(frame[1].shape, np.float32))
    assert np.isfinite(prediction.depth).all() and np.isfinite(prediction.error).all()


def test_it_is_small_and_torch_hub_finds_it(predictor):
    assert (shipped_network() / WEIGHTS).stat().st_size < 50e6
    network = torch.hub.load(".", "network", source="local", trust_repo=True)
    own, other = predictor.model.state_dict(), network.state_dict()
    assert own.keys() == other.keys() and all(torch.equal(own[k], other[k]) for k in own)
    assert not network.training


def test_torch_hub_gives_a_predictor_in_any_folder(tmp_path):
    code = f"""
import numpy as np, torch
complete = torch.hub.load({str(Path.cwd())!r}, "predictor", source="local", device="cpu")
sparse_depth = np.zeros((60, 80), np.float32)
sparse_depth[::9, ::9] = 2
depth = complete(np.zeros((60, 80, 3), np.uint8), sparse_depth).depth
assert abs(depth - 2).max() < 0.5, depth
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_options_go_with_random_weights_alone():
    plain = hubconf.network(pretrained=False, arch="resnet18", depth_input="filled")
    assert plain.depth_input == "filled"
    with pytest.raises(ValueError, match="the weights decide arch"):
        hubconf.network(arch="resnet18")
