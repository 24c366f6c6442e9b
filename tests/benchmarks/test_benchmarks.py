"""The programs of the benchmarks, run quickly on the bundled MNIST."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.growth import WIDTH
from benchmarks.time_to_accuracy import until_goal
from tests.support.project import Project, copy_project

pytestmark = pytest.mark.slow  # all of them together


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project with MNIST downloaded and split."""
    copied = copy_project(tmp_path_factory.mktemp("benchmarks"))
    copied.must("python", "-m", "stages.download")
    copied.must("python", "-m", "stages.split")
    return copied


def variant(project: Project, module: str, *names: str) -> Any:
    """What one variant of a benchmark prints."""
    return json.loads(project.must("python", "-m", f"benchmarks.{module}", "--variant", *names))


def test_our_loop_and_the_gradient_by_hand_learn_what_the_textbook_learns(
    project: Project,
) -> None:
    textbook = variant(project, "train_loop", "textbook", "default")
    for loop in ("ours", "by hand"):
        done = variant(project, "train_loop", loop, "portable")
        assert done["val_loss"] == pytest.approx(textbook["val_loss"], abs=2e-6)
        assert done["seconds"] > 0


def test_two_shards_are_timed_like_one(project: Project) -> None:
    for kind in ("portable", "fast, 2 shards"):
        seconds = variant(project, "numerics", "logistic_regression", kind)["seconds"]
        assert 0 < seconds < 1


def test_the_verdict_is_asked_three_questions(project: Project) -> None:
    printed = project.must("python", "-m", "benchmarks.verdict", "--pairs", "5", "--swaps", "10")
    first, *shares = printed.splitlines()
    assert first.startswith("10 models, accuracy 0.8")
    assert [line.split("  ")[0] for line in shares] == [
        "swapped at random",
        "another seed",
        "5 seeds, 5 others",
    ]


def test_our_cnn_learns_from_few_images_in_the_race_for_accuracy(project: Project) -> None:
    done = variant(project, "time_to_accuracy", "ours", "5000", "0")
    assert done["epochs"] == 1
    assert 0.8 < done["accuracy"] < 0.99


def test_a_race_ends_with_the_first_epoch_that_has_the_accuracy() -> None:
    def accuracies() -> Iterator[float]:
        yield from (0.97, 0.99)
        raise AssertionError("another epoch was trained")

    done = until_goal(accuracies(), 0.0)
    assert (done["epochs"], done["accuracy"]) == (2, 0.99)
    missed = until_goal(iter([0.98, 0.97]), 0.0)
    assert (missed["epochs"], missed["accuracy"]) == (2, 0.97)


def test_images_are_trained_on_where_half_of_them_could_be_allocated(
    project: Project, tmp_path: Path
) -> None:
    written = project.must(
        "python",
        "-c",
        "import sys; from pathlib import Path; from benchmarks import scale; "
        "print(scale.write(Path(sys.argv[1]), 3))",
        str(tmp_path),
    )
    images = np.load(tmp_path / "data/raw/train_images.npy", mmap_mode="r")
    labels = np.load(tmp_path / "data/raw/train_labels.npy")
    assert int(written) == images.nbytes == 3 * 60_000 * 784
    assert labels[60_000:60_005].tolist() == [5, 0, 4, 1, 9]
    apart = images[60_000].astype(int) - images[0]
    assert 0 < np.abs(apart).max() < 8

    done = variant(project, "scale", str(tmp_path), str(images.nbytes // 2))
    assert done["images"] == 3 * 60_000
    command = ("python", "-m", "benchmarks.scale", "--variant", str(tmp_path), "1000000")
    assert project.run(*command).returncode != 0, "the limit holds nothing back"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_benchmark_says_so_in_a_line(project: Project) -> None:
    done = project.run("python", "-m", "benchmarks.gpu")
    assert done.returncode == 1
    assert done.stderr == "PyTorch finds no GPU here: this benchmark needs one\n"


@pytest.fixture
def small(built: Project, tmp_path: Path) -> Project:
    """A copy of a tiny project that ran, of 400 images."""
    return built.copy(tmp_path / "small")


def lines(printed: str) -> dict[str, list[str]]:
    """The figures of each line of a table, by its name."""
    cut = [(line[:WIDTH].strip(), line[WIDTH:].split()) for line in printed.splitlines()]
    return dict(cut)


def test_what_grows_with_the_images_is_measured(small: Project) -> None:
    printed = small.must(
        "python", "-m", "benchmarks.scale", "--sizes", "1", "2", "--rounds", "1", "--large", "0"
    )
    found = lines(printed)
    assert found["images"][:2] == ["400", "800"]
    assert found["images, MB"] == ["0.314", "0.627", "784"]
    # A label and an index for each image, 8 bytes, and three headers of 128.
    assert found["labels and indices, MB"] == ["0.0068", "0.0132", "16.0"]
    for line in ("train, s", "train, MB of memory", "dvc commit: hash and copy to the cache, s"):
        assert all(float(figure) > 0.3 for figure in found[line][:2]), line
    assert small.must("git", "status", "--porcelain") == ""


def test_what_grows_with_the_files_is_measured(small: Project) -> None:
    printed = small.must("python", "-m", "benchmarks.many_files", "--sizes", "10", "20")
    found = lines(printed)
    assert found["files"][:2] == ["10", "20"]
    assert found["the images, MB"] == ["0.0078", "0.0157", "0.784"]
    assert float(found["dvc add, one image changed, s"][1]) > 0.1


def test_what_grows_with_the_experiments_is_measured(small: Project) -> None:
    printed = small.must(
        "python", "-m", "benchmarks.many_experiments", "--sizes", "2", "4", "--seeds", "2"
    )
    found = lines(printed)
    assert found["experiments"][:2] == ["2", "4"]
    assert found["refs in the shared repository"] == ["4", "6", "1.00"]  # HEAD and main
    assert float(found["python -m tools.compare, nothing to run, s"][1]) > 0.3
    assert small.must("git", "for-each-ref", "refs/exps") == ""


def test_processes_are_timed_like_as_many_shards_and_end_with_their_bits(small: Project) -> None:
    words = ("--rounds", "1", "--images", "120", "--models", "logistic_regression")
    printed = small.must("python", "-m", "benchmarks.processes", *words)
    rows = [line.split() for line in printed.splitlines()[2:]]
    assert [row[3:5] for row in rows] == [
        ["1", "processes"],
        ["2", "shards"],
        ["4", "shards"],
        ["2", "processes"],
        ["4", "processes"],
    ]
    alone, *others = (row[-1] for row in rows)
    assert others[:2] == others[2:]
    assert len({alone, *others}) == 3
