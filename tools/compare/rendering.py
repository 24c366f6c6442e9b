"""Writes a comparison as a page, as Markdown, as a picture, and for the terminal."""

import json
from pathlib import Path
from typing import Any

import vl_convert

from core.pipeline import wording
from core.report import pages
from core.statistics.paired_tests import LEVEL
from core.statistics.recipe_comparison import FAR, MOST_SEEDS
from tools.compare import charts
from tools.experiments.grid import written
from tools.experiments.ranking import Comparison, Recipe, with_deviation

TEMPLATE = Path("tools/compare/page.html.j2")
VEGA_LITE = "6.4"  # one of the versions in vl-convert
PICTURE_WIDTH = 400  # pixels of each chart
NAMED = 2  # how many recipes a sentence names

# Runs in the page after Vega has loaded: draws each chart, and again when the reader's
# system changes between dark and light.
DRAW = """
const facts = JSON.parse(document.getElementById("charts").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
function draw() {
  const theme = dark.matches ? "dark" : "light";
  const options = {config: facts.config[theme], actions: false, renderer: "svg", tooltip: {theme}};
  for (const [name, spec] of Object.entries(facts.specs)) {
    vegaEmbed("#chart-" + name, spec, options);
  }
}
dark.addEventListener("change", draw);
draw();
"""


def page(comparison: Comparison, command: str) -> str:
    """Write a page that contains its data, its charts and the program that draws them."""
    specs = charts.specs(comparison)
    facts = {
        "specs": specs,
        "config": {theme: charts.config(theme) for theme in charts.THEMES},
    }
    return pages.render(
        TEMPLATE.read_text(encoding="utf-8"),
        command=command,
        comparison=comparison,
        verdict=verdict(comparison),
        method=method(comparison),
        header=header(comparison),
        truncated="truncated" in f"{specs['accuracy']['title']} {specs['loss']['title']}",
        rows=[row(comparison, recipe) for recipe in comparison.recipes],
        # A < could end the script.
        facts=json.dumps(facts, allow_nan=False).replace("<", "\\u003c"),
        program=vl_convert.javascript_bundle(DRAW, vl_version=VEGA_LITE),
    )


def picture(comparison: Comparison) -> bytes:
    """Draw the charts as a PNG on a light background."""
    spec: dict[str, Any] = charts.side_by_side(charts.specs(comparison), width=PICTURE_WIDTH)
    spec["config"] = charts.config("light") | {"background": "white"}
    spec["padding"] = 16
    png: bytes = vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=2)
    return png


def markdown(comparison: Comparison, command: str) -> str:
    """Write the table and how to read it."""
    rows = [header(comparison), *(row(comparison, each) for each in comparison.recipes)]
    left = len(comparison.parameters) or 1
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    lines.insert(1, "|" + "|".join(["---"] * left + ["--:"] * (len(rows[0]) - left)) + "|")
    paragraphs = [verdict(comparison), "\n".join(lines), method(comparison), f"    {command}"]
    return "\n\n".join(paragraphs) + "\n"


def text(comparison: Comparison) -> str:
    """Write the table for a terminal."""
    rows = [header(comparison), *(row(comparison, each) for each in comparison.recipes)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
    table = "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    )
    return f"{table}\n\n{verdict(comparison)}"


def header(comparison: Comparison) -> list[str]:
    """Name the columns of the table."""
    names = comparison.parameters or ["recipe"]
    return [*names, "val accuracy", "val loss", "behind", "p"]


def row(comparison: Comparison, recipe: Recipe) -> list[str]:
    """Write the row of a recipe, a text for each column."""
    names = [written(value) for value in recipe.settings.values()] or [recipe.name]
    accuracy = loss = behind = p = "–"
    if recipe.results:
        accuracy = with_deviation(recipe.accuracies)
        loss = with_deviation(recipe.losses)
    if not recipe.complete:
        missing = recipe.seeds - len(recipe.results) - len(recipe.divergences)
        counts = {"diverged": len(recipe.divergences), "failed": missing}
        behind = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    elif recipe is comparison.best:
        behind = "best"
    elif recipe.behind:
        behind = f"{recipe.behind.mean:.4f}"
        p = f"{recipe.behind.p_value:.3f}" if recipe.behind.p_value >= 0.001 else "< 0.001"
        if recipe.behind.p_value >= LEVEL:
            needed = recipe.behind.seeds_needed
            p += f" ({needed:,} seeds)" if needed else " (noise)"
    return [*names, accuracy, loss, behind, p]


def verdict(comparison: Comparison) -> str:
    """Say in a few sentences which recipe is best, and how certain that is."""
    best = comparison.best
    if best is None:
        return "No recipe finished with every seed, so none is called the best."
    said = [f"Best on validation: {_said(best)}."]
    tested = [recipe for recipe in comparison.recipes if recipe.behind and recipe is not best]
    if comparison.caveat:
        said.append(comparison.caveat)
    elif tested and len(comparison.seeds) == 1:
        said.append(_of_one_seed(comparison, tested))
    elif tested:
        said += _of_seeds(comparison, tested)
    return " ".join(said)


def _of_one_seed(comparison: Comparison, tested: list[Recipe]) -> str:
    beaten = len(tested) - len(comparison.undecided)
    which = (
        "every other"
        if beaten == len(tested)
        else f"{beaten} of the other {len(tested)}"
        if beaten
        else "none of the others"
    )
    return (
        f"Its model beats {which} beyond the noise of the images. One seed says nothing about "
        "the recipes, because another may differ as much: --seeds 3 compares them."
    )


def _of_seeds(comparison: Comparison, tested: list[Recipe]) -> list[str]:
    said = []
    undecided = comparison.undecided
    seeds = f"{len(comparison.seeds)} seeds cannot tell it from"
    if len(undecided) > NAMED:
        said.append(f"{seeds} {len(undecided)} others; the table says how many seeds could.")
    elif undecided:
        said.append(f"{seeds} {' and '.join(map(_undecided, undecided))}.")
    if len(undecided) < len(tested):
        said.append("It beats every other beyond noise.")
    said += [
        f"Unstable: {_said(recipe)}, whose seeds disagree at least {int(recipe.unstable)} times "
        "as much as those of the others."
        for recipe in comparison.recipes
        if recipe.unstable
    ]
    return said


def _undecided(recipe: Recipe) -> str:
    needed = recipe.behind.seeds_needed if recipe.behind else None
    could = f"about {needed:,} could" if needed else f"{MOST_SEEDS:,} could not either"
    return f"{_said(recipe)} ({could})"


def method(comparison: Comparison) -> str:
    """Say what the numbers are and how they were tested."""
    seeds = ", ".join(str(seed) for seed in comparison.seeds)
    of_each = "Mean ± standard deviation over" if len(comparison.seeds) > 1 else "One run, of"
    said = (
        f"{of_each} train.seed {seeds}, on {wording.count(comparison.images, 'validation image')}."
    )
    if comparison.caveat:
        return f"{said} {comparison.caveat}"
    if len(comparison.seeds) == 1:
        return (
            f"{said} p: paired t-test over the images, corrected for all pairs (Holm). "
            f"Noise: p ≥ {LEVEL}."
        )
    return (
        f"{said} Behind: the best's accuracy minus this one's. p: the chance of such a difference "
        "if both were equally good, given how it varies from seed to seed and from image to image "
        "(paired over both: Dorfman, Berbaum and Metz, with the degrees of freedom of Hillis; "
        f"corrected for all pairs by Holm). Where p ≥ {LEVEL}: about how many seeds would find "
        "such a difference in four of five cases, if it and its noise stay as they were seen; "
        f"noise, where {MOST_SEEDS:,} would not. Unstable: the deviation between its seeds is "
        f"more than {FAR} times that of the others (median), and beyond chance (F test)."
    )


def _said(recipe: Recipe) -> str:
    settings = ", ".join(f"{key} {written(value)}" for key, value in recipe.settings.items())
    return settings or recipe.name
