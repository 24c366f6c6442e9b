"""Plans the experiments of `train.lr=0.01,0.1 --seeds 3`: a named one for each combination.

They start from params.yaml, or from recipes that override it. DVC's own code reads and
writes the values, as in `dvc exp run -S`, and every resulting params.yaml is checked
before the first experiment starts.
"""

import itertools
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.pipeline import params, strict_yaml
from core.pipeline.errors import ParamsError
from core.pipeline.params import Params
from core.training.numerics_params import NumericsParams
from core.training.train_params import TrainParams
from tools.experiments import recipe_files

SEED = "train.seed"  # the parameter in which the runs of one recipe differ
RECIPE = "recipe"  # the key of the recipe name in `Experiment.settings`
FORM = "parameter=value or parameter=value,value,..., as in train.lr=0.01,0.1"


@dataclass(frozen=True)
class Experiment:
    """One run of the pipeline.

    Args:
        name: in the lists of DVC, `lr-0.1-seed-2`.
        recipe: the name without the seed; recipes are compared with each other.
        settings: the value of each parameter on the command line except the seed; first,
            under `recipe`, the name of the recipe that they override.
        seed: of the training.
        numerics: `portable` or `fast`.
        processors: how many it can train on at once; None for any number, and
            for a GPU, which runs one experiment at a time.
        device: `cpu` or `cuda`.
        params: the whole of its params.yaml.
    """

    name: str
    recipe: str
    settings: dict[str, Any] = field(compare=False)
    seed: int
    numerics: str
    processors: int | None
    device: str
    params: bytes = field(repr=False)


def plan(
    settings: Sequence[str], seeds: int | None, params_file: Path, recipes: Sequence[str] = ()
) -> list[Experiment]:
    """Plan every combination of the recipes, the values in `settings`, and the seeds.

    Args:
        settings: `train.lr=0.01,0.1` and the like; the last one varies fastest.
        seeds: how many seeds, from 1 on; None leaves the seed as it is.
        params_file: the file that they override.
        recipes: names of recipes that override it first, one at a time.

    Returns:
        Each combination once, with a unique name.

    Raises:
        ParamsError: a setting cannot be parsed, names an unknown parameter or has an
            invalid value; a recipe does not exist or is invalid.
    """
    params.check(params_file)
    if seeds is not None:
        given = [setting for setting in settings if setting.startswith(f"{SEED}=")]
        if given:
            raise ParamsError(
                "the seeds are given twice",
                found=f"{given[0]} and --seeds {seeds}",
                todo="leave one of them out",
            )
        settings = [*settings, f"{SEED}=" + ",".join(str(n) for n in range(1, seeds + 1))]
    text = params_file.read_bytes()
    values = strict_yaml.load(params_file).values
    choices = [_choices(setting, values) for setting in settings]
    keys = [choice[0].partition("=")[0] for choice in choices]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise ParamsError(
            f"{repeated[0]} is given twice", todo="list its values behind one =, with commas"
        )

    starts: list[tuple[dict[str, str], bytes]] = [({}, text)]
    if recipes:
        read = [recipe_files.read(name, params_file) for name in recipes]
        starts = [({RECIPE: each.name}, _changed(text, each.overrides)[0]) for each in read]

    short = {key: f"{name}-" for key, name in _short_names(keys).items()}
    experiments: dict[str, Experiment] = {}
    combinations = list(itertools.product(*choices))
    for (start, start_text), combination in itertools.product(starts, combinations):
        changed, chosen = _changed(start_text, combination)
        known_as = start | {key: lookup(key, chosen.model_dump()) for key in keys}
        parts = {key: short.get(key, "") + written(value) for key, value in known_as.items()}
        recipe = "-".join(part for key, part in parts.items() if key != SEED)
        kind, train = chosen.section(NumericsParams).root, chosen.section(TrainParams)
        experiment = Experiment(
            name="-".join(parts.values()),
            recipe=recipe or "as-it-is",
            settings={key: value for key, value in known_as.items() if key != SEED},
            seed=train.seed,
            numerics=kind,
            processors=_processors(kind, train),
            device=train.device,
            params=changed,
        )
        known = experiments.setdefault(experiment.name, experiment)
        if known.settings != experiment.settings:
            raise ParamsError(
                f"two experiments would be named {experiment.name}",
                found=f"{known.settings} and {experiment.settings}",
                todo="compare them in two calls",
            )
    return list(experiments.values())


def _choices(setting: str, values: Any) -> list[str]:
    """Split `train.lr=0.01,0.1` into `train.lr=0.01` and `train.lr=0.1`."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps
    from hydra.errors import HydraException

    key, equals, _ = setting.partition("=")
    if not equals:
        raise ParamsError(f"{setting} is not a setting", expected=FORM)
    lookup(key, values)
    try:
        return [override for sweep in get_hydra_sweeps({"p": [setting]}) for override in sweep["p"]]
    except (HydraException, DvcException) as error:
        raise ParamsError(
            f"{setting} cannot be parsed", expected=FORM, found=str(error).splitlines()[0]
        ) from error


def _processors(kind: str, train: TrainParams) -> int | None:
    """Return how many processors a training can use at once, with a kind of numerics."""
    if train.device != "cpu":
        return None
    if kind == "portable":
        return min(train.shards, train.threads or train.shards)
    return train.threads


def _changed(text: bytes, overrides: Sequence[str]) -> tuple[bytes, Params]:
    """Write `overrides` into a params.yaml as `dvc exp run -S` does, and check it."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / params.PARAMS_FILE.name
        file.write_bytes(text)
        try:
            apply_overrides(file, list(overrides))
            return file.read_bytes(), params.check(file)
        except ParamsError as error:
            raise ParamsError(
                f"an experiment with {' '.join(overrides)} cannot run",
                found=error.details["found"],
                todo="fix the values on the command line",
            ) from error
        except DvcException as error:
            raise ParamsError(
                f"an experiment with {' '.join(overrides)} cannot run",
                found=str(error.__cause__ or error).splitlines()[0],
                todo="fix the values on the command line",
            ) from error


def lookup(key: str, values: Any) -> Any:
    """Return the value of `train.lr` in the values of a params.yaml."""
    found = values
    for part in key.split("."):
        if not (isinstance(found, dict) and part in found):
            raise ParamsError(
                f"there is no parameter {key} in params.yaml",
                found=params.nearest(key, _dotted_names(values)),
                todo="name it as params.yaml does, with its section: train.lr",
            )
        found = found[part]
    return found


def _dotted_names(values: Any, prefix: str = "") -> list[str]:
    if not isinstance(values, dict):
        return [prefix]
    return [
        parameter
        for key, value in values.items()
        for parameter in _dotted_names(value, f"{prefix}.{key}" if prefix else str(key))
    ]


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """Name each parameter by its last part, or in full where two would be the same."""
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)
    }


def written(value: Any) -> str:
    """Write a value so that it can be part of a git reference."""
    if isinstance(value, bool) or value is None:
        text = {True: "true", False: "false", None: "null"}[value]
    elif isinstance(value, float):
        text = repr(value).removesuffix(".0")
    elif isinstance(value, list):
        text = "-".join(written(item) for item in value)
    else:
        text = str(value)
    text = re.sub(r"[^A-Za-z0-9.+_-]+|\.\.+", "-", text).strip(".-") or "empty"
    return text.removesuffix(".lock")
