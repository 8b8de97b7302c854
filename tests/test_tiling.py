"""Tiles cover the image, stay below their limit, and blend into what the whole image gives."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_weights import golden_state_dict

from inference.predictor import Predictor
from inference.tiling import MAX_TILE_PIXELS, plan_tiles, run_tiled
from models import build_model, convert_released_state_dict


@pytest.mark.parametrize(
    "size", [(128, 129), (1000, 1000), (33, 40_000), (40_000, 33), (257, 511), (3024, 4032)]
)
@pytest.mark.parametrize("limit", [128 * 128, 50_000, MAX_TILE_PIXELS])
def test_tiles_cover_every_pixel_and_stay_below_the_limit(size, limit):
    covered = np.zeros(size, bool)
    for rows, columns in plan_tiles(size, limit, overlap=64):
        assert rows.start % 32 == 0 and columns.start % 32 == 0
        tile = (rows.stop - rows.start, columns.stop - columns.start)
        assert tile[0] * tile[1] <= limit or tile == size
        assert min(tile) >= min(32, *size)
        covered[rows, columns] = True
    assert covered.all()


def test_a_photograph_of_twelve_megapixels_takes_few_tiles():
    assert 12 <= len(plan_tiles((3024, 4032))) <= 30
    assert len(plan_tiles((1024, 1024))) == 1


def test_tiles_too_small_for_the_network_are_refused():
    with pytest.raises(ValueError, match="at least 16384 pixels, got 1000"):
        plan_tiles((500, 500), 1000)


def test_blending_gives_back_what_does_not_depend_on_the_tile():
    maps = np.random.default_rng(0).normal(size=(2, 300, 500)).astype(np.float32)
    blended, tiles = run_tiled((300, 500), lambda w: maps[(slice(None), *w)], 128 * 128, 64)
    assert tiles > 10
    np.testing.assert_allclose(blended, maps, rtol=1e-5, atol=1e-6)


def test_tiles_agree_with_the_whole_image_where_the_operator_does_not_see_their_edges():
    image = torch.from_numpy(np.random.default_rng(0).random((1, 1, 260, 420), np.float32))

    def blur(window):
        return F.avg_pool2d(image[(..., *window)], 9, stride=1, padding=4)[0].numpy()

    size = (260, 420)
    whole = blur((slice(0, 260), slice(0, 420)))[0]
    blended, _ = run_tiled(size, blur, 160 * 160, 64)
    near_an_edge = np.zeros(size, bool)
    for rows, columns in plan_tiles(size, 160 * 160, 64):
        for edge in (rows.start, rows.stop):
            if edge not in (0, size[0]):
                near_an_edge[edge - 4 : edge + 4, columns] = True
        for edge in (columns.start, columns.stop):
            if edge not in (0, size[1]):
                near_an_edge[rows, edge - 4 : edge + 4] = True
    assert 0.05 < near_an_edge.mean() < 0.5
    np.testing.assert_allclose(blended[0][~near_an_edge], whole[~near_an_edge], rtol=1e-5)
    # At the edges themselves the other tile has nearly all the weight.
    assert np.abs(blended[0] - whole).max() < 0.01


def test_a_tiled_network_gives_nearly_the_whole_images_depth():
    model = build_model("resnet18", cspn_steps=4)
    model.load_state_dict(convert_released_state_dict(golden_state_dict("resnet18")))
    predictor = Predictor(model, resize="none")
    rows, columns = np.mgrid[:256, :704]
    rgb = np.stack([rows // 2, columns // 4, (rows + columns) // 5], axis=-1).astype(np.uint8)
    sparse_depth = np.where((rows * 7 + columns * 3) % 97 == 0, 1 + columns / 200, 0)
    whole = predictor(rgb, sparse_depth)
    predictor.max_tile_pixels = 256 * 448
    tiled = predictor(rgb, sparse_depth)
    assert (whole.tiles, tiled.tiles) == (1, 3)
    difference = np.abs(tiled.depth - whole.depth)
    assert difference.mean() < 0.05 * whole.depth.std()
    # The far end of the first tile is beyond the ramp and most of what the network sees.
    assert difference[:, :64].max() < 0.05 * whole.depth.std()
    assert difference.max() > 0
