"""Each pin of portable numerics is needed, and together they suffice, for everything trained here.

The four architectures are trained in a process of their own, because the
variables are read when torch is first imported: between them by each optimizer,
with dropout, batch normalization, augmentation, schedules and shards. Without
one of the pins bits differ on this very processor.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.training import numerics
from tests.support.project import ROOT

TRAIN = """
import hashlib, json, sys
from core.training import numerics

dropped = sys.argv[1]
numerics.PORTABLE_KERNELS.pop(dropped, None)
numerics.pin("portable", None)

import torch
from core.training import architectures, evaluation
from core.training.loop import Training
from core.training.parallel.workers import Workers
from tests.support import sections

workers = Workers(2)
if dropped == "one thread":
    torch.set_num_threads(4)
    workers = Workers(2, 4)

mlp = {"hidden_sizes": [64, 32], "dropout": 0.2}
cnn = {"channels": [[8], [16, 16]], "dropout": 0.2}
augment = {"crop": 2, "flip": True}
momentum = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.001, "schedule": "one_cycle"}
adamw = {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1, "schedule": "cosine"}
recipes = {
    "logistic_regression": (100, {"standardize": True}, {"lr": 0.1}),
    "mlp": (100, {"mlp": mlp}, adamw | {"label_smoothing": 0.1, "augment": {"shift": 2}}),
    "cnn": (
        50,
        {"cnn": cnn, "standardize": True},
        momentum | {"lr": 0.1, "augment": augment, "label_smoothing": 0.1},
    ),
    "resnet18": (12, {"standardize": True}, momentum | {"lr": 0.05, "epochs": 1}),
}
trained = {}
for name, (count, model_values, train_values) in recipes.items():
    pixels, channels = (10, 3) if name == "resnet18" else (12, 1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, pixels, pixels, channels), generator=generator).byte()
    labels = torch.randint(10, (count,), generator=generator)
    settings = sections.model(name, **model_values)
    model = architectures.build(settings, (pixels, pixels, channels), 10, seed=1)
    architectures.standardize(model, images, torch.arange(count // 2))
    defaults = {"epochs": 2, "shards": 2, "batch_size": count // 2 - 2}
    train = sections.train(**defaults | train_values)
    every, rows = torch.arange(count), []
    kept = Training(model, train, workers).fit(
        images, labels, every[: count - 4], every[count - 4 :],
        report=rows.append, progress=lambda epoch, steps, taken: steps,
    )
    found = hashlib.sha256(repr(rows).encode())
    for tensor in [*kept.values(), evaluation.predict(model, images, every)]:
        found.update(tensor.contiguous().numpy())
    trained[name] = found.hexdigest()
print(json.dumps(trained))
"""


def train(dropped: str = "nothing", *, emulated: tuple[str, ...] = (), threads: int = 1) -> object:
    """Train the models with the pins but one; return the SHA-256 of the weights of each."""
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


pytestmark = pytest.mark.slow  # each training is a process of its own


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


@pytest.mark.skipif(
    not shutil.which("qemu-x86_64") or platform.machine() != "x86_64",
    reason="qemu-x86_64 is not installed (apt-get install qemu-user): "
    "nothing is shown about other processors",
)
@pytest.mark.parametrize("model", ["Nehalem", "Haswell"])
def test_pinned_bits_are_the_same_on_another_processor(pinned: object, model: str) -> None:
    assert train(emulated=("qemu-x86_64", "-cpu", model)) == pinned
