"""Formats the numbers and names of a review, for Markdown and HTML."""

import re

from markupsafe import Markup

from core.pipeline import wording
from core.report.pages import percent

# What may be markup in Markdown or HTML. An underscore inside of a word is none, nor is a
# < before a space or a digit, nor an & that begins no entity.
MARKUP = r"[\\`*\[\]>#|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|<(?=[A-Za-z/!?])|&(?=[A-Za-z#])"


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


def number(value: float | None, *, is_share: bool) -> str:
    """Write a metric; a dash for None."""
    if value is None:
        return "–"
    return share(value) if is_share else wording.measure(value)


def change(by: float, *, is_share: bool) -> str:
    """Write the change of a metric."""
    if is_share:
        return points(by)
    text = wording.measure(abs(by))
    return text if not text.strip("0.,") else ("+" if by > 0 else "−") + text


def value(text: str | None) -> str:
    """Write a parameter or a version."""
    return "not there" if text is None else text


def happened(old: str | None, new: str | None) -> str:
    """Write the state of a file."""
    return "new" if old is None else "removed" if new is None else "changed"


def code(text: str) -> Markup:
    """Write a name as code in Markdown: nothing in it is markup, HTML or a mention."""
    line = " ".join(text.splitlines())
    if not line:
        return Markup()
    # Longer than any row of backticks in it, and apart from one at an end.
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line[0] in "` " or line[-1] in "` " else ""
    return Markup(fence + space + line + space + fence)  # noqa: S704


def cell(text: str) -> Markup:
    """Write a name as code in a Markdown table, where a | would end the cell."""
    return Markup(code(text).replace("|", r"\|"))  # noqa: S704


def sentence(text: str) -> Markup:
    """Write words in Markdown, without markup, HTML or mentions."""
    # GitHub looks for mentions after rendering: a zero-width space prevents them.
    line = " ".join(text.splitlines()).replace("@", "@\u200b")
    return Markup(re.sub(MARKUP, r"\\\g<0>", line))  # noqa: S704
