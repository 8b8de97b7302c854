"""Speed options of training and evaluation: mixed precision, memory format, compilation.

Under autocast the network's two heads and the propagation stay in float32 (`models.decoder`,
`cspn.propagation`), so metres never pass through 8 bits of mantissa.
"""

import contextlib

import torch
from torch import nn

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(amp: str, device: torch.device) -> contextlib.AbstractContextManager:
    """The context of a forward pass under `--amp`; "off" leaves float32 alone."""
    dtype = AMP[amp]
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def use_exact_float32() -> None:
    """Convolutions of float32 on a GPU in float32, as the release computed them: by default recent
    GPUs round their inputs to TF32, whose 10 bits of mantissa hold 2 mm at 5 m."""
    torch.backends.cudnn.allow_tf32 = False


def gradient_scaler(amp: str, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss for float16, whose range gradients would leave; does nothing otherwise."""
    return torch.amp.GradScaler(device.type, enabled=amp == "fp16")


def prepare(model: nn.Module, *, channels_last: bool, compile_model: bool) -> None:
    """Lay the weights out and compile in place, so that parameter names stay what they are."""
    if channels_last:
        model.to(memory_format=torch.channels_last)
    if compile_model:
        model.compile()
