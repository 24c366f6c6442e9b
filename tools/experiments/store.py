"""Stores experiments in git as DVC does, and finds those that ran before.

A DVC experiment is a commit on top of the one that it started from, under `refs/exps/`,
with its params.yaml, dvc.lock and metrics; `dvc exp show`, `apply` and `branch` find it
there. A training that diverged has no results for DVC. It is stored in the same way
under `refs/diverged/`, with the error in its message, so that it is not run again.

All experiments of a comparison start from one snapshot, taken at its start: the commit
that is checked out plus the changes of the working tree. Edits made later affect the
next comparison.
"""

import functools
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from core.pipeline import provenance, strict_yaml
from core.pipeline.errors import SetupError
from core.pipeline.params import PARAMS_FILE
from tools.experiments.grid import Experiment, lookup
from tools.repository import added_data, git
from tools.repository.dvc_lock import within

PIPELINE = Path("dvc.yaml")
LOCK = "dvc.lock"
EVALUATION = "metrics/evaluate.json"
HISTORY = "metrics/history.csv"
PREDICTIONS = "metrics/val_predictions.csv"
TEST = "metrics/test.json"
RESULTS = (EVALUATION, HISTORY, PREDICTIONS, TEST)
HASHED = r"- path: (.*)\n *hash: md5\n *md5: '?([\w.]+)'?\n"  # an entry of dvc.lock
READ = (PIPELINE.name, PARAMS_FILE.name, LOCK, *RESULTS)

FINISHED = "refs/exps"  # DVC's own
DIVERGED = "refs/diverged"
SECONDS = "Seconds"  # in the message of a commit: the only place that records a duration


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
        files: the content of each tracked file that the run changed; None for one
            that it removed. Empty if it failed.
        problem: the error message of the stage; empty if it did not fail.
        diverged: whether the training diverged, as it would in any further run.
        trained: whether the model was trained, and not restored from DVC's cache.
    """

    experiment: Experiment
    seconds: float
    files: Mapping[str, bytes | None]
    problem: str = ""
    diverged: bool = False
    trained: bool = False


@dataclass(frozen=True)
class Result:
    """The results of a finished experiment, without those of the test set.

    Args:
        experiment: what ran.
        loss: on the validation images, in nats.
        accuracy: on the validation images.
        history: a row for each epoch, as metrics/history.csv.
        predictions: a row for each validation image, as metrics/val_predictions.csv.
        seconds: its duration, with whatever else was running; None if its model came
            from DVC's cache, or `dvc exp run` ran it.
    """

    experiment: Experiment
    loss: float
    accuracy: float
    history: pd.DataFrame
    predictions: pd.DataFrame
    seconds: float | None = None


@dataclass(frozen=True)
class Divergence:
    """An experiment whose training diverged, and its error message."""

    experiment: Experiment
    message: str


class _Stored(NamedTuple):
    """An experiment as git stores it."""

    commit: str
    message: str  # of the commit, without its first line
    files: dict[str, bytes]  # the content of each file of READ that exists


class _StageLock(NamedTuple):
    """The entry of a stage in dvc.lock."""

    deps: dict[str, str]  # the MD5 of each input
    params: dict[str, Any]  # the value of each section or parameter that it ran with
    outs: dict[str, str]  # the MD5 of each output


def take_snapshot(root: Path) -> Snapshot:
    """Store the working tree as a commit, without changing it or the index.

    Raises:
        SetupError: the folder is in no git repository, there is no commit yet, or a
            stage depends on an untracked file, or data has changed since `dvc add`.
    """
    baseline = git.head(root)
    if baseline is None:
        raise SetupError(
            "there is no commit yet that experiments could start from",
            where=str(root),
            todo="git add --all && git commit --message 'First commit'",
        )
    untracked = _names(git.run("ls-files", "--others", "--exclude-standard", "-z", cwd=root))
    used = _dependencies(strict_yaml.load(root / PIPELINE).values)
    packages = {str(Path(path).parent) for path in used if path.endswith(".py")}
    code = [
        name
        for name in untracked
        if any(within(name, each) for each in used)
        or (name.endswith(".py") and str(Path(name).parent) in packages)
    ]
    if code:
        raise SetupError(
            "the stages use untracked files, and experiments run tracked files only",
            found="\n".join(code),
            todo=f"git add {' '.join(code)}  (no commit is needed), or remove unused files",
        )
    added = added_data.records(untracked)  # what `dvc add` has just written belongs to it
    added += [name for name in untracked if added and Path(name).name == ".gitignore"]
    listed = _names(git.run("ls-files", "-z", cwd=root))
    added_data.check_unchanged(root, added_data.records([*listed, *added]))
    tree = _working_tree(root, added)
    if tree == git.line("rev-parse", "HEAD^{tree}", cwd=root):
        return Snapshot(baseline, baseline)
    return Snapshot(baseline, _commit(root, tree, baseline, "Snapshot of a comparison"))


def _working_tree(root: Path, added: Sequence[str] = ()) -> str:
    """Store the tracked files as they are, and those in `added`; return the hash of the tree."""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        own = root / git.line("rev-parse", "--git-path", "index", cwd=root)
        # With its time: git looks into files that are as new as their index.
        shutil.copy2(own, index)
        git.run("add", "--update", ".", cwd=root, index=index)
        if added:
            git.run("add", "--", *added, cwd=root, index=index)
        return git.line("write-tree", cwd=root, index=index)


def named(root: Path, name: str) -> str | None:
    """Return the commit of an experiment, of the current commit if several have the name.

    Args:
        root: of the repository.
        name: of the experiment, or any other name of its commit.
    """
    head = git.head(root) or ""
    listed = git.run("for-each-ref", "--format=%(refname) %(objectname)", FINISHED, cwd=root)
    found = {}
    for line in listed.decode().splitlines():
        ref, _, commit = line.rpartition(" ")
        parts = ref.split("/", 4)  # refs/exps/ab/cdef…/name
        if len(parts) == 5 and parts[4] == name:
            found[parts[2] + parts[3]] = commit
    return found.get(head) or next(iter(found.values()), None) or git.commit_if_any(name, root)


def is_stored(root: Path) -> bool:
    """Say whether the tracked files are those of an experiment, so that nothing is lost."""
    trees = git.run("for-each-ref", "--format=%(tree)", FINISHED, cwd=root).decode().split()
    return _working_tree(root) in trees


def finished(root: Path, snapshot: Snapshot, experiment: Experiment) -> Result | Divergence | None:
    """Return the result of an experiment if it ran before, from the same snapshot."""
    for namespace in (FINISHED, DIVERGED):
        stored = _load(root, _ref(namespace, snapshot, experiment))
        if stored is None or _differing(root, snapshot, experiment, stored):
            continue
        if namespace == DIVERGED:
            return Divergence(experiment, stored.message)
        if not _mixed(experiment, stored):
            return _read(experiment, stored)
    return None


def in_the_way(root: Path, snapshot: Snapshot, experiment: Experiment) -> list[str]:
    """Return what differs in an experiment of the same name that ran other code."""
    stored = _load(root, _ref(FINISHED, snapshot, experiment))
    if stored is None:
        return []
    return _differing(root, snapshot, experiment, stored) or _mixed(experiment, stored)


def record(root: Path, snapshot: Snapshot, outcome: Outcome) -> Result | Divergence | None:
    """Store how an experiment ended, and return its result; None if it failed otherwise.

    An experiment of the same name is replaced.
    """
    experiment = outcome.experiment
    if outcome.problem and not outcome.diverged:
        return None
    files = {PARAMS_FILE.name: experiment.params, **outcome.files}
    tree = _tree(root, snapshot.commit, files)
    message = outcome.problem or (f"{SECONDS}: {outcome.seconds:.1f}" if outcome.trained else "")
    commit = _commit(root, tree, snapshot.baseline, f"{experiment.name}\n\n{message}")
    namespace, other = (DIVERGED, FINISHED) if outcome.diverged else (FINISHED, DIVERGED)
    ref = _ref(namespace, snapshot, experiment)
    git.run("update-ref", ref, commit, cwd=root)
    git.run("update-ref", "-d", _ref(other, snapshot, experiment), cwd=root)
    if outcome.diverged:
        return Divergence(experiment, outcome.problem)
    stored = _load(root, ref)
    assert stored is not None, "it was written just now"
    return _read(experiment, stored)


def test_accuracy(root: Path, snapshot: Snapshot, experiment: Experiment) -> float:
    """Return the test accuracy of a finished experiment: to report, not to choose by."""
    ref = _ref(FINISHED, snapshot, experiment)
    return float(json.loads(git.run("show", f"{ref}:./{TEST}", cwd=root))["accuracy"])


def _ref(namespace: str, snapshot: Snapshot, experiment: Experiment) -> str:
    return f"{namespace}/{snapshot.baseline[:2]}/{snapshot.baseline[2:]}/{experiment.name}"


def _load(root: Path, ref: str) -> _Stored | None:
    """Read the commit that `ref` names and its files, with one git process."""
    names = {name: f"{ref}:./{name}" for name in READ}
    found = git.contents([ref, *names.values()], cwd=root)
    if ref not in found:
        return None
    commit, content = found[ref]
    _, _, message = content.decode("utf-8", "replace").partition("\n\n")
    _, _, rest = message.partition("\n\n")
    existing = {name: found[at][1] for name, at in names.items() if at in found}
    return _Stored(commit, rest.strip(), existing)


def _names(listed: bytes) -> list[str]:
    """Split the output of git with `-z`."""
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _dependencies(pipeline: Any) -> set[str]:
    """Return the dependencies of all stages that no stage writes."""
    stages = pipeline["stages"].values()
    written = {
        next(iter(entry)) if isinstance(entry, dict) else entry
        for stage in stages
        for kind in ("outs", "metrics", "plots")
        for entry in stage.get(kind, [])
    }
    return {str(path) for stage in stages for path in stage.get("deps", [])} - written


def _differing(
    root: Path, snapshot: Snapshot, experiment: Experiment, stored: _Stored
) -> list[str]:
    """Return the files that results depend on and that differ from `snapshot`."""
    names = ("diff", "--name-only", "--relative", "-z", snapshot.commit, stored.commit)
    changed = git.run(*names, cwd=root)
    # Its own dvc.yaml is enough: if it differs from ours, that is reported.
    pipeline = _values(stored.files.get(PIPELINE.name, b"stages: {}"))
    depended_on = _dependencies(pipeline) | {PIPELINE.name}
    differing = sorted(
        name
        for name in _names(changed)
        if name.endswith(added_data.SUFFIX) or any(within(name, each) for each in depended_on)
    )
    params = stored.files.get(PARAMS_FILE.name, b"")
    if params != experiment.params and _values(params) != _values(experiment.params):
        differing.append(PARAMS_FILE.name)
    return differing


def _mixed(experiment: Experiment, stored: _Stored) -> list[str]:
    """Return the stages and results of an earlier run, as `dvc exp run train` leaves them.

    dvc.lock has to say that every stage ran with the parameters of the experiment and
    the outputs of the stages before it, and that the metrics are those that they wrote.
    """
    stages = provenance.current(
        _stages(stored.files.get(LOCK, b"").decode()), stored.files.get(PIPELINE.name)
    )
    chosen = _values(experiment.params)
    written = {path: md5 for stage in stages.values() for path, md5 in stage.outs.items()}
    mixed = set()
    for name, stage in stages.items():
        if any(written.get(path, md5) != md5 for path, md5 in stage.deps.items()):
            mixed.add(f"stage {name}")
        if any(value != lookup(key, chosen) for key, value in stage.params.items()):
            mixed.add(f"stage {name}")
    for path in RESULTS:
        content = stored.files.get(path, b"")
        if written.get(path) != hashlib.md5(content, usedforsecurity=False).hexdigest():
            mixed.add(path)
    return sorted(mixed)


def _stages(lock: str) -> dict[str, _StageLock]:
    """Parse the text of a dvc.lock.

    Parsing it as YAML would take a minute for a thousand experiments. So only the
    parameters are parsed as YAML; the rest is matched in the form that DVC writes, as in
    core/pipeline/provenance.py.
    """
    stages = {}
    for name, text in re.findall(r"^  (\S+):\n((?: {4}.*\n)*)", lock, re.MULTILINE):
        sections = dict(re.findall(r"^ {4}(\w+):.*\n((?: {4}[ -] .*\n)*)", text, re.MULTILINE))
        deps, outs = (dict(re.findall(HASHED, sections.get(kind, ""))) for kind in ("deps", "outs"))
        _, _, params = sections.get("params", "").partition("\n")  # the name of the file
        stages[name] = _StageLock(deps, _values(textwrap.dedent(params).encode()), outs)
    return stages


def _values(text: bytes) -> dict[str, Any]:
    """Return the values of one of our YAML files, or of a part of it.

    Sections are parsed one by one and cached, because most are the same in all experiments.
    """
    section = rb"(?:#.*\n|\n)*[\w.]+:.*\n(?:[ #-].*\n|\n)*"
    sections = re.findall(section, text)
    if b"".join(sections) != text or re.search(rb"[&*<]", re.sub(rb"#.*", b"", text)):
        sections = [text]  # another form, or sections that refer to each other
    values = [dict(_parsed(part) or {}) for part in sections]
    if sum(map(len, values)) != len(set().union(*values)):
        values = [_parsed(text)]  # a section occurs twice: the parser decides
    return {key: value for part in values for key, value in part.items()}


@functools.lru_cache(maxsize=100)
def _parsed(text: bytes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / PARAMS_FILE.name
        file.write_bytes(text)
        return strict_yaml.load(file).values


def _tree(root: Path, base: str, files: Mapping[str, bytes | None]) -> str:
    """Write the tree of `base` with `files` replaced, and return its hash."""
    below = git.prefix(root)
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        git.run("read-tree", base, cwd=root, index=index)
        for name, content in sorted(files.items()):
            if content is None:
                git.run("update-index", "--force-remove", "--", name, cwd=root, index=index)
                continue
            blob = git.line("hash-object", "-w", "--stdin", cwd=root, stdin=content)
            entry = f"100644,{blob},{below}{name}"  # from the root, unlike all other paths
            git.run("update-index", "--add", "--cacheinfo", entry, cwd=root, index=index)
        return git.line("write-tree", cwd=root, index=index)


def _commit(root: Path, tree: str, parent: str, message: str) -> str:
    identity: Sequence[str] = ()
    if not os.environ.get("GIT_AUTHOR_EMAIL") and not _has_identity(root):
        identity = ("-c", "user.name=samebits", "-c", "user.email=samebits@localhost")
    return git.line(*identity, "commit-tree", tree, "-p", parent, cwd=root, stdin=message.encode())


def _has_identity(root: Path) -> bool:
    """Say whether git knows the author of a commit."""
    try:
        git.run("config", "user.email", cwd=root)
    except SetupError:
        return False
    return True


def _read(experiment: Experiment, stored: _Stored) -> Result:
    """Read the result of an experiment."""
    measured = json.loads(stored.files[EVALUATION])["val"]
    seconds = re.search(rf"^{SECONDS}: ([0-9.]+)$", stored.message, re.MULTILINE)
    return Result(
        experiment,
        loss=measured["loss"],
        accuracy=measured["accuracy"],
        history=pd.read_csv(io.BytesIO(stored.files[HISTORY])),
        predictions=pd.read_csv(io.BytesIO(stored.files[PREDICTIONS])),
        seconds=float(seconds[1]) if seconds else None,
    )
