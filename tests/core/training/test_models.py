"""Each architecture computes what its formula says, from weights that a seed decides."""

import math
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.pipeline.errors import ModelError
from core.pipeline.params import ModelParams
from core.training import evaluation, models, weights
from core.training.loop import Training
from core.training.models import ImageShape
from tests.support import knobs

SHAPES: list[ImageShape] = [(28, 28, 1), (32, 32, 3), (7, 5, 2)]
LOGISTIC_REGRESSION = knobs.model("logistic_regression")


def small(name: str) -> ModelParams:
    """An architecture of a size for tests; that of resnet18 is no knob."""
    return knobs.model(
        name,
        mlp={"hidden_sizes": [16, 8], "dropout": 0.5},
        cnn={"channels": [[4], [8, 8], [16]], "dropout": 0.5},
    )


def random_images(count: int, shape: ImageShape) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, *shape), generator=generator).byte()


IMAGES = random_images(5, (4, 3, 2))


def test_logistic_regression_is_pixels_over_255_times_weights_plus_bias() -> None:
    model = models.build(LOGISTIC_REGRESSION, (4, 3, 2), 7, seed=3)
    weight, bias = (value.detach().double().numpy() for value in model.parameters())

    with torch.no_grad():
        logits = model(IMAGES)  # (5, 7)

    pixels = IMAGES.numpy().reshape(5, 24) / 255
    assert logits.dtype == torch.float32
    np.testing.assert_allclose(logits.numpy(), pixels @ weight.T + bias, rtol=0, atol=1e-6)


def test_logistic_regression_worked_out_by_hand() -> None:
    model = models.build(LOGISTIC_REGRESSION, (1, 2, 1), 2)
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
    model = models.build(small("mlp"), (4, 3, 2), 7, seed=3).eval()
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
    mlp = models.build(knobs.model("mlp", mlp={"hidden_sizes": []}), (4, 3, 2), 7, seed=3)
    regression = models.build(LOGISTIC_REGRESSION, (4, 3, 2), 7)
    regression.load_state_dict(mlp.state_dict())

    torch.testing.assert_close(mlp(IMAGES), regression(IMAGES))


def test_a_cnn_is_what_torchs_own_layers_make_of_its_weights() -> None:
    model = models.build(small("cnn"), (7, 5, 2), 7, seed=3)
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

    ours = models.build(small("resnet18"), (32, 32, 3), 10).get_submodule("network")
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
    model = models.build(small("resnet18"), (32, 32, 3), 10)
    seen: list[tuple[int, ...]] = []
    model.get_submodule("network.layer4").register_forward_hook(
        lambda module, inputs, output: seen.append(tuple(output.shape))
    )
    model(random_images(2, (32, 32, 3)))
    assert seen == [(2, 512, 4, 4)]  # 32 pixels halved three times only


@pytest.mark.parametrize("name", models.ARCHITECTURES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("classes", [3, 100])
def test_every_architecture_takes_a_step_that_moves_every_weight(
    name: str, shape: ImageShape, classes: int
) -> None:
    images = random_images(6, shape)
    labels = torch.arange(6) % classes
    model = models.build(small(name), shape, classes)
    assert (model(images).shape, model(images).dtype) == ((6, classes), torch.float32)
    before = [parameter.clone() for parameter in model.parameters()]

    every = torch.arange(6)
    rows: list[float] = []
    Training(model, knobs.train(lr=1e-3, epochs=1, batch_size=6)).fit(
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


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_a_seed_decides_all_weights_and_nothing_else_does(name: str) -> None:
    def build(seed: int) -> dict[str, Tensor]:
        return models.build(small(name), (8, 8, 1), 3, seed=seed).state_dict()

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


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_a_model_file_has_the_same_bytes_twice_and_gives_the_same_logits(
    name: str, tmp_path: Path
) -> None:
    images = random_images(20, (8, 8, 2))
    model = models.build(small(name), (8, 8, 2), 3, seed=1)
    models.standardize(model, images, torch.arange(20))
    model(images)  # batch normalization gathers its statistics
    weights.save(tmp_path / "model.pt", model.state_dict())

    loaded = models.build(small(name), (8, 8, 2), 3, seed=2)
    weights.load_into(loaded, tmp_path / "model.pt", name=name)
    weights.save(tmp_path / "again.pt", loaded.state_dict())

    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "model.pt").read_bytes()
    assert torch.equal(loaded(images), model.eval()(images))
    for key, value in loaded.state_dict().items():
        expected = torch.int64 if key.endswith("num_batches_tracked") else torch.float32
        assert value.dtype == expected
        assert value.stride() == model.state_dict()[key].stride()


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_the_file_of_another_architecture_is_refused_by_name(name: str, tmp_path: Path) -> None:
    for other in models.ARCHITECTURES:
        weights.save(
            tmp_path / f"{other}.pt", models.build(small(other), (8, 8, 1), 3).state_dict()
        )
    for other in models.ARCHITECTURES:
        model = models.build(small(name), (8, 8, 1), 3)
        if other == name:
            weights.load_into(model, tmp_path / f"{other}.pt", name=name)
        else:
            with pytest.raises(ModelError, match=rf"{other}\.pt is not a {name} for these images"):
                weights.load_into(model, tmp_path / f"{other}.pt", name=name)


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_an_image_gets_the_same_logits_whatever_else_is_in_its_batch(name: str) -> None:
    images = random_images(12, (8, 8, 1))
    model = models.build(small(name), (8, 8, 1), 3).eval()

    together = evaluation.predict(model, images, torch.arange(12))
    alone = torch.cat([evaluation.predict(model, images, torch.tensor([i])) for i in range(12)])

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_standardized_by_the_images_to_train_on_and_no_others(name: str) -> None:
    images = random_images(40, (6, 5, 3)) // torch.tensor([1, 2, 4], dtype=torch.uint8)
    indices = torch.arange(0, 40, 2)
    model = models.build(small(name), (6, 5, 3), 3)
    plain = model.get_submodule("normalize").state_dict()
    assert (plain["mean"].tolist(), plain["std"].tolist()) == ([0] * 3, [255] * 3)

    models.standardize(model, images, indices)

    state = model.state_dict()
    chosen = images[indices].double()
    torch.testing.assert_close(state["normalize.mean"].double(), chosen.mean(dim=(0, 1, 2)))
    torch.testing.assert_close(
        state["normalize.std"].double(), chosen.std(dim=(0, 1, 2), correction=0)
    )
    others = images.clone()
    others[1::2] = 0
    again = models.build(small(name), (6, 5, 3), 3)
    models.standardize(again, others, indices)
    assert torch.equal(again.state_dict()["normalize.mean"], state["normalize.mean"])


def test_the_images_are_not_changed() -> None:
    for name in models.ARCHITECTURES:
        images = random_images(3, (8, 8, 2))
        before = images.clone()

        models.build(small(name), (8, 8, 2), 7)(images)

        assert torch.equal(images, before)


def test_the_names_in_params_yaml_are_those_of_the_architectures() -> None:
    field = ModelParams.model_fields["name"]
    assert list(get_args(field.annotation)) == list(models.ARCHITECTURES)
