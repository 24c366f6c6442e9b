"""The ResNet-18 of torchvision for small images: 3×3 first, with stride 1, and no pooling.

As the ResNets for CIFAR in K. He et al., "Deep Residual Learning for Image
Recognition", 2015, 4.2, begin.
"""

import torch
from torch import nn

from core.training.layers import ChannelsFirst, ImageShape, Normalize, named


def build(image_shape: ImageShape, classes: int) -> nn.Module:
    """Build the network with a first layer for the channels of the images."""
    from torchvision.models import resnet18  # takes two seconds

    network = resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(image_shape[2], 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return named(
        normalize=Normalize(image_shape[2]), channels_first=ChannelsFirst(), network=network
    ).to(memory_format=torch.channels_last)
