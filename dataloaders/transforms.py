"""What happens to a frame between the file and the network, as the release does it with PIL.

Validation: resize, centre crop. Training: resize by a random scale, rotate, colour jitter, centre
crop, flip, depth divided by the scale. Images are PIL throughout (RGB, and "F" for depth in
metres, 0 = none), because the published numbers come from PIL's resampling. Where numba is
installed, `compiled` repeats PIL's sums bit for bit in a fraction of the time.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from dataloaders.pillow_exact import compiled

RGB_ENCODINGS = ("released", "normalized")
DEPTH_RESIZES = ("released", "hole_aware")
CROPS = ("centre", "random")

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
    crop: where the crop lies, (0, 0) at the top left, (1, 1) at the bottom right.
    """

    scale: float = 1.0
    degrees: float = 0.0
    flip: bool = False
    jitter: tuple[tuple[str, float], ...] = ()
    crop: tuple[float, float] = (0.5, 0.5)

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
    if augmentation is None:
        augmentation = Augmentation()
    top, left, bottom, right = box or (0, 0, *depth.shape)
    size = (right - left, bottom - top)
    if short_side is not None:
        size = resized_size(size, int(short_side * augmentation.scale))
    corner = _corner(size, crop_size, augmentation.crop)
    if _is_compiled(rgb, depth, (top, left, bottom, right), size, augmentation):
        rgb, depth = (array[..., top:bottom, left:right] for array in (rgb, depth))
        view = compiled.View(
            size,
            compiled.rotation(size, augmentation.degrees),
            corner,
            crop_size,
            augmentation.flip,
        )
        rgb = _view_rgb(rgb, view, augmentation.jitter)
        depth = _view_depth(depth, view, depth_resize)
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


def _is_compiled(
    rgb: np.ndarray,
    depth: np.ndarray,
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    augmentation: Augmentation,
) -> bool:
    """Return whether `compiled` serves: numba is there, and box, size and draw are ordinary."""
    top, left, bottom, right = box
    return (
        compiled.HAS_NUMBA
        and rgb.dtype == np.uint8
        and depth.dtype == np.float32
        and bottom <= depth.shape[0]
        and right <= depth.shape[1]
        and compiled.covers((right - left, bottom - top), size)
        # Pillow turns by right angles in another way.
        and (augmentation.degrees % 90 != 0 or augmentation.degrees == 0)
        and [name for name, _ in augmentation.jitter].count("contrast") <= 1
    )


def _view_rgb(
    rgb: np.ndarray, view: compiled.View, jitter: tuple[tuple[str, float], ...]
) -> np.ndarray:
    """Resize, rotate, jitter and crop (3, H, W) bytes -> (3, h, w) by `compiled`."""
    names = [name for name, _ in jitter]
    if "contrast" not in names:
        crop = view.take(compiled.resize(rgb, view.size, view.window), view.window)
        before, after, mean = (), jitter, 0
    else:
        # Contrast spreads from the mean of the whole image, black corners included. What comes
        # before it changes pixels one by one and leaves black alone, so it can precede rotation.
        before, after = jitter[: names.index("contrast")], jitter[names.index("contrast") :]
        image = compiled.resize(rgb, view.size, view.whole)
        for name, factor in before:
            compiled.jitter(image, name, factor)
        mean = compiled.mean_grey(image, view)
        crop = view.take(image, view.whole)
    for name, factor in after:
        compiled.jitter(crop, name, factor, mean)
    return crop


def _view_depth(depth: np.ndarray, view: compiled.View, depth_resize: str) -> np.ndarray:
    """Resize, rotate and crop (H, W) metres -> (h, w) by `compiled`."""
    if depth_resize == "released":
        part, window = compiled.resize(depth[None], view.size, view.window), view.window
    else:
        resized = _resize(Image.fromarray(depth), view.size, depth_resize)
        part, window = np.asarray(resized)[None], view.whole
    return view.take(part, window)[0]


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
    """Encode colours as the network reads them: (3, h, w) uint8 -> (3, h, w) float32.

    "normalized" is (x - mean) / std with ImageNet's constants. "released" is what the release
    does and its weights need: that value converted to uint8 and back,
    trunc(255 (x - mean) / std) mod 256 / 255, which wraps (release issue 28). Both depend on the
    value of one byte alone, so they are a table of 256 entries per channel. `out` is filled and
    returned where it is given.
    """
    if out is None:
        out = np.empty(rgb.shape, np.float32)
    compiled.look_up(_ENCODING_TABLES[encoding], rgb, out)
    return out


def unit_rgb(rgb: np.ndarray) -> np.ndarray:
    """Return colours to look at: (3, h, w) uint8 -> (3, h, w) float32 in [0, 1]."""
    out = np.empty(rgb.shape, np.float32)
    compiled.look_up(_UNIT_TABLE, rgb, out)
    return out


def _encoding_table(encoding: str) -> np.ndarray:
    bytes_ = np.arange(256, dtype=np.float32) / np.float32(255)
    normalized = (bytes_[None] - IMAGENET_MEAN[:, None]) / IMAGENET_STD[:, None]  # (3, 256)
    if encoding == "normalized":
        return normalized
    # Deviation: the paper does not mention this; it is an accident of the release's code.
    wrapped = np.trunc(normalized * np.float32(255)).astype(np.int64) % 256
    return wrapped.astype(np.float32) / np.float32(255)


_ENCODING_TABLES = {encoding: _encoding_table(encoding) for encoding in RGB_ENCODINGS}
_UNIT_TABLE = np.tile(np.arange(256, dtype=np.float32) / np.float32(255), (3, 1))


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
