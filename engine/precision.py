"""Speed options of training and evaluation: mixed precision, memory format, compilation, memory.

Under autocast the network's two heads and the propagation stay in float32 (`models.decoder`,
`cspn.propagation`), so metres never pass through 8 bits of mantissa.

On a CPU the C library hands large blocks back to the system at once and takes new ones in the next
step, which the system must fill with zeros, 4 KiB at a time. A network on ResNet-50 frees and takes
several gigabytes a step: up to half of the time went there (`keep_freed_memory`).
"""

import contextlib
import ctypes

import torch
from torch import nn

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(amp: str, device: torch.device) -> contextlib.AbstractContextManager:
    """Return the context of a forward pass under `--amp`; "off" leaves float32 alone."""
    dtype = AMP[amp]
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def prepare_device(device: torch.device, *, give_back_memory: bool) -> None:
    """Set up the device for images of one size in exact float32; see `keep_freed_memory`."""
    torch.backends.cudnn.benchmark = True  # cuDNN chooses its fastest convolutions
    use_exact_float32()
    if device.type == "cpu" and not give_back_memory:
        keep_freed_memory()


def use_exact_float32() -> None:
    """Have GPUs convolve float32 exactly, as in the release: by default recent ones round to TF32,
    whose 10 bits of mantissa hold 2 mm at 5 m."""
    torch.backends.cudnn.allow_tf32 = False


def gradient_scaler(amp: str, device: torch.device) -> torch.amp.GradScaler:
    """Return what scales the loss under float16, whose range gradients would leave; otherwise it
    does nothing."""
    return torch.amp.GradScaler(device.type, enabled=amp == "fp16")


def prepare(model: nn.Module, *, channels_last: bool, compile_model: bool) -> None:
    """Lay the weights out and compile in place, so that parameter names stay what they are."""
    if channels_last:
        model.to(memory_format=torch.channels_last)
    if compile_model:
        model.compile()


def keep_freed_memory() -> bool:
    """Let the C library keep what this process frees, from now on and in processes forked later.

    The process then stays as large as it was at its largest. Return whether the C library can: the
    GNU one does; with others nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # TypeError: Windows
        return False
    # No block of its own for large requests, and the heap never shrinks.
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
