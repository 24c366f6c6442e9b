"""The params.yaml that the tests run with: the committed one with other values.

So a default can change, and a parameter or an architecture be added or removed,
without changes in tests, except those with the textbook's figures.
"""

import io
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from core.pipeline import params
from core.pipeline.params import Params

COMMITTED = Path(__file__).resolve().parents[2] / "params.yaml"
FROZEN = Path(__file__).with_name("params.yaml")


def lay_over(base: Any, values: Any) -> bool:
    """Put values into the keys that `base` has; return whether any differed."""
    differed = False
    for key, value in values.items():
        if key not in base:
            continue
        if isinstance(value, dict) and isinstance(base[key], dict):
            differed |= lay_over(base[key], value)
        elif base[key] != value:
            base[key] = value
            differed = True
    return differed


@cache
def text() -> str:
    """Return the committed params.yaml, comments included, with the values of the tests."""
    committed = COMMITTED.read_text(encoding="utf-8")
    yaml = YAML()
    document = yaml.load(committed)
    if not lay_over(document, YAML(typ="safe").load(FROZEN)):
        return committed
    changed = io.StringIO()
    yaml.dump(document, changed)
    return changed.getvalue()


@cache
def checked() -> Params:
    """Return the values that the tests run with, checked."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "params.yaml"
        file.write_text(text(), encoding="utf-8")
        return params.check(file)
