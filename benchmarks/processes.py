"""One model trained by several processes, compared with shards in one process.

    python -m benchmarks.processes

It times the steps of an epoch in 1, 2 and 4 processes, started by torchrun like `launcher`
in params.yaml, and in one process that splits each batch into 2 and 4 shards
(`train.shards`), which compute on as many threads as there are processors. Numerics are
portable; start-up and loading are not timed. The last column is a digest of the trained
weights: N processes end with the bits of N shards.

The bytes exchanged are computed, not measured: at each step every process gets the
gradients of all others, (N - 1) times the parameters, 4 bytes each.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time

from benchmarks.side_by_side import ratio, seconds, spread, take_turns
from core.pipeline import process_rank
from core.training import numerics

BATCH_SIZE = 100
IMAGES = {"logistic_regression": 48_000, "cnn": 3_000}
COUNTS = (1, 2, 4)


def main() -> None:
    """Time each number of processes and of shards, model by model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="times each variant runs")
    parser.add_argument("--models", nargs="+", default=list(IMAGES), choices=IMAGES, metavar="NAME")
    parser.add_argument("--images", type=int, help="in an epoch; default: as listed")
    parser.add_argument("--variant", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        model, kind, count, images = arguments.variant
        measured(model, kind, int(count), int(images))
        return

    print(f"{numerics.processors()} processors; an epoch's steps in seconds, median (range)")
    print(
        f"{'model':<20} {'images':>6}  {'kB a step':>9}  {'in':<12} {'seconds':<26} 1 / this  bits"
    )
    for model in arguments.models:
        images = str(arguments.images or IMAGES[model])
        kinds = [("processes", 1)]
        kinds += [(kind, count) for kind in ("shards", "processes") for count in COUNTS[1:]]
        variants = [(model, kind, str(count), images) for kind, count in kinds]
        results = take_turns("benchmarks.processes", variants, arguments.rounds)
        alone = seconds(results[variants[0]])
        for (kind, count), variant in zip(kinds, variants, strict=True):
            runs = results[variant]
            others = count - 1 if kind == "processes" else 0
            print(
                f"{model:<20} {int(images):>6,}  {others * runs[0]['bytes'] / 1e3:>9,.0f}  "
                f"{f'{count} {kind}':<12} {spread(seconds(runs)):<26} "
                f"{ratio(alone, seconds(runs)):>8.2f}  {runs[0]['bits']}"
            )


def measured(model: str, kind: str, count: int, images: int) -> None:
    """Print the time of an epoch; of several processes, the first one prints."""
    if kind == "processes" and count > 1 and process_rank.current().world_size == 1:
        again = ("benchmarks.processes", "--variant", model, kind, str(count), str(images))
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count))
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # else torchrun prints a warning
        subprocess.run([sys.executable, *torchrun, "-m", *again], env=environment, check=True)
        return

    numerics.pin("portable", None)
    from benchmarks import workload
    from core.training.parallel import distributed

    with distributed.joined(process_rank.current(), "cpu") as processes:
        data = workload.load()
        data = data._replace(train_indices=data.train_indices[:images])
        training = workload.start(
            data,
            "portable",
            None,
            model={"name": model},
            train={"batch_size": BATCH_SIZE, "shards": count if kind == "shards" else 1},
            processes=processes,
        )
        processes.gathered_objects(None)  # wait until all are there
        start = time.perf_counter()
        workload.train_epoch(training, data)
        taken = time.perf_counter() - start
        weights = [parameter.detach().numpy() for parameter in training.model.parameters()]
        bits = hashlib.sha256(b"".join(each.tobytes() for each in weights)).hexdigest()[:8]
        size = sum(each.nbytes for each in weights)
        if processes.first:
            print(json.dumps({"seconds": taken, "bytes": size, "bits": bits}))


if __name__ == "__main__":
    main()
