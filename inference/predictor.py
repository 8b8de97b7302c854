"""Depth for an image and its measurements, as a few lines of Python.

    predictor = Predictor.from_checkpoint("output/my_run")
    prediction = predictor(rgb, sparse_depth)  # (H, W, 3) uint8, (H, W) metres with 0 = none
    prediction.depth  # (H, W) float32 metres

H, W the image; h, w what the network is given, which `resize` chooses.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from PIL import Image
from torch import Tensor

from dataloaders import DATA_SETS, RGB_ENCODINGS, DataError
from dataloaders.hdf5 import MAX_VALUES
from dataloaders.sampling import resize_points, thin_points
from dataloaders.transforms import encode_rgb, resized_size
from dataloaders.units import check_metres
from engine import config
from engine.checkpoint import (
    CONFIG,
    WEIGHTS,
    Checkpoint,
    CheckpointError,
    find_checkpoint,
    load_checkpoint,
    load_network,
    save_shared,
)
from engine.errors import OptionError
from engine.precision import AMP, autocast, use_exact_float32
from inference.image_files import MAX_PIXELS
from inference.prediction import Prediction, Prepared
from inference.tiling import MAX_TILE_PIXELS, MIN_TILE_PIXELS, run_tiled
from models import DepthCompletionNet
from models.network import MIN_SIZE

RESIZES = ("training", "none")
HUB_OPTIONS = ("revision", "cache_dir", "token", "force_download", "local_files_only")


class Predictor(ModelHubMixin, library_name="cspn-depth", tags=["depth-completion"]):
    """A network that is called with an image and its measurements; see the module.

    Args:
        model: the network, already on `device`.
        rgb_encoding: the one it was trained with; see `dataloaders.transforms.encode_rgb`.
        short_side: pixels of the image's short side at its training scale (240 on NYU), None
            where its data set is not resized (KITTI).
        device: where it runs.
        resize: "training" hands the image over at the scale the network was trained at, and
            brings the depth back to the image's size; "none" keeps every pixel.
        max_tile_pixels: larger inputs are cut into overlapping tiles of at most this many pixels.
        density: measurements a pixel in training, None where unknown.
        thin: give the network no more measurements than that: where there are more than training
            ever drew (5 standard deviations), a random choice of them, the same one every time.
            A network trained with 500 measurements gets worse with more.
        amp: mixed precision, one of `engine.precision.AMP`; heads and propagation stay in float32.

    Raises:
        OptionError: an option that does not exist, or a tile that is too small.
    """

    def __init__(
        self,
        model: DepthCompletionNet,
        *,
        rgb_encoding: str = "released",
        short_side: int | None = 240,
        device: torch.device | str = "cpu",
        resize: str = "training",
        max_tile_pixels: int = MAX_TILE_PIXELS,
        density: float | None = None,
        thin: bool = True,
        amp: str = "off",
    ):
        for name, value, allowed in (
            ("rgb_encoding", rgb_encoding, RGB_ENCODINGS),
            ("resize", resize, RESIZES),
            ("amp", amp, AMP),
        ):
            if value not in allowed:
                raise OptionError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if max_tile_pixels < MIN_TILE_PIXELS:
            raise OptionError(
                f"a tile needs at least {MIN_TILE_PIXELS} pixels, got {max_tile_pixels}"
            )
        self.model = model.eval()
        self.device = torch.device(device)
        self.rgb_encoding = rgb_encoding
        self.short_side = short_side
        self.density = density
        self.resize = resize
        self.max_tile_pixels = max_tile_pixels
        self.thin = thin
        self.amp = amp
        self.checkpoint: Checkpoint | None = None
        self.settings: config.NetworkConfig | None = None

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        steps: int | None = None,
        norm_type: str | None = None,
        anchor: str | None = None,
        **options: object,
    ) -> "Predictor":
        """Return a predictor with the weights and settings of a checkpoint, also a published one.

        Args:
            path: checkpoint file or run folder.
            device: "auto" (the first GPU where there is one), "cpu", "cuda" or "cuda:N".
            steps, norm_type, anchor: of the propagation, None for the checkpoint's own. A
                published file does not hold its `norm_type`; it is told from its folder's name.
            options: resize, max_tile_pixels, thin and amp of `Predictor`.

        Raises:
            CheckpointError: no such file, or not a checkpoint of this network.
            OptionError: a device this machine does not have, an option that does not exist, or
                propagation settings for a network without CSPN.
        """
        checkpoint = load_checkpoint(find_checkpoint(Path(path)))
        settings = _settings(checkpoint)
        given = {"cspn_step": steps, "cspn_norm_type": norm_type, "cspn_anchor": anchor}
        given = {name: value for name, value in given.items() if value is not None}
        if given and settings.refine != "cspn":
            raise OptionError(
                f"{checkpoint.path} holds a network without CSPN, which has no {next(iter(given))}"
            )
        if steps is not None and (not isinstance(steps, int) or steps < 0):
            raise OptionError(f"steps must be a whole number from 0 up, got {steps!r}")
        settings = dataclasses.replace(settings, **given)
        torch_device = config.resolve_device(device)
        use_exact_float32()
        data_set, density = DATA_SETS[settings.data_set], None
        if settings.depth_input == "sparse":  # one that reads filled depth takes any number
            density = settings.n_sample / math.prod(data_set.crop_size)
        predictor = cls(
            load_network(checkpoint, settings, torch_device),
            rgb_encoding=settings.rgb_encoding,
            short_side=data_set.short_side if data_set.resizes_in_validation else None,
            device=torch_device,
            density=density,
            **options,
        )
        predictor.checkpoint, predictor.settings = checkpoint, settings
        return predictor

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write what `save_pretrained` and `push_to_hub` share."""
        save_shared(save_directory, self.model, self.settings)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, rgb_encoding: str | None = None, **options: object
    ) -> "Predictor":
        """Load what `from_pretrained` names: a folder, or a repository of the hub.

        Args:
            rgb_encoding: the mixin takes it out of config.json, where it is read again.
            options: where the hub has it, of `HUB_OPTIONS`, and those of `from_checkpoint`.
        """
        where = {name: options.pop(name) for name in HUB_OPTIONS}
        folder = Path(model_id)
        if not folder.is_dir():
            folder = Path(snapshot_download(model_id, allow_patterns=[WEIGHTS, CONFIG], **where))
        return cls.from_checkpoint(folder, **options)

    def describe(self) -> str:
        """Return which network runs where, as one line."""
        checkpoint, settings = self.checkpoint, self.settings
        text = f"{checkpoint.path}: {checkpoint.kind} checkpoint, {settings.arch}, "
        text += f"refinement {settings.refine}"
        if settings.refine == "cspn":
            text += f" {settings.cspn_step} steps {settings.cspn_norm_type} {settings.cspn_anchor}"
        return f"{text}, on {self.device}"

    def __call__(self, rgb: np.ndarray, sparse_depth: np.ndarray) -> Prediction:
        """Complete the depth of one image.

        Args:
            rgb: (H, W, 3) uint8, or float in 0..1, which is rounded to bytes.
            sparse_depth: (H, W) float metres, 0 = no measurement.

        Raises:
            DataError: another shape or type, depth that cannot be metres, no pixels, or more of
                them than the limit for images.
        """
        prepared = self.prepare(rgb, sparse_depth)
        return self.finish(prepared, *self.run(prepared))

    def prepare(self, rgb: np.ndarray, sparse_depth: np.ndarray) -> Prepared:
        """Return an image and its measurements as the network takes them; arguments and errors are
        those of a call. With `run` and `finish` it is a call in steps, for threads of their own."""
        rgb, sparse_depth = _checked(rgb, sparse_depth)
        measurements, own_size = int(np.count_nonzero(sparse_depth)), sparse_depth.shape
        size = own_size
        if self.resize == "training" and self.short_side is not None:
            size = resized_size(own_size[::-1], self.short_side)[::-1]
        if 3 * size[0] * size[1] > MAX_VALUES:
            scale = "the training scale" if size != own_size else "its own size"
            raise DataError(
                f"an image of {own_size[1]}x{own_size[0]} is {size[1]}x{size[0]} at {scale}, "
                f"more than {MAX_VALUES // 3} pixels"
            )
        if size != own_size:
            image = Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BILINEAR)
            rgb, sparse_depth = np.asarray(image), resize_points(sparse_depth, size)
        sparse_depth, expected = self._thinned(sparse_depth)
        used = int(np.count_nonzero(sparse_depth))
        # Below the smallest size the image's edge is repeated, and what it adds cut off again.
        pad = [(0, max(MIN_SIZE - length, 0)) for length in size]
        rgb = np.pad(rgb, (*pad, (0, 0)), mode="edge")
        sparse_depth = np.pad(sparse_depth, pad)
        return Prepared(rgb, sparse_depth, own_size, size, measurements, used, expected)

    def run(self, prepared: Prepared) -> tuple[np.ndarray, int]:
        """Return the network's maps (2 or 3, h, w) of what `prepare` gave: depth, coarse depth and,
        of a network that estimates it, the expected error [m]; and how many tiles that took."""
        return run_tiled(
            prepared.sparse_depth.shape,
            lambda window: self._run(prepared.rgb[window], prepared.sparse_depth[window]),
            self.max_tile_pixels,
        )

    def finish(self, prepared: Prepared, maps: np.ndarray, tiles: int) -> Prediction:
        """Return what `run` gave at the image's own size."""
        height, width = prepared.size
        depth, coarse_depth, *error = (
            _resize_dense(m[:height, :width], prepared.own_size) for m in maps
        )
        counts = prepared.measurements, prepared.used, prepared.expected
        return Prediction(depth, coarse_depth, self.resize, prepared.size, tiles, *counts, *error)

    def _thinned(self, sparse_depth: np.ndarray) -> tuple[np.ndarray, int | None]:
        """Sparse depth at the network's size, no denser than in training, and what that means."""
        if self.density is None:
            return sparse_depth, None
        expected = round(self.density * sparse_depth.size)
        most = expected + 5 * math.sqrt(expected)
        if self.thin and np.count_nonzero(sparse_depth) > most > 0:
            sparse_depth = thin_points(sparse_depth, expected, np.random.default_rng(0))
        return sparse_depth, expected

    def network_input(self, rgb: np.ndarray, sparse_depth: np.ndarray) -> Tensor:
        """(h, w, 3) uint8 and (h, w) float32 metres, both as they are and unchecked -> what the
        network reads, (1, 4, h, w) float32 on the predictor's device."""
        rgbd = np.empty((1, 4, *sparse_depth.shape), np.float32)
        encode_rgb(np.ascontiguousarray(rgb.transpose(2, 0, 1)), self.rgb_encoding, rgbd[0, :3])
        rgbd[0, 3] = sparse_depth
        return torch.from_numpy(rgbd).to(self.device)

    @torch.inference_mode()
    def _run(self, rgb: np.ndarray, sparse_depth: np.ndarray) -> np.ndarray:
        """(h, w, 3) uint8 and (h, w) metres -> (2 or 3, h, w) metres: depth, coarse depth and, of a
        network that estimates it, the expected error."""
        batch = self.network_input(rgb, sparse_depth)
        with autocast(self.amp, self.device):
            coarse_depth, guidance, error = self.model.estimate(batch)
            depth = coarse_depth
            if self.model.refinement is not None:
                depth = self.model.refinement(guidance, coarse_depth, batch[:, 3:4])
        maps = [depth, coarse_depth] + [error] * (error is not None)
        return torch.cat(maps, dim=1)[0].float().cpu().numpy()


def _resize_dense(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) -> (H, W) bilinear; a network's depth has no holes to mix in."""
    if depth.shape == size:
        return np.ascontiguousarray(depth)
    image = Image.fromarray(np.ascontiguousarray(depth, np.float32))
    return np.array(image.resize(size[::-1], Image.Resampling.BILINEAR))


def _settings(checkpoint: Checkpoint) -> config.NetworkConfig:
    """A checkpoint's data and model settings; what it does not hold is the flags' default."""
    try:
        return config.NetworkConfig.of(config.evaluation_settings(checkpoint.args))
    except OptionError as error:
        raise CheckpointError(f"{checkpoint.path}: its {error}") from error


def _checked(rgb: np.ndarray, sparse_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two as (H, W, 3) uint8 and (H, W) float32, or a `DataError`."""
    rgb, sparse_depth = np.asarray(rgb), np.asarray(sparse_depth)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or not (rgb.dtype == np.uint8 or rgb.dtype.kind == "f"):
        raise DataError(
            f"rgb must be (H, W, 3) uint8 or float in 0..1, got {rgb.shape} {rgb.dtype}"
        )
    if sparse_depth.shape != rgb.shape[:2] or sparse_depth.dtype.kind not in "fiu":
        raise DataError(
            f"sparse_depth must be {rgb.shape[:2]} metres like rgb, "
            f"got {sparse_depth.shape} {sparse_depth.dtype}"
        )
    if rgb.size == 0 or rgb.size > 3 * MAX_PIXELS:
        raise DataError(f"rgb must have 1..{MAX_PIXELS} pixels, got {rgb.shape}")
    if sparse_depth.dtype.kind != "f" and sparse_depth.any():
        raise DataError(
            f"sparse_depth holds {sparse_depth.dtype}, expected floats in metres; divide it by its "
            "units per metre (sparse_depth / 1000 for millimetres)"
        )
    with np.errstate(over="ignore"):
        sparse_depth = check_metres(sparse_depth.astype(np.float32), "sparse_depth")
    if rgb.dtype != np.uint8:
        if not (rgb.min() >= 0 and rgb.max() <= 1):
            raise DataError(
                f"a float rgb must lie in 0..1, got {rgb.min():g}..{rgb.max():g}; "
                "hand bytes over as uint8"
            )
        rgb = np.rint(rgb * 255).astype(np.uint8)
    return rgb, sparse_depth
