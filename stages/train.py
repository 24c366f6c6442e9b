"""Trains the model and records loss and accuracy after each epoch.

Reads:  data/raw/train_images.npy, train_labels.npy and classes.json,
        data/split/train_indices.npy and val_indices.npy
Writes: models/model.pt, a bare state_dict;
        metrics/history.csv, a row an epoch from epoch 0, before training;
        models/checkpoint.pt while it trains: a training that was killed resumes
        from it, with the same bits
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run as a file: find core/ as `python -m` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    import core  # noqa: F401 - as stages/__init__.py

from tqdm import tqdm

from core.pipeline import files, params, process_rank, wording
from core.pipeline.runner import run
from core.training import numerics
from core.training.inputs import Inputs, load
from core.training.model_params import ModelParams
from core.training.numerics_params import NumericsParams
from core.training.train_params import TrainParams

if TYPE_CHECKING:  # torch comes after `load`, which pins the numerics
    from core.training.parallel.distributed import Processes

CLASS_NAMES = Path("data/raw/classes.json")
TRAIN_IMAGES = Path("data/raw/train_images.npy")
TRAIN_LABELS = Path("data/raw/train_labels.npy")
TRAIN_INDICES = Path("data/split/train_indices.npy")
VAL_INDICES = Path("data/split/val_indices.npy")
MODEL = Path("models/model.pt")
HISTORY = Path("metrics/history.csv")
CHECKPOINT = MODEL.with_name("checkpoint.pt")  # not an output: DVC would remove it before a run


def main() -> None:
    """Train as params.yaml says."""
    chosen = params.check()
    kind = chosen.section(NumericsParams).root
    architecture = chosen.section(ModelParams, "name", "standardize", "${model.name}")
    settings = chosen.section(TrainParams)
    inputs = load(
        kind,
        settings,
        architecture,
        images=TRAIN_IMAGES,
        labels=TRAIN_LABELS,
        class_names=CLASS_NAMES,
        train_indices=TRAIN_INDICES,
        val_indices=VAL_INDICES,
        seed=settings.seed,
    )
    from core.training import architectures
    from core.training.parallel import distributed

    if architecture.standardize:
        architectures.standardize(inputs.model, inputs.data.images, inputs.data.train_indices)
    recipe = {"numerics": kind, "model": architecture.model_dump(), "train": settings.model_dump()}
    with distributed.joined(process_rank.current(), settings.device) as processes:
        train(inputs, kind, settings, recipe, processes)


def train(
    inputs: Inputs,
    kind: str,
    settings: TrainParams,
    recipe: Mapping[str, Any],
    processes: "Processes",
) -> None:
    """Train together with other processes; the first one prints and writes.

    Args:
        inputs: on the CPU.
        kind: of numerics, `portable` or `fast`.
        settings: the section `train` of params.yaml.
        recipe: all parameters, part of a checkpoint's identity.
        processes: those that train together.
    """
    import torch

    from core.training import checkpoints, loop, weights
    from core.training.parallel.distributed import DistributedWorkers

    data, model, _ = inputs
    loop.check_batches(model, data.images, data.train_indices, settings, processes)
    data, model, _ = inputs.to(settings.device)

    for stale in (MODEL, HISTORY):  # a training that fails leaves no older result behind
        if processes.first:
            stale.unlink(missing_ok=True)
    checkpoint = checkpoints.FileCheckpoint(
        CHECKPOINT,
        checkpoints.identity(
            recipe,
            [TRAIN_IMAGES, TRAIN_LABELS, CLASS_NAMES, TRAIN_INDICES, VAL_INDICES],
        ),
    )
    calls = numerics.calls_at_once(kind, settings.threads, settings.shards)
    workers = DistributedWorkers(processes, calls, max(1, torch.get_num_threads() // calls))
    run_of_training = loop.Training(model, settings, workers, processes)

    def say(line: str) -> None:
        if processes.first:
            print(line, flush=True)

    def report(row: loop.HistoryRow) -> None:
        say(f"{row.epoch:>5}  " + "  ".join(f"{value:>14.4f}" for value in row[1:]))

    def progress(epoch: int, steps: Sequence[loop.Step], taken: int) -> Iterable[loop.Step]:
        if taken:
            say(f"resuming epoch {epoch} after {wording.count(taken, 'step')}")
        return tqdm(
            steps,
            desc=f"epoch {epoch}",
            total=taken + len(steps),
            initial=taken,
            leave=False,
            disable=None if processes.first else True,  # None: in a terminal it is shown
        )

    columns = loop.HistoryRow._fields
    say("epoch  " + "  ".join(f"{column.replace('_', ' '):>14}" for column in columns[1:]))
    kept = run_of_training.fit(
        data.images,
        data.labels,
        data.train_indices,
        data.val_indices,
        report=report,
        progress=progress,
        checkpoint=checkpoint,
    )
    history = run_of_training.history
    if settings.patience and len(history) <= settings.epochs:
        say(f"stopped: {wording.count(settings.patience, 'epoch')} without a lower validation loss")

    if processes.first:
        files.write_csv(HISTORY, columns, history)
        weights.save(MODEL, kept)
        checkpoint.remove()


if __name__ == "__main__":
    run(main)
