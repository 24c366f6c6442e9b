"""What a comparison says: the order, the numbers and the verdict, on invented results."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import vl_convert

from tools.compare import charts, rendering
from tools.experiments.grid import Experiment
from tools.experiments.ranking import Comparison, compare
from tools.experiments.store import Divergence, Result

IMAGES = 2000
CALL = "python -m tools.compare train.lr=0.1,0.2 --seeds 2"


def experiment(lr: float, seed: int) -> Experiment:
    return Experiment(
        f"lr-{lr}-seed-{seed}", f"lr-{lr}", {"train.lr": lr}, seed, "portable", 1, "cpu", b""
    )


def result(lr: float, seed: int, wrong: range, *, loss: float, first_image: int = 0) -> Result:
    """A run that predicts the images in `wrong` wrong."""
    labels = np.arange(IMAGES) % 10
    predictions = pd.DataFrame({"index": np.arange(IMAGES) + first_image, "label": labels})
    predictions["prediction"] = labels
    predictions.loc[list(wrong), "prediction"] = 99
    history = pd.DataFrame(
        {"epoch": [0, 1, 2], "val_loss": [2.3, loss, loss], "val_accuracy": [0.1, 0.5, lr]}
    )
    accuracy = 1 - len(wrong) / IMAGES
    return Result(experiment(lr, seed), loss, accuracy, history, predictions)


def comparison(*found: Result | Divergence) -> Comparison:
    return compare([each.experiment for each in found], found)


BEST = (result(0.1, 1, range(100), loss=0.3), result(0.1, 2, range(104), loss=0.302))
LEVEL = (result(0.2, 1, range(101), loss=0.31), result(0.2, 2, range(105), loss=0.31))
WORSE = (result(1.0, 1, range(300), loss=0.9), result(1.0, 2, range(310), loss=0.8))
DIVERGED = (
    Divergence(experiment(9.0, 1), "error: it diverged\n  where:    epoch 1, step 3 of 4"),
    result(9.0, 2, range(1), loss=0.1),
)


def test_recipes_are_sorted_by_accuracy_and_incomplete_ones_come_last() -> None:
    ranked = comparison(*DIVERGED, *WORSE, *LEVEL, *BEST)
    assert [recipe.name for recipe in ranked.recipes] == ["lr-0.1", "lr-0.2", "lr-1.0", "lr-9.0"]
    assert ranked.best is ranked.recipes[0]
    assert [recipe.name for recipe in ranked.undecided] == ["lr-0.2"]


def test_the_table_gives_mean_and_standard_deviation_of_a_sample() -> None:
    ranked = comparison(*WORSE, *DIVERGED, *BEST)
    rows = [rendering.row(ranked, recipe) for recipe in ranked.recipes]
    # Accuracies 0.95 and 0.948: their mean is 0.949, their deviation 0.002 / sqrt(2).
    assert rows[0] == ["0.1", "0.9490 ± 0.0014", "0.3010 ± 0.0014", "best", "–"]
    assert rows[1][1:4] == ["0.8475 ± 0.0035", "0.8500 ± 0.0707", "0.1015"]
    assert rows[2] == ["9", "0.9995", "0.1000", "1 diverged", "–"]


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (BEST, "Best on validation: train.lr 0.1."),
        ((*BEST, *WORSE), "It beats every other beyond noise."),
        (
            (*BEST, *LEVEL),
            # An image more is wrong in each seed, another in each: the mean is one deviation,
            # for which a table of the paired t-test gives 10 (0.05, power 0.8).
            "train.lr 0.1. 2 seeds cannot tell it from train.lr 0.2 (about 10 could).",
        ),
        (
            (*BEST, *WORSE, *LEVEL),
            "2 seeds cannot tell it from train.lr 0.2 (about 14 could). "
            "It beats every other beyond noise.",
        ),
        (DIVERGED, "No recipe finished with every seed, so none is called the best."),
    ],
)
def test_the_verdict_says_what_the_best_beats(
    found: tuple[Result | Divergence, ...], verdict: str
) -> None:
    assert rendering.verdict(comparison(*found)).endswith(verdict)


def test_recipes_validated_on_different_images_are_not_tested() -> None:
    elsewhere = [result(0.2, seed, range(500), loss=1, first_image=7) for seed in (1, 2)]
    ranked = comparison(*BEST, *elsewhere)
    assert "validated on different images" in rendering.verdict(ranked)
    assert rendering.row(ranked, ranked.recipes[1])[3:] == ["–", "–"]


def test_recipes_of_two_data_sets_are_not_tested() -> None:
    other = result(0.2, 1, range(101), loss=0.31)
    other.predictions["label"] = (
        other.predictions["label"] + 1
    ) % 10  # of images at the same positions
    assert comparison(BEST[0], other).caveat.startswith("Nothing is tested: ")
    assert comparison(BEST[0], LEVEL[0]).caveat == ""


def test_one_seed_is_said_to_tell_nothing_of_recipes_wherever_the_best_is_named() -> None:
    ranked = comparison(BEST[0], LEVEL[0], WORSE[0])
    said = (
        "Best on validation: train.lr 0.1. Its model beats 1 of the other 2 beyond the noise of "
        "the images. One seed says nothing about the recipes, because another may differ as "
        "much: --seeds 3 compares them."
    )
    assert rendering.verdict(ranked) == said
    assert rendering.text(ranked).endswith(said)
    assert rendering.markdown(ranked, CALL).startswith(said)
    assert said in rendering.page(ranked, CALL)
    assert (
        "One run, of train.seed 1, on 2,000 validation images. p: paired t-test over"
        in rendering.method(ranked)
    )
    assert rendering.row(ranked, ranked.recipes[0])[1] == "0.9500"


# Two seeds of the rates 0.1, 1 and 100000 on MNIST, as they were: with 100000 the loss is in
# the ten thousands, and one seed is far better than the other.
ABSURD = (
    result(0.1, 1, range(180), loss=0.327),
    result(0.1, 2, range(181), loss=0.3272),
    result(1.0, 1, range(174), loss=0.3143),
    result(1.0, 2, range(182), loss=0.33),
    result(1e5, 1, range(400), loss=37000),
    result(1e5, 2, range(256), loss=71612.25),
)


def test_what_two_seeds_cannot_tell_is_said_with_how_many_could() -> None:
    ranked = comparison(*ABSURD)
    verdict = rendering.verdict(ranked)
    assert verdict.startswith("Best on validation: train.lr 1. 2 seeds cannot tell it from ")
    (seeds,) = re.findall(r"train\.lr 100000 \(about (\d+) could\)", verdict)
    # The differences are 226 and 74 images of 2,000: their mean is 1.4 of their deviations.
    # By a paired t-test at 0.05 / 3, with a power of 0.8: see test_recipe_comparison.py.
    assert int(seeds) == 9
    assert verdict.endswith(
        " Unstable: train.lr 100000, whose seeds disagree at least 7 times as much as those of "
        "the others."
    )
    row = rendering.row(ranked, ranked.recipes[2])
    assert row[:3] == ["100000", "0.8360 ± 0.0509", "54,306 ± 24,475"]
    assert row[4].endswith(" (9 seeds)")


def test_a_loss_far_above_the_others_does_not_hide_them() -> None:
    chart = charts.specs(comparison(*ABSURD))["loss"]
    line, rule, ticks, dots, beyond = chart["layer"]
    low, high = ticks["encoding"]["y"]["scale"]["domain"]
    # The lowest loss is 0.3143, the highest that is shown 0.33, with a margin of 4 %.
    assert (low, high) == (pytest.approx(0.3137, abs=1e-4), pytest.approx(0.3306, abs=1e-4))
    assert chart["title"]["subtitle"] == "truncated above 0.33"
    assert {tick["loss"] for tick in ticks["data"]["values"]} == {0.327, 0.3272, 0.3143, 0.33}
    assert len(dots["data"]["values"]) == 2
    assert all(low <= bar["low"] <= bar["high"] <= high for bar in rule["data"]["values"])
    assert [(each["seed"], each["loss"]) for each in beyond["data"]["values"]] == [
        (1, 37000),
        (2, 71612.25),
    ]
    assert beyond["encoding"]["y"] == {"value": 0}  # at the upper edge
    assert max(each["line"] for each in line["data"]["values"]) < 3
    assert "Triangle at an edge" in rendering.page(comparison(*ABSURD), CALL)
    assert "Triangle at an edge" not in rendering.page(comparison(*BEST, *WORSE), CALL)


@pytest.mark.parametrize(
    ("measure", "values", "note"),
    [
        (charts.LOSS, [0.3, 2.9], ""),
        (charts.LOSS, [0.03, 0.3, 2.9], "logarithmic"),
        (charts.LOSS, [0.03, 0.3, 3.1], "logarithmic, truncated above 0.33"),
        (charts.LOSS, [0.03, 54306.0], "truncated above 0.031"),
        (charts.LOSS, [0.0, 0.3], "truncated above 0"),
        (charts.ACCURACY, [0.1, 0.9], ""),
        (charts.ACCURACY, [0.1, 0.94, 0.95], "truncated below 0.94"),
        (charts.ACCURACY, [0.88, 0.9, 0.999], "truncated below 0.9"),
    ],
)
def test_an_axis_says_if_it_is_logarithmic_or_leaves_something_out(
    measure: charts.Measure, values: list[float], note: str
) -> None:
    assert charts.measure_axis(values, measure).note == note


def test_learning_rates_stand_on_a_logarithmic_axis_and_what_diverged_on_the_line() -> None:
    chart = charts.specs(comparison(*BEST, *WORSE, *DIVERGED))["accuracy"]
    crosses = chart["layer"][-1]
    assert crosses["encoding"]["x"]["scale"]["type"] == "log"
    assert crosses["encoding"]["y"] == {"value": chart["height"]}
    assert crosses["data"]["values"] == [
        {"recipe": "9", "at": 9.0, "others": "", "seed": 1, "what": "epoch 1, step 3 of 4"}
    ]
    runs = chart["layer"][2]["data"]["values"]
    assert [(run["at"], run["seed"], run["accuracy"]) for run in runs[:2]] == [
        (0.1, 1, 0.95),
        (0.1, 2, 0.948),
    ]


def test_values_within_a_factor_of_ten_and_names_have_no_logarithmic_axis() -> None:
    near = charts.specs(comparison(*BEST, *LEVEL))["loss"]["layer"][0]["encoding"]["x"]
    assert near["type"] == "quantitative"
    assert "type" not in near["scale"]
    named = [
        Result(
            Experiment(n, n, {"train.keep": n}, 1, "portable", 1, "cpu", b""),
            1,
            1,
            one.history,
            one.predictions,
        )
        for n, one in zip(("last", "best"), BEST, strict=True)
    ]
    assert charts.specs(comparison(*named))["loss"]["layer"][0]["encoding"]["x"]["type"] == (
        "ordinal"
    )


def test_values_are_written_on_the_axis_as_they_are() -> None:
    runs = [result(lr, 1, range(100), loss=0.3) for lr in (10.0, 25.0, 50.0)]
    spec = charts.specs(comparison(*runs))["accuracy"] | {"width": 300}
    drawn = vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    assert re.findall(r">(\d+)</text>", drawn)[:3] == ["10", "25", "50"]


def test_the_curves_are_means_over_the_seeds_from_the_first_epoch_on() -> None:
    chart = charts.specs(comparison(*BEST, *WORSE))["loss-curves"]
    values = chart["layer"][0]["data"]["values"]
    assert [(each["recipe"], each["epoch"]) for each in values] == [
        ("0.1", 1), ("0.1", 2), ("1", 1), ("1", 2),
    ]  # fmt: skip
    assert values[0]["loss"] == pytest.approx(0.301)
    assert values[2]["loss"] == pytest.approx(0.85)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_vega_draws_every_chart_with_every_number_on_hover(theme: str) -> None:
    specs = charts.specs(comparison(*BEST, *WORSE, *DIVERGED))
    slow = (result(0.001, 1, range(900), loss=9), result(0.001, 2, range(900), loss=9))
    cut = charts.specs(comparison(*ABSURD, *slow, *DIVERGED))
    for spec in [*specs.values(), *cut.values()]:
        drawn = vl_convert.vegalite_to_svg(
            spec | {"width": 300, "config": charts.config(theme)}, vl_version="6.4"
        )
        assert drawn.startswith("<svg")
        assert "NaN" not in drawn
        for layer in spec["layer"]:
            if layer["mark"]["type"] in ("point", "tick") or "point" in layer["mark"]:
                assert {tip["field"] for tip in layer["encoding"]["tooltip"]} >= {"recipe"}


def test_the_page_holds_its_numbers_as_text_that_cannot_end_a_script() -> None:
    ranked = comparison(*BEST, *WORSE, *DIVERGED)
    page = rendering.page(ranked, CALL + " </script>")
    (facts,) = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', page)
    assert set(json.loads(facts)) == {"specs", "config"}
    assert page.count("</script>") == 2
    assert "tools.compare train.lr=0.1,0.2 --seeds 2 &lt;/script&gt;" in page
    assert "0.9490" in page
    assert "prefers-color-scheme: dark" in page


def test_the_same_results_give_the_same_bytes() -> None:
    for write in (rendering.page, rendering.markdown):
        assert write(comparison(*BEST, *WORSE), CALL) == write(comparison(*BEST, *WORSE), CALL)
    assert rendering.picture(comparison(*BEST)) == rendering.picture(comparison(*BEST))


def test_the_markdown_is_a_table_with_numbers_to_the_right() -> None:
    lines = rendering.markdown(comparison(*BEST, *WORSE), CALL).splitlines()
    assert lines[2] == "| train.lr | val accuracy | val loss | behind | p |"
    assert lines[3] == "|---|--:|--:|--:|--:|"
    assert lines[5].startswith("| 1 | 0.8475 ± 0.0035 |")
    assert lines[-1] == f"    {CALL}"
