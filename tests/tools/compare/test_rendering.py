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
    assert [recipe.name for recipe in ranked.level_with_best] == ["lr-0.2"]


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
        ((*BEST, *LEVEL), "It beats none of the others beyond noise."),
        (
            (*BEST, *WORSE, *LEVEL),
            "It does not beat train.lr 0.2 beyond noise; it beats every other.",
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


def test_one_seed_is_said_to_tell_nothing_of_training() -> None:
    ranked = comparison(BEST[0], WORSE[0])
    assert (
        "One run, of train.seed 1, on 2,000 validation images. p: paired t-test over"
        in rendering.method(ranked)
    )
    assert rendering.row(ranked, ranked.recipes[0])[1] == "0.9500"


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
    for spec in charts.specs(comparison(*BEST, *WORSE, *DIVERGED)).values():
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
