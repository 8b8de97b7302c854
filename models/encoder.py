"""ResNet encoder over RGB and sparse depth."""

from torch import Tensor, nn

from models.packing import Conv2d, conv_bn
from models.resnet import STEM_CHANNELS, residual_stages

# Channels at the end of the encoder. "resnet10_half" is not published: one basic block a stage
# (ResNet-10) and half the channels, for a network of 3 million parameters in all.
ENCODER_CHANNELS = {"resnet18": 512, "resnet50": 2048, "resnet10_half": 256}


class Encoder(nn.Module):
    """conv1_1, bn1, relu, maxpool, layer1..4, conv2, bn2: the release's encoder and its names.

    Deviation: `bn2` is not followed by a relu, as in the release; conv1_1 has other input channels
    than an image (RGB and sparse depth: 4) and is never loaded from ImageNet.
    """

    def __init__(self, arch: str, in_channels: int = 4):
        super().__init__()
        channels, stem = ENCODER_CHANNELS[arch], STEM_CHANNELS[arch]
        self.conv1_1 = Conv2d(in_channels, stem, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = residual_stages(arch)
        self.conv2 = Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        for conv in (self.conv1_1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], tuple[int, int]]:
        """Encode (B, in_channels, H, W).

        Returns:
            The bottleneck (B, C, H/32, W/32); the skips "skip4" (H/2, before bn1 and relu),
            "skip3" (layer1, H/4) and "skip2" (layer2, H/8); and the (height, width) of layer3's
            output (H/16). All sizes round up.
        """
        skip4 = self.conv1_1(x)
        # The release's relu comes before its pooling: the same values, of four times the pixels.
        skip3 = self.layer1(self.relu(self.maxpool(self.bn1(skip4))))
        skip2 = self.layer2(skip3)
        deep = self.layer3(skip2)
        bottleneck = conv_bn(self.conv2, self.bn2, self.layer4(deep))
        skips = {"skip4": skip4, "skip3": skip3, "skip2": skip2}
        return bottleneck, skips, tuple(deep.shape[-2:])
