"""A network in a folder that anybody can load, and the error that it expects."""

import json

import numpy as np
import pytest
import torch

import engine.checkpoint
import predict
from engine.checkpoint import CONFIG, WEIGHTS, find_checkpoint, load_checkpoint, save_checkpoint
from engine.errors import CheckpointError
from inference.predictor import Predictor
from models import build_model

SETTINGS = {
    "arch": "resnet18",
    "depth_input": "filled",
    "confidence": True,
    "cspn_step": 3,
    "rgb_encoding": "normalized",
    "data_root": "/somewhere/private",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A run folder's best_model.pth."""
    torch.manual_seed(0)
    model = build_model("resnet18", depth_input="filled", confidence=True)
    torch.nn.init.normal_(model.decoder.heads.weight.data[:, 0], std=0.01)
    model.train()(torch.rand(2, 4, 64, 96))
    path = tmp_path_factory.mktemp("run") / "best_model.pth"
    save_checkpoint(path, {"args": SETTINGS, "epoch": 3, "model": model.state_dict()})
    return path


def image(height=60, width=80):
    rng = np.random.default_rng(0)
    sparse_depth = np.where(rng.random((height, width)) < 0.1, 2 + rng.random((height, width)), 0)
    return rng.integers(0, 256, (height, width, 3), np.uint8), sparse_depth.astype(np.float32)


@pytest.fixture(scope="module")
def shared(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    Predictor.from_checkpoint(checkpoint, device="cpu").save_pretrained(folder)
    return folder


def test_a_shared_network_is_the_network_it_came_from(checkpoint, shared):
    expected = Predictor.from_checkpoint(checkpoint, device="cpu", resize="none")(*image())
    for load in (Predictor.from_pretrained, Predictor.from_checkpoint):
        predictor = load(shared, device="cpu", resize="none")
        assert predictor.rgb_encoding == "normalized" and predictor.settings.cspn_step == 3
        found = predictor(*image())
        np.testing.assert_allclose(found.depth, expected.depth, atol=3e-2)
        np.testing.assert_allclose(found.error, expected.error, rtol=5e-2)


def test_a_shared_network_takes_half_the_room_and_tells_nothing_of_the_machine(checkpoint, shared):
    assert (shared / WEIGHTS).stat().st_size < 0.55 * checkpoint.stat().st_size
    text = (shared / CONFIG).read_text()
    assert "private" not in text and json.loads(text)["depth_input"] == "filled"


def test_weights_without_their_settings_are_told_by_their_shapes(shared, tmp_path):
    (tmp_path / WEIGHTS).write_bytes((shared / WEIGHTS).read_bytes())
    found = load_checkpoint(find_checkpoint(tmp_path))
    assert found.args["depth_input"] == "filled" and found.args["confidence"]
    assert found.args["arch"] == "resnet18"


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_damaged_settings_get_a_sentence(shared, tmp_path, content):
    (tmp_path / WEIGHTS).write_bytes((shared / WEIGHTS).read_bytes())
    (tmp_path / CONFIG).write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_checkpoint(tmp_path / WEIGHTS)


def test_truncated_weights_get_a_sentence(shared, tmp_path):
    (tmp_path / WEIGHTS).write_bytes((shared / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(tmp_path / WEIGHTS)


def test_any_number_of_measurements_is_used(shared):
    rgb, _ = image()
    dense = np.full(rgb.shape[:2], 2, np.float32)
    prediction = Predictor.from_pretrained(shared, device="cpu", resize="none")(rgb, dense)
    assert prediction.used == dense.size and prediction.expected is None


def test_without_a_checkpoint_the_network_that_comes_along_is_used(shared, tmp_path):
    folder = tmp_path / "pretrained"
    with pytest.raises(CheckpointError, match="name a checkpoint: --resume"):
        engine.checkpoint.shipped_network(folder)
    # An earlier one by name is another network, which is used where it is named.
    for network in ("a_network", engine.checkpoint.DEFAULT_NETWORK):
        with pytest.raises(CheckpointError, match="name a checkpoint: --resume"):
            engine.checkpoint.shipped_network(folder)
        (folder / network).mkdir(parents=True)
        for name in (WEIGHTS, CONFIG):
            (folder / network / name).write_bytes((shared / name).read_bytes())
    assert engine.checkpoint.shipped_network(folder) == folder / network
    assert find_checkpoint(folder / "a_network").parent.name == "a_network"


def test_the_expected_error_is_written_beside_the_depth(shared, tmp_path):
    from imageio.v3 import imread, imwrite

    rgb, sparse_depth = image()
    imwrite(tmp_path / "photo.png", rgb)
    np.save(tmp_path / "sparse.npy", sparse_depth)
    files = ["--rgb", str(tmp_path / "photo.png"), "--sparse", str(tmp_path / "sparse.npy")]
    predict.main([*files, "--resume", str(shared), "--out", str(tmp_path), "--device", "cpu"])
    error = np.load(tmp_path / "photo_error.npy")
    assert error.shape == sparse_depth.shape and (error > 0).all()
    millimetres = imread(tmp_path / "photo_error.png")
    assert millimetres.dtype == np.uint16
    np.testing.assert_allclose(millimetres, 1000 * error, atol=0.51)
