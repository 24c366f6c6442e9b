"""Reads params.yaml strictly: every parameter known, typed and in range, or an error.

DVC writes whatever `-S` is given into the file and notices neither a misspelt
key nor a wrong type, so each stage checks the whole file before it does
anything else. All problems are reported at once, each with its line and column.

The schema of a section is defined in the package that uses it, in a file that is
found by its name: `core/**/<section>_params.py` defines `<Section>Params`
(test_report_params.py: `TestReportParams`). To add a parameter, add it there and
in params.yaml.

A stage depends on the files of the sections that it imports and asks for. Those
of the others are imported here by name, only to check the file: they can refuse
a run, but cannot change what a stage writes, so dvc.yaml does not list them. A test
compares what each stage asks for with what dvc.yaml declares: no stage depends
on a parameter unnoticed.
"""

import difflib
import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, create_model

from core.pipeline import strict_yaml
from core.pipeline.errors import ParamsError, SetupError
from core.pipeline.strict_yaml import Document, Location

PARAMS_FILE = Path("params.yaml")
CORE = Path(__file__).resolve().parents[1]
ENDING = "_params.py"  # of the file that defines a section
MOST_PROBLEMS = 20  # in a message: a file with more is not a params.yaml

# Each description is what an error message gives as expected.
Seed = Annotated[int, Field(ge=0, lt=2**63, description="an integer from 0 to 2^63 - 1")]
Count = Annotated[int, Field(ge=1, lt=2**31, description="an integer from 1 to 2^31 - 1")]
Pixels = Annotated[
    int, Field(ge=0, lt=2**31, description="an integer from 0 to 2^31 - 1, in pixels")
]
Share = Annotated[float, Field(ge=0, lt=1, description="a number from 0 to below 1")]
Switch = Annotated[bool, Field(description="true or false")]

Schema = TypeVar("Schema", bound=BaseModel)
Root = TypeVar("Root")


class Section(BaseModel):
    """What all sections share: nothing unknown, nothing converted, nothing changed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    def disagreements(self, others: "Params") -> dict[Location, str]:
        """Find parameters that are right by themselves but not with each other.

        Args:
            others: all sections, each of them right by itself.

        Returns:
            For each key below this section what is wrong with it, as
            `expected ..., found ...`; nothing, unless a section has such rules.
        """
        return {}


class Value(RootModel[Root], Generic[Root]):
    """A parameter at the top of params.yaml, in no section; its value is `root`.

    Where it does not take one of a few names, the docstring of its class is what
    an error message gives as expected.
    """

    model_config = ConfigDict(strict=True, frozen=True)


@dataclass(frozen=True)
class Params:
    """The values of a params.yaml that was checked."""

    whole: Section

    def section(self, schema: type[Schema], *names: str) -> Schema:
        """Return a section, or some parameters of it.

        Args:
            schema: of the section.
            names: of its parameters, as behind the section's name in the `params`
                of dvc.yaml, `${model.name}` included. Any other attribute of the
                result is missing. Without names it is the whole section.
        """
        section = getattr(self.whole, _section_of(schema))
        assert isinstance(section, schema)
        if not names:
            return section
        parts = {name: getattr(section, name) for name in map(self._written_out, names)}
        return schema.model_construct(**parts)

    def model_dump(self) -> dict[str, Any]:
        """Return all values, as dicts, lists and scalars."""
        return self.whole.model_dump()

    def _written_out(self, name: str) -> str:
        return re.sub(
            r"\$\{(\w+)\.(\w+)\}",
            lambda key: str(getattr(getattr(self.whole, key[1]), key[2])),
            name,
        )


def check(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole file.

    Raises:
        ParamsError: the file is missing, is not YAML, or any parameter in it is
            unknown, missing, mistyped or out of range.
        SetupError: as `schemas` does.
    """
    return validate(strict_yaml.load(path), path)


def validate(document: Document, path: Path) -> Params:
    """Check what was read from a file, or was put together from several.

    Args:
        document: with a value for every parameter.
        path: of the file to name and to correct.

    Raises:
        ParamsError: any parameter is unknown, missing, mistyped or out of range.
        SetupError: as `schemas` does.
    """
    problems = dict(document.problems)
    schema = _whole(document.values)
    try:
        chosen = Params(schema.model_validate(document.values))
    except ValidationError as error:
        shapes = _Shapes(schema)
        for problem in error.errors(include_url=False):
            problems.setdefault(problem["loc"], _describe(problem, document, shapes))
    else:
        for name, section in chosen.whole:
            if isinstance(section, Section):
                found = section.disagreements(chosen)
                problems |= {(name, *location): what for location, what in found.items()}
    if not problems:
        return chosen
    count = "a problem" if len(problems) == 1 else f"{len(problems):,} problems"
    lines = [f"{document.name(where)}: {what}" for where, what in problems.items()]
    if len(lines) > MOST_PROBLEMS:
        lines[MOST_PROBLEMS:] = [f"and {len(lines) - MOST_PROBLEMS:,} more"]
    raise ParamsError(
        f"{path} has {count}",
        found="\n".join(lines),
        todo=f"fix {path}; each parameter is explained "
        + ("there" if path.name == PARAMS_FILE.name else f"in {PARAMS_FILE}"),
    )


@cache
def schemas() -> dict[str, type[BaseModel]]:
    """Import the schema of each section, found by the name of its file.

    Returns:
        For each section, in alphabetical order, its schema.

    Raises:
        SetupError: a file does not define the class that its name promises, or
            two define the same section.
    """
    found: dict[str, type[BaseModel]] = {}
    for path in sorted(CORE.rglob(f"*{ENDING}"), key=lambda path: path.name):
        name = path.name.removesuffix(ENDING)
        file = path.relative_to(CORE.parent)
        module = importlib.import_module(".".join(file.with_suffix("").parts))
        class_name = "".join(word.capitalize() for word in name.split("_")) + "Params"
        schema = getattr(module, class_name, None)
        if not (isinstance(schema, type) and issubclass(schema, Section | Value)):
            raise SetupError(
                f"{file.as_posix()} does not define the section {name} of {PARAMS_FILE}",
                expected=f"class {class_name}(Section), by the name of the file",
                found="nothing of that name" if schema is None else repr(schema),
                todo=f"name it so; only a section's schema may end in {ENDING}",
            )
        if name in found:
            raise SetupError(
                f"two files define the section {name} of {PARAMS_FILE}",
                found=f"{file.as_posix()} and {found[name].__module__}",
                todo="remove one of them",
            )
        found[name] = schema
    return found


def unknown(name: str, known: Iterable[str]) -> str:
    """Say that a name is unknown, with the nearest of `known`, or all of them."""
    known = list(known)
    return "unknown; " + (nearest(name, known) or f"known are {', '.join(known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Ask whether the nearest of `known` was meant, in any case; nothing if none is near."""
    by_folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return f"did you mean {by_folded[near[0]]}?" if near else ""


def _section_of(schema: type[BaseModel]) -> str:
    return schema.__module__.rpartition(".")[2].removesuffix(ENDING.removesuffix(".py"))


def _whole(values: Any) -> type[Section]:
    """Return the schema of the whole file, its sections in the order of the file.

    Problems are reported in this order; sections that the file lacks come first.
    """
    positions = {name: i for i, name in enumerate(values)} if type(values) is dict else {}
    known = schemas()
    ordered = sorted(known, key=lambda name: positions.get(name, -1))
    fields: dict[str, Any] = {name: (known[name], ...) for name in ordered}
    return create_model("Params", __base__=Section, **fields)


class _Shapes:
    """What each key of the file may hold, by the JSON schema of the whole."""

    def __init__(self, schema: type[Section]) -> None:
        self.root = schema.model_json_schema()

    def at(self, location: Location) -> dict[str, Any]:
        """Return the part of the JSON schema that describes a section or a parameter."""
        shape: dict[str, Any] = self.root
        for part in location:
            if isinstance(part, int):
                shape = shape["items"]
            else:
                shape = shape.get("properties", {}).get(part) or shape["additionalProperties"]
            if "$ref" in shape:
                shape = self.root["$defs"][shape["$ref"].rsplit("/", 1)[1]]
        return shape

    def choices(self, location: Location) -> list[str]:
        """Return the names that a parameter accepts, or none if it does not take a name."""
        shape = self.at(location)
        return [str(choice) for choice in shape.get("enum", [shape.get("const")]) if choice]

    def expected(self, location: Location) -> str:
        """Say what should stand there."""
        shape = self.at(location)
        if "properties" in shape:
            return f"the keys {', '.join(shape['properties'])}" if shape["properties"] else "{}"
        kind = str(shape.get("type", "another value"))  # its schema does not describe it
        return " or ".join(self.choices(location)) or str(shape.get("description", kind))


def _describe(problem: Any, document: Document, shapes: _Shapes) -> str:
    """Say in one line what is wrong by one of pydantic's findings."""
    location: Location = problem["loc"]
    if problem["type"] == "extra_forbidden":
        return unknown(str(location[-1]), shapes.at(location[:-1])["properties"])
    expected = shapes.expected(location)
    if problem["type"] == "missing":
        return f"missing from {document.name(location[:-1])}; expected {expected}"
    found, choices = problem["input"], shapes.choices(location)
    hint = nearest(found, choices) if type(found) is str else ""
    return f"expected {expected}, found {document.source[location]}{'; ' if hint else ''}{hint}"
