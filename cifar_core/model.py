"""ResNet-C, the seed's customized ResNet for 32×32 images."""

import torch
from torch import Tensor, nn

POOLED_SIDE = 4  # 32 halved by layers 1 to 3


class ConvBlock(nn.Sequential):
    """3×3 convolution, optional 2×2 max pool, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, pool: bool = False) -> None:
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
        if pool:
            layers.append(nn.MaxPool2d(2))
        super().__init__(*layers, nn.BatchNorm2d(outputs), nn.ReLU())


class Residual(nn.Module):
    """The input plus two convolution blocks of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(ConvBlock(channels, channels), ConvBlock(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        out: Tensor = x + self.block(x)
        return out


class ResNetC(nn.Module):
    """The network: 6,573,120 parameters at `width_multiplier` 1 and 10 classes, no biases but BatchNorm's.

    Args:
        width_multiplier: scales the channels 64, 128, 256, 512; each is at least 1.
        classes: outputs of the head.
        head_scale: factor on the head's initial weights. Below 1 the first outputs are nearly uniform, which
            keeps narrow networks with few steps off the plateau at chance level; 1 is the recipe.
    """

    def __init__(self, width_multiplier: float = 1.0, classes: int = 10, head_scale: float = 1.0) -> None:
        super().__init__()
        prep, one, two, three = (max(1, round(width_multiplier * base)) for base in (64, 128, 256, 512))
        self.prep = ConvBlock(3, prep)
        self.layer1 = nn.Sequential(ConvBlock(prep, one, pool=True), Residual(one))
        self.layer2 = ConvBlock(one, two, pool=True)
        self.layer3 = nn.Sequential(ConvBlock(two, three, pool=True), Residual(three))
        self.pool = nn.MaxPool2d(POOLED_SIDE)
        self.head = nn.Conv2d(three, classes, 1, bias=False)
        with torch.no_grad():
            self.head.weight.mul_(head_scale)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, 32, 32) to logits (B, classes)."""
        features = self.layer3(self.layer2(self.layer1(self.prep(images))))
        logits: Tensor = self.head(self.pool(features)).flatten(1)
        return logits


class MirrorAveraged(nn.Module):
    """A network's mean logits of an image and its mirror image: test-time augmentation."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, 32, 32) to logits (B, classes)."""
        logits: Tensor = (self.model(images) + self.model(images.flip(3))) / 2
        return logits
