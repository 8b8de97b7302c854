"""Large images in overlapping tiles, so that memory is bounded whatever the image's size.

A tile starts at a multiple of 32 pixels, the deepest stride of the network: a pixel far from its
tile's edges is then computed from the same numbers as in the whole image. Near the edges it is
not, because the network sees past them; there the tiles' weights fall to zero along sin^2, and
what two tiles say about a pixel is averaged by those weights.
"""

import math
from collections.abc import Callable

import numpy as np

STRIDE = 32
# With a ResNet-50 on a CPU the process then peaks at 2.6 GB; an image up to it is one tile.
MAX_TILE_PIXELS = 1024 * 1024
MIN_TILE_PIXELS = (4 * STRIDE) ** 2
OVERLAP = 256

Window = tuple[slice, slice]


def plan_tiles(
    size: tuple[int, int], max_pixels: int = MAX_TILE_PIXELS, overlap: int = OVERLAP
) -> list[Window]:
    """Return windows (rows, columns) that cover an image, each of at most `max_pixels`.

    Args:
        size: (H, W). max_pixels: of one tile; an image up to it is one tile.
        overlap: pixels that neighbours share at least; rounded up to a multiple of 32, and less
            where tiles are smaller than twice that.

    Raises:
        ValueError: `max_pixels` is below 128x128.
    """
    height, width = size
    if max_pixels < MIN_TILE_PIXELS:
        raise ValueError(f"a tile needs at least {MIN_TILE_PIXELS} pixels, got {max_pixels}")
    if height * width <= max_pixels:
        return [(slice(0, height), slice(0, width))]
    side = _aligned(math.isqrt(max_pixels))
    # A narrow image is cut along its length alone.
    tile_height = min(height, side if width > side else _aligned(max_pixels // width))
    tile_width = min(width, side if height > side else _aligned(max_pixels // height))
    rows, columns = _spans(height, tile_height, overlap), _spans(width, tile_width, overlap)
    return [(row, column) for row in rows for column in columns]


def run_tiled(
    size: tuple[int, int],
    run: Callable[[Window], np.ndarray],
    max_pixels: int = MAX_TILE_PIXELS,
    overlap: int = OVERLAP,
) -> tuple[np.ndarray, int]:
    """Compute maps tile by tile and blend them.

    Args:
        size: (H, W) of the image.
        run: gives (C, h, w) float32 for a window of (h, w) pixels.
        max_pixels, overlap: see `plan_tiles`.

    Returns:
        (C, H, W) float32 and the number of tiles.
    """
    windows = plan_tiles(size, max_pixels, overlap)
    if len(windows) == 1:
        return run(windows[0]), 1
    total, weights = None, np.zeros(size, np.float32)
    for window in windows:
        maps = run(window)
        weight = _weight(window, windows, size)
        if total is None:
            total = np.zeros((len(maps), *size), np.float32)
        total[(slice(None), *window)] += weight * maps
        weights[window] += weight
    return total / weights, len(windows)


def _aligned(length: int) -> int:
    return max(length // STRIDE * STRIDE, STRIDE)


def _spans(length: int, tile: int, overlap: int) -> list[slice]:
    """Slices of at most `tile` pixels over `length`, starting at multiples of 32."""
    if tile >= length:
        return [slice(0, length)]
    step = tile - min(-(-overlap // STRIDE) * STRIDE, _aligned(tile // 2))
    last = -(-(length - tile) // STRIDE) * STRIDE
    starts = [*range(0, last, step), last]
    return [slice(start, min(start + tile, length)) for start in starts]


def _weight(window: Window, windows: list[Window], size: tuple[int, int]) -> np.ndarray:
    """(h, w) weights of a tile: 1, falling to almost 0 over what it shares with a neighbour."""
    axes = []
    for axis, span in enumerate(window):
        ramp = np.ones(span.stop - span.start, np.float32)
        others = [other[axis] for other in windows if other[axis] != span]
        if span.start > 0:
            shared = max(o.stop for o in others if o.start < span.start) - span.start
            ramp[:shared] *= _rise(shared)
        if span.stop < size[axis]:
            shared = span.stop - min(o.start for o in others if o.start > span.start)
            ramp[-shared:] *= _rise(shared)[::-1]
        axes.append(ramp)
    return axes[0][:, None] * axes[1][None]


def _rise(length: int) -> np.ndarray:
    """sin^2 from just above 0 to just below 1."""
    return np.sin((np.arange(length, dtype=np.float32) + 0.5) * (math.pi / 2 / length)) ** 2
