"""A stale stage is found from git, and DVC with all its data agrees."""

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from tests.support.project import ROOT, Project
from tools import fresh


@pytest.fixture(scope="module")
def main(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`, committed, with its data and its cache."""
    return built.copy(tmp_path_factory.mktemp("copy") / "project")


@pytest.fixture
def project(main: Project) -> Iterator[Project]:
    """The same project for one test, which may break what git can bring back."""
    head = main.must("git", "rev-parse", "HEAD").strip()
    yield main
    main.must("git", "reset", "--quiet", "--hard", head)
    main.must("git", "clean", "--quiet", "--force", "-d")


def found(project: Project, *revision: str) -> set[tuple[str, str]]:
    """The stages and the files or parameters that the check names."""
    status = 0
    with contextlib.chdir(project.folder), contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            fresh.main(*revision or (None,))
        except SystemExit as ended:
            status = int(ended.code or 0)
    lines = printed.getvalue().splitlines()
    assert status == (1 if len(lines) > 1 else 0)
    words = [line.split() for line in lines if line.startswith("  ")]
    return {(stage, what) for stage, what, *_ in words}


def stale_to_dvc(project: Project) -> set[str]:
    """The stages that DVC finds changed; it has all data here."""
    with contextlib.chdir(project.folder), Repo() as repo:
        return set(repo.status())


def append(file: str, text: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        (project.folder / file).write_text(project.read(file) + text, encoding="utf-8")

    return change


def replace(file: str, old: str, new: str) -> Callable[[Project], None]:
    return lambda project: project.replace(file, old, new)


def remove(file: str) -> Callable[[Project], None]:
    return lambda project: (project.folder / file).unlink()


def add_dependency(project: Project) -> None:
    (project.folder / "core/extra.py").write_text("")
    project.replace(
        "dvc.yaml",
        "    - core/data/splitting.py\n",
        "    - core/extra.py\n    - core/data/splitting.py\n",
    )


def forget_stage(project: Project) -> None:
    """Take the stage evaluate out of dvc.lock."""
    before, rest = project.read("dvc.lock").split("  evaluate:\n")
    after = rest[rest.index("  test_report:\n") :]
    (project.folder / "dvc.lock").write_text(before + after)


def other_model(project: Project) -> None:
    """Make dvc.lock say that evaluate read another model than train wrote."""
    lock = project.read("dvc.lock")
    stage = lock.index("  evaluate:\n")
    start = lock.index("md5: ", lock.index("models/model.pt", stage)) + len("md5: ")
    (project.folder / "dvc.lock").write_text(lock[:start] + "f" * 32 + lock[start + 32 :])


ALL = list(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
MODEL = ["train", "evaluate", "test_report"]  # the stages that build it


def both(parameter: str) -> set[tuple[str, str]]:
    """A parameter of the model: train reads it, and test_report shows it."""
    return {("train", parameter), ("test_report", parameter)}


KINDS: dict[str, tuple[Callable[[Project], None], set[tuple[str, str]]]] = {
    "nothing": (lambda project: None, set()),
    "a comment in a stage": (append("stages/train.py", "# a\n"), {("train", "stages/train.py")}),
    "a line of a shared module": (
        append("core/pipeline/runner.py", "# a\n"),
        {(stage, "core/pipeline/runner.py") for stage in ALL},
    ),
    "a line of a template": (
        append("stages/test_report.html.j2", "\n"),
        {("test_report", "stages/test_report.html.j2")},
    ),
    "a file that no stage reads": (append("tools/summary.py", "# a\n"), set()),
    "a missing module": (remove("core/data/splitting.py"), {("split", "core/data/splitting.py")}),
    "a parameter": (replace("params.yaml", "  lr: 0.1", "  lr: 0.2"), both("train.lr")),
    "the same number written differently": (
        replace("params.yaml", "  lr: 0.1", "  lr: 1e-1"),
        set(),
    ),
    "a whole number with a point": (replace("params.yaml", "epochs: 5", "epochs: 5.0"), set()),
    "a comment in params.yaml": (append("params.yaml", "# a\n"), set()),
    "a parameter without a value": (
        replace("params.yaml", "keep: last", "keep:"),
        both("train.keep"),
    ),
    "a parameter that is gone": (
        replace("params.yaml", "  keep: last\n", ""),
        both("train.keep"),
    ),
    "a parameter with another name": (
        replace("params.yaml", "  lr: 0.1", "  learning_rate: 0.1"),
        both("train.lr") | both("train.learning_rate"),
    ),
    "a parameter of several stages": (
        replace("params.yaml", "  device: cpu", "  device: cuda"),
        {("train", "train.device"), ("evaluate", "train.device"), ("test_report", "train.device")},
    ),
    "another architecture": (
        replace("params.yaml", "  name: logistic_regression", "  name: mlp"),
        {
            (stage, what)
            for stage in MODEL
            for what in (
                "core/training/models/mlp.py",
                "model.name",
                "model.mlp.hidden_sizes",
                "model.mlp.dropout",
            )
        },
    ),
    "a parameter of another architecture": (
        replace("params.yaml", "    dropout: 0.2", "    dropout: 0.3"),
        set(),
    ),
    "a line of the architecture": (
        append("core/training/models/logistic_regression.py", "# a\n"),
        {(stage, "core/training/models/logistic_regression.py") for stage in MODEL},
    ),
    "a line of another architecture": (append("core/training/models/mlp.py", "# a\n"), set()),
    "an item of a list": (
        replace("params.yaml", "tiny: [data/mirror/tiny]", "tiny: [data/mirror/tiny, data]"),
        {("download", "dataset.mirrors.tiny")},
    ),
    "a command": (
        replace("dvc.yaml", "python -m stages.split", "python stages/split.py"),
        {("split", "cmd")},
    ),
    "a dependency more": (add_dependency, {("split", "core/extra.py")}),
    "a dependency less": (replace("dvc.yaml", "    - core/data/splitting.py\n", ""), set()),
    "a parameter more": (
        replace(
            "dvc.yaml",
            "    params:\n    - split\n",
            "    params:\n    - split\n    - numerics\n",
        ),
        {("split", "numerics")},
    ),
    "a parameter less": (replace("dvc.yaml", "    - test_report\n", ""), set()),
    "an output more": (
        replace(
            "dvc.yaml",
            "    - reports/test_report.html\n",
            "    - reports/other.html\n    - reports/test_report.html\n",
        ),
        {("test_report", "reports/other.html")},
    ),
    "an edited metric": (
        append("metrics/test.json", " "),
        {("test_report", "metrics/test.json")},
    ),
    "an edited prediction": (
        append("metrics/val_predictions.csv", "0,0,0,1\n"),
        {
            ("evaluate", "metrics/val_predictions.csv"),
            ("test_report", "metrics/val_predictions.csv"),
        },
    ),
    "a missing plot": (
        remove("metrics/history.csv"),
        {("train", "metrics/history.csv"), ("test_report", "metrics/history.csv")},
    ),
    "a stage that was never run": (forget_stage, {("evaluate", "dvc.lock")}),
    "a stage that was run with another model": (other_model, {("evaluate", "models/model.pt")}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_moved_is_named_and_dvc_agrees(project: Project, kind: str) -> None:
    change, expected = KINDS[kind]
    change(project)
    assert found(project) == expected
    assert stale_to_dvc(project) == {stage for stage, _ in expected}


@pytest.mark.parametrize("kind", ["nothing", "a comment in a stage", "a parameter"])
def test_a_clone_without_data_and_cache_gets_the_same_answer_for_any_commit(
    project: Project, tmp_path: Path, kind: str
) -> None:
    change, expected = KINDS[kind]
    change(project)
    project.must("git", "commit", "--quiet", "--all", "--allow-empty", "--message", kind)
    clone = Project(tmp_path / "clone")
    project.must("git", "clone", "--quiet", str(project.folder), str(clone.folder))
    assert found(clone) == expected
    assert found(clone, "HEAD") == expected
    assert found(clone, "HEAD~1") == set()


def test_old_and_new_value_of_a_parameter_are_printed(project: Project) -> None:
    project.replace("params.yaml", "  lr: 0.1", "  lr: 1e-05")
    printed = project.run("python", "-m", "tools.fresh").stdout
    assert "  train        train.lr  0.1 → 1e-05\n" in printed
    assert "next: dvc repro, and commit dvc.lock and metrics/" in printed


def test_metrics_of_a_stage_that_is_gone_belong_to_nothing(project: Project) -> None:
    yaml = project.read("dvc.yaml")
    start, end = yaml.index("  evaluate:\n"), yaml.index("  test_report:\n")
    (project.folder / "dvc.yaml").write_text(yaml[:start] + yaml[end:])
    assert found(project) == {
        ("evaluate", "metrics/evaluate.json"),
        ("evaluate", "metrics/val_predictions.csv"),
    }
    project.must("git", "rm", "--quiet", "metrics/evaluate.json", "metrics/val_predictions.csv")
    assert found(project) == {  # which still reads them
        ("test_report", "metrics/evaluate.json"),
        ("test_report", "metrics/val_predictions.csv"),
    }


def test_line_ends_that_git_converts_do_not_belong_to_the_commit(
    project: Project, tmp_path: Path
) -> None:
    copy = Project(tmp_path / "copy")
    shutil.copytree(project.folder, copy.folder, symlinks=True)
    module = copy.folder / "core/data/splitting.py"
    module.write_bytes(module.read_bytes().replace(b"\n", b"\r\n"))
    copy.must("dvc", "repro")
    assert found(copy) == set()
    copy.commit("An editor of Windows")  # git writes \n into the commit
    done = copy.run("python", "-m", "tools.fresh", "HEAD")
    assert done.returncode == 1
    assert "core/data/splitting.py  was recorded with the line ends of Windows" in done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            replace("dvc.yaml", "    cmd: python -m stages.split\n", "    cmd: ${a}\n"),
            "does not support",
        ),
        (replace("dvc.yaml", "  split:\n", "  split:\n    frozen: true\n"), "split.frozen"),
        (append("dvc.lock", "]\n"), "dvc.lock of the working tree cannot be read"),
        (append("params.yaml", "]\n"), "params.yaml of the working tree cannot be read"),
        (remove("dvc.yaml"), "the working tree has no pipeline"),
        (replace("dvc.yaml", "    - core/data/idx.py\n", "    - core/\n"), "core/  is not in"),
    ],
)
def test_what_it_cannot_judge_it_does_not_judge(
    project: Project, change: Callable[[Project], None], message: str
) -> None:
    change(project)
    done = project.run("python", "-m", "tools.fresh")
    assert message in done.stdout + done.stderr
    assert done.returncode == (1 if done.stdout else 2)
    assert "Traceback" not in done.stderr


def test_a_revision_that_is_not_there_is_no_verdict(project: Project) -> None:
    done = project.run("python", "-m", "tools.fresh", "no-such-branch")
    assert done.returncode == 2
    assert "there is no revision no-such-branch" in done.stderr


def test_without_a_lock_every_stage_is_stale(project: Project) -> None:
    (project.folder / "dvc.lock").unlink()
    assert found(project) == {(stage, "dvc.lock") for stage in ALL}
