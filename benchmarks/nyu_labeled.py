"""Train the networks of the paper's comparison with one small budget, and score them.

    python -m benchmarks.nyu_labeled --data_root data/nyudepth_hdf5 --jobs 2

Each row of `ROWS` is trained on NYU Depth v2's labelled training frames (795, of which 5 % are held
out and choose the epoch) with the same number of epochs, and scored by eval.py on the 654 test
images over the same draws of 500 samples. Runs lie in --save_dir, one folder each: a second call
goes on where the first one stopped. --out gets one line per row and training seed, and one per
interpolation, with means over images and draws and `RMSE_std`, the deviation over draws.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import torch

from benchmarks.timing import describe
from engine.cli import run_script
from engine.errors import OptionError

ADAMW = "--optimizer adamw --lr 0.001 --weight_decay 0.01 --lr_schedule warmup_cosine"
# Name: flags of train.py, training seeds.
ROWS = {
    "CSPN 8sum": ("", (0, 1)),
    "UNet": ("--refine none", (0, 1)),
    "UNet + SPN": ("--refine spn", (0,)),
    "CSPN 8sum_abs": ("--cspn_norm_type 8sum_abs", (0,)),
    "CSPN 8sum, anchor sparse": ("--cspn_anchor sparse", (0,)),
    "CSPN 8sum, kernel 5": ("--cspn_kernel_size 5", (0,)),
    "CSPN 8sum, SGD as published": (
        "--optimizer sgd --lr 0.01 --weight_decay 0.0001 --lr_schedule plateau --nesterov",
        (0,),
    ),
    "CSPN 8sum, filled input": ("--depth_input filled", (0,)),
    "CSPN 8sum, filled input, compact": ("--depth_input filled --arch resnet10_half", (0,)),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every flag of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data_root", required=True, help="with train/labeled and val/official")
    parser.add_argument("--save_dir", default="output/nyu_labeled", help="folder of the runs")
    parser.add_argument("--out", default="output/nyu_labeled.csv", help="table to write")
    parser.add_argument("--num_epoch", type=int, default=2, help="of each row (default 2)")
    parser.add_argument("--repeat", type=int, default=5, help="draws of samples (default 5)")
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time (default 1)")
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=tuple(ROWS))
    return parser


def main(argv: list[str] | None = None) -> None:
    """Train, score and write the table."""
    args = build_parser().parse_args(argv)
    runs = [(name, seed) for name in args.rows for seed in ROWS[name][1]]
    with ThreadPoolExecutor(args.jobs) as pool:
        tables = list(pool.map(lambda run: _run(args, *run, baselines=run == runs[0]), runs))
    table = pd.concat(tables, ignore_index=True)
    table = table.astype(dict.fromkeys(("seed", "epoch", "steps"), "Int64"))
    table["measured_on"] = describe(torch.device("cpu"))
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.out, index=False, float_format="%.4g")
    print(table[["row", "seed", "epoch", "minutes", "RMSE", "RMSE_std", "ABS_REL"]].to_string())


def _run(args: argparse.Namespace, name: str, seed: int, *, baselines: bool) -> pd.DataFrame:
    """Train and score one row; return its lines of the table."""
    folder = Path(args.save_dir) / f"{name.replace(' ', '_').replace(',', '')}_seed{seed}"
    training = (
        f"--arch resnet18 --amp bf16 --batch_size_train 4 --holdout 0.05 --seed {seed} {ADAMW}"
    )
    training += f" --num_epoch {args.num_epoch} --num_workers 0 --save_minutes 3 {ROWS[name][0]}"
    where = ["--data_root", args.data_root, "--save_dir", str(folder)]
    if not (folder / "eval_result" / "summary.csv").exists():
        _call("train.py", *where, *training.split(), "--resume", "auto", log=folder)
        scoring = f"--resume {folder} --repeat {args.repeat} --pictures 0 --num_workers 0"
        scoring += " --amp bf16"
        scoring += "" if baselines else " --no-baselines"
        _call("eval.py", *scoring.split(), log=folder)
    epochs = pd.read_json(folder / "log.jsonl", lines=True).query("event == 'epoch'")
    summary = pd.read_csv(folder / "eval_result" / "summary.csv")
    own = ~summary["method"].isin(("nearest", "linear"))
    if not baselines:  # a folder of an earlier call may hold them
        summary, own = summary[own].copy(), own[own]
    summary.insert(0, "row", summary["method"].where(~own, name))
    chosen = pd.read_csv(folder / "eval.csv")["RMSE"].idxmin() + 1
    for column, value in {
        "seed": seed,
        "epoch": chosen,
        "steps": epochs["step"].max(),
        "minutes": round(epochs["seconds"].sum() / 60, 1),
    }.items():
        summary[column] = pd.Series(value, summary.index).where(own)
    return summary


def _call(script: str, *flags: str, log: Path) -> None:
    """Run a script of this project; its output goes to a file beside the run's."""
    log.mkdir(parents=True, exist_ok=True)
    path = log / f"{Path(script).stem}.out"
    with path.open("a", encoding="utf-8") as stream:
        command = [sys.executable, script, *flags]
        code = subprocess.run(command, stdout=stream, stderr=stream, env=os.environ).returncode
    if code:
        raise OptionError(f"{' '.join(command)} ended with exit code {code}; see {path}")


if __name__ == "__main__":
    run_script(main)
