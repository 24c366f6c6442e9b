"""Facts appear in the page as escaped text, and a missing one is an error."""

import jinja2
import pytest

from core.report import pages


def test_text_is_escaped() -> None:
    assert pages.render("<p>{{ name }}</p>", name="<b> & \"'") == (
        "<p>&lt;b&gt; &amp; &#34;&#39;</p>\n"
    )


def test_a_fact_that_is_missing_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'accuracy' is undefined"):
        pages.render("{{ accuracy }}", loss=1.0)


def test_a_picture_stands_in_the_page_itself() -> None:
    # base64 of the first four bytes of every PNG, as coreutils' base64 gives it.
    assert pages.render("{{ png | data_url }}", png=b"\x89PNG") == (
        "data:image/png;base64,iVBORw==\n"
    )


@pytest.mark.parametrize(
    ("share", "decimals", "text"),
    [(0.8251, 2, "82.51\u00a0%"), (0.8251, 1, "82.5\u00a0%"), (1.0, 1, "100.0\u00a0%")],
)
def test_a_share_is_written_in_percent(share: float, decimals: int, text: str) -> None:
    assert pages.percent(share, decimals) == text


def test_json_in_a_page_cannot_end_its_script() -> None:
    written = pages.render(
        "<script>{{ facts | tojson }}</script>", facts={"b": "</script>", "a": 1}
    )
    assert written == '<script>{"b":"\\u003c/script\\u003e","a":1}</script>\n'


def test_a_script_is_named_by_its_hash() -> None:
    # The example of Content Security Policy Level 3, section 8.2.
    assert pages.render("{{ script | csp_hash }}", script="doSubmit()") == (
        "sha256-jzgBGA4UWFFmpOBq0JpdsySukE1FrEN5bUpoK8Z29fY=\n"
    )
