"""Reads recipes/NAME.yaml: a named set of parameters that override params.yaml.

A recipe has the form of params.yaml, with only the parameters that differ. It is
checked as strictly: together with the other values of params.yaml, it has to be a
valid params.yaml.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from core.pipeline import params, strict_yaml
from core.pipeline.errors import ParamsError
from core.pipeline.visible import visible
from tools.repository import freshness, snapshots

FOLDER = Path("recipes")
SEED = "train.seed"
WIDTH = 80  # of a terminal, in characters


class RecipeFile(NamedTuple):
    """The parameters that a recipe sets."""

    name: str
    parameters: dict[str, str]  # each value as `dvc exp run -S` takes it

    @property
    def overrides(self) -> list[str]:
        """`train.lr=0.1`, as of dvc exp run -S."""
        return [f"{parameter}={value}" for parameter, value in self.parameters.items()]


def names() -> list[str]:
    """Return the sorted names of all recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def description(name: str) -> str:
    """Return the first line of the opening comment of a recipe."""
    # One that is not text in UTF-8 is listed too; `read` refuses it.
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8-sig", errors="replace")
    first, *_ = text.splitlines() or [""]
    return visible(first.removeprefix("#").strip()) if first.startswith("#") else ""


def read(name: str, params_file: Path) -> RecipeFile:
    """Read a recipe and check it.

    Args:
        name: of a file in recipes/, without its ending.
        params_file: a valid file with the values of all other parameters.

    Raises:
        ParamsError: there is no such recipe, or a parameter in it is unknown, of the
            wrong type or out of range.
    """
    known = names()
    if name not in known:
        raise ParamsError(
            f"there is no recipe {name}",
            expected=", ".join(known) or f"a file {FOLDER}/NAME.yaml",
            found=params.nearest(name, known),
            todo=f"python -m tools.recipe lists them; a new one is a file in {FOLDER}/",
        )
    path = FOLDER / f"{name}.yaml"
    base, recipe = strict_yaml.load(params_file), strict_yaml.load(path)
    params.validate(replace(recipe, values=_over(base.values, recipe.values)), path)
    return RecipeFile(
        name, {parameter: _written(value) for parameter, value in freshness.leaves(recipe.values)}
    )


def note_on_edits(
    recipes: Sequence[str], params_file: Path, settings: Sequence[str], seeds: int | None
) -> str:
    """Name the parameters that come from an uncommitted edit of params.yaml, if any do.

    `make apply` makes such an edit: the next recipe would take the parameters that it
    does not set from the experiment that was applied.

    Args:
        recipes: names of recipes.
        params_file: in the working directory.
        settings: `train.lr=0.1` and the like, which override the recipes.
        seeds: None leaves the seed as it is.
    """
    committed, edited = (
        dict(freshness.leaves(snapshot.yaml(params_file.name) or {}))
        for snapshot in (snapshots.revision("HEAD"), snapshots.working_tree())
    )
    given = {setting.partition("=")[0] for setting in settings} | ({SEED} if seeds else set())
    named = [given | read(recipe, params_file).parameters.keys() for recipe in recipes]
    open_parameters = [
        parameter
        for parameter, value in edited.items()
        if committed.get(parameter) != value and any(parameter not in each for each in named)
    ]
    if not open_parameters:
        return ""
    note = f"note: not set by the recipe, changed in params.yaml: {', '.join(open_parameters)}"
    return textwrap.fill(note, WIDTH, subsequent_indent="      ") + "\n"


def _over(base: Any, values: Any) -> Any:
    """Override the sections of params.yaml by those of a recipe."""
    if not (isinstance(base, dict) and isinstance(values, dict)):
        return values
    return base | {key: _over(base.get(key), value) for key, value in values.items()}


def _written(value: Any) -> str:
    """Write a value as an override (Hydra's documentation, "Basic Override syntax")."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(_written(item) for item in value)}]"
    if isinstance(value, str):
        # A backslash counts before a quote only, and the closing one is a quote too.
        doubled = re.sub(r'\\+(?="|$)', lambda backslashes: 2 * backslashes[0], value)
        return '"' + doubled.replace('"', '\\"') + '"'
    return repr(value)
