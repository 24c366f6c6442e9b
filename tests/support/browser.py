"""A real browser for tests: the system's Chromium, without a window and without a network."""

import atexit
import functools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DESKTOP = (1280, 900)  # width and height in CSS pixels
PHONE = (390, 844)

needs_browser = pytest.mark.skipif(
    not CHROMIUM, reason="needs Chromium, Debian's package chromium: none found here"
)


@contextmanager
def opened(
    address: str, *, size: tuple[int, int] = DESKTOP, dark: bool = False, print_: bool = False
) -> Iterator[Page]:
    """Open a page, and fail at the end if it complained or asked for anything else.

    Args:
        address: file://… or http://127.0.0.1:…; requests to other addresses are blocked.
        size: of the window.
        dark: whether the reader's system is dark.
        print_: whether it is laid out for paper.
    """
    complaints: list[str] = []

    def cut(route: Route) -> None:
        asked = route.request.url
        if asked.startswith(("data:", "blob:")) or _origin(asked) == _origin(address):
            route.continue_()
        else:
            complaints.append(f"asked for {asked}")
            route.abort()

    context = _chromium().new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        has_touch=size == PHONE,
    )
    with context:
        context.route("**/*", cut)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if print_:
            page.emulate_media(media="print")
        page.goto(address)
        yield page
    assert not complaints, complaints


def accessibility_faults(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical, each with the elements it means."""
    return [
        f"{fault['id']}: {fault['help']}: {[node['html'][:200] for node in fault['nodes']]}"
        for fault in Axe().run(page).response["violations"]
        if fault["impact"] in ("serious", "critical")
    ]


def overflows(page: Page) -> bool:
    """Whether the page is wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


@functools.cache
def _chromium() -> Browser:
    """Start the browser that all pages of this process share, until it ends."""
    playwright = sync_playwright().start()
    atexit.register(playwright.stop)
    return playwright.chromium.launch(
        executable_path=CHROMIUM,
        args=["--no-sandbox"],  # it loads our own pages, and CI may be root
    )


def _origin(address: str) -> str:
    scheme, _, rest = address.partition("://")
    return "file" if scheme == "file" else f"{scheme}://{rest.partition('/')[0]}"
