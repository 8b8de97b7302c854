"""Depth files, strips, colour bars and curves."""

import numpy as np
from PIL import Image, ImageDraw

from visualize.pictures import (
    FOOT_HEIGHT,
    GAP,
    LABEL_HEIGHT,
    color_bar,
    colorize,
    result_strip,
    save_curves,
    save_depth_png,
)


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
    assert strip.size == (6 * 84 - 4, 60 + LABEL_HEIGHT + FOOT_HEIGHT)
    empty = result_strip(rng.random((3, 60, 80)), maps[0], maps[1], np.zeros((60, 80), np.float32))
    assert empty.size == (5 * 84 - 4, 60 + LABEL_HEIGHT + FOOT_HEIGHT)
    wide = [rng.uniform(1, 5, (30, 120)).astype(np.float32) for _ in range(3)]
    two_columns = result_strip(rng.random((3, 30, 120)), *wide)
    assert two_columns.size == (2 * 124 - 4, 3 * (30 + LABEL_HEIGHT) + FOOT_HEIGHT)
    rows = [{"epoch": e, "lr": 0.01, "LOSS": 1 / e, "MAE": 1 / e, "RMSE": 2 / e} for e in (1, 2, 3)]
    save_curves(tmp_path / "curves.png", rows, rows)
    assert np.array(Image.open(tmp_path / "curves.png")).std() > 10


def panels(strip, count, height, width):
    """The pictures of a strip in one row, without their labels."""
    pixels = np.array(strip)[LABEL_HEIGHT : LABEL_HEIGHT + height]
    return [pixels[:, i * (width + GAP) :][:, :width] for i in range(count)]


def test_all_depth_panels_of_a_strip_share_one_colour_scale():
    rng = np.random.default_rng(0)
    target = rng.uniform(1, 5, (60, 80)).astype(np.float32)
    rgb = np.zeros((3, 60, 80))
    _, sparse, coarse, pred, truth, error = panels(
        result_strip(rgb, np.full_like(target, 2.0), target, target, target), 6, 60, 80
    )
    assert np.array_equal(coarse, truth) and np.array_equal(pred, truth)
    flat = np.full_like(target, 2.0)
    _, again, *_ = panels(result_strip(rgb, flat, flat, target, flat), 6, 60, 80)
    assert np.array_equal(sparse, again)  # the ground truth alone sets the scale
    assert len(np.unique(error.reshape(-1, 3), axis=0)) == 1  # no error, one colour


def test_a_colour_bar_runs_over_its_colours_and_has_ticks_at_round_values():
    canvas = Image.new("RGB", (400, FOOT_HEIGHT), (255, 255, 255))
    color_bar(ImageDraw.Draw(canvas), (0, 400, 0), (0.0, 2.0), "turbo", "m")
    pixels = np.array(canvas)
    ends = colorize(np.array([[1e-6, 2.0]]), 0, 2)[0]
    # The first and the last column of the bar have the scale's first and last colour.
    bar = [x for x in range(20, 400) if (pixels[10, x] != 255).any()]
    assert np.array_equal(pixels[10, bar[0]], ends[0])
    assert np.array_equal(pixels[10, bar[-1]], ends[1])
    ticks = [x for x in bar if not pixels[17, x].any()]
    assert np.allclose(ticks, np.linspace(bar[0], bar[-1], 6), atol=1)  # every 0.4 m
