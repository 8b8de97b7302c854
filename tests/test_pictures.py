"""Depth files, strips, colour bars and curves."""

import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest

from visualize.curves import chart_svg, save_curves
from visualize.pictures import (
    FOOT_HEIGHT,
    GAP,
    LABEL_HEIGHT,
    ColorBar,
    colorize,
    panel_figure,
    prediction_picture,
    render,
    result_strip,
    save_depth_png,
    save_picture,
    widen,
)

ROOT = Path(__file__).resolve().parent.parent


def test_depth_pictures_hold_millimetres_beyond_ten_metres(tmp_path):
    depth = np.array([[0, 0.001, 10.5], [65.535, 90, -1]], np.float32)
    save_depth_png(tmp_path / "depth.png", depth)
    image = imageio.imread(tmp_path / "depth.png")
    assert image.dtype == np.uint16
    assert np.array_equal(image, [[0, 1, 10500], [65535, 65535, 0]])


def test_a_picture_is_a_png_under_any_name_and_the_same_bytes_every_time(tmp_path):
    rng = np.random.default_rng(0)
    maps = [rng.uniform(1, 5, (20, 30)).astype(np.float32) for _ in range(3)]
    for name in ("one.png", "two.part"):
        save_picture(tmp_path / name, result_strip(rng.random((3, 20, 30)) * 0, *maps))
    first, second = ((tmp_path / name).read_bytes() for name in ("one.png", "two.part"))
    assert first.startswith(b"\x89PNG") and first == second


def test_colours_follow_depth_and_missing_is_black():
    colors = colorize(np.array([[0, 1.0, 2.0, 5.0]]), 1, 2)
    assert not colors[0, 0].any()
    assert colors[0, 1].any() and not np.array_equal(colors[0, 1], colors[0, 2])
    assert np.array_equal(colors[0, 2], colors[0, 3])


def test_widened_points_are_three_pixels_wide_and_the_nearer_one_is_in_front():
    depth = np.zeros((5, 7))
    depth[2, 2], depth[2, 4], depth[0, 6] = 3, 2, 1
    wide = widen(depth)
    assert np.array_equal(wide[1:4, 1:3], np.full((3, 2), 3))
    assert np.array_equal(wide[1:4, 3:6], np.vstack([[2, 2, 1], np.full((2, 3), 2)]))
    assert (wide > 0).sum() == 3 * 5 + 3 and np.array_equal(widen(depth, 0.05), depth)


def size_of(rows, columns, height, width):
    """(h, w, 3) of a picture of so many panels of that size, with colour bars."""
    line = height + LABEL_HEIGHT + GAP
    return (rows * line + GAP + FOOT_HEIGHT, columns * (width + GAP) + GAP, 3)


@pytest.mark.parametrize("width", [80, 61])
def test_strips_and_curves_are_drawn(tmp_path, width):
    rng = np.random.default_rng(0)
    maps = [rng.uniform(1, 5, (60, width)).astype(np.float32) for _ in range(4)]
    maps[0][rng.random((60, width)) < 0.95] = 0
    rgb = rng.random((3, 60, width))
    strip = result_strip(rgb, maps[0], maps[1], maps[2], maps[3])
    assert strip.shape == size_of(1, 6, 60, width)
    empty = result_strip(rgb, maps[0], maps[1], np.zeros((60, width), np.float32))
    assert empty.shape == size_of(1, 5, 60, width)
    wide = [rng.uniform(1, 5, (30, 120)).astype(np.float32) for _ in range(3)]
    assert result_strip(rng.random((3, 30, 120)), *wide).shape == size_of(3, 2, 30, 120)
    rows = [{"epoch": e, "lr": 0.01, "LOSS": 1 / e, "MAE": 1 / e, "RMSE": 2 / e} for e in (1, 2, 3)]
    for name, eval_rows in (("curves.png", rows), ("first.png", [])):
        save_curves(tmp_path / name, rows, eval_rows)
        assert imageio.imread(tmp_path / name).std() > 10


def test_large_predictions_are_shown_reduced_and_wide_ones_below_each_other():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (100, 400, 3), dtype=np.uint8)
    depth = rng.uniform(1, 5, (100, 400)).astype(np.float32)
    assert prediction_picture(rgb, depth, depth, 200).shape == size_of(3, 1, 50, 200)
    assert prediction_picture(rgb[:, :150], depth[:, :150], depth[:, :150]).shape == size_of(
        1, 3, 100, 150
    )


def panels(strip, count, height, width):
    """The pictures of a strip in one row, without their labels."""
    pixels = strip[GAP + LABEL_HEIGHT :][:height]
    return [pixels[:, GAP + i * (width + GAP) :][:, :width] for i in range(count)]


def test_all_depth_panels_of_a_strip_share_one_colour_scale():
    rng = np.random.default_rng(0)
    target = rng.uniform(1, 5, (60, 80)).astype(np.float32)
    rgb = np.zeros((3, 60, 80))
    _, sparse, coarse, pred, truth, error = panels(
        result_strip(rgb, np.full_like(target, 2.0), target, target, target), 6, 60, 80
    )
    assert np.array_equal(coarse, truth) and np.array_equal(pred, truth)
    # Every pixel of a map is a pixel of its panel, in the colour of its depth.
    assert np.array_equal(truth, colorize(target, *np.quantile(target, (0.01, 0.99))))
    flat = np.full_like(target, 2.0)
    _, again, *_ = panels(result_strip(rgb, flat, flat, target, flat), 6, 60, 80)
    assert np.array_equal(sparse, again)  # the ground truth alone sets the scale
    assert len(np.unique(error.reshape(-1, 3), axis=0)) == 1  # no error, one colour


def test_a_colour_bar_runs_over_its_colours_and_has_ticks_at_round_values():
    bar = ColorBar("m", (0.0, 2.0), (0, 0))
    white = np.full((10, 400, 3), 255, np.uint8)
    pixels = render(panel_figure({"": white}, 1, [bar]))[-FOOT_HEIGHT:]
    ends = colorize(np.array([[1e-6, 2.0]]), 0, 2)[0]
    # The first and the last column of the bar have the scale's first and last colour.
    columns = [x for x in range(30, 400) if (pixels[9, x] != 255).any()]
    for column, end in ((columns[0], ends[0]), (columns[-1], ends[1])):
        assert np.abs(pixels[9, column].astype(int) - end).max() < 3
    ticks = [x for x in range(30, 400) if pixels[16, x].max() < 100]
    assert np.allclose(ticks, np.linspace(columns[0], columns[-1], 9), atol=1)  # every 0.25 m


def test_charts_leave_out_what_cannot_be_drawn():
    nan, inf = float("nan"), float("inf")

    def series(*values):
        return pd.Series(values, range(1, len(values) + 1), dtype=float)

    assert chart_svg("t", {"a": series(nan, inf)}) == ""
    assert chart_svg("t", {"learning rate": series(0.0, -1.0)}) == ""
    for values in ([0.0], [2.0, 2.0], [1e-9, 1e9], [nan, 3.0]):
        chart = chart_svg("t", {"a": series(*values)})
        drawn = [value for value in values if value == value]
        assert chart.count("<title>") == len(drawn) and f"epoch {len(values)}: " in chart
        assert "nan" not in chart and "inf" not in chart and "url(" not in chart


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "no_such", "agg"])
def test_a_backend_that_a_notebook_names_does_not_stop_an_import(backend):
    code = "import os, visualize.pictures, visualize.curves; print(os.environ['MPLBACKEND'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"MPLBACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, f"{backend}\n"), done.stderr
