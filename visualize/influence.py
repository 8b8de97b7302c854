"""Where the propagation listens: the weights behind a refined pixel, and their direction.

For a fixed guidance the refined depth is linear in what it starts from, so its gradient at a
pixel p is the impulse response: refined(p) = sum_q weight(q) * coarse_depth(q) after all T steps,
exactly. H W image, K neighbours, N chosen pixels.
"""

import colorsys
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cspn import CSPN, neighbour_offsets, normalized_affinity, propagate
from visualize.pictures import FOOT_HEIGHT, GAP, LABEL_HEIGHT, TEXT, color_bar

POSITIVE, NEGATIVE = (255, 140, 0), (60, 130, 255)
FONT_SIZE = 12
CANVAS_WIDTH = 900  # at least; smaller images are drawn in whole multiples


def listening_weights(
    guidance: Tensor,
    sparse_depth: Tensor,
    pixels: Sequence[tuple[int, int]],
    *,
    steps: int = 24,
    norm_type: str = "8sum",
    anchor: str = "coarse",
) -> Tensor:
    """How much every source pixel contributes to each chosen pixel of the refined depth.

    The gradient of `cspn.propagate`, taken for all N pixels at once: channels share the weights,
    so channel n is asked for pixel n. A measured pixel's weight counts whatever enters there, its
    coarse depth and, with anchor="sparse", its measurement. Works inside `torch.inference_mode`.

    Args:
        guidance: (1, K, H, W) raw, no unit.
        sparse_depth: (1, 1, H, W) metres, 0 = no measurement.
        pixels: N pairs (row, column).
        steps, norm_type, anchor: see `cspn.propagate`.

    Returns:
        (N, H, W) without unit; each map sums to 1.

    Raises:
        ValueError: no pixel, or one outside the image.
    """
    height, width = guidance.shape[-2:]
    outside = [p for p in pixels if not (0 <= p[0] < height and 0 <= p[1] < width)]
    if outside or not pixels:
        found = f"got {outside[0]}" if outside else "got none"
        raise ValueError(f"pixels must be (row, column) inside {height}x{width}, {found}")
    count = len(pixels)
    with torch.inference_mode(False), torch.enable_grad():
        guidance = guidance.detach().clone()
        # Linear: the starting values do not matter, only where the measurements are.
        coarse = guidance.new_zeros(1, count, height, width).requires_grad_()
        sources = [coarse]
        measured = sparse_depth.detach().clone()
        if anchor == "sparse":
            measured = measured.repeat(1, count, 1, 1).requires_grad_()
            sources.append(measured)
        refined = propagate(
            guidance, coarse, measured, steps=steps, norm_type=norm_type, anchor=anchor
        )  # (1, N, H, W)
        rows, columns = torch.tensor(pixels, device=guidance.device).unbind(1)
        chosen = refined[0, torch.arange(count, device=guidance.device), rows, columns]
        gradients = torch.autograd.grad(chosen.sum(), sources)
    return sum(gradients)[0]


def mean_offset(
    guidance: Tensor,
    sparse_depth: Tensor,
    *,
    steps: int = 24,
    norm_type: str = "8sum",
    anchor: str = "coarse",
) -> Tensor:
    """How far away, and on which side, each pixel's sources lie on average: sum_q w(q) (q - p).

    The propagation is linear, so propagating the pixels' coordinates gives it for all at once.

    Args:
        As of `listening_weights`.

    Returns:
        (2, H, W) mean row and column offset in pixels; positive is down, right.
    """
    height, width = guidance.shape[-2:]
    # From 1 up, because a measurement of 0 means none; weights sum to 1, so the origin cancels.
    rows = torch.arange(1, height + 1, device=guidance.device, dtype=guidance.dtype)
    columns = torch.arange(1, width + 1, device=guidance.device, dtype=guidance.dtype)
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]  # (1, 2, H, W)
    measured = places * (sparse_depth > 0)
    heard = propagate(guidance, places, measured, steps=steps, norm_type=norm_type, anchor=anchor)
    return (heard - places)[0]


def strongest_neighbour(guidance: Tensor, norm_type: str = "8sum") -> tuple[Tensor, Tensor]:
    """What one step listens to most at each pixel.

    Args:
        guidance: (1, K, H, W) raw, no unit.

    Returns:
        Two (H, W) maps: channel k of the neighbour with the largest |w_k|, and that |w_k|, its
        share of all neighbours' (1/K..1; 0 where all gates are 0).
    """
    share, strongest = normalized_affinity(guidance, norm_type)[0].abs().max(dim=0)
    return strongest, share


def choose_pixels(
    change: np.ndarray, measured: np.ndarray, rows: int = 2, columns: int = 3, margin: int = 3
) -> list[tuple[int, int]]:
    """In each cell of a grid the unmeasured pixel whose depth the refinement changed most.

    Args:
        change: (H, W) metres, refined minus coarse depth. measured: (H, W) bool.
        margin: pixels at the image's border that are left out.
    """
    height, width = change.shape
    amount = np.where(measured, -1.0, np.abs(np.nan_to_num(change)))
    down = np.linspace(margin, height - margin, rows + 1).astype(int)
    across = np.linspace(margin, width - margin, columns + 1).astype(int)
    pixels = []
    for top, bottom in pairwise(down):
        for left, right in pairwise(across):
            cell = amount[top:bottom, left:right]
            row, column = np.unravel_index(cell.argmax(), cell.shape)
            pixels.append((int(top + row), int(left + column)))
    return pixels


def affinity_picture(
    rgb: np.ndarray, guidance: Tensor, coarse_depth: Tensor, sparse_depth: Tensor, refinement: CSPN
) -> Image.Image:
    """The image with six chosen pixels, its affinity's maps, and what each chosen pixel hears.

    Args:
        rgb: (3, H, W) in [0, 1].
        guidance, coarse_depth, sparse_depth: (1, K, H, W), (1, 1, H, W) and (1, 1, H, W).
        refinement: the layer whose settings are shown.
    """
    settings = {
        "steps": refinement.steps,
        "norm_type": refinement.norm_type,
        "anchor": refinement.anchor,
    }
    refined = refinement(guidance, coarse_depth, sparse_depth)
    measured = sparse_depth[0, 0].cpu().numpy() > 0
    pixels = choose_pixels((refined - coarse_depth)[0, 0].cpu().numpy(), measured)
    weights = listening_weights(guidance, sparse_depth, pixels, **settings).cpu().numpy()
    strongest, share = strongest_neighbour(guidance, refinement.norm_type)
    neighbours = np.array(neighbour_offsets(refinement.kernel_size))[strongest.cpu().numpy()]
    offset = mean_offset(guidance, sparse_depth, **settings).permute(1, 2, 0).cpu().numpy()
    length = np.hypot(*offset.transpose(2, 0, 1))
    farthest = max(float(np.quantile(length, 0.98)), 0.1)

    image = np.rint(rgb.transpose(1, 2, 0) * 255).astype(np.uint8)  # (H, W, 3)
    panels = [
        ("RGB, chosen pixels", image),
        (
            "strongest neighbour, one step",
            _direction_colors(neighbours, share.sqrt().cpu().numpy()),
        ),
        ("mean offset of what is heard, all steps", _direction_colors(offset, length / farthest)),
    ]
    canvas, scale, foot = _arranged(panels)
    draw = ImageDraw.Draw(canvas)
    _mark_pixels(draw, pixels, scale)
    bar = (canvas.width * 2 // 3, canvas.width, foot)
    color_bar(draw, bar, (0.0, farthest), "gray", "offset [px]", FONT_SIZE)
    _legend(draw, (2, foot), refinement)
    return _with_zooms(canvas, image, weights, pixels, measured)


def reach(weights: np.ndarray, pixel: tuple[int, int], share: float) -> int:
    """Pixels around `pixel`, up and down or across, within which `share` of all |weight| lies."""
    rows, columns = np.indices(weights.shape)
    distance = np.maximum(abs(rows - pixel[0]), abs(columns - pixel[1]))
    within = np.bincount(distance.ravel(), np.abs(weights).ravel()).cumsum()
    return int(np.searchsorted(within, share * within[-1]))


def _direction_colors(offsets: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(H, W, 2) offsets (dy, dx) and (H, W) shares in [0, 1] to colours: the hue is the
    direction, the brightness the share."""
    hue = np.arctan2(-offsets[..., 0], offsets[..., 1]) / (2 * math.pi) % 1
    wheel = np.array([colorsys.hsv_to_rgb(h / 360, 0.85, 1) for h in range(361)])
    brightness = np.clip(share, 0, 1)
    return np.rint(wheel[np.rint(hue * 360).astype(int)] * brightness[..., None] * 255).astype(
        np.uint8
    )


def _arranged(panels: list[tuple[str, np.ndarray]]) -> tuple[Image.Image, int, int]:
    """Labelled panels, wide ones below each other; returns the canvas, how many times larger the
    images were drawn, and where the foot begins."""
    height, width = panels[0][1].shape[:2]
    columns = len(panels) if width < 2 * height else 1
    scale = max(1, -(-CANVAS_WIDTH // (columns * (width + GAP))))
    step, line = width * scale + GAP, height * scale + LABEL_HEIGHT
    rows = len(panels) // columns
    canvas = Image.new("RGB", (step * columns - GAP, line * rows + FOOT_HEIGHT), (255, 255, 255))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=FONT_SIZE)
    for i, (label, panel) in enumerate(panels):
        left, top = i % columns * step, i // columns * line
        draw.text((left + 2, top + 2), label, fill=TEXT, font=font)
        enlarged = Image.fromarray(panel.repeat(scale, axis=0).repeat(scale, axis=1))
        canvas.paste(enlarged, (left, top + LABEL_HEIGHT))
    return canvas, scale, line * rows


def _mark_pixels(draw: ImageDraw.ImageDraw, pixels: list[tuple[int, int]], scale: int) -> None:
    """Ring and letter of each chosen pixel on the first panel."""
    font = ImageFont.load_default(size=15)
    for letter, (row, column) in zip("ABCDEF", pixels, strict=False):
        x, y = (column + 0.5) * scale, (row + 0.5) * scale + LABEL_HEIGHT
        for radius, color in ((6, TEXT), (5, (255, 255, 255))):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=color, width=2)
        draw.text(
            (x + 9, y - 9),
            letter,
            fill=(255, 255, 255),
            stroke_width=2,
            stroke_fill=TEXT,
            font=font,
        )


def _legend(draw: ImageDraw.ImageDraw, corner: tuple[int, int], refinement: CSPN) -> None:
    """The settings, the direction's colours and the meaning of the zooms' colours."""
    left, top = corner
    font = ImageFont.load_default(size=FONT_SIZE)
    settings = f"{refinement.steps} steps, {refinement.norm_type}, anchor {refinement.anchor}."
    draw.text((left, top + 3), f"{settings} Direction:", fill=TEXT, font=font)
    left_of_wheel = left + int(draw.textlength(f"{settings} Direction:", font=font)) + 8
    for i, (name, dy, dx) in enumerate(
        (("right", 0, 1), ("up", -1, 0), ("left", 0, -1), ("down", 1, 0))
    ):
        color = _direction_colors(np.array([[[dy, dx]]]), np.ones((1, 1)))[0, 0]
        at = left_of_wheel + 54 * i
        draw.rectangle([at, top + 5, at + 10, top + 15], fill=tuple(color.tolist()))
        draw.text((at + 15, top + 3), name, fill=TEXT, font=font)
    meaning = (
        "Below, weights after all steps: orange adds, blue subtracts, white: a measured pixel."
    )
    draw.text((left, top + 19), meaning, fill=TEXT, font=font)


def _with_zooms(
    canvas: Image.Image,
    image: np.ndarray,
    weights: np.ndarray,
    pixels: list[tuple[int, int]],
    measured: np.ndarray,
) -> Image.Image:
    """`canvas` and, below it, the surroundings of each chosen pixel coloured by its weights."""
    count = len(pixels)
    side = (canvas.width - GAP * (count - 1)) // count
    radius = max(reach(w, p, 0.95) for w, p in zip(weights, pixels, strict=True))
    radius = min(max(radius, 6), (side - 1) // 2)
    head = 2 * LABEL_HEIGHT
    whole = Image.new("RGB", (canvas.width, canvas.height + head + side), (255, 255, 255))
    whole.paste(canvas, (0, 0))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=FONT_SIZE)
    for i, (weight, pixel) in enumerate(zip(weights, pixels, strict=True)):
        left, top = i * (side + GAP), canvas.height
        total = np.abs(weight).sum()
        heard = 100 * np.abs(weight[measured]).sum() / total
        draw.text(
            (left + 2, top + 2),
            f"{'ABCDEF'[i]}: 90 % within {reach(weight, pixel, 0.9)} px",
            fill=TEXT,
            font=font,
        )
        note = f"{heard:.0f} % measured, max {np.abs(weight).max():.2f}"
        draw.text((left + 2, top + LABEL_HEIGHT), note, fill=TEXT, font=font)
        whole.paste(_zoom(image, weight, pixel, measured, radius, side), (left, top + head))
    return whole


def _zoom(
    image: np.ndarray,
    weight: np.ndarray,
    pixel: tuple[int, int],
    measured: np.ndarray,
    radius: int,
    side: int,
) -> Image.Image:
    """`side` pixels square: greyed surroundings, weights over them on a square-root scale."""
    padding = ((radius, radius), (radius, radius))
    crop = (slice(pixel[0], pixel[0] + 2 * radius + 1), slice(pixel[1], pixel[1] + 2 * radius + 1))
    grey = np.pad(image.mean(axis=2) * 0.7 + 20, padding, constant_values=255)[crop]
    weight = np.pad(weight, padding)[crop]
    strength = np.sqrt(np.abs(weight) / max(np.abs(weight).max(), 1e-12))[..., None]
    color = np.where((weight > 0)[..., None], POSITIVE, NEGATIVE)
    mixed = grey[..., None] * (1 - strength) + color * strength
    zoom = Image.fromarray(np.rint(mixed).astype(np.uint8)).resize((side, side), Image.NEAREST)
    draw, cell = ImageDraw.Draw(zoom), side / (2 * radius + 1)
    for row, column in np.argwhere(np.pad(measured, padding)[crop]):
        x, y = (column + 0.5) * cell, (row + 0.5) * cell
        draw.rectangle([x - 1, y - 1, x + 1, y + 1], fill=(255, 255, 255))
    middle = radius * cell
    draw.rectangle([middle - 1, middle - 1, middle + cell, middle + cell], outline=(255, 255, 255))
    return zoom
