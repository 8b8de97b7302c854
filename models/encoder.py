"""ResNet encoder over RGB and sparse depth, with torchvision's residual stages."""

from types import SimpleNamespace

from torch import Tensor, nn

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
        resnet = _residual_stages(arch)
        channels, stem = ENCODER_CHANNELS[arch], resnet.bn1.num_features
        self.conv1_1 = nn.Conv2d(in_channels, stem, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = resnet.bn1
        self.relu = resnet.relu
        self.maxpool = resnet.maxpool
        self.layer1 = resnet.layer1
        self.layer2 = resnet.layer2
        self.layer3 = resnet.layer3
        self.layer4 = resnet.layer4
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
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
        skip3 = self.layer1(self.maxpool(self.relu(self.bn1(skip4))))
        skip2 = self.layer2(skip3)
        deep = self.layer3(skip2)
        bottleneck = self.bn2(self.conv2(self.layer4(deep)))
        skips = {"skip4": skip4, "skip3": skip3, "skip2": skip2}
        return bottleneck, skips, tuple(deep.shape[-2:])


def _residual_stages(arch: str) -> nn.Module | SimpleNamespace:
    """Return an object with bn1, relu, maxpool and layer1..4."""
    # Half of all that this project imports, which commands without a network do not wait for.
    import torchvision
    from torchvision.models.resnet import BasicBlock

    if arch != "resnet10_half":
        return torchvision.models.get_model(arch, weights=None)

    def halve(channels: int) -> BasicBlock:
        shortcut = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, kernel_size=1, stride=2, bias=False),
            nn.BatchNorm2d(2 * channels),
        )
        return BasicBlock(channels, 2 * channels, stride=2, downsample=shortcut)

    stages = SimpleNamespace(
        bn1=nn.BatchNorm2d(32),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        layer1=BasicBlock(32, 32),
        layer2=halve(32),
        layer3=halve(64),
        layer4=halve(128),
    )
    for module in vars(stages).values():
        for conv in module.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return stages
