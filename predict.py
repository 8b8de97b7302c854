"""Depth for your own images: an image and its measurements in, dense depth in metres out.

    python predict.py --rgb photo.jpg --sparse sparse.png --depth-scale 1000 --resume CHECKPOINT
    python predict.py --rgb images/ --sparse depths/ --resume CHECKPOINT --out out/
    python predict.py --rgb photo.jpg --sample-from dense.npy -n 500 --resume CHECKPOINT
    python predict.py --from tum rgbd_dataset_freiburg1_desk --write png video --out out/

Sparse depth is a 16-bit PNG, .npy, .npz, .exr or .csv of the image's own size, 0 where nothing was
measured (`inference.image_files`). Two folders, or one that holds both, are matched by the files'
names (`inference.pairs`). Writes for each image, under --out: <stem>_depth.png (16-bit
millimetres), <stem>_depth.npy (float32 metres), <stem>_picture.png (to look at) and, with
--intrinsics, <stem>.ply (a point cloud).

--from reads a whole recording of a sensor instead (`inference.sources`) and writes what --write
names (`inference.stream`); what an earlier run wrote is kept.
"""

import gc

# Imports make 200,000 objects, all of which stay: no garbage is worth looking for until then.
gc.disable()

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cspn import CSPN
from dataloaders import DataError
from dataloaders.errors import counted
from dataloaders.sampling import Measurements, measure
from engine import flags
from engine.checkpoint import shipped_network
from engine.cli import run_script, user_sentence
from engine.errors import RunError
from engine.files import whole_file
from engine.flags import given_flags
from engine.metrics import depth_metrics
from engine.precision import prepare_device
from inference.image_files import read_depth, read_rgb
from inference.options import PredictConfig
from inference.pairs import Pair, match_pairs, protect_inputs
from inference.point_cloud import save_ply, without_flying_pixels
from inference.predictor import Prediction, Predictor
from inference.results import Results
from inference.sources import open_source
from inference.sources.calibration import read_camera
from inference.sources.projection import Camera
from inference.stream import run_stream

gc.enable()

LOWER = "try a smaller --max_tile_pixels"
PNG_LIMIT = 65.535  # metres that 16 bits of millimetres hold
SCORES = {"RMSE": "RMSE {:.4f} m", "MAE": "MAE {:.4f} m", "ABS_REL": "REL {:.4f}"}
SCORES["DELTA1.25"] = "d1.25 {:.4f}"
# Of the files of an image, whose names begin with its stem.
ENDS = ("_depth.png", "_depth.npy", "_picture.png", ".ply", "_error.png", "_error.npy")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; words of a flag are joined by underscores or dashes."""
    return flags.build_parser(__doc__, PredictConfig)


def main(argv: list[str] | None = None) -> None:
    """Predict with the flags of the command line."""
    given = given_flags(build_parser(), argv)
    args = PredictConfig.of(given)
    args.check_given(given)
    predict = predict_recording if args.source is not None else predict_pairs
    checkpoint = args.resume or shipped_network()
    predict(args, partial(Predictor.from_checkpoint, checkpoint, **args.network()))


def predict_recording(args: PredictConfig, load: Callable[[], Predictor]) -> None:
    """Complete the depth of a recording's frames."""
    source = open_source(*args.source, **args.options())
    read = [args.source[1], *filter(None, (args.rgb, args.sparse))]
    results = Results(
        Path(args.out), args.write or ["png"], map(Path, read), flying=args.flying_pixels
    )
    predictor = load()
    prepare_device(predictor.device, give_back_memory=False)
    print(predictor.describe(), *(f"note: {note}" for note in source.notes), sep="\n")
    said = len(source.notes)
    outcome = run_stream(
        source, predictor, results, sentence=lambda error: user_sentence(error, LOWER)
    )
    notes = source.notes[said:] + outcome.notes
    print(*(f"note: {note}" for note in notes), f"{outcome}: {args.out}", sep="\n")
    if outcome.bad:
        raise RunError(f"{counted(len(outcome.bad), 'frame')} left out, as said above")


def predict_pairs(args: PredictConfig, load: Callable[[], Predictor]) -> None:
    """Complete the depth of an image or of the images of a folder."""
    camera = read_camera(args.intrinsics) if args.intrinsics is not None else None
    pairs, left_out = match_pairs(Path(args.rgb), Path(args.sparse or args.sample_from))
    if left_out:
        print(f"left out, without a partner: {', '.join(left_out)}")
    out = Path(args.out)
    protect_inputs(pairs, lambda stem: [out / f"{stem}{end}" for end in ENDS])
    predictor = load()
    print(predictor.describe())
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    several = len(pairs) > 1  # for one image compiling would not pay
    refinement = predictor.model.refinement
    if not several and isinstance(refinement, CSPN) and predictor.device.type == "cpu":
        refinement.impl = "eager"
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
        paths = save_prediction(
            out, pair[0].stem, rgb, sparse_depth, prediction, camera, args.flying_pixels
        )
        print(*lines, f"written: {', '.join(map(str, paths))}", sep="\n  ")
    if failed:
        raise RunError(f"{failed} of {len(pairs)} images failed, as said above")


def predict_pair(
    predictor: Predictor,
    pair: Pair,
    args: PredictConfig,
    camera: Camera | None,
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
    size = "x".join(map(str, depth.shape[::-1]))
    lines = [
        f"{pair[0]}: {size}, {_range_of(sparse_depth[sparse_depth > 0])}",
        f"{prediction.seen()}, {seconds:.1f} s",
        f"depth {prediction.depth.min():.2f} to {prediction.depth.max():.2f} m, "
        f"median {np.median(prediction.depth):.2f} m",
    ]
    if args.sample_from:
        maps = torch.from_numpy(np.stack((prediction.depth, depth)))[:, None, None]
        scores = depth_metrics(*maps)
        shown = (text.format(scores[name].item()) for name, text in SCORES.items())
        lines.append(f"against {pair[1]}: {', '.join(shown)}")
    if far := float((prediction.depth > PNG_LIMIT).mean()):
        notes.append(f"{far:.3%} of the pixels are beyond {PNG_LIMIT} m, where the PNG is clipped")
    lines += [f"note: {note}" for note in notes + prediction.notes()]
    return rgb, sparse_depth, prediction, lines


def _range_of(known: np.ndarray) -> str:
    if not known.size:
        return "no measurement"
    return f"{counted(known.size, 'measurement')} of {known.min():.2f} to {known.max():.2f} m"


def save_prediction(
    out: Path,
    stem: str,
    rgb: np.ndarray,
    sparse_depth: np.ndarray,
    prediction: Prediction,
    camera: Camera | None,
    flying: str = "drop",
) -> list[Path]:
    """Write the results of one image and return their paths. Raises OSError: one cannot be written;
    no half file has its name."""
    # With matplotlib, which commands that end in an error or write no picture do not wait for.
    from visualize.pictures import prediction_picture, save_depth_png, save_picture

    depth, error = prediction.depth, prediction.error
    writers = {
        "_depth.png": lambda path: save_depth_png(path, depth),
        "_depth.npy": lambda path: np.save(path, depth),
        "_picture.png": lambda path: save_picture(
            path, prediction_picture(rgb, sparse_depth, depth)
        ),
    }
    if camera is not None:
        cloud = without_flying_pixels(depth, camera, error, flying)
        writers[".ply"] = lambda path: save_ply(path, cloud, rgb, camera)
    if error is not None:
        writers["_error.png"] = lambda path: save_depth_png(path, error)
        writers["_error.npy"] = lambda path: np.save(path, error)
    paths = {out / f"{stem}{end}": write for end, write in writers.items()}
    for path, write in paths.items():
        with whole_file(path) as part:
            write(part)
    return list(paths)


if __name__ == "__main__":
    run_script(main, lower=LOWER)
