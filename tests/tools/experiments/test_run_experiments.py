"""The options of every command that runs experiments, and what is said of those that did not."""

from pathlib import Path

import pytest

from core.pipeline.errors import PipelineError, SetupError
from core.pipeline.runner import Parser
from tools.experiments import run_experiments, store
from tools.experiments.grid import Experiment
from tools.experiments.run_experiments import Ran


def experiment(name: str) -> Experiment:
    return Experiment(name, name, {}, 1, "portable", 1, "cpu", b"")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a"], "1 experiment of this commit has this name and ran something else"),
        (["a", "b"], "2 experiments of this commit have these names and ran something else"),
    ],
)
def test_names_that_are_taken_are_counted(
    names: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "in_the_way", lambda *_: ["params.yaml"])
    snapshot = store.Snapshot("0" * 40, "1" * 40)
    planned = [experiment(name) for name in names]
    with pytest.raises(SetupError, match=f"^{said}"):
        run_experiments.check_names_are_free(Path(), snapshot, planned)


@pytest.mark.parametrize(
    ("names", "said"),
    [(["a"], "1 of 1 experiment failed; "), (["a", "b", "c"], "1 of 3 experiments failed; ")],
)
def test_experiments_that_failed_are_counted(names: list[str], said: str) -> None:
    planned = [experiment(name) for name in names]
    with pytest.raises(PipelineError, match=f"^{said}"):
        run_experiments.check_all_ran(Ran([], [], {"a": "it is broken"}), planned)


def parser() -> Parser:
    made = Parser()
    run_experiments.add_arguments(made)
    return made


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("0", "0"),
        ("-1", "-1"),
        ("1.5", "1.5"),
        ("x", "x"),
        ("3\u200b", "3<U+200B ZERO WIDTH SPACE>"),
    ],
)
def test_a_number_of_seeds_that_is_none_is_shown_as_it_was_given(
    given: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([f"--seeds={given}"])

    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.endswith(f"error: argument --seeds: expected an integer >= 1, found {shown}\n")


def test_a_number_of_seeds_is_read() -> None:
    assert parser().parse_args(["--seeds", "3"]).seeds == 3
