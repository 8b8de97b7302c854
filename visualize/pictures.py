"""Pictures of depth: colours, labelled panels with colour bars, and 16-bit depth files."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import imageio.v3 as imageio
import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from dataloaders.sampling import resize_points
from engine.files import whole_file

LABEL_HEIGHT, FOOT_HEIGHT = 20, 38
GAP = 4  # pixels around every panel
LABEL, SMALL = 13, 11  # font sizes in points
DPI = 64  # a power of two, so that pixels / DPI * DPI is exact


class ColorBar(NamedTuple):
    """A colour bar at the foot of a picture."""

    caption: str  # what the colours mean, with the unit
    ends: tuple[float, float]  # values of its first and last colour
    columns: tuple[float, float]  # the first and the last column of panels that it stands below
    colormap: str = "turbo"


def save_depth_png(path: Path, depth: np.ndarray) -> None:
    """Write depth (H, W) in metres as a 16-bit PNG in millimetres, 0 = none, 65.535 m at most."""
    millimetres = np.clip(np.rint(np.nan_to_num(depth) * 1000), 0, 65535).astype(np.uint16)
    save_picture(path, millimetres)


def save_picture(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W) uint16 or (H, W, 3) uint8 as a PNG, whatever the suffix of `path`."""
    with whole_file(path) as part:
        imageio.imwrite(part, pixels, plugin="pillow", extension=".png")


def colorize(values: np.ndarray, low: float, high: float, colormap: str = "turbo") -> np.ndarray:
    """Return (H, W) values as (H, W, 3) uint8; exactly 0 means no measurement and is black."""
    scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    colors = matplotlib.colormaps[colormap](scaled, bytes=True)[..., :3]
    return np.where((values != 0)[..., None], colors, 0).astype(np.uint8)


def colorize_dense(depth: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Return a network's depth (H, W) as (H, W, 3) uint8; it has no holes, so 0 is a depth."""
    return colorize(np.where(depth == 0, 1e-9, depth), *ends)


def widen(depth: np.ndarray, most: float = 1.0) -> np.ndarray:
    """Return a sparse map with every measurement 3x3 pixels wide, the nearest one in front.

    Args:
        depth: (H, W), 0 = no measurement.
        most: fraction of measured pixels above which the map is returned as it is.
    """
    known = depth > 0
    if known.mean() > most:
        return depth
    nearest = cv2.erode(
        np.where(known, depth, np.inf), np.ones((3, 3)), borderType=cv2.BORDER_REPLICATE
    )
    return np.where(np.isfinite(nearest), nearest, 0)


def depth_range(depth: np.ndarray) -> tuple[float, float]:
    """Return the ends of the middle 98 % of the measurements in metres, 0 and 1 without any."""
    known = depth[depth > 0]
    return tuple(np.quantile(known, (0.01, 0.99)).tolist()) if known.size else (0.0, 1.0)


def error_map(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return |pred - target| in metres, exactly 0 only where there is no ground truth."""
    return np.where(target > 0, np.maximum(np.abs(pred - target), 1e-6), 0)


def result_strip(
    rgb: np.ndarray,
    sparse_depth: np.ndarray,
    pred: np.ndarray,
    target: np.ndarray,
    coarse_depth: np.ndarray | None = None,
) -> np.ndarray:
    """Return input, sparse points, (coarse depth,) prediction, ground truth and error side by side.

    All depth shares one colour scale, the middle 98 % of the ground truth; the error has its own.
    Wide images stand two in a row; the points of a sparse map are three pixels wide.

    Args:
        rgb: (3, H, W) in [0, 1]. The rest: (H, W) metres, 0 = no measurement.

    Returns:
        (h, w, 3) uint8.
    """
    ends, error = depth_range(target), error_map(pred, target)
    known = error[error > 0]
    worst = max(float(np.quantile(known, 0.98)) if known.size else 1.0, 1e-3)
    rmse = float(np.sqrt(np.mean(np.square(known)))) if known.size else float("nan")
    panels = {
        "RGB": np.rint(rgb.transpose(1, 2, 0) * 255).astype(np.uint8),
        "sparse depth": colorize(widen(sparse_depth), *ends),
        "coarse depth": None if coarse_depth is None else colorize_dense(coarse_depth, ends),
        "prediction": colorize_dense(pred, ends),
        "ground truth": colorize(widen(target, 0.2), *ends),
        f"error, RMSE {rmse:.3f} m": colorize(widen(error, 0.2), 0.0, worst, "inferno"),
    }
    panels = {label: panel for label, panel in panels.items() if panel is not None}
    columns = len(panels) if target.shape[1] < 2 * target.shape[0] else 2
    bars = [
        ColorBar("depth [m]", ends, (min(1, columns - 2), columns - 2)),
        ColorBar("error [m]", (0.0, worst), (columns - 1, columns - 1), "inferno"),
    ]
    return render(panel_figure(panels, columns, bars))


def prediction_picture(
    rgb: np.ndarray, sparse_depth: np.ndarray, depth: np.ndarray, max_width: int = 800
) -> np.ndarray:
    """Return image, measurements and depth as one picture, its colour scale in metres at the foot.

    The scale is the middle 98 % of the depth. Panels wider than `max_width` are reduced to it,
    wide ones stand below each other.

    Args:
        rgb: (H, W, 3) uint8. sparse_depth, depth: (H, W) metres, 0 = no measurement.

    Returns:
        (h, w, 3) uint8.
    """
    size = depth.shape
    if size[1] > max_width:
        size = (max(round(size[0] * max_width / size[1]), 1), max_width)
        rgb, depth = (
            np.asarray(Image.fromarray(m).resize(size[::-1], Image.Resampling.BOX))
            for m in (rgb, depth)
        )
        sparse_depth = resize_points(sparse_depth, size)
    ends = tuple(np.quantile(depth, (0.01, 0.99)).tolist())
    panels = {
        "RGB": rgb,
        "sparse depth": colorize(widen(sparse_depth), *ends),
        "depth": colorize_dense(depth, ends),
    }
    columns = 1 if size[1] > 2 * size[0] else 3
    bar = ColorBar("depth [m]", ends, (min(1, columns - 1), columns - 1))
    return render(panel_figure(panels, columns, [bar]))


def panel_figure(
    panels: dict[str, np.ndarray], columns: int, bars: Sequence[ColorBar] = (), *, below: int = 0
) -> Figure:
    """Return a figure of labelled panels in a grid, a panel's pixel a pixel, and bars below them.

    A label that is wider than its panel is cut at its comma.

    Args:
        panels: label -> (H, W, 3) uint8, all of one size.
        bars: colour bars, all in one line.
        below: pixels to leave free below everything.
    """
    height, width = next(iter(panels.values())).shape[:2]
    step, line = width + GAP, height + LABEL_HEIGHT + GAP
    foot = -(-len(panels) // columns) * line + GAP
    total = foot + FOOT_HEIGHT * bool(bars) + below
    figure = Figure(((columns * step + GAP) / DPI, total / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for i, (label, panel) in enumerate(panels.items()):
        left, top = GAP + i % columns * step, GAP + i // columns * line
        figure.add_artist(_Pixels(panel, left, total - top - LABEL_HEIGHT - height))
        text = pixel_text(figure, left + 1, top + 2, label, LABEL)
        if text.get_window_extent().width > width:
            text.set_text(label.split(",")[0])
    for bar in bars:
        first, last = bar.columns
        _add_color_bar(figure, bar, GAP + round(first * step), round((last + 1) * step), foot)
    return figure


def render(figure: Figure) -> np.ndarray:
    """Return a figure's pixels, (h, w, 3) uint8."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


class _Pixels(Artist):
    """Pixels (h, w, 3) uint8 below everything else in a figure, (left, bottom) their lower left
    corner. As `Figure.figimage`, which resamples them on the way, for a third of a second."""

    def __init__(self, pixels: np.ndarray, left: int, bottom: int):
        super().__init__()
        self.corner = left, bottom
        self.rgba = np.pad(pixels, ((0, 0), (0, 0), (0, 1)), constant_values=255)[::-1]
        self.set_zorder(-1)

    def draw(self, renderer: RendererBase) -> None:
        """Draw the pixels as they are."""
        renderer.draw_image(renderer.new_gc(), *self.corner, self.rgba)


def pixel_text(figure: Figure, left: float, top: float, text: str, size: float, **style):
    """Add text whose upper left corner is a pixel counted from the figure's; return the artist."""
    width, height = figure.bbox.size
    style = {"va": "top", "ha": "left", "fontsize": size} | style
    return figure.text(left / width, 1 - top / height, text, **style)


def pixel_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes whose box is given in pixels from the figure's upper left corner; return them."""
    across, down = figure.bbox.size
    box = (left / across, 1 - (top + height) / down, width / across, height / down)
    return figure.add_axes(box)


def _add_color_bar(figure: Figure, bar: ColorBar, left: int, right: int, top: int) -> None:
    """Add the bar with its caption before it and round values below it, in `FOOT_HEIGHT` pixels."""
    caption = pixel_text(figure, left + 1, top + 1, bar.caption, LABEL)
    # Half a number stands out beyond each end of the bar.
    start = left + min(round(caption.get_window_extent().width) + 18, (right - left) // 2)
    width = right - 18 - start
    if width < 20:
        return
    axes = pixel_axes(figure, start, top + 4, width, 11)
    colors = ScalarMappable(Normalize(*bar.ends), bar.colormap)
    drawn = figure.colorbar(colors, cax=axes, orientation="horizontal")
    drawn.outline.set_visible(False)
    drawn.formatter.set_useOffset(False)
    axes.tick_params(labelsize=SMALL, length=3, width=1, pad=2)
