"""Reads params.yaml strictly: every knob known, typed and in range, or an error.

DVC writes whatever `-S` is given into the file and notices neither a misspelt
key nor a wrong type, so each stage checks the whole file before it does
anything else. All problems are reported at once, each with its place.

`read` hands out only the sections that it is asked for, and a test compares
what each stage asks for with what dvc.yaml declares: a stage can not depend
on a knob unnoticed. The file is read with ruamel.yaml, as DVC does, because
PyYAML takes the `1e-05` that DVC writes for a string.
"""

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from core.errors import ParamsError

PARAMS_FILE = Path("params.yaml")
MAX_BYTES = 1_000_000  # far more than any params.yaml; a larger file is some other file

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

    @model_validator(mode="after")
    def _sections_agree(self) -> "Params":
        if self.dataset.name not in self.dataset.mirrors:
            raise ValueError(
                f"dataset.mirrors: expected a list for the data set {self.dataset.name}, "
                f"found lists for {', '.join(self.dataset.mirrors) or 'none'}"
            )
        if self.numerics == "portable" and self.train.threads not in (None, 1):
            raise ValueError(
                "train.threads: expected null or 1 with portable numerics, "
                f"found {self.train.threads}; set numerics: fast to use more threads"
            )
        return self


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
            known = parts[section].model_dump() if section in parts else {}
            value = type(value).model_construct(**known, **{knob: getattr(value, knob)})
        parts[section] = value
    return Params.model_construct(**parts)


def check(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole file.

    Raises:
        ParamsError: as `read` does.
    """
    document = _load(path)
    places: dict[Location, tuple[int, int]] = {}
    try:
        return Params.model_validate(_plain(document, (), places))
    except ValidationError as error:
        problems = [_describe(problem, places) for problem in error.errors(include_url=False)]
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise ParamsError(
        f"{path} has {count}",
        found="\n".join(problems),
        todo=f"mend {path}; each knob is explained there",
    )


def _load(path: Path) -> Any:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ParamsError(
            f"there is no {path} in this folder",
            where=str(Path.cwd()),
            todo="run the command from the root of the repository",
        ) from None
    if len(content) > MAX_BYTES:
        raise ParamsError(
            f"{path} is too large to be a file of parameters",
            expected=f"at most {MAX_BYTES:,} bytes",
            found=f"{len(content):,} bytes",
            todo=f"git checkout {path}",
        )
    try:
        return YAML().load(content.decode("utf-8-sig"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ParamsError(
            f"{path} is not valid YAML", found=error.problem or "", where=f"{path}, {place}"
        ) from error
    except (UnicodeDecodeError, YAMLError) as error:
        raise ParamsError(f"{path} is not valid YAML in UTF-8", found=str(error)) from error


def _plain(node: Any, location: Location, places: dict[Location, tuple[int, int]]) -> Any:
    """Turn what ruamel.yaml loaded into dicts and lists; note each key's place (from 1)."""
    if isinstance(node, CommentedMap):
        for key in node:
            if node.lc.data and key in node.lc.data:
                line, column = node.lc.key(key)
                places[(*location, key)] = (line + 1, column + 1)
        return {key: _plain(value, (*location, key), places) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        for index in range(len(node)):
            line, column = node.lc.item(index)
            places[(*location, index)] = (line + 1, column + 1)
        return [_plain(value, (*location, i), places) for i, value in enumerate(node)]
    if isinstance(node, bool):
        return bool(node)
    for kind in (int, float, str):  # ruamel.yaml's own kinds remember how a value was written
        if isinstance(node, kind):
            return kind(node)
    return node


def _describe(problem: Any, places: dict[Location, tuple[int, int]]) -> str:
    """Say one problem that pydantic found in one line."""
    location: Location = problem["loc"]
    if problem["type"] == "value_error":  # from a validator of ours, which says it all
        return str(problem["ctx"]["error"])
    name = ".".join(str(part) for part in location) or "the file"
    if location in places:
        name += " (line {}, column {})".format(*places[location])
    if problem["type"] == "extra_forbidden":
        siblings = list(_section_at(location[:-1]).model_fields)
        near = difflib.get_close_matches(str(location[-1]), siblings, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(siblings)}"
        return f"{name}: unknown; {hint}"
    expected = _expected(location)
    if problem["type"] == "missing":
        return f"{name}: missing; expected {expected}"
    found = problem["input"]
    hint = ""
    if isinstance(found, str) and problem["type"] == "literal_error":
        near = difflib.get_close_matches(found, _choices(location), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
    return f"{name}: expected {expected}, found {_shortened(found)}{hint}"


def _section_at(location: Location) -> type[Section]:
    section: type[Section] = Params
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            break
        section = annotation
    return section


def _choices(location: Location) -> list[str]:
    """The names that a knob accepts, or none if it does not take a name."""
    schema = _schema(location)
    return [str(choice) for choice in schema.get("enum", [schema.get("const")]) if choice]


def _expected(location: Location) -> str:
    schema = _schema(location)
    if choices := _choices(location):
        return " or ".join(choices)
    return str(schema.get("description") or "a section with knobs of its own")


def _schema(location: Location) -> dict[str, Any]:
    """The part of the JSON schema that describes the knob at `location`."""
    root = Params.model_json_schema()
    schema: dict[str, Any] = root
    for part in location:
        if "$ref" in schema:
            schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        if part in schema.get("properties", {}):
            schema = schema["properties"][part]
        elif isinstance(part, int) and "items" in schema:
            schema = schema["items"]
        elif schema.get("additionalProperties"):
            schema = schema["additionalProperties"]
    return {} if "$ref" in schema else schema


def _shortened(value: Any) -> str:
    if isinstance(value, dict):
        return f"a section with {len(value)} keys"
    text = json.dumps(value) if isinstance(value, bool | None) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
