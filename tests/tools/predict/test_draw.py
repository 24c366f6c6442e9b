"""The page to draw on, in a real browser with its real server."""

import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from math import cos, pi, sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from core.pipeline.errors import SetupError
from tests.support import browser
from tests.support.project import ROOT
from tests.tools.predict import trained_models
from tools.predict import draw
from tools.predict.draw import DrawingServer
from tools.predict.preparation import PREPROCESSING

Stroke = Sequence[tuple[float, float]]  # in shares of the sheet

ONE = [[(0.52, 0.15), (0.48, 0.85)]]
ZERO = [[(0.5 + 0.2 * sin(turn * pi / 8), 0.5 - 0.32 * cos(turn * pi / 8)) for turn in range(17)]]


@pytest.fixture(scope="module")
def server() -> Iterator[DrawingServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "TEMPLATE", ROOT / draw.TEMPLATE)
        patch.setattr(draw, "SCRIPT", ROOT / draw.SCRIPT)
        with DrawingServer(trained_models.of_digits()) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server
            server.shutdown()


def draw_on(page: Page, strokes: Sequence[Stroke]) -> None:
    box = page.locator("#canvas").bounding_box()
    assert box
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=3)
        page.mouse.up()


def wait_for_label(page: Page, label: str) -> None:
    page.wait_for_function(
        "label => document.getElementById('label').textContent === label", arg=label
    )


def shares(page: Page) -> list[float]:
    texts = page.locator("#classes .percent").all_inner_texts()
    return [float(text.split()[0]) for text in texts]


@browser.needs_browser
def test_a_drawn_one_and_a_drawn_zero_are_recognised_while_they_are_drawn(
    server: DrawingServer,
) -> None:
    with browser.opened(server.url) as page:
        assert shares(page) == [0.0] * 10
        draw_on(page, ONE)
        wait_for_label(page, "1")
        assert sum(shares(page)) == pytest.approx(100, abs=0.5)
        assert np.argmax(shares(page)) == 1
        assert page.locator("#classes .first .name").inner_text() == "1"
        assert page.locator("#seen").evaluate("image => image.naturalWidth") == 28
        page.click("#clear")
        wait_for_label(page, "–")
        assert shares(page) == [0.0] * 10
        draw_on(page, ZERO)
        wait_for_label(page, "0")
        # A screen reader announces what is shown, once the pen rests.
        page.wait_for_function(
            "() => document.getElementById('status').textContent.startsWith('0, ')"
        )


@browser.needs_browser
def test_a_one_can_be_drawn_by_keyboard_and_taken_back(server: DrawingServer) -> None:
    with browser.opened(server.url) as page:
        page.keyboard.press("Tab")
        assert page.locator("#cursor").is_visible()
        for key in ["Shift+ArrowUp", "Shift+ArrowUp", " ", *["Shift+ArrowDown"] * 4, " "]:
            page.keyboard.press(key)
        wait_for_label(page, "1")
        page.keyboard.press("ArrowRight")  # the pen is up
        page.keyboard.press("Backspace")
        wait_for_label(page, "–")


@browser.needs_browser
def test_a_dot_is_seen_too(server: DrawingServer) -> None:
    with browser.opened(server.url) as page:
        draw_on(page, [[(0.5, 0.5)]])
        page.locator("#seen").wait_for()
        assert sum(shares(page)) == pytest.approx(100, abs=0.5)


@browser.needs_browser
def test_a_file_is_predicted_and_one_that_is_no_image_is_named(
    server: DrawingServer, tmp_path: Path
) -> None:
    images, labels = trained_models.mnist("t10k", 10_000)
    first = Image.fromarray(255 - images[0, :, :, 0]).resize((140, 140))
    first.save(tmp_path / "seven.png")
    (tmp_path / "notes.txt").write_text("no image")
    with browser.opened(server.url) as page:
        page.set_input_files("#file", tmp_path / "seven.png")
        wait_for_label(page, str(labels[0]))
        assert page.inner_text("#inverted") == ", inverted"
        page.set_input_files("#file", tmp_path / "notes.txt")
        wait_for_label(page, "–")
        page.get_by_text("This is not an image").wait_for()
        with (tmp_path / "film").open("wb") as film:
            film.truncate(draw.MAX_BYTES + 1)
        page.set_input_files("#file", tmp_path / "film")
        page.get_by_text("This is too large").wait_for()


@browser.needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [browser.PHONE, browser.DESKTOP], ids=["phone", "desktop"])
def test_the_page_is_accessible_and_fits(
    server: DrawingServer, size: tuple[int, int], dark: bool
) -> None:
    with browser.opened(server.url, size=size, dark=dark) as page:
        draw_on(page, ZERO)
        wait_for_label(page, "0")
        assert browser.accessibility_faults(page) == []
        assert not browser.overflows(page)


@browser.needs_browser
def test_the_classes_of_a_long_list_are_sorted_by_their_probability() -> None:
    class Fixed:
        name, dataset, preprocessing = "cnn", "cifar100", PREPROCESSING["cifar100"]
        class_names = tuple(f"<{number}>" for number in range(100))

        def probabilities(self, pixels: Any) -> list[float]:
            assert pixels.shape == (32, 32, 3)
            return [0.5 if number == 42 else 0.5 / 99 for number in range(100)]

    with DrawingServer(Fixed()) as server:  # type: ignore[arg-type]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser.opened(server.url, size=browser.PHONE) as page:
            draw_on(page, ONE)
            wait_for_label(page, "<42>")
            tops = page.locator("#classes li").evaluate_all(
                "rows => rows.map(row => row.getBoundingClientRect().top)"
            )
            assert np.argmin(tops) == 42
            assert not browser.overflows(page)
        server.shutdown()


def test_a_port_that_is_taken_is_named(server: DrawingServer) -> None:
    port = server.server_address[1]
    with pytest.raises(SetupError, match=f"port {port}\n.*Address already in use\n.*--port"):
        DrawingServer(server.model, port)


def asked(server: DrawingServer, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    """Status and content of an answer; a header's name is written with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(connection):
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def test_the_page_may_load_nothing_but_its_script(server: DrawingServer) -> None:
    status, page, headers = asked(server, "GET", "/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert b"://" not in page
    assert asked(server, "GET", "/../params.yaml")[0] == 404
    assert asked(server, "POST", "/")[0] == 404


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "evil.example:80"}, {"Host": "localhost.evil.example"},
     {"Host": "evil.example:localhost"}, {"Host": "localhost:1", "Origin": "http://localhost:2"},
     {"Origin": "http://evil.example"},
     {"Origin": "null"}, {"Origin": "http://localhost:1"}],
    ids=str,
)  # fmt: skip
def test_other_sites_in_the_same_browser_are_refused(
    server: DrawingServer, headers: dict[str, str]
) -> None:
    for method, path in (("GET", "/"), ("POST", "/predict")):
        assert asked(server, method, path, b"", **headers)[0] == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("tunnel", [False, True], ids=["its port", "that of a tunnel"])
def test_the_page_is_its_own_site_under_both_names(
    server: DrawingServer, name: str, tunnel: bool
) -> None:
    host = f"{name}:{1 if tunnel else server.server_address[1]}"
    status, content, _ = asked(server, "POST", "/predict", b"", Host=host, Origin=f"http://{host}")
    assert (status, json.loads(content)) == (200, {"error": "is not an image"})


@pytest.mark.parametrize(
    ("length", "status"),
    [("-1", 411), ("x", 411), ("50000001", 413), ("9" * 5000, 413)],
    ids=["negative", "no number", "large", "a number of 5,000 digits"],
)
def test_a_body_without_a_sensible_length_is_not_read(
    server: DrawingServer, length: str, status: int
) -> None:
    assert asked(server, "POST", "/predict", Content_Length=length)[0] == status
