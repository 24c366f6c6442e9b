"""The recipe logistic-mnist compared with scikit-learn's LogisticRegression.

    python -m benchmarks.logistic

Both fit the 48,000 training images of the split, with pixels in [0, 1], and are timed
without start-up and loading; ours includes the evaluation after each epoch. The accuracy
is on the test set. scikit-learn runs with its defaults, L-BFGS with 100 iterations, and
warns that it has not converged.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

from benchmarks.mnist import RAW, SPLIT
from benchmarks.side_by_side import ratio, seconds, spread, take_turns
from core.data import arrays
from core.pipeline import strict_yaml
from core.training import numerics

RECIPE = Path("recipes/logistic-mnist.yaml")
VARIANTS = [("ours", "portable"), ("ours", "fast"), ("scikit-learn", "default")]


def main() -> None:
    """Run the variants alternately and print medians and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="times each variant runs")
    parser.add_argument("--variant", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        who, how = arguments.variant
        print(json.dumps(ours(how) if who == "ours" else scikit_learn()))
        return

    results = take_turns("benchmarks.logistic", VARIANTS, arguments.rounds)
    print(f"fitting 48,000 images, {arguments.rounds} runs each")
    print(f"{'who':<13} {'how':<9} {'seconds, median (range)':<27} test accuracy")
    for who, how in VARIANTS:
        runs = results[who, how]
        print(f"{who:<13} {how:<9} {spread(seconds(runs)):<27} {runs[0]['accuracy']:.4f}")
    theirs = seconds(results["scikit-learn", "default"])
    for kind in ("portable", "fast"):
        print(f"{kind}: {ratio(theirs, seconds(results['ours', kind])):.1f} times faster")


def ours(kind: str) -> dict[str, float]:
    """Train as the recipe says, and measure on the test set."""
    numerics.pin(kind, None)
    import torch

    from benchmarks import workload
    from core.training import evaluation, tensors

    data = workload.load()
    start = time.perf_counter()
    training = workload.start(data, kind, None, train=strict_yaml.load(RECIPE).values["train"])
    training.fit(
        data.images,
        data.labels,
        data.train_indices,
        data.val_indices,
        report=lambda row: None,
        progress=lambda epoch, steps, taken: steps,
    )
    elapsed = time.perf_counter() - start
    test_images, test_labels = (tensors.of(array) for array in load_test())
    every = torch.arange(len(test_labels))
    accuracy = evaluation.measure(training.model, test_images, test_labels, every).accuracy
    return {"seconds": elapsed, "accuracy": accuracy}


def scikit_learn() -> dict[str, float]:
    """Fit by L-BFGS, scikit-learn's default, and measure on the test set."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    images, labels, _ = arrays.read_labelled_images(
        RAW / "train_images.npy", RAW / "train_labels.npy", RAW / "classes.json"
    )
    train_indices = arrays.read_indices(SPLIT / "train_indices.npy", images=len(images))
    pixels = images[train_indices].reshape(len(train_indices), -1) / 255
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression().fit(pixels, labels[train_indices])
    elapsed = time.perf_counter() - start
    test_images, test_labels = load_test()
    accuracy = model.score(test_images.reshape(len(test_labels), -1) / 255, test_labels)
    return {"seconds": elapsed, "accuracy": float(accuracy)}


def load_test() -> tuple[arrays.Images, arrays.Labels]:
    """Read the test images and their labels."""
    images, labels, _ = arrays.read_labelled_images(
        RAW / "test_images.npy", RAW / "test_labels.npy", RAW / "classes.json"
    )
    return images, labels


if __name__ == "__main__":
    main()
