"""The speed tables of docs/benchmarks.md, made from the CSV files of benchmarks/results.

python -m benchmarks.tables            # print them
python -m benchmarks.tables --write    # put them into docs/benchmarks.md
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.timing import RESULTS
from tools.flag_tables import write_between

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"

# Results file -> title and the columns shown.
TABLES = {
    "propagation": (
        "Propagation alone, 24 steps (`python -m benchmarks.propagation`)",
        ("what", "form", "batch", "size", "ms", "times_faster", "kept_for_backward_MB"),
    ),
    "network": (
        "Inference, ResNet-50 (`python -m benchmarks.network`)",
        ("form", "batch", "size", "ms", "times_faster"),
    ),
    "export": (
        "Exported networks on a CPU (`python -m benchmarks.export`)",
        ("form", "arch", "batch", "size", "file_MB", "relative", "ms", "times_faster"),
    ),
    "training": (
        "Training step, ResNet-50 (`python -m benchmarks.training`)",
        ("form", "batch", "size", "ms", "times_faster"),
    ),
    "training_memory": (
        "Peak memory of a training step beyond parameters, gradients and optimiser state "
        "(`python -m benchmarks.training --memory --batch 8`)",
        ("form", "batch", "size", "peak_MB", "times_less"),
    ),
    "loader": (
        "One sample of the loader, one thread (`python -m benchmarks.loader`)",
        ("what", "storage", "plain_ms", "ms", "times_faster"),
    ),
    "propagation_scaling": (
        "Growth of the propagation with the work (`python -m benchmarks.propagation --scaling`)",
        ("what", "form", "batch", "size", "steps", "ms", "times_faster"),
    ),
}
# Columns of the CSV files whose heading is not their name with spaces.
HEADINGS = {
    "what": "",
    "arch": "network",
    "file_MB": "file, MB",
    "peak_MB": "MB",
    "plain_ms": "plain, ms",
    "relative": "largest difference / largest depth",
    "kept_for_backward_MB": "kept for backward, MB",
}


def table(name: str, path: Path) -> str:
    """Return one results file as a Markdown table, with the hardware and date it comes from."""
    title, columns = TABLES[name]
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows = rows.rename(columns={"ratio": "times_less" if "memory" in name else "times_faster"})
    if name == "propagation_scaling":  # to stay readable; the CSV has the other forms
        rows = rows[rows["form"] == "fast"]
    headings = [HEADINGS.get(column, column.replace("_", " ")) for column in columns]
    lines = [
        f"{title}; {rows['measured_on'].iloc[0]}:",
        "",
        f"| {' | '.join(headings)} |",
        "|" + "---|" * len(columns),
        *(f"| {' | '.join(row)} |" for row in rows[list(columns)].to_numpy()),
    ]
    return "\n".join(lines)


def tables(folder: Path = RESULTS) -> str:
    """Return all tables whose results exist, CPU before GPU."""
    files = {d: {name: folder / f"{name}_{d}.csv" for name in TABLES} for d in ("cpu", "cuda")}
    found = [table(n, path) for of in files.values() for n, path in of.items() if path.is_file()]
    return "\n\n".join(found)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--write", action="store_true", help="replace the tables of the page")
    if parser.parse_args(argv).write:
        write_between(PAGE, BEGIN, END, tables)
    else:
        print(tables())


if __name__ == "__main__":
    main()
