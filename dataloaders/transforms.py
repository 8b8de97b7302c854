"""What happens to a frame between the file and the network, as the release does it with PIL.

Validation: resize, centre crop. Training: resize by a random scale, rotate, colour jitter, centre
crop, flip, depth divided by the scale. Images are PIL throughout (RGB, and "F" for depth in
metres, 0 = none), because the published numbers come from PIL's resampling. Where numba is
installed, `pillow_exact` repeats PIL's sums bit for bit in a fraction of the time.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageEnhance

RGB_ENCODINGS = ("released", "normalized")
DEPTH_RESIZES = ("released", "hole_aware")
CROPS = ("centre", "random")

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


@dataclass(frozen=True)
class Augmentation:
    """One draw of the training augmentation; the defaults change nothing."""

    scale: float = 1.0  # the image grows by it and depth is divided by it
    degrees: float = 0.0  # of rotation, anticlockwise
    flip: bool = False  # left and right
    jitter: tuple[tuple[str, float], ...] = ()  # name and factor, in the order of application
    crop: tuple[float, float] = (0.5, 0.5)  # (0, 0) at the top left, (1, 1) at the bottom right

    @classmethod
    def draw(cls, rng: np.random.Generator, crop: str = "centre") -> "Augmentation":
        """Draw as published: s ~ U(1, 1.5), degrees ~ U(-5, 5), p(flip) = 0.5, colours by 0.4;
        the crop in the "centre" (published) or "random", anywhere in the image."""
        names = ("brightness", "contrast", "saturation")
        order = rng.permutation(len(names))
        return cls(
            scale=rng.uniform(1.0, 1.5),
            degrees=rng.uniform(-5.0, 5.0),
            flip=bool(rng.random() < 0.5),
            jitter=tuple((names[i], rng.uniform(0.6, 1.4)) for i in order),
            crop=(rng.random(), rng.random()) if crop == "random" else (0.5, 0.5),
        )


_ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def transform_frame(
    rgb: np.ndarray,
    depth: np.ndarray,
    *,
    crop_size: tuple[int, int],
    short_side: int | None,
    box: tuple[int, int, int, int] | None = None,
    augmentation: Augmentation | None = None,
    depth_resize: str = "released",
) -> tuple[np.ndarray, np.ndarray]:
    """Crop, resize and (for training) augment one frame: return rgb (3, h, w) uint8 and depth
    (h, w) float32 metres, 0 = no measurement.

    Args:
        rgb: (3, H, W) uint8. depth: (H, W) float32 metres, 0 = no measurement.
        crop_size: (height, width) of the final centre crop.
        short_side: the resized short side in pixels, None for no resizing.
        box: (top, left, bottom, right) cropped first, None for the whole frame.
        augmentation: one training draw, None for validation.
        depth_resize: "released" is plain bilinear, which mixes holes (0) into valid depth;
            "hole_aware" interpolates between valid pixels only.

    Raises:
        ValueError: the frame is smaller than the crop.
    """
    from dataloaders.pillow_exact import compiled  # with numba, which a prediction does not need

    augmentation = augmentation or Augmentation()
    degrees = augmentation.degrees
    top, left, bottom, right = box = box or (0, 0, *depth.shape)
    size = (right - left, bottom - top)
    if short_side is not None:
        size = resized_size(size, int(short_side * augmentation.scale))
    corner = _corner(size, crop_size, augmentation.crop)
    if compiled.is_able(rgb, depth, box, size, degrees, augmentation.jitter):
        rgb, depth = (array[..., top:bottom, left:right] for array in (rgb, depth))
        turn = compiled.rotation(size, degrees)
        view = compiled.View(size, turn, corner, crop_size, augmentation.flip)
        rgb = compiled.view_rgb(rgb, view, augmentation.jitter)
        if depth_resize == "released":
            depth = compiled.view_depth(depth, view)
        else:
            resized = _resize(Image.fromarray(depth), size, depth_resize)
            depth = view.take(np.asarray(resized)[None], view.whole)[0]
    else:
        images = Image.merge("RGB", [Image.fromarray(c) for c in rgb]), Image.fromarray(depth)
        image, depth_map = (im.crop((left, top, right, bottom)) for im in images)
        image = _by_pillow(image, size, corner, crop_size, augmentation)
        depth_map = _by_pillow(depth_map, size, corner, crop_size, augmentation, depth_resize)
        rgb = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
        depth = np.array(depth_map, dtype=np.float32)
    if augmentation.scale != 1:
        depth /= np.float32(augmentation.scale)
    return rgb, depth


def _by_pillow(
    image: Image.Image,
    size: tuple[int, int],
    corner: tuple[int, int],
    crop_size: tuple[int, int],
    augmentation: Augmentation,
    depth_resize: str = "released",
) -> Image.Image:
    """Apply the published chain, step by step, to RGB or ("F") depth."""
    if image.size != size:
        image = _resize(image, size, depth_resize)
    if augmentation.degrees:
        image = image.rotate(augmentation.degrees, Image.Resampling.NEAREST)
    if image.mode == "RGB":
        for name, factor in augmentation.jitter:
            image = _ENHANCERS[name](image).enhance(factor)
    (top, left), (height, width) = corner, crop_size
    image = image.crop((left, top, left + width, top + height))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if augmentation.flip else image


def encode_rgb(
    rgb: np.ndarray, encoding: str = "released", out: np.ndarray | None = None
) -> np.ndarray:
    """Encode colours as the network reads them: (3, h, w) uint8 -> (3, h, w) float32, `out` where
    it is given.

    "normalized" is (x - mean) / std with ImageNet's constants. "released" is what the release
    does and its weights need: that value converted to uint8 and back,
    trunc(255 (x - mean) / std) mod 256 / 255, which wraps (release issue 28). Both depend on the
    value of one byte alone, so they are a table of 256 entries per channel.
    """
    out = np.empty(rgb.shape, np.float32) if out is None else out
    for entries, channel, result in zip(_tables()[encoding], rgb, out, strict=True):
        cv2.LUT(channel, entries, dst=result)
    return out


def unit_rgb(rgb: np.ndarray) -> np.ndarray:
    """Return colours to look at: (3, h, w) uint8 -> (3, h, w) float32 in [0, 1]."""
    return encode_rgb(rgb, "unit")


@cache
def _tables() -> dict[str, np.ndarray]:
    """Return encoding -> (3, 256) float32, the value of each byte in each channel."""
    unit = np.tile(np.arange(256, dtype=np.float32) / np.float32(255), (3, 1))
    normalized = (unit - IMAGENET_MEAN[:, None]) / IMAGENET_STD[:, None]
    # Deviation: the paper does not mention this; it is an accident of the release's code.
    wrapped = np.trunc(normalized * np.float32(255)).astype(np.int64) % 256
    released = wrapped.astype(np.float32) / np.float32(255)
    return {"unit": unit, "normalized": normalized, "released": released}


def resized_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Return (width, height) with the given short side and the aspect ratio kept, rounded down."""
    width, height = size
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


def _resize(image: Image.Image, size: tuple[int, int], depth_resize: str) -> Image.Image:
    """Resize bilinearly as in the release, or depth ("F") hole-aware."""
    if depth_resize == "released":
        return image.resize(size, Image.Resampling.BILINEAR)
    # A pixel is valid where its nearest source pixel is; its value averages valid pixels only.
    valid = Image.fromarray((np.asarray(image) > 0).astype(np.float32))
    weight = np.asarray(valid.resize(size, Image.Resampling.BILINEAR))
    total = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    known = (np.asarray(valid.resize(size, Image.Resampling.NEAREST)) > 0) & (weight > 0)
    mean = np.divide(total, weight, out=np.zeros_like(total), where=known)
    return Image.fromarray(mean)


def _corner(
    size: tuple[int, int], crop_size: tuple[int, int], position: tuple[float, float]
) -> tuple[int, int]:
    """Return (top, left) of the crop (height, width) of an image (width, height)."""
    height, width = crop_size
    if size[1] < height or size[0] < width:
        raise ValueError(
            f"a frame of {size[1]}x{size[0]} pixels is smaller than the {height}x{width} crop"
        )
    return round((size[1] - height) * position[0]), round((size[0] - width) * position[1])
