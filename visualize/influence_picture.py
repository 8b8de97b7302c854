"""The picture of an image's affinity and of the influence maps of six of its pixels."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from cspn import CSPN, neighbour_offsets
from visualize.influence import (
    choose_pixels,
    influence_map,
    mean_offset,
    reach,
    strongest_neighbour,
)
from visualize.pictures import (
    FOOT_HEIGHT,
    GAP,
    LABEL_HEIGHT,
    SMALL,
    ColorBar,
    panel_figure,
    pixel_axes,
    pixel_text,
    render,
)

POSITIVE, NEGATIVE = (255, 140, 0), (60, 130, 255)
LETTERS = "ABCDEF"
WIDTH = 900  # at least; smaller images are drawn in whole multiples
OUTLINE = (withStroke(linewidth=3, foreground="black"),)


def influence_picture(
    rgb: np.ndarray, guidance: Tensor, coarse_depth: Tensor, sparse_depth: Tensor, refinement: CSPN
) -> np.ndarray:
    """Return the image with six chosen pixels, the affinity's directions, and the influence maps.

    Args:
        rgb: (3, H, W) in [0, 1].
        guidance, coarse_depth, sparse_depth: (1, K, H, W), (1, 1, H, W) and (1, 1, H, W).
        refinement: the layer whose settings are shown.

    Returns:
        (h, w, 3) uint8.
    """
    settings = {name: getattr(refinement, name) for name in ("steps", "norm_type", "anchor")}
    refined = refinement(guidance, coarse_depth, sparse_depth)
    measured = sparse_depth[0, 0].cpu().numpy() > 0
    pixels = choose_pixels((refined - coarse_depth)[0, 0].cpu().numpy(), measured)
    weights = influence_map(guidance, sparse_depth, pixels, **settings).cpu().numpy()
    strongest, strength = strongest_neighbour(guidance, refinement.norm_type)
    neighbours = np.array(neighbour_offsets(refinement.kernel_size))[strongest.cpu().numpy()]
    offset = mean_offset(guidance, sparse_depth, **settings).permute(1, 2, 0).cpu().numpy()
    length = np.hypot(*offset.transpose(2, 0, 1))
    farthest = max(float(np.quantile(length, 0.98)), 0.1)

    image = np.rint(rgb.transpose(1, 2, 0) * 255).astype(np.uint8)  # (H, W, 3)
    panels = {
        "RGB, chosen pixels": image,
        "strongest neighbour, one step": direction_colors(
            neighbours, strength.sqrt().cpu().numpy()
        ),
        "mean offset of the sources, all steps": direction_colors(offset, length / farthest),
    }
    height, width = image.shape[:2]
    columns = 3 if width < 2 * height else 1  # wide panels below each other
    scale = max(1, -(-WIDTH // (columns * (width + GAP))))
    panels = {name: p.repeat(scale, axis=0).repeat(scale, axis=1) for name, p in panels.items()}
    across = columns * (width * scale + GAP) + GAP
    side = (across - GAP) // len(pixels) - GAP
    bar = ColorBar("offset [px]", (0.0, farthest), (columns - 1, columns - 1), "gray")
    # Wide panels have no column beside the bar: the legend takes a line of its own.
    legend_height = 0 if columns == 3 else FOOT_HEIGHT
    below = legend_height + 2 * LABEL_HEIGHT + side + GAP
    figure = panel_figure(panels, columns, [bar], below=below)
    _mark_pixels(figure, pixels, (height, width), scale)
    top = int(figure.bbox.height) - below + legend_height
    _add_legend(figure, refinement, top - FOOT_HEIGHT)
    radius = max(reach(w, p, 0.95) for w, p in zip(weights, pixels, strict=True))
    radius = min(max(radius, 6), (side - 1) // 2)
    for i, (weight, pixel) in enumerate(zip(weights, pixels, strict=True)):
        left, total = GAP + i * (side + GAP), np.abs(weight).sum()
        note = (
            f"{LETTERS[i]}: 90 % within {reach(weight, pixel, 0.9)} px\n"
            f"{100 * np.abs(weight[measured]).sum() / total:.0f} % measured, "
            f"max {np.abs(weight).max():.2f}"
        )
        pixel_text(figure, left, top + 2, note, SMALL, linespacing=1.3)
        axes = pixel_axes(figure, left, top + 2 * LABEL_HEIGHT, side, side)
        ends = np.array([-radius - 0.5, radius + 0.5])
        axes.set(xlim=pixel[1] + ends, ylim=pixel[0] - ends, autoscale_on=False)
        _draw_zoom(axes, image, weight, pixel, measured)
    return render(figure)


def direction_colors(offsets: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """Return colours whose hue is a direction.

    Args:
        offsets: (H, W, 2) as (dy, dx). brightness: (H, W), cut off at 0 and 1.

    Returns:
        (H, W, 3) uint8.
    """
    hue = np.arctan2(-offsets[..., 0], offsets[..., 1]) / (2 * math.pi) % 1
    hsv = np.stack([hue, np.full_like(hue, 0.85), np.clip(brightness, 0, 1)], axis=-1)
    return np.rint(hsv_to_rgb(hsv) * 255).astype(np.uint8)


def _mark_pixels(
    figure: Figure, pixels: list[tuple[int, int]], size: tuple[int, int], scale: int
) -> None:
    """Add a ring and a letter at each (row, column) of the first panel, of (H, W) scaled pixels."""
    (height, width), (rows, columns) = size, zip(*pixels, strict=True)
    axes = pixel_axes(figure, GAP, GAP + LABEL_HEIGHT, width * scale, height * scale)
    axes.axis("off")
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ring = {"mfc": "none", "mec": "white", "mew": 2, "path_effects": OUTLINE}
    axes.plot(columns, rows, "o", ms=11, clip_on=False, **ring)
    for letter, (row, column) in zip(LETTERS, pixels, strict=False):
        style = {"va": "center", "color": "white", "fontsize": 14, "path_effects": OUTLINE}
        axes.annotate(letter, (column, row), (9, 0), textcoords="offset pixels", **style)


def _add_legend(figure: Figure, refinement: CSPN, top: int) -> None:
    """Add the settings, the directions' colours and the meaning of the zooms' colours."""
    settings = f"{refinement.steps} steps, {refinement.norm_type}, anchor {refinement.anchor}."
    meaning = "Below, influence after all steps: orange adds, blue subtracts; white: measured."
    text = pixel_text(figure, GAP, top + 4, f"{settings} Direction:", SMALL)
    pixel_text(figure, GAP, top + 21, meaning, SMALL)
    directions = {"right": (0, 1), "up": (-1, 0), "left": (0, -1), "down": (1, 0)}
    colors = direction_colors(np.array([list(directions.values())]), np.ones((1, 4)))[0] / 255
    for name, color in zip(directions, colors, strict=True):
        for piece, ink in (("■", color), (name, "black")):
            left = text.get_window_extent().x1 + 6
            text = pixel_text(figure, left, top + 4, piece, SMALL, color=ink)


def _draw_zoom(
    axes: Axes, image: np.ndarray, weight: np.ndarray, pixel: tuple[int, int], measured: np.ndarray
) -> None:
    """Draw the greyed image, a pixel's influence map over it on a square-root scale, and what is
    measured, each in pixels of the image."""
    strength = np.sqrt(np.abs(weight) / max(np.abs(weight).max(), 1e-12))[..., None]
    color = np.where((weight > 0)[..., None], POSITIVE, NEGATIVE)
    grey = image.mean(axis=2, keepdims=True) * 0.7 + 20
    mixed = np.rint(grey * (1 - strength) + color * strength).astype(np.uint8)
    axes.imshow(mixed, interpolation="nearest", aspect="auto")
    axes.plot(*np.nonzero(measured)[::-1], "s", ms=3, mew=0, color="white")
    corner = (pixel[1] - 0.5, pixel[0] - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="white", linewidth=1))
    axes.axis("off")
