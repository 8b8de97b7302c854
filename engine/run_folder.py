"""The files of a run: `args.json`, CSV tables and `log.jsonl`, each row on disk when written."""

import csv
import json
import math
import platform
import time
from pathlib import Path

import torch
import torchvision


class RunFolder:
    """A folder that a run writes its settings, tables and log into."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def write_args(self, args: dict) -> None:
        """Settings and environment, so that the run can be repeated."""
        environment = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "cpu_threads": torch.get_num_threads(),
        }
        text = json.dumps({"args": args, "environment": environment}, indent=2)
        (self.path / "args.json").write_text(text + "\n", encoding="utf-8")

    def log(self, event: str, **values: object) -> None:
        """Append one JSON object with the time to `log.jsonl`."""
        record = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **values}
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")

    def append_row(self, table: str, row: dict) -> None:
        """Append a row to `<table>.csv`, with a header when it is the first."""
        path = self.path / f"{table}.csv"
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(row))
            if is_new:
                writer.writeheader()
            writer.writerow({key: _cell(value) for key, value in row.items()})

    def read_rows(self, table: str) -> list[dict[str, float]]:
        """The rows of `<table>.csv` with every cell a number; none where there is no table."""
        path = self.path / f"{table}.csv"
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as stream:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]

    def forget_epochs(self, table: str, after: int) -> None:
        """Drop the rows of epochs past `after`, which a resumed run is going to write again."""
        path = self.path / f"{table}.csv"
        if not path.exists():
            return
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if int(row["epoch"]) <= after]
        path.unlink()
        for row in rows:
            self.append_row(table, row)


def write_table(path: Path, rows: list[dict]) -> None:
    """Write dicts of equal keys as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def format_table(rows: list[dict]) -> str:
    """Dicts of equal keys as an aligned text table, numbers to four places."""
    cells = [list(rows[0]), *[[_text(value) for value in row.values()] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def _text(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return str(value)
