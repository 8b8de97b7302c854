"""Textures of rooms: flat surfaces, wall paper, and what covers a face exactly once: pictures,
doors, drawers, books, rugs, windows.
"""

import cv2
import numpy as np

from sample_data.textures import (
    RAMP,
    SIZE,
    Range,
    canvas_of,
    colour,
    flat,
    fractal,
    grain,
    hsv,
    mix,
    noise,
    paint,
    wood_colour,
)

# Solid wood or veneer, grain along u; pile carpet; off-white paint; foliage; a switched-off
# display; a lamp shade or globe.
wood = flat(wood_colour, lambda rng: 0.68 + 0.42 * grain(rng))
carpet = flat(hsv((0.25, 0.75), (0.05, 0.5)), 0.55, (0.4, SIZE, SIZE), (0.25, 4))
white = flat(hsv((0.82, 0.97), (0.0, 0.08)), 0.95, (0.05, 64, 64))
leaf = flat(
    hsv((0.25, 0.6), (0.4, 0.8), (0.2, 0.38)),
    lambda rng: 0.3 + 1.1 * noise(rng, 64, 64) * (0.5 + noise(rng, 16, 16)),
)
screen = flat(lambda rng: np.full(3, rng.uniform(14, 34), np.float32), 0.8, (0.4, 2, 2))
glow = flat(hsv((0.92, 1.0), (0.02, 0.25), (0.08, 0.15)), 0.95, (0.05, 4, 4))


def wallpaper(rng: np.random.Generator) -> np.ndarray:
    """Paint wall paper: stripes, dots or a diamond pattern of two related colours."""
    base = colour(rng, (0.55, 0.92), (0.05, 0.35))
    other = base * rng.uniform(0.62, 0.88) if rng.random() < 0.75 else colour(rng, (0.4, 0.9))
    angle = 2 * np.pi * int(rng.integers(3, 9))
    u, v = np.meshgrid(RAMP, RAMP)
    patterns = (
        np.sin(angle * u),
        np.sin(angle * u) * np.sin(angle * v) - 0.45,
        np.sin(angle * (u + v)) + np.sin(angle * (u - v)) - 0.6,
    )
    wave = patterns[rng.integers(3)]
    return paint(mix(base, other, np.clip(wave * 4 + 0.5, 0, 1)), 0.94 + 0.1 * noise(rng, 96, 96))


def _ink(rng: np.random.Generator, value: Range = (0.1, 1.0), *ranges: Range) -> tuple:
    """Draw a colour to draw with, by default a vivid one."""
    return tuple(colour(rng, value, *(ranges or ((0.2, 0.9),))).tolist())


def picture(rng: np.random.Generator) -> np.ndarray:
    """Paint a framed painting (landscape or abstract) or an unframed poster with lettering."""
    kind = rng.integers(3)
    canvas = _landscape(rng) if kind == 0 else canvas_of(colour(rng, (0.3, 0.95)))
    if kind == 1:
        _figures(rng, canvas, int(rng.integers(5, 14)))
    if kind == 2:
        _figures(rng, canvas, int(rng.integers(1, 4)))
        _lettering(rng, canvas)
    if kind != 2 or rng.random() < 0.3:
        mat, corner = int(rng.integers(0, 70)), (SIZE - 1, SIZE - 1)
        cv2.rectangle(canvas, (0, 0), corner, (235.0, 232.0, 225.0), 2 * mat + 1)
        cv2.rectangle(canvas, (0, 0), corner, _ink(rng, (0.08, 0.7)), int(rng.integers(30, 70)))
    return paint(canvas, 0.9 + 0.2 * fractal(rng, 8))


def _landscape(rng: np.random.Generator) -> np.ndarray:
    """Draw a sky gradient, a sun and three ranges of hills."""
    ramp = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    canvas = canvas_of(colour(rng, (0.5, 0.95)) * (1 - ramp) + colour(rng, (0.7, 1.0)) * ramp)
    centre = (int(rng.integers(60, SIZE - 60)), int(rng.integers(60, 220)))
    cv2.circle(canvas, centre, int(rng.integers(15, 50)), _ink(rng, (0.8, 1.0)), -1)
    x = np.arange(SIZE)
    for layer in range(3):
        waves = sum(
            np.sin(x / SIZE * 2 * np.pi * k + rng.uniform(0, 6)) * 40 / k for k in range(1, 6)
        )
        line = np.stack([x, SIZE * (0.45 + 0.17 * layer) + waves], 1).astype(np.int32)
        hill = np.concatenate([line, [[SIZE, SIZE], [0, SIZE]]]).astype(np.int32)
        cv2.fillPoly(canvas, [hill], _ink(rng, (0.15, 0.7)))
    return canvas


def _figures(rng: np.random.Generator, canvas: np.ndarray, count: int) -> None:
    """Draw circles, rectangles and triangles."""
    for _ in range(count):
        _, _, w, h = rng.integers(20, SIZE // 2, 4).tolist()
        x, y = int(rng.integers(SIZE)), int(rng.integers(SIZE))
        kind = rng.integers(3)
        if kind == 0:
            cv2.circle(canvas, (x, y), w // 2, _ink(rng), -1)
        elif kind == 1:
            cv2.rectangle(canvas, (x, y), (x + w, y + h), _ink(rng), -1)
        else:
            cv2.fillPoly(canvas, [rng.integers(0, SIZE, (3, 2)).astype(np.int32)], _ink(rng))


def _lettering(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Draw lines of word-like bars: texture edges that are no depth edges."""
    ink = _ink(rng, (0.0, 0.35))
    y = int(rng.integers(40, 200))
    while y < SIZE - 50:
        height = int(rng.choice([10, 14, 36]))
        x = 50
        while x < SIZE - 80:
            width = int(rng.integers(15, 70))
            cv2.rectangle(canvas, (x, y), (min(x + width, SIZE - 50), y + height), ink, -1)
            x += width + 12
        y += 2 * height


def books(rng: np.random.Generator) -> np.ndarray:
    """Paint a row of book spines seen from the front."""
    canvas = np.full((SIZE, SIZE, 3), 25, np.float32)
    x = 0
    while x < SIZE:
        width = int(rng.integers(16, 52))
        top = int(rng.integers(0, 20))
        cv2.rectangle(canvas, (x + 1, top), (x + width - 2, SIZE), _ink(rng, (0.15, 0.9)), -1)
        for _ in range(int(rng.integers(1, 3))):
            y = int(rng.integers(60, SIZE - 80))
            label = (x + width - 5, y + int(rng.integers(10, 80)))
            cv2.rectangle(canvas, (x + 4, y), label, _ink(rng, (0.6, 1.0)), -1)
        x += width
    return paint(canvas)


def _panels(rows: int, columns: int, left: int, top: int, width: int, height: int):
    """Yield the corners x0, y0, x1, y1 of panels that divide an area evenly, row by row."""
    for row in range(rows):
        for column in range(columns):
            x0, x1 = (left + width * c // columns for c in (column, column + 1))
            y0, y1 = (top + height * r // rows for r in (row, row + 1))
            yield x0, y0, x1, y1


def drawers(rng: np.random.Generator) -> np.ndarray:
    """Paint a chest or cupboard front: panels with dark gaps and knobs."""
    wooden = colour(rng, (0.3, 0.9), (0.25, 0.65), (0.04, 0.11))
    base = wooden if rng.random() < 0.6 else colour(rng, (0.4, 0.95), (0.0, 0.4))
    canvas = canvas_of(base)
    rows, columns = rng.integers(1, 5, 2).tolist()
    knob = (200.0, 195.0, 180.0) if rng.random() < 0.6 else (40.0, 36.0, 30.0)
    dark = tuple(c * 0.35 for c in base.tolist())
    for x0, y0, x1, y1 in _panels(rows, min(columns, 3), 0, 0, SIZE, SIZE):
        cv2.rectangle(canvas, (x0 + 6, y0 + 6), (x1 - 6, y1 - 6), dark, 5)
        cv2.circle(canvas, ((x0 + x1) // 2, (y0 + y1) // 2), 12, knob, -1)
    return paint(canvas, 0.85 + 0.25 * noise(rng, 128, 4))


def door(rng: np.random.Generator) -> np.ndarray:
    """Paint a panelled door leaf with a handle."""
    wooden = colour(rng, (0.3, 0.8), (0.3, 0.65), (0.04, 0.1))
    base = wooden if rng.random() < 0.5 else colour(rng, (0.7, 0.95), (0.0, 0.15))
    canvas = canvas_of(base)
    rows, columns = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    for x0, y0, x1, y1 in _panels(rows, columns, 60, 40, 400, 430):
        for inset, gain in ((12, 0.6), (18, 1.08)):
            ink = tuple(min(255.0, c * gain) for c in base.tolist())
            cv2.rectangle(canvas, (x0 + inset, y0 + inset), (x1 - inset, y1 - inset), ink, 6)
    cv2.circle(canvas, (470, 270), 12, (190.0, 180.0, 120.0), -1)
    return paint(canvas, 0.9 + 0.15 * noise(rng, 8, 128))


def rug(rng: np.random.Generator) -> np.ndarray:
    """Paint a bordered rug with rings, diamonds or stripes."""
    canvas, middle = canvas_of(colour(rng, (0.25, 0.85))), SIZE // 2
    for inset in range(0, int(rng.integers(60, 140)), 22):
        corner = SIZE - 1 - inset
        cv2.rectangle(canvas, (inset, inset), (corner, corner), _ink(rng, (0.15, 0.9)), -1)
    kind = rng.integers(3)
    inks = [_ink(rng, (0.2, 0.9)) for _ in range(3)]
    for k, reach in enumerate(range(180, 0, -28)):
        ink = inks[k % 3]
        if kind == 0:
            cv2.circle(canvas, (middle, middle), reach, ink, -1)
        elif kind == 1:
            offsets = np.array([[reach, 0], [0, reach], [-reach, 0], [0, -reach]], np.int32)
            cv2.fillPoly(canvas, [offsets + middle], ink)
        else:
            cv2.rectangle(canvas, (150, middle - reach), (SIZE - 150, middle + reach), ink, -1)
    return paint(canvas, 0.65 + 0.5 * rng.random((SIZE, SIZE), dtype=np.float32))


def window(rng: np.random.Generator) -> np.ndarray:
    """Paint the blurred outside seen through a pane: sky, trees and a neighbouring house."""
    ramp = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    canvas = canvas_of(np.array([200, 220, 250], np.float32) * (1 - 0.2 * ramp) + 30 * ramp)
    if rng.random() < 0.5:
        left = int(rng.integers(0, 300))
        corner = (left, int(rng.integers(180, 330)))
        cv2.rectangle(canvas, corner, (left + 180, SIZE), _ink(rng, (0.5, 0.8)), -1)
    for _ in range(8):
        centre = (int(rng.integers(SIZE)), int(rng.integers(330, SIZE)))
        green = _ink(rng, (0.3, 0.6), (0.3, 0.6), (0.2, 0.35))
        cv2.circle(canvas, centre, int(rng.integers(30, 110)), green, -1)
    return paint(cv2.GaussianBlur(canvas, (0, 0), 7))
