"""What the page shows of a session: the image with its points, coloured maps and numbers.

Everything is drawn on one colour scale of metres, which stays as it is while the propagation's
settings move, so that two pictures can be compared.
"""

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageOps

from dataloaders.errors import counted
from tools.demo.session import Frame, Propagation, Result, Session
from visualize.pictures import (
    ColorBar,
    colorize,
    colorize_dense,
    depth_range,
    error_map,
    panel_figure,
    render,
    widen,
)

ERROR, CHANGE = "error", "change"
# Shown width of the image that is clicked on, about; points need some pixels to be seen.
SHOWN_WIDTH = 912
METHODS = {"coarse": "coarse", "refined": "refined", "linear": "interpolation"}
LIDAR = 0.2  # fraction of measured pixels below which each is drawn three pixels wide


def shown_scale(frame: Frame) -> int:
    """Return how many pixels of the shown image a pixel of the frame is wide and high."""
    return max(1, SHOWN_WIDTH // frame.rgb.shape[1])


def pixel_at(frame: Frame, x: int, y: int) -> tuple[int, int]:
    """Return (row, column) of the frame under pixel (x, y) of what `points_picture` returns."""
    scale = shown_scale(frame)
    return y // scale, x // scale


def thumbnail(frame: Frame) -> np.ndarray:
    """Return the middle of the image, 4:3, (150, 200, 3) uint8."""
    return np.asarray(ImageOps.fit(Image.fromarray(frame.rgb), (200, 150)))


def depth_ends(session: Session, coarse_depth: np.ndarray) -> tuple[float, float]:
    """Return the ends of the colour scale in metres: the middle 98 % of the ground truth, else
    that of the coarse depth and all points. Neither depends on the propagation."""
    if session.frame.has_truth:
        low, high = depth_range(session.frame.depth)
    else:
        low, high = np.quantile(coarse_depth, (0.01, 0.99)).tolist()
        points = session.sparse_depth[session.sparse_depth > 0].tolist()
        low, high = min(low, *points, low), max(high, *points, high)
    return max(low, 0.0), max(high, low + 0.1, 0.1)


def points_picture(session: Session, ends: tuple[float, float]) -> np.ndarray:
    """Return the image, enlarged, with each point as a disc in its depth's colour, uint8.

    `ends` are those of the colour scale in metres.
    """
    frame, scale = session.frame, shown_scale(session.frame)
    picture = ImageOps.scale(Image.fromarray(frame.rgb), scale)
    draw = ImageDraw.Draw(picture)
    rows, columns = np.nonzero(session.sparse_depth)
    colors = colorize(session.sparse_depth[rows, columns][None], *ends)[0].tolist()
    radius = 5 if len(rows) <= 2000 else 2
    outline = (255, 255, 255) if radius > 2 else None
    for row, column, color in zip(rows.tolist(), columns.tolist(), colors, strict=True):
        center = (scale * column + scale // 2, scale * row + scale // 2)
        draw.circle(center, radius, fill=tuple(color), outline=outline)
    return np.asarray(picture)


def result_panels(
    session: Session, settings: Propagation, result: Result, view: str, refinement: str
) -> tuple[dict[str, np.ndarray], list[ColorBar]]:
    """Return coarse and refined depth, ground truth (or interpolation) and error as colours.

    Args:
        view: ERROR, which without ground truth is CHANGE: the refined minus the coarse depth.
        refinement: "cspn", "spn" or "none", as the network has it.

    Returns:
        Label -> (H, W, 3) uint8, and the colour bars of depth and of the last panel.
    """
    frame, ends = session.frame, depth_ends(session, result.coarse_depth)
    steps = f"after {counted(settings.steps, 'step')}" if refinement == "cspn" else refinement
    panels = {
        "Coarse depth, from the network": colorize_dense(result.coarse_depth, ends),
        f"Refined depth, {steps}": colorize_dense(result.refined_depth, ends),
    }
    if frame.has_truth:
        panels["Ground truth, black where unknown"] = colorize(widen(frame.depth, LIDAR), *ends)
    elif result.linear_depth is not None:
        panels["Interpolation, of the points alone"] = colorize_dense(result.linear_depth, ends)
    if view == CHANGE or not frame.has_truth:
        label, caption, colormap = "Refined − coarse depth", "refined − coarse [m]", "coolwarm"
        shown = result.refined_depth - result.coarse_depth
        most, end = float(np.quantile(np.abs(shown), 0.98)), 0.25
        while end < most:  # in powers of two, so that it rarely moves with the steps
            end *= 2
        shown, last = np.where(shown == 0, 1e-9, shown), (-end, end)
    else:
        label, caption, colormap = "Error, |refined − ground truth|", "error [m]", "inferno"
        coarse_error = error_map(result.coarse_depth, frame.depth)
        last = (0.0, max(float(np.quantile(coarse_error[coarse_error > 0], 0.98)), 0.01))
        shown = widen(error_map(result.refined_depth, frame.depth), LIDAR)
    panels[label] = colorize(shown, *last, colormap)
    half = panel_columns(panels[label]) / 2
    depth_bar = ColorBar("depth [m]", ends, (0, half - 1))
    return panels, [depth_bar, ColorBar(caption, last, (half, 2 * half - 1), colormap)]


def panel_columns(panel: np.ndarray) -> int:
    """Return how many result panels stand in a row: wide ones stand below each other."""
    return 1 if panel.shape[1] > 2 * panel.shape[0] else 2


def results_picture(panels: dict[str, np.ndarray], bars: list[ColorBar]) -> np.ndarray:
    """Return what `result_panels` gave as one picture, (h, w, 3) uint8, enlarged where small."""
    first = next(iter(panels.values()))
    columns = panel_columns(first)
    scale = max(1, SHOWN_WIDTH // (columns * first.shape[1]))
    panels = {label: p.repeat(scale, axis=0).repeat(scale, axis=1) for label, p in panels.items()}
    return render(panel_figure(panels, columns, bars))


def numbers(result: Result) -> pd.DataFrame:
    """Return the table of errors and times: a row for each method, cells of text."""
    times = {
        "coarse": f"{result.network_ms:.0f} ms",
        "refined": f"+ {result.propagation_ms:.1f} ms",
    }
    rows = []
    for method, name in METHODS.items():
        scores = result.scores.get(method, {})
        if method == "linear" and not scores:
            continue
        cells = [f"{scores[m]:.3f}" if scores else "–" for m in ("RMSE", "MAE")]
        cells.append(f"{scores['DELTA1.25']:.1%}" if scores else "–")
        rows.append([name, *cells, times.get(method, "–")])
    return pd.DataFrame(rows, columns=["depth", "RMSE (m)", "MAE (m)", "δ1.25", "time"])


def about(session: Session, settings: Propagation, result: Result) -> str:
    """Return a sentence: which image, how large, how many points, and of how many steps."""
    height, width = session.frame.rgb.shape[:2]
    points = counted(session.n_points, "point")
    if session.predictor.density is not None:
        points += f" (about {session.predictor.density * width * height:.0f} in training)"
    text = f"{session.frame.name}, {width} × {height} pixels, {points}, "
    text += f"{counted(settings.steps, 'step')}."
    return text if result.scores else f"{text} No ground truth: the error is not known."
