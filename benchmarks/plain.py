"""The published formulation written out plainly: what the benchmarks measure this project against.

Our own writing of what the release computes and stores, operation by operation: eight padded
copies stacked at every step, unpooling before each 5x5 convolution, PIL transforms one by one.
Nothing outside `benchmarks/` uses it.
"""

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as TF

from models.decoder import DECODER_CHANNELS, SKIP_CHANNELS
from models.encoder import ENCODER_CHANNELS, Encoder

# (left, right, top, bottom) paddings that move a map so that pixel p reads its neighbour o_k in
# the enlarged (H + 2, W + 2) frame.
PADDINGS = [
    (0, 2, 0, 2),
    (1, 1, 0, 2),
    (2, 0, 0, 2),
    (0, 2, 1, 1),
    (2, 0, 1, 1),
    (0, 2, 2, 0),
    (1, 1, 2, 0),
    (2, 0, 2, 0),
]


def propagate_plain(
    guidance: Tensor, coarse_depth: Tensor, sparse_depth: Tensor, steps: int = 24
) -> Tensor:
    """`8sum` propagation, coarse anchor: (B, 8, H, W), (B, 1, H, W) x 2 -> (B, 1, H, W)."""
    gates = torch.stack(
        [F.pad(guidance[:, k : k + 1], pad) for k, pad in enumerate(PADDINGS)], dim=1
    )  # (B, 8, 1, H + 2, W + 2)
    weights = gates / gates.abs().sum(dim=1, keepdim=True)
    total = weights.sum(dim=1)[:, :, 1:-1, 1:-1]
    mask = sparse_depth.sign()
    # The release sums with a convolution, whose constant kernel even stands in its checkpoints.
    ones = guidance.new_ones(1, 8, 1, 1, 1)
    depth = coarse_depth
    for _ in range(steps):
        shifted = torch.stack([F.pad(depth, pad) for pad in PADDINGS], dim=1)
        neighbours = F.conv3d(weights * shifted, ones)[:, 0, :, 1:-1, 1:-1]
        depth = (1 - total) * coarse_depth + neighbours
        depth = (1 - mask) * depth + mask * coarse_depth
    return depth


def unpool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Zero insertion by a fixed transposed convolution, cropped to `size`."""
    kernel = torch.zeros(x.shape[1], 1, 2, 2, dtype=x.dtype, device=x.device)
    kernel[:, :, 0, 0] = 1
    return F.conv_transpose2d(x, kernel, stride=2, groups=x.shape[1])[..., : size[0], : size[1]]


class PlainUpProjection(nn.Module):
    """Unpool, then two separate 5x5 convolutions, each with its batch normalisation."""

    def __init__(self, in_channels: int, channels: int, skip_channels: int):
        super().__init__()
        conv = {"bias": False}
        self.conv1 = nn.Conv2d(in_channels, channels, 5, padding=2, **conv)
        self.bn1 = nn.BatchNorm2d(channels)
        if skip_channels:
            self.conv1_1 = nn.Conv2d(channels + skip_channels, channels, 3, padding=1, **conv)
            self.bn1_1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, **conv)
        self.bn2 = nn.BatchNorm2d(channels)
        self.sc_conv1 = nn.Conv2d(in_channels, channels, 5, padding=2, **conv)
        self.sc_bn1 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, size: tuple[int, int], skip: Tensor | None = None) -> Tensor:
        """(B, I, h, w) -> (B, C, *size)."""
        x = unpool(x, size)
        out = F.relu(self.bn1(self.conv1(x)))
        if skip is not None:
            out = F.relu(self.bn1_1(self.conv1_1(torch.cat((out, skip), dim=1))))
        return F.relu(self.bn2(self.conv2(out)) + self.sc_bn1(self.sc_conv1(x)))


class PlainNetwork(nn.Module):
    """The published network, dead layers left out, with the released parameter names."""

    def __init__(self, arch: str):
        super().__init__()
        encoder = Encoder(arch)
        for name, module in encoder.named_children():
            self.add_module(name, module)
        widths = (ENCODER_CHANNELS[arch], *DECODER_CHANNELS[arch])
        skips = (0, *SKIP_CHANNELS[arch])
        for i in range(4):
            block = PlainUpProjection(widths[i], widths[i + 1], skips[i])
            self.add_module(f"gud_up_proj_layer{i + 1}", block)
        for i, channels in ((5, 1), (6, 8)):
            head = nn.Module()
            head.conv1 = nn.Conv2d(widths[4], channels, 3, padding=1, bias=False)
            self.add_module(f"gud_up_proj_layer{i}", head)

    def forward(self, rgbd: Tensor) -> Tensor:
        """(B, 4, H, W) -> (B, 1, H, W) metres."""
        bottleneck, skips, deep_size = Encoder.forward(self, rgbd)
        x = self.gud_up_proj_layer1(bottleneck, deep_size)
        for i, name in ((2, "skip2"), (3, "skip3"), (4, "skip4")):
            block = getattr(self, f"gud_up_proj_layer{i}")
            x = block(x, tuple(skips[name].shape[-2:]), skips[name])
        size = tuple(rgbd.shape[-2:])
        coarse_depth = self.gud_up_proj_layer5.conv1(unpool(x, size))
        guidance = self.gud_up_proj_layer6.conv1(unpool(x, size))
        return propagate_plain(guidance, coarse_depth, rgbd[:, 3:4])


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def training_item_plain(
    rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator, n_sample: int = 500
) -> tuple[Tensor, Tensor]:
    """One NYU training sample by PIL and torchvision transforms: rgbd (4, h, w), depth (1, h, w).

    Args:
        rgb: (3, H, W) uint8. depth: (H, W) float32 metres, 0 = no measurement.
    """
    scale, degrees = rng.uniform(1.0, 1.5), rng.uniform(-5.0, 5.0)
    image = Image.fromarray(rgb.transpose(1, 2, 0).copy())
    depth_image = Image.fromarray(depth)
    image, depth_image = (TF.resize(im, int(240 * scale)) for im in (image, depth_image))
    image, depth_image = (TF.rotate(im, degrees) for im in (image, depth_image))
    image = torchvision.transforms.ColorJitter(0.4, 0.4, 0.4)(image)
    image, depth_image = (TF.center_crop(im, (228, 304)) for im in (image, depth_image))
    normalized = TF.normalize(TF.to_tensor(image), _MEAN, _STD)
    image = TF.to_pil_image(normalized)
    if rng.random() < 0.5:
        image, depth_image = TF.hflip(image), TF.hflip(depth_image)
    depth_map = torch.from_numpy(np.array(depth_image) / np.float32(scale))[None]
    mask = np.random.default_rng(rng.integers(2**31)).random(depth_map.shape)
    sparse_depth = depth_map * torch.from_numpy(mask < n_sample / depth_map.numel())
    return torch.cat((TF.to_tensor(image), sparse_depth)), depth_map
