"""Numbers and names as a reader of the review sees them, in Markdown and on a page."""

import re
from collections.abc import Sequence

from markupsafe import Markup

from core.report.pages import percent

# Every character of ASCII that may be a mark of Markdown or HTML; _ inside of a
# word is none.
MARKS = r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|[!-~](?<![\w.,;:()%/+=-])"


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
    """Write a p: two digits that count, and no more zeros than a reader counts."""
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
    """Join items for a sentence; of many, the first ones and how many more."""
    if len(items) > most:
        return ", ".join(items[:most]) + f" and {len(items) - most} more"
    return ", ".join(items)


def number(value: float | None, *, is_share: bool) -> str:
    """Write a metric; a dash where there is none."""
    if value is None:
        return "–"
    return share(value) if is_share else f"{value:,.4f}"


def change(by: float, *, is_share: bool) -> str:
    """Write by how much a metric moved."""
    if is_share:
        return points(by)
    text = f"{abs(by):,.4f}"
    return text if not text.strip("0.,") else ("+" if by > 0 else "−") + text


def value(text: str | None) -> str:
    """Write a parameter or a version; say so where there is none."""
    return "not there" if text is None else text


def happened(old: str | None, new: str | None) -> str:
    """Say what became of a file."""
    return "new" if old is None else "gone" if new is None else "changed"


def code(text: str) -> Markup:
    """Set a name in Markdown so that nothing in it is a mark, HTML or a mention of somebody."""
    return Markup("<code>") + _without_marks(text) + Markup("</code>")


def sentence(text: str) -> Markup:
    """Set words in Markdown likewise."""
    # A mention is looked for in the page that Markdown becomes: an invisible
    # space keeps it from being one.
    return _without_marks(text.replace("@", "@\u200b"))


def _without_marks(text: str) -> Markup:
    """Write each character that could be a mark by its number."""
    line = text.replace("\n", " ")
    return Markup(re.sub(MARKS, lambda mark: f"&#{ord(mark[0])};", line))  # noqa: S704
