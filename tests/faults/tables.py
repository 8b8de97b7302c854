"""Damaged tables in a run folder. A run that goes on writes train.csv and eval.csv again from what
its checkpoint knows, so that whatever became of them, they end whole."""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from engine.checkpoint_writer import CheckpointWriter
from engine.errors import RunError
from engine.metrics import METRICS
from engine.run_folder import RunFolder
from tests.faults.cases import Case


def table_cases() -> Iterator[Case]:
    """Each damage done to train.csv and to eval.csv."""
    for table in ("train", "eval"):
        for name, content in _contents(_whole(table)).items():
            yield Case(
                "table",
                f"{table}.csv: {name}",
                partial(_write, table=table, content=content),
                _resume,
                RunError,
                fine=is_whole,
            )


def _rows(table: str) -> list[dict[str, float]]:
    names = ["LOSS", *METRICS] if table == "train" else METRICS
    return [
        {"epoch": epoch, "lr": 0.01, "is_best": 1, **dict.fromkeys(names, 0.5 / epoch)}
        for epoch in (1, 2, 3)
    ]


def _whole(table: str) -> bytes:
    rows = _rows(table)
    lines = [",".join(rows[0]), *(",".join(f"{v:.6g}" for v in row.values()) for row in rows)]
    return ("\r\n".join(lines) + "\r\n").encode()


def _write(folder: Path, table: str, content: bytes) -> None:
    for name in ("train", "eval"):
        (folder / f"{name}.csv").write_bytes(content if name == table else _whole(name))


def _resume(folder: Path) -> list[list[dict[str, float]]]:
    """What train.py does with the tables of a run that goes on after three epochs."""
    known = SimpleNamespace(rows={table: _rows(table) for table in ("train", "eval")})
    CheckpointWriter(RunFolder(folder), {}, minutes=10).write_tables(known)
    tables = []
    for table in known.rows:
        with (folder / f"{table}.csv").open(newline="", encoding="utf-8") as stream:
            rows = csv.DictReader(stream)
            tables.append([{k: float(v) for k, v in row.items()} for row in rows])
    return tables


def is_whole(tables: list[list[dict[str, float]]]) -> bool:
    """Whether both tables hold three whole epochs."""
    return all(
        [row["epoch"] for row in rows] == [1, 2, 3]
        and all(value == value for row in rows for value in row.values())
        for rows in tables
    )


def _contents(whole: bytes) -> dict[str, bytes]:
    """Name -> bytes of the table."""
    header, first, second, *_ = lines = whole.split(b"\r\n")
    body = b"\r\n".join(lines[1:])
    cells = first.split(b",")
    return {
        "cut in the last row": whole[:-20],
        "cut in the first row": whole[: len(header) + 10],
        "cut in the header": whole[: len(header) // 2],
        "a row of one cell": b"\r\n".join([header, b"1", second, b""]),
        "a row with a cell too many": b"\r\n".join([header, first + b",7", b""]),
        "no header": body,
        "another header": body.replace(b"1", b"a", 1),
        "no column epoch": whole.replace(b"epoch,", b"step,", 1),
        "no column RMSE": whole.replace(b",RMSE,", b",OTHER,", 1),
        "an epoch that is a word": whole.replace(b"\r\n2,", b"\r\ntwo,", 1),
        "an epoch that is a fraction": whole.replace(b"\r\n2,", b"\r\n2.5,", 1),
        "an epoch that is not finite": whole.replace(b"\r\n2,", b"\r\nnan,", 1),
        "a metric that is a word": b"\r\n".join([header, b",".join([*cells[:-1], b"x"]), b""]),
        "an empty cell": b"\r\n".join([header, b",".join([*cells[:-1], b""]), b""]),
        "semicolons": whole.replace(b",", b";"),
        "an empty file": b"",
        "zero bytes": bytes(2000),
        "random bytes": bytes(range(128, 256)) * 20,
        "UTF-16": whole.decode().encode("utf-16"),
        "a cell of 1 MB": whole + b"4," + b"9" * 1_000_000 + b"\r\n",
        "an open quote": whole.replace(b"\r\n2,", b'\r\n"2,', 1),
    }
