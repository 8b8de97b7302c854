"""Score a network on a data set: the one loop that train.py and eval.py both use."""

import math
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dataloaders import DepthDataset
from dataloaders.errors import counted
from engine import distributed
from engine.errors import RunError
from engine.files import write_csv
from engine.metrics import METRICS, depth_metrics, measured_pixels
from engine.precision import autocast
from engine.progress import progress

# Called with the batch (on the device) and the prediction (B, 1, H, W) in metres.
BatchHook = Callable[[dict, Tensor], None]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: DataLoader,
    device: torch.device,
    *,
    amp: str = "off",
    on_batch: BatchHook | None = None,
    label: str = "eval",
) -> list[dict[str, float | str]]:
    """Run `model` over `loader` in evaluation mode, under `--amp` where asked for.

    Return one row per image, in the data set's order: its `name` and every metric of
    `engine.metrics.METRICS`, NaN where it has no ground truth. Of several processes each scores a
    part of the images and returns the rows of all.

    Raises:
        RunError: the prediction for an image with ground truth is not finite; the sentence names
            the image. Or no image has ground truth. Every process raises it.
    """
    was_training = model.training
    model.eval()
    images: list[tuple[int, str]] = []
    tables: list[Tensor] = []
    for batch in progress(loader, label=label, unit="batch", leave=False):
        batch = to_device(batch, device)
        with autocast(amp, device):
            pred = model(batch["rgbd"])
        scores = depth_metrics(pred, batch["depth"])
        # Kept on the device: reading them here would make it wait at every batch.
        columns = [measured_pixels(batch["depth"]), pred.isfinite().flatten(1).all(dim=1)]
        columns += [scores[metric] for metric in METRICS]
        tables.append(torch.stack([column.double() for column in columns], dim=1))
        images += zip(batch["index"].tolist(), batch["name"], strict=True)
        if on_batch is not None:
            on_batch(batch, pred)
    model.train(was_training)
    values = torch.cat(tables).tolist() if tables else []
    scored = [(*image, *value) for image, value in zip(images, values, strict=True)]
    rows, broken = [], []
    for _, name, pixels, is_finite, *scores in sorted(chain(*distributed.all_gather(scored))):
        rows.append({"name": name} | dict(zip(METRICS, scores, strict=True)))
        if pixels and not (is_finite and all(map(math.isfinite, scores))):
            broken.append(name)
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        advice = "; try --amp bf16 or off" if amp == "fp16" else ""
        raise RunError(f"{label}: the depth predicted for {broken[0]}{more} is not finite{advice}")
    if rows and not with_ground_truth(rows):
        raise RunError(f"{label}: no image of {len(rows)} has ground truth, depth above 0 m")
    return rows


def to_device(batch: dict, device: torch.device) -> dict:
    """Return the batch with what the network and the scores read on `device`; the rest stays."""
    return batch | {key: batch[key].to(device, non_blocking=True) for key in ("rgbd", "depth")}


def mean_scores(rows: list[dict[str, float | str]]) -> dict[str, float]:
    """Return metric -> mean over the images of `rows` that have ground truth."""
    scored = with_ground_truth(rows)
    return {metric: sum(row[metric] for row in scored) / len(scored) for metric in METRICS}


def with_ground_truth(rows: list[dict]) -> list[dict]:
    """Return the rows of `evaluate` that have scores."""
    return [row for row in rows if not math.isnan(row["MSE"])]


def summarize(scores: pd.DataFrame) -> pd.DataFrame:
    """Return, per method, the mean of each metric over the images that have ground truth, then
    over the seeds, and as `<metric>_std` the deviation over the seeds (NaN for one seed), of rows
    of `evaluate` with columns `method` and `seed`."""
    per_seed = scores.groupby(["method", "seed"], sort=False)[list(METRICS)].mean()
    repeats = per_seed.groupby("method", sort=False)
    return repeats.mean().join(repeats.std().add_suffix("_std"))


def write_scores(folder: Path, scores: pd.DataFrame, method: str) -> pd.DataFrame:
    """Write eval.csv, every image and the mean for `method`, and summary.csv, a row per method;
    return the summary. `scores`: see `summarize`."""
    summary = summarize(scores)
    own = scores[scores["method"] == method].astype({"seed": object})
    mean = summary.loc[[method]].assign(seed="all", name="mean")
    write_csv(folder / "eval.csv", pd.concat([own, mean])[["seed", "name", *METRICS]])
    write_csv(folder / "summary.csv", summary.reset_index())
    return summary


def count_frames(scores: pd.DataFrame, dataset: DepthDataset) -> str:
    """Return in words how many frames of `dataset` were scored, all but those without ground truth,
    in rows of `evaluate` for one method, of one or more seeds."""
    total = len(dataset)
    without = total - int(scores["RMSE"].notna().sum()) * total // len(scores)
    if not without:
        return f"{counted(total, 'frame')} of {dataset.root}"
    have = "has" if without == 1 else "have"
    frames = f"{total - without} of {total} frames of {dataset.root}"
    return f"{frames} ({without} {have} no ground truth)"


def best_and_worst(rows: list[dict], count: int) -> tuple[list[dict], list[dict]]:
    """Return up to `count` rows of lowest and of highest RMSE, the most extreme first, none in
    both; images without ground truth are left out."""
    ranked = sorted(with_ground_truth(rows), key=lambda row: row["RMSE"])
    best = ranked[: min(count, (len(ranked) + 1) // 2)]
    worst = ranked[max(len(best), len(ranked) - count) :]
    return best, worst[::-1]
