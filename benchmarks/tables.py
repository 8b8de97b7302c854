"""The README's speed tables, made from the CSV files of benchmarks/results.

python -m benchmarks.tables            # print them
python -m benchmarks.tables --write    # put them into README.md, between their markers
"""

import argparse
import csv
from pathlib import Path

from benchmarks.timing import RESULTS

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"

# Results file -> title and the columns shown, by their heading.
TABLES = {
    "propagation": (
        "Propagation alone, 24 steps (`python -m benchmarks.propagation`)",
        {
            "": "what",
            "form": "form",
            "batch": "batch",
            "size": "size",
            "ms": "ms",
            "times faster": "times_faster",
            "kept for backward, MB": "kept_for_backward_MB",
        },
    ),
    "network": (
        "Inference, ResNet-50 (`python -m benchmarks.network`)",
        {
            "form": "form",
            "batch": "batch",
            "size": "size",
            "ms": "ms",
            "times faster": "times_faster",
        },
    ),
    "export": (
        "Exported networks on a CPU (`python -m benchmarks.export`)",
        {
            "form": "form",
            "network": "arch",
            "batch": "batch",
            "size": "size",
            "file, MB": "file_MB",
            "largest difference / largest depth": "relative",
            "ms": "ms",
            "times faster": "times_faster",
        },
    ),
    "training": (
        "Training step, ResNet-50 (`python -m benchmarks.training`)",
        {"form": "form", "batch": "batch", "size": "size", "ms": "ms", "times faster": "ratio"},
    ),
    "training_memory": (
        "Peak memory of a training step beyond parameters, gradients and optimiser state "
        "(`python -m benchmarks.training --memory --batch 8`)",
        {
            "form": "form",
            "batch": "batch",
            "size": "size",
            "MB": "peak_MB",
            "times less": "ratio",
        },
    ),
    "loader": (
        "One sample of the loader, one thread (`python -m benchmarks.loader`)",
        {
            "": "what",
            "storage": "storage",
            "plain, ms": "plain_ms",
            "this project, ms": "ms",
            "times faster": "times_faster",
        },
    ),
    "propagation_scaling": (
        "Growth of the propagation with the work (`python -m benchmarks.propagation --scaling`)",
        {
            "": "what",
            "form": "form",
            "batch": "batch",
            "size": "size",
            "steps": "steps",
            "ms": "ms",
            "times faster than plain": "times_faster",
        },
    ),
}
# Rows a table leaves out, to stay readable; the CSV has them.
HIDDEN = {"propagation_scaling": lambda row: row["form"] != "fast"}


def table(name: str, path: Path) -> str:
    """One results file as Markdown, with the hardware and date it was measured on."""
    title, columns = TABLES[name]
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [r for r in csv.DictReader(stream) if not HIDDEN.get(name, lambda _: False)(r)]
    lines = [
        f"{title}; {rows[0]['measured_on']}:",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(row[key] for key in columns.values()) + " |" for row in rows),
    ]
    return "\n".join(lines)


def tables(folder: Path = RESULTS) -> str:
    """All tables whose results exist, CPU before GPU."""
    found = []
    for device in ("cpu", "cuda"):
        for name in TABLES:
            path = folder / f"{name}_{device}.csv"
            if path.is_file():
                found.append(table(name, path))
    return "\n\n".join(found)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--write", action="store_true", help="replace the tables in README.md")
    args = parser.parse_args(argv)
    text = tables()
    if not args.write:
        print(text)
        return
    readme = README.read_text(encoding="utf-8")
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
