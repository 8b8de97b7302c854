"""Published checkpoints to this project's parameters and back, key by key.

The release stores the two 5x5 convolutions of an up-projection, and the two heads, apart and in
convolution layout; here each pair is one transposed convolution (`models.unpool`). It also
stores a second decoder that its forward pass never calls.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from models.unpool import to_convolution_layout

# Stored by the release, used by nothing: the first decoder, its head, and a constant of ones.
_DEAD = re.compile(r"up_proj_layer[1-4]\.|conv3\.weight$|post_process_layer\.")
_ENCODER = re.compile(
    r"(conv1_1|conv2)\.weight$|bn[12]\.\w+$"
    r"|layer[1-4]\.\d+\.((conv[123]|downsample\.0)\.weight|(bn[123]|downsample\.1)\.\w+)$"
)
_BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _decoder_keys() -> dict[str, tuple[str, ...]]:
    """Our decoder key -> the released key, or the two that are joined in it."""
    keys = {"decoder.heads.weight": tuple(f"gud_up_proj_layer{i}.conv1.weight" for i in (5, 6))}
    for i in range(1, 5):
        ours, theirs = f"decoder.up{i}", f"gud_up_proj_layer{i}"
        keys[f"{ours}.unpool_conv.weight"] = (
            f"{theirs}.conv1.weight",
            f"{theirs}.sc_conv1.weight",
        )
        keys[f"{ours}.conv.weight"] = (f"{theirs}.conv2.weight",)
        for name in _BN:
            keys[f"{ours}.bn.{name}"] = (f"{theirs}.bn1.{name}", f"{theirs}.sc_bn1.{name}")
            keys[f"{ours}.conv_bn.{name}"] = (f"{theirs}.bn2.{name}",)
        if i > 1:  # block 1 joins no skip
            keys[f"{ours}.skip_conv.weight"] = (f"{theirs}.conv1_1.weight",)
            for name in _BN:
                keys[f"{ours}.skip_bn.{name}"] = (f"{theirs}.bn1_1.{name}",)
    return keys


def _strip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the `module.` that DataParallel puts before every key."""
    return {key.removeprefix("module."): value for key, value in state.items()}


def is_released_state_dict(state: Mapping[str, Tensor]) -> bool:
    """True for a state dict with the release's key names (with or without `module.`)."""
    return any(key.startswith("gud_up_proj_layer") for key in _strip(state))


def dead_released_keys(state: Mapping[str, Tensor]) -> list[str]:
    """Return the released keys that nothing reads and that the conversion drops."""
    return [key for key in state if _DEAD.match(key.removeprefix("module."))]


def convert_released_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Map a published state dict to `build_model(...).load_state_dict(..., strict=True)`.

    Args:
        state: released key -> tensor; `module.` prefixes and dead layers are allowed.

    Returns:
        This project's key -> tensor for the network with CSPN (3x3) of the same architecture.

    Raises:
        ValueError: a key that the release does not have, or a decoder key that is missing.
    """
    live = {key: value for key, value in _strip(state).items() if not _DEAD.match(key)}
    converted = {f"encoder.{key}": value for key, value in live.items() if _ENCODER.match(key)}
    used = {key for key in live if _ENCODER.match(key)}
    for ours, theirs in _decoder_keys().items():
        missing = [key for key in theirs if key not in live]
        # Written before PyTorch 0.4.1: no batch counters, which nothing here depends on.
        if missing and ours.endswith("num_batches_tracked"):
            converted[ours] = torch.zeros((), dtype=torch.long)
            continue
        if missing:
            raise ValueError(f"the released state dict lacks {missing[0]}")
        tensors = [live[key] for key in theirs]
        used.update(theirs)
        if tensors[0].dim() == 0:
            converted[ours] = tensors[0]
        elif ours.endswith(("unpool_conv.weight", "heads.weight")):
            layouts = [to_convolution_layout(weight) for weight in tensors]
            converted[ours] = torch.cat(layouts, dim=1).contiguous()
        else:
            converted[ours] = torch.cat(tensors)
    unknown = sorted(live.keys() - used)
    if unknown:
        raise ValueError(
            f"the state dict has {len(unknown)} keys that the release does not: "
            + ", ".join(unknown[:3])
        )
    for key in list(converted):
        counter = key.removesuffix("running_mean") + "num_batches_tracked"
        if key.endswith("running_mean") and counter not in converted:
            converted[counter] = torch.zeros((), dtype=torch.long)
    return converted


def export_released_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of the network with a 3x3 CSPN under the release's live names.

    Raises:
        ValueError: the network has no released form (no 3x3 CSPN, filled input, expected error, or
            an encoder that was not published).
    """
    encoder = state.get("encoder.conv1_1.weight"), state.get("encoder.conv2.weight")
    if "decoder.error_head.weight" in state or any(
        weight is not None and weight.shape[index] not in allowed
        for weight, index, allowed in zip(encoder, (1, 0), ((4,), (512, 2048)), strict=True)
    ):
        raise ValueError(
            "only ResNet-18 and ResNet-50 with --depth_input sparse and without --confidence "
            "have a released form"
        )
    heads = state.get("decoder.heads.weight")
    if heads is None or heads.shape[1] != 9:
        raise ValueError(
            "only a network with a 3x3 CSPN has a released form (9 head channels), got "
            + ("none" if heads is None else str(heads.shape[1]))
        )
    exported = {
        key.removeprefix("encoder."): value
        for key, value in state.items()
        if key.startswith("encoder.")
    }
    for ours, theirs in _decoder_keys().items():
        value = state[ours]
        if value.dim() == 0:
            parts = [value] * len(theirs)
        elif ours == "decoder.heads.weight":
            parts = [to_convolution_layout(part) for part in value.split((1, 8), dim=1)]
        elif ours.endswith("unpool_conv.weight"):
            parts = [to_convolution_layout(part) for part in value.chunk(2, dim=1)]
        else:
            parts = value.chunk(len(theirs))
        exported.update(
            (key, part.clone().contiguous()) for key, part in zip(theirs, parts, strict=True)
        )
    return exported
