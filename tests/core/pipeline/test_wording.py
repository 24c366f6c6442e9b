"""Counts agree with their nouns, and a number has the digits that count."""

import pytest

from core.pipeline import wording


@pytest.mark.parametrize(
    ("number", "what", "text"),
    [
        (0, "byte", "0 bytes"),
        (1, "byte", "1 byte"),
        (1, "file of code", "1 file of code"),
        (2, "file of code", "2 files of code"),
        (10, "class", "10 classes"),
        (2, "known vulnerability", "2 known vulnerabilities"),
        (2, "key", "2 keys"),
        (5, "epoch", "5 epochs"),
        (3, "different index", "3 different indices"),
        (1200, "test image", "1,200 test images"),
    ],
)
def test_a_count_has_its_noun(number: int, what: str, text: str) -> None:
    assert wording.count(number, what) == text


def test_of_many_names_the_first_ones_are_listed() -> None:
    assert wording.listed(["a", "b"]) == "a, b"
    assert wording.listed(list("abcdefgh")) == "a, b, c, d, e, f and 2 more"


@pytest.mark.parametrize(
    ("value", "deviation", "text"),
    [
        (0.91234, None, "0.9123"),
        (0.0, 0.0, "0.0000 ± 0.0000"),
        (0.8358, 0.0512, "0.8358 ± 0.0512"),
        (2.30259, None, "2.3026"),
        (54306.1234, 17012.9, "54,306 ± 17,013"),
        (123456.78, None, "123,457"),
        (54306123.4, 1.23e7, "5.43e+07 ± 1.2e+07"),
    ],
)
def test_a_measure_has_the_digits_that_count(
    value: float, deviation: float | None, text: str
) -> None:
    assert wording.measure(value, deviation) == text
