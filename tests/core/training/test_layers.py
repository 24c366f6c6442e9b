"""The layers, against NumPy and against PyTorch's own."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.training.layers import ChannelsFirst, Dropout, Normalize, ReLU


def random_images(count: int, height: int, width: int, channels: int) -> Tensor:
    """Images whose channels differ in brightness and contrast, uint8 (N, H, W, C)."""
    generator = torch.Generator().manual_seed(count)
    low, high = torch.arange(channels) * 10, 40 + torch.arange(channels) * 70
    share = torch.rand(count, height, width, channels, generator=generator)
    return (low + share * (high - low)).byte()


def test_as_built_pixels_are_scaled_to_between_0_and_1() -> None:
    scaled = Normalize(1)(torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 3, 1))

    assert scaled.dtype == torch.float32
    assert torch.equal(scaled, torch.tensor([0.0, 51.0, 255.0]).reshape(1, 1, 3, 1) / 255)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_fitted_mean_and_deviation_are_those_of_numpy_over_the_chosen_images(channels: int) -> None:
    images = random_images(2345, 4, 3, channels)  # more than two batches of counting
    indices = torch.randperm(2345, generator=torch.Generator().manual_seed(0))[:2100]
    layer = Normalize(channels)

    layer.fit(images, indices)

    chosen = images[indices].numpy().astype(np.float64)
    assert layer.mean.numpy() == pytest.approx(chosen.mean(axis=(0, 1, 2)), rel=1e-6)
    assert layer.std.numpy() == pytest.approx(chosen.std(axis=(0, 1, 2)), rel=1e-6)
    every = images.double()  # to see that the choice matters
    assert not torch.equal(layer.mean, every.mean(dim=(0, 1, 2)).float())


def test_fitted_to_images_it_gives_them_mean_0_and_deviation_1() -> None:
    images = random_images(500, 5, 4, 3)
    layer = Normalize(3)
    layer.fit(images, torch.arange(500))

    normal = layer(images).double()

    assert normal.mean(dim=(0, 1, 2)).tolist() == [pytest.approx(0, abs=1e-5)] * 3
    assert normal.std(dim=(0, 1, 2), correction=0).tolist() == [pytest.approx(1, abs=1e-5)] * 3


def test_mean_and_deviation_worked_out_by_hand() -> None:
    images = torch.tensor([[10, 7], [30, 7], [20, 7], [60, 7]], dtype=torch.uint8)
    layer = Normalize(2)

    layer.fit(images.reshape(4, 1, 1, 2), torch.tensor([0, 1, 3]))

    # (10 + 30 + 60) / 3, and the root of (10² + 30² + 60²) / 3 less its square;
    # the second channel never varies.
    assert layer.mean.tolist() == [pytest.approx(100 / 3), 7]
    assert layer.std.tolist() == [pytest.approx(math.sqrt(4600 / 3 - (100 / 3) ** 2)), 255]


def test_fitting_gives_the_same_bits_in_any_order_of_the_images() -> None:
    images = random_images(3000, 3, 3, 2)
    layers = [Normalize(2), Normalize(2)]

    layers[0].fit(images, torch.arange(3000))
    layers[1].fit(images, torch.randperm(3000, generator=torch.Generator().manual_seed(1)))

    assert torch.equal(layers[0].mean, layers[1].mean)
    assert torch.equal(layers[0].std, layers[1].std)


def test_mean_and_deviation_are_no_weights_and_travel_with_the_model() -> None:
    layer = Normalize(3)

    assert list(layer.parameters()) == []
    assert list(layer.state_dict()) == ["mean", "std"]


def test_normalizing_leaves_the_images_as_they_were() -> None:
    images = random_images(3, 2, 2, 1)
    before = images.clone()

    Normalize(1)(images)

    assert torch.equal(images, before)


def test_channels_first_is_a_view_with_contiguous_channels_in_memory() -> None:
    images = torch.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3).float()

    turned = ChannelsFirst()(images)

    assert turned.shape == (2, 3, 4, 5)
    assert turned.data_ptr() == images.data_ptr()
    assert turned.is_contiguous(memory_format=torch.channels_last)
    assert turned[1, 2, 3, 4] == images[1, 3, 4, 2]


@pytest.mark.parametrize("shape", [(1,), (7,), (64, 33), (3, 5, 8, 2)])
def test_relu_and_its_gradient_are_those_of_torch_to_the_last_bit(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(len(shape))
    values = torch.randn(shape, generator=generator)
    values.view(-1)[::4] = 0
    scale = torch.randint(-100, 100, shape, generator=generator)
    values = values * 2.0**scale  # from 1e-30 to 1e30
    upstream = torch.randn(shape, generator=generator)
    ours, theirs = (values.clone().requires_grad_() for _ in range(2))

    our_outputs, their_outputs = ReLU()(ours), nn.functional.relu(theirs)
    (our_gradient,) = torch.autograd.grad(our_outputs, ours, upstream)
    (their_gradient,) = torch.autograd.grad(their_outputs, theirs, upstream)

    assert torch.equal(our_outputs, their_outputs)
    assert torch.equal(our_gradient, their_gradient)
    assert torch.equal(ours, values)  # the inputs are not changed


def test_the_slope_of_relu_is_1_from_the_smallest_normal_number_on_and_0_from_0_down() -> None:
    smallest = torch.finfo(torch.float32).tiny
    inputs = torch.tensor([-1e38, -smallest, 0.0, smallest, 1e-20, 1.0, 3e38], requires_grad=True)

    (slopes,) = torch.autograd.grad(ReLU()(inputs).sum(), inputs)

    assert slopes.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_relu_agrees_with_finite_differences() -> None:
    inputs = torch.tensor([[-2.0, -0.5, 0.25, 3.0]], dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(ReLU(), (inputs,))


def test_relu_does_not_hide_what_is_not_a_number() -> None:
    outputs = ReLU()(torch.tensor([math.nan, math.inf, -math.inf]))

    assert math.isnan(outputs[0])
    assert outputs[1:].tolist() == [math.inf, 0]


def dropout(share: float, seed: int = 0) -> Dropout:
    layer = Dropout(share)
    layer.generator = torch.Generator().manual_seed(seed)
    return layer


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_dropout_drops_its_share_and_scales_up_the_rest(share: float) -> None:
    count = 100_000
    outputs = dropout(share)(torch.full((count,), 3.0))

    dropped = int((outputs == 0).sum())
    deviation = math.sqrt(count * share * (1 - share))
    assert abs(dropped - count * share) < 4 * deviation
    assert outputs[outputs != 0].unique().tolist() == [pytest.approx(3 / (1 - share))]
    assert float(outputs.mean()) == pytest.approx(3, abs=3 * 4 * deviation / count / (1 - share))


def test_the_gradient_of_dropout_goes_where_the_values_went() -> None:
    inputs = torch.ones(1000, requires_grad=True)
    outputs = dropout(0.25)(inputs)

    (gradient,) = torch.autograd.grad(outputs.sum(), inputs)

    assert torch.equal(gradient, outputs)
    assert 0 in gradient


def test_dropout_draws_new_masks_from_its_own_generator_only() -> None:
    inputs = torch.ones(1000)
    of_the_process = torch.get_rng_state()
    layer, again, other = dropout(0.5), dropout(0.5), dropout(0.5, seed=1)

    first, second = layer(inputs), layer(inputs)

    assert not torch.equal(first, second)
    assert torch.equal(again(inputs), first)
    assert torch.equal(again(inputs), second)
    assert not torch.equal(other(inputs), first)
    assert torch.equal(torch.get_rng_state(), of_the_process)


def test_dropout_is_the_identity_in_evaluation_and_without_a_share() -> None:
    inputs = torch.ones(100)
    evaluating, nothing = dropout(0.5).eval(), dropout(0.0)
    states = [layer.generator.get_state() for layer in (evaluating, nothing) if layer.generator]

    assert evaluating(inputs) is inputs
    assert nothing(inputs) is inputs
    for layer, state in zip((evaluating, nothing), states, strict=True):
        assert layer.generator is not None
        assert torch.equal(layer.generator.get_state(), state)


def test_the_layers_can_be_copied_and_hold_nothing_but_buffers() -> None:
    layers = nn.Sequential(Normalize(1), ChannelsFirst(), ReLU(), Dropout(0.5))

    assert list(copy.deepcopy(layers).state_dict()) == ["0.mean", "0.std"]
