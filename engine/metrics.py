"""Depth-completion metrics, per image, as the release computes and names them; and the loss.

All are taken over target > 1e-4 m. Published numbers average them over images, so an image with
few measured pixels counts as much as one with many; RMSE is therefore the mean of the images'
RMSE, not the root of the mean MSE.
"""

import torch
from torch import Tensor

# Ground truth at or below this many metres counts as missing (release).
MIN_DEPTH = 1e-4
DELTA_THRESHOLDS = {
    "DELTA1.02": 1.02,
    "DELTA1.05": 1.05,
    "DELTA1.10": 1.10,
    "DELTA1.25": 1.25,
    "DELTA1.25^2": 1.25**2,
    "DELTA1.25^3": 1.25**3,
}
METRICS = ("MSE", "RMSE", "MAE", "ABS_REL", "LG10", *DELTA_THRESHOLDS)


def depth_loss(pred: Tensor, target: Tensor, count: Tensor | None = None) -> Tensor:
    """Return the training loss: the mean of |pred - target| over the measured pixels of a batch.

    Args:
        pred: (B, 1, H, W) metres. target: (B, 1, H, W) metres, 0 = no ground truth.
        count: pixels to divide by instead of the measured ones here, for a process that holds a
            part of the batch.

    Returns:
        A scalar in metres; 0, with zero gradients, where nothing is measured.
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


class RunningMetrics:
    """Means over images, kept on the device and read once."""

    def __init__(self, device: torch.device | str = "cpu"):
        self.sums = torch.zeros(len(METRICS), dtype=torch.float64, device=device)
        self.count = torch.zeros((), dtype=torch.int64, device=device)

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Add a batch, as for `depth_metrics`. Images without ground truth do not count; a
        prediction that is not finite makes the means NaN or infinite."""
        scores = depth_metrics(pred, target)
        table = torch.stack([scores[name] for name in METRICS]).double()  # (metrics, B)
        scored = measured_pixels(target) > 0
        self.sums += torch.where(scored, table, 0.0).sum(dim=1)
        self.count += scored.sum()

    def means(self) -> dict[str, float]:
        """Return name -> mean over the images so far; NaN before the first."""
        return dict(zip(METRICS, (self.sums / self.count).tolist(), strict=True))
