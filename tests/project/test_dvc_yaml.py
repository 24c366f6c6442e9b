"""dvc.yaml declares what the stages really use.

DVC does not look into a stage: a module that it imports, a file that it reads
or a parameter that it asks for, and that is not declared, goes stale without a
word. So the source of each stage is read here and compared with dvc.yaml.
"""

import ast
import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DVC_YAML: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = sorted(DVC_YAML["stages"])


def local_modules(source: Path, seen: set[str]) -> set[str]:
    """The project's own files that `source` imports, at any depth, itself included."""
    name = source.relative_to(ROOT).as_posix()
    if name in seen:
        return seen
    seen.add(name)
    for node in ast.walk(ast.parse(source.read_text())):
        dotted: list[str] = []
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            dotted = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in dotted:
            file = ROOT / (module.replace(".", "/") + ".py")
            if file.exists():
                local_modules(file, seen)
    return seen


def paths_named(source: Path) -> set[str]:
    """The literals of all `Path("...")` in a stage: what it reads and writes."""
    return set(_literal_arguments(source, "Path"))


def parameters_read(source: Path) -> set[str]:
    """The literals of `params.read("...")` in a stage."""
    return set(_literal_arguments(source, "read"))


def _literal_arguments(source: Path, function: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and _called(node) == function:
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


def _called(call: ast.Call) -> str:
    target = call.func
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def declared(stage: dict[str, Any], *kinds: str) -> set[str]:
    """The paths under `deps`, `outs`, ... with or without options behind them."""
    entries = [entry for kind in kinds for entry in stage.get(kind, [])]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def differences(stage: str, definition: dict[str, Any]) -> set[str]:
    """What a stage uses and does not declare, or declares and does not use."""
    source = ROOT / "stages" / f"{stage}.py"
    outputs = declared(definition, "outs", "metrics", "plots")
    files = local_modules(source, set()) | (paths_named(source) - outputs)
    return (
        {f"dep {path}" for path in files ^ declared(definition, "deps")}
        | {f"out {path}" for path in outputs - paths_named(source)}
        | {f"param {key}" for key in parameters_read(source) ^ set(definition.get("params", []))}
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_exactly_what_it_uses(stage: str) -> None:
    assert differences(stage, DVC_YAML["stages"][stage]) == set()
    launcher = "${launcher}" if stage == "train" else "python"
    assert DVC_YAML["stages"][stage]["cmd"] == f"{launcher} -m stages.{stage}"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["deps", "params", "outs", "metrics", "plots"])
def test_each_planted_omission_is_found(stage: str, kind: str) -> None:
    definition = DVC_YAML["stages"][stage]
    for position in range(len(definition.get(kind, []))):
        planted = copy.deepcopy(definition)
        omitted = planted[kind].pop(position)
        name = next(iter(omitted)) if isinstance(omitted, dict) else omitted
        # A forgotten output looks like an input that is not declared.
        expected = {"deps": "dep", "params": "param"}.get(kind, "dep")
        assert differences(stage, planted) == {f"{expected} {name}"}


def test_lists_are_sorted_so_that_a_diff_shows_one_line() -> None:
    for definition in DVC_YAML["stages"].values():
        for kind in ("deps", "params", "outs", "metrics", "plots"):
            names = [
                next(iter(entry)) if isinstance(entry, dict) else entry
                for entry in definition.get(kind, [])
            ]
            assert names == sorted(names)


def test_packages_hold_no_code_in_their_init_files_but_what_explains_a_missing_package() -> None:
    for package in ("benchmarks", "stages", "tools"):
        (loading,) = ast.parse((ROOT / package / "__init__.py").read_text()).body
        assert ast.unparse(loading) == "import core"
    imported = ast.unparse(ast.parse((ROOT / "core/__init__.py").read_text())).split("\n")
    assert [line for line in imported if re.match(r"\s*(import|from) ", line)] == [
        "import importlib.util",
        "import sys",
        "from pathlib import Path",
        "from types import TracebackType",
    ]


def test_imports_point_one_way() -> None:
    for package, forbidden in {"core": ("stages", "tools"), "stages": ("tools",)}.items():
        for source in (ROOT / package).rglob("*.py"):
            for used in local_modules(source, set()):
                assert not used.startswith(tuple(f"{name}/" for name in forbidden)), source
    for source in (ROOT / "stages").glob("*.py"):
        others = {name for name in local_modules(source, set()) if name.startswith("stages/")}
        assert others == {f"stages/{source.name}"}
