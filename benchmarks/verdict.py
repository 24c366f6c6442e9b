"""How often the verdict reports a difference where there is none.

    python -m benchmarks.verdict

It prints three shares of trials, which should not exceed 5 %:

- Two models whose right and wrong predictions are swapped at random, image by image.
- Pairs of models that differ only in the seed. A paired test takes the two models as
  fixed, so this share may exceed 5 %: the verdict is about these two models, not about
  their recipes.
- Comparisons of five seeds with five other seeds of the same recipe, as
  `make review SEEDS=5` compares recipes.

The models are small: logistic regression, trained for three epochs on 2,000 images of
MNIST and compared on 10,000 validation images.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from core.statistics import paired_tests
from core.statistics.intervals import wilson
from core.training import numerics
from tools.review import verdict

TRAIN_IMAGES = 2_000
IMAGES = 10_000
EPOCHS = 3
BATCH_SIZE = 100
SEEDS = 5  # of each recipe


def right_of_seeds(models: int, lr: float) -> NDArray[np.bool_]:
    """Train models with the seeds from 0 on and return what each gets right, (models, IMAGES)."""
    numerics.pin("portable", None)
    from benchmarks import workload
    from core.training import evaluation

    data = workload.load()
    val_indices = data.val_indices[:IMAGES]
    data = data._replace(train_indices=data.train_indices[:TRAIN_IMAGES])
    right = np.empty((models, len(val_indices)), dtype=bool)
    for seed in range(models):
        training = workload.start(
            data,
            "portable",
            1,
            model={"name": "logistic_regression", "standardize": False},
            train={"seed": seed, "lr": lr, "batch_size": BATCH_SIZE, "epochs": EPOCHS},
        )
        for epoch in range(1, EPOCHS + 1):
            workload.train_epoch(training, data, epoch=epoch)
        predicted = evaluation.predict(training.model, data.images, val_indices).argmax(dim=1)
        right[seed] = (predicted == data.labels[val_indices]).numpy()
    return right


def swapped(right: NDArray[np.bool_], trials: int, generator: np.random.Generator) -> int:
    """Count the differences reported when two models are swapped at random, image by image."""
    differing = int((right[0] != right[1]).sum())
    called = 0
    for fixed in generator.binomial(differing, 0.5, trials).tolist():
        found = paired_tests.difference(fixed, differing - fixed, right.shape[1])
        called += verdict.judge(found) != "same"
    return called


def by_pairs(right: NDArray[np.bool_]) -> int:
    """Count the differences reported between models 0 and 1, 2 and 3, and so on."""
    called = 0
    for before, after in zip(right[::2], right[1::2], strict=True):
        fixed, broken = int((after & ~before).sum()), int((before & ~after).sum())
        called += verdict.judge(paired_tests.difference(fixed, broken, right.shape[1])) != "same"
    return called


def by_recipes(right: NDArray[np.bool_], trials: int, generator: np.random.Generator) -> int:
    """Count the differences reported between five seeds and five other ones."""
    called = 0
    for _ in range(trials):
        drawn = right[generator.permutation(len(right))[: 2 * SEEDS]].astype(np.int8)
        called += verdict.judge(paired_tests.over_seeds(drawn[SEEDS:] - drawn[:SEEDS])) != "same"
    return called


def main() -> None:
    """Print the three shares, each with its 95 % interval."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=200, help="of models that differ by seed")
    parser.add_argument("--swaps", type=int, default=1000, help="trials of the first question")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate of the models")
    arguments = parser.parse_args()
    right = right_of_seeds(2 * arguments.pairs, arguments.lr)
    accuracy = right.mean(axis=1)
    print(
        f"{len(right)} models, accuracy {accuracy.mean():.4f}, "
        f"standard deviation between seeds {accuracy.std(ddof=1):.4f}"
    )
    generator = np.random.default_rng(0)
    for what, called, trials in (
        ("swapped at random", swapped(right, arguments.swaps, generator), arguments.swaps),
        ("another seed", by_pairs(right), arguments.pairs),
        (
            f"{SEEDS} seeds, {SEEDS} others",
            by_recipes(right, arguments.pairs, generator),
            arguments.pairs,
        ),
    ):
        low, high = wilson(called, trials)
        print(
            f"{what:<20} a difference called in {called:>3} of {trials:,} "
            f"({called / trials:.1%}, 95 % interval {low:.1%} to {high:.1%})"
        )


if __name__ == "__main__":
    main()
