"""Pictures of results: coloured depth, result strips, 16-bit depth files and training curves."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from dataloaders.sampling import resize_points

LABEL_HEIGHT = 20
FOOT_HEIGHT = 38
FONT_SIZE = 15  # strips are wide and mostly seen reduced
GAP = 4
TEXT = (0, 0, 0)


def save_depth_png(path: Path, depth: np.ndarray) -> None:
    """Write depth (H, W) in metres as a 16-bit PNG in millimetres, 0 = none, 65.535 m at most."""
    millimetres = np.clip(np.rint(np.nan_to_num(depth) * 1000), 0, 65535).astype(np.uint16)
    Image.fromarray(millimetres).save(path)


def colorize(values: np.ndarray, low: float, high: float, colormap: str = "turbo") -> np.ndarray:
    """(H, W) to (H, W, 3) uint8; exactly 0 means no measurement and is black."""
    scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    colors = matplotlib.colormaps[colormap](scaled, bytes=True)[..., :3]
    return np.where((values != 0)[..., None], colors, 0).astype(np.uint8)


def result_strip(
    rgb: np.ndarray,
    sparse_depth: np.ndarray,
    pred: np.ndarray,
    target: np.ndarray,
    coarse_depth: np.ndarray | None = None,
) -> Image.Image:
    """Input, sparse points, (coarse depth,) prediction, ground truth and error in one picture.

    All depth shares one colour scale, the middle 98 % of the ground truth; it stands at the foot
    in metres, beside the error's. Panels stand in a row, wide images two in a row. Sparse points,
    and the ground truth of a LiDAR, are drawn three pixels wide, to be seen.

    Args:
        rgb: (3, H, W) in [0, 1]. The rest: (H, W) metres, 0 = no measurement.
    """
    known = target[target > 0]
    low, high = np.quantile(known, (0.01, 0.99)).tolist() if known.size else (0.0, 1.0)
    error = np.where(target > 0, np.maximum(np.abs(pred - target), 1e-6), 0)
    worst = max(float(np.quantile(error[target > 0], 0.98)) if known.size else 1.0, 1e-3)
    rmse = float(np.sqrt(np.mean(np.square(error[target > 0])))) if known.size else float("nan")
    if known.size < 0.2 * target.size:
        target, error = _widen(target), _widen(error)

    panels = [
        ("RGB", np.rint(rgb.transpose(1, 2, 0) * 255).astype(np.uint8)),
        ("sparse depth", colorize(_widen(sparse_depth), low, high)),
        ("prediction", colorize(np.where(pred == 0, 1e-6, pred), low, high)),
        ("ground truth", colorize(target, low, high)),
        (f"error, RMSE {rmse:.3f} m", colorize(error, 0.0, worst, "inferno")),
    ]
    if coarse_depth is not None:
        shown = np.where(coarse_depth == 0, 1e-6, coarse_depth)
        panels.insert(2, ("coarse depth", colorize(shown, low, high)))
    return _arranged(panels, (low, high), (0.0, worst))


def _arranged(
    panels: list[tuple[str, np.ndarray]],
    depth_ends: tuple[float, float],
    error_ends: tuple[float, float],
) -> Image.Image:
    """Labelled panels of one size in a grid, and the two colour bars below it; a label that does
    not fit is cut at its comma."""
    height, width = panels[0][1].shape[:2]
    columns = len(panels) if width < 2 * height else 2
    rows = -(-len(panels) // columns)
    step, line = width + GAP, height + LABEL_HEIGHT
    size = (step * columns - GAP, line * rows + FOOT_HEIGHT)
    canvas = Image.new("RGB", size, (255, 255, 255))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=FONT_SIZE)
    for i, (label, panel) in enumerate(panels):
        left, top = i % columns * step, i // columns * line
        if draw.textlength(label, font=font) > width:
            label = label.split(",")[0]
        draw.text((left + 2, top), label, fill=TEXT, font=font)
        canvas.paste(Image.fromarray(panel), (left, top + LABEL_HEIGHT))
    # The last column's foot is the error's; depth has the others'.
    middle, foot = step * (columns - 1), line * rows
    depth_box = (min(step, middle - step), middle - GAP, foot)
    color_bar(draw, depth_box, depth_ends, "turbo", "depth [m]")
    color_bar(draw, (middle, size[0], foot), error_ends, "inferno", "error [m]")
    return canvas


def prediction_picture(
    rgb: np.ndarray, sparse_depth: np.ndarray, depth: np.ndarray, max_width: int = 800
) -> Image.Image:
    """Image, measurements and depth in one picture, with the colours' scale in metres at its foot.

    The scale is the middle 98 % of the depth. Panels wider than `max_width` are reduced to it.

    Args:
        rgb: (H, W, 3) uint8. sparse_depth, depth: (H, W) metres, 0 = no measurement.
    """
    size = depth.shape
    if size[1] > max_width:
        size = (max(round(size[0] * max_width / size[1]), 1), max_width)
        rgb = np.asarray(Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BOX))
        depth = np.asarray(Image.fromarray(depth).resize(size[::-1], Image.Resampling.BOX))
        sparse_depth = resize_points(sparse_depth, size)
    ends = tuple(np.quantile(depth, (0.01, 0.99)).tolist())
    panels = [
        ("RGB", rgb),
        ("sparse depth", colorize(_widen(sparse_depth), *ends)),
        ("depth", colorize(np.where(depth == 0, 1e-6, depth), *ends)),
    ]
    # Wide images stand below each other.
    columns = 1 if size[1] > 2 * size[0] else 3
    step, line = max(size[1], 120) + GAP, size[0] + LABEL_HEIGHT
    width, foot = step * columns - GAP, line * (3 // columns)
    canvas = Image.new("RGB", (width, foot + FOOT_HEIGHT), (255, 255, 255))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=FONT_SIZE)
    for i, (label, panel) in enumerate(panels):
        left, top = i % columns * step, i // columns * line
        draw.text((left + 2, top + 2), label, fill=TEXT, font=font)
        canvas.paste(Image.fromarray(panel), (left, top + LABEL_HEIGHT))
    left = 0 if columns == 1 else step
    color_bar(draw, (left, width, foot), ends, "turbo", "depth [m]")
    return canvas


def color_bar(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int],
    ends: tuple[float, float],
    colormap: str,
    caption: str,
    font_size: int = FONT_SIZE,
) -> None:
    """A bar of `FOOT_HEIGHT` pixels with its caption before it and round values below it.

    Args:
        box: left, right and top of the whole, in pixels.
        ends: values of the bar's first and last colour, in the unit that `caption` names.
    """
    left, right, top = box
    font = ImageFont.load_default(size=font_size)
    width = int(draw.textlength(caption, font=font))
    # Half a number stands out beyond each end of the bar.
    start, stop = left + min(width + 18, (right - left) // 2), right - 18
    if stop - start < 20:
        return
    draw.text((left + 2, top + 1), caption, fill=TEXT, font=font)
    shares = np.linspace(0, 1, stop - start)
    for i, color in enumerate(matplotlib.colormaps[colormap](shares, bytes=True)[:, :3].tolist()):
        draw.line([(start + i, top + 5), (start + i, top + 15)], fill=tuple(color))
    low, high = ends
    for value in MaxNLocator(nbins=max((stop - start) // 65, 1)).tick_values(low, high):
        if low <= value <= high:
            at = start + round((value - low) / max(high - low, 1e-9) * (stop - start - 1))
            draw.line([(at, top + 15), (at, top + 18)], fill=TEXT)
            draw.text((at, top + 19), f"{value:.6g}", fill=TEXT, font=font, anchor="ma")


def _widen(sparse_depth: np.ndarray) -> np.ndarray:
    """Each point as 3x3 pixels, the nearer one in front."""
    padded = np.pad(np.where(sparse_depth > 0, sparse_depth, np.inf), 1, constant_values=np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    nearest = windows.min(axis=(2, 3))
    return np.where(np.isfinite(nearest), nearest, 0)


def save_curves(path: Path, train_rows: list[dict], eval_rows: list[dict]) -> None:
    """Loss, RMSE and learning rate over epochs, from the rows of train.csv and eval.csv."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axis, rmse_axis, rate_axis = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in train_rows]
    loss_axis.plot(epochs, [row["LOSS"] for row in train_rows], "o-", ms=3, label="training")
    loss_axis.plot(
        [row["epoch"] for row in eval_rows],
        [row["MAE"] for row in eval_rows],
        "o-",
        ms=3,
        label="validation MAE",
    )
    for label, rows in (("training", train_rows), ("validation", eval_rows)):
        rmse_axis.plot(
            [row["epoch"] for row in rows],
            [row["RMSE"] for row in rows],
            "o-",
            ms=3,
            label=label,
        )
    best = min(eval_rows, key=lambda row: row["RMSE"], default=None)
    if best:
        label = f"best: {best['RMSE']:.4f} m, epoch {best['epoch']:.0f}"
        rmse_axis.plot(best["epoch"], best["RMSE"], "k*", ms=9, label=label)
    rate_axis.step(epochs, [row["lr"] for row in train_rows], where="mid", marker="o", ms=3)
    rate_axis.set_yscale("log")
    for axis, title in (
        (loss_axis, "L1 loss [m]"),
        (rmse_axis, "RMSE [m]"),
        (rate_axis, "learning rate"),
    ):
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if axis is not rate_axis:
            axis.legend()
    figure.savefig(path, dpi=110)
