"""Each architecture computes what its formula says, from weights that a seed decides."""

import numpy as np
import pytest
import torch
from torch import Tensor

from core import models

IMAGES = torch.randint(0, 256, (5, 4, 3, 2), generator=torch.Generator().manual_seed(0)).byte()


def build(seed: int) -> list[Tensor]:
    model = models.build("logistic_regression", (4, 3, 2), 7, seed=seed)
    return [parameter.detach() for parameter in model.parameters()]


def test_logistic_regression_is_pixels_over_255_times_weights_plus_bias() -> None:
    model = models.build("logistic_regression", (4, 3, 2), 7, seed=3)
    weight, bias = (value.numpy().astype(np.float64) for value in model.state_dict().values())

    with torch.no_grad():
        logits = model(IMAGES)  # (5, 7)

    pixels = IMAGES.numpy().reshape(5, 24) / 255
    assert logits.dtype == torch.float32
    np.testing.assert_allclose(logits.numpy(), pixels @ weight.T + bias, rtol=0, atol=1e-6)


def test_logistic_regression_worked_out_by_hand() -> None:
    model = models.build("logistic_regression", (1, 2, 1), 2)
    model.load_state_dict(
        {
            "linear.weight": torch.tensor([[1.0, 2.0], [-1.0, 0.5]]),
            "linear.bias": torch.tensor([0.25, 0.0]),
        }
    )

    logits = model(torch.tensor([[[[255], [51]]]], dtype=torch.uint8))

    # 1 * 255/255 + 2 * 51/255 + 0.25 and -1 * 255/255 + 0.5 * 51/255
    assert logits.tolist() == [[pytest.approx(1.65), pytest.approx(-0.9)]]


def test_the_images_are_not_changed() -> None:
    images = IMAGES.clone()

    models.build("logistic_regression", (4, 3, 2), 7)(images)

    assert torch.equal(images, IMAGES)


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_every_architecture_turns_bytes_into_a_logit_for_each_class(name: str) -> None:
    images = torch.zeros(2, 28, 28, 1, dtype=torch.uint8)

    logits = models.build(name, (28, 28, 1), 10)(images)

    assert (logits.shape, logits.dtype) == ((2, 10), torch.float32)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    for first, again, other in zip(build(5), build(5), build(6), strict=True):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_the_largest_seed_of_params_yaml_is_a_seed() -> None:
    for first, again in zip(build(2**63 - 1), build(2**63 - 1), strict=True):
        assert torch.equal(first, again)


def test_weights_do_not_depend_on_numbers_drawn_before() -> None:
    torch.manual_seed(1)
    first = build(5)
    torch.rand(100)

    for one, other in zip(first, build(5), strict=True):
        assert torch.equal(one, other)


def test_building_a_model_draws_nothing_from_the_generator_of_the_process() -> None:
    before = torch.get_rng_state()

    build(5)

    assert torch.equal(torch.get_rng_state(), before)
