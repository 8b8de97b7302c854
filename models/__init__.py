"""The depth-completion networks: ResNet encoder, up-projection decoder, CSPN refinement."""

from models.imagenet_weights import PretrainedError
from models.network import ARCHITECTURES, DEPTH_INPUTS, REFINEMENTS, DepthCompletionNet, build_model
from models.packing import release_packed
from models.released_weights import (
    convert_released_state_dict,
    dead_released_keys,
    export_released_state_dict,
    is_released_state_dict,
)
from models.unpool import UNPOOLS

__all__ = [
    "ARCHITECTURES",
    "DEPTH_INPUTS",
    "REFINEMENTS",
    "UNPOOLS",
    "DepthCompletionNet",
    "PretrainedError",
    "build_model",
    "convert_released_state_dict",
    "dead_released_keys",
    "export_released_state_dict",
    "is_released_state_dict",
    "release_packed",
]
