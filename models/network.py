"""RGB and sparse depth in, dense depth out: encoder -> decoder -> CSPN (section 3.3, figure 3).

B batch, H W image. Any H and W from 32 up; the decoder's sizes follow the skips.

What the encoder sees beside RGB is `depth_input`:
    "sparse" (published): the sparse depth as a channel; the network regresses metres.
    "filled": the sparse depth filled in (`models.fill`), its weight at the measurements, the
        correction and the distance to the measurements, all without a unit. The coarse depth is
        filled depth + s * head, s the mean measurement, so the result scales with the unit. It can
        also estimate its own error, as the scale b of a Laplace distribution per pixel.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cspn import CSPN
from models.decoder import Decoder
from models.encoder import ENCODER_CHANNELS, Encoder
from models.fill import LEVELS, Filled, fill_depth
from models.imagenet_weights import load_imagenet_encoder
from models.packing import release_packed
from models.spn import SPN

ARCHITECTURES = tuple(ENCODER_CHANNELS)
REFINEMENTS = ("cspn", "spn", "none")
DEPTH_INPUTS = ("sparse", "filled")
INPUT_CHANNELS = {"sparse": 4, "filled": 7}
MIN_SIZE = 32
# Before training, the error is taken to be e^-3 = 5 % of the mean depth; and its logarithm's range.
LOG_ERROR, LOG_ERROR_RANGE = -3.0, (-9.0, 2.0)


class Estimate(NamedTuple):
    """What the UNet says before the refinement.

    coarse_depth: (B, 1, H, W) metres. guidance: raw (B, K, H, W), K = 0 without a refinement.
    error: (B, 1, H, W) expected absolute error of the refined depth in metres, None where the
        network does not estimate it.
    """

    coarse_depth: Tensor
    guidance: Tensor
    error: Tensor | None


class DepthCompletionNet(nn.Module):
    """The UNet, refined by `refinement` where one is given. Build it with `build_model`."""

    def __init__(
        self,
        arch: str,
        refinement: CSPN | SPN | None,
        unpool: str = "fused",
        depth_input: str = "sparse",
        confidence: bool = False,
    ):
        super().__init__()
        self.arch = arch
        self.depth_input = depth_input
        self.encoder = Encoder(arch, INPUT_CHANNELS[depth_input])
        guidance_channels = refinement.guidance_channels if refinement is not None else 0
        self.decoder = Decoder(
            arch, ENCODER_CHANNELS[arch], guidance_channels, unpool, estimates_error=confidence
        )
        if depth_input == "filled":
            nn.init.zeros_(
                self.decoder.heads.weight.data[:, 0]
            )  # training starts from the filled depth
        self.refinement = refinement
        if confidence:
            self.register_buffer("log_error_offset", torch.zeros(()))  # set by `tools.share`

    def train(self, mode: bool = True) -> "DepthCompletionNet":
        """Switch to training, which needs the memory of packed weights, or to evaluation."""
        if mode:
            release_packed(self)
        return super().train(mode)

    @property
    def estimates_error(self) -> bool:
        """Whether the network estimates its own error (`build_model(confidence=True)`)."""
        return self.decoder.error_head is not None

    def forward(
        self, rgbd: Tensor, *, with_error: bool = False
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """(B, 4, H, W): encoded RGB and sparse depth in metres, 0 = no measurement.

        Returns:
            (B, 1, H, W) depth in metres. It is a regression: nothing keeps it positive. With
            `with_error` also the expected absolute error (B, 1, H, W) in metres, None where the
            network does not estimate it. A "filled" network takes and gives any unit of depth.

        Raises:
            ValueError: not four channels, or an image smaller than 32x32.
        """
        coarse_depth, guidance, error = self.estimate(rgbd, with_error=with_error)
        depth = coarse_depth
        if self.refinement is not None:
            depth = self.refinement(guidance, coarse_depth, rgbd[:, 3:4])
        return (depth, error) if with_error else depth

    def coarse_depth_and_guidance(self, rgbd: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the UNet hands to the refinement: (B, 1, H, W) metres and the raw
        (B, K, H, W) guidance (K = 0 without one). Same input and errors as `forward`."""
        return self.estimate(rgbd, with_error=False)[:2]

    def estimate(self, rgbd: Tensor, *, with_error: bool = True) -> Estimate:
        """Return the UNet's outputs, its error only where asked. Same input and errors as
        `forward`."""
        if rgbd.dim() != 4 or rgbd.shape[1] != 4:
            raise ValueError(f"rgbd must be (B, 4, H, W), got shape {tuple(rgbd.shape)}")
        size = tuple(rgbd.shape[-2:])
        if min(size) < MIN_SIZE:
            raise ValueError(f"the image must be at least {MIN_SIZE}x{MIN_SIZE}, got {size}")
        filled = fill_depth(rgbd[:, 3:4]) if self.depth_input == "filled" else None
        x = _encoder_input(rgbd, filled)
        if self.training and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # The library convolves in NHWC there and would lay out every map before and after.
            x = x.contiguous(memory_format=torch.channels_last)
        bottleneck, skips, deep_size = self.encoder(x)
        depth, guidance, log_error = self.decoder(
            bottleneck, skips, deep_size, size, with_error=with_error
        )
        error = None
        if log_error is not None:
            log_error = (LOG_ERROR + log_error).clamp(*LOG_ERROR_RANGE)
            error = torch.exp(log_error + self.log_error_offset)  # of the scale
        if filled is not None:
            depth = filled.depth + filled.scale * depth
            error = filled.scale * error if error is not None else None
        return Estimate(depth, guidance, error)


def _encoder_input(rgbd: Tensor, filled: Filled | None) -> Tensor:
    """`rgbd` itself, or with its depth filled (B, 7, H, W), which has no unit."""
    if filled is None:
        return rgbd
    relative = filled.depth / filled.scale, filled.weight, filled.correction / filled.scale
    return torch.cat((rgbd[:, :3], *relative, filled.log_distance / LEVELS), dim=1)


def build_model(
    arch: str = "resnet50",
    *,
    cspn_steps: int = 24,
    cspn_kernel_size: int = 3,
    cspn_norm_type: str = "8sum",
    cspn_anchor: str = "coarse",
    refine: bool | str = True,
    unpool: str = "fused",
    pretrained: bool = False,
    depth_input: str = "sparse",
    confidence: bool = False,
) -> DepthCompletionNet:
    """Build a depth-completion network.

    Args:
        arch: "resnet50" (published for NYU), "resnet18" (the community's for KITTI), or the compact
            "resnet10_half" (`models.encoder`).
        cspn_steps, cspn_kernel_size, cspn_norm_type, cspn_anchor: see `cspn.CSPN`; the published
            values are 24, 3, "8sum" (or "8sum_abs") and "coarse".
        refine: True or "cspn"; "spn" for the scan-line baseline (`models.spn`); False or "none"
            for the UNet alone.
        unpool: "fused" (default), or the release's "fast" or "slow"; one result, one checkpoint.
        pretrained: start bn1 and layer1..4 from ImageNet weights (`pretrained/<arch>.pth`, else
            torchvision's download).
        depth_input: "sparse" (published) or "filled"; see the module.
        confidence: estimate the error of each pixel too.

    Raises:
        ValueError: an option that does not exist.
        PretrainedError: ImageNet weights were asked for and cannot be had (a ValueError).
    """
    if arch not in ARCHITECTURES:
        raise ValueError(f"arch must be one of {', '.join(ARCHITECTURES)}, got {arch!r}")
    refine = {True: "cspn", False: "none"}.get(refine, refine)
    if refine not in REFINEMENTS:
        raise ValueError(f"refine must be one of {', '.join(REFINEMENTS)}, got {refine!r}")
    refinement = None
    if refine == "cspn":
        refinement = CSPN(cspn_steps, cspn_kernel_size, cspn_norm_type, cspn_anchor)
    elif refine == "spn":
        refinement = SPN(cspn_anchor)
    if depth_input not in DEPTH_INPUTS:
        raise ValueError(
            f"depth_input must be one of {', '.join(DEPTH_INPUTS)}, got {depth_input!r}"
        )
    model = DepthCompletionNet(arch, refinement, unpool, depth_input, confidence)
    if pretrained:
        load_imagenet_encoder(model.encoder, arch)
    return model
