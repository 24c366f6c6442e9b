"""dvc.yaml declares what the stages really use, and `make deps` writes which files these are.

DVC does not look into a stage: a module that it imports, a file that it reads
or a parameter that it asks for, and that is not declared, goes stale without a
word. So the source of each stage is read and compared with dvc.yaml.
"""

import ast
import copy
import functools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.project import ROOT, Project, copy_project
from tools import deps
from tools.deps import declared, local_modules

TEXT = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
DVC_YAML: dict[str, Any] = yaml.safe_load(TEXT)
STAGES = sorted(DVC_YAML["stages"])


@functools.cache
def modules(stage: str) -> set[str]:
    """What `deps.dependencies` finds of modules, once for all the tests of a stage."""
    return deps.local_modules(ROOT / "stages" / f"{stage}.py", ROOT)


def differences(stage: str, definition: dict[str, Any]) -> set[str]:
    """What a stage uses and does not declare, or declares and does not use."""
    source = ROOT / "stages" / f"{stage}.py"
    outputs = declared(definition, "outs", "metrics", "plots")
    files = modules(stage) | (deps.paths_named(source) - outputs)
    read = deps.parameters_read(source)
    return (
        {f"dep {path}" for path in files ^ declared(definition, "deps")}
        | {f"out {path}" for path in outputs - deps.paths_named(source)}
        | {f"param {key}" for key in read ^ set(definition.get("params", []))}
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_exactly_what_it_uses(stage: str) -> None:
    assert differences(stage, DVC_YAML["stages"][stage]) == set(), (
        "make deps writes the files (dep) into dvc.yaml; outs and params are written there by you"
    )
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
            for used in local_modules(source, ROOT):
                assert not used.startswith(tuple(f"{name}/" for name in forbidden)), source
    for source in (ROOT / "stages").glob("*.py"):
        others = {name for name in local_modules(source, ROOT) if name.startswith("stages/")}
        assert others == {f"stages/{source.name}"}


def test_make_deps_has_nothing_to_change() -> None:
    assert deps.written(TEXT, ROOT) == TEXT, "run make deps, and commit dvc.yaml"


@pytest.mark.parametrize("stage", STAGES)
def test_make_deps_writes_a_list_again_and_no_other_byte(stage: str) -> None:
    head = f"  {stage}:\n"
    before, after = TEXT.split(head)
    lines = after.split("\n")
    start = lines.index("    deps:") + 1
    end = next(n for n in range(start, len(lines)) if not lines[n].startswith("    - "))

    def with_list(entries: list[str], *, key: bool = True) -> str:
        kept = lines[: start - (not key)]
        return before + head + "\n".join([*kept, *entries, *lines[end:]])

    entries = lines[start:end]
    for planted in ([], entries[1:], entries[::-1], [*entries, "    - core/gone.py"]):
        assert deps.written(with_list(planted), ROOT) == TEXT
    if "#" not in "".join(lines[:start]):  # a comment stands above the list, and stays
        assert deps.written(with_list([], key=False), ROOT) == TEXT


def test_a_new_stage_needs_no_list(tmp_path: Path) -> None:
    for name, text in {
        "stages/show.py": "from pathlib import Path\nfrom core import one\n"
        'IN = Path("metrics/test.json")\nOUT = Path("reports/shown.txt")\n',
        "core/one.py": 'import core.two\nimport_module(f"core.kinds.{show.kind}")\n',
        "core/two.py": "from core import one\n",
        "core/kinds/a.py": "",
        "core/kinds/b.py": "from core import three\nfrom core.kinds import a\n",
        "core/three.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    text = "# A comment\nstages:\n  show:\n    cmd: python -m stages.show\n    outs:\n"
    rest = "    - reports/shown.txt\n"

    expected = (
        "    deps:\n    - core/kinds/${show.kind}.py\n    - core/kinds/a.py\n    - core/one.py\n"
        "    - core/three.py\n    - core/two.py\n    - metrics/test.json\n    - stages/show.py\n"
    )
    assert (
        deps.written(text + rest, tmp_path)
        == text.replace("    outs:\n", expected + "    outs:\n") + rest
    )


def test_dvc_leaves_every_line_as_it_is_when_it_writes_dvc_yaml(tmp_path: Path) -> None:
    project: Project = copy_project(tmp_path)

    project.must("dvc", "freeze", "download")
    frozen = project.read("dvc.yaml")
    project.must("dvc", "unfreeze", "download")

    assert frozen != TEXT
    assert project.read("dvc.yaml") == TEXT
