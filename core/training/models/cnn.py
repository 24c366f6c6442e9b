"""A convolutional network: blocks of 3×3 convolutions, halved in between by max-pooling."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from core.pipeline.params import Count, Section, Share
from core.training.layers import ChannelsFirst, Dropout, ImageShape, Normalize, ReLU, named


class Params(Section):
    """Its convolutions."""

    channels: list[
        Annotated[
            list[Count],
            Field(min_length=1, description="a list with at least one integer >= 1"),
        ]
    ] = Field(min_length=1, description="a list with at least one list of integers >= 1")
    dropout: Share


def build(image_shape: ImageShape, classes: int, params: Params) -> nn.Module:
    """Build the blocks of `params.channels`, with batch normalization, and a linear layer."""
    height, width, channels = image_shape
    blocks: list[nn.Module] = []
    for number, block in enumerate(params.channels, start=1):
        for outputs in block:
            convolution = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
            blocks += [convolution, nn.BatchNorm2d(outputs), ReLU()]
            channels = outputs
        if number < len(params.channels):
            # Before the normalization, which then processes a quarter of the pixels.
            blocks.insert(-2, nn.MaxPool2d(2, ceil_mode=True))
            height, width = math.ceil(height / 2), math.ceil(width / 2)
    return named(
        normalize=Normalize(image_shape[2]),
        channels_first=ChannelsFirst(),
        blocks=nn.Sequential(*blocks),
        flatten=nn.Flatten(),
        dropout=Dropout(params.dropout),
        linear=nn.Linear(channels * height * width, classes),
    ).to(memory_format=torch.channels_last)
