"""What happens to a frame between the file and the network, as the release does it with PIL.

Validation: resize, centre crop. Training: resize by a random scale, rotate, colour jitter, centre
crop, flip, depth divided by the scale. Images are PIL throughout (RGB, and "F" for depth in
metres, 0 = none), because the published numbers come from PIL's resampling.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

RGB_ENCODINGS = ("released", "normalized")
DEPTH_RESIZES = ("released", "hole_aware")

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


@dataclass(frozen=True)
class Augmentation:
    """One draw of the training augmentation; the defaults change nothing.

    scale: s in [1, 1.5], the image grows by it and depth is divided by it.
    degrees: rotation in [-5, 5], anticlockwise.
    flip: mirror left and right.
    jitter: (name, factor) of brightness, contrast and saturation in the order of application,
        factors in [0.6, 1.4].
    """

    scale: float = 1.0
    degrees: float = 0.0
    flip: bool = False
    jitter: tuple[tuple[str, float], ...] = ()

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Augmentation":
        """The published distributions: s ~ U(1, 1.5), U(-5, 5) degrees, p(flip) = 0.5, 0.4 each."""
        names = ("brightness", "contrast", "saturation")
        order = rng.permutation(len(names))
        return cls(
            scale=rng.uniform(1.0, 1.5),
            degrees=rng.uniform(-5.0, 5.0),
            flip=bool(rng.random() < 0.5),
            jitter=tuple((names[i], rng.uniform(0.6, 1.4)) for i in order),
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
    """Crop, resize and (for training) augment one frame.

    Args:
        rgb: (3, H, W) uint8. depth: (H, W) float32 metres, 0 = no measurement.
        crop_size: (height, width) of the final centre crop.
        short_side: the resized short side in pixels, None for no resizing.
        box: (top, left, bottom, right) cropped first, None for the whole frame.
        augmentation: one training draw, None for validation.
        depth_resize: "released" is plain bilinear, which mixes holes (0) into valid depth;
            "hole_aware" interpolates between valid pixels only.

    Returns:
        rgb (3, h, w) uint8 and depth (h, w) float32 metres, 0 = no measurement.

    Raises:
        ValueError: the frame is smaller than the crop.
    """
    image = Image.fromarray(np.ascontiguousarray(rgb.transpose(1, 2, 0)))
    depth_map = Image.fromarray(depth)
    if box is not None:
        top, left, bottom, right = box
        image, depth_map = (im.crop((left, top, right, bottom)) for im in (image, depth_map))
    if short_side is not None:
        scale = augmentation.scale if augmentation else 1.0
        size = _resized(image.size, int(short_side * scale))
        image = image.resize(size, Image.Resampling.BILINEAR)
        depth_map = _resize_depth(depth_map, size, depth_resize)
    if augmentation:
        if augmentation.degrees:
            image = image.rotate(augmentation.degrees, Image.Resampling.NEAREST)
            depth_map = depth_map.rotate(augmentation.degrees, Image.Resampling.NEAREST)
        for name, factor in augmentation.jitter:
            image = _ENHANCERS[name](image).enhance(factor)
    image, depth_map = (_centre_crop(im, crop_size) for im in (image, depth_map))
    if augmentation and augmentation.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        depth_map = depth_map.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    depth = np.array(depth_map, dtype=np.float32)
    if augmentation:
        depth /= np.float32(augmentation.scale)
    return np.ascontiguousarray(np.array(image).transpose(2, 0, 1)), depth


def encode_rgb(rgb: np.ndarray, encoding: str = "released") -> np.ndarray:
    """Colours as the network reads them: (3, h, w) uint8 -> (3, h, w) float32.

    "normalized" is (x - mean) / std with ImageNet's constants. "released" is what the release
    does and its weights need: that value converted to uint8 and back,
    trunc(255 (x - mean) / std) mod 256 / 255, which wraps (release issue 28). Both depend on the
    value of one byte alone, so they are a table of 256 entries a channel.
    """
    table = _ENCODING_TABLES[encoding]
    return np.stack([table[c][rgb[c]] for c in range(3)])


def _encoding_table(encoding: str) -> np.ndarray:
    bytes_ = np.arange(256, dtype=np.float32) / np.float32(255)
    normalized = (bytes_[None] - IMAGENET_MEAN[:, None]) / IMAGENET_STD[:, None]  # (3, 256)
    if encoding == "normalized":
        return normalized
    # Deviation: the paper does not mention this; it is an accident of the release's code.
    wrapped = np.trunc(normalized * np.float32(255)).astype(np.int64) % 256
    return wrapped.astype(np.float32) / np.float32(255)


_ENCODING_TABLES = {encoding: _encoding_table(encoding) for encoding in RGB_ENCODINGS}


def _resized(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(width, height) with the given short side and the aspect ratio kept, rounded down."""
    width, height = size
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


def _resize_depth(depth: Image.Image, size: tuple[int, int], depth_resize: str) -> Image.Image:
    if depth_resize == "released":
        return depth.resize(size, Image.Resampling.BILINEAR)
    # A pixel is valid where its nearest source pixel is; its value averages valid pixels only.
    valid = Image.fromarray((np.asarray(depth) > 0).astype(np.float32))
    weight = np.asarray(valid.resize(size, Image.Resampling.BILINEAR))
    total = np.asarray(depth.resize(size, Image.Resampling.BILINEAR))
    known = (np.asarray(valid.resize(size, Image.Resampling.NEAREST)) > 0) & (weight > 0)
    mean = np.divide(total, weight, out=np.zeros_like(total), where=known)
    return Image.fromarray(mean)


def _centre_crop(image: Image.Image, crop_size: tuple[int, int]) -> Image.Image:
    height, width = crop_size
    if image.height < height or image.width < width:
        raise ValueError(
            f"a frame of {image.height}x{image.width} pixels is smaller than the {height}x{width} "
            "crop"
        )
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))
