"""Depth-completion metrics, per image, as the release computes and names them; and the loss.

All are taken over target > 1e-4 m. Published numbers average them over images, so an image with
few measured pixels counts as much as one with many; RMSE is therefore the mean of the images'
RMSE, not the root of the mean MSE.
"""

import torch
from torch import Tensor

from engine.distributed import all_reduce_sum, is_main

# Ground truth at or below this many metres counts as missing (release).
MIN_DEPTH = 1e-4
DELTA_THRESHOLDS = {f"DELTA{threshold:.2f}": threshold for threshold in (1.02, 1.05, 1.1, 1.25)}
DELTA_THRESHOLDS |= {f"DELTA1.25^{power}": 1.25**power for power in (2, 3)}
METRICS = ("MSE", "RMSE", "MAE", "ABS_REL", "LG10", *DELTA_THRESHOLDS)


def depth_loss(pred: Tensor, target: Tensor, count: Tensor | None = None) -> Tensor:
    """Return the training loss: the mean of |pred - target| over the measured pixels of a batch, a
    scalar in metres; 0, with zero gradients, where nothing is measured.

    Args:
        pred: (B, 1, H, W) metres. target: (B, 1, H, W) metres, 0 = no ground truth.
        count: pixels to divide by instead of the measured ones here, for a process that holds a
            part of the batch.
    """
    error = (pred - target).abs().masked_fill(target <= MIN_DEPTH, 0)
    count = measured(target) if count is None else count
    return error.sum() / count.clamp(min=1)


def measured(target: Tensor) -> Tensor:
    """Return how many pixels of a batch (metres, 0 = no ground truth) count, as a scalar tensor."""
    return measured_pixels(target).sum()


def measured_pixels(target: Tensor) -> Tensor:
    """Return how many pixels of each image count: (B, 1, H, W) metres, 0 = no ground truth ->
    (B,) int64. 0 means that an image has no ground truth."""
    return (target > MIN_DEPTH).flatten(1).sum(dim=1)


def depth_metrics(pred: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Score predictions image by image, without leaving the device.

    Deviation: the release never fills in LG10 and counts a negative prediction as correct in
    every delta; here LG10 is computed (predictions below 1e-4 m taken as 1e-4 m) and a
    prediction that is not positive is wrong.

    Args:
        pred: (B, 1, H, W) metres. target: (B, 1, H, W) metres, 0 = no ground truth.

    Returns:
        Name -> (B,) float32, in the order of `METRICS`: MSE in m^2; RMSE and MAE in m; ABS_REL a
        ratio; LG10 the mean |log10 pred - log10 target|; DELTAx the fraction of pixels
        with max(pred/target, target/pred) < x. NaN for an image without ground truth, and where
        a prediction is.

    Raises:
        ValueError: shapes that differ or are not (B, 1, H, W).
    """
    if pred.shape != target.shape or pred.dim() != 4 or pred.shape[1] != 1:
        raise ValueError(
            "pred and target must both be (B, 1, H, W), got "
            f"{tuple(pred.shape)} and {tuple(target.shape)}"
        )
    pred, target = pred.detach().float().flatten(1), target.float().flatten(1)  # (B, H W)
    valid = target > MIN_DEPTH
    count = valid.sum(dim=1)  # 0 gives 0 / 0 = NaN below
    target = torch.where(valid, target, 1.0)

    def mean(values: Tensor) -> Tensor:
        return torch.where(valid, values, 0.0).sum(dim=1) / count

    error = (pred - target).abs()
    mse = mean(error.square())
    scores = {
        "MSE": mse,
        "RMSE": mse.sqrt(),
        "MAE": mean(error),
        "ABS_REL": mean(error / target),
        "LG10": mean((pred.clamp(min=MIN_DEPTH).log10() - target.log10()).abs()),
    }
    ratio = torch.where(pred > 0, torch.maximum(pred / target, target / pred), torch.inf)
    for name, threshold in DELTA_THRESHOLDS.items():
        scores[name] = mean((ratio < threshold).float())
    return scores


class EpochScores:
    """Loss and metrics of the batches so far, as sums that are kept on the device.

    Attributes:
        sums: of the metrics over images that have ground truth, the number of these (count), and
            of the losses over batches.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.sums = {
            "sums": torch.zeros(len(METRICS), dtype=torch.float64, device=device),
            "count": torch.zeros((), dtype=torch.int64, device=device),
            "loss": torch.zeros((), dtype=torch.float64, device=device),
        }
        self.batches = 0

    def update(self, loss: Tensor, pred: Tensor, target: Tensor) -> None:
        """Add a batch, as for `depth_metrics`; `loss` is this process's part of the batch's mean,
        in metres. A prediction that is not finite makes the means NaN or infinite."""
        scores = depth_metrics(pred, target)
        table = torch.stack([scores[name] for name in METRICS]).double()  # (metrics, B)
        scored = measured_pixels(target) > 0
        self.sums["sums"] += torch.where(scored, table, 0.0).sum(dim=1)
        self.sums["count"] += scored.sum()
        self.sums["loss"] += loss.detach()
        self.batches += 1

    def over_processes(self) -> "EpochScores":
        """Return the sums over all processes; every process must call it."""
        total = EpochScores()
        total.sums = {key: all_reduce_sum(value) for key, value in self.sums.items()}
        total.batches = self.batches
        return total

    def means(self) -> dict[str, float]:
        """Return mean LOSS over batches and mean metrics over images, NaN before the first."""
        means = (self.sums["sums"] / self.sums["count"]).tolist()
        loss = self.sums["loss"].item() / max(self.batches, 1)
        return {"LOSS": loss, **dict(zip(METRICS, means, strict=True))}

    def shown(self) -> dict[str, str]:
        """Return loss and RMSE in metres as a progress bar shows them."""
        means = self.means()
        return {"loss": f"{means['LOSS']:.3f}", "rmse": f"{means['RMSE']:.3f}"}

    def state_dict(self) -> dict:
        """Return the sums, for a checkpoint in the middle of an epoch."""
        return {"batches": self.batches} | {key: sums.cpu() for key, sums in self.sums.items()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from the sums over all processes, which one process takes over."""
        for key, sums in self.sums.items() if is_main() else ():
            sums.copy_(state[key])
        self.batches = int(state["batches"])
