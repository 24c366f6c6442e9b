"""The outputs of a revision and its experiments, by their dvc.lock: objects and run cache.

An object is an output of a stage, stored under its MD5 in DVC's cache. DVC restores a
stage without running it if its run cache has an entry for the same code, inputs and
parameters, and the cache has all objects of that entry, those of the metrics too,
which are in git. An entry has the content of dvc.lock for that stage, so it can be
recreated from git on any machine.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from core.pipeline import files, provenance
from core.pipeline.errors import DataError, SetupError
from tools.experiments import store
from tools.experiments.store import LOCK, Outcome
from tools.repository import added_data, freshness, git, snapshots

OBJECTS = "files/md5"  # in DVC's cache, and in a remote
RUNS = "runs"  # the run cache, likewise
READ_ONLY = 0o444  # the mode that DVC gives to objects
UNCOUNTED = ["size", "nfiles"]  # keys that DVC leaves out of the hash of an entry


@dataclass(frozen=True)
class Run:
    """A revision or an experiment, and the stages of its dvc.lock.

    Args:
        name: for messages.
        commit: that contains dvc.lock and the tracked files.
        stages: of dvc.lock.
        added: the path of what `dvc add` tracks, by its MD5.
    """

    name: str
    commit: str
    stages: Mapping[str, Any]
    added: Mapping[str, str] = field(default_factory=dict)

    def objects(self) -> dict[str, str]:
        """Return the path of each output and of what `dvc add` tracks, by its MD5."""
        outs = (out for stage in self.stages.values() for out in stage["outs"])
        return {**self.added, **{out["md5"]: out["path"] for out in outs}}


def run(name: str, commit: str) -> Run:
    """Read the dvc.lock and the .dvc files of a commit.

    Raises:
        DataError: one is not YAML, or has a hash of DVC 2.
    """
    snapshot = snapshots.revision(commit)
    stages = freshness.locked(snapshot)
    for stage in stages.values():
        for out in stage.get("outs", []):
            if out.get("hash") != "md5":
                raise DataError(
                    f"dvc.lock of {name} has an output that cannot be shared",
                    expected="an MD5, as DVC 3 writes it",
                    found=f"{out['path']}: {out.get('md5')}",
                    todo="dvc repro --force rewrites the hashes",
                )
    with_outs = {key: value for key, value in stages.items() if value.get("outs")}
    added = {each.md5: path for path, each in added_data.recorded(snapshot).items()}
    return Run(name, commit, with_outs, added)


def of_outcome(outcome: Outcome, pipeline: bytes) -> Run:
    """Return the run of an experiment that has just ended; without stages if it failed.

    Args:
        outcome: of the experiment.
        pipeline: the content of its dvc.yaml.
    """
    content = outcome.files.get(LOCK)
    stages = YAML(typ="safe").load(content)["stages"] if content else {}
    return Run(outcome.experiment.name, "", provenance.current(stages, pipeline))


def of_revision(commit: str) -> list[Run]:
    """Return the runs of a commit: itself, then its experiments that finished.

    Raises:
        DataError: as `run`.
    """
    below = f"{store.FINISHED}/{commit[:2]}/{commit[2:]}/"
    refs = git.run("for-each-ref", "--format=%(refname)", below).decode().split()
    return [run("this revision", commit), *(run(ref.removeprefix(below), ref) for ref in refs)]


class Cache:
    """DVC's cache of this repository.

    Args:
        folder: of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def object(self, md5: str) -> Path:
        """Return the path of the object with this MD5, whether it exists or not."""
        return self.folder / OBJECTS / md5[:2] / md5[2:]

    def has(self, md5: str) -> bool:
        """Say whether the cache has an object."""
        return self.object(md5).is_file()

    def expanded(self, objects: Mapping[str, str]) -> dict[str, str]:
        """Add the files of the folders among these objects, as far as the cache lists them.

        Args:
            objects: the path of each object, by its MD5.
        """
        found = dict(objects)
        for md5, path in objects.items():
            if md5.endswith(added_data.FOLDER) and self.has(md5):
                listed = added_data.listing(self.object(md5).read_bytes())
                for name, each in listed.items():
                    found.setdefault(each, f"{path}/{name}")
        return found

    def add(self, md5: str, content: bytes) -> None:
        """Add an object, unless the cache has it.

        Raises:
            DataError: the content has another MD5.
        """
        if self.has(md5):
            return
        if freshness.md5(content) != md5.removesuffix(".dir"):
            raise DataError(
                "an object was damaged in transfer",
                expected=f"MD5 {md5}",
                found=f"MD5 {freshness.md5(content)}",
                todo="the same command fetches it again",
            )
        files.write_bytes(self.object(md5), content)
        self.object(md5).chmod(READ_ONLY)

    def complete(self, runs: Iterable[Run]) -> None:
        """Add tracked outputs that the cache lacks.

        In a new clone the metrics are in place, so DVC does not add them to its cache.
        """
        for each in runs:
            missing = {md5: path for md5, path in each.objects().items() if not self.has(md5)}
            in_git = git.files_of(each.commit) if missing else set()
            for md5, path in missing.items():
                if path in in_git:
                    content = git.content(each.commit, path)
                    if freshness.md5(content) == md5:
                        self.add(md5, content)

    def entries(self, runs: Iterable[Run], existing: Iterable[str]) -> dict[str, bytes]:
        """Create the entries of the run cache for all stages whose objects exist.

        Args:
            runs: the runs.
            existing: the MD5 of the objects that exist.

        Returns:
            The content of each entry, by its path in the run cache.
        """
        from dvc.utils import dict_sha256
        from dvc.utils.serialize import dumps_yaml

        known = set(existing)
        made = {}
        for each in runs:
            for stage in each.stages.values():
                outs = {out["md5"]: out["path"] for out in stage["outs"]}
                if known.issuperset(self.expanded(outs)):
                    paths = {**stage, "outs": [out["path"] for out in stage["outs"]]}
                    key = dict_sha256(paths, exclude=UNCOUNTED)
                    value = dict_sha256(stage, exclude=UNCOUNTED)
                    made[f"{key[:2]}/{key}/{value}"] = dumps_yaml(stage).encode()
        return made

    def add_entries(self, entries: Mapping[str, bytes]) -> None:
        """Write the entries that the run cache lacks."""
        for name, content in entries.items():
            path = self.folder / RUNS / name
            if not path.exists():
                files.write_bytes(path, content)


def opened(root: Path | None = None) -> Cache:
    """Return DVC's cache of a repository.

    Args:
        root: of the repository; None for the working directory.

    Raises:
        SetupError: it is not a DVC repository, or its settings cannot be read.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root) if root else None) as repo:
            return Cache(Path(repo.cache.local_cache_dir))
    except DvcException as error:
        raise SetupError(
            "DVC's cache cannot be found", found=str(error), where=str(root or Path.cwd())
        ) from error
