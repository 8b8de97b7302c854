"""RGB and sparse depth in, dense depth out: encoder -> decoder -> CSPN (section 3.3, figure 3).

B batch, H W image. Any H and W from 32 up; the decoder's sizes follow the skips.
"""

from torch import Tensor, nn

from cspn import CSPN
from models.decoder import Decoder
from models.encoder import ENCODER_CHANNELS, Encoder
from models.imagenet_weights import load_imagenet_encoder
from models.spn import SPN

ARCHITECTURES = tuple(ENCODER_CHANNELS)
REFINEMENTS = ("cspn", "spn", "none")
MIN_SIZE = 32


class DepthCompletionNet(nn.Module):
    """The UNet, refined by `refinement` where one is given. Build it with `build_model`."""

    def __init__(self, arch: str, refinement: CSPN | SPN | None, unpool: str = "fused"):
        super().__init__()
        self.arch = arch
        self.encoder = Encoder(arch)
        guidance_channels = refinement.guidance_channels if refinement is not None else 0
        self.decoder = Decoder(arch, ENCODER_CHANNELS[arch], guidance_channels, unpool)
        self.refinement = refinement

    def forward(self, rgbd: Tensor) -> Tensor:
        """(B, 4, H, W): encoded RGB and sparse depth in metres, 0 = no measurement.

        Returns:
            (B, 1, H, W) depth in metres. It is a regression: nothing keeps it positive.

        Raises:
            ValueError: not four channels, or an image smaller than 32x32.
        """
        coarse_depth, guidance = self.coarse_depth_and_guidance(rgbd)
        if self.refinement is None:
            return coarse_depth
        return self.refinement(guidance, coarse_depth, rgbd[:, 3:4])

    def coarse_depth_and_guidance(self, rgbd: Tensor) -> tuple[Tensor, Tensor]:
        """What the UNet hands to the refinement: (B, 1, H, W) metres and the raw (B, K, H, W)
        guidance (K = 0 without one). Same input and errors as `forward`."""
        if rgbd.dim() != 4 or rgbd.shape[1] != 4:
            raise ValueError(f"rgbd must be (B, 4, H, W), got shape {tuple(rgbd.shape)}")
        size = tuple(rgbd.shape[-2:])
        if min(size) < MIN_SIZE:
            raise ValueError(f"the image must be at least {MIN_SIZE}x{MIN_SIZE}, got {size}")
        bottleneck, skips, deep_size = self.encoder(rgbd)
        return self.decoder(bottleneck, skips, deep_size, size)


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
) -> DepthCompletionNet:
    """Build a depth-completion network.

    Args:
        arch: "resnet50" (published for NYU) or "resnet18" (the community's for KITTI).
        cspn_steps, cspn_kernel_size, cspn_norm_type, cspn_anchor: see `cspn.CSPN`; the published
            values are 24, 3, "8sum" (or "8sum_abs") and "coarse".
        refine: True or "cspn"; "spn" for the scan-line baseline (`models.spn`); False or "none"
            for the UNet alone.
        unpool: "fused" (default), or the release's "fast" or "slow"; one result, one checkpoint.
        pretrained: start bn1 and layer1..4 from ImageNet weights (`pretrained/<arch>.pth`, else
            torchvision's download).

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
    model = DepthCompletionNet(arch, refinement, unpool)
    if pretrained:
        load_imagenet_encoder(model.encoder, arch)
    return model
