"""Frame transforms against what the published code makes of the same frames."""

import numpy as np
import pytest
from golden_weights import GOLDEN

from dataloaders.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augmentation,
    encode_rgb,
    transform_frame,
)

NYU = {"crop_size": (228, 304), "short_side": 240}
KITTI = {"crop_size": (228, 912), "short_side": None, "box": (130, 10, 370, 1210)}


def assert_published(golden, prefix, rgb, depth):
    encoded = encode_rgb(rgb, "released")
    assert np.array_equal(encoded, golden[f"{prefix}_rgb"].astype(np.float32) / np.float32(255))
    assert np.abs(depth - golden[f"{prefix}_depth"][0]).max() <= 1e-6


def test_nyu_validation_is_the_published_one():
    golden = np.load(GOLDEN / "preprocess_nyu.npz")
    assert_published(golden, "val", *transform_frame(golden["rgb"], golden["depth"], **NYU))


@pytest.mark.parametrize("case", [0, 1])
def test_nyu_training_is_the_published_one(case):
    golden = np.load(GOLDEN / "preprocess_nyu.npz")
    scale, degrees, flip = golden[f"train{case}_scale_degree_flip"]
    augmentation = Augmentation(scale=scale, degrees=degrees, flip=bool(flip))
    frame = transform_frame(golden["rgb"], golden["depth"], augmentation=augmentation, **NYU)
    assert_published(golden, f"train{case}", *frame)


def test_kitti_validation_is_the_published_one():
    golden = np.load(GOLDEN / "preprocess_kitti.npz")
    assert_published(golden, "val", *transform_frame(golden["rgb"], golden["depth"], **KITTI))


def test_the_normalized_encoding_is_imagenets_and_the_released_one_wraps_it():
    rgb = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3).transpose(2, 0, 1)
    normalized = encode_rgb(rgb, "normalized")
    expected = (rgb / 255 - IMAGENET_MEAN[:, None, None]) / IMAGENET_STD[:, None, None]
    assert np.abs(normalized - expected).max() < 1e-6
    released = encode_rgb(rgb, "released")
    assert released.min() >= 0
    assert released.max() <= 1
    wraps = (released - normalized) / (256 / 255)  # whole turns, up to the truncation
    assert np.abs(wraps - np.rint(wraps)).max() < 1 / 255 + 1e-5
    assert len(np.unique(np.rint(wraps))) > 3


def test_plain_bilinear_resizing_mixes_holes_into_depth_and_hole_aware_does_not():
    rgb = np.zeros((3, 60, 80), np.uint8)
    depth = np.full((60, 80), 3, np.float32)
    depth[20:30, 30:50] = 0
    frames = {
        mode: transform_frame(rgb, depth, crop_size=(60, 80), short_side=75, depth_resize=mode)[1]
        for mode in ("released", "hole_aware")
    }
    mixed = (frames["released"] > 0) & (frames["released"] < 2.999)
    assert mixed.any()
    values = frames["hole_aware"]
    assert np.isin(values[values == 0], 0).all()
    assert np.abs(values[values > 0] - 3).max() < 1e-5
    # The hole keeps its size: 10x20 of 60x80 pixels, seen 1.25 times larger.
    assert abs((values == 0).sum() - 1.25**2 * 200) < 40


def test_hole_aware_resizing_keeps_lidar_points():
    rng = np.random.default_rng(0)
    depth = np.where(rng.random((60, 80)) < 0.04, 10, 0).astype(np.float32)
    _, grown = transform_frame(
        np.zeros((3, 60, 80), np.uint8),
        depth,
        crop_size=(60, 80),
        short_side=60,
        augmentation=Augmentation(scale=1.5),
        depth_resize="hole_aware",
    )
    assert set(np.unique(grown.round(4))) == {0, np.float32(10 / 1.5).round(4)}
    assert 0.5 < (grown > 0).mean() / (depth > 0).mean() < 2


def test_scaling_divides_depth_and_flipping_mirrors_both():
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (3, 60, 80)).astype(np.uint8)
    depth = rng.uniform(1, 5, (60, 80)).astype(np.float32)
    size = {"crop_size": (60, 80), "short_side": 60}
    plain = transform_frame(rgb, depth, **size)
    flipped = transform_frame(rgb, depth, augmentation=Augmentation(flip=True), **size)
    assert np.array_equal(flipped[0], plain[0][:, :, ::-1])
    assert np.array_equal(flipped[1], plain[1][:, ::-1])
    wall = np.full((60, 80), 3, np.float32)
    _, nearer = transform_frame(rgb, wall, augmentation=Augmentation(scale=1.5), **size)
    assert np.abs(nearer - 2).max() < 1e-5


def test_colour_jitter_changes_colours_and_leaves_depth_alone():
    rng = np.random.default_rng(2)
    rgb = rng.integers(0, 256, (3, 60, 80)).astype(np.uint8)
    depth = rng.uniform(1, 5, (60, 80)).astype(np.float32)
    size = {"crop_size": (60, 80), "short_side": 60}
    bright = Augmentation(jitter=(("brightness", 0.6),))
    plain, jittered = (transform_frame(rgb, depth, augmentation=a, **size) for a in (None, bright))
    assert np.abs(jittered[0] - 0.6 * plain[0]).max() <= 1
    assert np.array_equal(jittered[1], plain[1])
    grey = Augmentation(jitter=(("saturation", 0.0),))
    image, _ = transform_frame(rgb, depth, augmentation=grey, **size)
    assert np.array_equal(image[0], image[1])


def test_augmentation_is_drawn_from_the_published_distributions():
    rng = np.random.default_rng(3)
    draws = [Augmentation.draw(rng) for _ in range(2000)]
    scales = np.array([d.scale for d in draws])
    degrees = np.array([d.degrees for d in draws])
    factors = np.array([[f for _, f in d.jitter] for d in draws])
    assert (1 <= scales.min() < 1.01) and (1.49 < scales.max() <= 1.5)
    assert abs(scales.mean() - 1.25) < 0.02
    assert (degrees.min() < -4.9) and (degrees.max() > 4.9) and abs(degrees.mean()) < 0.3
    assert abs(np.mean([d.flip for d in draws]) - 0.5) < 0.05
    assert (factors.min() >= 0.6) and (factors.max() <= 1.4)
    assert len({tuple(n for n, _ in d.jitter) for d in draws}) == 6


def test_a_frame_smaller_than_the_crop_gets_a_sentence():
    with pytest.raises(ValueError, match="60x80 pixels is smaller than the 228x304 crop"):
        transform_frame(
            np.zeros((3, 60, 80), np.uint8),
            np.ones((60, 80), np.float32),
            crop_size=(228, 304),
            short_side=None,
        )
