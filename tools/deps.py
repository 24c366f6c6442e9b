"""Writes into dvc.yaml which files each stage depends on: `make deps`, after any change of imports.

Reads:  stages/, core/, dvc.yaml
Writes: the lists `deps` of dvc.yaml; every other byte of it stays

DVC does not look into a stage: a module that it imports, or a file that it reads,
and that is not listed, goes stale without a word. So the list is made of the
source: the project's own files that the stage imports, at any depth, and the files
that it names as `Path("...")` and does not write.

An import by a name that is computed is followed where the source says the name
as `import_module(f"core.training.models.{model.name}")`: the stage then depends on
core/training/models/${model.name}.py, as DVC writes a parameter, and on what any
file in that folder imports. A name in a variable is not followed: so params.py
imports the sections that it only checks.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from core.pipeline.errors import SetupError
from core.pipeline.files import write_text
from core.pipeline.runner import run

PIPELINE = Path("dvc.yaml")
INDENT = " " * 4  # of what a stage says, as DVC itself writes it


def dependencies(stage: str, definition: dict[str, Any], root: Path = Path()) -> list[str]:
    """Return the files that a stage depends on, in order.

    Args:
        stage: its name; its source is stages/NAME.py.
        definition: of it, in dvc.yaml.
        root: of the repository.
    """
    source = root / "stages" / f"{stage}.py"
    read = paths_named(source) - declared(definition, "outs", "metrics", "plots")
    return sorted(local_modules(source, root) | read)


def local_modules(source: Path, root: Path, seen: set[str] | None = None) -> set[str]:
    """Return the project's own files that `source` imports, at any depth, itself included.

    Args:
        source: a file in Python.
        root: of the repository.
        seen: files that are known already; they are added to.

    Returns:
        Paths from the root, with / between their parts.
    """
    seen = set() if seen is None else seen
    name = source.relative_to(root).as_posix()
    if name in seen:
        return seen
    seen.add(name)
    for module in _imported(ast.parse(source.read_bytes())):
        path = module.replace(".", "/") + ".py"
        if "{" in module:
            computed = re.sub(r"{(.*?)}", r"${\1}", module)  # the dots of the key stay
            folder, _, last = computed.partition("${")
            seen.add(f"{folder.replace('.', '/')}${{{last}.py")
            for file in sorted(root.glob(re.sub(r"{.*?}", "*", module).replace(".", "/") + ".py")):
                own = file.relative_to(root).as_posix()
                known = own in seen
                local_modules(file, root, seen)
                if not known:
                    seen.discard(own)
        elif (root / path).exists():
            local_modules(root / path, root, seen)
    return seen


def paths_named(source: Path) -> set[str]:
    """Return the literals of all `Path("...")` in a stage: what it reads and writes."""
    return {
        argument.value
        for call in _calls(source, "Path")
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def parameters_read(source: Path) -> set[str]:
    """Return the keys of all `section(TrainParams, "threads")` in a stage, as dvc.yaml has them."""
    keys = set()
    for call in _calls(source, "section"):
        schema, *names = call.args
        section = re.sub(r"(?<!^)(?=[A-Z])", "_", ast.unparse(schema).removesuffix("Params"))
        values = [ast.literal_eval(name) for name in names]
        keys |= {f"{section.lower()}.{value}" for value in values} or {section.lower()}
    return keys


def declared(definition: dict[str, Any], *kinds: str) -> set[str]:
    """Return the paths under `deps`, `outs`, ... with or without options behind them."""
    entries = [entry for kind in kinds for entry in definition.get(kind, [])]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def written(text: str, root: Path = Path()) -> str:
    """Return the text of dvc.yaml with the right list `deps` in every stage.

    Args:
        text: of dvc.yaml.
        root: of the repository.

    Raises:
        SetupError: a stage has no source.
    """
    stages: dict[str, Any] = YAML(typ="safe").load(text)["stages"]
    for stage, definition in stages.items():
        if not (root / "stages" / f"{stage}.py").exists():
            raise SetupError(
                f"the stage {stage} has no source",
                expected=f"stages/{stage}.py",
                where=PIPELINE.as_posix(),
                todo="write it, or take the stage out of dvc.yaml",
            )
        start, end = _place(text.splitlines(), stage)
        listed = [f"{INDENT}- {path}" for path in dependencies(stage, definition, root)]
        lines = text.splitlines()
        if f"{INDENT}deps:" not in lines[start - 1 : start]:
            listed.insert(0, f"{INDENT}deps:")
        lines[start:end] = listed
        text = "\n".join(lines) + "\n"
    return text


def _place(lines: list[str], stage: str) -> tuple[int, int]:
    """Return where the entries below `deps:` of a stage start and end, as list indices.

    Without `deps:` both are the line below `cmd:`, or below the name of the stage.
    """
    first = lines.index(f"  {stage}:") + 1
    last = first
    while last < len(lines) and (not lines[last].strip() or lines[last].startswith("   ")):
        last += 1
    body = lines[first:last]
    if f"{INDENT}deps:" not in body:
        cmd = next((n for n, line in enumerate(body) if line.startswith(f"{INDENT}cmd:")), -1)
        return first + cmd + 1, first + cmd + 1
    start = end = first + body.index(f"{INDENT}deps:") + 1
    for place in range(start, last):
        if re.match(r" +- ", lines[place]):
            end = place + 1
        elif not lines[place].lstrip().startswith("#"):  # a comment between entries goes
            break
    return start, end


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted name of all that a source imports; `{...}` in it is computed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and _called(node) == "import_module"
            and isinstance(node.args[0], ast.JoinedStr)
        ):
            yield ast.unparse(node.args[0])[2:-1]  # f"..." without f and quotes


def _calls(source: Path, function: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Call) and _called(node) == function:
            yield node


def _called(call: ast.Call) -> str:
    target = call.func
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def main() -> None:
    """Write the lists, and say what changed in them."""
    before = PIPELINE.read_text(encoding="utf-8")
    after = written(before)
    if after == before:
        print(f"{PIPELINE} lists what the stages depend on")
        return
    write_text(PIPELINE, after)
    print(f"{PIPELINE} was changed: git diff {PIPELINE} shows how; then dvc repro")


if __name__ == "__main__":
    run(main)
