"""Measuring an image: patterns, numbers and errors of the measurements."""

import numpy as np
import pytest

from dataloaders import SAMPLERS, NYUDepthDataset
from dataloaders.hdf5 import write_frame
from dataloaders.sampling import PATTERNS, Measurements, measure, sample_sparse_depth

SIZE = (114, 152)


def image(seed=0):
    """rgb (3, H, W) uint8 of coloured squares, which have corners, and their depth."""
    rng = np.random.default_rng(seed)
    tiles = rng.integers(0, 256, (3, 10, 13), np.uint8)
    rgb = tiles.repeat(12, axis=1).repeat(12, axis=2)[:, : SIZE[0], : SIZE[1]]
    depth = (1 + rgb[0] / np.float32(64) + np.linspace(0, 1, SIZE[1])).astype(np.float32)
    depth[:, :10] = 0  # a hole
    return rgb, depth


def measured(sampler, count, seed=0, **errors):
    rgb, depth = image()
    return measure(rgb, depth, Measurements(sampler, count, **errors), np.random.default_rng(seed))


@pytest.mark.parametrize("sampler", SAMPLERS[:-1])
def test_measurements_are_the_depth_of_their_pixels_and_no_more_than_asked_for(sampler):
    _, depth = image()
    for count in (0, 5, 300, 5000):
        sparse = measured(sampler, count)
        kept = sparse > 0
        assert sparse.dtype == np.float32 and (sparse[kept] == depth[kept]).all()
        if sampler != "bernoulli":
            assert kept.sum() <= count


@pytest.mark.parametrize("sampler", ["exact", "lines", "window"])
def test_a_pattern_with_pixels_enough_has_the_number_asked_for(sampler):
    assert np.count_nonzero(measured(sampler, 300)) == 300


@pytest.mark.parametrize("sampler", SAMPLERS[:-1])
def test_the_same_draw_gives_the_same_measurements_and_another_one_others(sampler):
    errors = {"noise": 0.02, "outliers": 0.1}
    one, same, other = (measured(sampler, 200, seed, **errors) for seed in (3, 3, 4))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_the_published_draws_are_what_they_were():
    rgb, depth = image()
    for sampler in ("bernoulli", "exact"):
        for over_valid in (False, True):
            rngs = [np.random.default_rng(7) for _ in range(2)]
            expected = sample_sparse_depth(depth, 500, sampler, rngs[0], over_valid=over_valid)
            m = Measurements.choose(sampler, 500, 0.0, 0.0, rngs[1])
            found = measure(rgb, depth, m, rngs[1], over_valid=over_valid)
            assert np.array_equal(found, expected)
            assert rngs[0].random() == rngs[1].random()


@pytest.mark.parametrize("lines", [8, 16, 64])
def test_lines_are_as_many_as_asked_for_and_go_through_the_image(lines):
    rgb, depth = np.zeros((3, 228, 304), np.uint8), np.ones((228, 304), np.float32)
    m = Measurements("lines", 100_000, lines=lines)
    sparse = measure(rgb, depth, m, np.random.default_rng(0))
    assert ((sparse > 0).sum(axis=0) == lines).all()
    rows = np.nonzero(sparse.T)[1].reshape(304, lines)
    assert (np.abs(np.diff(rows, axis=1) - 228 / lines) <= 1).all()  # at equal distances
    assert len(np.unique(rows)) > lines  # not along the rows of the image


def test_a_window_is_measured_and_the_rest_is_empty():
    for seed in range(10):
        rows, columns = np.nonzero(measured("window", 100_000, seed))
        for places, length in ((rows, SIZE[0]), (columns, SIZE[1])):
            assert np.ptp(places) + 1 <= round(0.7 * length)


def test_a_grid_has_equal_distances():
    rows, columns = np.nonzero(measured("grid", 200))
    for places in (rows, columns):
        steps = np.diff(np.unique(places))
        assert np.ptp(steps) <= 1 and steps.mean() > 5


def test_corners_lie_where_the_picture_has_them():
    rows, columns = np.nonzero(measured("corners", 60))
    off = [np.minimum(places % 12, -places % 12) for places in (rows, columns)]
    assert len(rows) > 30 and np.mean(np.maximum(*off) <= 2) > 0.9


def test_noise_has_its_size_and_outliers_their_number():
    _, depth = image()
    sparse = measured("exact", 5000, noise=0.02)
    kept = sparse > 0
    assert 0.018 < np.std(sparse[kept] / depth[kept]) < 0.022
    sparse = measured("exact", 5000, outliers=0.1)
    wrong = np.mean(sparse[kept] != depth[kept])
    assert 0.07 < wrong < 0.12
    ratio = (sparse / np.where(kept, depth, 1))[kept]
    assert np.any(ratio == 2) and np.any(ratio == 0.5)


def test_any_draws_every_sampler_and_number():
    draws = [Measurements.draw(500, np.random.default_rng(seed)) for seed in range(2000)]
    assert {m.sampler for m in draws} == {"exact", *PATTERNS}
    assert 0.35 < np.mean([m.sampler == "exact" and m.count == 500 for m in draws]) < 0.45
    counts = np.array([m.count for m in draws])
    assert counts.min() < 10 and counts.max() > 15_000
    noisy, wrong = (np.array([getattr(m, name) for m in draws]) for name in ("noise", "outliers"))
    assert 0.25 < np.mean(noisy > 0) < 0.35 and noisy.max() <= 0.03
    assert 0.15 < np.mean(wrong > 0) < 0.25 and wrong.max() <= 0.1
    assert {m.lines for m in draws} <= set(range(8, 65))


@pytest.fixture
def roots(tmp_path):
    for name, value in (("one", 1.0), ("two", 2.0)):
        for split in ("train", "val"):
            for i in range(2):
                rgb = np.random.default_rng(i).integers(0, 256, (3, 240, 320), np.uint8)
                depth = np.full((240, 320), value, np.float32)
                write_frame(tmp_path / name / split / "scene" / f"{i}.h5", rgb, depth)
    return [tmp_path / "one", tmp_path / "two"]


def test_several_roots_are_one_set_whose_names_tell_them_apart(roots):
    dataset = NYUDepthDataset(roots, "val")
    items = [dataset[i] for i in range(len(dataset))]
    names = [item["name"] for item in items]
    assert names == [f"{r}/val/scene/{i}.h5" for r in ("one", "two") for i in (0, 1)]
    assert [item["depth"].max().item() for item in items] == [1, 1, 2, 2]
    assert dataset.root == roots[0]


def test_items_depend_on_seed_index_and_epoch_alone(roots):
    options = {"sampler": "any", "crop": "random"}
    one, two = (NYUDepthDataset(roots, "train", **options) for _ in range(2))
    one[0], one[(3, 1)]  # what was read before does not matter
    a, b, c = one[(1, 2)]["rgbd"], two[(1, 2)]["rgbd"], two[(1, 3)]["rgbd"]
    assert a.equal(b) and not a.equal(c)


def test_random_crops_reach_the_edges_and_centre_crops_are_as_published(roots):
    published = NYUDepthDataset(roots, "train")
    assert published[0]["rgbd"].equal(NYUDepthDataset(roots, "train", crop="centre")[0]["rgbd"])
    random = NYUDepthDataset(roots, "train", crop="random", n_sample=0)
    assert not published[0]["rgb"].equal(random[0]["rgb"])
