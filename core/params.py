"""Reads params.yaml strictly: every knob known, typed and in range, or an error.

DVC writes whatever `-S` is given into the file and notices neither a misspelt
key nor a wrong type, so each stage checks the whole file before it does
anything else. All problems are reported at once, each with its place.

`read` hands out only the sections that it is asked for, and a test compares
what each stage asks for with what dvc.yaml declares: a stage can not depend
on a knob unnoticed. The file is read with ruamel.yaml, as DVC does, because
PyYAML takes the `1e-05` that DVC writes for a string. Only its parser is used:
the few kinds of values that knobs have are made here, so that no tag in the
file constructs anything, and a number that YAML's versions read differently
(010) is refused.
"""

import difflib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from core.errors import ParamsError

PARAMS_FILE = Path("params.yaml")
MAX_BYTES = 100_000  # far more than any params.yaml; a larger file is some other file
MAX_DEPTH = 10  # of sections and lists; deeper than any knob lies
YAML_TAG = "tag:yaml.org,2002:"  # of the kinds of values that YAML itself defines

Location = tuple[str | int, ...]

# Each description is what an error message gives as expected.
Seed = Annotated[int, Field(ge=0, lt=2**63, description="an integer from 0 to 2^63 - 1")]
Count = Annotated[int, Field(ge=1, description="an integer >= 1")]


class Section(BaseModel):
    """What all sections share: nothing unknown, nothing converted, nothing changed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class DatasetParams(Section):
    """Which images, and where they may come from."""

    name: Literal["mnist"]
    mirrors: dict[
        str,
        Annotated[
            list[Annotated[str, Field(min_length=1, description="a folder or an http(s) address")]],
            Field(min_length=1, description="a list with at least one folder or address"),
        ],
    ] = Field(description="for each data set a list of folders and addresses")


class SplitParams(Section):
    """How the training images are dealt out."""

    seed: Seed
    val_fraction: float = Field(gt=0, lt=1, description="a number above 0 and below 1")
    stratify: bool = Field(description="true or false")
    train_size: int | None = Field(ge=1, description="an integer >= 1, or null for all")


class ModelParams(Section):
    """Which architecture."""

    name: Literal["logistic_regression"]


class TrainParams(Section):
    """How the model is trained."""

    seed: Seed
    lr: float = Field(gt=0, description="a finite number above 0")
    epochs: Count
    batch_size: Count
    keep: Literal["last", "best"]
    threads: int | None = Field(ge=1, description="an integer >= 1, or null for one a processor")


class TestReportParams(Section):
    """What the report on the test set shows."""

    most_wrong: int = Field(ge=1, le=100, description="an integer from 1 to 100")


class Params(Section):
    """The whole of params.yaml."""

    numerics: Literal["portable", "fast"]
    dataset: DatasetParams
    split: SplitParams
    model: ModelParams
    train: TrainParams
    test_report: TestReportParams


def read(*keys: str, path: Path = PARAMS_FILE) -> Params:
    """Check the whole file and return the parts named by `keys`.

    Args:
        keys: sections (`train`) or single knobs (`train.threads`), as in the
            `params` of dvc.yaml. Any other attribute of the result is missing.
        path: the file to read.

    Raises:
        ParamsError: the file is missing, is not YAML, or any knob in it is
            unknown, missing, mistyped or out of range.
    """
    whole = check(path)
    parts: dict[str, Any] = {}
    for key in keys:
        section, _, knob = key.partition(".")
        value = getattr(whole, section)
        if knob:
            known = dict(parts[section]) if section in parts else {}
            value = type(value).model_construct(**known | {knob: getattr(value, knob)})
        parts[section] = value
    return Params.model_construct(**parts)


def check(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole file.

    Raises:
        ParamsError: as `read` does.
    """
    text = _read_text(path)
    document = _Document(text)
    values = document.values(_parse(path, text))
    problems = document.problems
    try:
        whole = Params.model_validate(values)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            problems.setdefault(problem["loc"], _describe(problem, document))
    else:
        problems |= _disagreements(whole)
    if not problems:
        return whole
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise ParamsError(
        f"{path} has {count}",
        found="\n".join(f"{document.name(where)}: {what}" for where, what in problems.items()),
        todo=f"mend {path}; each knob is explained there",
    )


def _disagreements(whole: Params) -> dict[Location, str]:
    """Find knobs that are right by themselves but not with each other."""
    problems: dict[Location, str] = {}
    if whole.dataset.name not in whole.dataset.mirrors:
        problems["dataset", "mirrors"] = (
            f"expected a list for the data set {whole.dataset.name}, "
            f"found lists for {', '.join(whole.dataset.mirrors) or 'none'}"
        )
    if whole.numerics == "portable" and whole.train.threads not in (None, 1):
        problems["train", "threads"] = (
            "expected null or 1 with portable numerics, "
            f"found {whole.train.threads}; set numerics: fast to use more threads"
        )
    return problems


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ParamsError(
            f"there is no {path} in this folder",
            where=str(Path.cwd()),
            todo="run the command from the root of the repository",
        ) from None
    except OSError as error:
        raise ParamsError(
            f"{path} cannot be read",
            found=error.strerror or str(error),
            where=str(Path.cwd()),
            todo=f"make {path} a file that you may read",
        ) from error
    if len(content) > MAX_BYTES:
        raise ParamsError(
            f"{path} is too large to be a file of parameters",
            expected=f"at most {MAX_BYTES:,} bytes",
            found=f"{path.stat().st_size:,} bytes",
            todo=f"git diff {path} shows what was changed",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParamsError(
            f"{path} is not text in UTF-8",
            found=f"the byte 0x{content[error.start]:02x}",
            where=f"{path}, line {content[: error.start].count(10) + 1}",
            todo=f"save {path} as UTF-8",
        ) from error


def _parse(path: Path, text: str) -> Node | None:
    """Parse `text` into the nodes of one YAML document, or None if it is empty."""
    try:
        root: Node | None = YAML().compose(text)
        return root
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        found = error.problem or str(error)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    except ReaderError as error:
        before = text[: error.position].split("\n")
        found = f"the character U+{ord(text[error.position]):04X}"
        place = f", line {len(before)}, column {len(before[-1]) + 1}"
    except RecursionError:
        found, place = "hundreds of lists or sections within each other", ""
    raise ParamsError(
        f"{path} is not valid YAML",
        found=found,
        where=f"{path}{place}",
        todo=f"mend that place; git diff {path} shows what was changed",
    )


@dataclass
class _Document:
    """What a YAML file says: its values, where each stands, and how it is written."""

    text: str
    places: dict[Location, tuple[int, int]] = field(default_factory=dict)  # line, column from 1
    written: dict[Location, str] = field(default_factory=dict)
    problems: dict[Location, str] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)

    def name(self, location: Location) -> str:
        """Return the key at `location` with its place, for a message."""
        name = ".".join(str(part) for part in location) or "the file"
        if location in self.places:
            name += " (line {}, column {})".format(*self.places[location])
        return name

    def values(self, node: Node | None, location: Location = ()) -> Any:
        """Turn nodes into dicts, lists and scalars; NaN, which no knob accepts, for anything else.

        What YAML allows but a file of parameters has no use for is noted as a problem.
        """
        self.written[location] = self._as_written(node)
        if node is None:
            return None
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if id(node) in self.seen:  # expanding it might never end
            self.problems[location] = "an alias of a whole section or list; write it out"
            return math.nan
        self.seen.add(id(node))
        if len(location) > MAX_DEPTH:
            return math.nan
        if node.tag == YAML_TAG + "seq":
            return [self._item(item, (*location, index)) for index, item in enumerate(node.value)]
        if node.tag == YAML_TAG + "map":
            return self._section(node, location)
        return math.nan

    def _section(self, node: Node, location: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            line, column = key.start_mark.line + 1, key.start_mark.column + 1
            if key.tag == YAML_TAG + "str" and key.value.isprintable():
                where = (*location, key.value)
                if key.value in values:
                    self.problems[where] = f"stands twice, here and on line {line}"
                else:
                    self.places[where] = (line, column)
                    values[key.value] = self.values(value, where)
                continue
            where = (*location, self._as_written(key))
            self.places[where] = (line, column)
            self.problems[where] = (
                "a merge key; write its keys out"
                if key.tag == YAML_TAG + "merge"
                else "a key must be a name; put it in quotes if it is one"
            )
        return values

    def _item(self, node: Node, location: Location) -> Any:
        if id(node) not in self.seen:  # an alias is known by the place of its anchor only
            self.places[location] = (node.start_mark.line + 1, node.start_mark.column + 1)
        return self.values(node, location)

    def _as_written(self, node: Node | None) -> str:
        if node is None:
            return "nothing"
        if isinstance(node, MappingNode) and node.tag == YAML_TAG + "map":
            return "a section"
        if isinstance(node, SequenceNode) and node.tag == YAML_TAG + "seq":
            return "a list"
        text = " ".join(self.text[node.start_mark.index : node.end_mark.index].split())
        return _shortened(text) or "nothing"


def _scalar(node: ScalarNode) -> Any:
    """Make the int, float, bool, None or str that a node stands for, or NaN."""
    kind = str(node.tag).removeprefix(YAML_TAG)
    try:
        if kind == "int":
            return int(node.value, 0)
        if kind == "float":
            return float(node.value)
    except ValueError:  # YAML's .inf and .nan, 010, thousands of digits
        return math.nan
    if kind == "bool":
        return {"true": True, "false": False}.get(node.value.lower(), math.nan)
    return {"null": None, "str": node.value}.get(kind, math.nan)


def _describe(problem: Any, document: _Document) -> str:
    """Say in one line what is wrong by one of pydantic's findings."""
    location: Location = problem["loc"]
    if problem["type"] == "extra_forbidden":
        siblings = list(_schema(location[:-1])["properties"])
        near = difflib.get_close_matches(str(location[-1]), siblings, n=1)
        return "unknown; " + (
            f"did you mean {near[0]}?" if near else f"known are {', '.join(siblings)}"
        )
    expected = _expected(location)
    if problem["type"] == "missing":
        return f"missing from {document.name(location[:-1])}; expected {expected}"
    found = problem["input"]
    near = difflib.get_close_matches(found, _choices(location), n=1) if type(found) is str else []
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"expected {expected}, found {document.written[location]}{hint}"


def _choices(location: Location) -> list[str]:
    """The names that a knob accepts, or none if it does not take a name."""
    schema = _schema(location)
    return [str(choice) for choice in schema.get("enum", [schema.get("const")]) if choice]


def _expected(location: Location) -> str:
    schema = _schema(location)
    if "properties" in schema:
        return f"the keys {', '.join(schema['properties'])}"
    return " or ".join(_choices(location)) or str(schema["description"])


def _schema(location: Location) -> dict[str, Any]:
    """The part of the JSON schema that describes the section or knob at `location`."""
    root = Params.model_json_schema()
    schema: dict[str, Any] = root
    for part in location:
        if isinstance(part, int):
            schema = schema["items"]
        else:
            schema = schema.get("properties", {}).get(part) or schema["additionalProperties"]
        if "$ref" in schema:
            schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
