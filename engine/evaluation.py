"""Score a network on a data set: the one loop that train.py and eval.py both use."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from engine import distributed
from engine.metrics import METRICS, depth_metrics
from engine.precision import autocast
from engine.progress import progress
from models import packed_weights

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
    """Run `model` over `loader` in evaluation mode, under `--amp` where asked for; on a CPU with
    its weights packed (`models.packed_weights`), which takes their memory once more.

    Where several processes share the images, each returns the rows of all.

    Returns:
        One row an image, in the data set's order: its `name` and every metric of
        `engine.metrics.METRICS` (NaN where it has no ground truth).
    """
    was_training = model.training
    model.eval()
    names: list[str] = []
    indices: list[int] = []
    scores: list[dict[str, Tensor]] = []
    with packed_weights(model):
        for batch in progress(loader, label=label, unit="batch", leave=False):
            batch = to_device(batch, device)
            with autocast(amp, device):
                pred = model(batch["rgbd"])
            scores.append(depth_metrics(pred, batch["depth"]))
            names.extend(batch["name"])
            indices.extend(batch["index"].tolist())
            if on_batch is not None:
                on_batch(batch, pred)
    model.train(was_training)
    columns = {
        metric: torch.cat([s[metric] for s in scores]).tolist() if scores else []
        for metric in METRICS
    }
    rows = [
        (index, {"name": name, **{metric: columns[metric][i] for metric in METRICS}})
        for i, (index, name) in enumerate(zip(indices, names, strict=True))
    ]
    everyones = [row for share in distributed.gathered(rows) for row in share]
    return [row for _, row in sorted(everyones, key=lambda pair: pair[0])]


def to_device(batch: dict, device: torch.device) -> dict:
    """The batch with what the network and the scores read on `device`; the rest stays."""
    return batch | {key: batch[key].to(device, non_blocking=True) for key in ("rgbd", "depth")}


def mean_scores(rows: list[dict[str, float | str]]) -> dict[str, float]:
    """Metric -> mean over the images that have ground truth."""
    scored = [row for row in rows if row["MSE"] == row["MSE"]]
    if not scored:
        return dict.fromkeys(METRICS, float("nan"))
    return {metric: sum(row[metric] for row in scored) / len(scored) for metric in METRICS}


def best_and_worst(rows: list[dict], count: int) -> tuple[list[dict], list[dict]]:
    """Up to `count` rows of lowest and of highest RMSE, the most extreme first, none in both;
    images without ground truth are left out."""
    ranked = sorted((row for row in rows if row["RMSE"] == row["RMSE"]), key=lambda r: r["RMSE"])
    best = ranked[: min(count, (len(ranked) + 1) // 2)]
    worst = ranked[max(len(best), len(ranked) - count) :]
    return best, worst[::-1]
