"""The influence map, against the propagation itself, and its picture."""

import numpy as np
import pytest
import torch

from cspn import CSPN, neighbour_offsets, normalized_affinity, propagate
from visualize.influence import (
    choose_pixels,
    influence_map,
    mean_offset,
    reach,
    strongest_neighbour,
)
from visualize.influence_picture import influence_picture

HEIGHT, WIDTH = 9, 11
PIXELS = [(0, 0), (4, 5), (8, 3)]


def scene(channels=8, size=(HEIGHT, WIDTH), dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    guidance = torch.randn(1, channels, *size, generator=generator, dtype=dtype)
    coarse = 1 + 4 * torch.rand(1, 1, *size, generator=generator, dtype=dtype)
    measured = torch.rand(1, 1, *size, generator=generator) < 0.1
    return guidance, coarse, (coarse + 0.5) * measured


@pytest.mark.parametrize("norm_type", ["8sum", "8sum_abs"])
@pytest.mark.parametrize("anchor", ["coarse", "sparse"])
@pytest.mark.parametrize("channels", [8, 24])
def test_weights_are_what_each_source_pixel_adds_to_the_refined_depth(norm_type, anchor, channels):
    guidance, coarse, sparse = scene(channels)
    settings = {"steps": 6, "norm_type": norm_type, "anchor": anchor}
    weights = influence_map(guidance, sparse, PIXELS, **settings)
    # Raise one source pixel after the other by a metre, each in an image of its own.
    count = HEIGHT * WIDTH
    raised = torch.eye(count, dtype=torch.float64).reshape(count, 1, HEIGHT, WIDTH)
    responses = propagate(
        guidance.expand(count, -1, -1, -1),
        coarse + raised,
        sparse + raised * (sparse > 0),
        **settings,
    ) - propagate(guidance, coarse, sparse, **settings)
    for weight, (row, column) in zip(weights, PIXELS, strict=True):
        torch.testing.assert_close(weight.flatten(), responses[:, 0, row, column])
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(3, dtype=torch.float64))


def test_the_weights_rebuild_the_refined_depth_in_inference_mode():
    with torch.inference_mode():
        guidance, coarse, sparse = scene(dtype=torch.float32)
        refined = propagate(guidance, coarse, sparse)[0, 0]
        weights = influence_map(guidance, sparse, PIXELS)
    for weight, (row, column) in zip(weights, PIXELS, strict=True):
        torch.testing.assert_close((weight * coarse[0, 0]).sum(), refined[row, column])


def test_a_measured_pixel_is_influenced_by_itself_alone():
    guidance, _, sparse = scene()
    row, column = np.argwhere(sparse[0, 0].numpy() > 0)[0].tolist()
    weight = influence_map(guidance, sparse, [(row, column)])[0]
    assert weight[row, column] == 1 and weight.abs().sum() == 1
    assert reach(weight.numpy(), (row, column), 0.9) == 0


@pytest.mark.parametrize("anchor", ["coarse", "sparse"])
def test_the_mean_offset_is_the_weights_centre_of_gravity(anchor):
    guidance, _, sparse = scene()
    settings = {"steps": 6, "norm_type": "8sum_abs", "anchor": anchor}
    offset = mean_offset(guidance, sparse, **settings)
    weights = influence_map(guidance, sparse, PIXELS, **settings)
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    for weight, (row, column) in zip(weights, PIXELS, strict=True):
        expected = torch.stack([(weight * (rows - row)).sum(), (weight * (columns - column)).sum()])
        torch.testing.assert_close(offset[:, row, column], expected)


def test_the_strongest_neighbour_is_the_one_with_the_largest_gate():
    guidance = torch.full((1, 8, 5, 5), 0.1)
    guidance[0, 3] = -2.0  # offset (0, 1): the pixel to the right, with a negative weight
    strongest, strength = strongest_neighbour(guidance)
    assert neighbour_offsets(3)[int(strongest[2, 2])] == (0, 1)
    assert strength[2, 2] == pytest.approx(2 / 2.7)
    assert strength[2, 2] == normalized_affinity(guidance)[0, 3, 2, 2].abs()


def test_reach_counts_pixels_around_the_chosen_one():
    weights = np.zeros((9, 9))
    weights[4, 4], weights[4, 6], weights[1, 4] = 0.5, -0.3, 0.2
    assert [reach(weights, (4, 4), fraction) for fraction in (0.4, 0.79, 0.81)] == [0, 2, 3]


def test_the_pixel_changed_most_is_chosen_in_every_cell():
    change = np.zeros((40, 60))
    change[10, 10], change[30, 50], change[30, 51], change[0, 0] = -2, 1, 5, 9
    measured = np.zeros((40, 60), bool)
    measured[30, 51] = True
    pixels = choose_pixels(change, measured)
    assert len(pixels) == len(set(pixels)) == 6
    assert pixels[0] == (10, 10) and pixels[5] == (30, 50)


def test_pixels_outside_the_image_are_refused():
    guidance, _, sparse = scene()
    with pytest.raises(ValueError, match=r"inside 9x11, got \(9, 0\)"):
        influence_map(guidance, sparse, [(9, 0)])
    with pytest.raises(ValueError, match="got none"):
        influence_map(guidance, sparse, [])


@pytest.mark.parametrize("size", [(48, 64), (32, 160)])
def test_the_picture_marks_the_chosen_pixels_in_their_colours(size):
    refinement = CSPN(steps=4, norm_type="8sum_abs")
    guidance, coarse, sparse = scene(size=size, dtype=torch.float32)
    with torch.inference_mode():
        picture = influence_picture(
            np.zeros((3, *size), np.float32), guidance, coarse, sparse, refinement
        )
    assert picture.dtype == np.uint8 and picture.shape[1] >= 900
    pixels = picture.astype(int)
    zooms = pixels[-100:]
    # Positive weights alone: orange, and no blue anywhere in the zooms.
    assert ((zooms[..., 0] > 200) & (zooms[..., 2] < 60)).any()
    assert not ((zooms[..., 2] > 150) & (zooms[..., 0] < 100)).any()
