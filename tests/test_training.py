"""The training step: accumulation, mixed precision, and a loss that is no longer finite."""

import argparse

import pytest
import torch
from torch import nn

import train as train_script
from engine.failure import RunError
from engine.precision import autocast, gradient_scaler, prepare
from models import build_model

CPU = torch.device("cpu")


def batches(count, batch=1):
    """Batches of an 8x8 image with full ground truth."""
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "rgbd": torch.rand(batch, 4, 8, 8, generator=generator),
            "depth": torch.rand(batch, 1, 8, 8, generator=generator) + 1,
        }
        for _ in range(count)
    ]


def train(model, loader, accumulate=1):
    args = argparse.Namespace(amp="off", accumulate=accumulate)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = gradient_scaler("off", CPU)
    return train_script.train_epoch(
        model, loader, optimizer, scaler, CPU, args, "epoch 1/1", len(loader)
    )


def test_two_accumulated_batches_step_like_one_batch_of_both():
    torch.manual_seed(0)
    apart, together = (nn.Conv2d(4, 1, 3, padding=1) for _ in range(2))
    together.load_state_dict(apart.state_dict())
    singles = batches(2)
    pair = {key: torch.cat([b[key] for b in singles]) for key in singles[0]}
    train(apart, singles, accumulate=2)
    train(together, [pair])
    torch.testing.assert_close(apart.weight, together.weight)


def test_an_incomplete_group_at_the_end_still_steps():
    model = nn.Conv2d(4, 1, 3, padding=1)
    before = model.weight.detach().clone()
    train(model, batches(1), accumulate=4)
    assert not torch.equal(model.weight, before)


def test_a_loss_that_is_not_finite_ends_the_run_with_a_sentence():
    model = nn.Conv2d(4, 1, 3, padding=1)
    model.weight.data.fill_(torch.inf)
    with pytest.raises(RunError, match=r"the loss is .* by step 2 of epoch 1/1; nothing was saved"):
        train(model, batches(2))


def test_bf16_keeps_metres_in_float32_and_stays_close():
    torch.manual_seed(0)
    model = build_model("resnet18").eval()
    rgbd = torch.rand(1, 4, 64, 96)
    with torch.no_grad():
        full = model(rgbd)
        with autocast("bf16", CPU):
            half = model(rgbd)
            coarse, guidance = model.coarse_depth_and_guidance(rgbd)
    assert half.dtype == coarse.dtype == guidance.dtype == torch.float32
    assert 0 < (half - full).abs().mean() < 0.05 * full.abs().mean() + 0.02
    # 24 bits of mantissa: the values are not all representable in bfloat16.
    assert not torch.equal(coarse, coarse.bfloat16().float())


def test_channels_last_changes_the_layout_and_not_the_result():
    torch.manual_seed(0)
    model = build_model("resnet18").eval()
    rgbd = torch.rand(1, 4, 64, 96)
    with torch.no_grad():
        expected = model(rgbd)
        keys = list(model.state_dict())
        prepare(model, channels_last=True, compile_model=False)
        torch.testing.assert_close(model(rgbd), expected, rtol=1e-4, atol=1e-4)
    assert list(model.state_dict()) == keys
    weight = model.encoder.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_compiling_leaves_parameter_names_alone():
    model = build_model("resnet18")
    keys = list(model.state_dict())
    prepare(model, channels_last=False, compile_model=True)
    assert list(model.state_dict()) == keys
