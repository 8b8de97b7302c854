"""The published optimiser, SGD with momentum, in one pass over weights, gradients and momentum."""

import torch
from torch import nn


def build_optimizer(
    model: nn.Module, *, lr: float, momentum: float, weight_decay: float, nesterov: bool
) -> torch.optim.SGD:
    """SGD for every parameter of `model`, which is on its device and in its memory format.

    Call `complete_momentum` after loading the optimiser's state.
    """
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov,
        fused=True,
    )
    complete_momentum(optimizer)
    return optimizer


def complete_momentum(optimizer: torch.optim.SGD) -> None:
    """Have momentum for each weight, 0 where there is none yet, laid out as the weight is.

    The fused step goes through both in the order of memory, so they must be laid out alike; and
    where fp16 overflows in the very first step, it would leave momentum that nobody has written.
    Momentum of 0 gives the first step that no momentum gives.
    """
    for group in optimizer.param_groups:
        group["fused"] = True  # a state saved before it was fused says otherwise
        if not group["momentum"]:
            continue
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            momentum = torch.zeros_like(parameter, requires_grad=False)
            if state.get("momentum_buffer") is not None:
                momentum.copy_(state["momentum_buffer"])
            state["momentum_buffer"] = momentum
