"""Settings become experiments: every combination once, named so that git takes it."""

import subprocess
from pathlib import Path

import pytest
import yaml

from core.pipeline.errors import ParamsError
from core.training import numerics
from tools.experiments.grid import Experiment, plan, written
from tools.experiments.local_executor import jobs_that_fit

ROOT = Path(__file__).resolve().parents[3]
PARAMS = ROOT / "params.yaml"


def test_every_combination_has_a_name_of_its_own_with_the_seed_last() -> None:
    experiments = plan(["train.lr=0.1,1e-5", "train.keep=last,best"], 2, PARAMS)

    assert [each.name for each in experiments] == [
        "lr-0.1-keep-last-seed-1",
        "lr-0.1-keep-last-seed-2",
        "lr-0.1-keep-best-seed-1",
        "lr-0.1-keep-best-seed-2",
        "lr-1e-05-keep-last-seed-1",
        "lr-1e-05-keep-last-seed-2",
        "lr-1e-05-keep-best-seed-1",
        "lr-1e-05-keep-best-seed-2",
    ]
    assert experiments[7].recipe == "lr-1e-05-keep-best"
    assert experiments[7].settings == {"train.lr": 1e-5, "train.keep": "best"}
    assert experiments[7].seed == 2


def test_the_parameters_of_each_are_those_of_the_file_but_for_the_settings() -> None:
    (experiment,) = plan(["train.lr=0.25", "split.train_size=1000"], None, PARAMS)

    expected = yaml.safe_load(PARAMS.read_text())
    expected["train"]["lr"] = 0.25
    expected["split"]["train_size"] = 1000
    assert yaml.safe_load(experiment.params) == expected
    assert experiment.params.startswith(b"# Every parameter")  # comments stay
    assert experiment.seed == expected["train"]["seed"]


def test_the_same_value_written_twice_is_one_experiment() -> None:
    names = [each.name for each in plan(["train.lr=0.1,1e-1,0.10,1"], None, PARAMS)]
    assert names == ["lr-0.1", "lr-1"]


def test_parameters_of_the_same_name_are_distinguished_by_their_section() -> None:
    (experiment,) = plan(["split.seed=3", "train.seed=4"], None, PARAMS)
    assert experiment.name == "split.seed-3-train.seed-4"
    assert experiment.recipe == "split.seed-3"


def test_seeds_without_parameters_compare_the_recipe_with_nothing() -> None:
    experiments = plan([], 3, PARAMS)
    assert [each.name for each in experiments] == ["seed-1", "seed-2", "seed-3"]
    assert {each.recipe for each in experiments} == {"as-it-is"}


@pytest.mark.parametrize(
    ("settings", "processors"),
    [
        (["train.shards=1"], 1),
        (["train.shards=4"], 4),
        (["train.shards=4", "train.threads=2"], 2),
        (["train.shards=2", "train.threads=8"], 2),
        (["numerics=fast", "train.shards=2", "train.threads=3"], 3),
        (["numerics=fast"], None),
        (["numerics=fast", "train.threads=3", "train.device=cuda"], None),
    ],
)
def test_an_experiment_tells_how_many_processors_it_trains_on(
    settings: list[str], processors: int | None
) -> None:
    (experiment,) = plan(settings, None, PARAMS)
    assert experiment.processors == processors


@pytest.mark.parametrize(
    ("processors", "jobs"),
    [([1, 1], 8), ([1, 2], 4), ([3, 2], 2), ([16], 1), ([1, None], 1), ([None], 1), ([], 8)],
)
def test_as_many_run_at_a_time_as_fit_if_all_were_as_large_as_the_largest(
    monkeypatch: pytest.MonkeyPatch, processors: list[int | None], jobs: int
) -> None:
    monkeypatch.setattr(numerics, "processors", lambda: 8)
    experiments = [Experiment("n", "n", {}, 1, "fast", each, "cpu", b"") for each in processors]
    assert jobs_that_fit(experiments) == jobs


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1.0, "1"),
        (1e22, "1e+22"),
        (True, "true"),
        (None, "null"),
        (["a b", "../c"], "a-b-c"),
        ("x..y.lock", "x-y"),
        ("@{~^:?*[\\", "empty"),
    ],
)
def test_any_value_is_written_so_that_it_can_be_part_of_a_reference(
    value: object, text: str
) -> None:
    assert written(value) == text
    command = ["git", "check-ref-format", f"refs/exps/ab/cd/name-{text}"]
    assert subprocess.run(command).returncode == 0


def test_two_values_of_one_name_are_refused() -> None:
    first = "dataset.mirrors.mnist=[a/b],[a?b]"
    with pytest.raises(ParamsError, match=r"two experiments would be named mnist-a-b"):
        plan([first], None, PARAMS)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "train.lr=abc",
            r"(?s)train\.lr=abc cannot run.*expected a number above 0, at most 1e38, found",
        ),
        (
            "train.epochs=0",
            r"(?s)train\.epochs=0 cannot run.*expected an integer from 1 to 2\^31 - 1, found 0",
        ),
        ("train.rl=1", r"(?s)no parameter train\.rl .*did you mean train\.lr\?"),
        ("lr=0.1", r"there is no parameter lr in params\.yaml"),
        ("train.lr=0.1,[", r"train\.lr=0\.1,\[ cannot be parsed"),
        ("train.lr", r"train\.lr is not a setting"),
        (
            "train.lr=0.3\u00a0",
            r"^train\.lr=0\.3<U\+00A0 NO-BREAK SPACE> cannot be parsed",
        ),
        ("train.\u200blr=1", r"no parameter train\.<U\+200B ZERO WIDTH SPACE>lr in"),
        ("train.lr=\uff13", r"^train\.lr=<U\+FF13 FULLWIDTH DIGIT THREE> cannot be parsed"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(setting: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        plan([setting], None, PARAMS)
