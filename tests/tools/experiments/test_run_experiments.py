"""What is said of experiments that cannot run, or did not."""

from pathlib import Path

import pytest

from core.pipeline.errors import PipelineError, SetupError
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
