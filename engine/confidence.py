"""The error that a network expects of itself: how it is learned, and how far it can be trusted.

The expected absolute error b of a pixel is the scale of a Laplace distribution of its depth.
"""

import math

import torch
from torch import Tensor

from engine.metrics import MIN_DEPTH, measured_pixels

# Of the likelihood: enough for its head to learn, too little to shape the depth's features.
LIKELIHOOD_WEIGHT = 0.2


def relative_loss(
    pred: Tensor, error: Tensor, target: Tensor, count: Tensor | None = None
) -> Tensor:
    """Return the training loss of a network that expects an error, in no unit.

    Per image, the mean absolute error over the error that the network expects there, so that images
    with 20,000 measurements and with 5, of rooms and of streets, count alike; plus, for the
    expectation, the negative log-likelihood |pred - target| / b + log b. Neither term's gradient
    passes through what it takes from the other.

    Args:
        pred: (B, 1, H, W) metres. error: b, (B, 1, H, W) metres.
        target: (B, 1, H, W) metres, 0 = no ground truth.
        count: images to divide by instead of those with ground truth here, for a process that
            holds a part of the batch.

    Returns:
        A scalar, the mean over images; one without ground truth adds 0.
    """
    valid = target > MIN_DEPTH
    pixels = measured_pixels(target).clamp(min=1)

    def mean(values: Tensor) -> Tensor:
        return values.masked_fill(~valid, 0).flatten(1).sum(dim=1) / pixels  # (B,)

    absolute = (pred - target).abs()
    expected = mean(error.detach()).clamp(min=1e-12)
    relative = error / expected[:, None, None, None]
    likelihood = mean(absolute.detach() / error + relative.log())
    count = scored_images(target) if count is None else count
    return (mean(absolute) / expected + LIKELIHOOD_WEIGHT * likelihood).sum() / count.clamp(min=1)


def scored_images(target: Tensor) -> Tensor:
    """Return how many images of a batch (metres, 0 = no ground truth) have ground truth."""
    return (measured_pixels(target) > 0).sum()


def coverage(pred: Tensor, error: Tensor, target: Tensor, probability: float = 0.9) -> Tensor:
    """Return how often the interval that should hold the depth with `probability` does, per image.

    Of a Laplace distribution of scale b it is pred +- b log(1 / (1 - probability)).

    Args:
        pred, error, target: as for `relative_loss`.

    Returns:
        (B,) fractions of the pixels with ground truth.
    """
    valid = target > MIN_DEPTH
    inside = (pred - target).abs() <= error * math.log(1 / (1 - probability))
    return (inside & valid).flatten(1).sum(dim=1) / measured_pixels(target)


def calibration_factor(ratios: Tensor, probability: float = 0.9) -> float:
    """Return what the expected error must be multiplied by for the interval of `coverage` to hold
    the depth with `probability`.

    Args:
        ratios: |pred - target| / error of measured pixels, of all images together.
    """
    return ratios.double().quantile(probability).item() / math.log(1 / (1 - probability))


def sparsification(pred: Tensor, order: Tensor, target: Tensor, steps: int = 20) -> Tensor:
    """Return the RMSE of what is left when the pixels with the largest `order` are dropped.

    Args:
        pred, target: (H, W) metres, of one image. order: (H, W), such as the expected error.
        steps: k / steps of the pixels with ground truth are dropped, k = 0 .. steps - 1.

    Returns:
        (steps,) metres.
    """
    valid = target > MIN_DEPTH
    squares = (pred - target)[valid].square()[order[valid].argsort()]
    means = squares.double().cumsum(0) / torch.arange(1, len(squares) + 1)
    kept = [max(1, round(len(squares) * (1 - k / steps))) - 1 for k in range(steps)]
    return means[kept].sqrt()


def sparsification_error(own: Tensor, best: Tensor) -> float:
    """Return the area between two sparsification curves of an image, that of its expected error and
    that of its true one, over its RMSE (AUSE): 0 where the network orders its errors rightly."""
    return ((own - best).mean() / own[0]).item()
