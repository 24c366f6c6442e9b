"""Loss and accuracy are those of scikit-learn, whatever the batches and the mode."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn

from core.training import architectures, evaluation
from core.training.parallel.workers import Workers
from tests.support import sections
from tests.support.tensors_alive import tensors_alive

CLASSES = 5
IMAGES = 2 * evaluation.BATCH_SIZE + 345  # all but the last are whole batches


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Random images, uint8 (N, 4, 3, 1)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (IMAGES, 4, 3, 1), generator=generator).byte()


@pytest.fixture(scope="module")
def labels() -> Tensor:
    """Random labels, int64 (N,)."""
    return torch.randint(0, CLASSES, (IMAGES,), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> nn.Module:
    return architectures.build(sections.model("logistic_regression"), (4, 3, 1), CLASSES, seed=2)


def expected_probabilities(model: nn.Module, images: Tensor) -> np.ndarray:
    """Softmax of the logits in NumPy, in double precision."""
    with torch.no_grad():
        logits = model(images).double().numpy()
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: np.ndarray = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


@pytest.mark.parametrize("count", [1, 300, evaluation.BATCH_SIZE, IMAGES])
def test_loss_and_accuracy_are_those_of_scikit_learn(
    model: nn.Module, images: Tensor, labels: Tensor, count: int
) -> None:
    indices = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(3))[:count]

    measured = evaluation.measure(model, images, labels, indices)

    probabilities = expected_probabilities(model, images[indices])
    truth = labels[indices].numpy()
    assert measured.loss == pytest.approx(
        log_loss(truth, probabilities, labels=range(CLASSES)), abs=1e-6
    )
    assert measured.accuracy == accuracy_score(truth, probabilities.argmax(axis=1))


def test_only_the_images_at_the_indices_count() -> None:
    class Sure(nn.Module):
        """Is sure that the class is the value of the first pixel."""

        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.one_hot(images[:, 0, 0, 0].long(), 3).float() * 100

    images = torch.tensor([0, 1, 2, 0], dtype=torch.uint8).reshape(4, 1, 1, 1)
    labels = torch.tensor([0, 2, 2, 1])

    right = evaluation.measure(Sure(), images, labels, torch.tensor([0, 2]))
    half = evaluation.measure(Sure(), images, labels, torch.tensor([3, 0]))

    assert right == (0, 1)
    assert half == (50, 0.5)  # the wrong one costs -log(softmax) = 100 nats


def test_predictions_are_the_softmax_of_the_logits(model: nn.Module, images: Tensor) -> None:
    indices = torch.arange(IMAGES).flip(0)

    probabilities = evaluation.predict(model, images, indices)

    assert (probabilities.shape, probabilities.dtype) == ((IMAGES, CLASSES), torch.float32)
    np.testing.assert_allclose(probabilities.sum(dim=1).numpy(), 1, atol=1e-6)
    np.testing.assert_allclose(
        probabilities.numpy(), expected_probabilities(model, images[indices]), atol=1e-6
    )


def test_the_same_measurement_twice_is_the_same_to_the_last_bit(
    model: nn.Module, images: Tensor, labels: Tensor
) -> None:
    indices = torch.arange(IMAGES)

    assert evaluation.measure(model, images, labels, indices) == evaluation.measure(
        model, images, labels, indices
    )


@pytest.mark.parametrize("count", [1, 2, 4])
def test_measured_in_parallel_the_digits_are_the_same(
    images: Tensor, labels: Tensor, count: int
) -> None:
    settings = sections.model("cnn", cnn={"channels": [[4], [8]], "dropout": 0.5})
    cnn = architectures.build(settings, (4, 3, 1), CLASSES, seed=2).train()
    indices = torch.arange(IMAGES)
    workers = Workers(count)

    measured = evaluation.measure(cnn, images, labels, indices, workers=workers)
    probabilities = evaluation.predict(cnn, images, indices, workers=workers)

    assert measured == evaluation.measure(cnn, images, labels, indices)
    assert torch.equal(probabilities, evaluation.predict(cnn, images, indices))
    assert not probabilities.requires_grad
    assert cnn.training


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_in_parallel_leaves_the_mode_as_before(images: Tensor, count: int) -> None:
    model = Moody().train()

    with pytest.raises(ArithmeticError, match="too bright"):
        evaluation.predict(model, images, torch.arange(IMAGES), workers=Workers(count))

    assert model.training


class Moody(nn.Module):
    """Gives each class the same logit, but refuses to work while in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout()

    def forward(self, images: Tensor) -> Tensor:
        if self.training or self.dropout.training:
            raise AssertionError("measured in training mode")
        if images.max() > 100:
            raise ArithmeticError("too bright")
        return torch.zeros(len(images), CLASSES)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("brightness", [0, 255])
def test_the_mode_of_the_model_is_as_before_even_after_an_error(
    training: bool, brightness: int
) -> None:
    model = Moody().train(training)
    images = torch.full((3, 4, 3, 1), brightness, dtype=torch.uint8)
    labels, indices = torch.zeros(3).long(), torch.arange(3)
    if brightness:
        with pytest.raises(ArithmeticError, match="too bright"):
            evaluation.measure(model, images, labels, indices)
        with pytest.raises(ArithmeticError, match="too bright"):
            evaluation.predict(model, images, indices)
    else:
        loss, accuracy = evaluation.measure(model, images, labels, indices)
        assert loss == pytest.approx(np.log(CLASSES))
        assert accuracy == 1
        assert evaluation.predict(model, images, indices).tolist() == [[pytest.approx(0.2)] * 5] * 3

    assert model.training == model.dropout.training == training


def test_predicting_keeps_one_tensor_and_not_one_for_each_batch() -> None:
    alive: list[int] = []

    class Counting(nn.Module):
        """Counts the tensors that are alive."""

        def forward(self, images: Tensor) -> Tensor:
            alive.append(tensors_alive())
            return torch.zeros(len(images), 2)

    images = torch.zeros(6 * evaluation.BATCH_SIZE, 1, 1, 1, dtype=torch.uint8)
    probabilities = evaluation.predict(Counting(), images, torch.arange(len(images)))

    assert probabilities.shape == (1500, 2)
    assert len(alive) == 6
    assert len(set(alive[1:])) == 1  # before the first batch there is no result


def test_an_error_while_measuring_leaves_the_mode_as_before(
    model: nn.Module, images: Tensor
) -> None:
    too_few_labels = torch.zeros(10).long()
    model.train()

    with pytest.raises(IndexError) as caught:
        evaluation.measure(model, images, too_few_labels, torch.arange(20))

    assert caught.value.__traceback__ is not None  # still held: nothing was cleaned up by chance
    assert model.training


def test_measuring_leaves_no_trace_in_the_gradients(
    model: nn.Module, images: Tensor, labels: Tensor
) -> None:
    evaluation.measure(model, images, labels, torch.arange(10))

    loss = nn.functional.cross_entropy(model(images[:10]), labels[:10])
    torch.autograd.backward(loss)

    assert not evaluation.predict(model, images, torch.arange(10)).requires_grad
    assert all(parameter.grad is not None for parameter in model.parameters())
