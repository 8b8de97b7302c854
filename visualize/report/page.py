"""The page: its sections in order, each "" where the run folder holds nothing for it."""

import time
from pathlib import Path

from engine.errors import RunError
from visualize.report.charts import line_chart
from visualize.report.folder import RunContent, is_number, read_run
from visualize.report.html import note, number, paragraph, row, settings, table, text
from visualize.report.images import picture_section
from visualize.report.published import (
    PUBLISHED,
    PUBLISHED_METRICS,
    data_set,
    scored_names,
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
BASELINES = ("nearest", "linear")
MOST_INCIDENTS = 50
# Even if something slipped through the escaping, nothing would be fetched and nothing run.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(run: Path, *, eval_dir: Path | None = None, out: Path | None = None) -> Path:
    """Write a run's page; returns where.

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
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_text(page, encoding="utf-8", errors="replace")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return out


def render(run: RunContent) -> str:
    """The whole page as HTML."""
    name = run.path.resolve().name
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    sections = [
        _header(run, name),
        _scores(run),
        _curves(run),
        picture_section(run),
        _checkpoints(run),
        _incidents(run),
        _settings(run),
    ]
    if run.problems:
        sections.insert(1, note("Not everything could be read", run.problems))
    written = time.strftime("%Y-%m-%d %H:%M")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{text(name)}</title>'
        f"<style>{style}</style></head>\n<body>{''.join(sections)}"
        f"<footer>Written {written} by <code>python -m visualize.report</code>.</footer>"
        "</body></html>\n"
    )


def _network(run: RunContent) -> dict | None:
    """The network's row of the summary."""
    return next((m for m in run.methods if m["method"] not in BASELINES), None)


def _header(run: RunContent, name: str) -> str:
    args = run.args or _recorded(run, "args")
    facts = [f"{args.get('model')} {args.get('arch')}"] if args.get("arch") else []
    if args.get("refine", "cspn") == "cspn" and "cspn_step" in args:
        facts.append(
            f"{args['cspn_step']} steps, {args.get('cspn_norm_type')}, "
            f"anchor {args.get('cspn_anchor')}"
        )
    if run.args.get("data_root"):
        facts.append(f"trained on {run.args['data_root']}")
    network, cards = _network(run), []
    if network:
        for metric in ("RMSE", "ABS_REL", "DELTA1.25"):
            places = 3 if metric == "DELTA1.25" else 4
            cards.append((number(network.get(metric), places), f"{COLUMNS[metric]}, evaluation"))
    best = _best(run)
    if best:
        cards.append((number(best["RMSE"]), "RMSE (m), best validation"))
        cards.append((f"{best['epoch']:.0f} of {len(run.epochs)}", "best epoch, epochs done"))
    boxes = "".join(
        f'<div class="card"><b>{text(value)}</b><span>{text(label)}</span></div>'
        for value, label in cards
    )
    parts = [f"<h1>{text(name)}</h1>"]
    if facts:
        parts.append(paragraph(" · ".join(facts), "soft"))
    parts.append(f'<div class="cards">{boxes}</div>' if boxes else "")
    return "".join(parts)


def _best(run: RunContent) -> dict | None:
    finite = [r for r in run.epochs if is_number(r["RMSE"]) and is_number(r["epoch"])]
    return min(finite, key=lambda r: r["RMSE"], default=None)


def _recorded(run: RunContent, key: str) -> dict:
    value = run.record.get(key)
    return value if isinstance(value, dict) else {}


def _scores(run: RunContent) -> str:
    """This run, the baselines and the published networks in one table."""
    if not run.methods:
        sentence = "No evaluation yet: python eval.py --resume and this folder makes one."
        return f"<h2>Scores</h2>{paragraph(sentence)}"
    draws = len({r["seed"] for r in run.images if r["name"] != "mean"})
    spread = draws > 1
    names = scored_names(run)
    where = f" of {run.record['root']}" if run.record.get("root") else ""
    samples = _recorded(run, "args").get("n_sample")
    samples = f", {samples} samples" if samples is not None else ""
    intro = f"{len(names)} images{where}{samples}, mean of {draws} draw{'s' * spread}."
    rows = []
    for method in run.methods:
        cells = [number(method.get(metric)) for metric in COLUMNS]
        if spread:
            cells[0] += f" ± {number(method.get('RMSE_std'))}"
        is_own = method["method"] not in BASELINES
        rows.append(row([method["method"], *cells], "own" if is_own else ""))
    parts = ["<h2>Scores</h2>", paragraph(intro)]
    if data_set(run) == "kitti":
        closing = "The authors published no KITTI numbers with their code, so none stand here."
    else:
        reasons = why_not_comparable(run)
        group = "NOT comparable with the rows above: as" if reasons else "As"
        group += " published on NYU Depth v2 (654 test images, 500 samples, mean of 5 draws)"
        span = f"<span>{text(group)}</span>"
        rows.append(f'<tr class="group"><td colspan="{len(COLUMNS) + 1}">{span}</td></tr>')
        for name, values in PUBLISHED.items():
            scores = dict(zip(PUBLISHED_METRICS, values, strict=True))
            rows.append(row([name, *(number(scores.get(metric)) for metric in COLUMNS)]))
        closing = (
            "The images' number, names and sampling are those of the published experiment; that "
            "the files are the original ones is not checked."
        )
        if draws != 5:
            closing += f" Published numbers are means of 5 draws, these of {draws}."
        if reasons:
            parts.append(note("Not comparable with the published numbers", reasons))
            closing = ""
    parts.append(table(["method", *COLUMNS.values()], rows, "Scores"))
    parts += [paragraph(s) for s in (_against_baselines(run), closing) if s]
    return "".join(parts)


def _against_baselines(run: RunContent) -> str:
    """One sentence: is the network better than interpolating the same samples?"""
    network = _network(run)
    others = [m for m in run.methods if m["method"] in BASELINES and is_number(m["RMSE"])]
    if network is None or not others or not is_number(network["RMSE"]):
        return ""
    best = min(others, key=lambda m: m["RMSE"])
    verdict = "below" if network["RMSE"] < best["RMSE"] else "NOT below"
    return (
        f"The network's RMSE is {verdict} that of {best['method']} interpolation of the same "
        f"samples ({best['RMSE']:.4f} m)."
    )


def _curves(run: RunContent) -> str:
    def points(rows: list[dict], metric: str) -> list[tuple[float, float]]:
        return [(r["epoch"], r[metric]) for r in rows]

    charts = [
        line_chart(
            "L1 loss (m)",
            {"training": points(run.train, "LOSS"), "validation MAE": points(run.epochs, "MAE")},
        ),
        line_chart(
            "RMSE (m)",
            {"training": points(run.train, "RMSE"), "validation": points(run.epochs, "RMSE")},
        ),
        line_chart("learning rate", {"learning rate": points(run.train, "lr")}, log=True),
    ]
    if not any(charts):
        return ""
    best = _best(run)
    header = ["epoch", "learning rate", "loss", *COLUMNS.values()]
    by_epoch = {r["epoch"]: r for r in run.train}
    rows = []
    for scores in run.epochs:
        trained = by_epoch.get(scores["epoch"], {})
        cells = [f"{trained['lr']:g}" if trained else "–", number(trained.get("LOSS"))]
        cells += [number(scores.get(metric)) for metric in COLUMNS]
        rows.append(row([f"{scores['epoch']:.0f}", *cells], "own" if scores is best else ""))
    listing = (
        f"<details><summary>Every epoch's validation scores</summary>"
        f"{table(header, rows, 'Epochs')}</details>"
        if rows
        else ""
    )
    return f'<h2>Training</h2><div class="charts">{"".join(charts)}</div>{listing}'


def _checkpoints(run: RunContent) -> str:
    if not run.checkpoints:
        return ""
    header = ["file", "format", "epoch", *COLUMNS.values()]
    rows = [
        row(
            [c["file"], c["kind"], "–" if c["epoch"] is None else c["epoch"]]
            + [number(c["scores"].get(metric)) for metric in COLUMNS]
        )
        for c in run.checkpoints
    ]
    return f"<h2>Checkpoints</h2>{table(header, rows, 'Checkpoints')}"


def _incidents(run: RunContent) -> str:
    """Everything in the log but the ordinary course: skips, divergence, resumptions."""
    found = []
    for event in run.events:
        kind = event.get("event")
        if kind == "start" and event.get("epoch"):
            kind = "resumed"
        elif kind in ("start", "epoch", "end"):
            continue
        details = {k: v for k, v in event.items() if k not in ("event", "time")}
        found.append((f"{event.get('time', '')} {kind}", details))
    if not run.events:
        return ""
    if not found:
        return f"<h2>Incidents</h2>{paragraph('None: the log holds no skip, stop or resumption.')}"
    lines = "".join(
        f"<tr><td>{text(title)[:400]}</td><td>{_details(details)}</td></tr>"
        for title, details in found[-MOST_INCIDENTS:]
    )
    left_out = len(found) - MOST_INCIDENTS
    more = paragraph(f"The last {MOST_INCIDENTS} of {len(found)}.") if left_out > 0 else ""
    return f'<h2>Incidents</h2>{more}<table class="text"><tbody>{lines}</tbody></table>'


def _details(values: dict) -> str:
    shown = ", ".join(f"{key} {value}" for key, value in values.items())
    return text(shown if len(shown) <= 500 else shown[:500] + "…")


def _settings(run: RunContent) -> str:
    """Settings and environment of the training, and where the evaluation had others."""
    recorded = _recorded(run, "args")
    differing = {k: v for k, v in recorded.items() if k not in run.args or run.args[k] != v}
    checkpoint = _recorded(run, "checkpoint")
    evaluation = {f"checkpoint {key}": value for key, value in checkpoint.items()}
    if run.record.get("time"):
        evaluation["time"] = run.record["time"]
    evaluation |= differing
    environment = run.environment or _recorded(run, "environment")
    blocks = [
        settings("Training", run.args),
        "<div>"
        + settings("Environment", environment)
        + settings("Evaluation, where it differs" if run.args else "Evaluation", evaluation)
        + "</div>",
    ]
    if not (run.args or environment or evaluation):
        return ""
    return f'<h2>Settings</h2><div class="two">{"".join(blocks)}</div>'
