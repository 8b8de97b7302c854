"""The residual stages of a ResNet, with torchvision's arithmetic and names of parameters.

Written here because importing torchvision takes longer than a prediction: it imports PyTorch's
compiler with it. Its ImageNet weights load into these stages (`models.imagenet_weights`).
"""

from torch import Tensor, nn

from models.packing import Conv2d, conv_bn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (ResNet-18): (B, I, h, w) -> (B, C, h/s, w/s)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output; shapes as of the class."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = conv_bn(self.conv1, self.bn1, x, relu=True)
        return conv_bn(self.conv2, self.bn2, x, add=shortcut, relu=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (ResNet-50), the stride in the 3x3 one as in
    torchvision: (B, I, h, w) -> (B, 4C, h/s, w/s)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1):
        super().__init__()
        out_channels = self.expansion * channels
        self.conv1 = Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output; shapes as of the class."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = conv_bn(self.conv1, self.bn1, x, relu=True)
        x = conv_bn(self.conv2, self.bn2, x, relu=True)
        return conv_bn(self.conv3, self.bn3, x, add=shortcut, relu=True)


# Architecture -> its block and how many of them there are in each of the four stages.
BLOCKS = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet10_half": (BasicBlock, (1, 1, 1, 1)),
}
# Channels before the first stage, and in its blocks; they double from stage to stage.
STEM_CHANNELS = {"resnet18": 64, "resnet50": 64, "resnet10_half": 32}


def residual_stages(arch: str) -> list[nn.Module]:
    """Return layer1..4 of a ResNet; each but the first halves the map in its first block."""
    block, counts = BLOCKS[arch]
    stages, in_channels = [], STEM_CHANNELS[arch]
    for n, count in enumerate(counts):
        channels, stride = STEM_CHANNELS[arch] * 2**n, 2 if n else 1
        blocks = [block(in_channels, channels, stride)]
        in_channels = block.expansion * channels
        blocks += [block(in_channels, channels) for _ in range(count - 1)]
        stages.append(nn.Sequential(*blocks))
        for module in stages[-1].modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return stages


class Shortcut(nn.Sequential):
    """A convolution and its batch normalisation: (B, I, h, w) -> (B, C, h/s, w/s)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the map that is added to the block's."""
        return conv_bn(self[0], self[1], x)


def _shortcut(in_channels: int, channels: int, stride: int) -> Shortcut | None:
    """Return the 1x1 convolution of a shortcut, None where the block keeps its input's shape."""
    if stride == 1 and in_channels == channels:
        return None
    conv = Conv2d(in_channels, channels, 1, stride, bias=False)
    return Shortcut(conv, nn.BatchNorm2d(channels))
