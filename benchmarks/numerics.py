"""What the same bits everywhere cost: portable compared with fast numerics, by model.

    python -m benchmarks.numerics

Each run trains on training images of MNIST and then evaluates a fourth as many validation
images, timed without start-up and loading. Models that need minutes for all 48,000 images
get fewer. Times are given for 1,000 images.
"""

import argparse
import json
import time

from benchmarks.side_by_side import ratio, seconds, spread, take_turns
from core.training import numerics

BATCH_SIZE = 100
IMAGES = {"logistic_regression": 48_000, "mlp": 48_000, "cnn": 6_000, "resnet18": 200}

# Numerics, threads and shards.
KINDS = {
    "portable": ("portable", 1, 1),
    "portable, 2 shards": ("portable", 2, 2),
    "fast, 1 thread": ("fast", 1, 1),
    "fast, 2 threads": ("fast", 2, 1),
    "fast, 2 shards": ("fast", 2, 2),
}


def main() -> None:
    """Time every architecture with every kind of numerics and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="times each variant runs")
    parser.add_argument("--models", nargs="+", default=list(IMAGES), choices=IMAGES, metavar="NAME")
    parser.add_argument("--variant", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps({"seconds": seconds_per_thousand(*arguments.variant)}))
        return

    print("seconds for 1,000 images of training and 250 of validation, median (range)")
    print(f"{'model':<20} {'images':>6}  {'numerics':<19} {'seconds':<26} portable / this")
    for name in arguments.models:
        variants = [(name, kind) for kind in KINDS]
        results = take_turns("benchmarks.numerics", variants, arguments.rounds)
        portable = seconds(results[name, "portable"])
        for kind in KINDS:
            runs = seconds(results[name, kind])
            print(
                f"{name:<20} {IMAGES[name]:>6,}  {kind:<19} {spread(runs, 4):<26} "
                f"{ratio(portable, runs):.2f}"
            )


def seconds_per_thousand(name: str, kind: str) -> float:
    """Return the seconds that 1,000 images of training and 250 of validation take."""
    pinned, threads, shards = KINDS[kind]
    numerics.pin(pinned, threads)
    from benchmarks import workload
    from core.training import evaluation

    data = workload.load()
    data = data._replace(train_indices=data.train_indices[: IMAGES[name]])
    val_indices = data.val_indices[: IMAGES[name] // 4]
    training = workload.start(
        data,
        pinned,
        threads,
        model={"name": name},
        train={"batch_size": BATCH_SIZE, "shards": shards},
    )
    start = time.perf_counter()
    workload.train_epoch(training, data)
    evaluation.measure(
        training.model, data.images, data.labels, val_indices, workers=training.workers
    )
    return (time.perf_counter() - start) / IMAGES[name] * 1000


if __name__ == "__main__":
    main()
