"""NYU Depth v2 and KITTI odometry as data sets of RGB and sparse depth."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from dataloaders.hdf5 import DataError, list_frames, read_frame
from dataloaders.sampling import SAMPLERS, sample_sparse_depth
from dataloaders.transforms import (
    DEPTH_RESIZES,
    RGB_ENCODINGS,
    Augmentation,
    encode_rgb,
    transform_frame,
    unit_rgb,
)

SPLITS = ("train", "val")


class DepthDataset(Dataset):
    """Frames of one split, transformed as the release does; use a subclass.

    Item i is a dict of
        rgbd: (4, h, w) float32, the encoded RGB, then sparse depth in metres, 0 = none;
        depth: (1, h, w) float32 metres, 0 = no ground truth;
        rgb: (3, h, w) float32 in [0, 1], before encoding;
        index: i; name: the file, relative to the root.

    The draw of item i (samples, and augmentation in training) depends on (seed, i) alone, and on
    the epoch in training: never on workers, batch size or what was read before. Index with
    `(i, epoch)` for another epoch than 0.

    Args:
        root: folder with `train/<scene>/*.h5` and `val/**/*.h5`.
        split: "train" augments, "val" does not.
        file_list: CSV of paths with the header `Name`; None walks the folder.
        n_sample: sparse measurements an image; 500 as published.
        sampler: "bernoulli" (release) or "exact".
        rgb_encoding: "released" or "normalized"; see `transforms.encode_rgb`.
        depth_resize: "released" or "hole_aware"; None takes the data set's own default.
        augment: override the split's own choice.
        seed: of every random draw.

    Raises:
        DataError: missing root, empty list, an option that does not exist.
    """

    crop_size: tuple[int, int]
    short_side: int = 240
    resizes_in_validation = True
    samples_over_valid = False
    default_depth_resize = "released"
    box: tuple[int, int, int, int] | None = None

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        file_list: str | Path | None = None,
        n_sample: int = 500,
        sampler: str = "bernoulli",
        rgb_encoding: str = "released",
        depth_resize: str | None = None,
        augment: bool | None = None,
        seed: int = 0,
    ):
        depth_resize = depth_resize or self.default_depth_resize
        for name, value, allowed in (
            ("split", split, SPLITS),
            ("sampler", sampler, SAMPLERS),
            ("rgb_encoding", rgb_encoding, RGB_ENCODINGS),
            ("depth_resize", depth_resize, DEPTH_RESIZES),
        ):
            if value not in allowed:
                raise DataError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if n_sample < 0:
            raise DataError(f"n_sample must not be negative, got {n_sample}")
        self.root = Path(root)
        self.split = split
        self.frames = list_frames(self.root, split, Path(file_list) if file_list else None)
        self.n_sample = n_sample
        self.sampler = sampler
        self.rgb_encoding = rgb_encoding
        self.depth_resize = depth_resize
        self.augment = split == "train" if augment is None else augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, torch.Tensor | int | str]:
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        path = self.frames[index]
        index %= len(self.frames)
        draw = (self.seed, index, epoch) if self.augment else (self.seed, index)
        rng = np.random.default_rng(draw)
        rgb, depth = read_frame(path)
        augmentation = Augmentation.draw(rng) if self.augment else None
        resizes = self.augment or self.resizes_in_validation
        try:
            rgb, depth = transform_frame(
                rgb,
                depth,
                crop_size=self.crop_size,
                short_side=self.short_side if resizes else None,
                box=self.box,
                augmentation=augmentation,
                depth_resize=self.depth_resize,
            )
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
        sparse_depth = sample_sparse_depth(
            depth, self.n_sample, self.sampler, rng, over_valid=self.samples_over_valid
        )
        rgbd = np.empty((4, *depth.shape), np.float32)
        encode_rgb(rgb, self.rgb_encoding, out=rgbd[:3])
        rgbd[3] = sparse_depth
        return {
            "rgbd": torch.from_numpy(rgbd),
            "depth": torch.from_numpy(depth)[None],
            "rgb": torch.from_numpy(unit_rgb(rgb)),
            "index": index,
            "name": path.relative_to(self.root).as_posix(),
        }


class NYUDepthDataset(DepthDataset):
    """NYU Depth v2, 480x640: short side to 240, centre crop 228x304; see `DepthDataset`."""

    crop_size = (228, 304)


class KITTIDepthDataset(DepthDataset):
    """KITTI odometry, about 375x1242: rows 130..370, columns 10..1210, centre crop 228x912.

    Measurements are drawn from the LiDAR's valid pixels, about 4 % of the image; see
    `DepthDataset`.

    Deviation: training resizes the image with the scale, as on NYU; the release divides depth by
    the scale and leaves the image alone. Depth is then resized hole-aware, since plain bilinear
    interpolation would mix nearly every LiDAR point with zeros.
    """

    crop_size = (228, 912)
    box = (130, 10, 370, 1210)
    resizes_in_validation = False
    samples_over_valid = True
    default_depth_resize = "hole_aware"


DATA_SETS: dict[str, type[DepthDataset]] = {
    "nyudepth": NYUDepthDataset,
    "kitti": KITTIDepthDataset,
}
