"""Reads dvc.lock, the hashes of the inputs and outputs of each stage, and compares two."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from core.pipeline import provenance
from core.pipeline.errors import DataError


@dataclass(frozen=True)
class Stage:
    """The inputs and outputs of a stage.

    Args:
        name: as in dvc.yaml.
        settings: the command, and each parameter with its value.
        inputs: for each path its hash.
        outputs: for each path its hash.
    """

    name: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Difference:
    """How a stage of one lock differs from the stage of that name in another.

    Args:
        stage: its name.
        settings: the names of the settings that differ.
        inputs: the paths of the inputs that differ.
        outputs: the paths of the outputs that differ.
    """

    stage: str
    settings: list[str]
    inputs: list[str]
    outputs: list[str]

    @property
    def began(self) -> bool:
        """Whether its outputs differ though its inputs and settings are the same."""
        return bool(self.outputs) and not self.inputs and not self.settings


def compare(
    committed: list[Stage], rebuilt: list[Stage], *, changed: Collection[str] = ()
) -> list[Difference]:
    """Return the stages that differ, in the order of the pipeline.

    Args:
        committed: the stages of one lock.
        rebuilt: those of the other.
        changed: outputs that are known to differ, whatever the hashes are.
    """
    old = {stage.name: stage for stage in committed}
    new = {stage.name: stage for stage in rebuilt}
    found = []
    for name in {**old, **new}:
        a, b = (stages.get(name, Stage(name, {}, {}, {})) for stages in (old, new))
        difference = Difference(
            name,
            _differing(a.settings, b.settings),
            _differing(a.inputs, b.inputs),
            sorted({*_differing(a.outputs, b.outputs), *(p for p in a.outputs if p in changed)}),
        )
        if difference.settings or difference.inputs or difference.outputs:
            found.append(difference)
    return found


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    missing = object()
    return sorted(key for key in {**old, **new} if old.get(key, missing) != new.get(key, missing))


def read(content: bytes, pipeline: bytes | None, where: str) -> list[Stage]:
    """Read a dvc.lock.

    Args:
        content: of the file.
        pipeline: the content of dvc.yaml, whose stages count; None if there is none.
        where: its origin, for an error message.

    Returns:
        The stages in the order of the pipeline: each after those whose outputs
        it reads.

    Raises:
        DataError: it is not a dvc.lock.
    """
    try:
        document = YAML(typ="safe").load(content)
        stages = [
            Stage(
                name,
                {
                    f"cmd of {name} in dvc.yaml": entry["cmd"],
                    **dict(_parameters(entry.get("params", {}))),
                },
                {item["path"]: _hash(item) for item in entry.get("deps", [])},
                {item["path"]: _hash(item) for item in entry.get("outs", [])},
            )
            for name, entry in provenance.current(document["stages"], pipeline).items()
        ]
    except (YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise DataError(
            "dvc.lock is not in the format of DVC",
            expected="stages with cmd, deps and outs",
            found=str(error).split("\n")[0],
            where=where,
            todo="resolve the conflict in it, if there is one, and run dvc repro",
        ) from error
    return _ordered(stages)


def _hash(item: dict[str, Any]) -> str:
    return str(item[item.get("hash", "md5")])


def _parameters(files: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for file, keys in files.items():
        for key, value in keys.items():
            yield f"{key} in {file}", value


def _ordered(stages: list[Stage]) -> list[Stage]:
    """Put each stage after those whose outputs it reads; else keep the order."""
    ordered: list[Stage] = []
    waiting = list(stages)
    while waiting:
        ready = next(
            (
                stage
                for stage in waiting
                if not any(_reads(stage, path) for other in waiting for path in other.outputs)
            ),
            waiting[0],  # a cycle, which DVC does not allow
        )
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def within(path: str, folder: str) -> bool:
    """Say whether a path is `folder` or in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _reads(stage: Stage, path: str) -> bool:
    """Say whether a stage reads a path, a folder that contains it, or a file in it."""
    return any(within(path, read) or within(read, path) for read in stage.inputs)
