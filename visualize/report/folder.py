"""A run folder read as untrusted data: what can be read, and a sentence for what cannot."""

import json
import math
from dataclasses import dataclass, field
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

    train, epochs: the run's train.csv and eval.csv, a row per epoch, every cell a number.
    images, methods: the evaluation's eval.csv and summary.csv; `name`, `method` and `seed` are
        text, every other cell is a number.
    record: the evaluation's evaluation.json.
    checkpoints: file, kind, epoch and scores of each.
    problems: sentences about what could not be read.
    """

    path: Path
    eval_dir: Path
    args: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    train: pd.DataFrame = field(default_factory=pd.DataFrame)
    epochs: pd.DataFrame = field(default_factory=pd.DataFrame)
    events: list[dict] = field(default_factory=list)
    checkpoints: list[dict] = field(default_factory=list)
    images: pd.DataFrame = field(default_factory=pd.DataFrame)
    methods: pd.DataFrame = field(default_factory=pd.DataFrame)
    record: dict = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def recorded(self, key: str) -> dict:
        """Return one of the record's groups, {} where it has none."""
        return as_dict(self.record.get(key))

    def first_draw(self) -> pd.DataFrame:
        """Return the rows of `images` that the first sampling seed gave, in order."""
        return self.images[self.images["seed"] == self.images["seed"].iloc[0]]


def read_run(path: Path, eval_dir: Path) -> RunContent:
    """Return what a run folder and `eval_dir` hold; never raise for what a file holds."""
    run = RunContent(path, eval_dir)
    settings = _read_json(path / "args.json", run.problems)
    run.args, run.environment = as_dict(settings.get("args")), as_dict(settings.get("environment"))
    run.train = _read_table(path / "train.csv", ("epoch", "lr", "LOSS", "RMSE"), run.problems)
    run.epochs = _read_table(path / "eval.csv", ("epoch", "RMSE", "MAE"), run.problems)
    run.events = _read_events(path / "log.jsonl", run.problems)
    for name in ("best_model.pth", "last.pth"):
        if (path / name).is_file():
            run.checkpoints.append(_read_checkpoint(path / name, run.problems))
    run.images = _read_table(eval_dir / "eval.csv", ("seed", "name", "RMSE"), run.problems)
    run.methods = _read_table(eval_dir / "summary.csv", ("method", "RMSE"), run.problems)
    run.record = _read_json(eval_dir / RECORD, run.problems)
    return run


def as_dict(value: object) -> dict:
    """Return `value` where it is a dict, {} otherwise."""
    return value if isinstance(value, dict) else {}


def is_number(value: object) -> bool:
    """Return whether it is a finite int or float."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def _read_text(path: Path, problems: list[str]) -> str | None:
    """Return the file's text, None where it does not exist or (with a sentence) is unreadable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(f"{_label(path)} cannot be read: {error.strerror}.")
        return None


def _parse(text: str) -> dict | None:
    """Return a JSON object; None for another value, ValueError for no JSON."""
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return found if isinstance(found, dict) else None


def _read_json(path: Path, problems: list[str]) -> dict:
    text = _read_text(path, problems)
    if text is None:
        return {}
    try:
        found = _parse(text)
    except ValueError:
        problems.append(f"{_label(path)} is not JSON.")
        return {}
    if found is None:
        problems.append(f"{_label(path)} holds no object of settings.")
    return found or {}


def _read_events(path: Path, problems: list[str]) -> list[dict]:
    events, wrong = [], 0
    for line in filter(str.strip, (_read_text(path, problems) or "").splitlines()):
        try:
            event = _parse(line)
        except ValueError:
            event = None
        if event is None:
            wrong += 1
        else:
            events.append(event)
    if wrong:
        problems.append(f"{_label(path)}: {wrong} line{'s' * (wrong > 1)} not readable.")
    return events


def _read_table(path: Path, required: tuple[str, ...], problems: list[str]) -> pd.DataFrame:
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
    except FileNotFoundError:
        return pd.DataFrame()
    except OSError as error:
        problems.append(f"{_label(path)} cannot be read: {error.strerror}.")
        return pd.DataFrame()
    except ValueError as error:
        problems.append(f"{_label(path)} is not a table: {str(error).strip()}.")
        return pd.DataFrame()
    header = [] if cells.empty else [name for name in cells.iloc[0] if name]
    missing = [column for column in required if column not in header]
    if missing:
        problems.append(f"{_label(path)} has no column {missing[0]}.")
        return pd.DataFrame()
    table, rest = (
        cells.iloc[1:, : len(header)].set_axis(header, axis=1),
        cells.iloc[1:, len(header) :],
    )
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
    scores = {k: v for k, v in as_dict(state.get("scores")).items() if is_number(v)}
    epoch = state.get("epoch")
    epoch = epoch if isinstance(epoch, int) else None
    return found | {"kind": state["format"], "epoch": epoch, "scores": scores}


def _label(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
