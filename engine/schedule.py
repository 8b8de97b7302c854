"""The published optimiser and learning-rate schedule, and others for small budgets."""

import math

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau


class ReduceOnPlateau(ReduceLROnPlateau):
    """Multiply the learning rate by 0.1 when the score has not improved for 3 epochs (published).

    Improved means lower than the best by more than 0.1 mm. As in the release, and unlike the parent
    class, the epoch that reduces counts as the first of the next wait: the first reduction comes in
    the fourth epoch without improvement, further ones every third. A rate that is below 1e-6
    already is left alone.
    """

    def __init__(self, optimizer: Optimizer):
        super().__init__(optimizer, "min", 0.1, 3, 1e-4, "abs", min_lr=1e-6, eps=0)

    def before_step(self, step: int) -> None:
        """Do nothing: the rate changes between epochs alone."""

    def step(self, score: float) -> None:
        """Take in an epoch's score (validation MAE in metres); call once an epoch."""
        best = self.best
        super().step(score)
        if self.best == best and self.num_bad_epochs == 0:  # reduced just now
            self.num_bad_epochs = 1

    def set_lr(self, lr: float) -> None:
        """Go on from the rate `lr`."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def state_dict(self) -> dict[str, float | int]:
        """Return what `load_state_dict` needs; the learning rate itself is the optimiser's."""
        return {"best": self.best, "waited": self.num_bad_epochs}

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Go on from a `state_dict`."""
        self.best, self.num_bad_epochs = float(state["best"]), int(state["waited"])


class Cosine:
    """From the starting rate to 0 along half a cosine, by epochs or by steps.

    The rate is a function of the starting rate and of what is done and to be done alone, so a run
    that is extended goes on along the longer cosine. Neither is the published schedule. By epochs
    it is that of the short sample run, in which nothing stops improving before the end and a
    constant rate leaves the last epoch as good as chance has it. By steps it is the one that AdamW
    is used with: the rate first rises from 0 over 5 % of the steps. `total` is of the whole run.
    """

    WARMUP = 0.05

    def __init__(self, optimizer: Optimizer, total: int, *, by_steps: bool = False):
        self.optimizer, self.total, self.by_steps = optimizer, total, by_steps
        self.initial = [group["lr"] for group in optimizer.param_groups]
        self.epoch = 0

    def before_step(self, step: int) -> None:
        """Set the rate of the step that follows `step` others, where it goes by steps."""
        if self.by_steps:
            self._apply(step + 1)

    def step(self, score: float) -> None:
        """Set the rate of the next epoch, where it goes by epochs; the score does not matter."""
        self.epoch += 1
        self._apply_epoch()

    def set_lr(self, lr: float) -> None:
        """Take `lr` for the starting rate."""
        self.initial = [lr] * len(self.initial)
        self._apply_epoch()

    def _apply_epoch(self) -> None:
        if not self.by_steps:
            self._apply(self.epoch)

    def _apply(self, done: int) -> None:
        part = min(done / self.total, 1) if self.total else 1
        factor = (1 + math.cos(math.pi * part)) / 2
        if self.by_steps:
            factor = min(part / self.WARMUP, factor)
        for group, initial in zip(self.optimizer.param_groups, self.initial, strict=True):
            group["lr"] = initial * factor

    def state_dict(self) -> dict[str, list[float] | int]:
        """Return what `load_state_dict` needs to go on."""
        return {"epoch": self.epoch, "initial": self.initial}

    def load_state_dict(self, state: dict[str, list[float] | int]) -> None:
        """Go on from a `state_dict`, at the rate that this schedule's length gives."""
        # Those that went by steps did not count epochs before.
        self.epoch, self.initial = int(state.get("epoch", 0)), list(state["initial"])
        self._apply_epoch()


SCHEDULES = ("plateau", "cosine", "warmup_cosine")
Schedule = ReduceOnPlateau | Cosine
OPTIMIZERS = ("sgd", "adamw")


def build_schedule(
    name: str, optimizer: Optimizer, num_epoch: int, total_steps: int = 1
) -> Schedule:
    """Return the schedule of `--lr_schedule` for a run of `num_epoch` epochs or `total_steps`."""
    if name == "plateau":
        return ReduceOnPlateau(optimizer)
    by_steps = name == "warmup_cosine"
    return Cosine(optimizer, total_steps if by_steps else num_epoch, by_steps=by_steps)


def build_optimizer(
    model: nn.Module,
    *,
    name: str = "sgd",
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> Optimizer:
    """Return the optimiser, in one pass over weights, gradients and what it keeps of them.

    Call `complete_state` after loading the optimiser's state.

    Args:
        model: on its device and in its memory format; all its parameters are trained.
        name: "sgd" (published); or "adamw", which decays the weights of convolutions alone.
        momentum, nesterov: of SGD.
    """
    if name == "adamw":
        groups = [
            {"params": [p for p in model.parameters() if p.dim() > 1]},
            {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov,
        fused=True,
    )
    complete_state(optimizer)
    return optimizer


def complete_state(optimizer: Optimizer) -> None:
    """Lay out what the optimiser keeps of each weight as the weight is, and fill in SGD's momentum
    of 0 where there is none yet.

    The fused step goes through all of them in the order of memory; and where fp16 overflows in the
    very first step, it would leave momentum that was never written. Momentum of 0 gives the first
    step that no momentum gives.
    """
    for group in optimizer.param_groups:
        group["fused"] = True  # not in a state that was saved before it was fused
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if group.get("momentum") and state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
            for name, value in state.items():
                if value is not None and value.shape == parameter.shape:
                    state[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)
