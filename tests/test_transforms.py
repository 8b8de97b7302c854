"""Frame transforms against what the published code makes of the same frames."""

import ast
import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from golden_weights import GOLDEN
from PIL import Image, ImageEnhance

from dataloaders.pillow_exact import compiled, jit
from dataloaders.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augmentation,
    encode_rgb,
    resized_size,
    transform_frame,
    unit_rgb,
)

ROOT = Path(__file__).resolve().parent.parent
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


ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def published_chain(rgb, depth, short_side, crop_size, draw):
    """Resize, rotate, jitter, crop, flip and divide, one Pillow call after another."""
    image, depth_map = Image.fromarray(rgb.transpose(1, 2, 0).copy()), Image.fromarray(depth)
    short = int(short_side * draw.scale)
    size = (int(short * image.width / image.height), short)
    image, depth_map = (im.resize(size, Image.Resampling.BILINEAR) for im in (image, depth_map))
    image, depth_map = (im.rotate(draw.degrees) for im in (image, depth_map))
    for name, factor in draw.jitter:
        image = ENHANCERS[name](image).enhance(factor)
    height, width = crop_size
    top, left = round((size[1] - height) / 2), round((size[0] - width) / 2)
    box = (left, top, left + width, top + height)
    image, depth_map = (im.crop(box) for im in (image, depth_map))
    if draw.flip:
        flip = Image.Transpose.FLIP_LEFT_RIGHT
        image, depth_map = image.transpose(flip), depth_map.transpose(flip)
    return np.array(image).transpose(2, 0, 1), np.array(depth_map) / np.float32(draw.scale)


@pytest.fixture(params=["compiled", "pillow"])
def form(request, monkeypatch):
    """Runs a test with the compiled loops and without them."""
    if request.param == "compiled" and not compiled.HAS_NUMBA:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(compiled, "HAS_NUMBA", request.param == "compiled")
    return request.param


def random_frame(rng, height, width):
    """Noise, smooth shades and pure black and white beside each other; depth with holes."""
    rgb = rng.integers(0, 256, (3, height, width))
    rgb[:, height // 2 :] = np.linspace(0, 255, width) + rng.integers(-4, 5, rgb[0, 0].shape)
    rgb[:, : height // 4, : width // 4] = 255 * rng.integers(0, 2)
    depth = rng.uniform(0.5, 10, (height, width))
    depth[rng.random(depth.shape) < 0.1] = 0
    return rgb.clip(0, 255).astype(np.uint8), depth.astype(np.float32)


# Short side of a 120x160 frame: halved as on NYU, shrunk to a third (many sources a pixel), grown.
@pytest.mark.parametrize("short_side", [60, 41, 131])
def test_random_draws_equal_the_published_chain_bit_for_bit(form, short_side):
    rng = np.random.default_rng(short_side)
    crop_size = (short_side - 3, 76 * short_side // 60)
    for _ in range(40):
        rgb, depth = random_frame(rng, 120, 160)
        draw = Augmentation.draw(rng)
        got = transform_frame(
            rgb, depth, short_side=short_side, crop_size=crop_size, augmentation=draw
        )
        expected = published_chain(rgb, depth, short_side, crop_size, draw)
        assert np.array_equal(got[0], expected[0]), draw
        assert np.array_equal(got[1], expected[1]), draw


def test_unusual_draws_equal_the_published_chain_bit_for_bit(form):
    rng = np.random.default_rng(11)
    contrast, saturation = ("contrast", 1.3), ("saturation", 0.7)
    draws = [
        Augmentation(),
        Augmentation(flip=True, jitter=(contrast,)),
        Augmentation(scale=1.5, degrees=5.0),
        Augmentation(degrees=-5.0, jitter=(saturation, contrast)),
        Augmentation(degrees=0.01, jitter=(("brightness", 1.0), saturation)),
        Augmentation(scale=1.2, degrees=90.0, jitter=(contrast,)),
        Augmentation(scale=1.2, degrees=360.0),
        Augmentation(scale=1.2, degrees=30.0, jitter=(contrast, saturation, contrast)),
        Augmentation(jitter=(("brightness", 0.0), ("saturation", 0.0), ("contrast", 0.0))),
    ]
    for draw in draws:
        rgb, depth = random_frame(rng, 120, 160)
        got = transform_frame(rgb, depth, short_side=60, crop_size=(57, 76), augmentation=draw)
        expected = published_chain(rgb, depth, 60, (57, 76), draw)
        assert all(np.array_equal(*pair) for pair in zip(got, expected, strict=True)), draw


def test_full_size_frames_equal_the_published_chain_bit_for_bit(form):
    rng = np.random.default_rng(5)
    for draw in (Augmentation(), *(Augmentation.draw(rng) for _ in range(4))):
        rgb, depth = random_frame(rng, 480, 640)
        got = transform_frame(rgb, depth, augmentation=draw, **NYU)
        expected = published_chain(rgb, depth, 240, (228, 304), draw)
        assert all(np.array_equal(*pair) for pair in zip(got, expected, strict=True)), draw


def test_both_forms_agree_on_boxes_and_hole_aware_depth(monkeypatch):
    if not compiled.HAS_NUMBA:
        pytest.skip("numba is not installed")
    rng = np.random.default_rng(6)
    for box in ((10, 4, 90, 150), (10, 4, 130, 150)):  # the second reaches beyond the frame
        rgb, depth = random_frame(rng, 120, 160)
        draw = Augmentation.draw(rng)
        frames = []
        for has_numba in (True, False):
            monkeypatch.setattr(compiled, "HAS_NUMBA", has_numba)
            frames.append(
                transform_frame(
                    rgb,
                    depth,
                    crop_size=(75, 90),
                    short_side=80,
                    box=box,
                    augmentation=draw,
                    depth_resize="hole_aware",
                )
            )
        assert all(np.array_equal(*pair) for pair in zip(*frames, strict=True))


def test_the_frame_that_was_read_stays_as_it_was(form):
    rgb, depth = random_frame(np.random.default_rng(7), 60, 80)
    before = rgb.copy(), depth.copy()
    bright = Augmentation(scale=1.01, jitter=(("brightness", 1.4), ("contrast", 0.6)))
    for short_side in (None, 60):
        transform_frame(rgb, depth, crop_size=(60, 80), short_side=short_side, augmentation=bright)
    assert np.array_equal(rgb, before[0]) and np.array_equal(depth, before[1])


def test_tables_of_colours_are_exact(form):
    rgb = np.random.default_rng(8).integers(0, 256, (3, 20, 30)).astype(np.uint8)
    assert np.array_equal(unit_rgb(rgb), rgb.astype(np.float32) / np.float32(255))
    out = np.empty((4, 20, 30), np.float32)
    assert encode_rgb(rgb, out=out[:3]).base is out
    assert np.array_equal(out[:3], encode_rgb(rgb))


def test_any_shape_is_resized_as_pillow_does_it_or_left_to_pillow():
    # Pillow 13 mixes rows before columns in tall images and where the height shrinks more.
    rng = np.random.default_rng(9)
    covered = 0
    for k in range(600):
        height, width = rng.integers(8, 250, 2)
        new_width, new_height = rng.integers(4, 250, 2)
        if k % 2:  # the aspect ratio kept, as transforms do
            new_width = max(1, int(new_height * width / height))
        size = int(new_width), int(new_height)
        if not compiled.covers((int(width), int(height)), size):
            continue
        covered += 1
        for image in random_frame(rng, height, width):
            got = compiled.resize(image.reshape(-1, height, width), size, (0, 0, *size[::-1]))
            whole = Image.fromarray(image if image.ndim == 2 else image.transpose(1, 2, 0).copy())
            expected = np.asarray(whole.resize(size, Image.Resampling.BILINEAR))
            assert np.array_equal(got.transpose(1, 2, 0).squeeze(), expected), (image.shape, size)
    assert covered > 200


def test_frames_of_random_shapes_equal_the_pillow_chain_bit_for_bit(monkeypatch):
    rng = np.random.default_rng(10)
    for _ in range(300):
        height, width = rng.integers(20, 160, 2)
        options = {"short_side": int(rng.integers(12, 120)), "augmentation": Augmentation.draw(rng)}
        # Of any size: the crop is what the smaller of resized frames holds.
        resized = resized_size((int(width), int(height)), options["short_side"])
        options["crop_size"] = max(1, resized[1] - 3), max(1, resized[0] - 2)
        frame = random_frame(rng, height, width)
        frames = []
        for has_numba in (compiled.HAS_NUMBA, False):
            with monkeypatch.context() as patch:
                patch.setattr(compiled, "HAS_NUMBA", has_numba)
                frames.append(transform_frame(*frame, **options))
        assert all(np.array_equal(*pair) for pair in zip(*frames, strict=True)), frame[0].shape


IMAGES = """
import sys, warnings
import numpy as np
{before}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from dataloaders.transforms import Augmentation, encode_rgb, transform_frame
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3, 60, 80)).astype(np.uint8)
    draw = Augmentation(1.1, 3.0, True, (("contrast", 1.4), ("saturation", 1.4)))
    size = {{"crop_size": (50, 70), "short_side": 60, "augmentation": draw}}
    rgb, depth = transform_frame(rgb, rng.random((60, 80), np.float32), **size)
    print(encode_rgb(rgb).tobytes().hex()[::997], depth.tobytes().hex()[::997])
print([str(w.message) for w in caught if "numba" in str(w.message)], file=sys.stderr)
"""


def images(before="", **variables):
    """What a fresh process makes of a frame, and its warnings about numba."""
    done = subprocess.run(
        [sys.executable, "-c", IMAGES.format(before=before)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, ast.literal_eval(done.stderr.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def usual():
    pytest.importorskip("numba")
    return images()[0]


def test_images_are_the_same_where_numba_does_not_compile(usual):
    assert images(NUMBA_DISABLE_JIT="1") == (usual, [])


def test_whatever_stops_numba_is_one_warning_and_the_same_images(usual, tmp_path):
    (tmp_path / "numba.py").write_text("raise SystemError('no such NumPy')")
    made, warned = images(before=f"sys.path.insert(0, {str(tmp_path)!r})")
    assert made == usual
    assert len(warned) == 1 and "no such NumPy" in warned[0]


def test_numba_that_is_not_installed_is_no_warning(usual):
    assert images(before="sys.modules['numba'] = None") == (usual, [])


class CachedFunction:
    """A function in a file of its own, of which numba keeps a cache beside it."""

    def __init__(self, folder, monkeypatch):
        self.file, self.cache = folder / "module.py", folder / "__pycache__"
        self.file.write_text("def double(x):\n    return 2 * x\n")
        self.monkeypatch = monkeypatch

    def warnings(self):
        """What a new process would warn of as it compiles and calls the function."""
        self.monkeypatch.setattr(jit, "_warned", [])
        spec = importlib.util.spec_from_file_location("module", self.file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert jit.compiled(module.double)(21) == 42
        return [str(warning.message) for warning in caught]


@pytest.fixture
def function(tmp_path, monkeypatch):
    pytest.importorskip("numba")
    return CachedFunction(tmp_path, monkeypatch)


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [b"", b"torn", bytes(5000), "half"])
def test_a_damaged_cache_is_one_warning_and_is_mended(function, suffix, damage):
    assert function.warnings() == function.warnings() == []
    for file in function.cache.glob(f"*.{suffix}"):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if damage == "half" else damage)
    (warned,) = function.warnings()
    assert "cannot be read" in warned and str(function.cache) in warned
    assert function.warnings() == []


def test_a_cache_that_cannot_be_written_is_one_warning(function, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    caching = pytest.importorskip("numba.core.caching")
    with monkeypatch.context() as patch:
        patch.setattr(caching.IndexDataCacheFile, "_save_index", full)
        (warned,) = function.warnings()
    assert "cannot be written" in warned and "No space" in warned
    # Nowhere to put a cache at all.
    monkeypatch.setattr(caching.FunctionCache._impl_class, "_locator_classes", [])
    (warned,) = function.warnings()
    assert "nowhere" in warned
