"""Seconds to 99 % test accuracy on MNIST: ours compared with the ConvNet of pytorch/examples.

    python -m benchmarks.time_to_accuracy

- peer: `mnist/main.py` of pytorch/examples, at its defaults on a CPU: its model,
  Adadelta at 1.0, times 0.7 after each epoch, batches of 64 that are not
  shuffled, torchvision's `MNIST` and `DataLoader`, all 60,000 training images,
  PyTorch's own number of threads. It stops when it has the accuracy, else
  after its 14 epochs.
- ours: the cnn of core/training/models/, fast numerics, two shards; of the 60,000 it
  trains on the split's 48,000 only. The settings below were chosen by the
  validation set.

The time starts after the imports and ends when the test accuracy, measured after each
epoch, first reaches 0.99. It includes reading the data and the measurements. Only this
benchmark uses the test set during training. Each round has its own seed.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import side_by_side
from benchmarks.mnist import RAW, unpack_for_torchvision
from benchmarks.side_by_side import ratio, seconds, spread
from core.training import numerics

GOAL = 0.99
ALL = 60_000
PEER_EPOCHS = 14
MODEL = {
    "name": "cnn",
    "standardize": True,
    "cnn": {"channels": [[16], [32, 32], [64]], "dropout": 0.0},
}
TRAIN = {
    "optimizer": "sgd",
    "lr": 0.15,
    "schedule": "one_cycle",
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 0.0005,
    "epochs": 1,
    "batch_size": 64,
    "shards": 2,
    "label_smoothing": 0.0,
    "augment": {"shift": 0, "crop": 0, "flip": False},
}


def main() -> None:
    """Run both alternately and print how long each took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="times each runs")
    # Fewer images, for a test of the program.
    parser.add_argument("--images", type=int, default=ALL, help=argparse.SUPPRESS)
    parser.add_argument("--variant", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        name, images, seed = arguments.variant
        print(json.dumps({"peer": peer, "ours": ours}[name](int(images), int(seed))))
        return

    results: dict[str, list[dict[str, float]]] = {"peer": [], "ours": []}
    for seed in range(arguments.rounds):
        for name, runs in results.items():
            variant = (name, str(arguments.images), str(seed))
            runs.append(side_by_side.run("benchmarks.time_to_accuracy", variant))
    print(f"{'':<5} {'seconds, median (range)':<28} epochs      test accuracy")
    for name, runs in results.items():
        epochs = ", ".join(f"{run['epochs']:.0f}" for run in runs)
        accuracies = ", ".join(f"{run['accuracy']:.4f}" for run in runs)
        print(f"{name:<5} {spread(seconds(runs), 1):<28} {epochs:<11} {accuracies}")
    missed = [run for runs in results.values() for run in runs if run["accuracy"] < GOAL]
    if missed:
        print(f"{len(missed)} of the runs ended below {GOAL}: the ratio would be meaningless")
        return
    print(f"peer / ours: {ratio(seconds(results['peer']), seconds(results['ours'])):.1f}")


def until_goal(accuracies: Iterator[float], start: float) -> dict[str, float]:
    """Train epoch by epoch until the accuracy is reached, or the epochs end."""
    epochs, accuracy = 0, 0.0
    for accuracy in accuracies:
        epochs += 1
        if accuracy >= GOAL:
            break
    return {"seconds": time.perf_counter() - start, "epochs": epochs, "accuracy": accuracy}


def ours(images: int, seed: int) -> dict[str, float]:
    """Train our cnn as stages/train.py does, and measure it on the test set."""
    numerics.pin("fast", None)
    import torch

    from benchmarks import workload
    from core.data import arrays
    from core.training import evaluation, tensors

    start = time.perf_counter()
    data = workload.load()
    data = data._replace(train_indices=data.train_indices[: images * 4 // 5])
    test_pixels, test_classes, _ = arrays.read_labelled_images(
        RAW / "test_images.npy", RAW / "test_labels.npy", RAW / "classes.json"
    )
    test_images, test_labels = tensors.of(test_pixels), tensors.of(test_classes)
    every = torch.arange(len(test_images))
    train = TRAIN | {"seed": seed}
    training = workload.start(data, "fast", None, model=MODEL, train=train)

    def accuracies() -> Iterator[float]:
        for epoch in range(1, training.settings.epochs + 1):
            workload.train_epoch(training, data, epoch=epoch)
            yield evaluation.measure(
                training.model, test_images, test_labels, every, workers=training.workers
            ).accuracy

    return until_goal(accuracies(), start)


def peer(images: int, seed: int) -> dict[str, float]:
    """The model and the loop of the example."""
    import torch
    from torch import Tensor, nn, optim
    from torch.nn import functional
    from torch.optim.lr_scheduler import StepLR
    from torch.utils.data import DataLoader, Subset
    from torchvision.datasets import MNIST
    from torchvision.transforms import Compose, Normalize, ToTensor

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 32, 3, 1)
            self.conv2 = nn.Conv2d(32, 64, 3, 1)
            self.dropout1 = nn.Dropout(0.25)
            self.dropout2 = nn.Dropout(0.5)
            self.fc1 = nn.Linear(9216, 128)
            self.fc2 = nn.Linear(128, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = functional.relu(self.conv1(x))
            x = functional.relu(self.conv2(x))
            x = self.dropout1(functional.max_pool2d(x, 2))
            x = self.dropout2(functional.relu(self.fc1(torch.flatten(x, 1))))
            return functional.log_softmax(self.fc2(x), dim=1)

    def train(loader: Any) -> None:
        model.train()
        for data, target in loader:
            optimizer.zero_grad()
            functional.nll_loss(model(data), target).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def test(loader: Any) -> float:
        model.eval()
        loss, correct = 0.0, 0
        with torch.no_grad():
            for data, target in loader:
                output = model(data)
                loss += functional.nll_loss(output, target, reduction="sum").item()
                prediction = output.argmax(dim=1, keepdim=True)
                correct += int(prediction.eq(target.view_as(prediction)).sum().item())
        return correct / len(loader.dataset)

    def accuracies() -> Iterator[float]:
        for _ in range(PEER_EPOCHS):
            train(train_loader)
            yield test(test_loader)
            scheduler.step()

    with tempfile.TemporaryDirectory() as root:
        unpack_for_torchvision(Path(root))
        start = time.perf_counter()
        torch.manual_seed(seed)
        transform = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])
        train_set = MNIST(root, train=True, transform=transform)
        test_set = MNIST(root, train=False, transform=transform)
        train_loader = DataLoader(
            train_set if images == ALL else Subset(train_set, range(images)), batch_size=64
        )
        test_loader = DataLoader(test_set, batch_size=1000)
        model = Net()
        optimizer = optim.Adadelta(model.parameters(), lr=1.0)
        scheduler = StepLR(optimizer, step_size=1, gamma=0.7)
        return until_goal(accuracies(), start)


if __name__ == "__main__":
    main()
