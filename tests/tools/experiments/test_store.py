"""Experiments saved in git are found again, quickly."""

import dataclasses
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml

from benchmarks.many_experiments import Committed
from tests.support.project import ROOT, Project
from tools.experiments import grid, store
from tools.experiments.grid import Experiment
from tools.experiments.store import Divergence, Outcome, Result
from tools.repository import git


@pytest.fixture
def project(built: Project, tmp_path: Path) -> Project:
    return built.copy(tmp_path / "project")


def planned(project: Project, *rates: float) -> list[Experiment]:
    """Experiments with these learning rates, of the tiny data set, which this process knows not."""
    text = project.read("params.yaml")
    assert text.count("\n  lr: 0.1\n") == 1
    return [
        dataclasses.replace(each, params=text.replace("  lr: 0.1\n", f"  lr: {rate}\n").encode())
        for rate in rates
        for each in grid.plan([f"train.lr={rate}"], None, ROOT / "params.yaml")
    ]


def test_what_is_read_of_dvc_lock_is_what_yaml_reads() -> None:
    text = (ROOT / "dvc.lock").read_text(encoding="utf-8")
    found = {
        name: (stage.deps, stage.params, stage.outs) for name, stage in store._stages(text).items()
    }
    assert found == {
        name: (
            {dep["path"]: dep["md5"] for dep in stage["deps"]},
            stage["params"]["params.yaml"],
            {out["path"]: out["md5"] for out in stage["outs"]},
        )
        for name, stage in yaml.safe_load(text)["stages"].items()
    }


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\n# of b\nb:\n  # within\n  c: [1, 2]\n\nd:\n- e\n",
        "---\na: 1\n",
        "'a': 1\nb: 2\n",
        "{a: 1,\nb: 2}\n",
        "a: 1",
        "",
        "a: &x 1\nb: *x\n",
    ],
)
def test_values_are_those_of_the_whole_file_however_it_is_written(text: str) -> None:
    assert store._values(text.encode()) == (yaml.safe_load(text) or {})


def test_a_section_that_is_there_twice_is_read_as_in_the_whole_file() -> None:
    text = b"a:\n  b: 1\nc: 2\na:\n  b: 3\n"
    assert store._values(text) == store._parsed(text)


def test_a_hash_that_could_be_a_number_is_read_as_dvc_writes_it() -> None:
    md5 = "9610756238294460e255179339182206"
    out = {"path": "a.npy", "hash": "md5", "md5": md5, "size": 5}
    stage = {"cmd": "true", "params": {"params.yaml": {"train.lr": 0.1}}, "outs": [out]}
    text = dumps_yaml({"schema": "2.0", "stages": {"one": stage}})
    assert store._stages(text)["one"] == ({}, {"train.lr": 0.1}, {"a.npy": md5})


def test_an_experiment_is_found_as_it_was_kept_with_two_processes_of_git(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project.folder
    snapshot = store.take_snapshot(root)
    first, second, third = planned(project, 0.2, 0.3, 0.4)
    outcome = Committed(root).synthetic(first)
    store.record(root, snapshot, outcome)
    store.record(
        root, snapshot, Outcome(second, 1.0, {}, problem="error: no\nwhere: here", diverged=True)
    )
    started = []
    run = subprocess.run

    def counted(*arguments: Any, **options: Any) -> Any:
        started.append(arguments)
        return run(*arguments, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    found = store.finished(root, snapshot, first)

    assert len(started) == 2
    assert isinstance(found, Result)
    files = {name: content for name, content in outcome.files.items() if content}
    assert f'"accuracy": {found.accuracy}' in files[store.EVALUATION].decode()
    assert found.predictions.to_csv(index=False).encode() == files[store.PREDICTIONS]
    assert found.seconds == 1.0
    assert store.finished(root, snapshot, second) == Divergence(second, "error: no\nwhere: here")
    assert store.finished(root, snapshot, third) is None


def test_an_experiment_whose_lock_is_of_other_parameters_is_not_found(project: Project) -> None:
    root = project.folder
    snapshot = store.take_snapshot(root)
    first, second = planned(project, 0.2, 0.3)
    files = Committed(root).synthetic(second).files
    store.record(root, snapshot, Outcome(first, 1.0, files))

    assert store.finished(root, snapshot, first) is None
    mixed = ["stage test_report", "stage train"]
    assert store.in_the_way(root, snapshot, first) == mixed


def test_an_experiment_is_found_whatever_stages_dvc_left_in_its_lock(project: Project) -> None:
    root = project.folder
    lock = project.read("dvc.lock")
    _, last = lock.split("\n  test_report:\n")
    stale = re.sub(r"md5: .*", f"md5: '{32 * '0'}'", last)  # of other inputs
    (root / "dvc.lock").write_text(lock + "  report:\n" + stale)
    project.commit("A stage was renamed")
    snapshot = store.take_snapshot(root)
    (first,) = planned(project, 0.2)
    store.record(root, snapshot, Committed(root).synthetic(first))
    assert isinstance(store.finished(root, snapshot, first), Result)


def test_git_leaves_out_what_it_has_not(project: Project) -> None:
    found = git.contents(["HEAD:./params.yaml", "HEAD:./no such", "refs/none"], cwd=project.folder)
    assert found.keys() == {"HEAD:./params.yaml"}
    sha, content = found["HEAD:./params.yaml"]
    assert content == (project.folder / "params.yaml").read_bytes()
    assert sha == project.must("git", "rev-parse", "HEAD:params.yaml").strip()
