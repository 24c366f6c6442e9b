"""How the learning rate changes over the steps of a training.

A schedule is a factor of `train.lr` for each step. The factors are rounded:
the cosines of two C libraries may differ in their last digit, and a rate that
differs in its last bit would change every weight.
"""

import math

DECIMALS = 9  # of a factor: coarser than the error of any C library, finer than matters

# L. N. Smith and N. Topin, "Super-Convergence", 2018; the shares are the
# defaults of torch.optim.lr_scheduler.OneCycleLR.
WARM_UP = 0.3  # share of the steps
WARM_UP_FROM = 1 / 25  # of the rate


def factor(schedule: str, step: int, steps: int) -> float:
    """Return what the learning rate is multiplied by at a step.

    Args:
        schedule: `constant`; `cosine`, from 1 down to 0; `one_cycle`, in a line
            from 1/25 up to 1, then by cosine down to 0.
        step: from 0 to `steps` - 1.
        steps: of the whole training.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return _cosine(step / steps)
    if step < WARM_UP * steps:
        return round(WARM_UP_FROM + (1 - WARM_UP_FROM) * step / (WARM_UP * steps), DECIMALS)
    return _cosine((step / steps - WARM_UP) / (1 - WARM_UP))


def _cosine(progress: float) -> float:
    """Half a period: 1 at 0, 1/2 at 1/2, 0 at 1."""
    return round((1 + math.cos(math.pi * progress)) / 2, DECIMALS)
