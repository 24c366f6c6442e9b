"""Each pin of portable numerics is needed: without it, bits differ on this very processor.

The models are trained in a process of their own, because the variables are
read when torch is first imported. Between them they use what our models are
made of: matrix products, convolutions, batch normalization, pooling, softmax.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core import numerics
from tests.project import ROOT

TRAIN = """
import hashlib, json, sys
from core import numerics

dropped = sys.argv[1]
numerics.PORTABLE_KERNELS.pop(dropped, None)
numerics.pin("portable", None)

import torch
from torch import nn

if dropped == "one thread":
    torch.set_num_threads(4)

models = {
    "logistic regression": lambda: [nn.Flatten(), nn.Linear(784, 10)],
    "MLP": lambda: [nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)],
    "CNN": lambda: [
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    ],
}
generator = torch.Generator().manual_seed(0)
images = torch.rand(200, 1, 28, 28, generator=generator)
labels = torch.randint(10, (200,), generator=generator)
trained = {}
for name, layers in models.items():
    torch.manual_seed(0)
    model = nn.Sequential(*layers())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
    trained[name] = hashlib.sha256(weights).hexdigest()
print(json.dumps(trained))
"""


def train(dropped: str = "nothing", *, emulated: tuple[str, ...] = (), threads: int = 1) -> object:
    """Train the models with the pins but one; return the SHA-256 of each one's weights."""
    environment = {k: v for k, v in os.environ.items() if k not in numerics.PORTABLE_KERNELS}
    if emulated:
        environment.pop("OPENBLAS_CORETYPE", None)  # chosen for the real processor
    environment["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run(
        [*emulated, sys.executable, "-c", TRAIN, dropped],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def pinned() -> object:
    """The weights with all pins."""
    return train()


def has_avx2() -> bool:
    """Whether the processor has kernels to choose from beyond those of SSE."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and " avx2 " in cpuinfo.read_text()


def test_pinned_bits_do_not_depend_on_the_number_of_threads_asked_for(pinned: object) -> None:
    assert train(threads=4) == pinned


def test_without_one_thread_the_bits_differ(pinned: object) -> None:
    assert train("one thread") != pinned


@pytest.mark.skipif(
    not has_avx2(), reason="this processor has no AVX2: there is only one set of kernels to use"
)
@pytest.mark.parametrize("pin", sorted(numerics.PORTABLE_KERNELS))
def test_without_a_kernel_pinned_the_bits_differ(pinned: object, pin: str) -> None:
    assert train(pin) != pinned


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("qemu-x86_64") or platform.machine() != "x86_64",
    reason="qemu-x86_64 is not installed (apt-get install qemu-user): "
    "nothing is shown about other processors",
)
@pytest.mark.parametrize("model", ["Nehalem", "Haswell"])
def test_pinned_bits_are_the_same_on_another_processor(pinned: object, model: str) -> None:
    assert train(emulated=("qemu-x86_64", "-cpu", model)) == pinned
