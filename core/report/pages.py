"""Renders the templates of HTML pages: text escaped, pictures embedded, nothing missing."""

import base64
import hashlib
from typing import Any

import jinja2


def percent(share: float, decimals: int = 1) -> str:
    """Format a fraction as a percentage, with a non-breaking space."""
    return f"{100 * share:.{decimals}f}\u00a0%"


def render(template: str, **facts: Any) -> str:
    """Render a Jinja template.

    All text is escaped. The filters beyond Jinja's own are `percent`, `data_url`,
    which turns the bytes of a PNG into a `data:` URL, and `csp_hash`, which
    names a script in the page's security policy. `tojson` escapes what could end the
    surrounding script.

    Raises:
        jinja2.UndefinedError: the template names something that `facts` lacks.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    environment.filters["data_url"] = _data_url
    environment.filters["csp_hash"] = _csp_hash
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.from_string(template).render(facts) + "\n"


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _csp_hash(script: str) -> str:
    """Return the hash of a script for Content Security Policy Level 3, section 2.3.1."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
