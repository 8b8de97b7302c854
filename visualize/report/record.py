"""What an evaluation scored, kept beside its tables for the report."""

import json
import time
from pathlib import Path

from dataloaders import DepthDataset
from engine.checkpoint import Checkpoint
from engine.files import replace_text
from engine.run_folder import environment

RECORD = "evaluation.json"


def write_record(
    folder: Path, args: dict, dataset: DepthDataset, checkpoint: Checkpoint, drawn: dict[int, str]
) -> None:
    """Write `evaluation.json` into `folder`.

    Args:
        args: the evaluation's settings, the checkpoint's own included.
        dataset: the images that were scored.
        checkpoint: the weights that were scored.
        drawn: index -> name of the images in `folder`/pictures.
    """
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "args": args,
        "root": str(dataset.root),
        "sample_set": _sample_set(dataset.root),
        "frames": len(dataset),
        "checkpoint": {"file": str(checkpoint.path), "epoch": checkpoint.epoch},
        "pictures": drawn,
        "environment": environment(),
    }
    replace_text(folder / RECORD, json.dumps(record, indent=2) + "\n")


def _sample_set(root: Path) -> str | None:
    """Return the generator that rendered the images in `root`, None where no file names one."""
    for path in sorted(root.glob("*.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and isinstance(found.get("generator"), str):
            return found["generator"]
    return None
