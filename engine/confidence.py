"""The error that a network expects of itself: how it is learned, and how far it can be trusted.

The expected absolute error b of a pixel is the scale of a Laplace distribution of its depth.
"""

import math

from torch import Tensor

from engine.metrics import MIN_DEPTH, measured_pixels

# Of the likelihood: enough for its head to learn, too little to shape the depth's features.
LIKELIHOOD_WEIGHT = 0.2


def relative_loss(
    pred: Tensor, error: Tensor, target: Tensor, count: Tensor | None = None
) -> Tensor:
    """Return the training loss of a network that expects an error, a scalar in no unit.

    Per image, the mean absolute error over the error that the network expects there, so that images
    with 20,000 measurements and with 5, of rooms and of streets, count alike; plus, for the
    expectation, the negative log-likelihood |pred - target| / b + log b. Neither term's gradient
    passes through what it takes from the other. An image without ground truth adds 0.

    Args:
        pred: (B, 1, H, W) metres. error: b, (B, 1, H, W) metres.
        target: (B, 1, H, W) metres, 0 = no ground truth.
        count: images to divide by instead of those with ground truth here, for a process that
            holds a part of the batch.
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


def calibration_factor(ratios: Tensor, probability: float = 0.9) -> float:
    """Return what the expected error must be multiplied by to hold the depth with `probability` p
    in the interval pred +- b log(1 / (1 - p)); `ratios` are |pred - target| / error of measured
    pixels, of all images together."""
    return ratios.double().quantile(probability).item() / math.log(1 / (1 - probability))
