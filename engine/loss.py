"""The training loss: mean absolute error of the final depth over measured pixels."""

from torch import Tensor

# Ground truth at or below this many metres counts as missing (release).
MIN_DEPTH = 1e-4


def depth_loss(pred: Tensor, target: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean |pred - target| over target > 1e-4 of the whole batch.

    Args:
        pred: (B, 1, H, W) metres. target: (B, 1, H, W) metres, 0 = no ground truth.
        count: pixels to divide by instead of the measured ones here, for a process that holds a
            share of the batch.

    Returns:
        A scalar in metres; 0, with zero gradients, where nothing is measured.
    """
    error = (pred - target).abs().masked_fill(target <= MIN_DEPTH, 0)
    count = measured(target) if count is None else count
    return error.sum() / count.clamp(min=1)


def measured(target: Tensor) -> Tensor:
    """How many pixels of `target` (metres) count, as a scalar tensor."""
    return (target > MIN_DEPTH).sum()
