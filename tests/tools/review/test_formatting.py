"""Numbers are rounded in one place, and no name is read as markup."""

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tools.review import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0968, "+9.68"), (-0.0004, "−0.04"), (0.00004, "0.00"), (-0.00004, "0.00"), (0, "0.00")],
)
def test_a_difference_has_a_sign_unless_it_rounds_to_nothing(value: float, text: str) -> None:
    assert formatting.points(value) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (1.0, "1.00"),
        (0.789, "0.79"),
        (0.0456, "0.046"),
        (0.00123, "0.0012"),
        (0.00004, "<\u00a00.0001"),
        (0.0, "<\u00a00.0001"),
    ],
)
def test_a_p_has_the_digits_that_count(p: float, text: str) -> None:
    assert formatting.p_value(p) == text


MARKS = [
    "<script>alert(1)</script>",
    "a|b",
    "*a* _b_ `c` ~d~",
    "``",
    "[a](http://b) ![c](d)",
    "@somebody #5",
    "a_b-c.d/e.npy",
    "</code></td>",
    "a\n| b |\n\n# c",
    "&lt; &#60; & p < 0.05 <!-- a",
    "\\`a\\|b",
    "中 é “",
]


@pytest.mark.parametrize("text", MARKS)
def test_a_name_in_a_table_is_shown_as_it_is(text: str) -> None:
    markdown = f"| a | b |\n|---|---|\n| {formatting.cell(text)} | {formatting.sentence(text)} |\n"
    cells = inline(markdown)[2:]
    assert len(cells) == 2  # the table has one row of two cells
    for tokens, kinds in zip(cells, ({"code_inline"}, {"text", "text_special"}), strict=True):
        assert {token.type for token in tokens if token.content} <= kinds
        shown = "".join(token.content for token in tokens)
        assert shown.replace("\u200b", "") == text.replace("\n", " ").rstrip()


@pytest.mark.parametrize("text", MARKS)
def test_a_name_in_a_sentence_is_shown_as_it_is(text: str) -> None:
    (tokens,) = inline(f"Before: {formatting.code(text)}.\n")
    assert [token.type for token in tokens] == ["text", "code_inline", "text"]
    assert tokens[1].content == text.replace("\n", " ").rstrip()


def inline(markdown: str) -> list[list[Token]]:
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table"]).parse(markdown)
    return [token.children or [] for token in tokens if token.type == "inline"]


def test_what_needs_no_escape_is_readable_as_plain_text() -> None:
    assert formatting.code("train.lr") == "`train.lr`"
    words = "Test accuracy 81.96 % → 91.64 % (p <\u00a00.0001), metrics/val_predictions.csv, R & D"
    assert formatting.sentence(words) == words
