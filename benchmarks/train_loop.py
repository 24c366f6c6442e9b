"""Our training loop compared with that of the textbook and with hand-written gradients.

    python -m benchmarks.train_loop

Each run is one epoch of training and one validation, timed without start-up and loading,
in its own process (numerics are fixed for each process). All start from the same weights
and see the same batches. The variants alternate, so that a busy machine slows all of them
equally.

- textbook: torchvision's `MNIST` with `ToTensor`, two `DataLoader`s with a
  `SubsetRandomSampler`, `torch.optim.SGD`; PyTorch's own defaults.
- ours: what stages/train.py runs, with fast and with portable numerics.
- by hand: the gradient of logistic regression written out, on the same
  tensors: the cost without a framework.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.mnist import SPLIT, unpack_for_torchvision
from benchmarks.side_by_side import ratio, seconds, spread, take_turns
from core.data import arrays
from core.training import numerics

BATCH_SIZE = 100
LR = 0.001
SEED = 42
MODEL = {"name": "logistic_regression", "standardize": False}
TRAIN = {"seed": SEED, "lr": LR, "batch_size": BATCH_SIZE}
VARIANTS = [
    ("textbook", "default"),
    ("ours", "fast"),
    ("ours", "portable"),
    ("by hand", "fast"),
    ("by hand", "portable"),
]


def main() -> None:
    """Run the variants alternately and print medians and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="times each variant runs")
    parser.add_argument("--variant", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps(run_variant(*arguments.variant)))
        return

    results = take_turns("benchmarks.train_loop", VARIANTS, arguments.rounds)
    print(f"one epoch of training and one validation, {arguments.rounds} runs each")
    print(f"{'loop':<9} {'numerics':<9} {'seconds, median (range)':<25}  val loss")
    for loop, kind in VARIANTS:
        runs = results[loop, kind]
        print(f"{loop:<9} {kind:<9} {spread(seconds(runs)):<25}  {runs[0]['val_loss']:.6f}")
    for kind in ("fast", "portable"):
        ours = seconds(results["ours", kind])
        faster = ratio(seconds(results["textbook", "default"]), ours)
        slower = ratio(ours, seconds(results["by hand", kind]))
        print(f"{kind}: {faster:.1f} times faster than the textbook, {slower:.2f} times by hand")


def run_variant(loop: str, kind: str) -> dict[str, float]:
    """Run one variant in this process: its seconds and its validation loss."""
    if kind != "default":
        numerics.pin(kind, None)
    elapsed, val_loss = {"textbook": textbook, "ours": ours, "by hand": by_hand}[loop](kind)
    return {"seconds": elapsed, "val_loss": val_loss}


def timed(function: Callable[[], float]) -> tuple[float, float]:
    """Return the seconds that `function` took, and its result."""
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def textbook(kind: str) -> tuple[float, float]:
    """The loop as tutorials write it."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.utils.data import DataLoader, SubsetRandomSampler
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    class MnistModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(784, 10)

        def forward(self, xb: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.linear(xb.reshape(-1, 784))
            return logits

    def accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> float:
        return torch.sum(torch.max(outputs, dim=1)[1] == labels).item() / len(labels)

    with tempfile.TemporaryDirectory() as root:
        unpack_for_torchvision(Path(root))
        dataset = MNIST(root, train=True, transform=ToTensor())

    train_indices = arrays.read_indices(SPLIT / "train_indices.npy", images=len(dataset)).tolist()
    val_indices = arrays.read_indices(SPLIT / "val_indices.npy", images=len(dataset)).tolist()
    generator = torch.Generator().manual_seed(SEED)
    train_sampler = SubsetRandomSampler(train_indices, generator=generator)
    train_loader = DataLoader(dataset, BATCH_SIZE, sampler=train_sampler)
    val_loader = DataLoader(dataset, BATCH_SIZE, sampler=SubsetRandomSampler(val_indices))
    torch.manual_seed(SEED)
    model = MnistModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def epoch() -> float:
        for xb, yb in train_loader:
            loss = functional.cross_entropy(model(xb), yb)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            results = []
            for xb, yb in val_loader:
                out = model(xb)
                loss = functional.cross_entropy(out, yb)
                results.append((loss.item(), len(xb), accuracy(out, yb)))
        return sum(loss * count for loss, count, _ in results) / sum(c for _, c, _ in results)

    return timed(epoch)


def ours(kind: str) -> tuple[float, float]:
    """The loop of stages/train.py."""
    from benchmarks import workload
    from core.training import evaluation

    data = workload.load()
    training = workload.start(data, kind, None, model=MODEL, train=TRAIN)

    def epoch() -> float:
        workload.train_epoch(training, data)
        return evaluation.measure(
            training.model, data.images, data.labels, data.val_indices, workers=training.workers
        ).loss

    return timed(epoch)


def by_hand(kind: str) -> tuple[float, float]:
    """The gradient of logistic regression, written out on the same tensors."""
    import torch

    from benchmarks import workload

    data = workload.load()
    _, labels, train_indices, val_indices, _ = data
    images = data.images.flatten(1)
    model = workload.start(data, kind, None, model=MODEL, train=TRAIN).model
    weight, bias = (parameter.detach() for parameter in model.parameters())
    generator = torch.Generator().manual_seed(SEED)

    @torch.inference_mode()
    def epoch() -> float:
        order = torch.randperm(len(train_indices), generator=generator)
        for batch in torch.split(train_indices[order], BATCH_SIZE):
            pixels = images[batch].float().div_(255)  # (B, 784)
            # The gradient of the mean cross-entropy by the logits: (p - y) / B.
            slope = torch.softmax(torch.addmm(bias, pixels, weight.T), dim=1)  # (B, 10)
            slope[torch.arange(len(batch)), labels[batch]] -= 1
            slope /= len(batch)
            weight.addmm_(slope.T, pixels, alpha=-LR)
            bias.sub_(slope.sum(dim=0), alpha=LR)
        loss = 0.0
        for batch in torch.split(val_indices, 1000):
            logits = torch.addmm(bias, images[batch].float().div_(255), weight.T)
            chosen = logits[torch.arange(len(batch)), labels[batch]]
            loss += float((torch.logsumexp(logits, dim=1) - chosen).sum())
        return loss / len(val_indices)

    return timed(epoch)


if __name__ == "__main__":
    main()
