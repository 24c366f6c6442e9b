"""Refuses an input that is no longer what another stage wrote.

DVC trusts a file whose size and time it knows, and the write-protected files of
its cache: a flipped bit goes unnoticed, from the data into the model and from the
model into the metrics. So a stage that DVC runs compares its inputs with the MD5
sums in dvc.lock. A stage that is run directly compares nothing: its inputs may come
from anywhere.

A stage that was renamed or removed stays in dvc.lock, because DVC never removes one.
`current` leaves it out, for everything that reads dvc.lock.
"""

import hashlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from core.pipeline.errors import DataError

LOCK = Path("dvc.lock")
PIPELINE = Path("dvc.yaml")
RUN_BY_DVC = "DVC_STAGE"  # in the environment of a stage that DVC runs
REPAIR = "python -m tools.repair moves it out of the way, here and in DVC's cache; then dvc repro"

Entry = TypeVar("Entry")


class Damage(NamedTuple):
    """A file that changed since it was written."""

    path: Path
    expected: str  # its MD5 when it was written
    found: str


def check(*inputs: Path) -> None:
    """Compare `inputs` with their hashes in dvc.lock, if DVC runs this stage.

    An input that is missing, or that dvc.lock does not list as an output, is left
    to its reader.

    Raises:
        DataError: an input is not what another stage wrote; names each. Or as `written`.
    """
    if RUN_BY_DVC in os.environ:
        _refuse(damages(inputs))


def check_outputs() -> None:
    """Compare all existing outputs with their hashes in dvc.lock.

    Raises:
        DataError: as `check` does.
    """
    _refuse(damages())


def damages(paths: Collection[Path] | None = None) -> list[Damage]:
    """Return the outputs that differ from their hashes in dvc.lock.

    Args:
        paths: of the files to look at; None for all outputs.

    Raises:
        DataError: as `written`.
    """
    return [
        Damage(path, expected, found)
        for path, expected in written().items()
        if (paths is None or path in paths) and path.is_file() and (found := md5(path)) != expected
    ]


def written() -> dict[Path, str]:
    """Return for each output that dvc.lock lists its MD5; for none, if there is no dvc.lock.

    Raises:
        DataError: dvc.lock is not as DVC wrote it.
    """
    if not LOCK.exists():
        return {}
    text = LOCK.read_text(encoding="utf-8", errors="replace")
    if "\ufffd" in text or "\n<<<<<<< " in text:
        raise DataError(
            f"{LOCK} is not as DVC wrote it",
            found="conflict markers" if "\n<<<<<<< " in text else "not UTF-8",
            todo=f"git checkout HEAD {LOCK}, then dvc repro",
        )
    pipeline = PIPELINE.read_bytes() if PIPELINE.exists() else None
    return {
        Path(path): md5
        for outs in current(outputs(text), pipeline).values()
        for path, md5 in outs.items()
    }


def _refuse(damaged: Sequence[Damage]) -> None:
    if damaged:
        raise DataError(
            f"{', '.join(str(each.path) for each in damaged)} changed since a stage wrote it",
            expected="\n".join(f"MD5 {each.expected}" for each in damaged),
            found="\n".join(f"MD5 {each.found}" for each in damaged),
            where=f"{LOCK} has the expected MD5",
            todo=REPAIR,
        )


def current(stages: Mapping[str, Entry], pipeline: bytes | None) -> dict[str, Entry]:
    """Return the stages of a dvc.lock that dvc.yaml still has.

    Args:
        stages: each entry of dvc.lock, however it was read, by the name of its stage.
        pipeline: the content of dvc.yaml; None if there is none: then all are returned.

    Raises:
        DataError: `pipeline` is not YAML.
    """
    if pipeline is None:
        return dict(stages)
    names = _stage_names(pipeline)
    # DVC names the stages of a `foreach` or a `matrix` train@a, train@b.
    return {name: entry for name, entry in stages.items() if name.partition("@")[0] in names}


@lru_cache(maxsize=100)
def _stage_names(pipeline: bytes) -> frozenset[str]:
    try:
        content = YAML(typ="safe").load(pipeline)
    except (YAMLError, ValueError) as error:
        raise DataError(
            f"{PIPELINE} cannot be read",
            expected="YAML",
            found=str(error).split("\n")[0],
            todo=f"git log -p -- {PIPELINE} shows its changes",
        ) from error
    stages = content.get("stages") if isinstance(content, dict) else None
    return frozenset(map(str, stages)) if isinstance(stages, dict) else frozenset()


def outputs(lock: str) -> dict[str, dict[str, str]]:
    """Return for each stage in the text of a dvc.lock the MD5 of each output.

    Reading it as YAML would take a tenth of a second more, in every stage. DVC
    writes it in one form only, which a test compares with what YAML makes of it. A
    hash that could be read as a number (12e3) stands in quotes.
    """
    found: dict[str, dict[str, str]] = {}
    stage = kind = path = ""
    for line in lock.splitlines():
        if name := re.fullmatch(r"  '?(\S.*?)'?:", line):
            stage = name[1]
        elif entry := re.fullmatch(r"    (- path|\w+|  md5): ?'?(.*?)'?", line):
            key, value = entry.groups()
            if key == "- path":
                path = value
            elif key == "  md5":
                if kind == "outs":
                    found.setdefault(stage, {})[path] = value
            else:
                kind = key
    return found


def md5(path: Path) -> str:
    """Return the MD5 of a file, as DVC has it in dvc.lock."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
