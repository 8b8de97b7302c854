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
from visualize.report.folder import RunContent, is_number, read_run
from visualize.report.images import picture_section
from visualize.report.published import (
    PUBLISHED,
    PUBLISHED_METRICS,
    data_set,
    why_not_comparable,
)

COLUMNS = {
    "RMSE": "RMSE (m)",
    "MAE": "MAE (m)",
    "ABS_REL": "REL",
    "DELTA1.02": "δ1.02",
    "DELTA1.05": "δ1.05",
    "DELTA1.10": "δ1.10",
    "DELTA1.25": "δ1.25",
}
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
    return environment.get_template("page.html").render(
        name=run.path.resolve().name,
        written=time.strftime("%Y-%m-%d %H:%M"),
        run=run,
        columns=COLUMNS.values(),
        facts=_facts(run),
        cards=_cards(run),
        scores=None if run.methods.empty else _scores(run),
        charts=_charts(run),
        epochs=_epoch_rows(run),
        images=picture_section(run),
        checkpoints=[
            [c["file"], c["kind"], "–" if c["epoch"] is None else c["epoch"], *_cells(c["scores"])]
            for c in run.checkpoints
        ],
        incidents=_incidents(run),
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


def _short(value: object, most: int) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _network(run: RunContent) -> dict | None:
    """Return the network's row of the summary."""
    return next((m for m in run.methods.to_dict("records") if m["method"] not in BASELINES), None)


def _best(run: RunContent) -> pd.Series | None:
    """Return the epoch of lowest validation RMSE, None without one."""
    if run.epochs.empty:
        return None
    finite = run.epochs[np.isfinite(run.epochs[["epoch", "RMSE"]]).all(axis=1)]
    return None if finite.empty else finite.loc[finite["RMSE"].idxmin()]


def _facts(run: RunContent) -> list[str]:
    """Return a line of settings: network, propagation, training data."""
    args = run.args or run.recorded("args")
    facts = [f"{args.get('model')} {args.get('arch')}"] if args.get("arch") else []
    if args.get("refine", "cspn") == "cspn" and "cspn_step" in args:
        norm_type, anchor = args.get("cspn_norm_type"), args.get("cspn_anchor")
        facts.append(f"{args['cspn_step']} steps, {norm_type}, anchor {anchor}")
    if run.args.get("data_root"):
        facts.append(f"trained on {run.args['data_root']}")
    return facts


def _cards(run: RunContent) -> list[tuple[str, str]]:
    """Return (value, label) of the few numbers at the top."""
    network, best, cards = _network(run), _best(run), []
    if network:
        for metric, digits in (("RMSE", 4), ("ABS_REL", 4), ("DELTA1.25", 3)):
            cards.append((_number(network.get(metric), digits), f"{COLUMNS[metric]}, evaluation"))
    if best is not None:
        cards.append((_number(best["RMSE"]), "RMSE (m), best validation"))
        cards.append((f"{best['epoch']:.0f} of {len(run.epochs)}", "best epoch, epochs done"))
    return cards


def _scores(run: RunContent) -> dict:
    """Return this run, the baselines and the published networks, and sentences about them."""
    images = run.images if not run.images.empty else pd.DataFrame(columns=["seed", "name"])
    draws = images.loc[images["name"] != "mean", "seed"].nunique()
    spread = "s" if draws > 1 else ""
    root, samples = run.record.get("root"), run.recorded("args").get("n_sample")
    count = 0 if run.images.empty else len(run.first_draw())
    intro = f"{count} images{f' of {root}' if root else ''}"
    intro += (
        f"{f', {samples} samples' if samples is not None else ''}, mean of {draws} draw{spread}."
    )
    rows = []
    for method in run.methods.to_dict("records"):
        cells = _cells(method)
        if spread:
            cells[0] += f" ± {_number(method.get('RMSE_std'))}"
        rows.append((method["method"] not in BASELINES, [method["method"], *cells]))
    found = {"intro": intro, "rows": rows, "published": [], "reasons": []}
    if data_set(run) == "kitti":
        closing = "The authors published no KITTI numbers with their code, so none stand here."
    else:
        found["reasons"] = why_not_comparable(run)
        found["published"] = [
            [name, *_cells(dict(zip(PUBLISHED_METRICS, values, strict=True)))]
            for name, values in PUBLISHED.items()
        ]
        closing = (
            "The images' number, names and sampling are those of the published experiment; that "
            "the files are the original ones is not checked."
        )
        if draws != 5:
            closing += f" Published numbers are means of 5 draws, these of {draws}."
    closing = "" if found["reasons"] else closing
    return found | {"closing": list(filter(None, (_against_baselines(run), closing)))}


def _against_baselines(run: RunContent) -> str:
    """Return a sentence: is the network better than interpolation of the same samples?"""
    network = _network(run)
    others = run.methods[run.methods["method"].isin(BASELINES) & np.isfinite(run.methods["RMSE"])]
    if network is None or others.empty or not is_number(network["RMSE"]):
        return ""
    best = others.loc[others["RMSE"].idxmin()]
    verdict = "below" if network["RMSE"] < best["RMSE"] else "NOT below"
    return (
        f"The network's RMSE is {verdict} that of {best['method']} interpolation of the same "
        f"samples ({best['RMSE']:.4f} m)."
    )


def _charts(run: RunContent) -> list[tuple[str, list[str], Markup]]:
    """Return title, legend and SVG of each curve that has a point."""
    charts = [
        (title, [name for name, values in series.items() if values.notna().any()], svg)
        for title, series in epoch_curves(run.train, run.epochs).items()
        if (svg := Markup(chart_svg(title, series)))
    ]
    return charts


def _epoch_rows(run: RunContent) -> list[tuple[bool, list[str]]]:
    """Return whether it is the best epoch, and the cells, of every epoch's validation."""
    if run.epochs.empty:
        return []
    train = run.train.reindex(columns=["epoch", "lr", "LOSS"]).drop_duplicates("epoch", keep="last")
    epochs = run.epochs.drop(columns=["lr", "LOSS"], errors="ignore")
    best, rows = _best(run), []
    for row in epochs.merge(train, on="epoch", how="left").to_dict("records"):
        rate = "–" if np.isnan(row["lr"]) else f"{row['lr']:g}"
        is_best = best is not None and row["epoch"] == best["epoch"]
        rows.append((is_best, [f"{row['epoch']:.0f}", rate, _number(row["LOSS"]), *_cells(row)]))
    return rows


def _incidents(run: RunContent) -> list[tuple[str, str]]:
    """Return title and details of everything in the log but the ordinary course: skips,
    divergence, resumptions."""
    found = []
    for event in run.events:
        kind = event.get("event")
        if kind == "start" and event.get("epoch"):
            kind = "resumed"
        elif kind in ("start", "epoch", "end"):
            continue
        details = ", ".join(f"{k} {v}" for k, v in event.items() if k not in ("event", "time"))
        found.append((f"{event.get('time', '')} {kind}"[:400], _short(details, 500)))
    return found


def _settings(run: RunContent) -> dict[str, list[tuple[str, str]]]:
    """Return title -> names and values of training, environment and, where it differs,
    evaluation."""
    evaluation = {f"checkpoint {key}": v for key, v in run.recorded("checkpoint").items()}
    if run.record.get("time"):
        evaluation["time"] = run.record["time"]
    for key, value in run.recorded("args").items():
        if key not in run.args or run.args[key] != value:
            evaluation[key] = value
    groups = {
        "Training": run.args,
        "Environment": run.environment or run.recorded("environment"),
        "Evaluation, where it differs" if run.args else "Evaluation": evaluation,
    }
    return {
        title: [(_short(k, 300), "not set" if v is None else _short(v, 300)) for k, v in g.items()]
        for title, g in groups.items()
        if g
    }
