"""`make apply` brings an experiment into the folder, and drops no edit."""

from pathlib import Path

import pytest

from benchmarks.many_experiments import Committed
from tests.support.project import Project
from tests.tools.experiments.test_store import planned
from tools.experiments import store

APPLY = ("python", "-m", "tools.apply")


@pytest.fixture(scope="module")
def project(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project with the experiments lr-0.2 and lr-0.3."""
    made = built.copy(tmp_path_factory.mktemp("copy") / "project")
    snapshot = store.take_snapshot(made.folder)
    for each in planned(made, 0.2, 0.3):
        store.record(made.folder, snapshot, Committed(made.folder).synthetic(each))
    return made


@pytest.fixture(autouse=True)
def clean(project: Project) -> None:
    project.must("git", "reset", "--quiet", "--hard")


def test_an_experiment_is_applied_after_another(project: Project) -> None:
    for rate in ("0.2", "0.3"):
        assert "have been applied" in project.must(*APPLY, f"lr-{rate}")
        assert f"\n  lr: {rate}\n" in project.read("params.yaml")
    assert project.must("git", "diff", "--stat", store.named(project.folder, "lr-0.3") or "") == ""


def test_an_edit_that_would_be_dropped_is_named_and_stays(project: Project) -> None:
    code = project.folder / "core/data/splitting.py"
    code.write_text(code.read_text() + "# an edit\n")
    project.must("git", "add", "core/data/splitting.py")
    project.replace("params.yaml", "  lr: 0.1\n", "  lr: 0.7\n")
    refused = project.run(*APPLY, "lr-0.2")
    assert refused.returncode == 1
    assert refused.stderr == (
        "error: applying lr-0.2 would drop uncommitted changes\n"
        "  found:    core/data/splitting.py\n"
        "            params.yaml\n"
        "  next:     git commit them; or git stash, and git stash pop brings them back after it\n"
    )
    assert "# an edit" in code.read_text()
    assert "\n  lr: 0.7\n" in project.read("params.yaml")


def test_an_untracked_file_that_an_experiment_has_is_not_replaced(
    project: Project, tmp_path: Path
) -> None:
    copy = project.copy(tmp_path / "copy")
    copy.must("git", "rm", "--quiet", "--cached", "LICENSE")
    copy.must("git", "commit", "--quiet", "--message", "No license in git")
    (copy.folder / "LICENSE").write_text("mine")
    refused = copy.run(*APPLY, "lr-0.2")
    assert "found:    LICENSE\n" in refused.stderr
    assert copy.read("LICENSE") == "mine"


@pytest.mark.parametrize("names", [[], ["no-such"]])
def test_an_unknown_experiment_is_refused(project: Project, names: list[str]) -> None:
    refused = project.run(*APPLY, *names)
    assert refused.returncode == 1
    assert "next:     dvc exp list --all-commits lists them" in refused.stderr
    assert "Traceback" not in refused.stderr
