"""The page: the values that `page.html` shows, each empty where the run folder has none."""

import time
from collections.abc import Mapping
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from engine.baselines import BASELINES
from engine.errors import RunError
from engine.files import whole_file
from visualize.curves import chart_svg, epoch_curves
from visualize.report.folder import RunContent, read_run
from visualize.report.images import picture_section
from visualize.report.published import PUBLISHED, data_set, why_not_comparable

COLUMNS = {"RMSE": "RMSE (m)", "MAE": "MAE (m)", "ABS_REL": "REL"}
COLUMNS |= {f"DELTA{limit}": f"δ{limit}" for limit in ("1.02", "1.05", "1.10", "1.25")}
MOST_INCIDENTS = 50


def write_report(run: Path, *, eval_dir: Path | None = None, out: Path | None = None) -> Path:
    """Write a run's page; return its path.

    Args:
        run: the run folder. What it lacks, the page lacks.
        eval_dir: what eval.py wrote; `run`/eval_result by default.
        out: the page; `run`/report.html by default.

    Raises:
        RunError: `run` is not a folder.
    """
    if not run.is_dir():
        raise RunError(f"{run} is not a run folder")
    out = out or run / "report.html"
    page = render(read_run(run, eval_dir or run / "eval_result"))
    with whole_file(out) as part:
        part.write_text(page, encoding="utf-8", errors="replace")
    return out


def render(run: RunContent) -> str:
    """Return the whole page as HTML; every text in it is escaped by the template engine."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    networks = [m for m in run.methods.to_dict("records") if m["method"] not in BASELINES]
    # Not the ordinary course, but a skip, a divergence, a resumption or the like.
    incidents = [
        event for event in run.events
        if event.get("event") not in ("start", "epoch", "end")
        or (event["event"] == "start" and event.get("epoch"))
    ]  # fmt: skip
    environment.filters |= {"number": _number, "short": _short, "cells": _cells}
    return environment.get_template("page.html").render(
        name=run.path.resolve().name,
        written=time.strftime("%Y-%m-%d %H:%M"),
        run=run,
        args=run.args or run.recorded("args"),
        columns=COLUMNS,
        network=next(iter(networks), None),
        best=_lowest_rmse(run.epochs[np.isfinite(run.epochs["epoch"])]),
        scores=None if run.methods.empty else _scores(run),
        charts=_charts(run),
        epochs=_epochs(run),
        images=picture_section(run),
        incidents=incidents,
        most_incidents=MOST_INCIDENTS,
        settings=_settings(run),
    )


def _printable(value: object) -> object:
    """Return a value's text without control characters; markup stays as it is."""
    if isinstance(value, Markup):
        return value
    return "".join(c if c.isprintable() or c == " " else "\ufffd" for c in str(value))


def _number(value: object, digits: int = 4) -> str:
    """Return a score with a fixed number of decimals, a dash where there is none."""
    if not isinstance(value, (int, float)) or np.isnan(value):
        return "–"
    return f"{value:.{digits}f}"


def _cells(scores: Mapping) -> list[str]:
    return [_number(scores.get(metric)) for metric in COLUMNS]


def _short(value: object, most: int = 300) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _lowest_rmse(table: pd.DataFrame) -> dict | None:
    """Return the row of lowest RMSE, None where no row has one."""
    finite = table[np.isfinite(table["RMSE"])]
    return next(iter(finite.nsmallest(1, "RMSE").to_dict("records")), None)


def _scores(run: RunContent) -> dict:
    """Return the tables of run, baselines and published networks, and what forbids a comparison."""
    is_baseline = run.methods["method"].isin(BASELINES)
    is_kitti = data_set(run) == "kitti"
    return {
        "draws": run.images.loc[run.images["name"] != "mean", "seed"].nunique(),
        "images": len(run.first_draw()),
        "methods": run.methods.assign(is_own=~is_baseline).to_dict("records"),
        "baseline": _lowest_rmse(run.methods[is_baseline]),
        "reasons": [] if is_kitti else why_not_comparable(run),
        "published": {} if is_kitti else PUBLISHED,
    }


def _charts(run: RunContent) -> list[tuple[str, list[str], Markup]]:
    """Return title, legend and SVG of each curve that has a point."""
    return [
        (title, [name for name, values in series.items() if values.notna().any()], svg)
        for title, series in epoch_curves(run.train, run.epochs).items()
        if (svg := Markup(chart_svg(title, series)))
    ]


def _epochs(run: RunContent) -> list[dict]:
    """Return every epoch's validation scores, with the learning rate and loss of its training."""
    train = run.train.reindex(columns=["epoch", "lr", "LOSS"]).drop_duplicates("epoch", keep="last")
    scores = run.epochs.drop(columns=["lr", "LOSS"], errors="ignore")
    return scores.merge(train, on="epoch", how="left").to_dict("records")


def _settings(run: RunContent) -> dict[str, dict]:
    """Return title -> settings of training, environment and, where it differs, evaluation."""
    evaluation = {f"checkpoint {key}": v for key, v in run.recorded("checkpoint").items()}
    if run.record.get("time"):
        evaluation["time"] = run.record["time"]
    used, trained = run.recorded("args").items(), run.args.items()
    evaluation |= {key: value for key, value in used if (key, value) not in trained}
    return {
        "Training": run.args,
        "Environment": run.environment or run.recorded("environment"),
        "Evaluation, where it differs" if run.args else "Evaluation": evaluation,
    }
