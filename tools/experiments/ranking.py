"""Ranks recipes by the results of their experiments on the validation images.

A recipe is a choice of parameters; its experiments differ only in the seed. Recipes are
chosen by validation: nothing here reads the test set.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from core.pipeline import wording
from core.statistics import recipe_comparison
from core.statistics.paired_tests import LEVEL
from core.statistics.recipe_comparison import Correct, Difference
from tools.experiments.grid import Experiment
from tools.experiments.store import Divergence, Result


@dataclass(frozen=True)
class Recipe:
    """The results of the experiments of a recipe.

    Args:
        name: of the recipe, `lr-0.1`.
        settings: the value of each parameter that was set.
        seeds: how many experiments were planned.
        results: of those that finished, by seed.
        divergences: of those that diverged.
        behind: the best recipe's accuracy minus this one's, and its p value
            among all; None if there is nothing to test.
        unstable: how many times as much its seeds disagree as those of the others; None
            where that is not by far.
    """

    name: str
    settings: dict[str, Any]
    seeds: int
    results: list[Result]
    divergences: list[Divergence]
    behind: Difference | None = None
    unstable: float | None = None

    @property
    def complete(self) -> bool:
        """Whether every experiment finished."""
        return len(self.results) == self.seeds

    @property
    def accuracies(self) -> list[float]:
        """On the validation images, one for each experiment."""
        return [result.accuracy for result in self.results]

    @property
    def losses(self) -> list[float]:
        """On the validation images in nats, one for each experiment."""
        return [result.loss for result in self.results]


@dataclass(frozen=True)
class Comparison:
    """Recipes, the best first, and how they were compared.

    Args:
        recipes: complete ones by accuracy, then the others.
        seeds: of the experiments, ascending.
        images: how many validation images there are.
        parameters: that were set, except the seed.
        caveat: why nothing was tested, if so.
    """

    recipes: list[Recipe]
    seeds: list[int]
    images: int
    parameters: list[str]
    caveat: str = ""

    @property
    def best(self) -> Recipe | None:
        """The recipe with the highest mean accuracy among the complete ones."""
        first = self.recipes[0]
        return first if first.complete else None

    @property
    def undecided(self) -> list[Recipe]:
        """The others that these seeds cannot tell from the best."""
        return [
            recipe
            for recipe in self.recipes[1:]
            if recipe.behind and recipe.behind.p_value >= LEVEL
        ]


def compare(planned: Sequence[Experiment], found: Iterable[Result | Divergence]) -> Comparison:
    """Group experiments into recipes and rank these.

    Args:
        planned: all experiments.
        found: those that finished and those that diverged, at least one finished.
    """
    by_name = {each.experiment.name: each for each in found}
    recipes = [
        _recipe(name, [each for each in planned if each.recipe == name], by_name)
        for name in dict.fromkeys(each.recipe for each in planned)
    ]
    recipes.sort(key=_rank)
    complete = [recipe for recipe in recipes if recipe.complete]
    everything = [result for recipe in recipes for result in recipe.results]
    caveat = _caveat(everything)
    if len(complete) > 1 and not caveat:
        correct = [_correct(recipe) for recipe in complete]
        tested = recipe_comparison.against_the_best(correct, best=0)
        several = len(complete[0].results) > 1
        unstable = recipe_comparison.unstable(correct) if several else [None] * len(complete)
        complete = [
            replace(recipe, behind=difference, unstable=ratio)
            for recipe, difference, ratio in zip(complete, tested, unstable, strict=True)
        ]
    return Comparison(
        [*complete, *(recipe for recipe in recipes if not recipe.complete)],
        seeds=sorted({each.seed for each in planned}),
        images=len(everything[0].predictions),
        caveat=caveat,
        parameters=list(planned[0].settings),
    )


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean, and the standard deviation of a sample if there are two values."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), deviation


def with_deviation(values: list[float]) -> str:
    """Write the mean of accuracies or losses, and their standard deviation if there are two."""
    return wording.measure(*mean_and_deviation(values))


def curves(recipe: Recipe) -> pd.DataFrame:
    """Average the learning curves of a recipe over its seeds, epoch by epoch."""
    histories = pd.concat([result.history for result in recipe.results])
    return histories.groupby("epoch", as_index=False).mean()


def _recipe(
    name: str, planned: Sequence[Experiment], found: dict[str, Result | Divergence]
) -> Recipe:
    ended = [found[each.name] for each in planned if each.name in found]
    return Recipe(
        name,
        planned[0].settings,
        len(planned),
        [each for each in ended if isinstance(each, Result)],
        [each for each in ended if isinstance(each, Divergence)],
    )


def _rank(recipe: Recipe) -> tuple[bool, float, float]:
    if not recipe.results:
        return True, 0.0, 0.0
    return (
        not recipe.complete,
        -statistics.fmean(recipe.accuracies),
        statistics.fmean(recipe.losses),
    )


def _caveat(results: Sequence[Result]) -> str:
    """Return why differences cannot be tested, or an empty text."""
    images = ["index", "label"]  # the same for the same data set and split
    first = results[0].predictions[images]
    if any(not result.predictions[images].equals(first) for result in results):
        return "Nothing is tested: the recipes were validated on different images."
    return ""


def _correct(recipe: Recipe) -> Correct:
    """Return which images each experiment predicts right: bool (seeds, images)."""
    return np.stack(
        [
            (result.predictions["prediction"] == result.predictions["label"]).to_numpy()
            for result in recipe.results
        ]
    )
