"""Pictures of results: coloured depth, result strips, 16-bit depth files and training curves."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from dataloaders.sampling import resize_points

LABEL_HEIGHT = 18
GAP = 4


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

    All depth shares one colour scale, the middle 98 % of the ground truth; its ends and the
    error's stand at the foot. Panels stand in a row, wide images two in a row. Sparse points, and
    the ground truth of a LiDAR, are drawn three pixels wide, to be seen.

    Args:
        rgb: (3, H, W) in [0, 1]. The rest: (H, W) metres, 0 = no measurement.
    """
    known = target[target > 0]
    low, high = np.quantile(known, (0.01, 0.99)).tolist() if known.size else (0.0, 1.0)
    error = np.where(target > 0, np.maximum(np.abs(pred - target), 1e-6), 0)
    worst = max(float(np.quantile(error[target > 0], 0.98)) if known.size else 1.0, 1e-3)
    if known.size < 0.2 * target.size:
        target, error = _widen(target), _widen(error)

    panels = [
        ("RGB", np.rint(rgb.transpose(1, 2, 0) * 255).astype(np.uint8)),
        ("sparse depth", colorize(_widen(sparse_depth), low, high)),
        ("prediction", colorize(np.where(pred == 0, 1e-6, pred), low, high)),
        ("ground truth", colorize(target, low, high)),
        ("error", colorize(error, 0.0, worst, "inferno")),
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
    """Labelled panels of one size in a grid, and the two colour bars below it."""
    height, width = panels[0][1].shape[:2]
    columns = len(panels) if width < 2 * height else 2
    rows = -(-len(panels) // columns)
    step, line = width + GAP, height + LABEL_HEIGHT
    size = (step * columns - GAP, line * rows + LABEL_HEIGHT)
    canvas = Image.new("RGB", size, (255, 255, 255))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=12)
    for i, (label, panel) in enumerate(panels):
        left, top = i % columns * step, i // columns * line
        draw.text((left + 2, top + 2), label, fill=(0, 0, 0), font=font)
        canvas.paste(Image.fromarray(panel), (left, top + LABEL_HEIGHT))
    # The last column's foot is the error's; depth has the others'.
    middle = step * (columns - 1)
    _color_bar(draw, font, min(step, middle - step), middle - GAP, line * rows, depth_ends, "turbo")
    _color_bar(draw, font, middle, size[0], line * rows, error_ends, "inferno")
    return canvas


def prediction_picture(
    rgb: np.ndarray, sparse_depth: np.ndarray, depth: np.ndarray, max_width: int = 800
) -> Image.Image:
    """Image, measurements and depth side by side, with the colours' scale in metres at the foot.

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
    height, step = size[0], max(size[1], 120) + GAP
    canvas = Image.new("RGB", (3 * step - GAP, height + 2 * LABEL_HEIGHT), (255, 255, 255))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=12)
    for i, (label, panel) in enumerate(panels):
        draw.text((i * step + 2, 2), label, fill=(0, 0, 0), font=font)
        canvas.paste(Image.fromarray(panel), (i * step, LABEL_HEIGHT))
    _color_bar(draw, font, step, canvas.width, height + LABEL_HEIGHT, ends, "turbo")
    return canvas


class Illustrator:
    """Draws the first `wanted` images that `engine.evaluation.evaluate` hands it.

    Writes `<index>_strip.png` and `<index>_depth.png` (16-bit millimetres) to `folder`; `model` is
    asked for its coarse depth too where it has a refinement.
    """

    def __init__(self, model: nn.Module, folder: Path, wanted: int):
        self.model = model
        self.folder = folder
        self.wanted = wanted

    def __call__(self, batch: dict, pred: Tensor) -> None:
        """Called by `evaluate` with each batch and its prediction."""
        if int(batch["index"][0]) >= self.wanted:
            return
        coarse = None
        if self.model.refinement is not None:
            coarse, _ = self.model.coarse_depth_and_guidance(batch["rgbd"])
        for i, index in enumerate(batch["index"].tolist()):
            if index >= self.wanted:
                break
            maps = (batch["rgbd"][i, 3], pred[i, 0], batch["depth"][i, 0])
            strip = result_strip(
                batch["rgb"][i].cpu().numpy(),
                *(m.cpu().numpy() for m in maps),
                None if coarse is None else coarse[i, 0].cpu().numpy(),
            )
            strip.save(self.folder / f"{index:04d}_strip.png")
            save_depth_png(self.folder / f"{index:04d}_depth.png", pred[i, 0].cpu().numpy())


def _color_bar(draw, font, left, right, top, ends, colormap) -> None:
    """A bar with its two ends written beside it, in metres."""
    texts = [f"{end:.2f} m" for end in ends]
    margin = 52
    bar = np.linspace(0, 1, max(right - left - 2 * margin, 2))
    for i, color in enumerate(matplotlib.colormaps[colormap](bar, bytes=True)[:, :3].tolist()):
        draw.line(
            [(left + margin + i, top + 5), (left + margin + i, top + LABEL_HEIGHT - 5)],
            fill=tuple(color),
        )
    draw.text((left + 4, top + 2), texts[0], fill=(0, 0, 0), font=font)
    draw.text((right - margin + 4, top + 2), texts[1], fill=(0, 0, 0), font=font)


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
    rate_axis.step(epochs, [row["lr"] for row in train_rows], where="mid")
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
