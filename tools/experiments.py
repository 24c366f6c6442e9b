"""Keeps experiments as DVC does, in git, and finds those that are there already.

An experiment of DVC is a commit on top of the one it was started from, under
`refs/exps/`, with its params.yaml, dvc.lock and metrics: `dvc exp show`, `apply`
and `branch` know it by that. A training that diverged has no results for DVC;
it is kept likewise under `refs/diverged/`, its message saying what happened, so
that it is neither run again nor forgotten.

What all experiments of a comparison start from is taken once, at its start: the
commit that is checked out, and on top the changes of the working tree. Edits
made while they run are for the next comparison.
"""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from core import strict_yaml
from core.errors import SetupError
from core.params import PARAMS_FILE
from tools import git
from tools.grid import Experiment, lookup

PIPELINE = Path("dvc.yaml")
LOCK = "dvc.lock"
EVALUATION = "metrics/evaluate.json"
HISTORY = "metrics/history.csv"
PREDICTIONS = "metrics/val_predictions.csv"
TEST = "metrics/test.json"

FINISHED = "refs/exps"  # DVC's own
DIVERGED = "refs/diverged"
SECONDS = "Seconds"  # in the message of a commit, the one place where a time may stand


class Snapshot(NamedTuple):
    """The state that experiments start from."""

    baseline: str  # the commit that is checked out
    commit: str  # the same with the changes of the working tree


@dataclass(frozen=True)
class Outcome:
    """How a run of an experiment ended.

    Args:
        experiment: what ran.
        seconds: how long it ran.
        files: the content of each file that git keeps and that the run left
            changed; None for one that it removed. Empty if it failed.
        problem: why it failed, in the words of the stage; empty if it did not.
        diverged: whether what failed was the training itself, which any
            further run would do again.
        trained: whether the model was trained, and not taken from DVC's cache.
    """

    experiment: Experiment
    seconds: float
    files: Mapping[str, bytes | None]
    problem: str = ""
    diverged: bool = False
    trained: bool = False


@dataclass(frozen=True)
class Result:
    """What a finished experiment found. Nothing of it is of the test set.

    Args:
        experiment: what ran.
        loss: on the validation images, in nats.
        accuracy: on the validation images.
        history: a row an epoch, as metrics/history.csv.
        predictions: a row a validation image, as metrics/val_predictions.csv.
        seconds: that it took here, beside what else was running; None if its
            model came from DVC's cache, or `dvc exp run` made it.
    """

    experiment: Experiment
    loss: float
    accuracy: float
    history: pd.DataFrame
    predictions: pd.DataFrame
    seconds: float | None = None


@dataclass(frozen=True)
class Divergence:
    """An experiment whose training diverged, and what it said."""

    experiment: Experiment
    message: str


def take_snapshot(root: Path) -> Snapshot:
    """Keep the working tree as a commit, without touching it or the index.

    Raises:
        SetupError: the folder is not the root of a repository of git, there is
            no commit yet, or there is code that git does not know.
    """
    if not (root / ".git").exists():
        raise SetupError(
            "this folder is not the root of a git repository",
            where=str(root),
            todo="experiments are kept in git: clone the project, or git init and commit it",
        )
    try:
        baseline = git.line("rev-parse", "--verify", "HEAD^{commit}", cwd=root)
    except SetupError:
        raise SetupError(
            "there is no commit yet to keep experiments beside",
            where=str(root),
            todo="git add --all && git commit --message 'First commit'",
        ) from None
    unknown = _names(git.run("ls-files", "--others", "--exclude-standard", "-z", cwd=root))
    used = _dependencies(root)
    packages = {str(Path(path).parent) for path in used if path.endswith(".py")}
    code = [
        name
        for name in unknown
        if name in used or (name.endswith(".py") and str(Path(name).parent) in packages)
    ]
    if code:
        raise SetupError(
            "git does not know all of the stages' code, and experiments run what git knows",
            found="\n".join(code),
            todo=f"git add {' '.join(code)}  (no commit is needed), or remove what is not used",
        )
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        own = root / git.line("rev-parse", "--git-path", "index", cwd=root)
        index.write_bytes(own.read_bytes())
        git.run("add", "--update", ".", cwd=root, index=index)
        tree = git.line("write-tree", cwd=root, index=index)
    if tree == git.line("rev-parse", "HEAD^{tree}", cwd=root):
        return Snapshot(baseline, baseline)
    return Snapshot(baseline, _commit(root, tree, baseline, "What a comparison started from"))


def finished(root: Path, snapshot: Snapshot, experiment: Experiment) -> Result | Divergence | None:
    """Return what an experiment found if it ran before, from this very state."""
    for namespace in (FINISHED, DIVERGED):
        commit = _resolve(root, _ref(namespace, snapshot, experiment))
        if not commit or _differing(root, snapshot, experiment, commit):
            continue
        if namespace == DIVERGED:
            message = git.run("show", "--no-patch", "--format=%b", commit, cwd=root)
            return Divergence(experiment, message.decode().strip())
        if not _mixed(root, experiment, commit):
            return _read(root, experiment, commit)
    return None


def in_the_way(root: Path, snapshot: Snapshot, experiment: Experiment) -> list[str]:
    """Return what differs in an experiment that bears the name but ran something else."""
    commit = _resolve(root, _ref(FINISHED, snapshot, experiment))
    if not commit:
        return []
    return _differing(root, snapshot, experiment, commit) or _mixed(root, experiment, commit)


def record(root: Path, snapshot: Snapshot, outcome: Outcome) -> Result | Divergence | None:
    """Keep how an experiment ended, and return what it found; None if it failed otherwise.

    An experiment of the same name is replaced.
    """
    experiment = outcome.experiment
    if outcome.problem and not outcome.diverged:
        return None
    files = {PARAMS_FILE.name: experiment.params, **outcome.files}
    tree = _tree(root, snapshot.commit, files)
    told = outcome.problem or (f"{SECONDS}: {outcome.seconds:.1f}" if outcome.trained else "")
    commit = _commit(root, tree, snapshot.baseline, f"{experiment.name}\n\n{told}")
    kept, other = (DIVERGED, FINISHED) if outcome.diverged else (FINISHED, DIVERGED)
    git.run("update-ref", _ref(kept, snapshot, experiment), commit, cwd=root)
    git.run("update-ref", "-d", _ref(other, snapshot, experiment), cwd=root)
    if outcome.diverged:
        return Divergence(experiment, outcome.problem)
    return _read(root, experiment, commit)


def test_accuracy(root: Path, snapshot: Snapshot, experiment: Experiment) -> float:
    """Return the accuracy of a finished experiment on the test set: to report, not to choose."""
    ref = _ref(FINISHED, snapshot, experiment)
    return float(json.loads(git.run("show", f"{ref}:{TEST}", cwd=root))["accuracy"])


def _ref(namespace: str, snapshot: Snapshot, experiment: Experiment) -> str:
    return f"{namespace}/{snapshot.baseline[:2]}/{snapshot.baseline[2:]}/{experiment.name}"


def _resolve(root: Path, ref: str) -> str:
    """Return the commit that `ref` names, or nothing."""
    return git.line("for-each-ref", "--format=%(objectname)", ref, cwd=root)


def _names(listed: bytes) -> list[str]:
    """Split what git lists with `-z`."""
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _dependencies(root: Path) -> set[str]:
    """Return the paths that the stages of dvc.yaml depend on and none of them writes."""
    stages = strict_yaml.load(root / PIPELINE).values["stages"].values()
    written = {
        next(iter(entry)) if isinstance(entry, dict) else entry
        for stage in stages
        for kind in ("outs", "metrics", "plots")
        for entry in stage.get(kind, [])
    }
    return {str(path) for stage in stages for path in stage.get("deps", [])} - written


def _differing(root: Path, snapshot: Snapshot, experiment: Experiment, commit: str) -> list[str]:
    """Return which of the files that results depend on are others in `commit`."""
    changed = git.run("diff", "--name-only", "-z", snapshot.commit, commit, cwd=root)
    depended_on = _dependencies(root) | {PIPELINE.name}
    differing = sorted(depended_on.intersection(_names(changed)))
    stored = git.run("show", f"{commit}:{PARAMS_FILE.name}", cwd=root)
    if stored != experiment.params and _values(stored) != _values(experiment.params):
        differing.append(PARAMS_FILE.name)
    return differing


def _mixed(root: Path, experiment: Experiment, commit: str) -> list[str]:
    """Return what in `commit` is left of an earlier run, as after `dvc exp run train`.

    By dvc.lock, every stage ran with the parameters of the experiment and with
    what the stages before it wrote, and the metrics are those that were written.
    """
    stages = _values(git.run("show", f"{commit}:{LOCK}", cwd=root))["stages"]
    chosen = _values(experiment.params)
    written = {
        out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])
    }
    mixed = set()
    for name, stage in stages.items():
        for dep in stage.get("deps", []):
            if written.get(dep["path"], dep["md5"]) != dep["md5"]:
                mixed.add(f"stage {name}")
        for key, value in stage.get("params", {}).get(PARAMS_FILE.name, {}).items():
            if value != lookup(key, chosen):
                mixed.add(f"stage {name}")
    for path in (EVALUATION, HISTORY, PREDICTIONS, TEST):
        content = git.run("show", f"{commit}:{path}", cwd=root)
        if written.get(path) != hashlib.md5(content, usedforsecurity=False).hexdigest():
            mixed.add(path)
    return sorted(mixed)


def _values(text: bytes) -> Any:
    """Return the values of a YAML file of ours, whatever its comments say."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / PARAMS_FILE.name
        file.write_bytes(text)
        return strict_yaml.load(file).values


def _tree(root: Path, base: str, files: Mapping[str, bytes | None]) -> str:
    """Write the tree of `base` with other `files`, and return its name."""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        git.run("read-tree", base, cwd=root, index=index)
        for name, content in sorted(files.items()):
            if content is None:
                git.run("update-index", "--force-remove", "--", name, cwd=root, index=index)
                continue
            blob = git.line("hash-object", "-w", "--stdin", cwd=root, stdin=content)
            entry = f"100644,{blob},{name}"
            git.run("update-index", "--add", "--cacheinfo", entry, cwd=root, index=index)
        return git.line("write-tree", cwd=root, index=index)


def _commit(root: Path, tree: str, parent: str, message: str) -> str:
    identity: Sequence[str] = ()
    if not os.environ.get("GIT_AUTHOR_EMAIL") and not _has_identity(root):
        identity = ("-c", "user.name=samebits", "-c", "user.email=samebits@localhost")
    return git.line(*identity, "commit-tree", tree, "-p", parent, cwd=root, stdin=message.encode())


def _has_identity(root: Path) -> bool:
    """Is there somebody for git to name as the author?"""
    try:
        git.run("config", "user.email", cwd=root)
    except SetupError:
        return False
    return True


def _read(root: Path, experiment: Experiment, commit: str) -> Result:
    """Read what an experiment found from its commit."""

    def content(name: str) -> io.BytesIO:
        return io.BytesIO(git.run("show", f"{commit}:{name}", cwd=root))

    measured = json.load(content(EVALUATION))["val"]
    trailer = f"--format=%(trailers:key={SECONDS},valueonly)"
    seconds = git.line("show", "--no-patch", trailer, commit, cwd=root)
    return Result(
        experiment,
        loss=measured["loss"],
        accuracy=measured["accuracy"],
        history=pd.read_csv(content(HISTORY)),
        predictions=pd.read_csv(content(PREDICTIONS)),
        seconds=float(seconds) if seconds else None,
    )
