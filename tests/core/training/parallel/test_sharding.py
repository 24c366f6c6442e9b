"""The gradient of a batch equals the sum over microbatches, with the same bits on any workers."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from core.training import architectures
from core.training.layers import Dropout, Normalize
from core.training.parallel.sharding import Shards
from core.training.parallel.workers import ONE_WORKER
from tests.support import sections
from tests.support.project import ROOT

SHAPE, CLASSES = (6, 5, 2), 4


def batch(count: int = 23) -> tuple[Tensor, Tensor]:
    """Random images, uint8 (B, 6, 5, 2), and labels."""
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, *SHAPE), generator=generator).byte()
    return images, torch.randint(0, CLASSES, (count,), generator=generator)


def build(name: str, dropout: float = 0.0) -> nn.Module:
    settings = sections.model(
        name,
        mlp={"hidden_sizes": [16], "dropout": dropout},
        cnn={"channels": [[4], [6]], "dropout": dropout},
    )
    return architectures.build(settings, SHAPE, CLASSES, seed=3).train()


def gradients(
    model: nn.Module, images: Tensor, labels: Tensor, shards: int, smoothing: float = 0.0
) -> tuple[Tensor, list[Tensor]]:
    return Shards(model, shards, seed=1, workers=ONE_WORKER).gradients(
        images, labels, label_smoothing=smoothing
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", ["logistic_regression", "mlp"])
@pytest.mark.parametrize("shards", [2, 3, 4, 5])
def test_in_parts_it_is_that_of_the_whole_batch_to_rounding(
    name: str, shards: int, smoothing: float
) -> None:
    images, labels = batch()  # 23 is divided by none of them
    model = build(name)
    expected = nn.functional.cross_entropy(model(images), labels, label_smoothing=smoothing)
    by_torch = torch.autograd.grad(expected, list(model.parameters()))

    loss, in_parts = gradients(model, images, labels, shards, smoothing)

    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-6)
    for found, wanted in zip(in_parts, by_torch, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["logistic_regression", "mlp", "cnn"])
def test_in_one_part_it_is_that_of_torch_to_the_last_bit(name: str) -> None:
    images, labels = batch()
    ours, theirs = build(name), build(name)
    expected = nn.functional.cross_entropy(theirs(images), labels)

    loss, found = gradients(ours, images, labels, 1)

    assert torch.equal(loss, expected)
    for one, other in zip(
        found, torch.autograd.grad(expected, list(theirs.parameters())), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("count", "shards"), [(1, 4), (2, 3), (5, 4), (6, 5)])
def test_a_small_last_batch_falls_into_fewer_parts(count: int, shards: int) -> None:
    images, labels = batch(count)
    model = build("logistic_regression")

    loss, in_parts = gradients(model, images, labels, shards)
    whole_loss, whole = gradients(model, images, labels, 1)

    torch.testing.assert_close(loss, whole_loss)
    for part, one in zip(in_parts, whole, strict=True):
        torch.testing.assert_close(part, one, rtol=1e-4, atol=1e-6)


def test_each_part_normalizes_by_its_own_batch_and_the_statistics_are_averaged() -> None:
    images, labels = batch(20)
    model = build("cnn")
    single = [build("cnn"), build("cnn")]
    for part, replica in zip(images.chunk(2), single, strict=True):
        replica(part)

    shards = Shards(model, 2, seed=1, workers=ONE_WORKER)
    shards.gradients(images, labels, label_smoothing=0)
    own = [dict(replica.named_buffers()) for replica in shards.replicas]
    for found, expected in zip(own, single, strict=True):
        for name, buffer in expected.named_buffers():
            assert torch.equal(found[name], buffer), name
    assert not torch.equal(own[0]["blocks.2.running_mean"], own[1]["blocks.2.running_mean"])

    shards.average_buffers()
    first, second = (dict(replica.named_buffers()) for replica in single)
    for replica in shards.replicas:
        for name, buffer in replica.named_buffers():
            if "running" in name:
                torch.testing.assert_close(buffer, (first[name] + second[name]) / 2)
            if "num_batches_tracked" in name:
                assert int(buffer) == 1


@pytest.mark.parametrize("shards", [2, 3, 5, 7])
def test_averaging_leaves_what_is_equal_as_it_is_to_the_last_bit(shards: int) -> None:
    # The mean of three equal floats, as a sum divided by three, may be another float.
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 255
    model = nn.Sequential(OrderedDict(normalize=Normalize(1000), linear=nn.Linear(1000, 2)))
    model.get_buffer("normalize.mean").copy_(values)
    assert shards != 3 or not torch.equal(torch.stack([values] * 3).sum(0) / 3, values)
    replicas = Shards(model, shards, seed=1, workers=ONE_WORKER)

    for _ in range(3):
        replicas.average_buffers()

    for replica in replicas.replicas:
        assert torch.equal(replica.get_buffer("normalize.mean"), values)


def test_replicas_share_their_parameters_and_nothing_else() -> None:
    model = build("cnn")
    shards = Shards(model, 3, seed=1, workers=ONE_WORKER)

    assert shards.replicas[0] is model
    for replica in shards.replicas[1:]:
        for shared, own in zip(replica.parameters(), model.parameters(), strict=True):
            assert shared is own
    buffers = [buffer.data_ptr() for r in shards.replicas for buffer in r.buffers()]
    assert len(set(buffers)) == len(buffers)
    assert [buffer.data_ptr() for buffer in shards.buffers()] == buffers


def test_each_replica_draws_its_own_masks_by_the_seed() -> None:
    masks: list[Tensor] = []
    for seed in (1, 1, 2, 2**63 - 1):
        shards = Shards(build("cnn", dropout=0.5), 2, seed=seed, workers=ONE_WORKER)
        layers = [m for r in shards.replicas for m in r.modules() if isinstance(m, Dropout)]
        masks += [layer(torch.ones(200)) for layer in layers]

    first, second, again, second_again, *others = masks
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
    assert torch.equal(second, second_again)
    assert all(not torch.equal(first, other) for other in others[1:])


PROCESS = """
import hashlib, json, sys
from core.training import numerics
numerics.pin("portable", None)
import torch
from core.training import architectures, evaluation
from core.training.loop import Training
from core.training.parallel.workers import Workers
from tests.support import sections

workers = Workers(int(sys.argv[1]))
generator = torch.Generator().manual_seed(0)
images = torch.randint(0, 256, (2300, 8, 8, 1), generator=generator).byte()
labels = torch.randint(0, 10, (2300,), generator=generator)
settings = sections.model("cnn", cnn={"channels": [[8], [8, 8]], "dropout": 0.25}, standardize=True)
model = architectures.build(settings, (8, 8, 1), 10, seed=1)
augment = {"shift": 1, "flip": True}
train = sections.train(shards=4, momentum=0.9, lr=0.05, epochs=2, augment=augment)
rows = []
kept = Training(model, train, workers).fit(
    images, labels, torch.arange(450), torch.arange(450, 2300),
    report=rows.append, progress=lambda epoch, steps, taken: steps,
)
probabilities = evaluation.predict(model, images, torch.arange(2300), workers=workers)
content = b"".join(tensor.numpy().tobytes() for tensor in [*kept.values(), probabilities])
print(json.dumps([hashlib.sha256(content).hexdigest(), rows]))
"""


def trained(workers: int, threads: int = 1, *command: str) -> list[object]:
    done = subprocess.run(
        [*command, sys.executable, "-c", PROCESS, str(workers)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    result: list[object] = json.loads(done.stdout)
    return result


@pytest.mark.slow
def test_bits_depend_neither_on_the_workers_nor_on_the_threads_nor_on_the_processors() -> None:
    # A CNN with batch normalization, dropout and augmentation, in four shards.
    single = trained(1)

    assert single[0] != hashlib.sha256(b"").hexdigest()
    assert trained(2) == single
    assert trained(4, threads=4) == single
    if shutil.which("taskset"):
        assert trained(4, 4, "taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))) == single
