"""Draws the charts of the test report: specifications of Vega-Lite, and from them SVG.

The SVG is part of the page: it needs no script, prints, and takes its colours from
the page's style, in light and dark mode. It must not depend on the fonts of the
machine that draws it: all positions are fixed, so no text is measured, and the
reader's browser renders the text.
"""

from collections.abc import Sequence
from typing import Any

from core.report.calibration import Bin, Coverage

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
VEGA_LITE = "6.4"  # of those that vl-convert includes

# Pixels. As wide as a phone, and half of the page.
WIDTH = 300
HEIGHT = 190
PADDING = {"left": 44, "right": 12, "top": 8, "bottom": 40}

# Names of colours in the page's style.
INK, FAINT, LINE = "var(--ink)", "var(--faint)", "var(--line)"
FIRST, SECOND = "var(--first)", "var(--second)"

CONFIG: Spec = {
    "aria": False,  # the page says what a chart shows, once
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": FAINT,
        "labelFontSize": 12,
        "labelPadding": 6,
        "labelOverlap": False,
        "labelBound": False,
        "labelFlush": False,
        "labelLimit": 0,
        "titleColor": FAINT,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": LINE,
        "domain": False,
        "ticks": False,
    },
    "line": {"strokeWidth": 2, "strokeJoin": "round"},
}


def draw(spec: Spec) -> str:
    """Return a chart as an SVG element for a page, without a description."""
    import vl_convert  # slow to import, and only the report draws

    svg: str = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)
    # An SVG within HTML needs no namespaces.
    for namespace in ("", ":xlink"):
        start = svg.index(f" xmlns{namespace}=")
        end = svg.index('"', svg.index('"', start) + 1) + 1
        svg = svg[:start] + svg[end:]
    return svg.replace("<svg ", '<svg aria-hidden="true" ', 1)


def learning_curve(history: Sequence[dict[str, float]], measure: str) -> Spec:
    """Draw one measure of train (solid) and val (dashed) against the epoch.

    Args:
        history: a row an epoch, with the columns of metrics/history.csv.
        measure: `loss` or `accuracy`.
    """
    values = [
        {"epoch": row["epoch"], "value": row[f"{part}_{measure}"], "part": part}
        for row in history
        for part in ("train", "val")
    ]
    last = max(row["epoch"] for row in history)
    layer: Spec = {
        "data": {"values": values},
        "mark": {"type": "line"},
        "encoding": {
            "x": _x("epoch", "epoch", [0, max(last, 1)], tickMinStep=1, format="d"),
            "y": _y("value", None, format=".0%" if measure == "accuracy" else "~g", zero=False),
            "color": {"field": "part", "scale": {"range": [FIRST, SECOND]}, "legend": None},
            "strokeDash": {"field": "part", "scale": {"range": [[1, 0], [5, 4]]}, "legend": None},
        },
    }
    points = layer | {"mark": {"type": "point", "filled": True, "size": 30, "opacity": 1}}
    points["encoding"] = {
        key: value for key, value in layer["encoding"].items() if key != "strokeDash"
    }
    return _chart([layer, points] if last <= 20 else [layer])


def reliability(bins: Sequence[Bin]) -> Spec:
    """Draw the accuracy of each bin, and the diagonal of perfect calibration."""
    data = {"values": [each._asdict() for each in bins]}
    x = _x("low", "confidence", [0, 1], format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    y = _y("accuracy", [0, 1], format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    return _chart(
        [
            {
                "data": data,
                "mark": {"type": "rect", "fill": FIRST, "fillOpacity": 0.28},
                "encoding": {"x": x, "x2": {"field": "high"}, "y": y, "y2": {"datum": 0}},
            },
            {
                "data": {"values": [{"low": 0, "accuracy": 0}, {"low": 1, "accuracy": 1}]},
                "mark": {"type": "line", "stroke": FAINT, "strokeDash": [4, 4], "strokeWidth": 1},
                "encoding": {"x": x, "y": y},
            },
            {
                "data": data,
                "mark": {"type": "rule", "stroke": SECOND, "strokeWidth": 2},
                "encoding": {
                    "x": x | {"field": "confidence"},
                    "y": y,
                    "y2": {"field": "confidence"},
                },
            },
            {
                "data": data,
                "mark": {"type": "point", "filled": True, "fill": FIRST, "size": 45, "opacity": 1},
                "encoding": {"x": x | {"field": "confidence"}, "y": y},
            },
        ]
    )


def confidences(bins: Sequence[Bin]) -> Spec:
    """Draw how many images lie in each bin."""
    layer = {
        "data": {"values": [each._asdict() for each in bins]},
        "mark": {"type": "rect", "fill": FIRST, "fillOpacity": 0.55},
        "encoding": {
            "x": _x("low", "confidence", [0, 1], format=".0%", values=[0, 0.25, 0.5, 0.75, 1]),
            "x2": {"field": "high"},
            "y": _y("images", None, format=",d", tickCount=4),
            "y2": {"datum": 0},
        },
    }
    return _chart([layer])


def coverage(rows: Sequence[Coverage], marked: Sequence[float]) -> Spec:
    """Draw the accuracy on the rest against the share that is rejected.

    Args:
        rows: as `core.report.calibration.coverage` returns them.
        marked: the shares that get a point.
    """
    values = [{"share": each.handed_over, "accuracy": each.accuracy} for each in rows]
    encoding = {
        "x": _x("share", "rejected", [0, max(each.handed_over for each in rows)], format=".0%"),
        "y": _y("accuracy", None, format=".0%", zero=False),
    }
    return _chart(
        [
            {
                "data": {"values": values},
                "mark": {"type": "line", "stroke": FIRST},
                "encoding": encoding,
            },
            {
                "data": {"values": [value for value in values if value["share"] in marked]},
                "mark": {"type": "point", "filled": True, "fill": FIRST, "size": 45, "opacity": 1},
                "encoding": encoding,
            },
        ]
    )


def _chart(layers: list[Spec]) -> Spec:
    return {
        "$schema": SCHEMA,
        "width": WIDTH,
        "height": HEIGHT,
        "padding": PADDING,
        "autosize": "none",
        "config": CONFIG,
        "layer": layers,
    }


def _x(field: str, title: str, domain: list[float], **axis: Any) -> Spec:
    position = {"titleX": WIDTH / 2, "titleY": 34, "titleAnchor": "middle"}
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"domain": domain, "nice": False},
        "axis": {"grid": False, "tickCount": 5, **position, **axis},
    }


def _y(field: str, domain: list[float] | None, *, zero: bool = True, **axis: Any) -> Spec:
    scale: Spec = {"zero": zero} | ({"domain": domain, "nice": False} if domain else {})
    return {
        "field": field,
        "type": "quantitative",
        "title": None,
        "scale": scale,
        "axis": {"tickCount": 5, "gridOpacity": 0.7, **axis},
    }
