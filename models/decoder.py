"""Up-projection decoder: four blocks, then the heads for coarse depth and guidance."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.packing import Conv2d, conv_bn
from models.unpool import UnpoolConv, unpool_bn_halves

# Output channels of blocks 1..4, and the channels of the skip joined in blocks 2..4.
DECODER_CHANNELS = {
    "resnet18": (256, 128, 64, 64),
    "resnet50": (1024, 512, 256, 64),
    "resnet10_half": (64, 32, 32, 32),
}
SKIP_CHANNELS = {
    "resnet18": (128, 64, 64),
    "resnet50": (512, 256, 64),
    "resnet10_half": (64, 32, 32),
}


class UpProjection(nn.Module):
    """Double a map: a convolved branch, joined by a skip, plus a convolved shortcut.

        u = unpool(x)
        a = relu(bn(conv5x5(u)));  a = relu(bn(conv3x3(cat(a, skip))));  a = bn(conv3x3(a))
        out = relu(a + bn(conv5x5'(u)))

    Both 5x5 convolutions read u, so they are one convolution (branch channels first, then the
    shortcut's) with one batch normalisation.
    """

    def __init__(self, in_channels: int, channels: int, skip_channels: int, unpool: str):
        super().__init__()
        self.unpool_conv = UnpoolConv(in_channels, 2 * channels, kernel_size=5, unpool=unpool)
        self.bn = nn.BatchNorm2d(2 * channels)
        self.joins_skip = skip_channels > 0
        if self.joins_skip:
            self.skip_conv = _conv3x3(channels + skip_channels, channels)
            self.skip_bn = nn.BatchNorm2d(channels)
        self.conv = _conv3x3(channels, channels)
        self.conv_bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, size: tuple[int, int], skip: Tensor | None = None) -> Tensor:
        """(B, I, h, w), a skip of (B, S, *size) where the block has one -> (B, C, *size)."""
        branch, shortcut = unpool_bn_halves(self.unpool_conv, self.bn, x, size)  # (B, C, H, W)
        if self.joins_skip:
            joined = relu_cat(branch, skip)
            branch = conv_bn(self.skip_conv, self.skip_bn, joined, relu=True)
        else:
            branch = F.relu(branch)  # not in place: backward of the shortcut shares its memory
        return conv_bn(self.conv, self.conv_bn, branch, add=shortcut, relu=True)


def relu_cat(x: Tensor, skip: Tensor) -> Tensor:
    """Return relu(x) (B, C, h, w) and `skip` (B, S, h, w) joined, (B, C + S, h, w)."""
    if x.requires_grad and skip.requires_grad and not torch.compiler.is_compiling():
        return _ReluCat.apply(x, skip)
    return torch.cat((F.relu(x), skip), dim=1)


class _ReluCat(torch.autograd.Function):
    """`relu_cat` whose backward pass reads the relu's result in what it returns, which the
    convolution after it keeps anyway; PyTorch's would keep it once more."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, skip: Tensor) -> Tensor:
        joined = torch.cat((x, skip), dim=1)
        joined[:, : x.shape[1]].relu_()
        return joined

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Tensor], joined: Tensor) -> None:
        ctx.channels = [x.shape[1] for x in inputs]
        ctx.save_for_backward(joined)
        ctx.save_for_forward(joined)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        of_x, of_skip = gradient.split(ctx.channels, dim=1)
        return _through_relu(ctx, of_x), of_skip

    @staticmethod
    def jvp(ctx, of_x: Tensor, of_skip: Tensor) -> Tensor:
        return torch.cat((_through_relu(ctx, of_x), of_skip), dim=1)


def _through_relu(ctx, gradient: Tensor) -> Tensor:
    (joined,) = ctx.saved_tensors
    return torch.ops.aten.threshold_backward(gradient, joined[:, : ctx.channels[0]], 0)


class Decoder(nn.Module):
    """Bottleneck and skips -> coarse depth and raw guidance at the input's size.

    Args:
        arch: a key of `DECODER_CHANNELS`.
        in_channels: channels of the bottleneck.
        guidance_channels: 8 for a 3x3 CSPN; 0 leaves the guidance head out.
        unpool: see `UnpoolConv`.
        estimates_error: adds the head `error_head`.
    """

    def __init__(
        self,
        arch: str,
        in_channels: int,
        guidance_channels: int,
        unpool: str,
        estimates_error: bool = False,
    ):
        super().__init__()
        # Deviation: blocks are cropped to the size of the encoder stage they mirror, but the
        # community's KITTI network computes block 1 on every column its unpooling makes (58 at
        # 228x912, where layer3 has 57); block 2 then crops. Its weights need the same.
        self.keeps_first_columns = arch == "resnet18"
        c1, c2, c3, c4 = DECODER_CHANNELS[arch]
        s2, s3, s4 = SKIP_CHANNELS[arch]
        self.up1 = UpProjection(in_channels, c1, 0, unpool)
        self.up2 = UpProjection(c1, c2, s2, unpool)
        self.up3 = UpProjection(c2, c3, s3, unpool)
        self.up4 = UpProjection(c3, c4, s4, unpool)
        # Both heads read the same map: channel 0 is the coarse depth, the rest the guidance.
        self.heads = UnpoolConv(c4, 1 + guidance_channels, kernel_size=3, unpool=unpool)
        self.error_head = (
            UnpoolConv(c4, 1, kernel_size=3, unpool=unpool) if estimates_error else None
        )

    def forward(
        self,
        bottleneck: Tensor,
        skips: dict[str, Tensor],
        deep_size: tuple[int, int],
        size: tuple[int, int],
        *,
        with_error: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Decode to `size`, `deep_size` being that of layer3's output.

        Returns:
            Coarse depth (B, 1, H, W) in metres, raw guidance (B, K, H, W), and what `error_head`
            gives (B, 1, H, W), None without it or without `with_error`.
        """
        if self.keeps_first_columns:
            deep_size = (deep_size[0], 2 * bottleneck.shape[-1])
        x = self.up1(bottleneck, deep_size)
        for block, name in ((self.up2, "skip2"), (self.up3, "skip3"), (self.up4, "skip4")):
            x = block(x, tuple(skips[name].shape[-2:]), skips[name])
        # Metres stay in float32: bfloat16 holds 2-3 cm at 5 m.
        with torch.autocast(device_type=x.device.type, enabled=False):
            x = x.to(self.heads.weight.dtype)
            out = self.heads(x, size)
            error = self.error_head(x, size) if with_error and self.error_head is not None else None
        # Not slices, whose gradients would each be as large as both together.
        depth, guidance = out.split((1, out.shape[1] - 1), dim=1)
        return depth, guidance, error


def _conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
