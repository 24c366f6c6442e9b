"""`python -m tools.list_experiments`: the columns that tell experiments apart."""

from pathlib import Path

from tests.support.project import Project
from tools.list_experiments import columns

PARAMS = ["train.seed", "train.lr", "train.epochs", "model.cnn.channels"]


def row(name: str, **values: str) -> dict[str, str]:
    measured = {"train.accuracy": "0.91", "val.loss": "0.327049", "val.accuracy": "0.910583"}
    params = {"train.seed": "1", "train.lr": "0.1", "train.epochs": "5"}
    changed = {key.replace("_", "."): value for key, value in values.items()}
    return {"Experiment": name, "State": ""} | measured | params | changed


def test_the_columns_are_the_validation_and_the_parameters_that_differ() -> None:
    rows = [row(""), row("lr-0.1"), row("lr-1", train_lr="1")]
    assert columns(rows, PARAMS, 80) == (["val.loss", "val.accuracy", "train.lr"], [])


def test_what_does_not_fit_is_named_and_the_seed_goes_first() -> None:
    rows = [row("lr-0.1-seed-1"), row("lr-1-seed-2", train_lr="1", train_seed="2")]
    # Edges 4, the longest name in the tree 14 + 13, three spaces before each other column:
    # 3 + 8, 3 + 12, 3 + 8 are 68, and 3 + 10 more for the seed are 81.
    some = ["val.loss", "val.accuracy", "train.lr"]
    assert columns(rows, PARAMS, 81) == ([*some, "train.seed"], [])
    assert columns(rows, PARAMS, 80) == (some, ["train.seed"])
    assert columns(rows, PARAMS, 60) == (some[:2], ["train.lr", "train.seed"])


def test_a_queue_and_a_recipe_are_shown() -> None:
    rows = [row("cnn", State="Queued"), row("mlp", train_epochs="20")]
    assert columns(rows, PARAMS, 80)[0] == ["State", "val.loss", "val.accuracy", "train.epochs"]
    assert columns([], PARAMS, 80) == ([], [])


def test_the_table_is_that_of_dvc_and_no_wider_than_the_terminal(
    built: Project, tmp_path: Path
) -> None:
    project = built.copy(tmp_path / "project")
    project.replace("params.yaml", "  lr: 0.1", "  lr: 0.25")
    lines = project.must("python", "-m", "tools.list_experiments").splitlines()
    assert lines[1].split() == ["Experiment", "val.loss", "val.accuracy", "train.lr"]
    assert [line.split()[0] for line in lines[3:5]] == ["workspace", "main"]
    assert [line.split()[-1] for line in lines[3:5]] == ["0.25", "0.1"]
    assert max(map(len, lines)) <= 80
    refused = project.run("python", "-m", "tools.list_experiments", "-n", "x")
    assert refused.returncode == 1
    assert "error: DVC lists no experiments" in refused.stderr
    assert "Traceback" not in refused.stderr
