"""Reviews of real branches of a real repository."""

import argparse
import contextlib
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from tests.support.project import TINY_TEST, Project
from tools.review import __main__ as command


@pytest.fixture(scope="module")
def main(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`, committed on main."""
    return built.copy(tmp_path_factory.mktemp("copy") / "project")


@pytest.fixture
def branch(main: Project) -> Iterator[Project]:
    """The same project on a branch that leaves main here, for one test to continue."""
    main.must("git", "checkout", "--quiet", "-b", "branch")
    yield main
    main.must("git", "reset", "--quiet", "--hard")
    main.must("git", "clean", "--quiet", "--force", "-d")
    main.must("git", "checkout", "--quiet", "main")
    main.must("git", "branch", "--quiet", "-D", "branch")
    main.must("dvc", "checkout", "--quiet", "--force")


def rebuild(project: Project, message: str) -> None:
    project.must("dvc", "repro")
    project.commit(message)


def review(project: Project, *arguments: str) -> str:
    """Review, as the command does, and return the Markdown."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with contextlib.chdir(project.folder), contextlib.redirect_stdout(io.StringIO()):
        command.main(**vars(parser.parse_args(arguments)))
    return project.read("reports/review.md")


def warned(markdown: str) -> list[str]:
    """The warnings of a review, none if it has none."""
    return re.findall(r"^> - (.*)$", markdown, re.MULTILINE)


def right(text: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    rows = csv.DictReader(text.splitlines())
    return np.array([row["label"] == row["prediction"] for row in rows])


def test_a_parameter_that_makes_the_model_worse_is_found_in_a_clone_without_data(
    branch: Project, tmp_path: Path
) -> None:
    before = right(branch.read("metrics/test_predictions.csv"))
    branch.replace("params.yaml", "  lr: 0.1", "  lr: 0.00001")
    rebuild(branch, "Learn next to nothing")
    after = right(branch.read("metrics/test_predictions.csv"))
    clone = Project(tmp_path / "clone")
    branch.must("git", "clone", "--quiet", str(branch.folder), str(clone.folder))
    clone.must("git", "remote", "remove", "origin")
    clone.must("git", "branch", "main", "HEAD~1")
    markdown = review(clone)
    first = markdown.splitlines()[0]
    assert first.startswith(
        "**Worse: of these two models, the new one is right less often.** Test accuracy "
        f"{100 * before.mean():.2f}\u00a0% → {100 * after.mean():.2f}\u00a0%, "
        f"−{100 * (before.mean() - after.mean()):.2f} points"
    )
    assert "| `train.lr` | `0.1` | `1e-05` |" in markdown
    assert "| `train` | `train.lr` |" in markdown
    assert (
        f"**{(after & ~before).sum()} fixed, {(before & ~after).sum()} broken** "
        f"of {TINY_TEST}" in markdown
    )
    assert warned(markdown) == []
    page = clone.read("reports/review.html")
    assert "The pictures need the data: dvc repro, or dvc pull." in page
    assert "<img" not in page
    assert clone.must("git", "status", "--porcelain") == ""


def test_with_the_data_the_page_shows_the_images_fixed_and_broken(branch: Project) -> None:
    branch.replace("params.yaml", "  lr: 0.1", "  lr: 0.00001")
    rebuild(branch, "Learn next to nothing")
    review(branch)
    page = branch.read("reports/review.html")
    images = re.findall(r'<img src="data:image/png;base64,[^"]+"\s+alt="([^"]+)">', page)
    assert images[-1].startswith("Broken.")
    rows = list(csv.DictReader(branch.read("metrics/test_predictions.csv").splitlines()))
    old = list(
        csv.DictReader(branch.must("git", "show", "main:metrics/test_predictions.csv").splitlines())
    )
    broken = [
        (float(new["probability"]), -int(new["index"]))
        for was, new in zip(old, rows, strict=True)
        if was["prediction"] == was["label"] != new["prediction"]
    ]
    first = -max(broken)[1]
    assert images[-1].startswith(
        f"Broken. label {rows[first]['label']}, was {old[first]['prediction']}, "
        f"{100 * float(old[first]['probability']):.0f}\u00a0%, now {rows[first]['prediction']}"
    )


def test_a_comment_in_a_stage_changes_nothing(branch: Project) -> None:
    path = branch.folder / "stages/train.py"
    path.write_text(path.read_text() + "# A comment.\n")
    rebuild(branch, "Comment")
    markdown = review(branch)
    assert markdown.startswith(
        "**No difference beyond noise between these two models.** Both get the same of "
        f"{TINY_TEST} test images right"
    )
    assert "No parameter." in markdown
    assert "| `train` | `stages/train.py` |" in markdown
    assert "`evaluate`" not in markdown
    assert warned(markdown) == []


@pytest.mark.slow
def test_another_split_cannot_be_compared_and_shows_only_the_metrics(branch: Project) -> None:
    branch.replace("params.yaml", "  val_fraction: 0.2", "  val_fraction: 0.25")
    rebuild(branch, "Validate on more")
    markdown = review(branch)
    assert markdown.startswith(
        "**Cannot be compared.** Another split of the data "
        "(data/split/val_indices.npy is not the same); only the metrics are shown below."
    )
    accuracy = json.loads(branch.read("metrics/test.json"))["accuracy"]
    row = next(line for line in markdown.splitlines() if line.startswith("| test accuracy"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2] == f"{100 * accuracy:.2f}\u00a0%"
    assert cells[4:] == ["", ""]
    assert "fixed" not in markdown
    assert "| `data/split/val_indices.npy` | output, changed |" in markdown


@pytest.mark.slow
def test_another_model_is_compared_on_the_same_images(branch: Project) -> None:
    (branch.folder / "core/training/models/hidden.py").write_text(
        "from torch import nn\n"
        "from core.training.layers import ImageShape\n"
        "from core.training.models.logistic_regression import LogisticRegression\n"
        "def build(image_shape: ImageShape, classes: int) -> nn.Module:\n"
        "    first = LogisticRegression(image_shape, 8)\n"
        "    return nn.Sequential(first, nn.Tanh(), nn.Linear(8, classes))\n"
    )
    branch.replace("params.yaml", "  resnet18: {}\n", "  resnet18: {}\n  hidden: {}\n")
    branch.must("python", "-m", "tools.deps")
    branch.replace("params.yaml", "name: logistic_regression", "name: hidden")
    rebuild(branch, "A hidden layer")
    markdown = review(branch, "main", "branch")
    assert "| `model.name` | `logistic_regression` | `hidden` |" in (markdown)
    assert "| `core/training/models/hidden.py` | code, new |" in markdown
    assert re.search(r"\*\*\d+ fixed, \d+ broken\*\* of 120", markdown)
    assert not markdown.startswith("**Cannot")


def test_a_renamed_parameter_stands_in_one_row_and_a_stale_lock_is_warned_of(
    branch: Project,
) -> None:
    branch.replace("params.yaml", "  lr: 0.1", "  learning_rate: 0.1")
    branch.commit("Rename")
    markdown = review(branch)
    assert "| `train.lr → train.learning_rate` | `0.1` | `0.1` |" in markdown
    assert warned(markdown)[0].startswith(
        "dvc.lock of the working tree does not belong to its code and parameters: "
        "train.lr, train.learning_rate changed since."
    )


@pytest.mark.parametrize("missing", ["base", "branch"])
def test_metrics_that_base_or_head_lacks_are_dashes(branch: Project, missing: str) -> None:
    branch.must("git", "rm", "--quiet", "-r", "metrics")
    branch.commit("No metrics")
    revisions = ("branch", "main") if missing == "base" else ("main", "branch")
    markdown = review(branch, *revisions)
    assert markdown.startswith(
        "**Cannot be compared.** No metrics/test_predictions.csv in branch; "
    )
    row = next(line for line in markdown.splitlines() if line.startswith("| test accuracy"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1 if missing == "base" else 2] == "–"
    assert cells[3:] == ["", "", ""]


def test_a_base_without_predictions_shows_the_metrics_of_both(branch: Project) -> None:
    branch.must("git", "rm", "--quiet", "metrics/test_predictions.csv")
    branch.commit("As it was before predictions were kept")
    markdown = review(branch, "branch", "main")
    assert markdown.startswith("**Cannot be compared.** No metrics/test_predictions.csv in branch")
    accuracy = json.loads(branch.must("git", "show", "main:metrics/test.json"))["accuracy"]
    shown = f"{100 * accuracy:.2f}\u00a0%"
    assert f"| test accuracy | {shown} | {shown} | 0.00 |" in markdown
    assert "Learning curves" in markdown


def test_the_page_names_its_base_and_where_the_others_forked(branch: Project) -> None:
    branch.must("git", "commit", "--quiet", "--allow-empty", "--message", "Of somebody else")
    theirs = branch.must("git", "rev-parse", "HEAD").strip()
    branch.must("git", "update-ref", "refs/remotes/origin/main", theirs)
    branch.must("git", "remote", "add", "origin", str(branch.folder))
    try:
        printed = branch.must("python", "-m", "tools.review")
    finally:
        branch.must("git", "remote", "remove", "origin")
    said = "Not taken: main, which forked 1 commit earlier, at "
    for text in (branch.read("reports/review.md"), branch.read("reports/review.html"), printed):
        assert f"origin/main at {theirs[:8]}" in text
        assert said in text


def test_without_main_and_without_git_the_error_says_what_to_do(
    branch: Project, tmp_path: Path
) -> None:
    clone = Project(tmp_path / "alone")
    branch.must(
        *("git", "clone", "--quiet", "--single-branch", "--branch", "branch"),
        *(str(branch.folder), str(clone.folder)),
    )
    done = clone.run("python", "-m", "tools.review")
    assert done.returncode == 1
    assert "there is no main to compare with" in done.stderr
    assert "git fetch origin main:refs/remotes/origin/main" in done.stderr
    (clone.folder / ".git").rename(clone.folder / ".not-git")
    done = clone.run("python", "-m", "tools.review")
    assert done.returncode == 1
    assert "not in an unpacked archive" in done.stderr


@pytest.mark.slow
def test_tries_that_move_the_test_metrics_are_warned_of(branch: Project) -> None:
    for lr in ("0.2", "0.3"):
        text = re.sub(r"  lr: .*", f"  lr: {lr}", branch.read("params.yaml"))
        (branch.folder / "params.yaml").write_text(text)
        rebuild(branch, f"Try {lr}")
    said = warned(review(branch))
    assert [text for text in said if "may have been used to choose: 2 states" in text] == said


@pytest.mark.slow
def test_results_that_are_not_committed_are_warned_of(branch: Project) -> None:
    branch.replace("params.yaml", "  lr: 0.1", "  lr: 0.2")
    branch.must("dvc", "repro")
    said = warned(review(branch))
    assert len(said) == 1
    assert said[0].startswith(
        "The review is of the working tree. Not committed: params.yaml, dvc.lock"
    )


def test_code_that_is_not_committed_is_warned_of(branch: Project) -> None:
    path = branch.folder / "stages/test_report.py"
    path.write_text(path.read_text() + "# A comment.\n")
    branch.must("dvc", "repro")
    (branch.folder / "notes.txt").touch()  # no stage depends on it
    assert warned(review(branch)) == [
        "The review is of the working tree. Not committed: stages/test_report.py, dvc.lock."
    ]


def test_markup_in_names_is_shown_and_not_obeyed(branch: Project) -> None:
    name = "a<img/src=x>_b_`c`"
    branch.replace("params.yaml", "  lr: 0.1", '  "<script>alert(1)</script>|*x*": 1\n  lr: 0.1')
    text = branch.read("metrics/per_class.csv").replace("\n3,", "\n</td><b>@all,")
    (branch.folder / "metrics/per_class.csv").write_text(text)
    branch.must("git", "checkout", "--quiet", "-b", name)
    branch.commit("Names")
    try:
        markdown = review(branch, "main", name)
    finally:
        branch.must("git", "checkout", "--quiet", "branch")
        branch.must("git", "branch", "--quiet", "-D", name)
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    page = branch.read("reports/review.html")
    for rendered in (html, page):
        assert "<script" not in rendered
        assert "<img" not in rendered.replace('<img src="data:', "")
        assert "<b>" not in rendered
        assert "&lt;script&gt;" in rendered
    # GitHub finds no mention in code.
    assert "@all" not in re.sub("<code>.*?</code>", "", html)


@pytest.mark.slow
def test_seeds_of_base_and_head_are_trained_and_the_verdict_is_on_the_recipes(
    branch: Project,
) -> None:
    branch.replace("params.yaml", "  lr: 0.1", "  lr: 0.00001")
    branch.commit("Learn next to nothing, and rebuild nothing")
    before = branch.must("git", "rev-parse", "HEAD")
    markdown = review(branch, "--seeds", "2")
    assert markdown.startswith(
        "**Worse: the new recipe is right less often.** Test accuracy"
    ) or markdown.startswith("**No difference beyond noise between the two recipes.**")
    assert "mean of 2 seeds of each" in markdown
    rows = re.findall(
        r"^\| (\d) \| ([\d.]+)\u00a0% \| ([\d.]+)\u00a0% \| −", markdown, re.MULTILINE
    )
    assert [seed for seed, _, _ in rows] == ["1", "2"]
    # Seed 1 of the base, as DVC itself trains it.
    branch.must("git", "checkout", "--quiet", "main")
    branch.must("dvc", "exp", "run", "--quiet", "--set-param", "train.seed=1")
    accuracy = json.loads(branch.read("metrics/test.json"))["accuracy"]
    branch.must("git", "checkout", "--quiet", "--force", "branch")
    assert rows[0][1] == f"{100 * accuracy:.2f}"
    assert branch.must("git", "rev-parse", "HEAD") == before


@pytest.mark.slow
def test_a_change_within_the_spread_of_saved_seeds_is_warned_of(branch: Project) -> None:
    accuracies = [json.loads(branch.read("metrics/evaluate.json"))["val"]["accuracy"]]
    for seed in (1, 2):
        branch.must(
            *("dvc", "exp", "run", "--quiet", "--name", f"lr-0.1-seed-{seed}"),
            *("--set-param", f"train.seed={seed}"),
        )
        accuracies.append(json.loads(branch.read("metrics/evaluate.json"))["val"]["accuracy"])
        branch.must("git", "checkout", "--quiet", "--force", "branch", "--", ".")
    branch.replace("params.yaml", "  lr: 0.1", "  lr: 0.11")
    rebuild(branch, "A little faster")
    markdown = review(branch)
    # t of 2 degrees of freedom at 97.5 % is 4.3027; two runs differ by sqrt(2) deviations.
    deviation = np.std(accuracies, ddof=1)
    limit = 100 * 4.3027 * 2**0.5 * deviation
    assert [text for text in warned(markdown) if "spread of seeds: 3 runs" in text]
    assert f"differ by up to {limit:.2f} points" in warned(markdown)[0]
    assert f"standard deviation of {100 * deviation:.2f} points" in markdown


@pytest.mark.slow
def test_another_seed_is_never_called_better(branch: Project) -> None:
    branch.replace("params.yaml", "  seed: 42\n  # sgd", "  seed: 7\n  # sgd")
    rebuild(branch, "Another seed")
    markdown = review(branch)
    assert markdown.startswith(
        "**No difference beyond noise: base and head are one recipe with two seeds.** Test accuracy"
    )
    assert "| `train.seed` | `42` | `7` |" in markdown


def test_seeds_have_to_be_two_at_least(branch: Project) -> None:
    done = branch.run("python", "-m", "tools.review", "--seeds", "1")
    assert done.returncode == 2
    assert "expected a whole number from 2 on, found 1" in done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("metrics/test_predictions.csv", "index,label", "index,truth", "cannot be read"),
        ("metrics/test_predictions.csv", "\n0,7,", "\n0,7.5,", "whole numbers"),
        ("metrics/test_predictions.csv", "\n0,7,", "\n0,x,", "a table of numbers"),
        ("metrics/test.json", "{", "[", "JSON"),
        ("metrics/history.csv", "\n0,", "\n0,nan,", "a table of numbers"),
    ],
)
def test_a_damaged_file_is_named_with_its_revision(
    branch: Project, file: str, old: str, new: str, message: str
) -> None:
    branch.replace(file, old, new)
    done = branch.run("python", "-m", "tools.review")
    assert done.returncode == 1
    assert f"{file} of the working tree cannot be read" in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_page_loads_nothing_and_the_markdown_fits_a_comment(branch: Project) -> None:
    markdown = review(branch)
    page = branch.read("reports/review.html")
    assert "default-src 'none'" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert len(markdown) < 65_000
    assert markdown == review(branch)
