"""The training loop, against torch.optim and by hand, and interrupted anywhere."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.pipeline.errors import ParamsError, TrainingError
from core.training import architectures, augmentation, loop, optimizers
from core.training.loop import HistoryRow, Step, Training
from core.training.model_params import ModelParams
from core.training.parallel.sharding import Shards
from core.training.parallel.workers import ONE_WORKER, Workers
from core.training.train_params import TrainParams
from tests.support import sections
from tests.support.tensors_alive import tensors_alive

LOGISTIC_REGRESSION = sections.model("logistic_regression")
NOTHING_DRAWN = augmentation.Draws(None, None)


def planned(
    count: int, batch_size: int, epochs: int = 1, seed: int = 3, **settings: Any
) -> list[list[Step]]:
    """The steps of each epoch on images 50, 51, …"""
    generator = torch.Generator().manual_seed(seed)
    train = sections.train(batch_size=batch_size, epochs=epochs, **settings)
    indices = torch.arange(50, 50 + count)
    return [loop.plan_epoch(indices, epoch, train, generator) for epoch in range(1, epochs + 1)]


def order(steps: list[Step]) -> list[int]:
    return [int(index) for step in steps for index in step.indices]


def test_batches_hold_each_index_once_in_a_new_order_each_epoch() -> None:
    first, second = planned(10, 4, epochs=2)
    assert [len(step.indices) for step in first] == [4, 4, 2]
    assert sorted(order(first)) == sorted(order(second)) == list(range(50, 60))
    assert order(first) != order(second)
    assert order(planned(10, 4)[0]) == order(first)
    assert order(planned(10, 4, seed=4)[0]) != order(first)


def test_the_order_depends_neither_on_the_size_of_a_batch_nor_on_augmentation() -> None:
    (expected,) = planned(20, 4)
    assert order(planned(20, 7)[0]) == order(expected)
    assert order(planned(20, 4, augment={"shift": 2, "flip": True})[0]) == order(expected)


def test_a_batch_larger_than_the_set_is_one_step_an_epoch() -> None:
    for batch_size in (80, 1000):
        ((step,),) = planned(80, batch_size)
        assert len(step.indices) == 80


def test_each_image_of_a_batch_has_its_draws() -> None:
    (steps,) = planned(10, 4, augment={"crop": 2, "flip": True})
    for step in steps:
        assert step.draws.offsets is not None
        assert step.draws.mirrored is not None
        assert step.draws.offsets.shape == (len(step.indices), 2)
        assert step.draws.mirrored.shape == (len(step.indices),)


def test_the_schedule_goes_over_the_steps_of_all_epochs() -> None:
    # Two epochs of two steps: cosines of 0, 45, 90 and 135 degrees.
    epochs = planned(8, 4, epochs=2, schedule="cosine", lr=0.2)
    half = math.sqrt(0.5)
    assert [step.lr for steps in epochs for step in steps] == [
        pytest.approx(0.2 * factor, abs=1e-9) for factor in (1, (1 + half) / 2, 0.5, (1 - half) / 2)
    ]


def steps_taken(
    model: nn.Module, images: Tensor, labels: Tensor, batches: list[Tensor], settings: TrainParams
) -> list[Tensor]:
    """Take a step for each batch and return their losses."""
    steps = [Step(batch, NOTHING_DRAWN, settings.lr) for batch in batches]
    shards = Shards(model, 1, seed=0, workers=ONE_WORKER)
    optimizer = optimizers.build(model, settings)
    return list(
        loop.take_steps(
            steps, images, labels, shards=shards, optimizer=optimizer, settings=settings
        )
    )


@pytest.mark.parametrize(("smoothing", "slope"), [(0.0, 0.5), (0.5, 0.25)])
def test_one_step_moves_each_weight_as_worked_out_by_hand(smoothing: float, slope: float) -> None:
    # Two pixels of 255 and 0, so x = (1, 0); weights zero, so p = (1/2, 1/2).
    # The loss is ln 2; its gradient by the logits is p less the label: (1, 0), or
    # (3/4, 1/4) smoothed by a half. By the weights it is that times x, by the
    # bias that itself. lr = 0.1.
    model = architectures.build(LOGISTIC_REGRESSION, (1, 2, 1), 2)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    images = torch.tensor([255, 0], dtype=torch.uint8).reshape(1, 1, 2, 1)
    settings = sections.train(lr=0.1, label_smoothing=smoothing)
    losses = steps_taken(model, images, torch.tensor([0]), [torch.tensor([0])], settings)
    weight, bias = model.parameters()
    assert losses == [pytest.approx(math.log(2))]
    move = 0.1 * slope
    assert weight.tolist() == [[pytest.approx(move), 0], [pytest.approx(-move), 0]]
    assert bias.tolist() == [pytest.approx(move), pytest.approx(-move)]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "resnet18" else name
        for name in architectures.names()
    ],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_epoch_equals_torch_optim_sgd_to_the_last_bit(name: str, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 8, 8, 1), generator=generator).byte()
    labels = torch.randint(0, 4, (60,), generator=generator)
    batches = list(torch.split(torch.randperm(60, generator=generator), 25))
    settings = sections.train(lr=0.05, momentum=0.9, nesterov=True, label_smoothing=smoothing)
    architecture = sections.model(
        name,
        mlp={"hidden_sizes": [16], "dropout": 0.0},
        cnn={"channels": [[4], [8]]},
    )
    ours = architectures.build(architecture, (8, 8, 1), 4, seed=1).train()
    theirs = architectures.build(architecture, (8, 8, 1), 4, seed=1).train()
    losses = steps_taken(ours, images, labels, batches, settings)
    optimizer = torch.optim.SGD(
        theirs.parameters(), lr=0.05, momentum=0.9, nesterov=True, foreach=False
    )
    for step, batch in enumerate(batches):
        loss = nn.functional.cross_entropy(
            theirs(images[batch]), labels[batch], label_smoothing=smoothing
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        assert losses[step] == loss
    for our, their in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(our, their)


def test_a_step_sees_the_images_augmented_and_leaves_them_as_they_were() -> None:
    seen: list[Tensor] = []

    class Eye(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.clone())
            return self.weight.expand(len(images), 2)

    images = torch.arange(12, dtype=torch.uint8).reshape(2, 2, 3, 1)
    before = images.clone()
    settings = sections.train(augment={"flip": True})
    step = Step(torch.tensor([1, 0]), augmentation.Draws(None, torch.tensor([True, False])), 0.1)
    model = Eye()
    list(
        loop.take_steps(
            [step],
            images,
            torch.tensor([0, 1]),
            shards=Shards(model, 1, seed=0, workers=ONE_WORKER),
            optimizer=optimizers.build(model, settings),
            settings=settings,
        )
    )
    assert torch.equal(seen[0][0], images[1].flip(1))
    assert torch.equal(seen[0][1], images[0])
    assert torch.equal(images, before)


class StoppedError(Exception):
    """Raised instead of a kill."""


class Memory:
    """A checkpoint that is always due, and stops the training after some saves."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.saved: dict[str, Any] | None = None
        self.savings = 0

    def load(self) -> dict[str, Any] | None:
        return copy.deepcopy(self.saved)

    def due(self) -> bool:
        return True

    def save(self, state: dict[str, Any]) -> None:
        self.saved = copy.deepcopy(state)
        self.savings += 1
        if self.savings == self.stop_after:
            raise StoppedError


class Fitted:
    """80 random images of 2 classes; no label can be learned, so fitting them overfits."""

    def __init__(
        self,
        settings: TrainParams,
        architecture: ModelParams = LOGISTIC_REGRESSION,
        checkpoint: Memory | None = None,
        workers: Workers = ONE_WORKER,
    ) -> None:
        generator = torch.Generator().manual_seed(5)
        images = torch.randint(0, 256, (100, 6, 5, 1), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, 2, (100,), generator=generator)
        self.model = architectures.build(architecture, (6, 5, 1), 2, seed=settings.seed)
        architectures.standardize(self.model, images, torch.arange(80))
        self.rows: list[HistoryRow] = []
        self.progress: list[tuple[int, int, int]] = []  # epoch, steps to take, steps taken
        self.training = Training(self.model, settings, workers)
        self.kept = self.training.fit(
            images,
            labels,
            torch.arange(80),
            torch.arange(80, 100),
            report=self.rows.append,
            progress=self._progress,
            checkpoint=checkpoint,
        )

    def _progress(self, epoch: int, steps: Any, taken: int) -> Any:
        self.progress.append((epoch, len(steps), taken))
        return steps


SETTINGS = sections.train(seed=1, lr=0.5, epochs=4, batch_size=25)


def test_a_fit_reports_epoch_0_before_training_and_every_epoch_after() -> None:
    fitted = Fitted(SETTINGS)
    assert [row.epoch for row in fitted.rows] == [0, 1, 2, 3, 4]
    assert fitted.rows == fitted.training.history
    assert fitted.rows[0].train_loss == pytest.approx(math.log(2), abs=0.3)
    assert fitted.rows[4].train_loss < fitted.rows[0].train_loss
    assert fitted.progress == [(epoch, 4, 0) for epoch in (1, 2, 3, 4)]
    for name, value in fitted.model.state_dict().items():
        assert torch.equal(fitted.kept[name], value)


class TensorsAlive(Memory):
    """Counts the tensors that are alive after each step, and saves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def due(self) -> bool:
        self.counts.append(tensors_alive())
        return False


def test_a_step_leaves_no_tensor_behind_that_would_split_the_freed_memory_of_its_batch() -> None:
    alive = TensorsAlive()

    Fitted(sections.changed(SETTINGS, epochs=1, batch_size=16), checkpoint=alive)

    assert len(alive.counts) == 5
    assert len(set(alive.counts)) == 1


def test_keep_best_returns_the_weights_of_the_lowest_validation_loss() -> None:
    fitted = Fitted(sections.changed(SETTINGS, keep="best"))
    best = min(fitted.rows, key=lambda row: row.val_loss)
    assert best.epoch < 4, "these labels cannot be learned: validation must get worse"
    shorter = sections.changed(SETTINGS, epochs=max(best.epoch, 1))
    untrained = Fitted(sections.changed(SETTINGS, lr=1e-30, epochs=1)).kept
    expected = Fitted(shorter).kept if best.epoch > 0 else untrained
    for name, value in fitted.kept.items():
        assert torch.equal(value, expected[name])
    assert not torch.equal(fitted.kept["linear.weight"], fitted.model.state_dict()["linear.weight"])


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_training_stops_after_as_many_epochs_without_a_lower_validation_loss(
    patience: int,
) -> None:
    settings = sections.changed(SETTINGS, lr=0.02, epochs=60)
    whole = Fitted(settings).rows
    losses = [row.val_loss for row in whole]
    end = next(
        epoch
        for epoch in range(patience, 60)
        if min(losses[epoch - patience + 1 : epoch + 1]) >= min(losses[: epoch - patience + 1])
    )

    fitted = Fitted(sections.changed(settings, patience=patience))

    assert fitted.rows == whole[: end + 1]
    assert end < 60
    best = min(fitted.rows, key=lambda row: row.val_loss)
    assert end - best.epoch == patience


def test_patience_that_is_never_exhausted_changes_nothing() -> None:
    assert Fitted(sections.changed(SETTINGS, patience=4)).rows == Fitted(SETTINGS).rows


@pytest.mark.parametrize(
    ("settings", "architecture"),
    [
        (
            {
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 0.01,
                "schedule": "one_cycle",
                "shards": 2,
                "label_smoothing": 0.1,
                "augment": {"crop": 1, "flip": True},
                "keep": "best",
                "patience": 2,
            },
            sections.model("cnn", cnn={"channels": [[3], [4]], "dropout": 0.3}),
        ),
        (
            {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine", "shards": 3},
            sections.model("mlp", mlp={"hidden_sizes": [8], "dropout": 0.5}),
        ),
        ({"lr": 0.5, "keep": "best"}, LOGISTIC_REGRESSION),  # the best is that before training
        ({}, LOGISTIC_REGRESSION),
    ],
    ids=["sgd", "adamw", "best", "plain"],
)
def test_stopped_after_any_step_it_resumes_to_the_same_bits(
    settings: dict[str, Any], architecture: ModelParams
) -> None:
    train = sections.changed(SETTINGS, **({"lr": 0.02, "epochs": 3} | settings))
    whole = Fitted(train, architecture)
    watched = Memory()
    assert Fitted(train, architecture, watched).rows == whole.rows
    assert watched.savings == 4 * (len(whole.rows) - 1)

    for stop in range(1, watched.savings + 1):
        checkpoint = Memory(stop_after=stop)
        with pytest.raises(StoppedError):
            Fitted(train, architecture, checkpoint)
        resumed = Fitted(train, architecture, checkpoint)

        assert resumed.rows == whole.rows
        assert resumed.progress[0] == ((stop - 1) // 4 + 1, 3 - (stop - 1) % 4, (stop - 1) % 4 + 1)
        for name, value in whole.kept.items():
            assert torch.equal(resumed.kept[name], value), (stop, name)
        for name, value in whole.model.state_dict().items():
            assert torch.equal(resumed.model.state_dict()[name], value), (stop, name)


def test_stopped_again_and_again_it_resumes_to_the_same_bits() -> None:
    train = sections.changed(SETTINGS, momentum=0.9, shards=2, augment={"shift": 1})
    whole = Fitted(train)
    checkpoint = Memory()
    stops = 0
    while True:
        checkpoint.stop_after = checkpoint.savings + 3
        try:
            resumed = Fitted(train, checkpoint=checkpoint)
            break
        except StoppedError:
            stops += 1

    assert stops == 5  # of 16 steps
    assert resumed.rows == whole.rows
    for name, value in whole.kept.items():
        assert torch.equal(resumed.kept[name], value)


@pytest.mark.gpu
def test_a_training_on_a_gpu_resumes_to_the_same_bits() -> None:
    def fit(checkpoint: Memory | None) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(5)
        images = torch.randint(0, 256, (100, 6, 5, 1), generator=generator).byte().cuda()
        labels = torch.randint(0, 2, (100,), generator=generator).cuda()
        architecture = sections.model("cnn", cnn={"channels": [[3], [4]], "dropout": 0.3})
        model = architectures.build(architecture, (6, 5, 1), 2).cuda()
        settings = sections.train(
            epochs=2, batch_size=25, optimizer="adamw", augment={"shift": 1, "flip": True}
        )
        return Training(model, settings).fit(
            images,
            labels,
            torch.arange(80).cuda(),
            torch.arange(80, 100).cuda(),
            report=lambda row: None,
            progress=lambda epoch, steps, taken: steps,
            checkpoint=checkpoint,
        )

    whole = fit(None)
    checkpoint = Memory(stop_after=6)
    with pytest.raises(StoppedError):
        fit(checkpoint)
    for name, value in fit(checkpoint).items():
        assert torch.equal(value, whole[name])


def test_a_loss_that_is_not_finite_is_named_with_its_epoch_step_and_rate() -> None:
    losses = torch.tensor([2.0, math.nan, math.inf])
    with pytest.raises(TrainingError, match="the training diverged") as caught:
        loop.check_finite(3, 0.5, losses, math.nan)
    assert "found:    nan" in str(caught.value)
    assert "epoch 3, step 2 of 3, train.lr = 0.5" in str(caught.value)


def test_weights_ruined_by_the_last_step_are_noticed_by_the_measurement_after_it() -> None:
    losses = torch.tensor([2.0, 1.0])
    with pytest.raises(TrainingError, match="epoch 1, step 2 of 2"):
        loop.check_finite(1, 0.5, losses, 1.0, math.inf)
    loop.check_finite(1, 0.5, losses, 1.0)


def test_a_diverging_fit_ends_with_the_step_at_which_it_did() -> None:
    with pytest.raises(TrainingError, match=r"epoch 1, step \d of 4, train\.lr = 1e\+38"):
        Fitted(sections.changed(SETTINGS, lr=1e38))


def test_the_same_fit_with_more_workers_gives_the_same_bits() -> None:
    settings = sections.changed(SETTINGS, shards=4, momentum=0.9)
    architecture = sections.model("cnn", cnn={"channels": [[3], [4]], "dropout": 0.3})
    single = Fitted(settings, architecture)
    for count in (2, 4):
        together = Fitted(settings, architecture, workers=Workers(count))
        assert together.rows == single.rows
        for name, value in single.kept.items():
            assert torch.equal(together.kept[name], value)


@pytest.mark.parametrize("pixels", [4, 5])  # two poolings leave a map of 1 x 1, or of 2 x 2
@pytest.mark.parametrize(
    ("count", "batch_size", "shards"),
    [(9, 4, 1), (10, 4, 1), (8, 4, 1), (1, 4, 1), (9, 1, 1), (11, 4, 2), (12, 4, 2), (12, 4, 4),
     (13, 5, 3), (14, 7, 3), (3, 100, 2)],
)  # fmt: skip
def test_batches_are_refused_if_and_only_if_torch_cannot_normalize_one_of_them(
    pixels: int, count: int, batch_size: int, shards: int
) -> None:
    settings = sections.train(batch_size=batch_size, shards=shards, epochs=1)
    model = architectures.build(
        sections.model("cnn", cnn={"channels": [[2], [2], [2]]}), (pixels, pixels, 1), 3
    )
    before = copy.deepcopy(model.state_dict())
    images = torch.randint(0, 256, (count, pixels, pixels, 1), dtype=torch.uint8)
    indices, labels = torch.arange(count), torch.zeros(count, dtype=torch.int64)

    refused = ""
    try:
        loop.check_batches(model, images, indices, settings)
    except ParamsError as error:
        refused = str(error)

    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training
    by_torch = ""
    try:
        Training(model, settings).fit(
            images, labels, indices, indices,
            report=lambda _: None, progress=lambda _, steps, taken: steps,
        )  # fmt: skip
    except ValueError as error:
        by_torch = str(error)
    assert bool(refused) == by_torch.startswith("Expected more than 1 value per channel")
    if refused:
        counted = "1 image" if count == 1 else f"{count} images"
        assert f"1, of {counted} with train.batch_size: {batch_size}" in refused
