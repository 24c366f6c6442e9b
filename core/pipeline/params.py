"""Reads params.yaml strictly: every knob known, typed and in range, or an error.

DVC writes whatever `-S` is given into the file and notices neither a misspelt
key nor a wrong type, so each stage checks the whole file before it does
anything else. All problems are reported at once, each with its place.

`read` hands out only the sections that it is asked for, and a test compares
what each stage asks for with what dvc.yaml declares: a stage can not depend
on a knob unnoticed.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.pipeline import strict_yaml
from core.pipeline.errors import ParamsError
from core.pipeline.strict_yaml import Document, Location

PARAMS_FILE = Path("params.yaml")
MOST_PROBLEMS = 20  # in a message: with more it is some other file

# Each description is what an error message gives as expected.
Seed = Annotated[int, Field(ge=0, lt=2**63, description="an integer from 0 to 2^63 - 1")]
Count = Annotated[int, Field(ge=1, lt=2**31, description="an integer from 1 to 2^31 - 1")]
Pixels = Annotated[
    int, Field(ge=0, lt=2**31, description="an integer from 0 to 2^31 - 1, in pixels")
]
Share = Annotated[float, Field(ge=0, lt=1, description="a number from 0 to below 1")]

# The keys of core.data.datasets.DATASETS.
DatasetName = Literal["mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100"]


class Section(BaseModel):
    """What all sections share: nothing unknown, nothing converted, nothing changed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class DatasetParams(Section):
    """Which images, and where they may come from."""

    name: DatasetName
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
    train_size: Count | None = Field(description="an integer >= 1, or null for all")


class MlpParams(Section):
    """The hidden layers of the architecture mlp."""

    hidden_sizes: list[Count] = Field(description="a list of integers >= 1")
    dropout: Share


class CnnParams(Section):
    """The convolutions of the architecture cnn."""

    channels: list[
        Annotated[
            list[Count],
            Field(min_length=1, description="a list with at least one integer >= 1"),
        ]
    ] = Field(min_length=1, description="a list with at least one list of integers >= 1")
    dropout: Share


class ModelParams(Section):
    """Which architecture, and how it is built."""

    name: Literal["logistic_regression", "mlp", "cnn", "resnet18"]
    standardize: bool = Field(description="true or false")
    mlp: MlpParams
    cnn: CnnParams


class AugmentParams(Section):
    """How the images of a batch are changed before a step."""

    shift: Pixels
    crop: Pixels
    flip: bool = Field(description="true or false")


class TrainParams(Section):
    """How the model is trained."""

    seed: Seed
    optimizer: Literal["sgd", "adamw"]
    lr: float = Field(gt=0, le=1e38, description="a number above 0, at most 1e38")
    schedule: Literal["constant", "cosine", "one_cycle"]
    momentum: Share
    nesterov: bool = Field(description="true or false")
    weight_decay: float = Field(ge=0, le=1e38, description="a number from 0 to 1e38")
    epochs: Count
    batch_size: Count
    shards: int = Field(ge=1, le=1000, description="an integer from 1 to 1000")
    label_smoothing: Share
    augment: AugmentParams
    patience: Count | None = Field(description="an integer >= 1, or null for never")
    keep: Literal["last", "best"]
    threads: Count | None = Field(description="an integer >= 1, or null for one a processor")
    device: Literal["cpu", "cuda"]


class TestReportParams(Section):
    """What the report on the test set shows."""

    most_wrong: int = Field(ge=1, le=100, description="an integer from 1 to 100")


class Params(Section):
    """The whole of params.yaml."""

    numerics: Literal["portable", "fast"]
    launcher: str = Field(min_length=1, description="a command, as python or torchrun")
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
    return validate(strict_yaml.load(path), path)


def validate(document: Document, path: Path) -> Params:
    """Check what was read from a file, or was put together from several.

    Args:
        document: with a value for every knob.
        path: of the file to name and to mend.

    Raises:
        ParamsError: any knob is unknown, missing, mistyped or out of range.
    """
    problems = dict(document.problems)
    try:
        whole = Params.model_validate(document.values)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            problems.setdefault(problem["loc"], _describe(problem, document))
    else:
        problems |= _disagreements(whole)
    if not problems:
        return whole
    count = "a problem" if len(problems) == 1 else f"{len(problems):,} problems"
    lines = [f"{document.name(where)}: {what}" for where, what in problems.items()]
    if len(lines) > MOST_PROBLEMS:
        lines[MOST_PROBLEMS:] = [f"and {len(lines) - MOST_PROBLEMS:,} more"]
    raise ParamsError(
        f"{path} has {count}",
        found="\n".join(lines),
        todo=f"mend {path}; each knob is explained "
        + ("there" if path.name == PARAMS_FILE.name else f"in {PARAMS_FILE}"),
    )


def _disagreements(whole: Params) -> dict[Location, str]:
    """Find knobs that are right by themselves but not with each other."""
    problems: dict[Location, str] = {}
    for name in whole.dataset.mirrors:
        if name not in get_args(DatasetName):
            problems["dataset", "mirrors", name] = _unknown(name, list(get_args(DatasetName)))
    if not problems and whole.dataset.name not in whole.dataset.mirrors:
        problems["dataset", "mirrors"] = (
            f"expected a list for the data set {whole.dataset.name}, "
            f"found lists for {', '.join(whole.dataset.mirrors) or 'none'}"
        )
    train = whole.train
    if train.nesterov and (train.optimizer != "sgd" or train.momentum == 0):
        problems["train", "nesterov"] = (
            "expected false without sgd and a momentum above 0, "
            f"found true with {train.optimizer} and {train.momentum:g}"
        )
    if train.augment.shift and train.augment.crop:
        problems["train", "augment", "crop"] = (
            f"expected 0 beside a shift, found {train.augment.crop}; both move the image"
        )
    if train.shards > train.batch_size:
        problems["train", "shards"] = (
            f"expected at most train.batch_size = {train.batch_size}, found {train.shards}"
        )
    if whole.numerics == "portable" and train.device != "cpu":
        problems["train", "device"] = (
            "expected cpu with portable numerics, "
            f"found {train.device}; set numerics: fast to use a GPU"
        )
    return problems


def _describe(problem: Any, document: Document) -> str:
    """Say in one line what is wrong by one of pydantic's findings."""
    location: Location = problem["loc"]
    if problem["type"] == "extra_forbidden":
        return _unknown(str(location[-1]), list(_schema(location[:-1])["properties"]))
    expected = _expected(location)
    if problem["type"] == "missing":
        return f"missing from {document.name(location[:-1])}; expected {expected}"
    found = problem["input"]
    near = difflib.get_close_matches(found, _choices(location), n=1) if type(found) is str else []
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"expected {expected}, found {document.written[location]}{hint}"


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return "unknown; " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}")


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
