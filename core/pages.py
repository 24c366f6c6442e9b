"""Fills the templates of HTML pages: text escaped, pictures inside, nothing missing."""

import base64
from typing import Any

import jinja2


def percent(share: float, decimals: int = 1) -> str:
    """Write a fraction for a reader, with a space that does not break."""
    return f"{100 * share:.{decimals}f}\u00a0%"


def render(template: str, **facts: Any) -> str:
    """Fill a template of Jinja.

    All text is escaped. The filters beyond Jinja's own are `percent`, and
    `data_url`, which turns the bytes of a PNG into an address that holds them.

    Raises:
        jinja2.UndefinedError: the template names something that `facts` lacks.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    environment.filters["data_url"] = _data_url
    return environment.from_string(template).render(facts) + "\n"


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
