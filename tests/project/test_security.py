"""No input is executed, and no text becomes markup."""

import ast
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from core.data import arrays
from core.training import architectures, weights
from stages import test_report as report
from tests.support import measured, parameters, sections
from tests.support.project import ROOT
from tests.tools.compare.test_rendering import BEST, DIVERGED, WORSE, comparison
from tools.compare import rendering
from tools.experiments.store import Divergence, Result

SOURCES = sorted(
    path
    for package in ("core", "stages", "tools", "benchmarks")
    for path in (ROOT / package).rglob("*.py")
)
# What runs whatever it is given, however it is imported or called.
NEVER = {
    "eval", "exec", "compile", "__import__",
    "os.system", "os.popen", "commands.getoutput",
    "subprocess.getoutput", "subprocess.getstatusoutput",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads",
    "dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads", "joblib.load",
    "shelve.open", "pd.read_pickle", "pandas.read_pickle",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.unsafe_load_all",
    "tempfile.mktemp",
}  # fmt: skip
RUAMEL = {"safe", "rt", None}  # none of these runs a tag


def dotted(node: ast.expr) -> str:
    """The name of what is called: np.load, torch.load, eval."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id])) if isinstance(node, ast.Name) else ".".join(parts)


def real_names(tree: ast.AST) -> dict[str, str]:
    """For each name that an import gives, what it stands for: {"run": "subprocess.run"}."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
    return names


def dangers(source: str) -> Iterator[str]:
    """The calls in a source that may run what they read."""
    tree = ast.parse(source)
    names = real_names(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = dotted(node.func)
        first, _, rest = called.partition(".")
        # A method of a variable is no function of a module of that name.
        called = names.get(first, "" if rest else first) + (f".{rest}" if rest else "")
        options = {
            keyword.arg: getattr(keyword.value, "value", "not a constant")
            for keyword in node.keywords
            if keyword.arg
        }
        if (
            called in NEVER
            or (called == "torch.load" and options.get("weights_only") is not True)
            or options.get("allow_pickle", False) is not False
            or options.get("shell", False) is not False
            or options.get("verify", True) is False
            or (called.endswith("ruamel.yaml.YAML") and options.get("typ") not in RUAMEL)
            or (called == "jinja2.Environment" and options.get("autoescape") is not True)
        ):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    assert list(dangers(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "planted",
    [
        "eval('1')",
        "exec(text)",
        "import os\nos.system('ls')",
        "from os import system as s\ns('ls')",
        "import pickle\npickle.loads(content)",
        "from pickle import load\nload(file)",
        "import pickle as p\np.load(file)",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=chosen)",
        "from torch import load\nload(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "from ruamel.yaml import YAML\nYAML(typ='unsafe')",
        "import pandas as pd\npd.read_pickle(path)",
        "import requests\nrequests.get(address, verify=False)",
        "import jinja2\njinja2.Environment()",
    ],
)
def test_each_planted_danger_is_found(planted: str) -> None:
    assert len(list(dangers(planted))) == 1


HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x=\'',
    "' onfocus='alert(1)' autofocus='",
    "-->]]></textarea></title><svg onload=alert(1)>",
    "&lt;b&gt; &amp; {{ 7 * 7 }} {% raw %} `code` [x](javascript:alert(1))",
]


class Elements(HTMLParser):
    """Each element of a page in order, with the names of its attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))

    def handle_data(self, data: str) -> None:
        self.text += data


def reported(folder: Path, names: list[str]) -> str:
    """Write the report on a test set with these names of classes."""
    shape = (4, 4, 1)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (30, *shape), dtype=np.uint8)
    arrays.write(folder / "data/raw/test_images.npy", images)
    arrays.write(folder / "data/raw/test_labels.npy", np.arange(30) % len(names))
    arrays.write(folder / "data/raw/train_images.npy", np.zeros((1, *shape), dtype=np.uint8))
    arrays.write(folder / "data/split/train_indices.npy", np.array([0]))
    (folder / "data/raw/classes.json").write_text(json.dumps(names), encoding="utf-8")
    model = architectures.build(sections.model("logistic_regression"), shape, len(names))
    weights.save(folder / "models/model.pt", model.state_dict())
    (folder / "stages").mkdir(exist_ok=True)
    for source in (ROOT / "stages").glob("test_report.*"):
        shutil.copy(source, folder / "stages")
    (folder / "params.yaml").write_text(parameters.text(), encoding="utf-8")
    measured.write(folder)
    report.main()
    return (folder / "reports/test_report.html").read_text(encoding="utf-8")


def test_names_of_classes_add_no_element_to_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = Elements(reported(tmp_path, [f"class {i}" for i in range(len(HOSTILE))]))
    hostile = Elements(reported(tmp_path, HOSTILE))
    assert hostile.found == plain.found
    for name in HOSTILE:
        assert name in hostile.text


def renamed(found: Result, name: str) -> Result:
    settings = {"train.lr": name}
    return replace(
        found, experiment=replace(found.experiment, name=name, recipe=name, settings=settings)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_recipes_and_parameters_add_no_element_to_a_comparison(name: str) -> None:
    def page(name: str) -> Elements:
        found = [renamed(each, name) for each in WORSE]
        failed = Divergence(DIVERGED[0].experiment, f"error: {name}")
        return Elements(
            rendering.page(comparison(*BEST, *found, failed, DIVERGED[1]), f"call {name}")
        )

    plain, hostile = page("plain"), page(name)
    assert hostile.found == plain.found
    assert name in hostile.text
