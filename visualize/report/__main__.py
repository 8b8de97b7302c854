"""The command `python -m visualize.report output/RUN`."""

from pathlib import Path

from engine.cli import run_script
from engine.flags import command_parser
from visualize.report import write_report


def main(argv: list[str] | None = None) -> None:
    """Write a run's scores, curves and pictures as one HTML page."""
    parser = command_parser("visualize.report", main.__doc__)
    add = parser.add_argument
    add("run", type=Path, help="run folder")
    add("--eval_dir", type=Path, help="where eval.py wrote (default <run>/eval_result)")
    add("--out", type=Path, help="page to write (default <run>/report.html)")
    args = parser.parse_args(argv)
    print(f"report: {write_report(args.run, eval_dir=args.eval_dir, out=args.out)}")


if __name__ == "__main__":
    run_script(main)
