"""The rule that made the weights behind the golden network outputs."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"


def released_shapes(arch: str) -> dict[str, list[int]]:
    """Released key -> shape."""
    return json.loads((GOLDEN / f"released_state_dict_{arch}.json").read_text())


def golden_state_dict(arch: str, *, dead: bool = False) -> dict[str, torch.Tensor]:
    """A released state dict filled by the rule; the layers nothing reads only with `dead`."""
    state = {}
    for key, shape in released_shapes(arch).items():
        if not dead and key.startswith(("up_proj_layer", "conv3", "post_process_layer")):
            continue
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
            continue
        rng = np.random.default_rng(zlib.crc32(f"1/{key}".encode()))
        x = rng.standard_normal(shape, dtype=np.float32)
        if x.ndim == 4:
            x *= np.float32(np.sqrt(1 / np.prod(shape[1:])))
        elif key.endswith("running_var"):
            x = np.exp(0.2 * x)
        elif key.endswith("weight"):
            x = 1 + 0.1 * x
        else:
            x = 0.1 * x
        state[key] = torch.from_numpy(x.astype(np.float32))
    return state
