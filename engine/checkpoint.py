"""Checkpoints: tensors and builtins in a file, ours or the authors', read without running it.

A file of this project holds `format`, `args` (the run's settings), `epoch`, `scores` and `model`;
`last.pth` also holds all that `engine.training` needs to go on. A published `best_model.pth` is a
bare state dict; it is recognised and converted.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engine.bare_weights import (
    WRAPPERS,
    check_tensors,
    named_tensors,
    own_settings,
    released_settings,
)
from engine.config import NetworkConfig
from engine.errors import CheckpointError, OptionError
from engine.files import replace_file, replace_text
from engine.flags import Resume
from engine.safe_load import safe_load
from models import (
    DepthCompletionNet,
    build_model,
    convert_released_state_dict,
    dead_released_keys,
    export_released_state_dict,
    is_released_state_dict,
)

FORMAT = "cspn-depth 1"
# Of a network that is shared: its weights and its settings.
WEIGHTS, CONFIG = "model.safetensors", "config.json"
# Where the networks that come with the project lie, each in a folder of its own, and the one that
# is used where none is named; `--resume pretrained/NAME` names another.
SHIPPED = Path(__file__).resolve().parent.parent / "pretrained"
DEFAULT_NETWORK = "cspn_resnet18_any"
# What every file of this format holds, and what one to go on from holds besides.
_PARTS = {"model": dict, "args": dict, "epoch": int}
_TRAINING_PARTS = {"step": int, "position": int, "best_rmse": float} | dict.fromkeys(
    ("optimizer", "schedule", "scaler", "rows", "epoch_scores", "skipped", "rng"), dict
)


@dataclass
class Checkpoint:
    """A file's content in this project's terms.

    kind: "this project's", "published", "shared" (see `save_shared`), or "weights-only" for a state
        dict of this network.
    """

    path: Path
    model: dict[str, Tensor]  # parameter name -> tensor, for a strict `load_state_dict`
    args: dict  # settings by flag name; for a file without them what its weights tell
    kind: str
    epoch: int = 0
    dropped: list[str] = field(default_factory=list)  # keys of a published file, never read
    training: dict = field(default_factory=dict)  # optimiser, schedule ...; {}: weights alone


def save_checkpoint(path: Path, state: dict, *, keep_as: Path | None = None) -> None:
    """Write `state` (tensors and builtins) as a checkpoint of this project; see `save_file`."""
    save_file(path, {"format": FORMAT, **state}, keep_as=keep_as)


def save_released(path: Path, model: nn.Module) -> int:
    """Write the weights under the release's names as a bare state dict without its dead layers, in
    the format that PyTorch 0.4 reads; return the number of tensors. Raise OptionError where the
    network has no released form, or there is a file already; OSError: see `save_file`."""
    if path.exists():
        raise OptionError(f"{path} exists, and a checkpoint is never replaced; choose another name")
    try:
        state = export_released_state_dict(model.state_dict())
    except ValueError as error:
        raise OptionError(str(error)) from error
    save_file(path, state, legacy=True)
    return len(state)


def save_file(
    path: Path, content: dict, *, keep_as: Path | None = None, legacy: bool = False
) -> None:
    """Write `content` by `torch.save`; `path` never holds half a file.

    Args:
        keep_as: name under which the file that was there stays; see `engine.files`.
        legacy: write PyTorch's format before 1.6, a sequence of pickles in place of an archive.

    Raises:
        OSError: it could not be written; the file that was there still is.
    """

    def write(stream: BinaryIO) -> None:
        try:
            torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
        except RuntimeError as error:
            # The archive writer reports a disk that is full in words of its own.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, write, keep_as=keep_as)


def find_checkpoint(
    path: Path, names: tuple[str, ...] = ("best_model.pth", "last.pth", WEIGHTS)
) -> Path:
    """Return `path`, or the first of `names` in it where it is a folder, a run's or a network's;
    raise CheckpointError where neither exists."""
    if path.is_dir():
        for name in names:
            if (path / name).is_file():
                return path / name
        raise CheckpointError(f"{path} holds no {' or '.join(names)}")
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    return path


def shipped_network(folder: Path = SHIPPED) -> Path:
    """Return `DEFAULT_NETWORK` in a folder of networks, for where no checkpoint is named; raise
    CheckpointError where it is not there."""
    network = folder / DEFAULT_NETWORK
    if not (network / WEIGHTS).is_file():
        raise CheckpointError(
            "name a checkpoint: --resume CHECKPOINT (a file or a run folder); there is no "
            f"{network / WEIGHTS} to use without one"
        )
    return network.relative_to(Path.cwd()) if network.is_relative_to(Path.cwd()) else network


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this project or of the authors, or weights alone; execute nothing.

    Weights alone are a state dict of `build_model`'s network, as `torch.save(model.state_dict())`
    writes it: bare or under "state_dict", "model" or the like, with or without the prefixes of
    DataParallel and `torch.compile`.

    Raises:
        CheckpointError: unreadable, holding more than tensors and builtins, or unknown.
    """
    state = safe_load(path)
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds a {type(state).__name__}, expected a checkpoint")
    if state.get("format") == FORMAT:
        return _own_checkpoint(path, state)
    if isinstance(state.get("format"), str):
        raise CheckpointError(f"{path} has format {state['format']!r}, expected {FORMAT!r}")

    named = named_tensors(path, state)
    check_tensors(path, named)
    model = {WRAPPERS.sub("", key): value for key, value in named.items()}
    if len(model) < len(named):
        raise CheckpointError(f"{path} holds weights twice, with and without a prefix")
    if is_released_state_dict(model):
        dead = set(dead_released_keys(model))
        dropped = [key for key in named if WRAPPERS.sub("", key) in dead]
        try:
            model = convert_released_state_dict(model)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error
        return Checkpoint(path, model, released_settings(path, model), "published", dropped=dropped)
    own = ("encoder.conv1_1.weight", "encoder.conv2.weight", "decoder.heads.weight")
    if not all(key in model and model[key].dim() == 4 for key in own):
        raise CheckpointError(
            f"{path} is a state dict of another network than the published one or this project's; "
            f"its first key is {next(iter(named))}"
        )
    args, config = own_settings(path, model), path.parent / CONFIG
    if path.name == WEIGHTS and config.is_file():
        return Checkpoint(path, model, args | _read_config(config), "shared")
    return Checkpoint(path, model, args, "weights-only")


def _read_config(path: Path) -> dict:
    """Return the settings that lie beside a shared network's weights."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected settings by name")
    return content


def save_shared(folder: Path, model: nn.Module, settings: NetworkConfig) -> None:
    """Write a network for others to load: its weights as `model.safetensors`, those of convolutions
    in half precision, and its settings as `config.json`; OSError leaves no half file."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: (value.half() if value.dim() > 1 else value).contiguous().cpu()
        for key, value in model.state_dict().items()
    }
    rules = NetworkConfig.rules().items()
    kept = {name: getattr(settings, name) for name, rule in rules if rule is Resume.FIXED}
    replace_file(folder / WEIGHTS, lambda stream: stream.write(save(tensors)))
    replace_text(folder / CONFIG, json.dumps(kept, indent=2) + "\n")


def _own_checkpoint(path: Path, state: dict) -> Checkpoint:
    has_training = any(part in state for part in _TRAINING_PARTS)
    parts = _PARTS | (_TRAINING_PARTS if has_training else {})
    for part, kind in parts.items():
        if not isinstance(state.get(part), kind) or (kind is int and state[part] < 0):
            raise CheckpointError(f"{path} lacks its {part}, or holds something else there")
    if not state["model"]:
        raise CheckpointError(f"{path} holds no weights")
    check_tensors(path, state["model"])
    kept = (state["model"], state["args"], "this project's", state["epoch"])
    return Checkpoint(path, *kept, training=state if has_training else {})


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Fill `model` with the checkpoint's weights, every key of both; raise CheckpointError with the
    first key or shape that differs."""
    own, theirs = model.state_dict(), checkpoint.model
    if "decoder.error_head.weight" in theirs:  # not in weights from before it could be calibrated
        theirs.setdefault("log_error_offset", torch.zeros(()))
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


class _Undrawn(TorchFunctionMode):
    """Within this context nothing is drawn: random weights would be overwritten by the file's."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return None
        return func(*args, **(kwargs or {}))


def load_network(
    checkpoint: Checkpoint, settings: NetworkConfig, device: torch.device
) -> DepthCompletionNet:
    """Return the network that `settings` describe, with the checkpoint's weights, on `device`;
    raise CheckpointError where they are another network's, or the settings no network's."""
    try:
        with _Undrawn():
            model = build_model(**settings.model_options())
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path}: its settings are wrong: {error}") from error
    load_weights(model.to(device), checkpoint)
    return model


def describe(checkpoint: Checkpoint, settings: NetworkConfig) -> str:
    """Return in words what was found in the file and which network will run."""
    epoch = f", epoch {checkpoint.epoch}" if checkpoint.epoch else ""
    steps = f"{settings.cspn_step} steps, {settings.cspn_norm_type}, {settings.cspn_anchor}"
    propagation = steps if settings.refine == "cspn" else settings.refine
    lines = [
        f"{checkpoint.path}: {checkpoint.kind} checkpoint, {settings.model} {settings.arch}{epoch}",
        f"propagation: {propagation}",
    ]
    if checkpoint.kind == "weights-only":
        lines.append("the file holds no settings: those above are the flags' or their defaults")
    if checkpoint.dropped:
        lines.append(
            f"dropped {len(checkpoint.dropped)} tensors that the published network never uses:\n  "
            + ", ".join(checkpoint.dropped)
        )
    return "\n".join(lines)
