"""Builds the architecture that params.yaml names: a file in core/training/models/.

Every model takes images as stored on disk, uint8 (B, H, W, C), and returns
logits, float32 (B, classes). Its first layer, a `Normalize`, turns bytes into
floats, so that training, evaluation and prediction cannot differ in it.

An architecture is added by a file models/NAME.py with a function
`build(image_shape, classes)`, and by `NAME: {}` in the section `model` of
params.yaml. One with parameters of its own has a class `Params` before it,
which `build(image_shape, classes, params)` gets: models/mlp.py is an example.
The tests of tests/core/training/test_models.py then run for it too.
"""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from core.pipeline.errors import SetupError
from core.training import model_params
from core.training.layers import ImageShape, Normalize
from core.training.model_params import ModelParams


def names() -> list[str]:
    """Return the names of all architectures, in alphabetical order."""
    return list(model_params.architectures())


def build(model: ModelParams, image_shape: ImageShape, classes: int, *, seed: int = 0) -> nn.Module:
    """Build an architecture with fresh weights.

    Args:
        model: the section `model` of params.yaml.
        image_shape: height, width and channels of the images.
        classes: how many logits each image gets.
        seed: of the initial weights; the same seed gives the same weights.
    """
    # dvc.yaml lists the file of this name: tools/deps.py reads it here.
    module: Any = importlib.import_module(f"core.training.models.{model.name}")
    own = []
    if hasattr(module, "Params"):
        own.append(module.Params.model_validate(model.own.model_dump()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built: nn.Module = module.build(image_shape, classes, *own)
    return built


def standardize(model: nn.Module, images: Tensor, indices: Tensor) -> None:
    """Make the images at `indices` have mean 0 and standard deviation 1 in each channel.

    Args:
        model: as it was built, on the CPU.
        images: uint8 (N, H, W, C), on the CPU.
        indices: int64 (M,), positions in `images`: those to train on.

    Raises:
        SetupError: the model has no layer for it.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Normalize)]
    if len(layers) != 1:
        raise SetupError(
            "the model cannot standardize its images",
            expected="one layer Normalize of core/training/layers.py, the first",
            found=f"{len(layers)}",
            todo="build it with one, or set model.standardize: false",
        )
    layers[0].fit(images, indices)
