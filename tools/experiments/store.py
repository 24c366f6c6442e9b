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

import functools
import hashlib
import io
import json
import os
import re
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from core.pipeline import strict_yaml
from core.pipeline.errors import SetupError
from core.pipeline.params import PARAMS_FILE
from tools.experiments.grid import Experiment, lookup
from tools.repository import git

PIPELINE = Path("dvc.yaml")
LOCK = "dvc.lock"
EVALUATION = "metrics/evaluate.json"
HISTORY = "metrics/history.csv"
PREDICTIONS = "metrics/val_predictions.csv"
TEST = "metrics/test.json"
RESULTS = (EVALUATION, HISTORY, PREDICTIONS, TEST)
READ = (PIPELINE.name, PARAMS_FILE.name, LOCK, *RESULTS)

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


class _Kept(NamedTuple):
    """An experiment as git has it."""

    commit: str
    told: str  # the message of the commit, without its first line
    files: dict[str, bytes]  # the content of each file of READ that it has


class _StageLock(NamedTuple):
    """What dvc.lock says of a stage."""

    deps: dict[str, str]  # the MD5 of each file that it read
    params: dict[str, Any]  # the value of each section or knob that it ran with
    outs: dict[str, str]  # the MD5 of each file that it wrote


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
    used = _dependencies(strict_yaml.load(root / PIPELINE).values)
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
        kept = _kept(root, _ref(namespace, snapshot, experiment))
        if kept is None or _differing(root, snapshot, experiment, kept):
            continue
        if namespace == DIVERGED:
            return Divergence(experiment, kept.told)
        if not _mixed(experiment, kept):
            return _read(experiment, kept)
    return None


def in_the_way(root: Path, snapshot: Snapshot, experiment: Experiment) -> list[str]:
    """Return what differs in an experiment that bears the name but ran something else."""
    kept = _kept(root, _ref(FINISHED, snapshot, experiment))
    if kept is None:
        return []
    return _differing(root, snapshot, experiment, kept) or _mixed(experiment, kept)


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
    namespace, other = (DIVERGED, FINISHED) if outcome.diverged else (FINISHED, DIVERGED)
    ref = _ref(namespace, snapshot, experiment)
    git.run("update-ref", ref, commit, cwd=root)
    git.run("update-ref", "-d", _ref(other, snapshot, experiment), cwd=root)
    if outcome.diverged:
        return Divergence(experiment, outcome.problem)
    kept = _kept(root, ref)
    assert kept is not None, "it was written just now"
    return _read(experiment, kept)


def test_accuracy(root: Path, snapshot: Snapshot, experiment: Experiment) -> float:
    """Return the accuracy of a finished experiment on the test set: to report, not to choose."""
    ref = _ref(FINISHED, snapshot, experiment)
    return float(json.loads(git.run("show", f"{ref}:{TEST}", cwd=root))["accuracy"])


def _ref(namespace: str, snapshot: Snapshot, experiment: Experiment) -> str:
    return f"{namespace}/{snapshot.baseline[:2]}/{snapshot.baseline[2:]}/{experiment.name}"


def _kept(root: Path, ref: str) -> _Kept | None:
    """Read the commit that `ref` names and its files, with one process of git."""
    names = {name: f"{ref}:{name}" for name in READ}
    found = git.contents([ref, *names.values()], cwd=root)
    if ref not in found:
        return None
    commit, content = found[ref]
    _, _, message = content.decode("utf-8", "replace").partition("\n\n")
    _, _, told = message.partition("\n\n")
    there = {name: found[at][1] for name, at in names.items() if at in found}
    return _Kept(commit, told.strip(), there)


def _names(listed: bytes) -> list[str]:
    """Split what git lists with `-z`."""
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _dependencies(pipeline: Any) -> set[str]:
    """Return the paths that the stages of a dvc.yaml depend on and none of them writes."""
    stages = pipeline["stages"].values()
    written = {
        next(iter(entry)) if isinstance(entry, dict) else entry
        for stage in stages
        for kind in ("outs", "metrics", "plots")
        for entry in stage.get(kind, [])
    }
    return {str(path) for stage in stages for path in stage.get("deps", [])} - written


def _differing(root: Path, snapshot: Snapshot, experiment: Experiment, kept: _Kept) -> list[str]:
    """Return which of the files that results depend on are others than in `snapshot`."""
    changed = git.run("diff", "--name-only", "-z", snapshot.commit, kept.commit, cwd=root)
    # Its own dvc.yaml will do: if that is another one, it is among what differs.
    pipeline = _values(kept.files.get(PIPELINE.name, b"stages: {}"))
    depended_on = _dependencies(pipeline) | {PIPELINE.name}
    differing = sorted(depended_on.intersection(_names(changed)))
    stored = kept.files.get(PARAMS_FILE.name, b"")
    if stored != experiment.params and _values(stored) != _values(experiment.params):
        differing.append(PARAMS_FILE.name)
    return differing


def _mixed(experiment: Experiment, kept: _Kept) -> list[str]:
    """Return what in a commit is left of an earlier run, as after `dvc exp run train`.

    By dvc.lock, every stage ran with the parameters of the experiment and with
    what the stages before it wrote, and the metrics are those that were written.
    """
    stages = _stages(kept.files.get(LOCK, b"").decode())
    chosen = _values(experiment.params)
    written = {path: md5 for stage in stages.values() for path, md5 in stage.outs.items()}
    mixed = set()
    for name, stage in stages.items():
        if any(written.get(path, md5) != md5 for path, md5 in stage.deps.items()):
            mixed.add(f"stage {name}")
        if any(value != lookup(key, chosen) for key, value in stage.params.items()):
            mixed.add(f"stage {name}")
    for path in RESULTS:
        content = kept.files.get(path, b"")
        if written.get(path) != hashlib.md5(content, usedforsecurity=False).hexdigest():
            mixed.add(path)
    return sorted(mixed)


def _stages(lock: str) -> dict[str, _StageLock]:
    """Return what the text of a dvc.lock says of each stage.

    As YAML it would take a minute for a thousand experiments. So that is kept for
    the parameters, and the rest is read as in core/pipeline/provenance.py, by the one form
    in which DVC writes it.
    """
    stages = {}
    for name, text in re.findall(r"^  (\S+):\n((?: {4}.*\n)*)", lock, re.MULTILINE):
        sections = dict(re.findall(r"^ {4}(\w+):.*\n((?: {4}[ -] .*\n)*)", text, re.MULTILINE))
        deps, outs = (
            dict(
                re.findall(r"- path: (.*)\n *hash: md5\n *md5: '?(\w+)'?\n", sections.get(kind, ""))
            )
            for kind in ("deps", "outs")
        )
        _, _, params = sections.get("params", "").partition("\n")  # the name of the file
        stages[name] = _StageLock(deps, _values(textwrap.dedent(params).encode()), outs)
    return stages


def _values(text: bytes) -> dict[str, Any]:
    """Return the values of a YAML file of ours, or of a part, whatever its comments say.

    A section at a time, because experiments have most of them in common.
    """
    section = rb"(?:#.*\n|\n)*[\w.]+:.*\n(?:[ #-].*\n|\n)*"
    sections = re.findall(section, text)
    if b"".join(sections) != text or re.search(rb"[&*<]", re.sub(rb"#.*", b"", text)):
        sections = [text]  # not as DVC and we write it, or one section refers to another
    values = [dict(_parsed(part) or {}) for part in sections]
    if sum(map(len, values)) != len(set().union(*values)):
        values = [_parsed(text)]  # as the whole file is read, where a section is there twice
    return {key: value for part in values for key, value in part.items()}


@functools.lru_cache(maxsize=100)
def _parsed(text: bytes) -> Any:
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


def _read(experiment: Experiment, kept: _Kept) -> Result:
    """Read what an experiment found."""
    measured = json.loads(kept.files[EVALUATION])["val"]
    seconds = re.search(rf"^{SECONDS}: ([0-9.]+)$", kept.told, re.MULTILINE)
    return Result(
        experiment,
        loss=measured["loss"],
        accuracy=measured["accuracy"],
        history=pd.read_csv(io.BytesIO(kept.files[HISTORY])),
        predictions=pd.read_csv(io.BytesIO(kept.files[PREDICTIONS])),
        seconds=float(seconds[1]) if seconds else None,
    )
