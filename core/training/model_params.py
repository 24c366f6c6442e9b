"""The section `model` of params.yaml: what all models have, and a section for each architecture.

The architectures are the files in core/training/models/. Only their source is
read here: importing them imports torch, which is slow for download and split, and
must not happen before the numerics are pinned. So their class `Params` may only
use the names in `OFFERED`.
"""

import ast
import re
from functools import cache
from importlib.abc import InspectLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model

from core.pipeline import params
from core.pipeline.errors import SetupError
from core.pipeline.params import Section, Switch

MODELS = Path(__file__).with_name("models")
# The names that a class `Params` may use.
OFFERED = {**vars(params), "Annotated": Annotated, "Field": Field, "Literal": Literal}


class _ModelParams(Section):
    name: str  # one of `architectures`
    standardize: Switch

    @property
    def own(self) -> Section:
        """The parameters of the architecture `name`."""
        own: Section = getattr(self, self.name)
        return own


@cache
def architectures(folder: Path = MODELS) -> dict[str, type[Section]]:
    """Find the architectures.

    Args:
        folder: of their files.

    Returns:
        For each architecture, in alphabetical order, the schema of its parameters.

    Raises:
        SetupError: a file in the folder is no architecture.
    """
    return {
        path.stem: _read(path) for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"
    }


def schema(sections: dict[str, type[Section]]) -> type[_ModelParams]:
    """Return the schema of a section `model` that holds these architectures.

    Args:
        sections: as `architectures` returns them.
    """
    fields: dict[str, Any] = {
        "name": (Literal[tuple(sections)], ...),
        **{name: (section, ...) for name, section in sections.items()},
    }
    return create_model(
        "ModelParams",
        __base__=_ModelParams,
        __doc__="Which architecture, and how it is built.",
        __module__=__name__,
        **fields,
    )


def recorded(values: Any) -> _ModelParams:
    """Check a section `model` of a dvc.lock, which may lack all architectures but its own.

    Args:
        values: name, standardize, and the parameters of the architecture `name`;
            those of others are ignored.

    Raises:
        ValidationError: any of them is unknown, missing, mistyped or out of range.
    """
    known = architectures()
    name = values.get("name")
    used = {name: known[name]} if name in known else known
    own = {name: {}} | values  # once, one without parameters had no section
    return schema(used).model_validate({k: v for k, v in own.items() if k not in {*known} - {name}})


class _OneClass(InspectLoader):
    """Imports a class of a module, and nothing else of it."""

    def __init__(self, own: ast.ClassDef | ast.FunctionDef) -> None:
        self.own = own

    def get_source(self, fullname: str) -> str:
        """Return what Python runs instead of the whole file."""
        return ast.unparse(self.own)


def _read(path: Path) -> type[Section]:
    """Read the source of an architecture: what it is called, and its class `Params`."""
    file = "/".join(path.parts[-4:])  # core/training/models/NAME.py
    if not re.fullmatch(r"[a-z][a-z0-9_]*", path.stem) or path.stem in _ModelParams.model_fields:
        raise SetupError(
            f"{file} cannot be the name of an architecture",
            expected="lower-case letters, digits and _, first a letter; "
            f"not {' or '.join(_ModelParams.model_fields)}, which `model` has already",
            found=path.stem,
            todo="rename it; what architectures share belongs in core/training/layers.py",
        )
    try:
        tree = ast.parse(path.read_bytes(), filename=file)
    except (SyntaxError, ValueError) as error:
        raise SetupError(
            f"{file} is not Python", found=str(error), todo="correct it: python -m ruff check"
        ) from error
    defined = {
        node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    if not isinstance(defined.get("build"), ast.FunctionDef):
        raise SetupError(
            f"{file} builds no model",
            expected="a function build(image_shape, classes), which returns an nn.Module",
            found=f"only {', '.join(defined) or 'no function or class'}",
            todo="core/training/models/mlp.py is an example",
        )
    own = defined.get("Params")
    if own is None:
        return Section
    module = ModuleType(path.stem)
    vars(module).update(OFFERED)
    try:
        _OneClass(own).exec_module(module)
    except Exception as error:
        raise SetupError(
            f"the parameters of {file} cannot be read without torch",
            expected="a class Params of names that core/pipeline/params.py defines, "
            "with Annotated, Literal and Field",
            found=f"{type(error).__name__}: {error}",
            todo="core/training/models/cnn.py is an example",
        ) from error
    found = module.Params
    if not (isinstance(found, type) and issubclass(found, Section)):
        raise SetupError(
            f"the parameters of {file} would not be checked",
            expected="class Params(Section)",
            found=ast.unparse(own).split("\n")[0],
            todo="from core.pipeline.params import Section",
        )
    return found


if TYPE_CHECKING:
    ModelParams = _ModelParams
else:
    ModelParams = schema(architectures())
