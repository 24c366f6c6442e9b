"""What every architecture in core/training/models/ guarantees, and the formula of each.

The tests that take a `name` run for each file there is, with its parameters in
params.yaml: a new one is tested without a line here.
"""

import math
import shutil
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from core.pipeline.errors import ModelError, SetupError
from core.training import architectures, evaluation, model_params, weights
from core.training.layers import ImageShape, Normalize
from core.training.loop import Training
from core.training.model_params import ModelParams
from core.training.parallel.workers import Workers
from tests.support import parameters, sections
from tests.support.project import ROOT, Project

SHAPES: list[ImageShape] = [(28, 28, 1), (32, 32, 3), (7, 5, 2)]
# resnet18 takes ten times as long as the others.
COSTLY_APART = [
    pytest.param(name, marks=pytest.mark.slow) if name == "resnet18" else name
    for name in architectures.names()
]
OURS = ["logistic_regression", "mlp", "cnn", "resnet18"]
LOGISTIC_REGRESSION = sections.model("logistic_regression")


def small(name: str) -> ModelParams:
    """An architecture small enough for tests; resnet18 has no parameters."""
    return sections.model(
        name,
        mlp={"hidden_sizes": [16, 8], "dropout": 0.5},
        cnn={"channels": [[4], [8, 8], [16]], "dropout": 0.5},
    )


def random_images(count: int, shape: ImageShape) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, *shape), generator=generator).byte()


IMAGES = random_images(5, (4, 3, 2))


def test_logistic_regression_is_pixels_over_255_times_weights_plus_bias() -> None:
    model = architectures.build(LOGISTIC_REGRESSION, (4, 3, 2), 7, seed=3)
    weight, bias = (value.detach().double().numpy() for value in model.parameters())

    with torch.no_grad():
        logits = model(IMAGES)  # (5, 7)

    pixels = IMAGES.numpy().reshape(5, 24) / 255
    assert logits.dtype == torch.float32
    np.testing.assert_allclose(logits.numpy(), pixels @ weight.T + bias, rtol=0, atol=1e-6)


def test_logistic_regression_worked_out_by_hand() -> None:
    model = architectures.build(LOGISTIC_REGRESSION, (1, 2, 1), 2)
    model.load_state_dict(
        {
            "normalize.mean": torch.tensor([51.0]),
            "normalize.std": torch.tensor([102.0]),
            "linear.weight": torch.tensor([[1.0, 2.0], [-1.0, 0.5]]),
            "linear.bias": torch.tensor([0.25, 0.0]),
        }
    )

    logits = model(torch.tensor([[[[255], [153]]]], dtype=torch.uint8))

    # (255 - 51) / 102 = 2 and (153 - 51) / 102 = 1
    assert logits.tolist() == [[1 * 2 + 2 * 1 + 0.25, -1 * 2 + 0.5 * 1]]


def test_an_mlp_is_what_torchs_own_layers_make_of_its_weights() -> None:
    model = architectures.build(small("mlp"), (4, 3, 2), 7, seed=3).eval()
    state = model.state_dict()
    sizes = [24, 16, 8]
    theirs = nn.Sequential(
        *(
            layer
            for inputs, outputs in pairwise(sizes)
            for layer in (nn.Linear(inputs, outputs), nn.ReLU())
        ),
        nn.Linear(8, 7),
    )
    theirs.load_state_dict(
        OrderedDict(
            zip(
                theirs.state_dict(),
                (v for k, v in state.items() if "normalize" not in k),
                strict=True,
            )
        )
    )

    assert torch.equal(model(IMAGES), theirs(IMAGES.flatten(1) / 255))


def test_an_mlp_without_hidden_layers_is_logistic_regression() -> None:
    mlp = architectures.build(sections.model("mlp", mlp={"hidden_sizes": []}), (4, 3, 2), 7, seed=3)
    regression = architectures.build(LOGISTIC_REGRESSION, (4, 3, 2), 7)
    regression.load_state_dict(mlp.state_dict())

    torch.testing.assert_close(mlp(IMAGES), regression(IMAGES))


def test_a_cnn_is_what_torchs_own_layers_make_of_its_weights() -> None:
    model = architectures.build(small("cnn"), (7, 5, 2), 7, seed=3)
    images = random_images(20, (7, 5, 2))
    model(images)  # batch normalization gathers its statistics
    model.eval()

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    pool = nn.MaxPool2d(2, ceil_mode=True)
    theirs = nn.Sequential(
        *[*block(2, 4), pool, *block(4, 8), *block(8, 8), pool, *block(8, 16)],
        *[nn.Flatten(), nn.Linear(16 * 2 * 2, 7)],  # 7 × 5, 4 × 3, 2 × 2
    ).eval()
    state = [value for key, value in model.state_dict().items() if "normalize" not in key]
    theirs.load_state_dict(OrderedDict(zip(theirs.state_dict(), state, strict=True)))

    expected = theirs(images.permute(0, 3, 1, 2).float() / 255)
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)


def test_resnet18_is_that_of_torchvision_but_for_its_first_layers() -> None:
    from torchvision.models import resnet18

    ours = architectures.build(small("resnet18"), (32, 32, 3), 10).get_submodule("network")
    theirs = resnet18(num_classes=10)

    assert [
        (name, type(our), their)
        for (name, our), (_, their) in zip(
            ours.named_modules(), theirs.named_modules(), strict=True
        )
        if repr(our) != repr(their) and not list(our.children())
    ] == [
        ("conv1", nn.Conv2d, theirs.conv1),
        ("maxpool", nn.Identity, theirs.maxpool),
    ]
    # He et al. count 11.2 million for ten classes without biases of convolutions:
    # torchvision's 11,181,642, less 64 * 3 * (7 * 7 - 3 * 3) of the first kernel.
    assert sum(parameter.numel() for parameter in ours.parameters()) == 11_181_642 - 7_680
    model = architectures.build(small("resnet18"), (32, 32, 3), 10)
    seen: list[tuple[int, ...]] = []
    model.get_submodule("network.layer4").register_forward_hook(
        lambda module, inputs, output: seen.append(tuple(output.shape))
    )
    model(random_images(2, (32, 32, 3)))
    assert seen == [(2, 512, 4, 4)]  # 32 pixels halved three times only


@pytest.mark.parametrize("name", COSTLY_APART)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("classes", [3, 100])
def test_every_architecture_takes_a_step_that_moves_every_weight(
    name: str, shape: ImageShape, classes: int
) -> None:
    images = random_images(6, shape)
    labels = torch.arange(6) % classes
    model = architectures.build(small(name), shape, classes)
    assert (model(images).shape, model(images).dtype) == ((6, classes), torch.float32)
    before = [parameter.clone() for parameter in model.parameters()]

    every = torch.arange(6)
    rows: list[float] = []
    Training(model, sections.train(lr=1e-3, epochs=1, batch_size=6)).fit(
        images,
        labels,
        every,
        every,
        report=lambda row: rows.append(row.train_loss),
        progress=lambda epoch, steps, taken: steps,
    )

    assert rows[0] == pytest.approx(math.log(classes), rel=0.6)
    assert all(map(math.isfinite, rows))
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert not torch.equal(parameter, old)


@pytest.mark.parametrize("name", architectures.names())
def test_a_small_step_down_the_gradient_lowers_the_loss(name: str) -> None:
    images, labels = random_images(12, (8, 8, 1)), torch.arange(12) % 3
    model = architectures.build(small(name), (8, 8, 1), 3, seed=1).train()

    def loss() -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)  # dropout leaves out the same each time
            return nn.functional.cross_entropy(model(images), labels)

    before = loss()
    gradients = torch.autograd.grad(before, list(model.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.sub_(1e-3 * gradient)

        assert loss() < before


@pytest.mark.parametrize("name", COSTLY_APART)
def test_any_number_of_threads_gives_the_same_bits(name: str) -> None:
    images, labels, every = random_images(24, (8, 8, 1)), torch.arange(24) % 3, torch.arange(24)
    settings = sections.train(lr=0.01, epochs=1, batch_size=12, shards=3)

    def trained(workers: Workers) -> dict[str, Tensor]:
        model = architectures.build(small(name), (8, 8, 1), 3, seed=1)
        kept = Training(model, settings, workers).fit(
            *(images, labels, every, every),
            report=lambda row: None,
            progress=lambda epoch, steps, taken: steps,
        )
        probabilities = evaluation.predict(model, images.repeat(20, 1, 1, 1), torch.arange(480))
        return {**kept, "probabilities": probabilities}

    one, three = trained(Workers(1)), trained(Workers(3))

    for key, value in one.items():
        assert torch.equal(value, three[key]), key


@pytest.mark.parametrize("name", architectures.names())
@pytest.mark.parametrize("other", [((8, 8, 2), 3), ((8, 8, 1), 4)], ids=["channels", "classes"])
def test_weights_for_other_images_or_classes_are_refused(
    name: str, other: tuple[ImageShape, int], tmp_path: Path
) -> None:
    weights.save(tmp_path / "model.pt", architectures.build(small(name), *other).state_dict())

    with pytest.raises(ModelError, match=f"is not a {name} for these images"):
        weights.load_into(
            architectures.build(small(name), (8, 8, 1), 3), tmp_path / "model.pt", name=name
        )


@pytest.mark.parametrize("name", architectures.names())
def test_a_seed_decides_all_weights_and_nothing_else_does(name: str) -> None:
    def build(seed: int) -> dict[str, Tensor]:
        return architectures.build(small(name), (8, 8, 1), 3, seed=seed).state_dict()

    torch.manual_seed(1)
    first = build(5)
    before = torch.get_rng_state()
    again, other = build(5), build(6)

    assert torch.equal(torch.get_rng_state(), before)
    for key, value in first.items():
        assert torch.equal(value, again[key]), key
    differing = {key for key, value in first.items() if not torch.equal(value, other[key])}
    assert {key for key in first if first[key].ndim > 1} <= differing
    assert all(
        torch.equal(a, b)
        for a, b in zip(build(2**63 - 1).values(), build(2**63 - 1).values(), strict=True)
    )


@pytest.mark.parametrize("name", architectures.names())
def test_a_model_file_has_the_same_bytes_twice_and_gives_the_same_logits(
    name: str, tmp_path: Path
) -> None:
    images = random_images(20, (8, 8, 2))
    model = architectures.build(small(name), (8, 8, 2), 3, seed=1)
    architectures.standardize(model, images, torch.arange(20))
    model(images)  # batch normalization gathers its statistics
    weights.save(tmp_path / "model.pt", model.state_dict())

    loaded = architectures.build(small(name), (8, 8, 2), 3, seed=2)
    weights.load_into(loaded, tmp_path / "model.pt", name=name)
    weights.save(tmp_path / "again.pt", loaded.state_dict())

    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "model.pt").read_bytes()
    assert torch.equal(loaded(images), model.eval()(images))
    for key, value in loaded.state_dict().items():
        expected = torch.int64 if key.endswith("num_batches_tracked") else torch.float32
        assert value.dtype == expected
        assert value.stride() == model.state_dict()[key].stride()


@pytest.mark.parametrize("name", OURS)
def test_the_file_of_another_architecture_is_refused_by_name(name: str, tmp_path: Path) -> None:
    for other in OURS:
        weights.save(
            tmp_path / f"{other}.pt", architectures.build(small(other), (8, 8, 1), 3).state_dict()
        )
    for other in OURS:
        model = architectures.build(small(name), (8, 8, 1), 3)
        if other == name:
            weights.load_into(model, tmp_path / f"{other}.pt", name=name)
        else:
            with pytest.raises(ModelError, match=rf"{other}\.pt is not a {name} for these images"):
                weights.load_into(model, tmp_path / f"{other}.pt", name=name)


@pytest.mark.parametrize("name", architectures.names())
def test_an_image_gets_the_same_logits_whatever_else_is_in_its_batch(name: str) -> None:
    images = random_images(12, (8, 8, 1))
    model = architectures.build(small(name), (8, 8, 1), 3).eval()

    together = evaluation.predict(model, images, torch.arange(12))
    single = torch.cat([evaluation.predict(model, images, torch.tensor([i])) for i in range(12)])

    torch.testing.assert_close(together, single, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", architectures.names())
def test_standardized_by_the_images_to_train_on_and_no_others(name: str) -> None:
    images = random_images(40, (6, 5, 3)) // torch.tensor([1, 2, 4], dtype=torch.uint8)
    indices = torch.arange(0, 40, 2)
    model = architectures.build(small(name), (6, 5, 3), 3)
    normalize, *others_of_it = (m for m in model.modules() if isinstance(m, Normalize))
    assert not others_of_it
    plain = {key: value.clone() for key, value in normalize.state_dict().items()}
    assert (plain["mean"].tolist(), plain["std"].tolist()) == ([0] * 3, [255] * 3)

    architectures.standardize(model, images, indices)

    chosen = images[indices].double()
    torch.testing.assert_close(normalize.mean.double(), chosen.mean(dim=(0, 1, 2)))
    torch.testing.assert_close(normalize.std.double(), chosen.std(dim=(0, 1, 2), correction=0))
    others = images.clone()
    others[1::2] = 0
    again = architectures.build(small(name), (6, 5, 3), 3)
    architectures.standardize(again, others, indices)
    assert all(map(torch.equal, again.state_dict().values(), model.state_dict().values()))


def test_the_images_are_not_changed() -> None:
    for name in architectures.names():
        images = random_images(3, (8, 8, 2))
        before = images.clone()

        architectures.build(small(name), (8, 8, 2), 7)(images)

        assert torch.equal(images, before)


NEW = """
from pydantic import Field
from torch import nn

from core.pipeline.params import Count, Section, Share
from core.training.layers import ImageShape, Normalize, named


class Params(Section):
    depth: int
    width: Count
    share: Share = Field(description="a share of my own")


def build(image_shape: ImageShape, classes: int, params: Params) -> nn.Module:
    return named(
        normalize=Normalize(image_shape[2]),
        flatten=nn.Flatten(),
        wide=nn.LazyLinear(params.width),
        linear=nn.Linear(params.width, classes),
    )
"""
BUILD = """
import sys
from core.pipeline import params
from core.training.model_params import ModelParams
model = params.check().section(ModelParams, "name", "${model.name}")
assert "torch" not in sys.modules
from core.training import architectures
print(architectures.names(), architectures.build(model, (2, 3, 1), 4))
"""


def copy_code(folder: Path) -> Project:
    for part in ("core", "stages"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "params.yaml").write_text(parameters.text(), encoding="utf-8")
    return Project(folder)


def test_an_architecture_is_added_by_its_file_and_its_lines_in_params_yaml(tmp_path: Path) -> None:
    project = copy_code(tmp_path)
    (tmp_path / "core/training/models/new_one.py").write_text(NEW)

    without = project.run("python", "-c", BUILD)
    project.replace(
        "params.yaml",
        "  resnet18: {}\n",
        "  resnet18: {}\n  new_one: {depth: x, width: 7, share: 2}\n",
    )
    wrong = project.run("python", "-c", BUILD)
    project.replace("params.yaml", "depth: x, width: 7, share: 2", "depth: 1, width: 7, share: 0.5")
    project.replace("params.yaml", "  name: logistic_regression\n", "  name: new_one\n")
    built = project.must("python", "-c", BUILD)

    assert "model.new_one: missing from model" in without.stderr
    assert "expected the keys depth, width, share" in without.stderr
    assert "expected a share of my own, found 2" in wrong.stderr
    assert "expected integer, found x" in wrong.stderr
    assert "new_one" in built
    assert "LazyLinear(in_features=0, out_features=7" in built


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("my-net.py", NEW, "core/training/models/my-net.py cannot be the name of an architecture"),
        ("Net.py", NEW, "expected: lower-case letters, digits and _, first a letter"),
        ("_parts.py", NEW, "what architectures share belongs in core/training/layers.py"),
        ("standardize.py", NEW, "not name or standardize, which `model` has already"),
        ("net.py", "def build(:\n", "core/training/models/net.py is not Python"),
        ("net.py", "class Net: pass\n", "net.py builds no model"),
        ("net.py", NEW.replace("width: Count", "width: Width"), "name 'Width' is not defined"),
        ("net.py", NEW.replace("Params(Section)", "Params"), "expected: class Params(Section)"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_architecture_is_refused_by_every_stage(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    project = copy_code(tmp_path)
    (tmp_path / "core/training/models" / name).write_text(content)

    done = project.run("python", "-m", "stages.download")

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize("name", architectures.names())
def test_dvc_lock_is_enough_to_build_a_model_again(name: str) -> None:
    model = small(name)
    now = model.model_dump(include={"name", "standardize", name})
    every = model.model_dump()
    before = {key: value for key, value in every.items() if value != {}}  # the whole section

    for values in (now, every, before):
        kept = model_params.recorded(values)
        assert (kept.name, kept.own) == (name, model.own)
    with pytest.raises(ValidationError, match="extra"):
        model_params.recorded(now | {"extra": 1})


def test_a_model_without_a_layer_for_it_is_not_standardized() -> None:
    with pytest.raises(SetupError, match="one layer Normalize"):
        architectures.standardize(nn.Flatten(), IMAGES, torch.arange(5))
