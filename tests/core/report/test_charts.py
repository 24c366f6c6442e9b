"""The charts of the report show its numbers, and depend on nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.report import charts
from core.report.calibration import Bin, Coverage

BINS = [Bin(0.2, 0.4, 100, 0.3, 0.5), Bin(0.8, 1.0, 1000, 0.9, 0.7)]
HISTORY = [
    {"epoch": float(epoch), "train_loss": 2.0 - epoch, "val_loss": 2.0 - epoch / 2}
    | {"train_accuracy": epoch / 2, "val_accuracy": epoch / 4}
    for epoch in range(3)
]
COVERAGE = [Coverage(0.0, 100, 0.8), Coverage(0.1, 90, 0.9), Coverage(0.5, 50, 1.0)]
SPECS = {
    "loss": charts.learning_curve(HISTORY, "loss"),
    "accuracy": charts.learning_curve(HISTORY, "accuracy"),
    "reliability": charts.reliability(BINS),
    "confidences": charts.confidences(BINS),
    "coverage": charts.coverage(COVERAGE, [0.1]),
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return {name: charts.draw(spec) for name, spec in SPECS.items()}


def test_a_chart_takes_its_colours_from_the_page_and_loads_nothing(drawn: dict[str, str]) -> None:
    for svg in drawn.values():
        assert svg.startswith('<svg aria-hidden="true" ')
        assert not re.search("http|xmlns|<script|<image|<style", svg)
        colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg)) - {"none", "transparent"}
        assert colours <= {f"var(--{name})" for name in ("ink", "faint", "line", "first", "second")}


def test_lines_and_points_stand_where_their_numbers_are(drawn: dict[str, str]) -> None:
    # Loss from 2 to 0: train falls to the bottom, val half as far.
    assert f"M0,0L{charts.WIDTH / 2:g},95L{charts.WIDTH},190" in drawn["loss"]
    assert f"M0,0L{charts.WIDTH / 2:g},47.5L{charts.WIDTH},95" in drawn["loss"]
    assert points(drawn["reliability"]) == [
        pytest.approx((0.3 * charts.WIDTH, 0.5 * charts.HEIGHT)),
        pytest.approx((0.9 * charts.WIDTH, 0.3 * charts.HEIGHT)),
    ]
    assert points(drawn["coverage"]) == [pytest.approx((0.2 * charts.WIDTH, charts.HEIGHT / 2))]
    assert ">1,000</text>" in drawn["confidences"]


def points(svg: str) -> list[tuple[float, float]]:
    """Where the round marks stand, from the left and from the top."""
    found = re.findall(r'<path transform="translate\(([\d.]+),([\d.]+)\)" d="M[\d.]+,0A', svg)
    return [(float(x), float(y)) for x, y in found]


@pytest.mark.skipif(sys.platform != "linux", reason="hides the fonts as Linux has them")
def test_the_fonts_of_the_machine_change_no_byte(drawn: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "fonts.conf").write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig></fontconfig>'
    )
    program = (
        "from tests.core.report.test_charts import SPECS; from core.report import charts;"
        "print(*(charts.draw(spec) for spec in SPECS.values()), sep='', end='')"
    )
    command = [sys.executable, "-c", program]
    hidden = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    hide = 'mount -t tmpfs none /usr/share/fonts && exec "$@"'
    if subprocess.run([*hidden, hide, "sh", "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not hide /usr/share/fonts here")
    done = subprocess.run(
        [*hidden, hide, "sh", *command],
        env={**os.environ, "HOME": str(tmp_path), "FONTCONFIG_FILE": str(tmp_path / "fonts.conf")},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout == "".join(drawn.values())
