"""The table of what grows: medians, what more costs, and how far runs lie apart."""

import pytest

from benchmarks.growth import Growth, written


def test_it_tells_linear_growth_from_faster_growth(capsys: pytest.CaptureFixture[str]) -> None:
    growth = Growth()
    for size in (10, 20, 40):
        growth.at(size)
        for _ in range(3):
            growth.note("linear", 5 + 2 * size)
        growth.note("square", size**2)
    growth.print("things", more=100)
    header, linear, square, spread = capsys.readouterr().out.splitlines()
    assert header.split() == ["things", "10", "20", "40", "+100", "+100"]
    assert linear.split() == ["linear", "25", "45", "85", "200", "200"]
    assert square.split() == ["square", "100", "400", "1,600", "3,000", "6,000"]
    assert spread == "medians of 3 runs, which lie at most 0% of them apart (square, at 40)"


def test_it_names_where_the_runs_lie_furthest_apart(capsys: pytest.CaptureFixture[str]) -> None:
    growth = Growth()
    for size in (1, 2):
        growth.at(size)
        for seconds in (1.0, 1.0 + size / 10):
            growth.note("waiting", seconds)
    growth.print("things", more=1)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "medians of 2 runs, which lie at most 18% of them apart (waiting, at 2)"


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (7, "7"),
        (1_234_567, "1,234,567"),
        (0.00012, "0.0001"),
        (0.1234, "0.123"),
        (1.234, "1.23"),
        (99.94, "99.9"),
        (123.4, "123"),
        (-3.21, "-3.21"),
    ],
)
def test_figures_have_three_digits(figure: float, text: str) -> None:
    assert written(figure) == text
