"""Recipes: the changes of each file in recipes/ to params.yaml, and `python -m tools.recipe`."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc.utils.serialize import modify_yaml

from core.pipeline.errors import ParamsError
from core.training import model_params
from tests.support.project import Project
from tools import recipe
from tools.experiments import recipe_files
from tools.experiments.grid import Experiment, plan
from tools.experiments.store import Result

ROOT = Path(__file__).resolve().parents[2]
PARAMS = Path("params.yaml")
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
RECIPE = ("python", "-m", "tools.recipe")

MLP = "# MLP\nmodel:\n  name: mlp\n  mlp:\n    hidden_sizes:\n    - 16\ntrain:\n  epochs: 3\n"


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with our params.yaml, for recipes of a test's own."""
    shutil.copy(ROOT / PARAMS, tmp_path)
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "recipes"


def leaves(values: dict[str, Any], *sections: str) -> Iterator[tuple[list[str], Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, *sections, key)
        else:
            yield [*sections, key], value


def written_by_dvc(folder: Path, text: str) -> bytes:
    """Our params.yaml after DVC's own writer has set the parameters of a recipe in it."""
    copy = folder / "written.yaml"
    shutil.copy(ROOT / PARAMS, copy)
    with modify_yaml(str(copy)) as content:
        for (*sections, key), value in leaves(yaml.safe_load(text)):
            section = content
            for name in sections:
                section = section[name]
            assert section[key] != value, f"{key} is the same in params.yaml"
            section[key] = value
    return copy.read_bytes()


def test_there_are_recipes_of_every_architecture() -> None:
    named = [yaml.safe_load((ROOT / f"recipes/{name}.yaml").read_text()) for name in RECIPES]
    chosen = {values.get("model", {}).get("name", "logistic_regression") for values in named}
    assert chosen == {"logistic_regression", "mlp", "cnn", "resnet18"}


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_changes_what_it_names_as_dvc_writes_it_and_nothing_else(
    name: str, tmp_path: Path
) -> None:
    (experiment,) = plan([], None, PARAMS, [name])

    text = (ROOT / f"recipes/{name}.yaml").read_text()
    assert (experiment.name, experiment.recipe, experiment.seed) == (name, name, 42)
    assert experiment.params == written_by_dvc(tmp_path, text)
    of_one_line = [value for _, value in leaves(yaml.safe_load(text)) if type(value) is not list]
    ours = (ROOT / PARAMS).read_text().splitlines()
    theirs = experiment.params.decode().splitlines()
    if len(of_one_line) == len(list(leaves(yaml.safe_load(text)))):
        changed = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
        assert len(changed) == len(of_one_line)
    comments = [line for line in ours if line.strip().startswith("#")]
    assert [line for line in theirs if line.strip().startswith("#")] == comments


@pytest.mark.usefixtures("in_root")
def test_each_recipe_says_in_a_line_what_it_is() -> None:
    *lines, empty, last = recipe.listing().splitlines()
    assert [line.split()[0] for line in lines] == RECIPES
    assert [line for line in lines if not 25 < len(line) <= 80] == []
    assert (empty, last) == ("", "next  python -m tools.recipe NAME --seeds 5")


@pytest.mark.parametrize(
    ("content", "described"),
    [
        (b"\xef\xbb\xbf# mine\ntrain:\n", "mine"),
        (b"# m\xffine\n", "m\ufffdine"),
        (b"# mine\x1b[31m\n", "mine<U+001B ESCAPE>[31m"),
        (b"", ""),
    ],
)
def test_any_file_in_the_folder_is_described(folder: Path, content: bytes, described: str) -> None:
    (folder / "mine.yaml").write_bytes(content)
    assert recipe_files.description("mine") == described


def test_a_recipe_is_crossed_with_settings_and_seeds(folder: Path) -> None:
    (folder / "mlp.yaml").write_text(MLP)
    (folder / "slow.yaml").write_text("train:\n  lr: 1e-05\n  shards: 3\n")

    experiments = plan(["train.epochs=2,4"], 2, PARAMS, ["mlp", "slow"])

    assert [each.name for each in experiments] == [
        f"{name}-epochs-{epochs}-seed-{seed}"
        for name in ("mlp", "slow")
        for epochs in (2, 4)
        for seed in (1, 2)
    ]
    assert experiments[6].recipe == "slow-epochs-4"
    assert experiments[6].settings == {"recipe": "slow", "train.epochs": 4}
    assert [each.processors for each in experiments] == [1] * 4 + [3] * 4
    first, last = (yaml.safe_load(experiments[i].params) for i in (0, 7))
    assert (first["model"]["name"], first["model"]["mlp"]["hidden_sizes"]) == ("mlp", [16])
    assert first["train"]["epochs"] == 2  # and not the recipe's 3
    assert (last["model"]["name"], float(last["train"]["lr"])) == ("logistic_regression", 1e-5)
    assert last["train"]["seed"] == 2


def test_any_address_is_written_as_it_stands(folder: Path) -> None:
    mirrors = [
        "a b",
        "c'd",
        'e"f',
        "x: #y",
        "https://u:p@[::1]:80/a?b=1,2&c",
        "g\\h",
        "C:\\d\\",
        'i\\"j',
        "null",
    ]
    (folder / "elsewhere.yaml").write_text(
        yaml.safe_dump({"dataset": {"mirrors": {"mnist": mirrors}}})
    )

    (experiment,) = plan([], None, PARAMS, ["elsewhere"])

    assert yaml.safe_load(experiment.params)["dataset"]["mirrors"]["mnist"] == mirrors


def test_every_mistake_in_a_recipe_is_reported_with_its_position_there(folder: Path) -> None:
    (folder / "typos.yaml").write_text(
        "# With mistakes\n"
        "train:\n"
        "  lrr: 0.1\n"
        "  augment: {shift: -1}\n"
        "model:\n"
        "  name: cnnn\n"
        "  cnn: 3\n"
    )
    with pytest.raises(ParamsError) as caught:
        plan([], None, PARAMS, ["typos"])
    assert str(caught.value) == (
        "recipes/typos.yaml has 4 problems\n"
        "  found:    model.name (line 6, column 3): expected "
        f"{' or '.join(model_params.architectures())}, found cnnn; did you mean cnn?\n"
        "            model.cnn (line 7, column 3): expected the keys channels, dropout, found 3\n"
        "            train.augment.shift (line 4, column 13): expected an integer from 0 to"
        " 2^31 - 1, in pixels, found -1\n"
        "            train.lrr (line 3, column 3): unknown; did you mean lr?\n"
        "  next:     fix recipes/typos.yaml; each parameter is explained in params.yaml"
    )


def test_parameters_that_do_not_fit_those_of_params_yaml_are_reported(folder: Path) -> None:
    (folder / "nesterov.yaml").write_text("train:\n  nesterov: true\n")
    with pytest.raises(ParamsError, match=r"recipes/nesterov\.yaml has a problem") as caught:
        plan([], None, PARAMS, ["nesterov"])
    assert caught.value.details["found"] == (
        "train.nesterov (line 2, column 3): expected false without sgd and a momentum above 0, "
        "found true with sgd and 0"
    )
    (experiment,) = plan(["train.lr=0.5"], None, PARAMS)  # problems elsewhere do not matter
    assert experiment.name == "lr-0.5"


@pytest.mark.parametrize("text", ["", "# Only a comment\n"])
def test_a_recipe_without_parameters_is_refused(folder: Path, text: str) -> None:
    (folder / "nothing.yaml").write_text(text)
    with pytest.raises(
        ParamsError, match=r"(?s)recipes/nothing\.yaml has a problem.*found nothing"
    ):
        plan([], None, PARAMS, ["nothing"])


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize("name", ["cnn-mnst", "../params", "zzz"])
def test_a_recipe_that_there_is_not_is_reported_with_the_nearest(name: str) -> None:
    with pytest.raises(ParamsError, match=f"there is no recipe {name}") as caught:
        plan([], None, PARAMS, [name])
    assert caught.value.details["expected"] == ", ".join(RECIPES)
    hint = {"cnn-mnst": "did you mean cnn-mnist?"}
    assert caught.value.details["found"] == hint.get(name, "")


def result(seed: int, accuracy: float, seconds: float | None) -> Result:
    experiment = Experiment(f"mlp-seed-{seed}", "mlp", {}, seed, "portable", 1, "cpu", b"")
    nothing = pd.DataFrame()
    return Result(experiment, 0.1, accuracy, nothing, nothing, seconds)


def test_the_table_shows_means_deviations_and_seeds() -> None:
    results = [result(1, 0.97, 10.0), result(2, 0.98, None), result(3, 0.99, 13.0)]
    assert recipe.table(results, [0.9, 0.92, 0.94]) == (
        "recipe  n  val accuracy     test accuracy    seconds\n"
        "mlp     3  0.9800 ± 0.0100  0.9200 ± 0.0200  11.5\n"
        "Mean ± standard deviation over train.seed 1, 2, 3."
    )


def test_of_one_run_the_table_shows_no_deviation() -> None:
    assert recipe.table([result(42, 0.97, None)], [0.9]) == (
        "recipe  n  val accuracy  test accuracy  seconds\n"
        "mlp     1  0.9700        0.9000         –\n"
        "One run, of train.seed 42. --seeds 5 says how much a training varies."
    )


@pytest.fixture(scope="module")
def project(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`, with two recipes; the tests continue from it in order."""
    project = built.copy(tmp_path_factory.mktemp("copy") / "a project")
    (project.folder / "recipes/tiny-mlp.yaml").write_text(MLP)
    (project.folder / "recipes/tiny-fast.yaml").write_text("# Fast\ntrain:\n  lr: 0.5\n")
    project.commit("Two recipes")
    return project


def test_what_cannot_run_is_refused_before_anything_runs(project: Project) -> None:
    several = project.run(*RECIPE, "tiny-mlp", "train.lr=0.1,0.2")
    assert several.stderr.startswith("error: a recipe runs with one value for each parameter\n")
    assert several.stderr.endswith(
        "choose one by validation: python -m tools.compare --recipes tiny-mlp train.lr=0.1,0.2\n"
    )
    wrong = project.run(*RECIPE, "tiny-mlp", "--seeds", "2", "train.lr=-1")
    assert wrong.stderr.startswith("error: an experiment with train.lr=-1 train.seed=1 cannot run")
    assert [several.returncode, wrong.returncode] == [1, 1]
    assert not (project.folder / ".dvc/tmp/compare").exists()


def stored(project: Project, name: str, file: str) -> Any:
    head = project.must("git", "rev-parse", "HEAD").strip()
    ref = f"refs/exps/{head[:2]}/{head[2:]}/{name}"
    return json.loads(project.must("git", "show", f"{ref}:metrics/{file}.json"))


@pytest.mark.slow
def test_the_figures_are_those_of_the_experiments_and_the_next_call_runs_nothing(
    project: Project,
) -> None:
    command = (*RECIPE, "tiny-mlp", "--seeds", "2", "train.lr=0.2")
    printed = project.must(*command)

    names = [f"tiny-mlp-lr-0.2-seed-{seed}" for seed in (1, 2)]
    val = [stored(project, name, "evaluate")["val"]["accuracy"] for name in names]
    test = [stored(project, name, "test")["accuracy"] for name in names]
    assert len({*val, *test}) > 2  # the seeds differ, and so do validation and test
    head, row, seeds = printed.split("\n\n")[1].splitlines()
    assert head.split() == ["recipe", "n", "val", "accuracy", "test", "accuracy", "seconds"]
    assert re.split("  +", row)[:4] == [
        "tiny-mlp-lr-0.2",
        "2",
        f"{np.mean(val):.4f} ± {np.std(val, ddof=1):.4f}",
        f"{np.mean(test):.4f} ± {np.std(test, ddof=1):.4f}",
    ]
    assert seeds == "Mean ± standard deviation over train.seed 1, 2."
    took = [float(s) for s in re.findall(r"^./2  done +([\d.]+) s", printed, re.MULTILINE)]
    assert float(row.split()[-1]) == pytest.approx(np.mean(took), abs=0.11)
    assert project.must("git", "status", "--porcelain") == ""

    again = project.must(*command)
    assert again.startswith("2 experiments, 2 of them ran before\n")
    assert again.split("\n\n")[1:] == printed.split("\n\n")[1:]  # also the seconds


@pytest.mark.slow
def test_what_is_applied_is_reported_where_the_next_recipe_leaves_it_open(project: Project) -> None:
    project.must("dvc", "exp", "apply", "tiny-mlp-lr-0.2-seed-1")
    applied = yaml.safe_load(project.read("params.yaml"))
    assert (applied["model"]["name"], applied["train"]["lr"]) == ("mlp", 0.2)
    assert json.loads(project.read("metrics/test.json")) == stored(
        project, "tiny-mlp-lr-0.2-seed-1", "test"
    )
    assert "up to date" in project.must("dvc", "status")

    same = project.must(*RECIPE, "tiny-mlp", "train.lr=0.2", "--seeds", "2")
    assert same.startswith("2 experiments, 2 of them ran before\n")  # all of it is set: no note
    other = project.run(*RECIPE, "tiny-fast", "numerics=fast", "train.device=cuda", "--seeds", "1")
    assert other.stdout.startswith(
        "note: not set by the recipe, changed in params.yaml: model.name,\n"
        "      model.mlp.hidden_sizes, train.epochs\n"
    )
    project.must("git", "checkout", "--quiet", ".")


@pytest.mark.slow
def test_what_a_machine_lacks_is_reported_once_for_all_seeds(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    device = ("numerics=fast", "train.device=cuda")
    failed = project.run(*RECIPE, "tiny-fast", *device, "--seeds", "2")
    assert failed.returncode == 1
    assert failed.stdout.startswith("2 experiments, 0 of them ran before; 2 to run, 1 at a time\n")
    name = "tiny-fast-numerics-fast-device-cuda-seed"
    assert f"  found:    {name}-1, {name}-2: error: PyTorch finds no GPU here\n" in failed.stderr
    assert failed.stderr.count("PyTorch finds no GPU here") == 1


@pytest.mark.slow
def test_local_data_files_are_found_and_a_diverged_training_is_an_error(
    project: Project,
) -> None:
    mirror = project.folder / "data/mirror"
    shutil.copytree(mirror / "tiny", mirror / "kmnist")  # a folder that git ignores
    assert project.must("git", "status", "--porcelain") == ""
    placed = "dataset.mirrors.tiny=[data/mirror/kmnist]"
    failed = project.run(*RECIPE, "tiny-fast", placed, "train.lr=1e38")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: 1 of 1 training diverged\n  found:    tiny-fast-")
    assert "the training diverged" in failed.stderr
    again = project.run(*RECIPE, "tiny-fast", placed, "train.lr=1e38")
    assert again.stdout.startswith("1 experiment, 1 of them ran before\n")
    assert again.stderr == failed.stderr


@pytest.mark.slow
def test_recipes_are_compared_by_validation(project: Project) -> None:
    command = ("python", "-m", "tools.compare", "--recipes", "tiny-mlp,tiny-fast")
    printed = project.must(*command, "--jobs", "2")
    header, *rows = printed.split("\n\n")[1].splitlines()
    assert header.split() == ["recipe", "val", "accuracy", "val", "loss", "behind", "p"]
    accuracies = {
        name: f"{stored(project, name, 'evaluate')['val']['accuracy']:.4f}"
        for name in ("tiny-fast", "tiny-mlp")
    }
    assert [row.split()[:2] for row in rows] == [list(pair) for pair in accuracies.items()]
    assert f"    {' '.join(command)}\n" in project.read("reports/compare.md")
