"""Entry points of `torch.hub`: depth completion in two lines, with the network in pretrained/.

complete = torch.hub.load("OWNER/REPOSITORY", "predictor")
depth = complete(rgb, sparse_depth).depth   # (H, W, 3) uint8, (H, W) metres, 0 = none
"""

import sys
from pathlib import Path

# torch.hub takes the folder off the path again, and some modules are imported on first use.
sys.path.append(str(Path(__file__).resolve().parent))

dependencies = ["torch", "torchvision", "numpy", "PIL", "h5py", "safetensors", "scipy"]


def predictor(checkpoint: str | None = None, **options: object):
    """Return an `inference.predictor.Predictor`, which takes images of any size.

    Args:
        checkpoint: file or folder of a network; None is the one in pretrained/.
        options: of `Predictor.from_checkpoint`, such as device="cuda".
    """
    from engine.checkpoint import shipped_network
    from inference.predictor import Predictor

    return Predictor.from_checkpoint(checkpoint or shipped_network(), **options)


def network(pretrained: bool = True, **options: object):
    """Return the network alone, a `torch.nn.Module` in evaluation mode: (B, 4, H, W) of encoded RGB
    and sparse depth in metres, 0 = none -> (B, 1, H, W) metres.

    Args:
        pretrained: load the one in pretrained/; False builds one with random weights.
        options: of `models.build_model`, without `pretrained`.

    Raises:
        ValueError: options beside weights that decide them.
    """
    if pretrained and options:
        raise ValueError(f"the weights decide {', '.join(options)}; give pretrained=False")
    if pretrained:
        return predictor(device="cpu").model
    from models import build_model

    return build_model(**options).eval()
