"""The architectures: a list of functions, each of which builds one.

Every model takes images as they lie on disk, uint8 (B, H, W, C), and returns
logits, float32 (B, classes). What turns bytes into floats is its first layer,
`normalize`, so that training, evaluation and prediction can not differ in it.

To add an architecture: write its function here, add its line to
`ARCHITECTURES`, and its name to `ModelParams` in core/pipeline/params.py.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from core.pipeline.params import ModelParams
from core.training.layers import ChannelsFirst, Dropout, Normalize, ReLU

ImageShape = tuple[int, int, int]  # H, W, C


class LogisticRegression(nn.Module):
    """One linear layer on the pixels."""

    def __init__(self, image_shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.normalize = Normalize(image_shape[2])
        self.linear = nn.Linear(math.prod(image_shape), classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Args:
            images: uint8 (B, H, W, C).

        Returns:
            float32 (B, classes).
        """
        pixels = self.normalize(images).flatten(1)  # (B, H * W * C)
        # The linear layer done the other way round, as W xᵀ: faster than x Wᵀ.
        return torch.addmm(self.linear.bias[:, None], self.linear.weight, pixels.T).T


def logistic_regression(shape: ImageShape, classes: int, settings: ModelParams) -> nn.Module:
    """One linear layer on the pixels."""
    return LogisticRegression(shape, classes)


def mlp(shape: ImageShape, classes: int, settings: ModelParams) -> nn.Module:
    """Hidden layers of `settings.mlp.hidden_sizes`, each with ReLU and dropout."""
    sizes = [math.prod(shape), *settings.mlp.hidden_sizes]
    hidden = [
        layer
        for inputs, outputs in pairwise(sizes)
        for layer in (nn.Linear(inputs, outputs), ReLU(), Dropout(settings.mlp.dropout))
    ]
    return _named(
        normalize=Normalize(shape[2]),
        flatten=nn.Flatten(),
        hidden=nn.Sequential(*hidden),
        linear=nn.Linear(sizes[-1], classes),
    )


def cnn(shape: ImageShape, classes: int, settings: ModelParams) -> nn.Module:
    """Blocks of 3×3 convolutions with batch normalization, halved in between by max-pooling."""
    height, width, channels = shape
    blocks: list[nn.Module] = []
    for number, block in enumerate(settings.cnn.channels, start=1):
        for outputs in block:
            convolution = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
            blocks += [convolution, nn.BatchNorm2d(outputs), ReLU()]
            channels = outputs
        if number < len(settings.cnn.channels):
            # Before the normalization, which then has a quarter of the work.
            blocks.insert(-2, nn.MaxPool2d(2, ceil_mode=True))
            height, width = math.ceil(height / 2), math.ceil(width / 2)
    return _named(
        normalize=Normalize(shape[2]),
        channels_first=ChannelsFirst(),
        blocks=nn.Sequential(*blocks),
        flatten=nn.Flatten(),
        dropout=Dropout(settings.cnn.dropout),
        linear=nn.Linear(channels * height * width, classes),
    ).to(memory_format=torch.channels_last)


def resnet18(shape: ImageShape, classes: int, settings: ModelParams) -> nn.Module:
    """The ResNet-18 of torchvision for small images: 3×3 first, with stride 1, and no pooling.

    As the ResNets for CIFAR in K. He et al., "Deep Residual Learning for Image
    Recognition", 2015, 4.2, begin.
    """
    from torchvision.models import resnet18 as torchvision_resnet18  # takes two seconds

    network = torchvision_resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(shape[2], 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return _named(
        normalize=Normalize(shape[2]), channels_first=ChannelsFirst(), network=network
    ).to(memory_format=torch.channels_last)


def _named(**layers: nn.Module) -> nn.Module:
    """One layer after the other, each under its name."""
    return nn.Sequential(OrderedDict(layers))


ARCHITECTURES: dict[str, Callable[[ImageShape, int, ModelParams], nn.Module]] = {
    "logistic_regression": logistic_regression,
    "mlp": mlp,
    "cnn": cnn,
    "resnet18": resnet18,
}


def build(
    settings: ModelParams, image_shape: ImageShape, classes: int, *, seed: int = 0
) -> nn.Module:
    """Build an architecture with fresh weights.

    Args:
        settings: the section `model` of params.yaml.
        image_shape: height, width and channels of the images.
        classes: how many logits each image gets.
        seed: of the initial weights; the same seed gives the same weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[settings.name](image_shape, classes, settings)


def standardize(model: nn.Module, images: Tensor, indices: Tensor) -> None:
    """Make the images at `indices` have mean 0 and standard deviation 1 in each channel.

    Args:
        model: as it was built, on the CPU.
        images: uint8 (N, H, W, C), on the CPU.
        indices: int64 (M,), positions in `images`: those to train on.
    """
    normalize = model.get_submodule("normalize")
    assert isinstance(normalize, Normalize)
    normalize.fit(images, indices)
