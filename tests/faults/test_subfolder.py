"""The project as a folder of a larger repository, `ml/` beside `web/`: all commands work."""

import shutil
from pathlib import Path

import pytest

from tests.support.project import Project, needs


@pytest.fixture(scope="module")
def ml(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`, in the folder ml of a repository, committed."""
    top = Project(tmp_path_factory.mktemp("copy") / "company")
    (top.folder / "web").mkdir(parents=True)
    (top.folder / "web/params.yaml").write_text("a: 1\n")
    project = built.copy(top.folder / "ml")
    shutil.rmtree(project.folder / ".git")
    top.start_history()
    top.commit("Everything")
    return project


def test_results_are_found_to_belong_to_the_code(ml: Project) -> None:
    assert "belong to the code" in ml.must("python", "-m", "tools.fresh", "HEAD")


@needs("review")
def test_a_review_is_written(ml: Project) -> None:
    assert "review: reports/review.md" in ml.must("python", "-m", "tools.review", "HEAD")


@needs("predict")
@pytest.mark.slow
def test_an_experiment_runs_is_found_again_and_predicts(ml: Project) -> None:
    (ml.folder / "../web/params.yaml").write_text("a: 2\n")  # not of this project
    compare = ("python", "-m", "tools.compare", "train.lr=0.3")
    assert "1 experiment, 0 of them ran before; 1 to run" in ml.must(*compare)
    changed = ml.must("git", "diff", "--name-only", "HEAD", _experiment(ml)).split()
    assert {"ml/params.yaml", "ml/dvc.lock", "ml/metrics/evaluate.json"} <= set(changed)
    assert all(name.startswith("ml/") for name in changed)
    assert "1 experiment, 1 of them ran before" in ml.must(*compare)
    assert "lr-0.3" in ml.must("dvc", "exp", "list")
    # This data set is made for tests and has no preparation of images, so a model that was
    # found is refused by that name.
    for revision in ("main", "lr-0.3"):
        refused = ml.run("python", "-m", "tools.predict", "--rev", revision, "reports/weights.png")
        assert f"dvc.lock of {revision} does not describe a model" in refused.stderr
        assert "the data set tiny is unknown" in refused.stderr


@needs("share")
@pytest.mark.slow
def test_what_is_shared_is_got_by_a_clone(ml: Project, tmp_path: Path) -> None:
    store, origin, clone = (tmp_path / name for name in ("store", "origin.git", "clone"))
    store.mkdir()
    ml.must("git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin))
    ml.must("git", "remote", "add", "origin", str(origin))
    ml.must("python", "-m", "tools.share.remote", str(store))
    ml.must("git", "commit", "--quiet", "--message", "Remote", ".dvc/config")
    ml.must("git", "push", "--quiet", "origin", "main")
    shared = ml.must("python", "-m", "tools.share")
    assert f"others: git clone {origin}, cd ml, make pull" in shared
    assert "uncommitted" not in shared  # web/ is not of this project
    ml.must("git", "clone", "--quiet", str(origin), str(clone))
    theirs = Project(clone / "ml")
    theirs.must("python", "-m", "tools.share.pull")
    model = "models/model.pt"
    assert (theirs.folder / model).read_bytes() == (ml.folder / model).read_bytes()


def _experiment(project: Project) -> str:
    refs = project.must("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    (ref,) = (ref for ref in refs if ref.endswith("/lr-0.3"))
    return ref
