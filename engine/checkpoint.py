"""Checkpoints: tensors and builtins in a file, ours or the authors', read without running it.

A file of this project holds `format`, `args` (the run's settings), `epoch`, `scores` and `model`;
`last.pth` also holds all that `engine.training` needs to go on. A published `best_model.pth` is a
bare state dict; it is recognised and converted.

PyTorch stores a file as an archive whose records carry checksums, but does not look at them when
it loads. They are looked at here, so a file that a bad disk or transfer has altered is refused.
"""

import pickle
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from engine.errors import CheckpointError
from engine.files import replace_file
from models import convert_released_state_dict, dead_released_keys, is_released_state_dict

FORMAT = "cspn-depth 1"
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# What every file of this format holds, and what one to go on from holds besides.
_PARTS = {"model": dict, "args": dict, "epoch": int}
_TRAINING_PARTS = {
    "optimizer": dict,
    "schedule": dict,
    "scaler": dict,
    "step": int,
    "position": int,
    "best_rmse": float,
    "rows": dict,
    "epoch_scores": dict,
    "skipped": dict,
    "rng": dict,
}


@dataclass
class Checkpoint:
    """A file's content in this project's terms.

    model: parameter name -> tensor, for `load_state_dict(..., strict=True)`.
    args: the run's settings by flag name; for a published file what can be told from it.
    kind: "this project's" or "published".
    dropped: keys of a published file that nothing reads.
    training: optimiser, schedule and random states; empty where the file holds weights alone.
    """

    path: Path
    model: dict[str, Tensor]
    args: dict
    kind: str
    epoch: int = 0
    dropped: list[str] = field(default_factory=list)
    training: dict = field(default_factory=dict)


def save_checkpoint(path: Path, state: dict, *, keep_as: Path | None = None) -> None:
    """Write `state` (tensors and builtins) as a checkpoint of this project.

    Args:
        keep_as: name under which the file that was there stays; see `engine.files`.

    Raises:
        OSError: it could not be written; the file that was there still is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(path, {"format": FORMAT, **state}, keep_as=keep_as)


def save_file(path: Path, content: dict, *, keep_as: Path | None = None) -> None:
    """`torch.save` to `path`, which never holds half a file."""

    def write(stream: BinaryIO) -> None:
        try:
            torch.save(content, stream)
        except RuntimeError as error:
            # The archive writer reports a disk that is full in words of its own.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise

    replace_file(path, write, keep_as=keep_as)


def find_checkpoint(path: Path, names: tuple[str, ...] = ("best_model.pth", "last.pth")) -> Path:
    """`path` itself, or the first of `names` in it where it is a run folder.

    Raises:
        CheckpointError: neither exists.
    """
    if path.is_dir():
        for name in names:
            if (path / name).is_file():
                return path / name
        raise CheckpointError(f"{path} holds no {' or '.join(names)}")
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this project or of the authors; nothing in the file is executed.

    Raises:
        CheckpointError: unreadable, holding more than tensors and builtins, or unknown.
    """
    state = _read(path)
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds a {type(state).__name__}, expected a checkpoint")

    if state.get("format") == FORMAT:
        return _own_checkpoint(path, state)
    if "format" in state:
        raise CheckpointError(f"{path} has format {state['format']!r}, expected {FORMAT!r}")
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise CheckpointError(f"{path} is neither this project's checkpoint nor a state dict")
    if not is_released_state_dict(state):
        raise CheckpointError(
            f"{path} is a state dict of another network than the published one; its first key is "
            f"{next(iter(state))}"
        )
    _check_tensors(path, state)
    try:
        model = convert_released_state_dict(state)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Checkpoint(
        path=path,
        model=model,
        args=_released_args(path, model),
        kind="published",
        dropped=dead_released_keys(state),
    )


def _own_checkpoint(path: Path, state: dict) -> Checkpoint:
    has_training = any(part in state for part in _TRAINING_PARTS)
    parts = _PARTS | (_TRAINING_PARTS if has_training else {})
    for part, kind in parts.items():
        if not isinstance(state.get(part), kind) or (kind is int and state[part] < 0):
            raise CheckpointError(f"{path} lacks its {part}, or holds something else there")
    if not state["model"]:
        raise CheckpointError(f"{path} holds no weights")
    _check_tensors(path, state["model"])
    return Checkpoint(
        path=path,
        model=state["model"],
        args=state["args"],
        kind="this project's",
        epoch=state["epoch"],
        training=state if has_training else {},
    )


def _check_tensors(path: Path, model: dict) -> None:
    """Weights are named, dense, real and finite; counters are whole numbers."""
    for key, value in model.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path} holds something else than a named tensor in its weights")
        kinds = (torch.int64,) if key.endswith("num_batches_tracked") else _FLOATS
        if value.dtype not in kinds or value.layout != torch.strided or value.is_meta:
            found = f"{value.layout} {value.dtype} on {value.device}".replace("torch.", "")
            raise CheckpointError(f"{path}: {key} is {found}, expected dense real numbers")
        if not value.isfinite().all():
            raise CheckpointError(f"{path}: {key} holds NaN or infinite values")


def _read(path: Path) -> object:
    """What the file holds, its checksums compared, nothing in it executed."""
    with path.open("rb") as stream:  # a file that may not be read says so itself
        is_archive = stream.read(2) == b"PK"
    try:
        if is_archive:
            _compare_checksums(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a strange file makes PyTorch wonder about
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of tensors and plain values, which is all that is loaded"
        ) from error
    except Exception as error:  # a damaged file can make its reader fail in any way
        raise CheckpointError(f"{path} is truncated or not a checkpoint") from error


def _compare_checksums(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        # PyTorch never compresses; a small file that unpacks to terabytes would have to.
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise CheckpointError(f"{path} holds compressed records, which PyTorch never writes")
        altered = archive.testzip()
    if altered is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of its part {altered} differs")


def _released_args(path: Path, model: dict[str, Tensor]) -> dict:
    """What a published file tells: the architecture by its width, the norm by its folder."""
    width = model.get("encoder.conv2.weight")
    if width is None:
        raise CheckpointError(f"{path} lacks conv2.weight, which the published network has")
    resnet50 = width.shape[0] == 2048
    folder = path.resolve().parent.name
    positive = folder.startswith("nyu_pretrain_cspn") and "8norm" not in folder
    return {
        "arch": "resnet50" if resnet50 else "resnet18",
        "data_set": "nyudepth" if resnet50 else "kitti",
        "model": "cspn_unet",
        "cspn_norm_type": "8sum_abs" if positive else "8sum",
    }


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Fill `model` strictly.

    Raises:
        CheckpointError: a key or shape differs; the sentence names the first.
    """
    own, theirs = model.state_dict(), checkpoint.model
    wrong = [k for k in own if k not in theirs or own[k].shape != theirs[k].shape]
    wrong += [k for k in theirs if k not in own]
    if wrong:
        key = wrong[0]
        shapes = [tuple(s[key].shape) if key in s else "nothing" for s in (own, theirs)]
        raise CheckpointError(
            f"{checkpoint.path} is a checkpoint of another network: {len(wrong)} tensors differ, "
            f"first {key}, expected {shapes[0]}, got {shapes[1]}"
        )
    model.load_state_dict(theirs)
