"""What cannot be seen in a message is shown by its code and name; all else stays."""

import pytest

from core.pipeline.errors import PipelineError
from core.pipeline.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.3\u00a0", "0.3<U+00A0 NO-BREAK SPACE>"),
        ("sg\u200bd", "sg<U+200B ZERO WIDTH SPACE>d"),
        ("\ufefflr", "<U+FEFF BYTE ORDER MARK>lr"),
        ("a\tb", "a<U+0009 TAB>b"),
        ("\x1b[31m", "<U+001B ESCAPE>[31m"),
        ("a\x07", "a<U+0007>"),
        ("a\r\n", "a<U+000D CARRIAGE RETURN>\n"),
        ("\u202egnp", "<U+202E RIGHT-TO-LEFT OVERRIDE>gnp"),
        ("a\u3164", "a<U+3164 HANGUL FILLER>"),
        ("\udcff.png", "<byte 0xFF>.png"),
        ("sgd ", "sgd<U+0020 SPACE>"),
        ("sgd  \nb", "sgd<U+0020 SPACE><U+0020 SPACE>\nb"),
        ("０.３", "<U+FF10 FULLWIDTH DIGIT ZERO>.<U+FF13 FULLWIDTH DIGIT THREE>"),
        ("lr＝1", "lr<U+FF1D FULLWIDTH EQUALS SIGN>1"),
        ("𝟎", "<U+1D7CE MATHEMATICAL BOLD DIGIT ZERO>"),
        ("s\u0441d", "s<U+0441 CYRILLIC SMALL LETTER ES>d"),
        ("adaмw", "ada<U+043C CYRILLIC SMALL LETTER EM>w"),
        ("1e\u22123", "1e<U+2212 MINUS SIGN>3"),
        ("\u2013\u2013seeds", "<U+2013 EN DASH><U+2013 EN DASH>seeds"),
        ("О.3", "<U+041E CYRILLIC CAPITAL LETTER O>.3"),
    ],
)
def test_a_character_that_cannot_be_seen_is_named(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["train.lr = 0.3", "a\n  b", "café", "Größe", "мама/данные", "データ set", "α = 0.05", "μ",
     "数据set", "数据（一），二", "± → … — × 5²", "😀", "٣ images", "½"],
)  # fmt: skip
def test_what_can_be_seen_stays(text: str) -> None:
    assert visible(text) == text


def test_every_part_of_an_error_is_visible() -> None:
    error = PipelineError("a\u00a0", expected="b\u00a0", found="c\u00a0", where="d\u00a0")

    assert str(error).count("<U+00A0 NO-BREAK SPACE>") == 4
    assert error.details["found"] == "c\u00a0"
