"""Score a checkpoint and interpolation on the same measurements, of any number and pattern.

    python -m benchmarks.any_density --resume output/my_run --set nyu=data/nyudepth_hdf5
    python -m benchmarks.any_density --resume output/my_run --set rooms=data/sample_rooms \\
        --set streets=kitti:data/sample_streets --frames 24 --draws 5

Frames are those of each root's val/, as train.py and eval.py see them, holes left out. Draw d of
frame i depends on (seed + d, i) alone and every method sees it. --out gets one line per set, case
and method: RMSE, MAE and REL as means over frames, the deviation of the RMSE over draws, and
`times_linear`, the RMSE over that of linear interpolation of the same measurements. Of a network
that expects an error also `coverage` (of the interval that should hold 90 % of all pixels),
`without_fifth` (RMSE without the least certain 20 % of the pixels, over that of all) and `ause` (0
is best). `unit` is the largest difference of a depth, over the mean depth, when the same
measurements are given in millimetres; it is measured on one draw of every 16th frame. --curves gets
a picture of the sparsification curves: RMSE against the part of the pixels that is dropped.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.sparsification import (
    coverage,
    save_sparsification,
    sparsification,
    sparsification_error,
)
from dataloaders import DATA_SETS, DataError, DepthDataset
from dataloaders.sampling import Measurements, measure
from dataloaders.transforms import encode_rgb
from engine.baselines import BASELINES, Interpolation
from engine.checkpoint import find_checkpoint, load_checkpoint, load_network
from engine.cli import run_script
from engine.config import NetworkConfig, evaluation_settings
from engine.metrics import depth_metrics
from engine.progress import progress

CASES = {
    **{f"{n:,}": Measurements("exact", n) for n in (5, 50, 200, 500, 2_000, 20_000)},
    "16 lines": Measurements("lines", 20_000, lines=16),
    "64 lines": Measurements("lines", 20_000, lines=64),
    "corners": Measurements("corners", 500),
    "window": Measurements("window", 500),
    "grid": Measurements("grid", 500),
    "500, 2 % noise": Measurements("exact", 500, noise=0.02),
    "500, 10 % wrong": Measurements("exact", 500, outliers=0.1),
}
STEPS = 20  # of a sparsification curve
KEYS = ["set", "case", "method"]
SCORES = ["RMSE", "MAE", "ABS_REL", "coverage", "without_fifth", "ause", "unit"]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every flag of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--resume", help="checkpoint or run folder (default interpolation alone)")
    parser.add_argument(
        "--set",
        action="append",
        required=True,
        metavar="NAME=ROOT",
        help="a data root and its name in the table; NAME=kitti:ROOT for KITTI's protocol, "
        "NAME=train:ROOT for the frames in train/",
    )
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument(
        "--baselines", nargs="*", choices=tuple(BASELINES), default=tuple(BASELINES)
    )
    parser.add_argument("--frames", type=int, help="of each set, evenly spread (default all)")
    parser.add_argument("--draws", type=int, default=1, help="of each case (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.add_argument("--out", default="output/any_density.csv", help="table to write")
    parser.add_argument("--curves", metavar="PNG", help="sparsification curves (default none)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Score, print and write the table."""
    args = build_parser().parse_args(argv)
    methods = {name: Interpolation(name) for name in args.baselines}
    encoding = "normalized"
    if args.resume:
        methods["network"], encoding = _network(args.resume)
    rows = []
    for entry in args.set:
        name, dataset = open_set(entry)
        indices = range(len(dataset))
        if args.frames:
            last = len(dataset) - 1
            indices = np.linspace(0, last, min(args.frames, len(dataset)), dtype=int)
        for index in progress(indices, label=name, unit="frame"):
            rows += _score_frame(args, name, dataset, int(index), methods, encoding)
    rows = pd.DataFrame(rows)
    if args.curves:
        save_sparsification(Path(args.curves), sparsification_table(rows))
    table = summarize(rows)
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, float_format="%.5g")
    print(table.to_string(float_format="%.3f", na_rep=""))
    print(f"\nwritten to {out}")


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means over frames and draws by set, case and method, in the order of the rows.

    Args:
        rows: one per set, case, method, frame and draw, with `SCORES`.
    """
    by_draw = rows.groupby([*KEYS, "draw"], sort=False)["RMSE"].mean()
    table = rows.groupby(KEYS, sort=False)[SCORES].mean()
    table.insert(1, "RMSE_std", by_draw.groupby(KEYS, sort=False).std())
    linear = table["RMSE"].xs("linear", level="method") if "linear" in rows["method"].values else {}
    at = [linear.get(key[:2], float("nan")) for key in table.index]
    table.insert(2, "times_linear", table["RMSE"] / at)
    return table.dropna(axis="columns", how="all")


def sparsification_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return mean sparsification curves: a line per set and case, columns `own` and `best` of
    (STEPS,) arrays in metres."""
    curves = rows.dropna(subset=["own"]).groupby(["set", "case"], sort=False)[["own", "best"]]
    return curves.agg(lambda column: np.mean(np.stack(column.to_list()), axis=0))


def _network(path: str) -> tuple[torch.nn.Module, str]:
    checkpoint = load_checkpoint(find_checkpoint(Path(path)))
    settings = NetworkConfig.of(evaluation_settings(checkpoint.args))
    model = load_network(checkpoint, settings, torch.device("cpu"))
    return model.eval(), settings.rgb_encoding


def open_set(entry: str) -> tuple[str, DepthDataset]:
    """Return name and frames of a `--set`."""
    name, equals, root = entry.partition("=")
    if not equals:
        raise DataError(f"--set must be NAME=ROOT, got {entry}")
    kind = next((word for word in ("kitti", "train") if root.startswith(f"{word}:")), "")
    return name, DATA_SETS["kitti" if kind == "kitti" else "nyudepth"](
        root.removeprefix(f"{kind}:"),
        "train" if kind == "train" else "val",
        augment=False,
        n_sample=0,
        depth_resize="hole_aware",
    )


@torch.inference_mode()
def _score_frame(
    args: argparse.Namespace,
    name: str,
    dataset: DepthDataset,
    index: int,
    methods: dict[str, torch.nn.Module],
    encoding: str,
) -> list[dict]:
    """Return one row per case, draw and method."""
    frame, rows = dataset.load(index, 0), []
    rgb, depth = frame["rgb"], frame["depth"]
    target = torch.from_numpy(depth)[None, None]
    for case in args.cases:
        for draw in range(args.draws):
            rng = np.random.default_rng((args.seed + draw, index))
            sparse_depth = measure(rgb, depth, CASES[case], rng)
            rgbd = np.concatenate((encode_rgb(rgb, encoding), sparse_depth[None]))
            rgbd = torch.from_numpy(rgbd)[None]
            for method, model in methods.items():
                scores = _scores(model, rgbd, target, with_unit=draw == 0 and index % 16 == 0)
                rows.append({"set": name, "case": case, "method": method, "draw": draw} | scores)
    return rows


def _scores(
    model: torch.nn.Module, rgbd: torch.Tensor, target: torch.Tensor, *, with_unit: bool
) -> dict[str, object]:
    """Return `SCORES` of one image and its sparsification curves, NaN where they do not apply."""
    if isinstance(model, Interpolation):
        pred, error = model(rgbd), None
    else:
        pred, error = model(rgbd, with_error=True)
    found = {name: value.item() for name, value in depth_metrics(pred, target).items()}
    scores = dict.fromkeys([*SCORES, "own", "best"], float("nan"))
    scores |= {m: found[m] for m in SCORES if m in found}
    if error is not None:
        maps = pred[0, 0], target[0, 0]
        own = sparsification(maps[0], error[0, 0], maps[1], STEPS)
        best = sparsification(maps[0], (maps[0] - maps[1]).abs(), maps[1], STEPS)
        scores["coverage"] = coverage(pred, error, target).item()
        scores["without_fifth"] = (own[STEPS // 5] / own[0]).item()
        scores["ause"] = sparsification_error(own, best)
        scores |= {"own": own.numpy(), "best": best.numpy()}
    if with_unit and getattr(model, "depth_input", "sparse") == "filled":
        millimetres = torch.cat((rgbd[:, :3], 1000 * rgbd[:, 3:]), dim=1)
        scores["unit"] = ((model(millimetres) / 1000 - pred).abs().max() / pred.mean()).item()
    return scores


if __name__ == "__main__":
    run_script(main)
