"""The command `python -m tools.share`: a trained network as a folder that others load.

    python -m tools.share output/any --out pretrained/my_network

Writes model.safetensors and config.json, which `predict.py`, `eval.py`, `Predictor.from_pretrained`
and `torch.hub` read. The error that a network expects of itself is calibrated first: one factor, so
that on frames it was not trained on the interval of 90 % holds 90 % of the pixels.
"""

import math
from dataclasses import replace
from pathlib import Path

import torch

from dataloaders import DepthDataset, make_loader
from engine.checkpoint import save_shared
from engine.cli import run_script
from engine.confidence import calibration_factor
from engine.data import build_dataset, build_held_out_set
from engine.flags import command_parser
from engine.metrics import MIN_DEPTH
from engine.progress import progress
from inference.predictor import Predictor
from models.network import DepthCompletionNet

PIXELS = 2_000  # of each image, so that images count alike


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser("tools.share", __doc__)
    add = parser.add_argument
    add("resume", metavar="CHECKPOINT", help="checkpoint file or run folder")
    add("--out", required=True, metavar="FOLDER", help="folder to write")
    meaning = "calibrate on its val/; may be repeated (default the scenes that --holdout set aside)"
    add("--data_root", action="append", metavar="ROOT", help=meaning)
    add("--draws", type=int, default=4, help="of measurements a frame (default 4)")
    args = parser.parse_args(argv)
    predictor = Predictor.from_checkpoint(args.resume, device="cpu")
    if predictor.model.estimates_error:
        sets = [_frames(predictor, args.data_root, seed) for seed in range(args.draws)]
        factor = calibrate(predictor.model, [dataset for draw in sets for dataset in draw])
        print(f"expected error times {factor:.3f}")
    # It is scored with the published draws unless a flag names others.
    settings = replace(predictor.settings, sampler="bernoulli")
    save_shared(Path(args.out), predictor.model, settings)
    print(f"written to {args.out}")


def calibrate(model: DepthCompletionNet, datasets: list[DepthDataset]) -> float:
    """Scale the error that `model` estimates so that its interval of 90 % holds 90 % of the pixels
    of `datasets`, and return the factor."""
    ratios = []
    with torch.inference_mode():
        for loader in (make_loader(dataset, 1, num_workers=0) for dataset in datasets):
            for batch in progress(loader, label="calibration", unit="image"):
                pred, error = model(batch["rgbd"], with_error=True)
                valid = batch["depth"] > MIN_DEPTH
                found = ((pred - batch["depth"]).abs() / error)[valid]
                ratios.append(found[:: max(1, len(found) // PIXELS)])
    factor = calibration_factor(torch.cat(ratios))
    model.log_error_offset += math.log(factor)
    return factor


def _frames(predictor: Predictor, roots: list[str] | None, seed: int) -> list[DepthDataset]:
    """Return frames that the network was not trained on, measured as in its training."""
    settings = predictor.settings
    if roots is None:
        holdout = predictor.checkpoint.args.get("holdout", 0.0)
        return [build_held_out_set(settings, holdout, seed=seed)]
    return [build_dataset(replace(settings, data_root=root), "val", seed=seed) for root in roots]


if __name__ == "__main__":
    run_script(main)
