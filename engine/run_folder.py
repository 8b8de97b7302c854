"""The files of a run: `args.json`, CSV tables and `log.jsonl`, each row on disk when written."""

import csv
import json
import math
import platform
import time
from collections.abc import Iterable
from pathlib import Path

import torch
import torchvision

from engine.failure import RunError


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
        """The rows of `<table>.csv` with every cell a number; none where there is no table.

        Raises:
            RunError: a table that is damaged.
        """
        path = self.path / f"{table}.csv"
        return [_numbers(path, row) for row in _read_table(path)] if path.exists() else []

    def forget_epochs(self, table: str, after: int, columns: Iterable[str] = ()) -> None:
        """Drop the rows of epochs past `after`, which a resumed run is going to write again.

        Those that stay are checked here, before the next epoch is trained: `columns` are some
        that the run is going to write and that the table must therefore have.

        Raises:
            RunError: a table that is damaged, or lacks one of the columns.
        """
        path = self.path / f"{table}.csv"
        if not path.exists():
            return
        rows = _read_table(path)
        missing = [column for column in ("epoch", *columns) if column not in rows[0]]
        if missing:
            raise RunError(f"{path} has no column {missing[0]}{_REMEDY}")
        rows = [row for row in rows if _epoch(path, row) <= after]
        for row in rows:
            _numbers(path, row)
        path.unlink()
        for row in rows:
            self.append_row(table, row)


# What may be done about a damaged table; nothing that a run computes depends on it.
_REMEDY = "; repair the table, or move it away to go on without its rows"


def _read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table, at least one, each a cell a column where it is whole.

    Raises:
        RunError: not a CSV file in UTF-8, or without a row.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read: {error}{_REMEDY}") from error
    if not rows:
        raise RunError(f"{path} holds no row{_REMEDY}")
    return rows


def _epoch(path: Path, row: dict[str, str]) -> int:
    try:
        return int(row["epoch"])
    except ValueError as error:
        shown = repr(row["epoch"][:20])
        raise RunError(f"{path} has a row of epoch {shown}, expected a number{_REMEDY}") from error


def _numbers(path: Path, row: dict[str, str]) -> dict[str, float]:
    """A row with every cell a number; cells that lack or are too many have no name or value."""
    try:
        return {column: float(cell) for column, cell in row.items()}
    except (TypeError, ValueError) as error:
        raise RunError(
            f"{path} has a damaged row, {len(row)} columns of numbers expected, beginning "
            f"{','.join(map(str, row.values()))[:40]!r}{_REMEDY}"
        ) from error


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
