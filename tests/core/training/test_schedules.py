"""The learning rate over a training, against torch.optim.lr_scheduler and by hand."""

import math
from typing import Any

import pytest
import torch

from core.training import schedules

STEPS = 200


def of_torch(scheduler: type[Any], **settings: Any) -> list[float]:
    """The factors that a scheduler of torch gives a rate of 1, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1)
    schedule = scheduler(optimizer, **settings)
    factors = []
    for _ in range(STEPS):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return factors


def ours(schedule: str, steps: int = STEPS) -> list[float]:
    return [schedules.factor(schedule, step, steps) for step in range(steps)]


def test_constant_is_1_all_the_way() -> None:
    assert ours("constant") == [1.0] * STEPS


def test_cosine_is_that_of_torch() -> None:
    expected = of_torch(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=STEPS)
    assert ours("cosine") == pytest.approx(expected, abs=1e-8)


def test_cosine_worked_out_by_hand() -> None:
    # cos 0, 45, 90, 135 degrees
    half = math.sqrt(0.5)
    expected = [1, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert ours("cosine", 4) == pytest.approx(expected, abs=1e-9)


def test_one_cycle_warms_up_in_a_line_worked_out_by_hand() -> None:
    # 30 % of 10 steps: from 1/25 in three equal strides of 8/25 up to 1.
    assert ours("one_cycle", 10)[:4] == [0.04, 0.36, 0.68, 1.0]


def test_one_cycle_comes_down_as_that_of_torch_a_step_later() -> None:
    # Torch reaches its peak a step before 30 % and its end with the last step;
    # ours would reach it with the step after, and wastes none on a rate of 0.
    theirs = of_torch(
        torch.optim.lr_scheduler.OneCycleLR,
        max_lr=1,
        total_steps=STEPS,
        pct_start=schedules.WARM_UP,
        final_div_factor=1e12,
        cycle_momentum=False,
    )
    peak = int(schedules.WARM_UP * STEPS)
    assert ours("one_cycle")[peak:] == pytest.approx(theirs[peak - 1 : -1], abs=1e-8)
    assert theirs[peak - 1] == 1


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 99, 100, 12345])
def test_a_rate_is_never_0_nor_above_that_of_params_yaml(schedule: str, steps: int) -> None:
    factors = ours(schedule, steps)
    assert min(factors) > 0
    assert max(factors) <= 1
    peak = factors.index(max(factors))
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_factors_have_nine_decimals_so_that_no_c_library_shows_in_them() -> None:
    for schedule in ("cosine", "one_cycle"):
        assert ours(schedule, 777) == [round(factor, 9) for factor in ours(schedule, 777)]
