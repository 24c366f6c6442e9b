"""`python -m tools.compare` as its user sees it, on a few hundred images and the real DVC."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from core.training import architectures, evaluation
from tests.support import sections
from tests.support.project import Project

COMPARE = ("python", "-m", "tools.compare")
WORK = Path(".dvc/tmp/compare")
SECONDS = 240  # far more than any wait here takes


@pytest.fixture(scope="module")
def rebuilt(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`, with everything committed."""
    return built.copy(tmp_path_factory.mktemp("copy") / "project")


@pytest.fixture
def project(rebuilt: Project, tmp_path: Path) -> Project:
    """A copy of it, for one test to change."""
    return rebuilt.copy(tmp_path / "a project with spaces")


def start(project: Project, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a comparison as a shell would, in a process group of its own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [*COMPARE, *arguments],
        cwd=project.folder,
        env={**os.environ, "PATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def processes_of(project: Project, name: str = "") -> list[tuple[int, str]]:
    """Find the running processes of a comparison, or of its experiment `name`, in /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            folder = (entry / "cwd").readlink()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            variables = (entry / "environ").read_bytes().split(b"\0")
            if "Z" in (entry / "stat").read_text().rpartition(")")[2].split()[0]:
                continue
        except OSError:  # ended, or of another user
            continue
        inside = (project.folder / WORK) in folder.parents
        if inside and (not name or f"DVC_EXP_NAME={name}".encode() in variables):
            found.append((int(entry.name), command))
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def experiments(project: Project, namespace: str = "refs/exps") -> dict[str, str]:
    """The commit of each experiment by its name."""
    listed = project.must("git", "for-each-ref", "--format=%(refname) %(objectname)", namespace)
    pairs = [line.split() for line in listed.splitlines()]
    return {ref.rpartition("/")[2]: commit for ref, commit in pairs}


def stored(project: Project, commit: str, file: str) -> str:
    return project.must("git", "show", f"{commit}:{file}")


def val_of(project: Project, commit: str) -> dict[str, float]:
    """What an experiment measured on the validation images."""
    measured: dict[str, float] = json.loads(stored(project, commit, "metrics/evaluate.json"))["val"]
    return measured


def trained(project: Project, lr: float, seed: int = 42) -> dict[str, float]:
    """What five epochs of plain SGD measure on the validation images: worked out here, again."""
    images, labels, train, val = (
        torch.from_numpy(np.load(project.folder / "data" / name))
        for name in (
            "raw/train_images.npy",
            "raw/train_labels.npy",
            "split/train_indices.npy",
            "split/val_indices.npy",
        )
    )
    model = architectures.build(sections.model("logistic_regression"), (28, 28, 1), 10, seed=seed)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, foreach=False)
    for _ in range(5):
        for batch in torch.split(train[torch.randperm(len(train), generator=order)], 100):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
            torch.autograd.backward(loss)
            optimizer.step()
    measured = evaluation.measure(model, images, labels, val)
    return {"loss": round(measured.loss, 6), "accuracy": round(measured.accuracy, 6)}


RATES = ("0.003", "0.01", "0.02", "0.03", "0.05", "0.07", "0.1", "0.2", "0.3", "0.5", "1")
KILLED = "0.07"
TWELVE = (f"train.lr={','.join(RATES)},1e38", "--jobs", "2")


@pytest.fixture(scope="module")
def compared(rebuilt: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after a comparison of twelve, one of them killed; the tests continue from it."""
    project = rebuilt.copy(tmp_path_factory.mktemp("compared") / "project")
    comparison = start(project, *TWELVE)
    stage: list[int] = []

    def training_runs() -> bool:
        assert comparison.poll() is None, comparison.communicate()
        running = processes_of(project, f"lr-{KILLED}")
        stage[:] = [pid for pid, command in running if "-m stages.train" in command]
        return bool(stage)

    wait_for(training_runs, "the training that is to be killed")
    for pid in stage:
        os.kill(pid, signal.SIGKILL)
    printed, problems = comparison.communicate(timeout=SECONDS)
    (project.folder / "first.txt").write_text(f"{comparison.returncode}\n{printed}\n{problems}")
    return project


@pytest.mark.slow
def test_one_that_is_killed_is_named_and_the_others_continue(compared: Project) -> None:
    output = compared.read("first.txt")
    assert output.startswith("1\n12 experiments, 0 of them ran before; 12 to run, 2 at a time\n")
    assert len(re.findall(r"^ *\d+/12  done ", output, re.MULTILINE)) == 10
    assert re.search(r"^ *\d+/12  diverged .* lr-1e\+38$", output, re.MULTILINE)
    assert re.search(rf"^ *\d+/12  failed .* lr-{KILLED}$", output, re.MULTILINE)
    assert "error: 1 of 12 experiments failed; the others are kept\n" in output
    assert re.search(rf"found: +lr-{KILLED}: .*stages\.train.* killed by SIGKILL", output)
    assert "stages.train" in (compared.folder / WORK / f"lr-{KILLED}.log").read_text()


@pytest.mark.slow
def test_the_others_are_right(compared: Project) -> None:
    found = experiments(compared)
    assert sorted(found) == sorted(f"lr-{rate}" for rate in RATES if rate != KILLED)
    for name, commit in found.items():
        lr = float(name.removeprefix("lr-"))
        assert val_of(compared, commit) == trained(compared, lr), name
        lock = yaml.safe_load(stored(compared, commit, "dvc.lock"))
        assert lock["stages"]["train"]["params"]["params.yaml"]["train"]["lr"] == lr
        assert compared.must("git", "rev-parse", f"{commit}^") == compared.must(
            "git", "rev-parse", "HEAD"
        )


@pytest.mark.slow
def test_one_that_diverged_is_remembered_with_its_epoch_step_and_rate(compared: Project) -> None:
    (commit,) = experiments(compared, "refs/diverged").values()
    message = compared.must("git", "show", "--no-patch", "--format=%B", commit)
    assert re.search(r"epoch 1, step \d of 4, train\.lr = 1e\+38", message)


@pytest.mark.slow
def test_a_second_call_runs_only_what_is_missing(compared: Project) -> None:
    before = experiments(compared)
    printed = compared.must(*COMPARE, *TWELVE)
    assert printed.startswith(
        "12 experiments, 11 of them ran before; 1 to run, 1 at a time\n1/1  done "
    )
    after = experiments(compared)
    assert after.pop(f"lr-{KILLED}")
    assert after == before
    assert val_of(compared, experiments(compared)[f"lr-{KILLED}"]) == trained(compared, 0.07)
    assert not (compared.folder / WORK / f"lr-{KILLED}.log").exists()


@pytest.mark.slow
def test_dvc_itself_finds_the_very_same_results(compared: Project) -> None:
    compared.must("dvc", "exp", "run", "--name", "plain", "-S", "train.lr=0.3", "--force")
    tree = experiments(compared)
    assert compared.must("git", "diff", "--stat", tree["plain"], tree["lr-0.3"]) == ""
    assert compared.must("git", "log", "-1", "--format=%P", tree["plain"]) == compared.must(
        "git", "log", "-1", "--format=%P", tree["lr-0.3"]
    )
    compared.must("dvc", "exp", "remove", "plain")
    compared.must("git", "checkout", "--quiet", ".")


@pytest.mark.slow
def test_they_are_ordinary_experiments_of_dvc(compared: Project) -> None:
    shown = compared.must("dvc", "exp", "show", "--csv")
    names = [line.partition(",")[0] for line in shown.splitlines()[3:]]
    assert sorted(names) == sorted(f"lr-{rate}" for rate in RATES)
    drawn = json.loads(compared.must("dvc", "plots", "diff", "--json", "lr-0.1", "lr-0.2"))
    revisions = {
        rev for chart in drawn["data"]["metrics/history.csv"] for rev in chart["revisions"]
    }
    assert revisions == {"lr-0.1", "lr-0.2"}
    compared.must("dvc", "exp", "branch", "lr-0.3", "try-0.3")
    assert "lr: 0.3" in stored(compared, "try-0.3", "params.yaml")
    compared.must("dvc", "exp", "apply", "lr-0.2")
    assert json.loads(compared.read("metrics/evaluate.json"))["val"] == trained(compared, 0.2)
    assert "up to date" in compared.must("dvc", "status")  # including the model


@pytest.mark.slow
def test_the_page_holds_what_it_needs_and_nothing_of_the_test_set(compared: Project) -> None:
    page = compared.read("reports/compare.html")
    table = compared.read("reports/compare.md")
    best = max((trained(compared, float(rate)) for rate in RATES), key=lambda val: val["accuracy"])
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 12
    assert rows[1][1] == f"{best['accuracy']:.4f}"
    assert rows[12][0:4] == ["| 1e+38", "–", "–", "1 diverged"]
    assert "epoch 1, step" in page
    # It asks for nothing: a browser that knows the policy would refuse it anyway.
    assert """content="default-src 'none'; img-src data:;""" in page
    written_by_us = page.partition('<script type="module">')[0]
    assert "://" not in written_by_us.replace("https://vega.github.io/schema/vega-lite/v6.json", "")
    assert (compared.folder / "reports/compare.png").read_bytes().startswith(b"\x89PNG\r\n")
    for rate in RATES:
        test = json.loads(
            stored(compared, experiments(compared)[f"lr-{rate}"], "metrics/test.json")
        )
        assert str(test["loss"]) not in page


@pytest.mark.slow
def test_an_experiment_of_only_one_stage_is_not_taken_for_a_finished_one(
    project: Project,
) -> None:
    project.must("dvc", "exp", "run", "--name", "lr-0.2", "-S", "train.lr=0.2", "train")
    project.must("git", "checkout", "--quiet", ".")
    stale = experiments(project)["lr-0.2"]
    assert val_of(project, stale) != trained(project, 0.2)  # those of HEAD: evaluate did not run

    refused = project.run(*COMPARE, "train.lr=0.2")
    assert refused.returncode == 1
    assert "found:    lr-0.2: stage evaluate, stage test_report\n" in refused.stderr

    project.must(*COMPARE, "train.lr=0.2", "--force")
    assert val_of(project, experiments(project)["lr-0.2"]) == trained(project, 0.2)


@pytest.mark.slow
def test_ctrl_c_leaves_a_state_that_the_next_call_continues(project: Project) -> None:
    project.must("git", "checkout", "--quiet", "--detach")  # as good a start as a branch
    arguments = ("train.lr=0.05,0.2", "--seeds", "2", "--jobs", "2")
    comparison = start(project, *arguments)
    assert comparison.stdout
    assert comparison.stdout.readline().startswith("4 experiments, 0 of them ran before; 4 to run")
    first = comparison.stdout.readline()
    assert first.startswith("1/4  done ")
    wait_for(lambda: bool(processes_of(project)), "the next experiments")
    os.killpg(comparison.pid, signal.SIGINT)
    _, errors = comparison.communicate(timeout=SECONDS)
    assert comparison.returncode == 130
    assert errors == (
        "stopped; the same command continues from here\n"
        "interrupted; nothing half-written was left behind\n"
    )
    assert processes_of(project) == []
    assert not (project.folder / WORK / "checkouts").exists()
    assert project.must("git", "status", "--porcelain") == ""
    ran = experiments(project)
    assert 1 <= len(ran) < 4

    printed = project.must(*COMPARE, *arguments)

    assert printed.startswith(
        f"4 experiments, {len(ran)} of them ran before; {4 - len(ran)} to run"
    )
    now = experiments(project)
    assert ran.items() <= now.items()
    assert val_of(project, now["lr-0.2-seed-2"]) == trained(project, 0.2, seed=2)
    assert len(now) == 4


@pytest.mark.slow
def test_what_a_killed_comparison_leaves_is_cleared_by_the_next(project: Project) -> None:
    comparison = start(project, "train.lr=0.2", "--jobs", "1")
    wait_for(lambda: len(processes_of(project)) > 0, "its experiment")
    os.kill(comparison.pid, signal.SIGKILL)
    comparison.communicate(timeout=SECONDS)
    assert (project.folder / WORK / "checkouts").exists()

    project.must(*COMPARE, "train.lr=0.2")

    assert not (project.folder / WORK / "checkouts").exists()
    assert val_of(project, experiments(project)["lr-0.2"]) == trained(project, 0.2)


def another_copy_on_the_path(project: Project, folder: Path) -> dict[str, str]:
    """Plant a copy of the code that fails when imported, installed and on PYTHONPATH.

    Returns:
        An environment with both; its Python is first on the path.
    """
    for package in ("core", "stages"):
        shutil.copytree(project.folder / package, folder / "copy" / package)
    for module in (folder / "copy/core").rglob("*.py"):
        module.write_text("raise SystemExit('the code of another copy ran')\n")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True
    )
    (packages,) = (folder / "venv/lib").glob("python*/site-packages")
    (current,) = {Path(np.__file__).parents[1]}
    # As `pip install --editable` leaves it.
    (packages / "__editable__.samebits.pth").write_text(f"{folder / 'copy'}\n{current}\n")
    path = f"{folder / 'venv/bin'}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "PYTHONPATH": str(folder / "copy")}


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def recorded_md5(project: Project, lock: str, path: str) -> str:
    """What a dvc.lock says that the training ran with."""
    deps = yaml.safe_load(lock)["stages"]["train"]["deps"]
    return str(next(dep["md5"] for dep in deps if dep["path"] == path))


def multiply_steps_by(project: Project, factor: int) -> None:
    """Edit the code of the training: each step is longer, by a module that is new."""
    before, train, after = project.read("dvc.yaml").partition("  train:\n")
    after = after.replace(
        "    - core/pipeline/files.py\n",
        "    - core/pipeline/files.py\n    - core/longer.py\n",
        1,
    )
    (project.folder / "dvc.yaml").write_text(before + train + after)
    (project.folder / "core/longer.py").write_text(f"FACTOR = {factor}\n")
    project.replace("core/training/loop.py", "step.lr)", "step.lr * FACTOR)")
    project.replace(
        "core/training/loop.py", "import torch\n", "import torch\nfrom core.longer import FACTOR\n"
    )


@pytest.mark.slow
def test_experiments_run_the_code_that_is_recorded_whatever_happens_meanwhile(
    project: Project, tmp_path: Path
) -> None:
    hostile = another_copy_on_the_path(project, tmp_path)
    multiply_steps_by(project, 2)
    untracked = project.run(*COMPARE, "train.lr=0.05,0.1", **hostile)
    assert untracked.returncode == 1
    assert "experiments run tracked files only\n  found:    core/longer.py\n" in untracked.stderr
    project.must("git", "add", "core/longer.py")
    started_with = project.read("core/training/loop.py")

    comparison = start(project, "train.lr=0.05,0.1", "--jobs", "1", **hostile)
    wait_for(lambda: bool(processes_of(project, "lr-0.05")), "the first experiment")
    (project.folder / "core/longer.py").write_text("FACTOR = 1000\n")
    project.replace("core/training/loop.py", "step.lr * FACTOR)", "-step.lr * FACTOR)")
    printed, errors = comparison.communicate(timeout=SECONDS)

    assert comparison.returncode == 0, printed + errors
    for rate, commit in experiments(project).items():
        lock = stored(project, commit, "dvc.lock")
        assert stored(project, commit, "core/longer.py") == "FACTOR = 2\n"
        assert recorded_md5(project, lock, "core/longer.py") == md5("FACTOR = 2\n")
        assert recorded_md5(project, lock, "core/training/loop.py") == md5(started_with)
        assert val_of(project, commit) == trained(project, 2 * float(rate.removeprefix("lr-")))
    assert len(experiments(project)) == 2
    assert project.read("core/longer.py") == "FACTOR = 1000\n"  # the edit is still there

    refused = project.run(*COMPARE, "train.lr=0.05,0.1")
    assert refused.returncode == 1
    assert "2 experiments of this commit have these names and ran something else" in refused.stderr
    assert "lr-0.05: core/longer.py, core/training/loop.py" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("where", ["workspace", "temporary checkout"])
def test_one_experiment_of_dvc_runs_the_code_that_it_records(
    project: Project, tmp_path: Path, where: str
) -> None:
    hostile = another_copy_on_the_path(project, tmp_path)
    project.replace("core/training/loop.py", "step.lr)", "step.lr * 3)")
    option = ["--temp"] if where == "temporary checkout" else []
    run = ("python", "-m", "dvc", "exp", "run", *option, "--name", "three", "-S", "train.lr=0.05")
    printed = project.must(*run, **hostile)
    ran = re.findall(r"^Running stage '(\w+)'", printed, re.MULTILINE)
    assert ran == ["train", "evaluate", "test_report"]

    commit = experiments(project)["three"]
    lock = stored(project, commit, "dvc.lock")
    assert recorded_md5(project, lock, "core/training/loop.py") == md5(
        project.read("core/training/loop.py")
    )
    assert val_of(project, commit) == trained(project, 0.15)


def test_a_folder_without_a_commit_is_refused(project: Project) -> None:
    shutil.rmtree(project.folder / ".git")
    no_git = project.run(*COMPARE, "train.lr=0.1")
    assert "this folder is not in a git repository" in no_git.stderr
    project.must("git", "init", "--quiet")
    unborn = project.run(*COMPARE, "train.lr=0.1")
    assert "there is no commit yet that experiments could start from" in unborn.stderr
    assert [no_git.returncode, unborn.returncode] == [1, 1]
    assert "Traceback" not in no_git.stderr + unborn.stderr


def test_two_comparisons_at_once_are_refused(project: Project) -> None:
    (project.folder / WORK).mkdir(parents=True)
    with (project.folder / WORK / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = project.run(*COMPARE, "train.lr=0.1")
    assert refused.returncode == 1
    assert "another comparison is running in this repository" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to compare"),
        (["train.lrr=0.1"], "there is no parameter train.lrr in params.yaml\n  found:    did you"),
        (["train.lr=0.1,-1"], "an experiment with train.lr=-1 cannot run"),
        (["train.lr"], "train.lr is not a setting"),
        (["train.seed=1,2", "--seeds", "2"], "the seeds are given twice"),
        (["train.lr=0.1", "train.lr=0.2"], "train.lr is given twice"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    rebuilt: Project, arguments: list[str], message: str
) -> None:
    refused = rebuilt.run(*COMPARE, *arguments)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {message}")
    assert "Traceback" not in refused.stderr
    assert not (rebuilt.folder / WORK).exists()
