"""The command `python -m visualize.report output/RUN`."""

import argparse
from pathlib import Path

from engine.cli import run_script
from visualize.report import write_report


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m visualize.report",
        description="Write a run's scores, curves and pictures as one HTML page.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument(
        "--eval_dir", type=Path, help="where eval.py wrote (default <run>/eval_result)"
    )
    parser.add_argument("--out", type=Path, help="page to write (default <run>/report.html)")
    parser.add_argument("--debug", action="store_true", help="full traceback on errors")
    args = parser.parse_args(argv)
    print(f"report: {write_report(args.run, eval_dir=args.eval_dir, out=args.out)}")


if __name__ == "__main__":
    run_script(main)
