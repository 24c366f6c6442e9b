"""Our training on a GPU, compared with the same model fed by a DataLoader.

    python -m benchmarks.gpu

- ours: what stages/train.py runs with `device: cuda`: images, labels and the order of an
  epoch are on the GPU, and the processor waits for the GPU only at the end of an epoch.
- loader: the same model, settings and batches; a `DataLoader` with two workers and
  pinned memory copies each batch, and `torch.optim` takes the step.

Each run is an epoch on the 48,000 training images of MNIST, after one that is not timed.
In another epoch of ours, PyTorch raises an error wherever the processor waits for the
GPU.
"""

import argparse
import json
import statistics
import sys
import time

from benchmarks.side_by_side import ratio, seconds, spread, take_turns
from core.training import numerics

MODELS = ("logistic_regression", "cnn", "resnet18")
IMAGES = 48_000
BATCH_SIZE = 512
TRAIN = {
    "device": "cuda",
    "batch_size": BATCH_SIZE,
    "shards": 1,
    "optimizer": "sgd",
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 0.0,
}
LOOPS = ("loader", "ours")


def main() -> None:
    """Time both loops for each model and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="times each variant runs")
    parser.add_argument("--variant", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        name, loop = arguments.variant
        print(json.dumps({"seconds": {"ours": ours, "loader": loader}[loop](name)}))
        return

    import torch

    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU here: this benchmark needs one")
    print(torch.cuda.get_device_name())
    print(f"{'model':<20} {'loop':<7} {'seconds an epoch':<26} {'images/s':>10}  loader / this")
    for name in MODELS:
        results = take_turns("benchmarks.gpu", [(name, loop) for loop in LOOPS], arguments.rounds)
        slow = seconds(results[name, "loader"])
        for loop in LOOPS:
            runs = seconds(results[name, loop])
            speed = IMAGES / statistics.median(runs)
            print(
                f"{name:<20} {loop:<7} {spread(runs):<26} {speed:>10,.0f}  {ratio(slow, runs):.2f}"
            )
    print("in an epoch of ours, the processor never waited for the GPU")


def ours(name: str) -> float:
    """Return the seconds of an epoch, after one in which waiting for the GPU is an error."""
    numerics.pin("fast", 1, "cuda")
    import torch

    from benchmarks import workload
    from core.training.loop import plan_epoch, take_steps

    data = workload.load()
    training = workload.start(data, "fast", 1, model={"name": name}, train=TRAIN)
    data = data.to("cuda")
    workload.train_epoch(training, data)

    steps = plan_epoch(data.train_indices, 1, training.settings, training.order)
    torch.cuda.set_sync_debug_mode("error")
    for _ in take_steps(
        steps,
        data.images,
        data.labels,
        shards=training.shards,
        optimizer=training.optimizer,
        settings=training.settings,
    ):
        pass
    torch.cuda.set_sync_debug_mode("default")

    torch.cuda.synchronize()
    start = time.perf_counter()
    workload.train_epoch(training, data)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def loader(name: str) -> float:
    """Return the seconds of an epoch of the usual loop."""
    numerics.pin("fast", 1, "cuda")
    import torch
    from torch.nn import functional
    from torch.utils.data import DataLoader, TensorDataset

    from benchmarks import workload

    data = workload.load()
    training = workload.start(data, "fast", 1, model={"name": name}, train=TRAIN)
    chosen = TensorDataset(data.images[data.train_indices], data.labels[data.train_indices])
    batches = DataLoader(
        chosen,
        BATCH_SIZE,
        shuffle=True,
        num_workers=2,
        pin_memory=True,
        persistent_workers=True,
    )
    settings = training.settings
    optimizer = torch.optim.SGD(
        training.model.parameters(), lr=settings.lr, momentum=settings.momentum
    )
    training.model.train()

    def epoch() -> None:
        for images, labels in batches:
            logits = training.model(images.to("cuda", non_blocking=True))
            loss = functional.cross_entropy(logits, labels.to("cuda", non_blocking=True))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    epoch()
    torch.cuda.synchronize()
    start = time.perf_counter()
    epoch()
    torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
