"""The optimizers: PyTorch's own steps, and their state.

They are called as functions: the first object of `torch.optim` in a process
imports PyTorch's compiler, which takes longer than five epochs of the textbook
run. Those chosen here give the same bits on every processor with portable
numerics: AdamW only if it is fused, as its other forms take a square root that
does not.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from core.training.train_params import TrainParams

# D. P. Kingma and J. Ba, "Adam", 2015, section 2: the defaults that they found good.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Optimizer(Protocol):
    """Updates the weights from their gradients."""

    def step(self, gradients: Sequence[Tensor], lr: float) -> None:
        """Take a step; `gradients` are in the order of the parameters."""

    def state(self) -> list[Tensor]:
        """The tensors that persist between steps, to read or to fill in place."""


def build(model: nn.Module, settings: TrainParams) -> Optimizer:
    """Build the optimizer of `settings` for all parameters of `model`."""
    parameters = list(model.parameters())
    return (SGD if settings.optimizer == "sgd" else AdamW)(parameters, settings)


class _Groups:
    """The parameters, grouped by whether weight decay applies.

    It applies to matrices and kernels, not to biases and the factors of a
    normalization, which have one dimension.
    """

    def __init__(self, parameters: Sequence[Tensor], weight_decay: float) -> None:
        every = range(len(parameters))
        decays = [weight_decay > 0 and parameters[i].ndim > 1 for i in every]
        positions = {
            weight_decay: [i for i in every if decays[i]],
            0.0: [i for i in every if not decays[i]],
        }
        self.positions = {decay: chosen for decay, chosen in positions.items() if chosen}


class SGD(_Groups):
    """Stochastic gradient descent, plain or with (Nesterov) momentum: `torch.optim.SGD`."""

    def __init__(self, parameters: Sequence[Tensor], settings: TrainParams) -> None:
        super().__init__(parameters, settings.weight_decay)
        self.parameters = parameters
        self.momentum = settings.momentum
        self.nesterov = settings.nesterov
        self.velocities = [torch.zeros_like(p) for p in parameters] if self.momentum else []

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], lr: float) -> None:
        """Move each weight by `-lr` times its gradient or its velocity."""
        for decay, chosen in self.positions.items():
            sgd(
                [self.parameters[i] for i in chosen],
                [gradients[i] for i in chosen],
                [self.velocities[i] if self.velocities else None for i in chosen],
                foreach=False,
                fused=False,
                weight_decay=decay,
                momentum=self.momentum,
                lr=lr,
                dampening=0,
                nesterov=self.nesterov,
                maximize=False,
            )

    def state(self) -> list[Tensor]:
        """The velocity of each parameter, or nothing without momentum."""
        return self.velocities


class AdamW(_Groups):
    """Adam with decoupled weight decay: `torch.optim.AdamW`, fused."""

    def __init__(self, parameters: Sequence[Tensor], settings: TrainParams) -> None:
        super().__init__(parameters, settings.weight_decay)
        self.parameters = parameters
        self.means = [torch.zeros_like(p) for p in parameters]
        self.squares = [torch.zeros_like(p) for p in parameters]
        self.steps = [torch.zeros((), device=p.device) for p in parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], lr: float) -> None:
        """Move each weight by about `-lr` times its mean gradient's sign."""
        for decay, chosen in self.positions.items():
            adamw(
                [self.parameters[i] for i in chosen],
                [gradients[i] for i in chosen],
                [self.means[i] for i in chosen],
                [self.squares[i] for i in chosen],
                [],
                [self.steps[i] for i in chosen],
                fused=True,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=lr,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )

    def state(self) -> list[Tensor]:
        """The running means of each parameter's gradient and of its square, and the steps."""
        return [*self.means, *self.squares, *self.steps]
