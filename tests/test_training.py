"""The training step: accumulation, mixed precision, and a loss that is no longer finite."""

import json

import pytest
import torch
from torch import nn

import train as train_script
from engine.checkpoint_writer import CheckpointWriter, StopOrSave
from engine.config import TrainConfig
from engine.divergence import DivergenceCheck
from engine.errors import RunError
from engine.metrics import depth_loss
from engine.precision import autocast, gradient_scaler, prepare
from engine.run_folder import RunFolder
from engine.schedule import build_schedule
from engine.signals import StopRequest
from engine.training import Training
from models import build_model

CPU = torch.device("cpu")


def batches(count, batch=1):
    """Batches of an 8x8 image with full ground truth."""
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "rgbd": torch.rand(batch, 4, 8, 8, generator=generator),
            "depth": torch.rand(batch, 1, 8, 8, generator=generator) + 1,
            "name": [f"train/{number}_{i}.h5" for i in range(batch)],
        }
        for number in range(count)
    ]


def train(model, loader, folder, accumulate=1, clip_grad=None):
    args = TrainConfig(amp="off", accumulate=accumulate, clip_grad=clip_grad)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = build_schedule("plateau", optimizer, 1)
    frames = {part: {"count": len(loader), "digest": ""} for part in ("train", "val")}
    run = Training(model, optimizer, schedule, gradient_scaler("off", CPU), CPU, frames)
    folder = RunFolder(folder)
    end = StopOrSave(run, CheckpointWriter(folder, {}, minutes=10), StopRequest())
    divergence = DivergenceCheck(folder, "epoch 1/1")
    train_script.train_epoch(run, model, loader, args, divergence, end, len(loader))
    return run


def joined(batches):
    """One batch of all images of several."""
    whole = {key: torch.cat([b[key] for b in batches]) for key in ("rgbd", "depth")}
    return whole | {"name": [name for b in batches for name in b["name"]]}


@pytest.mark.parametrize("unmeasured", [(), (0,), (1,), (0, 1)])
def test_accumulated_batches_step_like_one_batch_of_all_whatever_is_measured(tmp_path, unmeasured):
    torch.manual_seed(0)
    apart, together = (nn.Conv2d(4, 1, 3, padding=1) for _ in range(2))
    together.load_state_dict(apart.state_dict())
    before = apart.weight.detach().clone()
    singles = batches(5)  # two groups, the second of which is incomplete
    singles[0]["depth"][..., 2:] = 0
    singles[4]["depth"][..., 0, 3:] = 0
    for number in unmeasured:
        singles[number]["depth"][:] = 0
    train(apart, singles, tmp_path, accumulate=3)
    train(together, [joined(singles[:3]), joined(singles[3:])], tmp_path)
    torch.testing.assert_close(apart.weight, together.weight, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(apart.weight, before)


def test_a_group_without_a_measured_pixel_leaves_the_weights_alone(tmp_path):
    model = nn.Conv2d(4, 1, 3, padding=1)
    before = model.weight.detach().clone()
    loader = batches(2)
    for batch in loader:
        batch["depth"][:] = 0
    train(model, loader, tmp_path, accumulate=2)
    assert torch.equal(model.weight, before)


def test_an_incomplete_group_at_the_end_still_steps(tmp_path):
    model = nn.Conv2d(4, 1, 3, padding=1)
    before = model.weight.detach().clone()
    train(model, batches(1), tmp_path, accumulate=4)
    assert not torch.equal(model.weight, before)


def test_a_loss_that_is_not_finite_ends_the_run_naming_the_batchs_files(tmp_path):
    model = nn.Conv2d(4, 1, 3, padding=1)
    loader = batches(3, batch=2)
    loader[1]["rgbd"][0, 0, 0, 0] = torch.inf
    with pytest.raises(RunError, match=r"the loss is .* at step 2 of epoch 1/1, on train/1_0.h5, "):
        train(model, loader, tmp_path)
    record = json.loads((tmp_path / "divergence.json").read_text())
    assert record["files"] == ["train/1_0.h5", "train/1_1.h5"] and record["step"] == 2
    assert not list(tmp_path.glob("*.pth"))


class Overflow(torch.autograd.Function):
    """A finite value whose gradient is not."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * torch.inf


def test_a_gradient_that_is_not_finite_ends_the_run_too(tmp_path):
    class Diverging(nn.Conv2d):
        def forward(self, rgbd):
            return Overflow.apply(super().forward(rgbd))

    with pytest.raises(RunError, match=r"the gradient is .* at step 1 of epoch 1/1"):
        train(Diverging(4, 1, 3, padding=1), batches(1), tmp_path)


def test_clipping_bounds_the_step_and_leaves_its_direction(tmp_path):
    torch.manual_seed(0)
    free, clipped = (nn.Conv2d(4, 1, 3, padding=1) for _ in range(2))
    clipped.load_state_dict(free.state_dict())
    before = torch.cat([p.detach().flatten() for p in free.parameters()])
    train(free, batches(1), tmp_path)
    train(clipped, batches(1), tmp_path, clip_grad=0.01)
    steps = [
        torch.cat([p.detach().flatten() for p in m.parameters()]) - before for m in (free, clipped)
    ]
    assert steps[0].norm() > 0.01
    torch.testing.assert_close(steps[1].norm(), torch.tensor(0.1 * 0.01), rtol=1e-3, atol=0)
    assert torch.cosine_similarity(*steps, dim=0) > 0.9999


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


def test_bf16_trains_in_nhwc_without_gaps_and_stays_close_to_float32():
    torch.manual_seed(0)
    model = build_model("resnet18", cspn_steps=1).train()
    rgbd, target = torch.rand(2, 4, 90, 122), torch.rand(2, 1, 90, 122)  # sizes that are cropped
    layouts = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, inputs: layouts.append(inputs[0]))

    def gradient(amp):
        layouts.clear()
        model.zero_grad()
        with autocast(amp, CPU):
            loss = depth_loss(model(rgbd), target)
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    full = gradient("off")
    assert all(x.stride(3) == 1 for x in layouts)
    half = gradient("bf16")
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in layouts)
    # Batch normalisation over few pixels; of the published size it is 0.91, as in NCHW.
    assert torch.cosine_similarity(half, full, dim=0) > 0.5


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
