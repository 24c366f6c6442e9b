"""Draws a comparison: Vega-Lite specifications for the page and the picture.

Colours go from dark to light in the order of the recipes (viridis, which colour-blind
readers can tell apart), and every mark shows its numbers in a tooltip. An axis shows the
runs worth reading: one run that is far worse than the others would press these into a line.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from tools.experiments.grid import written
from tools.experiments.ranking import Comparison, Recipe, curves, mean_and_deviation

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
HEIGHT = 280  # pixels

# The axis ends at this many times the lowest loss, or the lowest error (1 - accuracy).
MOST_LOSS = 100
MOST_ERROR = 10
LEAST_ERROR = 0.01  # a lower one counts as this: between 0.99 and 1, any axis can be read
DECADE = 10  # an axis whose values span this factor is logarithmic
FAR = 100  # times the length of the axis
MARGIN = 0.04  # beyond the outermost values, as a share of the axis

# Colours on a light and a dark background. Viridis loses the end that would be invisible.
THEMES: dict[str, Spec] = {
    "light": {
        "ink": "#1c1917", "faint": "#57534e", "line": "#d6d3d1", "alarm": "#c2410c",
        "extent": [0.0, 0.88],
    },
    "dark": {
        "ink": "#f5f5f4", "faint": "#b3ada8", "line": "#44403c", "alarm": "#fb923c",
        "extent": [0.25, 1.0],
    },
}  # fmt: skip


# A cross of two strokes, in the units of Vega's symbols.
CROSS = "M-0.5,-0.5L0.5,0.5M-0.5,0.5L0.5,-0.5"


class Measure(NamedTuple):
    """A measure of a chart: its name in the results, the title, and its form in a tooltip."""

    name: str
    title: str
    form: str


ACCURACY = Measure("accuracy", "Validation accuracy", ".4f")
LOSS = Measure("loss", "Validation loss (nats)", ".5~g")


class Axis(NamedTuple):
    """The vertical axis of a chart."""

    low: float
    high: float
    logarithmic: bool
    cut: str  # "above", "below", or empty if it shows all values

    @property
    def note(self) -> str:
        """What a reader has to know of it."""
        end = {"above": self.high, "below": self.low}.get(self.cut, 0.0)
        parts = ["logarithmic"] if self.logarithmic else []
        parts += [f"truncated {self.cut} {end:.2g}"] if self.cut else []
        return ", ".join(parts)

    @property
    def spec(self) -> Spec:
        """The axis and its scale. Vega chooses the ends of one that is neither."""
        scale: Spec = {"zero": False}
        if self.note:
            scale = {"type": "log"} if self.logarithmic else {"zero": False}
            scale |= {"domain": [self.low, self.high], "nice": False}
        return {
            "type": "quantitative",
            "title": None,
            "scale": scale,
            "axis": {"tickCount": 6},
        }

    def shows(self, value: float) -> bool:
        """Whether a value lies on it."""
        return self.low <= value <= self.high

    def clipped(self, value: float) -> float:
        """The nearest value that lies on it."""
        return min(max(value, self.low), self.high)

    def near(self, value: float) -> float:
        """Where a line goes to reach a value: not so far beyond the axis as to break its dashes."""
        if self.logarithmic:
            return min(value, self.high**FAR / self.low ** (FAR - 1))
        reach = FAR * (self.high - self.low)
        return min(max(value, self.low - reach), self.high + reach)


def measure_axis(values: Sequence[float], measure: Measure) -> Axis:
    """Choose an axis for the values worth reading.

    Args:
        values: of the measure, at least one.
        measure: accuracies or losses.
    """
    if measure is ACCURACY:
        least = 1 - MOST_ERROR * max(1 - max(values), LEAST_ERROR)
        kept = [value for value in values if value >= least]
    else:
        kept = [value for value in values if value <= MOST_LOSS * min(values)] or list(values)
    cut = "" if len(kept) == len(values) else "below" if measure is ACCURACY else "above"
    low, high = min(kept), max(kept)
    if measure is LOSS and low > 0 and high >= DECADE * low:
        margin = (high / low) ** MARGIN
        return Axis(low / margin, high * margin, True, cut)
    pad = MARGIN * ((high - low) or high)
    return Axis(low - pad, high + pad, False, cut)


def specs(comparison: Comparison) -> dict[str, Spec]:
    """Draw the four charts of a comparison, by name."""
    return {
        "accuracy": by_parameter(comparison, ACCURACY),
        "loss": by_parameter(comparison, LOSS),
        "accuracy-curves": learning_curves(comparison, ACCURACY),
        "loss-curves": learning_curves(comparison, LOSS),
    }


def config(theme: str) -> Spec:
    """Return the style of the charts on a light or dark background."""
    chosen = THEMES[theme]
    return {
        "background": "transparent",
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {
            "labelColor": chosen["faint"],
            "titleColor": chosen["ink"],
            "titleFontWeight": "normal",
            "gridColor": chosen["line"],
            "gridOpacity": 0.6,
            "domainColor": chosen["line"],
            "tickColor": chosen["line"],
            "labelFontSize": 12,
            "titleFontSize": 13,
        },
        "legend": {
            "labelColor": chosen["ink"],
            "titleColor": chosen["faint"],
            "titleFontWeight": "normal",
            "labelFontSize": 12,
            "titleFontSize": 12,
        },
        "title": {
            "color": chosen["ink"],
            "fontSize": 15,
            "anchor": "start",
            "offset": 12,
            "subtitleColor": chosen["faint"],
            "subtitleFontSize": 12,
        },
        "range": {"ordinal": {"scheme": "viridis", "extent": chosen["extent"]}},
        # Marks without the colour of a recipe: the line that joins the means, and
        # the crosses of diverged runs.
        "line": {"color": chosen["faint"]},
        "point": {"color": chosen["alarm"]},
    }


def by_parameter(comparison: Comparison, measure: Measure) -> Spec:
    """Draw one measure against the parameter that varies: every run, mean and deviation."""
    parameter = _axis_parameter(comparison)
    finished = [recipe for recipe in _in_order(comparison) if recipe.results]
    runs = [
        _named(recipe, parameter)
        | {"seed": result.experiment.seed, measure.name: getattr(result, measure.name)}
        for recipe in finished
        for result in recipe.results
    ]
    axis = measure_axis([run[measure.name] for run in runs], measure)
    means = []
    for recipe in finished:
        values = recipe.accuracies if measure is ACCURACY else recipe.losses
        mean, deviation = mean_and_deviation(values)
        spread = deviation or 0.0
        means.append(
            _named(recipe, parameter)
            | {"mean": mean, "deviation": deviation, "runs": len(values), "line": axis.near(mean)}
            | {"low": axis.clipped(mean - spread), "high": axis.clipped(mean + spread)}
        )
    shown = [run for run in runs if axis.shows(run[measure.name])]
    beyond = [run for run in runs if not axis.shows(run[measure.name])]
    diverged = [
        _named(recipe, parameter) | {"seed": each.experiment.seed, "what": _where(each.message)}
        for recipe in _in_order(comparison)
        for each in recipe.divergences
    ]

    x = _parameter_axis(comparison, parameter)
    y = axis.spec
    colour = _colour(comparison, legend=False)
    tooltip = [{"field": "recipe"}]
    layers: list[Spec] = [
        {
            "data": {"values": means},
            "mark": {"type": "line", "strokeWidth": 1, "strokeDash": [3, 3], "clip": True},
            "encoding": {
                "x": x,
                "y": {"field": "line", **y},
                "detail": {"field": "others"},
                "order": {"field": "at", "type": "quantitative"},
            },
        },
        {
            "data": {"values": means},
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}, **colour},
        },
        {
            "data": {"values": shown},
            "mark": {"type": "tick", "orient": "horizontal", "size": 14, "thickness": 1.5},
            "encoding": {
                "x": x,
                "y": {"field": measure.name, **y},
                **colour,
                "tooltip": [*tooltip, {"field": "seed"}, _number(measure, measure.name)],
            },
        },
        {
            "data": {"values": [each for each in means if axis.shows(each["mean"])]},
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {
                "x": x,
                "y": {"field": "mean", **y},
                **colour,
                "tooltip": [
                    *tooltip,
                    {"field": "runs"},
                    _number(measure, "mean"),
                    _number(measure, "deviation", "standard deviation"),
                ],
            },
        },
    ]
    if beyond:
        above = axis.cut == "above"
        layers.append(
            {
                "data": {"values": beyond},
                "mark": {
                    "type": "point",
                    "shape": "triangle-up" if above else "triangle-down",
                    "filled": True,
                    "size": 110,
                    "opacity": 1,
                },
                "encoding": {
                    "x": x,
                    "y": {"value": 0 if above else HEIGHT},
                    **colour,
                    "tooltip": [*tooltip, {"field": "seed"}, _number(measure, measure.name)],
                },
            }
        )
    if diverged:
        layers.append(
            {
                "data": {"values": diverged},
                "mark": {
                    "type": "point",
                    "shape": CROSS,
                    "size": 200,
                    "strokeWidth": 3,
                    "opacity": 1,
                },
                "encoding": {
                    "x": x,
                    "y": {"value": HEIGHT},
                    "tooltip": [
                        *tooltip,
                        {"field": "seed"},
                        {"field": "what", "title": "diverged"},
                    ],
                },
            }
        )
    return _chart(measure, axis, layers)


def learning_curves(comparison: Comparison, measure: Measure) -> Spec:
    """Draw one measure against the epoch: a line for each recipe, the mean over its seeds.

    From epoch 1, because the values of epoch 0 would compress all others into one line.
    """
    values = [
        {"recipe": _label(recipe), "epoch": row["epoch"], measure.name: row[f"val_{measure.name}"]}
        for recipe in _in_order(comparison)
        if recipe.results
        for row in curves(recipe).to_dict("records")
        if row["epoch"] > 0
    ]
    axis = measure_axis([value[measure.name] for value in values], measure)
    for value in values:
        value["line"] = axis.near(value[measure.name])
    chosen = {"condition": {"param": "chosen", "value": 1}, "value": 0.12}
    layer = {
        "data": {"values": values},
        "params": [
            {
                "name": "chosen",
                "select": {"type": "point", "fields": ["recipe"]},
                "bind": "legend",
            }
        ],
        "mark": {
            "type": "line",
            "strokeWidth": 2,
            "point": {"filled": True, "size": 45},
            "clip": bool(axis.cut),  # it would cut the outermost points in half
        },
        "encoding": {
            "x": {
                "field": "epoch",
                "type": "quantitative",
                "axis": {"tickMinStep": 1, "format": "d", "grid": False},
            },
            "y": {"field": "line", **axis.spec},
            **_colour(comparison, legend=True),
            "opacity": chosen,
            "tooltip": [{"field": "recipe"}, {"field": "epoch"}, _number(measure, measure.name)],
        },
    }
    return _chart(measure, axis, [layer])


def side_by_side(charts: dict[str, Spec], *, width: int) -> Spec:
    """Put the charts into one specification of a fixed size, two in a row."""
    sized = [
        {key: value for key, value in spec.items() if key not in ("$schema", "autosize")}
        | {"width": width}
        for spec in charts.values()
    ]
    return {
        "$schema": SCHEMA,
        "vconcat": [{"hconcat": sized[:2]}, {"hconcat": sized[2:]}],
        "spacing": 32,
        "resolve": {"legend": {"color": "independent"}},
    }


def _chart(measure: Measure, axis: Axis, layers: list[Spec]) -> Spec:
    title: Spec = {"text": measure.title}
    return {
        "$schema": SCHEMA,
        "title": title | ({"subtitle": axis.note} if axis.note else {}),
        "width": "container",
        "height": HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": layers,
    }


def _number(measure: Measure, field: str, title: str = "") -> Spec:
    form = {"type": "quantitative", "format": measure.form}
    return {"field": field, "title": title or field, **form}


def _colour(comparison: Comparison, *, legend: bool) -> Spec:
    names = [_label(recipe) for recipe in _in_order(comparison) if recipe.results]
    encoding: Spec = {
        "field": "recipe",
        "type": "ordinal",
        "sort": None,
        "scale": {"domain": names},
        "legend": None,
    }
    if legend:
        encoding["legend"] = {
            "title": " ".join(_short(comparison)) or None,
            "orient": "bottom",
            "columns": 4,
            "symbolType": "circle",
            "symbolOpacity": 1,
        }
    return {"color": encoding}


def _axis_parameter(comparison: Comparison) -> str:
    """Return the parameter of the horizontal axis: the first that varies."""
    for parameter in comparison.parameters:
        if len({repr(recipe.settings[parameter]) for recipe in comparison.recipes}) > 1:
            return parameter
    return comparison.parameters[0] if comparison.parameters else ""


def _parameter_axis(comparison: Comparison, parameter: str) -> Spec:
    """Choose the scale of a parameter: logarithmic where its values span a factor of ten."""
    values = [recipe.settings[parameter] for recipe in comparison.recipes] if parameter else []
    axis: Spec = {"field": "at", "title": parameter or None}
    numbers = [value for value in values if _is_number(value)]
    if not values or len(numbers) < len(values):
        return axis | {"type": "ordinal", "sort": None, "axis": {"labelAngle": 0}}
    different = sorted(set(numbers))
    axis["type"] = "quantitative"
    axis["axis"] = {
        "values": different,
        "grid": False,
        "labelOverlap": True,
        "labelExpr": "'' + datum.value",  # unrounded
    }
    if different[0] > 0 and different[-1] >= 10 * different[0]:
        # Space beside the outermost points, and no ticks between the values.
        low, high = different[0] / 1.5, different[-1] * 1.5
        axis["scale"] = {"type": "log", "domain": [low, high], "nice": False}
    else:
        axis["scale"] = {"zero": False, "padding": 16}
    return axis


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(recipe: Recipe, parameter: str) -> Spec:
    """Fields of every mark of a recipe: its name, its position, and its other parameters."""
    at = recipe.settings[parameter] if parameter else recipe.name
    others = {key: value for key, value in recipe.settings.items() if key != parameter}
    return {
        "recipe": _label(recipe),
        "at": at if _is_number(at) else written(at),
        "others": " ".join(f"{key}={written(value)}" for key, value in others.items()),
    }


def _label(recipe: Recipe) -> str:
    return " ".join(written(value) for value in recipe.settings.values()) or recipe.name


def _short(comparison: Comparison) -> list[str]:
    return [parameter.rpartition(".")[2] for parameter in comparison.parameters]


def _in_order(comparison: Comparison) -> list[Recipe]:
    """Return the recipes by their settings, numbers by size, and not by rank."""

    def key(recipe: Recipe) -> list[tuple[float, str]]:
        return [
            (float(value), "") if _is_number(value) else (math.inf, written(value))
            for value in recipe.settings.values()
        ]

    return sorted(comparison.recipes, key=key)


def _where(message: str) -> str:
    """Find in what a diverged training said where it did."""
    for line in message.splitlines():
        label, _, text = line.strip().partition(":")
        if label == "where":
            return text.strip()
    return message.splitlines()[0]
