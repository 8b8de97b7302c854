"""Train every refinement with equal budgets on the sample rooms and tabulate them.

    python -m benchmarks.ablation --steps 150        # two CPU cores, about half an hour
    python -m benchmarks.ablation --arch resnet50 --num_epoch 40 --batch_size_train 8 \\
        --lr_schedule plateau                        # a GPU, the published number of epochs

Every network starts from the same seed, sees the same frames in the same order and is scored on
the same draws of the samples; interpolation of those draws is the baseline. Runs are written to
--save_dir and resumed when the command is given again. The table goes to <save_dir>/ablation.csv
and, as Markdown, to the screen.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = {
    "UNet": ["--refine", "none"],
    "UNet + SPN": ["--refine", "spn"],
    "UNet + CSPN, 8sum": ["--refine", "cspn", "--cspn_norm_type", "8sum"],
    "UNet + CSPN, 8sum_abs": ["--refine", "cspn", "--cspn_norm_type", "8sum_abs"],
    "UNet + CSPN, 8sum, anchor sparse": ["--refine", "cspn", "--cspn_anchor", "sparse"],
}
COLUMNS = ("RMSE", "MAE", "ABS_REL", "DELTA1.02", "DELTA1.05", "DELTA1.10", "DELTA1.25")


def build_parser() -> argparse.ArgumentParser:
    """Every flag of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data_root", default="data/sample_rooms", help="NYU layout (metres)")
    parser.add_argument("--save_dir", default="output/ablation", help="folder of all runs")
    parser.add_argument("--arch", default="resnet18", help="encoder (default resnet18)")
    parser.add_argument("--num_epoch", type=int, default=3, help="epochs of each run (default 3)")
    parser.add_argument("--steps", type=int, help="limit on the steps of each run (default none)")
    parser.add_argument("--batch_size_train", type=int, default=4, help="images (default 4)")
    parser.add_argument("--repeat", type=int, default=3, help="draws of the samples (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of training and draws (default 0)")
    parser.add_argument("--lr_schedule", default="cosine", help="plateau or cosine")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    save_dir = Path(args.save_dir)
    rows = []
    for name, flags in VARIANTS.items():
        run = save_dir / name.lower().replace(" + ", "_").replace(", ", "_").replace(" ", "_")
        train(args, run, flags)
        call(
            "eval.py",
            "--resume",
            run,
            "--repeat",
            args.repeat,
            "--seed",
            args.seed,
            "--pictures",
            4,
        )
        scored = read(run / "eval_result" / "summary.csv")
        if not rows:
            rows = [row_of(f"{method} interpolation", scored[method]) for method in scored][1:]
        rows.append(row_of(name, next(iter(scored.values()))))
    with (save_dir / "ablation.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(markdown(rows))
    print(f"\nwritten to {save_dir / 'ablation.csv'}")


def train(args: argparse.Namespace, run: Path, flags: list[str]) -> None:
    """Train one variant, or go on with it."""
    limit = [] if args.steps is None else ["--max_steps", args.steps]
    call(
        "train.py",
        *("--data_root", args.data_root, "--save_dir", run, "--resume", "auto"),
        *("--arch", args.arch, "--batch_size_train", args.batch_size_train),
        *("--num_epoch", args.num_epoch, "--lr_schedule", args.lr_schedule),
        *("--nesterov", "--seed", args.seed),
        *limit,
        *flags,
    )


def call(script: str, *arguments: object) -> None:
    """Run a script of this project; its messages and errors go to the screen."""
    done = subprocess.run([sys.executable, ROOT / script, *map(str, arguments)], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def read(path: Path) -> dict[str, dict[str, str]]:
    """Method -> row of a summary.csv, in its order: the network first, then the baselines."""
    with path.open(newline="", encoding="utf-8") as stream:
        return {row["method"]: row for row in csv.DictReader(stream)}


def row_of(name: str, scores: dict[str, str]) -> dict[str, str]:
    """A row of the table: mean and deviation of RMSE, means of the rest."""
    row = {"network": name, "RMSE": scores["RMSE"], "RMSE_std": scores["RMSE_std"]}
    return row | {column: scores[column] for column in COLUMNS[1:]}


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the Markdown table of docs/benchmarks.md."""
    lines = [
        "| network | RMSE (m) | MAE (m) | REL | δ1.02 | δ1.05 | δ1.10 | δ1.25 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{float(row['RMSE']):.4f} ± {float(row['RMSE_std']):.4f}"]
        cells += [f"{float(row[column]):.4f}" for column in COLUMNS[1:]]
        lines.append(f"| {row['network']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
