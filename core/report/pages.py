"""Fills the templates of HTML pages: text escaped, pictures inside, nothing missing."""

import base64
import hashlib
from typing import Any

import jinja2


def percent(share: float, decimals: int = 1) -> str:
    """Write a fraction for a reader, with a space that does not break."""
    return f"{100 * share:.{decimals}f}\u00a0%"


def render(template: str, **facts: Any) -> str:
    """Fill a template of Jinja.

    All text is escaped. The filters beyond Jinja's own are `percent`, `data_url`,
    which turns the bytes of a PNG into an address that holds them, and
    `csp_hash`, which names a script in the page's security policy. `tojson`
    escapes what could end the script that it stands in.

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
    """Name a script as Content Security Policy Level 3, section 2.3.1, has it."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
