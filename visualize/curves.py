"""Loss, RMSE and learning rate over the epochs, as a PNG and as charts for a page."""

import xml.etree.ElementTree as ElementTree
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.files import whole_file

Series = dict[str, pd.Series]

# Colours of text, grid lines and lines -> the page's CSS variables, which follow the reader's
# light or dark scheme.
INK, GRID, LINES = "#5d6570", "#dcdfe3", ("#0b5fb8", "#c2500c")
_THEME = {INK: "var(--soft)", GRID: "var(--line)", LINES[0]: "var(--s0)", LINES[1]: "var(--s1)"}
_SVG = "{http://www.w3.org/2000/svg}"


def epoch_curves(train: pd.DataFrame, epochs: pd.DataFrame) -> dict[str, Series]:
    """Return title -> legend -> values by epoch of train.csv (epoch, lr, LOSS, RMSE) and eval.csv
    (epoch, MAE, RMSE); absent columns are NaN."""
    columns = ["epoch", "lr", "LOSS", "MAE", "RMSE"]
    train, epochs = (t.reindex(columns=columns).set_index("epoch") for t in (train, epochs))
    return {
        "L1 loss (m)": {"training": train["LOSS"], "validation MAE": epochs["MAE"]},
        "RMSE (m)": {"training": train["RMSE"], "validation": epochs["RMSE"]},
        "learning rate": {"learning rate": train["lr"]},
    }


def save_curves(path: Path, train_rows: list[dict], eval_rows: list[dict]) -> None:
    """Write the curves of the rows of train.csv and eval.csv as a PNG, the best epoch marked."""
    curves = epoch_curves(pd.DataFrame(train_rows), pd.DataFrame(eval_rows))
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, (title, series) in zip(figure.subplots(1, 3), curves.items(), strict=True):
        _draw(axes, series)
        rmse = series.get("validation", pd.Series(dtype=float)).dropna()
        if not rmse.empty:
            label = f"best: {rmse.min():.4f} m, epoch {rmse.idxmin():.0f}"
            axes.plot(rmse.idxmin(), rmse.min(), "k*", ms=9, label=label)
        axes.set(title=title, xlabel="epoch")
        if len(axes.lines) > 1:
            axes.legend()
    with whole_file(path) as part:
        figure.savefig(part, dpi=110, format="png")


def chart_svg(title: str, series: Series) -> str:
    """Return one chart as SVG to stand in a page; "" where no value can be drawn.

    Colours are the page's variables --soft, --line, --s0 and --s1, fonts are the page's, and each
    point has a title that names its epoch and value.
    """
    figure = Figure(figsize=(5, 2.9), facecolor="none")
    axes = figure.add_axes((0.12, 0.1, 0.86, 0.87), facecolor="none")
    drawn = _draw(axes, series)
    if not drawn:
        return ""
    for i, line in enumerate(axes.lines):
        line.set(gid=f"line{i}", clip_on=False)
    axes.tick_params(which="both", color=GRID, labelcolor=INK, labelsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    stream, nothing = BytesIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(stream, format="svg", metadata=nothing)
    root = ElementTree.fromstring(stream.getvalue())
    for i, (name, values) in enumerate(drawn.items()):
        marks = root.iterfind(f".//{_SVG}g[@id='line{i}']//{_SVG}use")
        for mark, (epoch, value) in zip(marks, values.items(), strict=True):
            tip = ElementTree.SubElement(mark, f"{_SVG}title")
            tip.text = f"{name}, epoch {epoch:.0f}: {value:.6g}"
    for group in root.iter(f"{_SVG}g"):
        group.attrib.pop("id", None)  # unique in a chart, not in a page
    root.remove(root.find(f"{_SVG}defs"))  # a style for every element of the page
    root.attrib = {"viewBox": root.get("viewBox"), "role": "img"}
    root.set("aria-label", f"{title} over epochs")
    ElementTree.register_namespace("", _SVG[1:-1])
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    svg = ElementTree.tostring(root, encoding="unicode")
    for color, variable in _THEME.items():
        svg = svg.replace(color, variable)
    return svg


def _draw(axes: Axes, series: Series) -> Series:
    """Draw a line for each series and return what was drawn: finite values at finite epochs, and
    positive ones for the learning rate, whose scale is logarithmic."""
    drawn = {}
    for (name, values), color in zip(series.items(), LINES, strict=False):
        is_rate = name == "learning rate"
        usable = np.isfinite(values) & np.isfinite(values.index) & ((values > 0) | (not is_rate))
        values = values[usable]
        if values.empty:
            continue
        drawn[name] = values
        size = 3.5 if len(values) <= 60 else 1.5
        style = {"drawstyle": "steps-mid"} if is_rate else {}
        axes.plot(values.index, values, "o-", ms=size, color=color, label=name, **style)
        if is_rate:
            axes.set_yscale("log")
    axes.grid(color=GRID, linewidth=0.8, clip_on=False)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return drawn
