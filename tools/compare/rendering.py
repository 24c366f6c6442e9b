"""Writes a comparison as a page, as Markdown, as a picture, and for the terminal."""

import json
from pathlib import Path
from typing import Any

import vl_convert

from core.report import pages
from tools.compare import charts
from tools.experiments.grid import written
from tools.experiments.ranking import LEVEL, Comparison, Recipe, with_deviation

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
    facts = {
        "specs": charts.specs(comparison),
        "config": {theme: charts.config(theme) for theme in charts.THEMES},
    }
    return pages.render(
        TEMPLATE.read_text(encoding="utf-8"),
        command=command,
        comparison=comparison,
        verdict=verdict(comparison),
        method=method(comparison),
        header=header(comparison),
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
            p += " (noise)"
    return [*names, accuracy, loss, behind, p]


def verdict(comparison: Comparison) -> str:
    """Say in one or two sentences which recipe is best, and how certain that is."""
    best = comparison.best
    if best is None:
        return "No recipe finished with every seed, so none is called the best."
    said = f"Best on validation: {_said(best)}."
    if comparison.caveat:
        return f"{said} {comparison.caveat}"
    level = comparison.level_with_best
    tested = [recipe for recipe in comparison.recipes if recipe.behind and recipe is not best]
    if not tested:
        return said
    if not level:
        return f"{said} It beats every other beyond noise."
    if len(level) == len(tested):
        return f"{said} It beats none of the others beyond noise."
    if len(level) > NAMED:
        return f"{said} It beats all but {len(level)} others beyond noise; the table marks them."
    names = " and ".join(_said(recipe) for recipe in level)
    return f"{said} It does not beat {names} beyond noise; it beats every other."


def method(comparison: Comparison) -> str:
    """Say what the numbers are and how they were tested."""
    seeds = ", ".join(str(seed) for seed in comparison.seeds)
    of_each = "Mean ± standard deviation over" if len(comparison.seeds) > 1 else "One run, of"
    said = f"{of_each} train.seed {seeds}, on {comparison.images:,} validation images."
    if comparison.caveat:
        return f"{said} {comparison.caveat}"
    if len(comparison.seeds) == 1:
        return (
            f"{said} p: paired t-test over the images, corrected for all pairs (Holm). One seed "
            "says nothing about how much a training varies: try --seeds 3."
        )
    return (
        f"{said} Behind: the best's accuracy minus this one's. p: the chance of such a difference "
        "if both were equally good, given how it varies from seed to seed and from image to image "
        "(paired over both: Dorfman, Berbaum and Metz, with the degrees of freedom of Hillis; "
        f"corrected for all pairs by Holm). Noise: p ≥ {LEVEL}."
    )


def _said(recipe: Recipe) -> str:
    settings = ", ".join(f"{key} {written(value)}" for key, value in recipe.settings.items())
    return settings or recipe.name
