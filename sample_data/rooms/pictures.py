"""Textures that cover a face exactly once: pictures, doors, drawers, books, rugs, windows."""

from __future__ import annotations

import cv2
import numpy as np

from sample_data.rooms.textures import SIZE, colour, fractal, noise


def _canvas(rng: np.random.Generator, value: tuple[float, float]) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(colour(rng, value), (SIZE, SIZE, 3)))


def _ink(rng: np.random.Generator, value: tuple[float, float] = (0.1, 1.0)) -> tuple:
    return tuple(float(c) for c in colour(rng, value, (0.2, 0.9)))


def _grained(rng: np.random.Generator, canvas: np.ndarray, depth: float = 0.2) -> np.ndarray:
    gain = 1 - depth / 2 + depth * fractal(rng, 8)
    return np.clip(canvas * gain[..., None], 0, 255).astype(np.uint8)


def picture(rng: np.random.Generator) -> np.ndarray:
    """A framed painting (landscape or abstract) or an unframed poster with lettering."""
    kind = rng.integers(3)
    canvas = _landscape(rng) if kind == 0 else _canvas(rng, (0.3, 0.95))
    if kind == 1:
        _shapes(rng, canvas, int(rng.integers(5, 14)))
    if kind == 2:
        _shapes(rng, canvas, int(rng.integers(1, 4)))
        _lettering(rng, canvas)
    if kind != 2 or rng.random() < 0.3:
        mat = int(rng.integers(0, 70))
        cv2.rectangle(canvas, (0, 0), (SIZE - 1, SIZE - 1), (235.0, 232.0, 225.0), 2 * mat + 1)
        frame = _ink(rng, (0.08, 0.7))
        cv2.rectangle(canvas, (0, 0), (SIZE - 1, SIZE - 1), frame, int(rng.integers(30, 70)))
    return _grained(rng, canvas)


def _landscape(rng: np.random.Generator) -> np.ndarray:
    """Sky gradient, a sun and three ranges of hills."""
    ramp = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    canvas = colour(rng, (0.5, 0.95)) * (1 - ramp) + colour(rng, (0.7, 1.0)) * ramp
    canvas = np.ascontiguousarray(np.broadcast_to(canvas, (SIZE, SIZE, 3)))
    centre = (int(rng.integers(60, SIZE - 60)), int(rng.integers(60, 220)))
    cv2.circle(canvas, centre, int(rng.integers(15, 50)), _ink(rng, (0.8, 1.0)), -1)
    x = np.arange(SIZE)
    for layer in range(3):
        waves = sum(
            np.sin(x / SIZE * 2 * np.pi * k + rng.uniform(0, 6)) * 40 / k for k in range(1, 6)
        )
        top = SIZE * (0.45 + 0.17 * layer) + waves
        line = np.stack([x, top], 1).astype(np.int32)
        hill = np.concatenate([line, [[SIZE, SIZE], [0, SIZE]]]).astype(np.int32)
        cv2.fillPoly(canvas, [hill], _ink(rng, (0.15, 0.7)))
    return canvas


def _shapes(rng: np.random.Generator, canvas: np.ndarray, count: int) -> None:
    for _ in range(count):
        x, y, w, h = (int(v) for v in rng.integers(20, SIZE // 2, 4))
        x, y = int(rng.integers(SIZE)), int(rng.integers(SIZE))
        kind = rng.integers(3)
        if kind == 0:
            cv2.circle(canvas, (x, y), w // 2, _ink(rng), -1)
        elif kind == 1:
            cv2.rectangle(canvas, (x, y), (x + w, y + h), _ink(rng), -1)
        else:
            corners = rng.integers(0, SIZE, (3, 2)).astype(np.int32)
            cv2.fillPoly(canvas, [corners], _ink(rng))


def _lettering(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Lines of word-like bars: texture edges that are no depth edges."""
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
    """A row of book spines seen from the front."""
    canvas = np.full((SIZE, SIZE, 3), 25, np.float32)
    x = 0
    while x < SIZE:
        width = int(rng.integers(16, 52))
        top = int(rng.integers(0, 20))
        spine = _ink(rng, (0.15, 0.9))
        cv2.rectangle(canvas, (x + 1, top), (x + width - 2, SIZE), spine, -1)
        for _ in range(int(rng.integers(1, 3))):
            y = int(rng.integers(60, SIZE - 80))
            label = (x + width - 5, y + int(rng.integers(10, 80)))
            cv2.rectangle(canvas, (x + 4, y), label, _ink(rng, (0.6, 1.0)), -1)
        x += width
    return canvas.clip(0, 255).astype(np.uint8)


def drawers(rng: np.random.Generator) -> np.ndarray:
    """A chest or cupboard front: panels with dark gaps and knobs."""
    wooden = colour(rng, (0.3, 0.9), (0.25, 0.65), (0.04, 0.11))
    base = wooden if rng.random() < 0.6 else colour(rng, (0.4, 0.95), (0.0, 0.4))
    canvas = np.ascontiguousarray(np.broadcast_to(base, (SIZE, SIZE, 3)))
    rows, columns = (int(v) for v in rng.integers(1, 5, 2))
    columns = min(columns, 3)
    knob = (200.0, 195.0, 180.0) if rng.random() < 0.6 else (40.0, 36.0, 30.0)
    for row in range(rows):
        for column in range(columns):
            x0, x1 = SIZE * column // columns, SIZE * (column + 1) // columns
            y0, y1 = SIZE * row // rows, SIZE * (row + 1) // rows
            dark = tuple(float(c) * 0.35 for c in base)
            cv2.rectangle(canvas, (x0 + 6, y0 + 6), (x1 - 6, y1 - 6), dark, 5)
            cv2.circle(canvas, ((x0 + x1) // 2, (y0 + y1) // 2), 12, knob, -1)
    grain = 0.85 + 0.25 * noise(rng, 128, 4)
    return np.clip(canvas * grain[..., None], 0, 255).astype(np.uint8)


def door(rng: np.random.Generator) -> np.ndarray:
    """A panelled door leaf with a handle."""
    wooden = colour(rng, (0.3, 0.8), (0.3, 0.65), (0.04, 0.1))
    base = wooden if rng.random() < 0.5 else colour(rng, (0.7, 0.95), (0.0, 0.15))
    canvas = np.ascontiguousarray(np.broadcast_to(base, (SIZE, SIZE, 3)))
    rows, columns = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    for row in range(rows):
        for column in range(columns):
            x0, x1 = (60 + 400 * c // columns for c in (column, column + 1))
            y0, y1 = (40 + 430 * r // rows for r in (row, row + 1))
            for inset, gain in ((12, 0.6), (18, 1.08)):
                shade = tuple(min(255.0, float(c) * gain) for c in base)
                low, high = (x0 + inset, y0 + inset), (x1 - inset, y1 - inset)
                cv2.rectangle(canvas, low, high, shade, 6)
    cv2.circle(canvas, (470, 270), 12, (190.0, 180.0, 120.0), -1)
    grain = 0.9 + 0.15 * noise(rng, 8, 128)
    return np.clip(canvas * grain[..., None], 0, 255).astype(np.uint8)


def rug(rng: np.random.Generator) -> np.ndarray:
    """A bordered rug with rings, diamonds or stripes."""
    canvas = _canvas(rng, (0.25, 0.85))
    for inset in range(0, int(rng.integers(60, 140)), 22):
        corner = SIZE - 1 - inset
        cv2.rectangle(canvas, (inset, inset), (corner, corner), _ink(rng, (0.15, 0.9)), -1)
    kind = rng.integers(3)
    inks = [_ink(rng, (0.2, 0.9)) for _ in range(3)]
    for k, step in enumerate(range(0, 200, 28)):
        ink, reach = inks[k % 3], 180 - step
        if reach <= 0:
            break
        middle = SIZE // 2
        if kind == 0:
            cv2.circle(canvas, (middle, middle), reach, ink, -1)
        elif kind == 1:
            offsets = np.array([[reach, 0], [0, reach], [-reach, 0], [0, -reach]], np.int32)
            cv2.fillPoly(canvas, [offsets + middle], ink)
        else:
            cv2.rectangle(canvas, (150, middle - reach), (SIZE - 150, middle + reach), ink, -1)
    pile = 0.65 + 0.5 * rng.random((SIZE, SIZE), dtype=np.float32)
    return np.clip(canvas * pile[..., None], 0, 255).astype(np.uint8)


def window(rng: np.random.Generator) -> np.ndarray:
    """The blurred outside seen through a pane: sky, trees and a neighbouring house."""
    ramp = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    sky = np.array([200, 220, 250], np.float32) * (1 - 0.2 * ramp) + 30 * ramp
    canvas = np.ascontiguousarray(np.broadcast_to(sky, (SIZE, SIZE, 3)).astype(np.float32))
    if rng.random() < 0.5:
        left = int(rng.integers(0, 300))
        house = (left + 180, SIZE)
        cv2.rectangle(canvas, (left, int(rng.integers(180, 330))), house, _ink(rng, (0.5, 0.8)), -1)
    for _ in range(8):
        centre = (int(rng.integers(SIZE)), int(rng.integers(330, SIZE)))
        green = tuple(float(c) for c in colour(rng, (0.3, 0.6), (0.3, 0.6), (0.2, 0.35)))
        cv2.circle(canvas, centre, int(rng.integers(30, 110)), green, -1)
    return cv2.GaussianBlur(canvas, (0, 0), 7).clip(0, 255).astype(np.uint8)
