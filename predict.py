"""Depth for your own images: an image and its measurements in, dense depth in metres out.

    python predict.py --rgb photo.jpg --sparse sparse.png --depth-scale 1000 --resume CHECKPOINT
    python predict.py --rgb images/ --sparse depths/ --resume CHECKPOINT --out out/
    python predict.py --rgb photo.jpg --sample-from dense.npy -n 500 --resume CHECKPOINT

Sparse depth is a 16-bit PNG, .npy, .npz, .exr or .csv of the image's own size, 0 where nothing was
measured (`inference.image_files`). Two folders, or one that holds both, are matched by the files'
names (`inference.pairs`). Writes for each image, under --out: <stem>_depth.png (16-bit
millimetres), <stem>_depth.npy (float32 metres), <stem>_picture.png (to look at) and, with
--intrinsics, <stem>.ply (a point cloud).
"""

import argparse
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from cspn import ANCHORS, NORM_TYPES
from dataloaders import SAMPLERS, DataError
from dataloaders.errors import counted
from dataloaders.sampling import Measurements, measure
from engine import flags
from engine.checkpoint import shipped_network
from engine.cli import run_script, user_sentence
from engine.errors import OptionError, RunError
from engine.files import whole_file
from engine.flags import Settings, count, given_flags, of_call, seed, whole
from engine.metrics import depth_metrics
from inference.image_files import read_depth, read_rgb
from inference.pairs import Pair, match_pairs
from inference.point_cloud import Intrinsics, save_ply
from inference.predictor import RESIZES, Prediction, Predictor
from inference.tiling import MAX_TILE_PIXELS
from models import packed_weights
from visualize.pictures import prediction_picture, save_depth_png, save_picture

LOWER = "try a smaller --max_tile_pixels"
PNG_LIMIT = 65.535  # metres that 16 bits of millimetres hold
SCORES = {"RMSE": "RMSE {:.4f} m", "MAE": "MAE {:.4f} m", "ABS_REL": "REL {:.4f}"}
SCORES["DELTA1.25"] = "d1.25 {:.4f}"


@dataclass
class FileConfig(Settings):
    """What is read and written."""

    TITLE: ClassVar[str] = "input and output"

    rgb: str | None = of_call(None, "photograph, or folder of them", required=True)
    sparse: str | None = of_call(None, "its measurements, or folder of them")
    sample_from: str | None = of_call(
        None,
        "dense depth to draw the measurements from; the result is scored against it",
        metavar="DENSE",
    )
    depth_scale: float | None = of_call(
        None,
        "metres = value / scale; needed for integers (1000 for millimetres, 256 for KITTI)",
        type=float,
    )
    n_sample: int = of_call(500, "how many to draw", short=("-n",), type=count)
    sampler: str = of_call(
        "exact", "draw as many as -n says, or that many on average", choices=SAMPLERS
    )
    seed: int = of_call(0, "of the draw", type=seed)
    intrinsics: str | None = of_call(
        None,
        "of the photograph's pixels, or a text file with the 3x3 matrix; writes a point cloud too",
        metavar="fx,fy,cx,cy",
    )
    out: str = of_call("output/predictions", "folder")


@dataclass
class PredictConfig(FileConfig):
    """Every flag of this script."""

    TITLE: ClassVar[str] = "network"
    DASHES: ClassVar[bool] = True

    resume: str | None = of_call(
        None,
        "file, run folder or folder of a shared network",
        short=("-r",),
        unset="the network in pretrained/",
        metavar="CHECKPOINT",
    )
    resize: str = of_call(
        "training",
        "training: at the scale the network was trained at, NYU's 240 pixels for the short side, "
        "and back; none: at the image's own size",
        choices=RESIZES,
    )
    thin: bool = of_call(True, "drop measurements beyond the density of training")
    max_tile_pixels: int = of_call(
        MAX_TILE_PIXELS, "larger inputs are cut into overlapping tiles", type=count
    )
    cspn_step: int | None = of_call(None, "propagation steps", type=whole, unset="as trained")
    cspn_norm_type: str | None = of_call(
        None, "how the affinity is normalised", choices=NORM_TYPES, unset="as trained"
    )
    cspn_anchor: str | None = of_call(
        None, "what measured pixels keep", choices=ANCHORS, unset="as trained"
    )
    device: str = of_call("auto", "auto, cpu, cuda or cuda:N")
    debug: bool = of_call(False, "full traceback on errors", action="store_true")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; words of a flag are joined by underscores or dashes."""
    return flags.build_parser(__doc__, PredictConfig)


def main(argv: list[str] | None = None) -> None:
    args = PredictConfig.of(given_flags(build_parser(), argv))
    if (args.sparse is None) == (args.sample_from is None):
        raise OptionError("give either --sparse or --sample-from")
    camera = Intrinsics.parse(args.intrinsics) if args.intrinsics is not None else None
    pairs, left_out = match_pairs(Path(args.rgb), Path(args.sparse or args.sample_from))
    if left_out:
        print(f"left out, without a partner: {', '.join(left_out)}")
    out = Path(args.out)
    protect_inputs(out, pairs)
    predictor = Predictor.from_checkpoint(
        args.resume or shipped_network(),
        device=args.device,
        steps=args.cspn_step,
        norm_type=args.cspn_norm_type,
        anchor=args.cspn_anchor,
        resize=args.resize,
        max_tile_pixels=args.max_tile_pixels,
        thin=args.thin,
    )
    print(predictor.describe())
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    several = len(pairs) > 1  # for one image packing would not pay
    with packed_weights(predictor.model) if several else contextlib.nullcontext():
        for index, pair in enumerate(pairs):
            try:
                rgb, sparse_depth, prediction, lines = predict_pair(
                    predictor, pair, args, camera, np.random.default_rng((args.seed, index))
                )
            except Exception as error:
                sentence = user_sentence(error, LOWER)
                if not several or sentence is None:
                    raise
                failed += 1
                print(f"failed: {sentence}")
                continue
            paths = save_prediction(out, pair[0].stem, rgb, sparse_depth, prediction, camera)
            print(*lines, f"written: {', '.join(map(str, paths))}", sep="\n  ")
    if failed:
        raise RunError(f"{failed} of {len(pairs)} images failed, as said above")


def predict_pair(
    predictor: Predictor,
    pair: Pair,
    args: FileConfig,
    camera: Intrinsics | None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, Prediction, list[str]]:
    """Read one pair and predict.

    Returns:
        rgb (H, W, 3) uint8, sparse depth (H, W) metres, the prediction, and lines on what was done.
    """
    rgb, notes = read_rgb(pair[0])
    depth, depth_notes = read_depth(pair[1], rgb.shape[:2], scale=args.depth_scale)
    notes += depth_notes + (camera.notes(rgb.shape[:2]) if camera else [])
    sparse_depth = depth
    if args.sample_from:
        if not depth.any():
            raise DataError(f"{pair[1]} holds no measurement, so there is nothing to draw from")
        drawn = Measurements.choose(args.sampler, args.n_sample, 0.0, 0.0, rng)
        sparse_depth = measure(rgb.transpose(2, 0, 1), depth, drawn, rng)
    began = time.perf_counter()
    prediction = predictor(rgb, sparse_depth)
    seconds = time.perf_counter() - began
    height, width = depth.shape
    lines = [
        f"{pair[0]}: {width}x{height}, {_range_of(sparse_depth[sparse_depth > 0])}",
        f"{prediction.seen()}, {seconds:.1f} s",
        f"depth {prediction.depth.min():.2f} to {prediction.depth.max():.2f} m, "
        f"median {np.median(prediction.depth):.2f} m",
    ]
    if args.sample_from:
        scores = depth_metrics(
            *(torch.from_numpy(m)[None, None] for m in (prediction.depth, depth))
        )
        shown = (text.format(scores[name].item()) for name, text in SCORES.items())
        lines.append(f"against {pair[1]}: {', '.join(shown)}")
    far = float((prediction.depth > PNG_LIMIT).mean())
    if far:
        notes.append(f"{far:.3%} of the pixels are beyond {PNG_LIMIT} m, where the PNG is clipped")
    lines += [f"note: {note}" for note in notes + prediction.notes()]
    return rgb, sparse_depth, prediction, lines


def _range_of(known: np.ndarray) -> str:
    if not known.size:
        return "no measurement"
    return f"{counted(known.size, 'measurement')} of {known.min():.2f} to {known.max():.2f} m"


def outputs(out: Path, stem: str) -> list[Path]:
    """Return where the results of an image go: depth as PNG and .npy, the picture, the points, and
    the expected error as PNG and .npy."""
    ends = ("_depth.png", "_depth.npy", "_picture.png", ".ply", "_error.png", "_error.npy")
    return [out / f"{stem}{end}" for end in ends]


def protect_inputs(out: Path, pairs: list[Pair]) -> None:
    """Raise where a result, which may replace an earlier one, would replace a file that is read."""
    inputs = {path.resolve() for pair in pairs for path in pair}
    for rgb_path, _ in pairs:
        for path in outputs(out, rgb_path.stem):
            if path.resolve() in inputs:
                raise DataError(f"the result {path} would overwrite an input; choose another --out")


def save_prediction(
    out: Path,
    stem: str,
    rgb: np.ndarray,
    sparse_depth: np.ndarray,
    prediction: Prediction,
    camera: Intrinsics | None,
) -> list[Path]:
    """Write the results of one image and return their paths.

    Raises:
        OSError: one cannot be written; no half file has its name.
    """
    png, npy, picture, ply, error_png, error_npy = outputs(out, stem)
    depth, error = prediction.depth, prediction.error
    writers = {
        png: lambda path: save_depth_png(path, depth),
        npy: lambda path: np.save(path, depth),
        picture: lambda path: save_picture(path, prediction_picture(rgb, sparse_depth, depth)),
    }
    if camera is not None:
        writers[ply] = lambda path: save_ply(path, depth, rgb, camera)
    if error is not None:
        writers[error_png] = lambda path: save_depth_png(path, error)
        writers[error_npy] = lambda path: np.save(path, error)
    for path, write in writers.items():
        with whole_file(path) as part:
            write(part)
    return list(writers)


if __name__ == "__main__":
    run_script(main, lower=LOWER)
