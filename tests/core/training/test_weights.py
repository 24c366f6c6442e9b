"""Model files: the same bytes for the same weights, and nothing else in them."""

import hashlib
import pickle
import random
import resource
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.pipeline.errors import ModelError
from core.training import weights

ROOT = Path(__file__).parents[3]


def model(inputs: int = 3) -> nn.Module:
    """A layer whose weights are 0, 1/8, 2/8, …: exact in binary."""
    layer = nn.Linear(inputs, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(2 * inputs).reshape(2, inputs) / 8)
        layer.bias.copy_(torch.tensor([-1.0, 0.5]))
    return nn.Sequential(OrderedDict(linear=layer))


def load(path: Path) -> nn.Module:
    loaded = nn.Sequential(OrderedDict(linear=nn.Linear(3, 2)))
    weights.load_into(loaded, path, name="logistic_regression")
    return loaded


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A model file."""
    weights.save(tmp_path / "model.pt", model().state_dict())
    return tmp_path / "model.pt"


def test_weights_come_back_as_they_were_saved_ready_to_evaluate(path: Path) -> None:
    loaded = load(path)

    state = loaded.state_dict()
    assert list(state) == ["linear.weight", "linear.bias"]
    assert state["linear.weight"].tolist() == [[0, 0.125, 0.25], [0.375, 0.5, 0.625]]
    assert state["linear.bias"].tolist() == [-1.0, 0.5]
    assert not loaded.training


def test_anyone_can_read_a_model_file_with_only_torch(path: Path) -> None:
    state = torch.load(path, weights_only=True)

    assert type(state) is dict
    assert state["linear.bias"].tolist() == [-1.0, 0.5]
    assert not state["linear.bias"].requires_grad


def test_the_same_weights_give_the_same_bytes_wherever_they_come_from(
    path: Path, tmp_path: Path
) -> None:
    state = model().state_dict()
    padded = {key: torch.stack([value, value])[0] for key, value in state.items()}  # parts
    transposed = {key: value.t().contiguous().t() for key, value in state.items()}
    origins: dict[str, dict[str, Tensor]] = {
        "another name.pt": state,
        "clones": {key: value.clone() for key, value in state.items()},
        "parameters": dict(model().named_parameters()),
        "loaded": load(path).state_dict(),
        "parts of larger tensors": padded,
        "another order in memory": transposed,
    }

    for name, origin in origins.items():
        weights.save(tmp_path / name, origin)

        assert (tmp_path / name).read_bytes() == path.read_bytes(), name


def test_another_process_writes_the_same_bytes(path: Path) -> None:
    code = (
        "from core.training import numerics; numerics.pin('portable', None)\n"
        "import hashlib, pathlib, sys, torch\n"
        "from core.training import weights\n"
        "state = {'linear.weight': torch.arange(6).reshape(2, 3) / 8,\n"
        "         'linear.bias': torch.tensor([-1.0, 0.5])}\n"
        "weights.save(pathlib.Path(sys.argv[1]), state)\n"
    )
    other = path.with_name("other.pt")

    subprocess.run([sys.executable, "-c", code, str(other)], cwd=ROOT, check=True, timeout=60)

    assert other.read_bytes() == path.read_bytes()


def test_the_bytes_are_those_of_every_rebuild(path: Path) -> None:
    # A new version of torch may write other bytes: then every hash in dvc.lock
    # changes too, and this line with them.
    assert hashlib.sha256(path.read_bytes()).hexdigest() == (
        "ac7d0c8203eb528aad81b383997a912c3eae4524f5b6a99a69bd50157de387cb"
    )


def test_other_weights_give_other_bytes(path: Path, tmp_path: Path) -> None:
    state = model().state_dict()
    state["linear.bias"][0] += 1e-6
    weights.save(tmp_path / "other.pt", state)

    assert (tmp_path / "other.pt").read_bytes() != path.read_bytes()


def test_saving_does_not_change_the_weights_or_tie_them_to_the_file(tmp_path: Path) -> None:
    layer = model()
    before = [parameter.clone() for parameter in layer.parameters()]

    weights.save(tmp_path / "model.pt", layer.state_dict())

    for parameter, old in zip(layer.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
        assert parameter.requires_grad


def test_a_model_that_does_not_fit_on_the_disk_is_reported_with_its_file(path: Path) -> None:
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            weights.save(path, model().state_dict())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert caught.value.filename == str(path)
    assert path.read_bytes() == before


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.sprung,))


@pytest.mark.parametrize(
    "write",
    [
        lambda path, trap: torch.save({"linear.weight": trap}, path),
        lambda path, trap: torch.save(
            {"linear.weight": trap}, path, _use_new_zipfile_serialization=False
        ),
        lambda path, trap: path.write_bytes(pickle.dumps({"linear.weight": trap})),
    ],
    ids=["archive", "old archive", "pickle"],
)
def test_code_in_a_model_file_is_refused_and_not_run(
    tmp_path: Path, write: Callable[[Path, Trap], None]
) -> None:
    path, sprung = tmp_path / "model.pt", tmp_path / "sprung"
    write(path, Trap(sprung))

    with pytest.raises(ModelError, match=r"model\.pt is not a file of weights") as caught:
        load(path)

    assert not sprung.exists()
    assert "weights_only" not in str(caught.value)  # torch's advice is to run it


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(model(), tmp_path / "model.pt")

    with pytest.raises(ModelError, match=r"torch\.load refuses them"):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda good: b"", "0 bytes; File is not a zip file"),
        (lambda good: b"hello", "5 bytes; File is not a zip file"),
        (lambda good: good[:-1], "bytes; File is not a zip file"),
        (lambda good: good[:500], "500 bytes; File is not a zip file"),
    ],
    ids=["empty", "text", "a byte short", "truncated"],
)
def test_a_file_that_is_no_archive_is_refused(
    path: Path, spoil: Callable[[bytes], bytes], found: str
) -> None:
    path.write_bytes(spoil(path.read_bytes()))

    with pytest.raises(
        ModelError, match=r"expected: a state_dict written by torch\.save"
    ) as caught:
        load(path)

    assert caught.value.details["found"].endswith(found)
    assert caught.value.details["next"] == f"dvc checkout --force {path}, or dvc repro"


def test_one_flipped_bit_in_a_weight_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    position = content.index(torch.tensor([-1.0, 0.5]).numpy().tobytes())
    content[position] ^= 1
    path.write_bytes(content)

    assert torch.load(path, weights_only=True)["linear.bias"][0] != -1  # unnoticed by torch
    with pytest.raises(ModelError, match="archive/data/1 does not match its checksum"):
        load(path)


def test_no_damage_to_a_file_gives_other_weights_or_another_error(path: Path) -> None:
    good = path.read_bytes()
    expected = model().state_dict()
    chance = random.Random(0)  # noqa: S311
    refused = 0
    for _ in range(300):
        content = bytearray(good)
        for _ in range(chance.choice([1, 1, 4])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            state = load(path).state_dict()
        except ModelError:
            refused += 1
        else:
            assert all(torch.equal(state[key], value) for key, value in expected.items())

    assert refused > 100


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (model(4).state_dict(), "linear.weight float32 (2, 4), linear.bias float32 (2,)"),
        ({"weight": torch.zeros(2, 3)}, "weight float32 (2, 3)"),
        ({}, "no weights"),
        (
            {key: value.double() for key, value in model().state_dict().items()},
            "linear.weight float64 (2, 3), linear.bias float64 (2,)",
        ),
    ],
)
def test_the_weights_of_another_architecture_are_refused_with_both_named(
    tmp_path: Path, state: dict[str, Tensor], found: str
) -> None:
    path = tmp_path / "model.pt"
    weights.save(path, state)

    with pytest.raises(ModelError) as caught:
        load(path)

    assert str(caught.value) == (
        f"{path} is not a logistic_regression for these images\n"
        "  expected: linear.weight float32 (2, 3), linear.bias float32 (2,)"
        "  (model.name: logistic_regression)\n"
        f"  found:    {found}\n"
        "  next:     dvc repro trains the model that params.yaml names"
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([torch.zeros(2)], "list"),
        (torch.zeros(2), "Tensor"),
        ({"linear.weight": 3}, "dict"),
        ({"linear.weight": torch.zeros(2, 3).to_sparse()}, "dict"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
def test_an_archive_of_something_else_is_refused(
    tmp_path: Path, content: object, found: str
) -> None:
    torch.save(content, tmp_path / "model.pt")

    with pytest.raises(ModelError, match="expected: a state_dict: names and dense") as caught:
        load(tmp_path / "model.pt")

    assert caught.value.details["found"] == found


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = model().state_dict()
    state["linear.bias"][1] = value
    weights.save(tmp_path / "model.pt", state)

    with pytest.raises(ModelError, match="holds weights that are not finite") as caught:
        load(tmp_path / "model.pt")

    assert caught.value.details["found"] == "linear.bias"


def test_of_many_weights_those_that_differ_are_named_and_the_others_counted(
    tmp_path: Path,
) -> None:
    layers = nn.Sequential(*(nn.Linear(1, 1) for _ in range(50)))
    state = layers.state_dict() | {"w" * 1000: torch.zeros(1)}
    del state["49.bias"]
    weights.save(tmp_path / "model.pt", state)

    with pytest.raises(ModelError) as caught:
        weights.load_into(layers, tmp_path / "model.pt", name="mlp")

    details = caught.value.details
    assert details["expected"].startswith("49.bias float32 (1,), 0.weight float32 (1, 1), ")
    assert details["expected"].endswith(", 2.weight float32 (1, 1) and 94 more  (model.name: mlp)")
    assert details["found"].startswith(f"{'w' * 100}, 0.weight float32 (1, 1), ")
    assert details["found"].endswith(" and 94 more")


def test_a_refused_file_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    state = model().state_dict()
    state["linear.bias"][1] = float("nan")
    weights.save(tmp_path / "model.pt", state)
    untouched = model()

    with pytest.raises(ModelError):
        weights.load_into(untouched, tmp_path / "model.pt", name="logistic_regression")

    assert untouched.training
    assert untouched.state_dict()["linear.bias"].tolist() == [-1.0, 0.5]


def test_a_missing_file_is_reported_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "model.pt")

    assert str(caught.value) == (
        f"{tmp_path / 'model.pt'} is missing\n  next:     dvc repro trains it; dvc pull fetches it"
    )
