"""What the same bits everywhere cost: portable beside fast numerics, model by model.

    python -m benchmarks.numerics

Each run is one epoch of training on the 48,000 images of MNIST's split and one
validation on 12,000, timed without start-up and loading.
"""

import argparse
import json
import time

from benchmarks.side_by_side import ratio, seconds, spread, take_turns
from benchmarks.train_loop import BATCH_SIZE, LR, SEED, load_data
from core import numerics

KINDS = ("portable", "fast, 1 thread", "fast")


def main() -> None:
    """Time every architecture with every kind of numerics and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="times each variant runs")
    parser.add_argument("--variant", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps({"seconds": epoch_seconds(*arguments.variant)}))
        return

    numerics.pin("portable", None)
    from core.models import ARCHITECTURES

    print(f"{'model':<20} {'numerics':<15} {'seconds, median (range)':<25} portable / this")
    for name in ARCHITECTURES:
        variants = [(name, kind) for kind in KINDS]
        results = take_turns("benchmarks.numerics", variants, arguments.rounds)
        portable = seconds(results[name, "portable"])
        for kind in KINDS:
            runs = seconds(results[name, kind])
            print(f"{name:<20} {kind:<15} {spread(runs):<25} {ratio(portable, runs):.2f}")


def epoch_seconds(name: str, kind: str) -> float:
    """Return the seconds of one epoch and one validation in this process."""
    numerics.pin(kind.split(",")[0], 1 if kind == "fast, 1 thread" else None)
    import torch

    from core import evaluation, models, training

    images, labels, train_indices, val_indices = (torch.from_numpy(a) for a in load_data())
    model = models.build(name, (28, 28, 1), 10, seed=SEED)
    generator = torch.Generator().manual_seed(SEED)
    start = time.perf_counter()
    batches = training.shuffled_batches(train_indices, BATCH_SIZE, generator)
    training.train_epoch(model, images, labels, batches, LR)
    evaluation.measure(model, images, labels, val_indices)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
