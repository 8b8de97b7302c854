"""What one prediction may import and draw: a photograph's depth should come without waiting."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine import config
from engine.checkpoint import find_checkpoint, load_checkpoint, load_network, shipped_network
from engine.errors import CheckpointError
from models import build_model

ROOT = Path(__file__).resolve().parent.parent
# PyTorch's compiler and what it is made of, and what only other commands need.
HEAVY = "torch._dynamo sympy torchvision numba pandas scipy skimage matplotlib jinja2 tensorboard"


def loaded_after(code):
    """Return which of `HEAVY` a new process has imported after running the code."""
    code += f"\nimport sys\nprint('loaded:', *[m for m in {HEAVY.split()} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.rpartition("loaded:")[2].split()


def test_a_prediction_imports_nothing_heavy():
    assert not loaded_after(
        "import gc, numpy as np, predict\n"
        "from engine.checkpoint import shipped_network\n"
        "assert gc.isenabled()\n"
        "predictor = predict.Predictor.from_checkpoint(shipped_network(), device='cpu')\n"
        "predictor.model.refinement.impl = 'eager'\n"
        "depth = np.zeros((48, 64)); depth[::9, ::9] = 2\n"
        "assert predictor(np.zeros((48, 64, 3), np.uint8), depth).depth.shape == (48, 64)"
    )


def test_predict_py_compiles_nothing_for_one_image(tmp_path):
    found = loaded_after(
        "import numpy as np, predict\n"
        "from PIL import Image\n"
        f"folder = {str(tmp_path)!r}\n"
        "Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder + '/a.png')\n"
        "np.save(folder + '/a.npy', np.eye(48, 64, dtype=np.float32))\n"
        "predict.main(['--rgb', folder + '/a.png', '--sparse', folder + '/a.npy', '--device',\n"
        "              'cpu', '--out', folder + '/out'])"
    )
    assert (tmp_path / "out" / "a_depth.npy").is_file()
    assert set(found) <= {"matplotlib"}  # which draws the picture


def test_loading_a_network_draws_no_weights_and_fills_every_one():
    checkpoint = load_checkpoint(find_checkpoint(shipped_network()))
    settings = config.NetworkConfig.of(config.evaluation_settings(checkpoint.args))
    before = torch.get_rng_state()
    model = load_network(checkpoint, settings, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in model.state_dict().items():
        assert torch.equal(value, checkpoint.model[name].to(value.dtype)), name
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    # The model is otherwise the one that `build_model` makes, with buffers that no file holds.
    drawn = build_model(**settings.model_options())
    assert repr(model) == repr(drawn)
    assert [name for name, _ in model.named_buffers()] == [n for n, _ in drawn.named_buffers()]
    assert torch.randn(3).abs().min() > 0  # drawing works again


def test_numbers_that_are_not_finite_are_still_refused(tmp_path):
    for bad in (float("nan"), float("inf"), -float("inf")):
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            weights = build_model("resnet10_half").state_dict()
            weights["encoder.conv2.weight"] = weights["encoder.conv2.weight"].to(dtype)
            weights["encoder.conv2.weight"][3, 2, 1, 0] = bad
            torch.save(weights, tmp_path / "bad.pth")
            with pytest.raises(CheckpointError, match="holds NaN or infinite"):
                load_checkpoint(tmp_path / "bad.pth")
