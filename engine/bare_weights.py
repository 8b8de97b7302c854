"""Weights without settings: where a file holds them, and the settings that their shapes tell."""

import re
from pathlib import Path

import torch
from torch import Tensor

from engine.errors import CheckpointError
from models.encoder import ENCODER_CHANNELS
from models.network import INPUT_CHANNELS
from models.spn import SPN

# Where training scripts put a state dict in the file they save, and what wrappers of a network put
# before its keys.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod)\.")
# Channels of the network's heads, a coarse depth and the guidance -> what refines the depth.
_HEADS = {1: {"refine": "none"}, 1 + SPN.guidance_channels: {"refine": "spn"}}
_HEADS |= {size**2: {"refine": "cspn", "cspn_kernel_size": size} for size in (3, 5, 7)}
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def named_tensors(path: Path, state: dict) -> dict[str, Tensor]:
    """Return the named tensors of a file: itself, or what it holds under one of the usual keys;
    raise CheckpointError where it holds something else too, or no tensors."""
    inner = next((state[key] for key in _CONTAINERS if isinstance(state.get(key), dict)), None)
    if inner:
        return named_tensors(path, inner)
    if all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        return state
    raise CheckpointError(f"{path} is neither this project's checkpoint nor a state dict")


def own_settings(path: Path, model: dict[str, Tensor]) -> dict:
    """Return the settings, by flag name, that show in the shapes of this project's weights; raise
    CheckpointError for an encoder or heads of a width that no network here has."""
    heads = model["decoder.heads.weight"].shape[1]
    args = {"arch": _arch(path, model)} | _of_width(path, "decoder.heads.weight", heads, _HEADS)
    if model["encoder.conv1_1.weight"].shape[1] == INPUT_CHANNELS["filled"]:
        args["depth_input"] = "filled"
    if "decoder.error_head.weight" in model:
        args["confidence"] = True
    return args


def _arch(path: Path, model: dict[str, Tensor]) -> str:
    width = next(iter(model["encoder.conv2.weight"].shape), 0)
    archs = {channels: arch for arch, channels in ENCODER_CHANNELS.items()}
    return _of_width(path, "encoder.conv2.weight", width, archs)


def _of_width(path: Path, key: str, width: int, known: dict) -> object:
    if width not in known:
        expected = ", ".join(map(str, known))
        raise CheckpointError(
            f"{path}: {key} has {width} output channels, expected one of {expected}"
        )
    return known[width]


def check_tensors(path: Path, model: dict) -> None:
    """Raise CheckpointError unless weights are named, dense, real and finite, counters whole."""
    for key, value in model.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path} holds something else than a named tensor in its weights")
        kinds = (torch.int64,) if key.endswith("num_batches_tracked") else _FLOATS
        if value.dtype not in kinds or value.layout != torch.strided or value.is_meta:
            found = f"{value.layout} {value.dtype} on {value.device}".replace("torch.", "")
            raise CheckpointError(f"{path}: {key} is {found}, expected dense real numbers")
        # Ten times as fast as looking at each; NaN is smallest and largest of what it is in.
        if value.numel() and not all(limit.isfinite() for limit in value.aminmax()):
            raise CheckpointError(f"{path}: {key} holds NaN or infinite values")


def released_settings(path: Path, model: dict[str, Tensor]) -> dict:
    """Return the settings of a published file: the architecture by its width, the norm by its
    folder; raise CheckpointError where it lacks an encoder, or has one of another width."""
    if "encoder.conv2.weight" not in model:
        raise CheckpointError(f"{path} lacks conv2.weight, which the published network has")
    arch = _arch(path, model)
    folder = path.resolve().parent.name
    positive = folder.startswith("nyu_pretrain_cspn") and "8norm" not in folder
    return {
        "arch": arch,
        "data_set": "nyudepth" if arch == "resnet50" else "kitti",
        "model": "cspn_unet",
        "cspn_norm_type": "8sum_abs" if positive else "8sum",
    }
