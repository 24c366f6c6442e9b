"""A multilayer perceptron: hidden layers, each with ReLU and dropout."""

import math
from itertools import pairwise

from pydantic import Field
from torch import nn

from core.pipeline.params import Count, Section, Share
from core.training.layers import Dropout, ImageShape, Normalize, ReLU, named


class Params(Section):
    """Its hidden layers."""

    hidden_sizes: list[Count] = Field(description="a list of integers >= 1")
    dropout: Share


def build(image_shape: ImageShape, classes: int, params: Params) -> nn.Module:
    """Build a hidden layer for each of `params.hidden_sizes`."""
    sizes = [math.prod(image_shape), *params.hidden_sizes]
    hidden = [
        layer
        for inputs, outputs in pairwise(sizes)
        for layer in (nn.Linear(inputs, outputs), ReLU(), Dropout(params.dropout))
    ]
    return named(
        normalize=Normalize(image_shape[2]),
        flatten=nn.Flatten(),
        hidden=nn.Sequential(*hidden),
        linear=nn.Linear(sizes[-1], classes),
    )
