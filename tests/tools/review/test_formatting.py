"""Numbers are rounded in one place, and no name is read as markup."""

import pytest
from markdown_it import MarkdownIt

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


@pytest.mark.parametrize(
    ("number", "what", "text"),
    [
        (1, "file of code", "1 file of code"),
        (2, "file of code", "2 files of code"),
        (10, "class", "10 classes"),
        (1200, "test image", "1,200 test images"),
    ],
)
def test_a_count_has_its_noun(number: int, what: str, text: str) -> None:
    assert formatting.count(number, what) == text


def test_of_many_names_the_first_ones_are_listed() -> None:
    assert formatting.listed(["a", "b"]) == "a, b"
    assert formatting.listed(list("abcdefgh")) == "a, b, c, d, e, f and 2 more"


MARKS = [
    "<script>alert(1)</script>",
    "a|b",
    "*a* _b_ `c` ~d~",
    "[a](http://b) ![c](d)",
    "@somebody #5",
    "a_b-c.d/e.npy",
    "</code></td>",
    "a\n| b |\n\n# c",
    "&lt; &#60;",
    "中 é “",
]


@pytest.mark.parametrize("text", MARKS)
def test_a_name_in_a_table_is_shown_as_it_is(text: str) -> None:
    markdown = f"| a | b |\n|---|---|\n| {formatting.code(text)} | {formatting.sentence(text)} |\n"
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table"]).parse(markdown)
    cells = [token.children or [] for token in tokens if token.type == "inline"][2:]
    assert len(cells) == 2  # the table has one row of two cells
    for cell, kinds in zip(cells, (["html_inline", "text", "html_inline"], ["text"]), strict=True):
        merged: list[str] = []
        for token in cell:
            kind = "text" if token.type == "text_special" else token.type
            merged += [kind] if merged[-1:] != [kind] else []
        assert merged == kinds
        shown = "".join(t.content for t in cell if t.type in ("text", "text_special"))
        assert shown.replace("\u200b", "") == text.replace("\n", " ").rstrip()
