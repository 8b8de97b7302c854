"""A run folder read with distrust: what can be read, and a sentence for what cannot."""

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch

from visualize.report.record import RECORD

# Sentences about one file; a table that is broken throughout needs no more.
MOST_SENTENCES = 3
TEXT_COLUMNS = ("name", "method", "seed")


@dataclass
class RunContent:
    """What a run folder and its evaluation hold; everything may be empty.

    train, epochs: rows of the run's train.csv and eval.csv, an epoch each, every cell a number.
    images, methods: rows of the evaluation's eval.csv and summary.csv; `name`, `method` and
        `seed` are text, every other cell is a number.
    record: the evaluation's evaluation.json.
    checkpoints: file, kind, epoch and scores of each.
    problems: sentences about what could not be read.
    """

    path: Path
    eval_dir: Path
    args: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    train: list[dict] = field(default_factory=list)
    epochs: list[dict] = field(default_factory=list)
    events: list[dict] = field(default_factory=list)
    checkpoints: list[dict] = field(default_factory=list)
    images: list[dict] = field(default_factory=list)
    methods: list[dict] = field(default_factory=list)
    record: dict = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_run(path: Path, eval_dir: Path) -> RunContent:
    """Read what there is; never raises for what a file holds."""
    run = RunContent(path, eval_dir)
    settings = _read_json(path / "args.json", run.problems)
    run.args, run.environment = _dict(settings, "args"), _dict(settings, "environment")
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


def _dict(found: dict, key: str) -> dict:
    value = found.get(key)
    return value if isinstance(value, dict) else {}


def _read_text(path: Path, problems: list[str]) -> str | None:
    """The file's text, None where it does not exist or (with a sentence) cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(f"{_label(path)} cannot be read: {error.strerror}.")
        return None


def _read_json(path: Path, problems: list[str]) -> dict:
    text = _read_text(path, problems)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        problems.append(f"{_label(path)} is not JSON.")
        return {}
    if not isinstance(found, dict):
        problems.append(f"{_label(path)} holds no object of settings.")
        return {}
    return found


def _read_table(path: Path, required: tuple[str, ...], problems: list[str]) -> list[dict]:
    """The rows whose every cell is what its column asks for."""
    text = _read_text(path, problems)
    if text is None:
        return []
    rows, wrong = [], []
    reader = csv.DictReader(text.splitlines())
    try:
        missing = [column for column in required if column not in (reader.fieldnames or ())]
        if missing:
            problems.append(f"{_label(path)} has no column {missing[0]}.")
            return []
        for row in reader:
            try:
                rows.append({key: _cell(key, value) for key, value in row.items()})
            except (TypeError, ValueError):
                wrong.append(f"{_label(path)}, line {reader.line_num}, is not a row of numbers.")
    except csv.Error as error:
        wrong.append(f"{_label(path)} is not a table: {error}.")
    problems.extend(wrong[:MOST_SENTENCES])
    if len(wrong) > MOST_SENTENCES:
        problems.append(f"{_label(path)}: {len(wrong) - MOST_SENTENCES} more rows like that.")
    return rows


def _cell(key: str | None, value: str | None) -> str | float:
    """A cell's text or number; a cell too many has no key, one too few no value."""
    if key is None or value is None:
        raise ValueError
    return value if key in TEXT_COLUMNS else float(value)


def _read_events(path: Path, problems: list[str]) -> list[dict]:
    text = _read_text(path, problems)
    events, wrong = [], 0
    for line in (text or "").splitlines():
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if isinstance(event, dict):
            events.append(event)
        else:
            wrong += 1
    if wrong:
        problems.append(f"{_label(path)}: {wrong} line{'s' * (wrong > 1)} not readable.")
    return events


def _read_checkpoint(path: Path, problems: list[str]) -> dict:
    """Epoch and scores; tensors are mapped, not read, so a large file costs nothing."""
    found = {"file": path.name, "kind": "unreadable", "epoch": None, "scores": {}}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever a damaged or hostile pickle raises
        problems.append(f"{path.name} cannot be read as a checkpoint.")
        return found
    if not isinstance(state, dict) or not isinstance(state.get("format"), str):
        return found | {"kind": "bare weights, as published"}
    scores = {k: v for k, v in _dict(state, "scores").items() if is_number(v)}
    epoch = state.get("epoch")
    epoch = epoch if isinstance(epoch, int) else None
    return found | {"kind": state["format"], "epoch": epoch, "scores": scores}


def is_number(value: object) -> bool:
    """Whether it is a finite int or float."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def _label(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
