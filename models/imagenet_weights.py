"""ImageNet weights for the encoder: a local file first, torchvision's download otherwise."""

from pathlib import Path

import torch
from torch import nn

PRETRAINED_DIR = Path(__file__).resolve().parent.parent / "pretrained"
# In an ImageNet ResNet but not in this encoder: the 3-channel stem and the classifier.
UNUSED = {"conv1.weight", "fc.weight", "fc.bias"}
# In this encoder but not in an ImageNet ResNet.
OURS = {"conv1_1.weight", "conv2.weight"} | {
    f"bn2.{name}"
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
}


class PretrainedError(ValueError):
    """ImageNet weights that cannot be had or do not fit; the message is one sentence."""


def load_imagenet_encoder(encoder: nn.Module, arch: str, folder: Path = PRETRAINED_DIR) -> str:
    """Fill bn1 and layer1..4 of `encoder` in place; conv1_1, conv2 and bn2 keep their start.

    Args:
        encoder: a `models.encoder.Encoder`.
        arch: one of `models.ARCHITECTURES`; torchvision has weights for "resnet18" and "resnet50".
        folder: looked in for `<arch>.pth`, a torchvision state dict.

    Returns:
        Where the weights came from, for the log.

    Raises:
        PretrainedError: no local file and no download, or not an ImageNet state dict of `arch`.
    """
    path = folder / f"{arch}.pth"
    if path.is_file():
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # a damaged file can make its reader fail in any way
            raise PretrainedError(f"{path} is not a readable state dict of tensors") from error
        source = str(path)
    else:
        import torchvision  # which takes seconds, see `models.resnet`

        if arch not in torchvision.models.list_models():
            raise PretrainedError(f"there are no ImageNet weights for {arch} (--no-pretrain)")
        weights = torchvision.models.get_model_weights(arch)["IMAGENET1K_V1"]
        try:
            state = weights.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise PretrainedError(
                f"no ImageNet weights for {arch}: {path} does not exist and downloading "
                f"{weights.url} failed; put the downloaded file there as {arch}.pth, or train "
                "without it (--no-pretrain)"
            ) from error
        source = weights.url

    if not isinstance(state, dict):
        raise PretrainedError(f"{source} holds a {type(state).__name__}, expected a state dict")
    state = {key: value for key, value in state.items() if key not in UNUSED}
    expected = encoder.state_dict()
    wrong = sorted((expected.keys() - OURS) ^ state.keys())
    wrong += [k for k in state.keys() & expected.keys() if state[k].shape != expected[k].shape]
    # Files older than PyTorch 0.4.1 lack the batch counters, which evaluation never reads.
    wrong = [key for key in wrong if key in state or not key.endswith("num_batches_tracked")]
    if wrong:
        raise PretrainedError(
            f"{source} does not hold ImageNet weights of {arch}: {len(wrong)} keys differ, "
            f"the first is {wrong[0]}"
        )
    encoder.load_state_dict(expected | state)
    return source
