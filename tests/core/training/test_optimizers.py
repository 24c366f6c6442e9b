"""The steps of each optimizer equal those of torch.optim to the last bit."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from core.training import optimizers
from core.training.train_params import TrainParams
from tests.support import sections
from tests.support.project import ROOT

RATES = [0.1, 0.07, 0.2, 0.013, 0.1, 0.05]


def network() -> nn.Module:
    """Kernels and matrices, which decay, and biases and factors, which do not."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(45, 7)
    ).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def assert_equal_steps(
    settings: TrainParams,
    ours: nn.Module,
    theirs: nn.Module,
    their_optimizer: torch.optim.Optimizer,
) -> None:
    """Give both the same gradients and rates, and compare the weights after each step."""
    our_optimizer = optimizers.build(ours, settings)
    generator = torch.Generator().manual_seed(2)
    for lr in RATES:
        gradients = [torch.randn(p.shape, generator=generator) for p in ours.parameters()]
        for parameter, gradient in zip(theirs.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        for group in their_optimizer.param_groups:
            group["lr"] = lr
        before = [gradient.clone() for gradient in gradients]
        our_optimizer.step(gradients, lr)
        their_optimizer.step()
        for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(our, their)
        if settings.weight_decay == 0:
            assert all(map(torch.equal, gradients, before))


def groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups as usual for torch.optim: decay from two dimensions on."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]


@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_is_that_of_torch(momentum: float, nesterov: bool, weight_decay: float) -> None:
    settings = sections.train(momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    ours, theirs = network(), network()
    their_optimizer = torch.optim.SGD(
        groups(theirs, weight_decay), lr=1, momentum=momentum, nesterov=nesterov, foreach=False
    )
    assert_equal_steps(settings, ours, theirs, their_optimizer)


@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
def test_adamw_is_that_of_torch_fused(weight_decay: float) -> None:
    settings = sections.train(optimizer="adamw", weight_decay=weight_decay)
    ours, theirs = network(), network()
    their_optimizer = torch.optim.AdamW(groups(theirs, weight_decay), lr=1, fused=True)
    assert_equal_steps(settings, ours, theirs, their_optimizer)


def test_two_steps_with_momentum_worked_out_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimizer = optimizers.build(model, sections.train(momentum=0.5, weight_decay=0.25))

    optimizer.step([torch.tensor([[1.0]])], 0.5)
    # velocity 1 + 0.25 * 2 = 1.5, weight 2 - 0.5 * 1.5
    assert model.weight.item() == 1.25
    optimizer.step([torch.tensor([[1.0]])], 0.5)
    # velocity 0.5 * 1.5 + 1 + 0.25 * 1.25 = 2.0625
    assert model.weight.item() == 1.25 - 0.5 * 2.0625


def test_the_first_step_of_adamw_worked_out_by_hand() -> None:
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 2.0)
    nn.init.constant_(model.bias, 2.0)
    optimizer = optimizers.build(model, sections.train(optimizer="adamw", weight_decay=0.1))

    optimizer.step([torch.tensor([[-3.0]]), torch.tensor([0.25])], 0.5)

    # The first step is lr times the sign; only the weight shrinks, by lr * 0.1.
    assert model.weight.item() == pytest.approx(2 * (1 - 0.5 * 0.1) + 0.5)
    assert model.bias.item() == pytest.approx(2 - 0.5)


@pytest.mark.parametrize(
    "settings",
    [
        sections.train(momentum=0.9, nesterov=True, weight_decay=0.01),
        sections.train(optimizer="adamw", weight_decay=0.01),
        sections.train(),
    ],
    ids=["momentum", "adamw", "plain"],
)
def test_its_state_is_all_that_it_needs_to_resume(settings: TrainParams) -> None:
    generator = torch.Generator().manual_seed(3)
    gradients = [
        [torch.randn(p.shape, generator=generator) for p in network().parameters()] for _ in RATES
    ]
    whole, first, second = network(), network(), network()
    optimizer, before, after = (optimizers.build(m, settings) for m in (whole, first, second))
    for lr, of_step in zip(RATES, gradients, strict=True):
        optimizer.step([g.clone() for g in of_step], lr)

    for lr, of_step in zip(RATES[:3], gradients[:3], strict=True):
        before.step([g.clone() for g in of_step], lr)
    second.load_state_dict(first.state_dict())
    for empty, carried in zip(after.state(), before.state(), strict=True):
        empty.copy_(carried)
    for lr, of_step in zip(RATES[3:], gradients[3:], strict=True):
        after.step([g.clone() for g in of_step], lr)

    for expected, found in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(expected, found)


def test_the_weights_still_want_gradients_after_a_step() -> None:
    for name in ("sgd", "adamw"):
        model = network()
        optimizer = optimizers.build(model, sections.train(optimizer=name))
        optimizer.step([torch.ones_like(p) for p in model.parameters()], 0.1)
        assert all(p.requires_grad and p.is_leaf for p in model.parameters())


def test_no_step_imports_the_compiler() -> None:
    code = (
        "from core.training import numerics; numerics.pin('portable', None)\n"
        "import sys, torch\n"
        "from core.training import optimizers\n"
        "from tests.support import sections\n"
        "for name in ('sgd', 'adamw'):\n"
        "    model = torch.nn.Linear(2, 2)\n"
        "    settings = sections.train(optimizer=name, momentum=0.9 * (name == 'sgd'))\n"
        "    step = optimizers.build(model, settings).step\n"
        "    step([torch.ones_like(p) for p in model.parameters()], 0.1)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "torch.optim.SGD(model.parameters())\n"
        "assert 'torch._dynamo' in sys.modules, 'no longer imported: the calls could be simpler'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
