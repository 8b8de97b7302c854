"""How well a network knows its error: coverage of its interval, and sparsification curves."""

import math
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from engine.files import whole_file
from engine.metrics import MIN_DEPTH, measured_pixels
from visualize.curves import GRID


def coverage(pred: Tensor, error: Tensor, target: Tensor, probability: float = 0.9) -> Tensor:
    """Return how often the interval that should hold the depth with `probability` does, per image.

    Of a Laplace distribution of scale b it is pred +- b log(1 / (1 - probability)).

    Args:
        pred, error, target: as for `engine.confidence.relative_loss`.

    Returns:
        (B,) fractions of the pixels with ground truth.
    """
    valid = target > MIN_DEPTH
    inside = (pred - target).abs() <= error * math.log(1 / (1 - probability))
    return (inside & valid).flatten(1).sum(dim=1) / measured_pixels(target)


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


def save_sparsification(path: Path, curves: pd.DataFrame) -> None:
    """Write sparsification curves as a PNG, a panel for each data set.

    Args:
        curves: by set and case, columns own (order of the expected error) and best (of the true
            error): (n,) arrays of the RMSE in metres without the worst k / n of the pixels.
    """
    names = curves.index.unique("set")
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(curves.index.unique("case"))))
    figure = Figure(figsize=(2 + 4.5 * len(names), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for color, (case, row) in zip(colors, curves.loc[name].iterrows(), strict=False):
            dropped = 100 * np.arange(len(row["own"])) / len(row["own"])
            axes.semilogy(dropped, row["own"], color=color, label=case)
            axes.semilogy(dropped, row["best"], ":", color=color, linewidth=1)
        axes.set(title=name, xlabel="least certain pixels dropped (%)", ylabel="RMSE (m)")
        axes.grid(color=GRID)
    lines, cases = axes.get_legend_handles_labels()
    title = "measurements\n(dotted: by the\ntrue error)"
    figure.legend(lines, cases, loc="outside right center", title=title)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        figure.savefig(part, dpi=110, format="png")
