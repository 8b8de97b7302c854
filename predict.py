"""Depth for your own images: an image and its measurements in, dense depth in metres out.

    python predict.py --rgb photo.jpg --sparse sparse.png --depth-scale 1000 --resume CHECKPOINT
    python predict.py --rgb images/ --sparse depths/ --resume CHECKPOINT --out out/
    python predict.py --rgb photo.jpg --sample-from dense.npy -n 500 --resume CHECKPOINT

Sparse depth is a 16-bit PNG, .npy, .npz, .exr or .csv of the image's own size, 0 where nothing was
measured (`inference.image_files`). Two folders are matched by the files' stems. Writes for each
image, under --out: <stem>_depth.png (16-bit millimetres), <stem>_depth.npy (float32 metres),
<stem>_picture.png (to look at) and, with --intrinsics, <stem>.ply (a point cloud).
"""

import argparse
import contextlib
import time
from pathlib import Path

import numpy as np
import torch

from cspn import ANCHORS, NORM_TYPES
from dataloaders import SAMPLERS, DataError
from dataloaders.sampling import Measurements, measure
from engine.cli import run_script, user_sentence
from engine.errors import RunError
from engine.files import whole_file
from engine.flags import OptionError, add_flag
from engine.metrics import depth_metrics
from inference.image_files import match_pairs, read_depth, read_rgb
from inference.point_cloud import Intrinsics, save_ply
from inference.predictor import RESIZES, Prediction, Predictor
from inference.tiling import MAX_TILE_PIXELS
from models import packed_weights
from visualize.pictures import prediction_picture, save_depth_png, save_picture

LOWER = "try a smaller --max_tile_pixels"
PNG_LIMIT = 65.535  # metres that 16 bits of millimetres hold


def build_parser() -> argparse.ArgumentParser:
    """Every flag of this script; words are joined by underscores or dashes, as you like."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    group = parser.add_argument_group("input and output")
    add_flag(group, "--rgb", required=True, help="photograph, or folder of them")
    source = group.add_mutually_exclusive_group(required=True)
    add_flag(source, "--sparse", help="its measurements, or folder of them")
    add_flag(
        source,
        *_spelt("--sample_from"),
        metavar="DENSE",
        help="dense depth to draw the measurements from; the result is scored against it",
    )
    add_flag(
        group,
        *_spelt("--depth_scale"),
        type=float,
        help="metres = value / scale; needed for integers (1000 for millimetres, 256 for KITTI)",
    )
    add_flag(group, "-n", *_spelt("--n_sample"), type=int, default=500, help="how many to draw")
    add_flag(
        group,
        "--sampler",
        choices=SAMPLERS,
        default="exact",
        help="draw as many as -n says, or that many on average",
    )
    add_flag(group, "--seed", type=int, default=0, help="of the draw")
    add_flag(
        group,
        "--intrinsics",
        metavar="fx,fy,cx,cy",
        help="of the photograph's pixels; writes a point cloud too",
    )
    add_flag(group, "--out", default="output/predictions", help="folder")

    group = parser.add_argument_group("network")
    add_flag(
        group, "--resume", "-r", required=True, metavar="CHECKPOINT", help="file or run folder"
    )
    add_flag(
        group,
        "--resize",
        choices=RESIZES,
        default="training",
        help="training: at the scale the network was trained at, NYU's 240 pixels for the short "
        "side, and back; none: at the image's own size",
    )
    add_flag(
        group,
        "--thin",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="drop measurements beyond the density of training",
    )
    add_flag(
        group,
        *_spelt("--max_tile_pixels"),
        type=int,
        default=MAX_TILE_PIXELS,
        help="larger inputs are cut into overlapping tiles",
    )
    propagation = {
        "step": ("propagation steps", {"type": int}),
        "norm_type": ("how the affinity is normalised", {"choices": NORM_TYPES}),
        "anchor": ("what measured pixels keep", {"choices": ANCHORS}),
    }
    for name, (text, kind) in propagation.items():
        add_flag(group, *_spelt(f"--cspn_{name}"), **kind, help=text, unset="as trained")
    add_flag(group, "--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add_flag(group, "--debug", action="store_true", help="full traceback on errors")
    return parser


def _spelt(name: str) -> tuple[str, ...]:
    """A flag with underscores, as elsewhere in this project, and with dashes."""
    return name, "--" + name[2:].replace("_", "-")


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    if args.n_sample < 1 or args.seed < 0:
        raise OptionError("-n must be 1 or more, and --seed not negative")
    try:
        camera = Intrinsics.parse(args.intrinsics) if args.intrinsics else None
    except ValueError as error:
        raise OptionError(f"--{error}") from error
    pairs, left_out = match_pairs(Path(args.rgb), Path(args.sparse or args.sample_from))
    if left_out:
        print(f"left out, without a partner: {', '.join(left_out)}")
    out = Path(args.out)
    _protect_inputs(out, pairs)

    predictor = Predictor.from_checkpoint(
        args.resume,
        device=args.device,
        steps=args.cspn_step,
        norm_type=args.cspn_norm_type,
        anchor=args.cspn_anchor,
        resize=args.resize,
        max_tile_pixels=args.max_tile_pixels,
        thin=args.thin,
    )
    describe(predictor)
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    several = len(pairs) > 1  # for one image packing would not pay
    with packed_weights(predictor.model) if several else contextlib.nullcontext():
        for index, (rgb_path, depth_path) in enumerate(pairs):
            try:
                predict_pair(predictor, rgb_path, depth_path, index, args, camera, out)
            except Exception as error:
                sentence = user_sentence(error, LOWER)
                if not several or sentence is None:
                    raise
                failed += 1
                print(f"failed: {sentence}")
    if failed:
        raise RunError(f"{failed} of {len(pairs)} images failed, as said above")


def predict_pair(
    predictor: Predictor,
    rgb_path: Path,
    depth_path: Path,
    index: int,
    args: argparse.Namespace,
    camera: Intrinsics | None,
    out: Path,
) -> None:
    """Read one pair, predict, write the files and say what was done."""
    rgb = read_rgb(rgb_path)
    file = read_depth(depth_path, rgb.shape[:2], scale=args.depth_scale)
    sparse_depth, notes = file.depth, list(file.notes)
    if args.sample_from:
        rng = np.random.default_rng((args.seed, index))
        measurements = Measurements.choose(args.sampler, args.n_sample, 0.0, 0.0, rng)
        sparse_depth = measure(rgb.transpose(2, 0, 1), file.depth, measurements, rng)
    began = time.perf_counter()
    prediction = predictor(rgb, sparse_depth)
    seconds = time.perf_counter() - began
    written = save_prediction(out, rgb_path.stem, rgb, sparse_depth, prediction, camera)

    height, width = sparse_depth.shape
    print(f"{rgb_path}: {width}x{height}, {_measurements(prediction, sparse_depth)}")
    print(f"  {_network(prediction)}, {seconds:.1f} s")
    low, high = prediction.depth.min(), prediction.depth.max()
    print(f"  depth {low:.2f} to {high:.2f} m, median {np.median(prediction.depth):.2f} m")
    if args.sample_from:
        maps = (torch.from_numpy(m)[None, None] for m in (prediction.depth, file.depth))
        scores = {name: value.item() for name, value in depth_metrics(*maps).items()}
        print(
            f"  against {depth_path}: RMSE {scores['RMSE']:.4f} m, MAE {scores['MAE']:.4f} m, "
            f"REL {scores['ABS_REL']:.4f}, d1.25 {scores['DELTA1.25']:.4f}"
        )
    notes += _cautions(prediction)
    for note in notes:
        print(f"  note: {note}")
    print(f"  written: {', '.join(str(path) for path in written)}")


def save_prediction(
    out: Path,
    stem: str,
    rgb: np.ndarray,
    sparse_depth: np.ndarray,
    prediction: Prediction,
    camera: Intrinsics | None,
) -> list[Path]:
    """Write the result files of one image and return their paths."""
    png, npy, picture, ply = _outputs(out, stem)
    depth = prediction.depth
    writers = {
        png: lambda path: save_depth_png(path, depth),
        npy: lambda path: np.save(path, depth),
        picture: lambda path: save_picture(path, prediction_picture(rgb, sparse_depth, depth)),
    }
    if camera is not None:
        writers[ply] = lambda path: save_ply(path, depth, rgb, camera)
    for path, write in writers.items():
        with whole_file(path) as part:  # on a full disk no half file has a result's name
            write(part)
    return list(writers)


def _outputs(out: Path, stem: str) -> tuple[Path, Path, Path, Path]:
    names = (f"{stem}_depth.png", f"{stem}_depth.npy", f"{stem}_picture.png", f"{stem}.ply")
    return tuple(out / name for name in names)


def _protect_inputs(out: Path, pairs: list[tuple[Path, Path]]) -> None:
    """Results replace those of an earlier call, but never a file that is being read."""
    inputs = {path.resolve() for pair in pairs for path in pair}
    for rgb_path, _ in pairs:
        for path in _outputs(out, rgb_path.stem):
            if path.resolve() in inputs:
                raise DataError(f"the result {path} would overwrite an input; choose another --out")


def describe(predictor: Predictor) -> None:
    """Say which network runs."""
    checkpoint, settings = predictor.checkpoint, predictor.settings
    refine = settings.refine
    text = f"{checkpoint.path}: {checkpoint.kind} checkpoint, {settings.arch}, refinement {refine}"
    if refine == "cspn":
        text += f" {settings.cspn_step} steps {settings.cspn_norm_type} {settings.cspn_anchor}"
    print(f"{text}, on {predictor.device}")


def _measurements(prediction: Prediction, sparse_depth: np.ndarray) -> str:
    if not prediction.measurements:
        return "no measurement"
    known = sparse_depth[sparse_depth > 0]
    return f"{prediction.measurements} measurements of {known.min():.2f} to {known.max():.2f} m"


def _network(prediction: Prediction) -> str:
    height, width = prediction.network_size
    scale = {"training": "the training scale", "none": "its own size"}[prediction.resize]
    tiles = f" in {prediction.tiles} tiles" if prediction.tiles > 1 else ""
    return f"the network saw {width}x{height} ({scale}){tiles}, {prediction.used} measurements"


def _cautions(prediction: Prediction) -> list[str]:
    """What a user should know before trusting the depth."""
    notes = []
    expected, used = prediction.expected, prediction.used
    dropped = prediction.measurements - used
    if dropped and used == expected:
        notes.append(f"{dropped} measurements beyond training's density dropped (--no-thin)")
    elif dropped > 0.1 * prediction.measurements:
        notes.append(f"{dropped} measurements met others in one pixel and were dropped")
    if not used:
        notes.append("without any measurement the depth is a guess from the colours alone")
    elif expected and used < 0.5 * expected:
        notes.append(f"training gave the network {expected} measurements here; expect worse depth")
    elif expected and used > 2 * expected:
        notes.append(f"training gave the network {expected} measurements here; more can hurt")
    far = float((prediction.depth > PNG_LIMIT).mean())
    if far:
        notes.append(f"{far:.3%} of the pixels are beyond {PNG_LIMIT} m, where the PNG is clipped")
    behind = float((prediction.depth <= 0).mean())
    if behind:
        notes.append(f"{behind:.3%} of the pixels are not positive: 0 in the PNG, no points")
    return notes


if __name__ == "__main__":
    run_script(main, lower=LOWER)
