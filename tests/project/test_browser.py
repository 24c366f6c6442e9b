"""The browser of the tests notices faults."""

from pathlib import Path

import pytest

from tests.support import browser

HEAD = '<!doctype html><html lang="en"><title>t</title><main><h1>t</h1>'


def address_of(tmp_path: Path, body: str) -> str:
    path = tmp_path / "page.html"
    path.write_text(HEAD + body)
    return path.as_uri()


@browser.needs_browser
@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<script>console.error('it broke')</script>", "it broke"),
        ("<script>nothing.at_all</script>", "nothing is not defined"),
        ("<img src='http://example.com/x.png' alt=''>", "asked for http://example.com/x.png"),
    ],
)
def test_a_page_that_complains_or_asks_for_more_is_noticed(
    tmp_path: Path, body: str, complaint: str
) -> None:
    with (
        pytest.raises(AssertionError, match=complaint),
        browser.opened(address_of(tmp_path, body)) as page,
    ):
        page.wait_for_timeout(100)


@browser.needs_browser
def test_faults_of_accessibility_and_width_are_noticed(tmp_path: Path) -> None:
    body = "<img src='data:,'><p style='color: #ddd; width: 600px'>faint</p>"
    with browser.opened(address_of(tmp_path, body), size=browser.PHONE) as page:
        found = " ".join(browser.accessibility_faults(page))
        assert "image-alt" in found
        assert "color-contrast" in found
        assert browser.overflows(page)


@browser.needs_browser
def test_a_page_without_faults_has_none(tmp_path: Path) -> None:
    with browser.opened(address_of(tmp_path, "<p>good</p>"), size=browser.PHONE) as page:
        assert browser.accessibility_faults(page) == []
        assert not browser.overflows(page)
