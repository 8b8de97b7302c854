"""The picture of an image's affinity and of the influence maps of six of its pixels."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
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
    axes = _overlay(figure)
    marks = [(GAP + (c + 0.5) * scale, GAP + LABEL_HEIGHT + (r + 0.5) * scale) for r, c in pixels]
    _mark_pixels(axes, marks)
    top = int(figure.bbox.height) - below
    _add_legend(figure, refinement, top - FOOT_HEIGHT + legend_height)
    radius = max(reach(w, p, 0.95) for w, p in zip(weights, pixels, strict=True))
    radius = min(max(radius, 6), (side - 1) // 2)
    for i, (weight, pixel) in enumerate(zip(weights, pixels, strict=True)):
        left, total = GAP + i * (side + GAP), np.abs(weight).sum()
        note = (
            f"{LETTERS[i]}: 90 % within {reach(weight, pixel, 0.9)} px\n"
            f"{100 * np.abs(weight[measured]).sum() / total:.0f} % measured, "
            f"max {np.abs(weight).max():.2f}"
        )
        pixel_text(figure, left, top + legend_height + 2, note, SMALL, linespacing=1.3)
        box = (left, top + legend_height + 2 * LABEL_HEIGHT, side)
        _add_zoom(axes, box, image, weight, pixel, measured, radius)
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


def _overlay(figure: Figure) -> Axes:
    """Return axes over the whole figure whose coordinates are its pixels, from the upper left."""
    width, height = figure.bbox.size
    axes = pixel_axes(figure, 0, 0, width, height)
    axes.axis("off")
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    return axes


def _mark_pixels(axes: Axes, marks: list[tuple[float, float]]) -> None:
    """Add a ring and a letter at each (x, y)."""
    ring = {"mfc": "none", "mec": "white", "mew": 2, "path_effects": OUTLINE}
    axes.plot(*zip(*marks, strict=True), "o", ms=11, **ring)
    for letter, (x, y) in zip(LETTERS, marks, strict=False):
        style = {"va": "center", "color": "white", "fontsize": 14, "path_effects": OUTLINE}
        axes.text(x + 9, y, letter, **style)


def _add_legend(figure: Figure, refinement: CSPN, top: int) -> None:
    """Add the settings, the directions' colours and the meaning of the zooms' colours."""
    settings = f"{refinement.steps} steps, {refinement.norm_type}, anchor {refinement.anchor}."
    meaning = "Below, influence after all steps: orange adds, blue subtracts; white: measured."
    text = pixel_text(figure, GAP, top + 4, f"{settings} Direction:", SMALL)
    pixel_text(figure, GAP, top + 21, meaning, SMALL)
    left = text.get_window_extent().x1 + 10
    directions = {"right": (0, 1), "up": (-1, 0), "left": (0, -1), "down": (1, 0)}
    colors = direction_colors(np.array([list(directions.values())]), np.ones((1, 4)))[0] / 255
    figure.legend(
        handles=[Patch(color=c, label=n) for n, c in zip(directions, colors, strict=True)],
        loc="upper left",
        bbox_to_anchor=(left / figure.bbox.width, 1 - (top + 3) / figure.bbox.height),
        ncols=4,
        fontsize=SMALL,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1,
        handletextpad=0.5,
        columnspacing=1.2,
    )


def _add_zoom(
    axes: Axes,
    box: tuple[int, int, int],
    image: np.ndarray,
    weight: np.ndarray,
    pixel: tuple[int, int],
    measured: np.ndarray,
    radius: int,
) -> None:
    """Add the greyed surroundings of a pixel with its influence map over them, on a square-root
    scale; `box` is left, top and side in pixels."""
    padding = ((radius, radius), (radius, radius))
    crop = (slice(pixel[0], pixel[0] + 2 * radius + 1), slice(pixel[1], pixel[1] + 2 * radius + 1))
    grey = np.pad(image.mean(axis=2) * 0.7 + 20, padding, constant_values=255)[crop]
    weight = np.pad(weight, padding)[crop]
    strength = np.sqrt(np.abs(weight) / max(np.abs(weight).max(), 1e-12))[..., None]
    color = np.where((weight > 0)[..., None], POSITIVE, NEGATIVE)
    mixed = np.rint(grey[..., None] * (1 - strength) + color * strength).astype(np.uint8)
    left, top, side = box
    extent = (left, left + side, top + side, top)
    axes.imshow(mixed, interpolation="nearest", aspect="auto", extent=extent)
    cell = side / (2 * radius + 1)
    rows, columns = np.nonzero(np.pad(measured, padding)[crop])
    dots = {"ms": 3, "mew": 0, "color": "white"}
    axes.plot(left + (columns + 0.5) * cell, top + (rows + 0.5) * cell, "s", **dots)
    corner = (left + radius * cell, top + radius * cell)
    axes.add_patch(Rectangle(corner, cell, cell, fill=False, edgecolor="white", linewidth=1))
