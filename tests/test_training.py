"""The training loop, against sums done by hand and by torch.optim."""

import math

import pytest
import torch
from torch import Tensor, nn

from core import models, training
from core.errors import TrainingError
from core.params import TrainParams


def test_batches_hold_each_index_once_in_a_new_order_each_epoch() -> None:
    indices = torch.arange(50, 60)
    generator = torch.Generator().manual_seed(3)
    first = training.shuffled_batches(indices, 4, generator)
    second = training.shuffled_batches(indices, 4, generator)
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(torch.cat(list(first)).tolist()) == indices.tolist()
    assert sorted(torch.cat(list(second)).tolist()) == indices.tolist()
    assert torch.cat(list(first)).tolist() != torch.cat(list(second)).tolist()
    again = training.shuffled_batches(indices, 4, torch.Generator().manual_seed(3))
    assert torch.cat(list(again)).tolist() == torch.cat(list(first)).tolist()


def test_one_step_moves_each_weight_as_worked_out_by_hand() -> None:
    # Two pixels of 255 and 0, so x = (1, 0); weights zero, so p = (1/2, 1/2).
    # The loss is ln 2; its gradient by the logits is p - (1, 0) = (-1/2, 1/2),
    # by the weights that times x, by the bias that itself. lr = 0.1.
    model = models.build("logistic_regression", (1, 2, 1), 2)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    images = torch.tensor([255, 0], dtype=torch.uint8).reshape(1, 1, 2, 1)
    losses = training.train_epoch(model, images, torch.tensor([0]), [torch.tensor([0])], lr=0.1)
    weight, bias = model.parameters()
    assert losses.tolist() == [pytest.approx(math.log(2))]
    assert weight.tolist() == [[pytest.approx(0.05), 0], [pytest.approx(-0.05), 0]]
    assert bias.tolist() == [pytest.approx(0.05), pytest.approx(-0.05)]


def test_an_epoch_equals_torch_optim_sgd_to_the_last_bit() -> None:
    images = torch.randint(0, 256, (120, 6, 5, 1), dtype=torch.uint8)
    labels = torch.randint(0, 4, (120,))
    batches = torch.split(torch.randperm(120), 25)
    ours = models.build("logistic_regression", (6, 5, 1), 4, seed=1)
    theirs = models.build("logistic_regression", (6, 5, 1), 4, seed=1)
    losses = training.train_epoch(ours, images, labels, batches, lr=0.3)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.3)
    for step, batch in enumerate(batches):
        loss = nn.functional.cross_entropy(theirs(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        assert losses[step] == loss
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(our, their)


SETTINGS = TrainParams(
    seed=1, lr=0.5, epochs=4, batch_size=25, keep="last", threads=None, device="cpu"
)


def fitted(settings: TrainParams) -> tuple[list[training.HistoryRow], nn.Module, dict[str, Tensor]]:
    """Fit 80 random images of 2 classes; no label can be learned, so fitting them overfits."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (100, 6, 5, 1), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 2, (100,), generator=generator)
    model = models.build("logistic_regression", (6, 5, 1), 2, seed=settings.seed)
    history: list[training.HistoryRow] = []
    kept = training.fit(
        model,
        images,
        labels,
        torch.arange(80),
        torch.arange(80, 100),
        settings=settings,
        report=history.append,
        progress=lambda epoch, batches: batches,
    )
    return history, model, kept


def test_a_fit_reports_epoch_0_before_training_and_every_epoch_after() -> None:
    history, model, kept = fitted(SETTINGS)
    assert [row.epoch for row in history] == [0, 1, 2, 3, 4]
    assert history[0].train_loss == pytest.approx(math.log(2), abs=0.2)
    assert history[4] != history[0]
    for name, value in model.state_dict().items():
        assert torch.equal(kept[name], value)


def test_keep_best_returns_the_weights_of_the_lowest_validation_loss() -> None:
    history, model, kept = fitted(SETTINGS.model_copy(update={"keep": "best"}))
    best = min(history, key=lambda row: row.val_loss)
    assert best.epoch < 4, "these labels can not be learned: validation must get worse"
    shorter = SETTINGS.model_copy(update={"epochs": max(best.epoch, 1)})
    untrained = models.build("logistic_regression", (6, 5, 1), 2, seed=1).state_dict()
    expected = fitted(shorter)[2] if best.epoch > 0 else untrained
    for name, value in kept.items():
        assert torch.equal(value, expected[name])
        assert not torch.equal(value, model.state_dict()[name])


def test_a_batch_larger_than_the_set_is_one_step_an_epoch() -> None:
    steps = []
    generator = torch.Generator().manual_seed(1)
    for batch_size in (80, 1000):
        steps.append(
            [len(b) for b in training.shuffled_batches(torch.arange(80), batch_size, generator)]
        )
    assert steps == [[80], [80]]


def test_a_loss_that_is_not_finite_is_named_with_its_epoch_step_and_rate() -> None:
    losses = torch.tensor([2.0, math.nan, math.inf])
    with pytest.raises(TrainingError, match="the training diverged") as caught:
        training.check_finite(3, 0.5, losses, math.nan)
    assert "found:    nan" in str(caught.value)
    assert "epoch 3, step 2 of 3, train.lr = 0.5" in str(caught.value)


def test_weights_ruined_by_the_last_step_are_noticed_by_the_measurement_after_it() -> None:
    losses = torch.tensor([2.0, 1.0])
    with pytest.raises(TrainingError, match="epoch 1, step 2 of 2"):
        training.check_finite(1, 0.5, losses, 1.0, math.inf)
    training.check_finite(1, 0.5, losses, 1.0)
