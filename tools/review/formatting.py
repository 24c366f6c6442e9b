"""Formats the numbers and names of a review, for Markdown and HTML."""

import re
from collections.abc import Sequence

from markupsafe import Markup

from core.report.pages import percent

# Every ASCII character that may be markup in Markdown or HTML; not _ inside a word.
MARKUP = r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|[!-~](?<![\w.,;:()%/+=-])"


def share(value: float) -> str:
    """Write an accuracy in percent."""
    return percent(value, 2)


def points(value: float, decimals: int = 2) -> str:
    """Write a difference of two accuracies with its sign, in percentage points."""
    text = f"{abs(100 * value):.{decimals}f}"
    sign = "" if float(text) == 0 else "+" if value > 0 else "−"
    return sign + text


def span(low: float, high: float) -> str:
    """Write an interval of a difference, in percentage points."""
    return f"{points(low)} to {points(high)}"


def p_value(p: float) -> str:
    """Write a p value with two significant digits."""
    if p < 0.0001:
        return "<\u00a00.0001"
    return f"{p:.2f}" if p >= 0.1 else f"{p:.3f}" if p >= 0.01 else f"{p:.4f}"


def count(number: int, what: str) -> str:
    """Write a count with its noun: 1 file of code, 2 files of code, 10 classes."""
    if number == 1:
        return f"1 {what}"
    noun, space, rest = what.partition(" of ")
    return f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}{space}{rest}"


def listed(items: Sequence[str], most: int = 6) -> str:
    """Join items for a sentence: the first ones, and how many more."""
    if len(items) > most:
        return ", ".join(items[:most]) + f" and {len(items) - most} more"
    return ", ".join(items)


def number(value: float | None, *, is_share: bool) -> str:
    """Write a metric; a dash for None."""
    if value is None:
        return "–"
    return share(value) if is_share else f"{value:,.4f}"


def change(by: float, *, is_share: bool) -> str:
    """Write the change of a metric."""
    if is_share:
        return points(by)
    text = f"{abs(by):,.4f}"
    return text if not text.strip("0.,") else ("+" if by > 0 else "−") + text


def value(text: str | None) -> str:
    """Write a parameter or a version."""
    return "not there" if text is None else text


def happened(old: str | None, new: str | None) -> str:
    """Write the state of a file."""
    return "new" if old is None else "removed" if new is None else "changed"


def code(text: str) -> Markup:
    """Write a name as code in Markdown, without markup, HTML or mentions."""
    return Markup("<code>") + _escaped(text) + Markup("</code>")


def sentence(text: str) -> Markup:
    """Write words in Markdown, without markup, HTML or mentions."""
    # GitHub looks for mentions after rendering: a zero-width space prevents them.
    return _escaped(text.replace("@", "@\u200b"))


def _escaped(text: str) -> Markup:
    """Replace each character that may be markup by its code."""
    line = text.replace("\n", " ")
    return Markup(re.sub(MARKUP, lambda mark: f"&#{ord(mark[0])};", line))  # noqa: S704
