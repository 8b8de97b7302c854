"""The fused optimiser takes the plain one's steps, also where it starts, overflows or resumes."""

import copy

import pytest
import torch
from torch import nn

from engine.schedule import OPTIMIZERS, build_optimizer, complete_state

SETTINGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2, "nesterov": True}


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 3)
    ).double()


def step(model, optimizer, scaler=None, poison=False):
    optimizer.zero_grad()
    images = torch.rand(2, 4, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss = model(images).square().mean()
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    scaler.scale(loss).backward()
    if poison:
        model[0].weight.grad[0, 0, 0, 0] = torch.inf
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_steps_are_those_of_the_plain_optimiser(momentum):
    settings = SETTINGS | {"momentum": momentum, "nesterov": momentum > 0}
    ours, plain = network(), network()
    optimizers = build_optimizer(ours, **settings), torch.optim.SGD(plain.parameters(), **settings)
    for _ in range(4):
        step(ours, optimizers[0])
        step(plain, optimizers[1])
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_adamw_takes_the_plain_steps_in_one_pass_and_decays_convolutions_alone():
    ours, plain = network(), network()
    optimizer = build_optimizer(ours, name="adamw", **SETTINGS)
    assert all(group["fused"] for group in optimizer.param_groups)
    groups = [{"params": [plain[i].weight for i in (0, 2)], "weight_decay": 1e-2}]
    groups += [{"params": [*plain[1].parameters(), plain[2].bias]}]
    other = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.0, fused=False, foreach=False)
    for _ in range(4):
        step(ours, optimizer)
        step(plain, other)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_an_overflow_in_the_first_step_leaves_no_momentum():
    model = network()
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(model, **SETTINGS)
    step(model, optimizer, torch.amp.GradScaler("cpu", init_scale=2.0), poison=True)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert not optimizer.state[parameter]["momentum_buffer"].any()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_in_another_memory_format_goes_on_the_same(name):
    ours, plain = network(), network()
    optimizer = build_optimizer(ours, name=name, **SETTINGS)
    step(ours, optimizer)
    state = copy.deepcopy(optimizer.state_dict())
    plain.load_state_dict(ours.state_dict())
    plain.to(memory_format=torch.channels_last)
    resumed = build_optimizer(plain, name=name, **SETTINGS)
    resumed.load_state_dict(state)
    complete_state(resumed)
    for _ in range(2):
        step(ours, optimizer)
        step(plain, resumed)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_a_state_from_before_the_step_was_fused_goes_on():
    model = network()
    old = torch.optim.SGD(model.parameters(), **SETTINGS)
    step(model, old)
    optimizer = build_optimizer(model, **SETTINGS)
    optimizer.load_state_dict(old.state_dict())
    complete_state(optimizer)
    assert optimizer.param_groups[0]["fused"]
    step(model, optimizer, torch.amp.GradScaler("cpu", init_scale=2.0))
    for state in optimizer.state.values():
        assert state["momentum_buffer"].any()
