"""A run folder read as untrusted data: what can be read, and a sentence for what cannot."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from visualize.report.record import RECORD

# Sentences about one file; a table that is broken throughout needs no more.
MOST_SENTENCES = 3
MOST_COLUMNS = 64
TEXT_COLUMNS = ("name", "method", "seed")


@dataclass
class RunContent:
    """What a run folder and its evaluation hold; everything may be empty.

    A table has the columns that were asked for; `name`, `method` and `seed` are text, every other
    cell is a number.
    """

    path: Path
    eval_dir: Path
    args: dict
    environment: dict
    train: pd.DataFrame  # the run's train.csv, a row per epoch
    epochs: pd.DataFrame  # the run's eval.csv, a row per epoch
    events: list[dict]
    checkpoints: list[dict]  # file, kind, epoch and scores of each
    images: pd.DataFrame  # the evaluation's eval.csv
    methods: pd.DataFrame  # the evaluation's summary.csv
    record: dict  # the evaluation's evaluation.json
    problems: list[str]  # sentences about what could not be read

    def recorded(self, key: str) -> dict:
        """Return one of the record's groups, {} where it has none."""
        return as_dict(self.record.get(key))

    def first_draw(self) -> pd.DataFrame:
        """Return the rows of `images` that the first sampling seed gave, in order."""
        return self.images[self.images["seed"].isin(self.images["seed"].head(1))]


def read_run(path: Path, eval_dir: Path) -> RunContent:
    """Return what a run folder and `eval_dir` hold; never raise for what a file holds."""
    problems = []

    def read(empty: object, reader: Callable, file: Path, *options: object) -> object:
        """Return what the reader makes of a file; the empty one, with a sentence, if it raises."""
        try:
            return reader(file, problems, *options)
        except FileNotFoundError:
            pass
        except OSError as error:
            problems.append(f"{_label(file)} cannot be read: {error.strerror}.")
        except ValueError as error:
            problems.append(f"{_label(file)} {error}.")
        return empty

    def table(file: Path, *columns: str) -> pd.DataFrame:
        return read(pd.DataFrame(columns=columns, dtype=float), _read_table, file, columns)

    settings = read({}, _read_json, path / "args.json")
    checkpoints = [path / name for name in ("best_model.pth", "last.pth")]
    return RunContent(
        path,
        eval_dir,
        as_dict(settings.get("args")),
        as_dict(settings.get("environment")),
        train=table(path / "train.csv", "epoch", "lr", "LOSS", "RMSE"),
        epochs=table(path / "eval.csv", "epoch", "RMSE", "MAE"),
        events=read([], _read_events, path / "log.jsonl"),
        checkpoints=[_read_checkpoint(file, problems) for file in checkpoints if file.is_file()],
        images=table(eval_dir / "eval.csv", "seed", "name", "RMSE"),
        methods=table(eval_dir / "summary.csv", "method", "RMSE"),
        record=read({}, _read_json, eval_dir / RECORD),
        problems=problems,
    )


def as_dict(value: object) -> dict:
    """Return `value` where it is a dict, {} otherwise."""
    return value if isinstance(value, dict) else {}


def _parse(text: str) -> dict:
    """Return a JSON object; raise ValueError, the end of a sentence, for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("is not JSON") from error
    if not isinstance(found, dict):
        raise ValueError("holds no object of settings")
    return found


def _read_json(path: Path, problems: list[str]) -> dict:
    return _parse(path.read_text(encoding="utf-8", errors="replace"))


def _read_events(path: Path, problems: list[str]) -> list:
    events, wrong = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            events += [_parse(line)] if line.strip() else []
        except ValueError:
            wrong += 1
    if wrong:
        problems.append(f"{_label(path)}: {wrong} line{'s' * (wrong > 1)} not readable.")
    return events


def _read_table(path: Path, problems: list[str], required: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows that have a number in every column but those of text."""
    try:
        # The header is read as a row, so that longer and shorter rows are seen, not shifted.
        cells = pd.read_csv(
            path,
            header=None,
            names=range(MOST_COLUMNS),
            dtype=str,
            keep_default_na=False,
            encoding_errors="replace",
        )
    except ValueError as error:
        raise ValueError(f"is not a table: {str(error).strip()}") from error
    header = [] if cells.empty else [name for name in cells.iloc[0] if name]
    missing = [column for column in required if column not in header]
    if missing:
        raise ValueError(f"has no column {missing[0]}")
    table = cells.iloc[1:, : len(header)].set_axis(header, axis=1)
    rest = cells.iloc[1:, len(header) :]
    table = table.loc[:, ~table.columns.duplicated()]
    wrong = (rest != "").any(axis=1)
    for name in table.columns.difference(TEXT_COLUMNS):
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong |= numbers.isna() & (table[name].str.strip().str.lower() != "nan")
        table[name] = numbers.astype(float)
    problems += [
        f"{_label(path)}, line {row + 1}, is not a row of numbers."
        for row in wrong.index[wrong][:MOST_SENTENCES]
    ]
    if wrong.sum() > MOST_SENTENCES:
        problems.append(f"{_label(path)}: {wrong.sum() - MOST_SENTENCES} more rows like that.")
    return table[~wrong].reset_index(drop=True)


def _read_checkpoint(path: Path, problems: list[str]) -> dict:
    """Return epoch and scores; tensors are mapped, not read, so a large file costs nothing."""
    found = {"file": path.name, "kind": "unreadable", "epoch": None, "scores": {}}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever a damaged or hostile pickle raises
        problems.append(f"{path.name} cannot be read as a checkpoint.")
        return found
    if not isinstance(state, dict) or not isinstance(state.get("format"), str):
        return found | {"kind": "bare weights, as published"}
    numbers = {k: v for k, v in as_dict(state.get("scores")).items() if isinstance(v, (int, float))}
    scores = {metric: value for metric, value in numbers.items() if math.isfinite(value)}
    epoch = state.get("epoch") if isinstance(state.get("epoch"), int) else None
    return found | {"kind": state["format"], "epoch": epoch, "scores": scores}


def _label(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
