"""The release's learning-rate schedule: x0.1 when validation MAE stops improving."""

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
