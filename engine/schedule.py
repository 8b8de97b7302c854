"""Learning-rate schedules: the release's, and one for runs too short for it."""

import math

from torch.optim import Optimizer


class ReduceOnPlateau:
    """Multiply the learning rate by `factor` when the score has not improved for `patience` epochs.

    Improved means lower than the best by more than `threshold` (absolute). As in the release
    (and unlike `torch.optim.lr_scheduler.ReduceLROnPlateau`, which waits `patience` + 1 epochs
    every time), the epoch that reduces counts as the first of the next wait: the first reduction
    comes in the fourth epoch without improvement, further ones every third.

    Args:
        optimizer: whose groups' "lr" is set.
        factor, patience, threshold, min_lr: published values as defaults; `threshold` in metres.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 0.1,
        patience: int = 3,
        threshold: float = 1e-4,
        min_lr: float = 1e-6,
    ):
        self.optimizer = optimizer
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.min_lr = min_lr
        self.best = float("inf")
        self.waited = 0

    def step(self, score: float) -> None:
        """Tell the epoch's score (validation MAE in metres); call once an epoch."""
        if score < self.best - self.threshold:
            self.best = score
            self.waited = 0
            return
        if self.waited >= self.patience:
            for group in self.optimizer.param_groups:
                group["lr"] = max(group["lr"] * self.factor, self.min_lr)
            self.waited = 0
        self.waited += 1

    def state_dict(self) -> dict[str, float | int]:
        """What `load_state_dict` needs to go on; the learning rate itself is the optimiser's."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Go on from a `state_dict`."""
        self.best = state["best"]
        self.waited = state["waited"]


class CosineDecay:
    """From the starting rate to 0 along half a cosine over `num_epoch` epochs.

    Not the published schedule: that of the short sample run, in which nothing stops improving
    before the end and a constant rate leaves the last epoch as good as chance has it.
    """

    def __init__(self, optimizer: Optimizer, num_epoch: int):
        self.optimizer = optimizer
        self.num_epoch = num_epoch
        self.initial = [group["lr"] for group in optimizer.param_groups]
        self.epoch = 0

    def step(self, score: float) -> None:
        """Call once an epoch; the score does not matter."""
        self.epoch += 1
        share = (1 + math.cos(math.pi * min(self.epoch / self.num_epoch, 1))) / 2
        for group, initial in zip(self.optimizer.param_groups, self.initial, strict=True):
            group["lr"] = initial * share

    def state_dict(self) -> dict[str, list[float] | int]:
        """What `load_state_dict` needs to go on."""
        return {"epoch": self.epoch, "initial": self.initial}

    def load_state_dict(self, state: dict[str, list[float] | int]) -> None:
        """Go on from a `state_dict`."""
        self.epoch = state["epoch"]
        self.initial = state["initial"]


SCHEDULES = ("plateau", "cosine")


def build_schedule(
    name: str, optimizer: Optimizer, num_epoch: int
) -> ReduceOnPlateau | CosineDecay:
    """The schedule of `--lr_schedule`."""
    return ReduceOnPlateau(optimizer) if name == "plateau" else CosineDecay(optimizer, num_epoch)
