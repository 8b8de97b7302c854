"""Depth files, strips and curves."""

import numpy as np
from PIL import Image

from engine.pictures import colorize, result_strip, save_curves, save_depth_png


def test_depth_pictures_hold_millimetres_beyond_ten_metres(tmp_path):
    depth = np.array([[0, 0.001, 10.5], [65.535, 90, -1]], np.float32)
    save_depth_png(tmp_path / "depth.png", depth)
    image = Image.open(tmp_path / "depth.png")
    assert np.array_equal(np.array(image), [[0, 1, 10500], [65535, 65535, 0]])


def test_colours_follow_depth_and_missing_is_black():
    colors = colorize(np.array([[0, 1.0, 2.0, 5.0]]), 1, 2)
    assert not colors[0, 0].any()
    assert colors[0, 1].any() and not np.array_equal(colors[0, 1], colors[0, 2])
    assert np.array_equal(colors[0, 2], colors[0, 3])


def test_strips_and_curves_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    maps = [rng.uniform(1, 5, (60, 80)).astype(np.float32) for _ in range(4)]
    maps[0][rng.random((60, 80)) < 0.95] = 0
    strip = result_strip(rng.random((3, 60, 80)), maps[0], maps[1], maps[2], maps[3])
    assert strip.size == (6 * 84 - 4, 60 + 36)
    empty = result_strip(rng.random((3, 60, 80)), maps[0], maps[1], np.zeros((60, 80), np.float32))
    assert empty.size == (5 * 84 - 4, 60 + 36)
    wide = [rng.uniform(1, 5, (30, 120)).astype(np.float32) for _ in range(3)]
    two_columns = result_strip(rng.random((3, 30, 120)), *wide)
    assert two_columns.size == (2 * 124 - 4, 3 * 48 + 18)
    rows = [{"epoch": e, "lr": 0.01, "LOSS": 1 / e, "MAE": 1 / e, "RMSE": 2 / e} for e in (1, 2, 3)]
    save_curves(tmp_path / "curves.png", rows, rows)
    assert np.array(Image.open(tmp_path / "curves.png")).std() > 10
