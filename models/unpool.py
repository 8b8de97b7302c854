"""Zero-insertion unpooling followed by a convolution, in three ways that give one result.

Unpooling doubles a map: the value goes to the top left of each 2x2 cell, zeros elsewhere, then
the bottom and right are cropped to the size of the skip connection. Three quarters of what the
convolution after it multiplies are those zeros. The identity used here (exact, not approximate):

    conv(unpool(x), weight) == conv_transpose(x, weight', stride 2), cropped

with weight' = weight flipped in both axes and its channel axes exchanged. The crop may come last
where it removes one row or column, which is zeros; values beyond it are cropped before.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.packing import can_fold, packed_weight

UNPOOLS = ("fused", "fast", "slow")


class UnpoolConv(nn.Module):
    """x2 unpooling and an odd-sized convolution without bias, (B, I, h, w) -> (B, O, H, W).

    The weight is stored in the transposed layout (I, O, k, k): laying it out again at every call
    would cost more than the fused form saves. All three modes read this one weight.

    Args:
        in_channels, out_channels: I and O.
        kernel_size: odd; 5 in the up-projections, 3 in the heads.
        unpool: "fused" one transposed convolution; "fast" the release's fixed transposed
            convolution for the unpooling, then the convolution; "slow" its loop over pixels.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, unpool: str = "fused"
    ):
        super().__init__()
        if unpool not in UNPOOLS:
            raise ValueError(f"unpool must be one of {', '.join(UNPOOLS)}, got {unpool!r}")
        self.unpool = unpool
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels, kernel_size, kernel_size))
        # He initialisation for the taps that do not meet a zero: one in four.
        nn.init.normal_(self.weight, std=(2 / (in_channels * kernel_size**2 / 4)) ** 0.5)

    out_axis = 1  # of the weight

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, I, h, w) to (B, O, *size), `size` = (H, W) being at most (2h, 2w)."""
        height, width = size
        x = _crop(x, (height + 1) // 2, (width + 1) // 2)
        if self.unpool == "fused":
            packed = packed_weight(self, None, x)
            doubled = self.conv_transpose(x) if packed is None else self.convolve(x, *packed)
            return _crop(doubled, height, width)
        unpooled = unpool_fast(x) if self.unpool == "fast" else unpool_slow(x)
        weight, padding = to_convolution_layout(self.weight), self.weight.shape[-1] // 2
        return F.conv2d(_crop(unpooled, height, width), weight, padding=padding)

    def conv_transpose(self, x: Tensor) -> Tensor:
        """Return the fused form before the crop, (B, I, h, w) -> (B, O, 2h, 2w)."""
        padding = self.weight.shape[-1] // 2
        return F.conv_transpose2d(x, self.weight, stride=2, padding=padding, output_padding=1)

    def geometry(self) -> tuple:
        """Return padding, output padding, stride, dilation and groups of the transposed
        convolution, as the library's functions take them."""
        padding = self.weight.shape[-1] // 2
        return (padding, padding), (1, 1), (2, 2), (1, 1), 1

    def pack(self, weight: Tensor, size: torch.Size) -> Tensor:
        """Return `weight` laid out for an input of `size` (B, I, h, w)."""
        reorder = torch.ops.mkldnn._reorder_convolution_transpose_weight
        return reorder(weight, *self.geometry(), size)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the fused form with a packed weight, before the crop."""
        convolve = torch.ops.mkldnn._convolution_transpose_pointwise
        return convolve(x.to(weight.dtype), weight, bias, *self.geometry(), "none", [], "")

    def extra_repr(self) -> str:
        in_channels, out_channels, kernel_size, _ = self.weight.shape
        return f"{in_channels}, {out_channels}, kernel_size={kernel_size}, unpool={self.unpool!r}"


def unpool_bn_halves(
    unpool: UnpoolConv, bn: nn.Module, x: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return the two halves of the channels of bn(unpool(x, size)), (B, O / 2, *size) each. Where
    the normalisation can be folded into packed weights each is a map of its own, which saves what
    follows from gathering it."""
    if type(unpool) is UnpoolConv and unpool.unpool == "fused" and can_fold(unpool, bn):
        cropped = _crop(x, (size[0] + 1) // 2, (size[1] + 1) // 2)
        halves = [packed_weight(unpool, bn, cropped, part, parts=2) for part in range(2)]
        if None not in halves:
            first, second = (_crop(unpool.convolve(cropped, *half), *size) for half in halves)
            return first, second
    return bn(unpool(x, size)).chunk(2, dim=1)


def _crop(x: Tensor, height: int, width: int) -> Tensor:
    """The top left (..., height, width) of x, which is at least that large. Unlike a slice,
    `narrow` states the result's size, which keeps sizes free in an exported network; its backward
    pass writes the whole map twice, so that it is left out where there is nothing to crop."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return x.narrow(-2, 0, height).narrow(-1, 0, width)
    in_nhwc = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    cropped = x
    for axis, size in ((-2, height), (-1, width)):
        if x.shape[axis] != size:
            cropped = cropped.narrow(axis, 0, size)
    # In NHWC, batch normalisation takes ten times as long where rows or columns are left out.
    gathers = in_nhwc and x.requires_grad
    return cropped.contiguous(memory_format=torch.channels_last) if gathers else cropped


def to_convolution_layout(weight: Tensor) -> Tensor:
    """Transposed layout (I, O, k, k) to convolution layout (O, I, k, k), or the other way."""
    return weight.flip(2, 3).transpose(0, 1)


def unpool_fast(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, 2h, 2w) as a depthwise transposed convolution with a fixed kernel."""
    kernel = x.new_zeros(x.shape[1], 1, 2, 2)
    kernel[:, :, 0, 0] = 1
    return F.conv_transpose2d(x, kernel, stride=2, groups=x.shape[1])


def unpool_slow(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, 2h, 2w), one pixel at a time: the definition."""
    batch, channels, height, width = x.shape
    unpooled = x.new_zeros(batch, channels, 2 * height, 2 * width)
    for i in range(height):
        for j in range(width):
            unpooled[:, :, 2 * i, 2 * j] = x[:, :, i, j]
    return unpooled
