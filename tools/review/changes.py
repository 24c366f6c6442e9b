"""What differs between two snapshots, apart from the metrics."""

import hashlib
import re
from typing import Any, NamedTuple

from tools.repository import freshness
from tools.repository.snapshots import Snapshot

PACKAGES = "requirements.lock"
SHOWN_ELSEWHERE = ("metrics/", "reports/")


class Change(NamedTuple):
    """The old and the new value of something named; None if it does not exist."""

    name: str
    old: str | None
    new: str | None


class Changes(NamedTuple):
    """Everything that differs."""

    params: list[Change]
    code: list[Change]  # files in git that a stage depends on
    outputs: list[Change]  # of the stages, by their hashes in dvc.lock
    packages: list[Change]
    stages: list[tuple[str, list[str]]]  # each with the names of its inputs that changed


def between(before: Snapshot, after: Snapshot) -> Changes:
    """Collect the differences.

    Raises:
        DataError: dvc.yaml, dvc.lock or params.yaml cannot be read.
        SetupError: as `freshness.findings`.
    """
    outputs = _differences(_outputs(before), _outputs(after))
    return Changes(
        params=renamed(_differences(_params(before), _params(after))),
        code=_differences(_hashes(before), _hashes(after)),
        outputs=[change for change in outputs if not change.name.startswith(SHOWN_ELSEWHERE)],
        packages=_differences(_packages(before), _packages(after)),
        stages=_stages(before, after),
    )


def renamed(changes: list[Change]) -> list[Change]:
    """Merge the two changes of a renamed parameter: same section and value, other name."""
    removed = [change for change in changes if change.new is None]
    added = [change for change in changes if change.old is None]
    for old in removed:
        same = [new for new in added if _twins(old, new)]
        if len(same) == 1 and sum(_twins(other, same[0]) for other in removed) == 1:
            changes = [change for change in changes if change not in (old, same[0])]
            changes.append(Change(f"{old.name} → {same[0].name}", old.old, same[0].new))
    return sorted(changes)


def _twins(old: Change, new: Change) -> bool:
    return old.old == new.new and old.name.rpartition(".")[0] == new.name.rpartition(".")[0]


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    return [
        Change(name, _text(old, name), _text(new, name))
        for name in sorted({**old, **new})
        if name not in old or name not in new or old[name] != new[name]
    ]


def _text(values: dict[str, Any], name: str) -> str | None:
    """Write a value as YAML does; None if it does not exist."""
    if name not in values:
        return None
    value = values[name]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _params(snapshot: Snapshot) -> dict[str, Any]:
    content = snapshot.yaml(freshness.PARAMS)
    return dict(freshness.leaves(content)) if content else {}


def code(snapshot: Snapshot) -> list[str]:
    """Name dvc.yaml and the files in git that the stages depend on; they need not exist."""
    names = {freshness.PIPELINE}
    if snapshot.read(freshness.PIPELINE) is not None:
        names |= {path for stage in freshness.pipeline(snapshot).values() for path in stage.deps}
        names -= {path for stage in freshness.pipeline(snapshot).values() for path in stage.outs}
    return sorted(names)


def _hashes(snapshot: Snapshot) -> dict[str, str]:
    contents = {name: snapshot.read(name) for name in code(snapshot)}
    return {
        name: hashlib.sha256(content).hexdigest()
        for name, content in contents.items()
        if content is not None
    }


def _packages(snapshot: Snapshot) -> dict[str, str]:
    text = (snapshot.read(PACKAGES) or b"").decode("utf-8", "replace")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def _outputs(snapshot: Snapshot) -> dict[str, Any]:
    """Return the hashes of the outputs of the stages."""
    locks = freshness.locked(snapshot).values()
    return {out["path"]: out.get("md5") for lock in locks for out in lock.get("outs", [])}


def _stages(before: Snapshot, after: Snapshot) -> list[tuple[str, list[str]]]:
    """Name the stages that ran again or have to, with the reasons."""
    old, new = freshness.locked(before), freshness.locked(after)
    stale = freshness.findings(after) if after.read(freshness.PIPELINE) is not None else []
    reasons: dict[str, list[str]] = {}
    for stage in dict.fromkeys([*new, *old, *(finding.stage for finding in stale)]):
        if stage in old and stage in new:
            names = [
                change.name for change in _differences(_inputs(old[stage]), _inputs(new[stage]))
            ]
        elif stage in new:
            names = ["the stage is new"]
        else:
            names = ["the stage was removed"] if stage in old else []
        names += [finding.what for finding in stale if finding.stage == stage]
        if names:
            reasons[stage] = list(dict.fromkeys(names))
    return list(reasons.items())


def _inputs(lock: dict[str, Any]) -> dict[str, Any]:
    """Return the command, the hashes of the inputs and the parameters of a stage."""
    inputs = {"cmd": lock.get("cmd")} | {
        dep["path"]: dep.get("md5") for dep in lock.get("deps", [])
    }
    for values in lock.get("params", {}).values():
        for key, value in values.items():
            inputs |= dict(freshness.leaves(value, key))
    return inputs
