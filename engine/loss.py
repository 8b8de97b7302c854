"""The training loss: mean absolute error of the final depth over measured pixels."""

from torch import Tensor

# Ground truth at or below this many metres counts as missing (release).
MIN_DEPTH = 1e-4


def depth_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean |pred - target| over target > 1e-4 of the whole batch.

    Args:
        pred: (B, 1, H, W) metres. target: (B, 1, H, W) metres, 0 = no ground truth.

    Returns:
        A scalar in metres; 0, with zero gradients, where nothing is measured.
    """
    valid = target > MIN_DEPTH
    error = (pred - target).abs().masked_fill(~valid, 0)
    return error.sum() / valid.sum().clamp(min=1)
