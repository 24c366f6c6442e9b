"""Whether dvc.lock and metrics/ belong to the code and the parameters, from git alone.

DVC needs the data, or the cache, to answer that: without them `dvc status` reports
everything as changed, and `dvc repro --dry --allow-missing` misses stale stages. The
files in git are enough: a stage is current if its command, code, parameters and
metrics are those in dvc.lock, and if its data is what dvc.lock records as the output
of the stage before it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from core.pipeline import provenance
from core.pipeline.errors import SetupError
from tools.repository import added_data
from tools.repository.added_data import Added
from tools.repository.dvc_lock import within
from tools.repository.snapshots import Snapshot

LOCK = "dvc.lock"
PIPELINE = "dvc.yaml"
PARAMS = "params.yaml"

# Keys that a stage may have. Others (foreach, wdir, frozen, ...) need rules of DVC
# that are not implemented here.
SUPPORTED = {"cmd", "deps", "params", "outs", "metrics", "plots", "desc", "meta"}


class Finding(NamedTuple):
    """How a stage differs from dvc.lock."""

    stage: str
    what: str  # a file, a parameter or `cmd`
    how: str  # it changed, in words


class Stage(NamedTuple):
    """A stage of dvc.yaml, its lists flattened."""

    cmd: str
    deps: list[str]
    params: dict[str, list[str]]  # for each file its keys, none for all of them
    outs: list[str]
    in_git: set[str]  # the outs that are in git


def findings(snapshot: Snapshot) -> list[Finding]:
    """Compare dvc.lock with every file in git that it names.

    Raises:
        DataError: dvc.yaml, dvc.lock or params.yaml cannot be read.
        SetupError: there is no pipeline, or it uses a feature that is not supported here.
    """
    stages = pipeline(snapshot)
    locks = locked(snapshot)
    made = {out["path"]: out.get("md5") for lock in locks.values() for out in lock.get("outs", [])}
    makers = {out: name for name, stage in stages.items() for out in stage.outs}
    in_git = {out for stage in stages.values() for out in stage.in_git}
    added = added_data.recorded(snapshot)
    # What is not in git: its hash is all that is known of it.
    outside = {path: str(made[path]) for path in (makers.keys() & made.keys()) - in_git}
    outside |= {path: each.md5 for path, each in added.items()}
    found: list[Finding] = []
    for name, stage in stages.items():
        lock = locks.get(name)
        if lock is None:
            found.append(Finding(name, LOCK, "has no entry for this stage"))
            continue
        if lock.get("cmd") != stage.cmd:
            found.append(Finding(name, "cmd", f"{_short(lock.get('cmd'))} → {_short(stage.cmd)}"))
        deps, outs = (
            {entry["path"]: entry for entry in lock.get(kind, [])} for kind in ("deps", "outs")
        )
        for path in stage.deps:
            how = ""
            if path in makers:
                how = _differs_from_maker(path, deps.get(path), made, makers[path])
            if not how and path.rstrip("/") in added:
                how = _differs_from_added(deps.get(path), added[path.rstrip("/")])
            elif not how and (path not in makers or path in in_git):
                how = _changed(snapshot, path, deps.get(path), outside)
            found += [Finding(name, path, how)] if how else []
        found += [Finding(name, *changed) for changed in _params(snapshot, stage, lock)]
        for path in stage.outs:
            how = _changed(snapshot, path, outs.get(path), {}) if path in stage.in_git else ""
            how = how or ("" if path in outs else f"is not in {LOCK}")
            found += [Finding(name, path, how)] if how else []
    files = snapshot.files()
    return found + [
        Finding(name, out["path"], "is an output of no stage: git rm it")
        for name, lock in _entries(snapshot).items()
        for out in lock.get("outs", [])
        if out["path"] not in makers and out["path"] in files
    ]


def pipeline(snapshot: Snapshot) -> dict[str, Stage]:
    """Read the stages of dvc.yaml.

    Raises:
        DataError: it is not YAML.
        SetupError: it is missing, or uses a feature that is not supported here.
    """
    content = snapshot.yaml(PIPELINE)
    stages = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(stages, dict):
        raise SetupError(
            f"{snapshot.name} has no pipeline",
            expected=f"stages in {PIPELINE}",
            todo="run it from the root of the repository",
        )
    unknown = {
        f"{name}.{key}" for name, stage in stages.items() for key in set(stage) - SUPPORTED
    } | ({"vars"} & set(content))
    stages = _written_out(stages, dict(leaves(snapshot.yaml(PARAMS))))
    if unknown or "${" in str(stages):
        raise SetupError(
            f"{PIPELINE} of {snapshot.name} uses features that this check does not support",
            expected=", ".join(sorted(SUPPORTED)),
            found=", ".join(sorted(unknown)) or "${...}",
            todo="write the stages out, or use dvc status where the data is",
        )
    return {name: _stage(stage) for name, stage in stages.items()}


def locked(snapshot: Snapshot) -> dict[str, Any]:
    """Read the stages of dvc.lock that dvc.yaml has; none if there is no such file.

    Raises:
        DataError: dvc.yaml or dvc.lock is not YAML, or something else.
    """
    return provenance.current(_entries(snapshot), snapshot.read(PIPELINE))


def _entries(snapshot: Snapshot) -> dict[str, Any]:
    """Read all stages of dvc.lock, those too that dvc.yaml no longer has."""
    content = snapshot.yaml(LOCK)
    if content is None:
        return {}
    stages = content.get("stages", {}) if isinstance(content, dict) else None
    if not isinstance(stages, dict):
        raise snapshot.unreadable(LOCK, "stages and their hashes", type(content).__name__)
    return stages


def _written_out(value: Any, knobs: dict[str, Any]) -> Any:
    """Put the parameters into each `${model.name}` of dvc.yaml, as DVC does.

    A text in which one is not known, or no name or number, stays as it is.
    """
    if isinstance(value, dict):
        return {key: _written_out(item, knobs) for key, item in value.items()}
    if isinstance(value, list):
        return [_written_out(item, knobs) for item in value]
    if not isinstance(value, str):
        return value

    def written(key: re.Match[str]) -> str:
        knob = knobs.get(key[1])
        return str(knob) if type(knob) in (str, int) else key[0]

    return re.sub(r"\$\{([\w.]+)\}", written, value)


def _stage(stage: dict[str, Any]) -> Stage:
    params: dict[str, list[str]] = {}
    for entry in stage.get("params", []):
        for file, keys in entry.items() if isinstance(entry, dict) else [(PARAMS, [entry])]:
            params.setdefault(file, []).extend(keys or [])
    outs = [_named(entry) for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return Stage(
        str(stage.get("cmd")),
        [_named(entry)[0] for entry in stage.get("deps", [])],
        params,
        [path for path, _ in outs],
        {path for path, options in outs if options.get("cache") is False},
    )


def _named(entry: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the path of an entry, and its options."""
    if isinstance(entry, str):
        return entry, {}
    path, options = next(iter(entry.items()))
    return path, options or {}


def _differs_from_maker(path: str, dep: Any, made: dict[str, Any], maker: str) -> str:
    """Say how a dependency differs from the output of the stage that makes it."""
    if dep is None:
        return f"is not in {LOCK}"
    if path in made and made[path] != dep.get("md5"):
        return f"differs from the output of {maker} in {LOCK}"
    return ""


def _differs_from_added(dep: Any, added: Added) -> str:
    """Say how a dependency differs from the data that `dvc add` recorded."""
    if dep is None:
        return f"is not in {LOCK}"
    return "" if dep.get("md5") == added.md5 else f"differs from {added.recorded_in}"


def _changed(snapshot: Snapshot, path: str, entry: Any, outside: Mapping[str, str]) -> str:
    """Say how a file or a folder differs from what dvc.lock records.

    Args:
        snapshot: the state of the project.
        path: of the file or the folder.
        entry: of dvc.lock.
        outside: the hashes of what is not in git, by path, some of which may be in it.
    """
    if entry is None:
        return f"is not in {LOCK}"
    # DVC 2 converted line ends before hashing; its entries have no `hash`.
    if entry.get("hash") != "md5":
        raise SetupError(
            f"{LOCK} of {snapshot.name} has a hash that this check does not support",
            expected="an MD5, as DVC 3 writes it",
            found=f"{entry.get('hash', 'of DVC 2')}: {entry.get('md5')}",
            where=path,
            todo="dvc repro --force rewrites the hashes",
        )
    folder = path.rstrip("/")
    inside = next((each for each in outside if within(folder, each)), None)
    if inside or entry["md5"].endswith(added_data.FOLDER):
        files = _files_below(snapshot, inside or folder, outside)
        if inside and folder != inside:
            below = folder.removeprefix(f"{inside}/")
            if below in files and not entry["md5"].endswith(added_data.FOLDER):
                return "" if files[below] == entry["md5"] else "was changed"
            files = {
                name.removeprefix(f"{below}/"): md5
                for name, md5 in files.items()
                if name.startswith(f"{below}/")
            }
        if not files:
            return "is missing"
        return "" if added_data.folder_md5(files) == entry["md5"] else "was changed"
    content = snapshot.read(path)
    if content is None:
        return "is missing"
    if md5(content) == entry["md5"]:
        return ""
    if md5(content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")) == entry["md5"]:
        return "was recorded with the line ends of Windows"
    return "was changed"


def _files_below(snapshot: Snapshot, folder: str, outside: Mapping[str, str]) -> dict[str, str]:
    """Return the MD5 of each file in a folder, by its path there.

    Raises:
        SetupError: the files of a folder outside of git are not known here.
    """
    found = {
        name[len(folder) + 1 :]: md5(snapshot.read(name) or b"")
        for name in snapshot.files()
        if name.startswith(f"{folder}/")
    }
    for path, hashed in outside.items():
        if not within(path, folder):
            continue
        if not hashed.endswith(added_data.FOLDER):
            found[path[len(folder) + 1 :]] = hashed
            continue
        listed = added_data.cached_listing(hashed)
        if listed is None:
            raise SetupError(
                f"the files in {path} are not known here",
                expected=f"the object {hashed} in DVC's cache",
                where=f"{LOCK} of {snapshot.name}",
                todo=f"dvc pull {path} gets them; or let the stage depend on {path} as a whole",
            )
        below = path[len(folder) + 1 :]
        found |= {f"{below}/{name}" if below else name: each for name, each in listed.items()}
    return found


def md5(content: bytes) -> str:
    """Return the MD5 of the bytes of a file, as in dvc.lock."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _params(snapshot: Snapshot, stage: Stage, lock: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each parameter that changed, by its full dotted name, and how."""
    for file, keys in stage.params.items():
        actual = snapshot.yaml(file)
        recorded = lock.get("params", {}).get(file) or {}
        actual = actual if isinstance(actual, dict) else {}
        for key in keys or list(dict.fromkeys([*actual, *recorded])):
            old = dict(leaves(recorded[key], key)) if key in recorded else {}
            try:
                value: Any = actual
                for part in key.split("."):
                    value = value[part]
                new = dict(leaves(value, key))
            except (KeyError, TypeError):
                new = {}
            if not new and not old:
                yield key, f"is neither in {file} nor in {LOCK}"
            for leaf in dict.fromkeys([*old, *new]):
                if leaf not in new:
                    yield leaf, f"{_short(old[leaf])} → not in {file}"
                elif leaf not in old:
                    yield leaf, f"not in {LOCK} → {_short(new[leaf])}"
                elif old[leaf] != new[leaf]:
                    yield leaf, f"{_short(old[leaf])} → {_short(new[leaf])}"


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each parameter below a section under its dotted name; lists are values."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
