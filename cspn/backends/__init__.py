"""Fast implementations of the propagation; `cspn.propagation` lists them.

A backend of the operator `cspn::propagate` is a module with three functions:

    why_not(direction, *tensors)     "", or why "forward" or "backward" cannot run on these tensors
    forward(inputs)                  -> refined depth (B, C, H, W)
    backward(grad_refined, inputs)   -> gradients to guidance (B, K, H, W) and coarse (B, C, H, W)
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """What `cspn.propagate` has checked: tensors of one float dtype on one device."""

    guidance: Tensor  # (B, K, H, W)
    coarse: Tensor  # (B, C, H, W)
    sparse: Tensor | None  # (B, 1, H, W), measured where above 0
    steps: int  # from 1 up
    norm_type: str
    anchor: str

    def images(self, chosen: slice) -> "Inputs":
        """Return the inputs of some images of the batch."""
        sparse = None if self.sparse is None else self.sparse[chosen]
        return Inputs(self.guidance[chosen], self.coarse[chosen], sparse, *self[3:])


def failure(backend: str, device: torch.device, run: Callable[[Inputs, Tensor], object]) -> str:
    """Return how `run` fails on inputs of one pixel and a gradient, "" where it works; warn of it.

    Raises:
        MemoryError, torch.OutOfMemoryError: memory ran out, which means nothing for the next call.
    """
    try:
        pixel = torch.ones(1, 1, 1, 1, device=device)
        run(Inputs(pixel.expand(1, 8, 1, 1), pixel, pixel, 2, "8sum", "coarse"), pixel)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = f"{backend} fails on {device}: {error}"
        warnings.warn(f"propagating without {backend}: {reason}", stacklevel=2)
        return reason
    return ""
