"""Serves a page to draw on, which shows the prediction of the model while you draw.

    python -m tools.predict.draw                 `make try`
    python -m tools.predict.draw --rev lr-0.1    the model of a revision or experiment

Reads:  dvc.lock and models/model.pt, or with --rev those of the revision; the page,
        tools/predict/draw.html.j2 and draw.js
Writes: nothing

Only this computer can reach the server, and only the page itself may send requests: a
site that is open in the same browser can neither send an image nor read an answer.
"""

import argparse
import base64
import io
import json
import signal
import sys
import threading
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from core.pipeline import files
from core.pipeline.errors import SetupError
from core.pipeline.runner import run
from core.report import pages
from tools.predict import loaded_model, preparation
from tools.predict.image_files import ImageError
from tools.predict.loaded_model import LoadedModel

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")  # host names of allowed requests
TEMPLATE = Path("tools/predict/draw.html.j2")
SCRIPT = Path("tools/predict/draw.js")
MAX_BYTES = 50_000_000  # of an uploaded image: more than any camera's
SECONDS = 60  # after which an idle connection is closed
MANY = 20  # classes; more are sorted by their probability

POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; script-src 'self'; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class DrawingServer(ThreadingHTTPServer):
    """Serves the page, and predicts the images that it sends.

    Args:
        model: that predicts.
        port: to listen on; 0 for a free one.

    Raises:
        SetupError: the port is in use, or needs privileges.
    """

    daemon_threads = True

    def __init__(self, model: LoadedModel, port: int = 0) -> None:
        import torch

        self.model = model
        # One thread predicts for all requests, with as many PyTorch threads as the
        # numerics allow: PyTorch has that number for each thread that computes.
        self.predictor = ThreadPoolExecutor(
            1, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)
        )
        page = pages.render(
            TEMPLATE.read_text(encoding="utf-8"),
            model=model.name,
            dataset=model.dataset,
            subject=model.preprocessing.subject,
            shape=model.preprocessing.shape,
            names=model.class_names,
            many=len(model.class_names) > MANY,
            most=MAX_BYTES,
        )
        self.served = {
            "/": ("text/html; charset=utf-8", page.encode("utf-8")),
            "/draw.js": ("text/javascript; charset=utf-8", SCRIPT.read_bytes()),
        }
        # Last: if it cannot listen, it closes the executor above.
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise SetupError(
                f"the page cannot be served on port {port}",
                found=error.strerror or str(error),
                todo="choose another with --port, or leave it out for a free one",
            ) from error

    @property
    def url(self) -> str:
        """Return the address of the page."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def answer(self, image: bytes) -> dict[str, Any]:
        """Return the prediction for an image, or under `error` why there is none."""
        return self.predictor.submit(self._answer, image).result()

    def _answer(self, image: bytes) -> dict[str, Any]:
        try:
            prepared = preparation.prepare(io.BytesIO(image), self.model.preprocessing)
        except ImageError as error:
            return {"error": error.what}
        probabilities = self.model.probabilities(prepared.pixels)
        label = self.model.class_names[probabilities.index(max(probabilities))]
        return {
            "label": label,
            "probabilities": files.rounded(probabilities),
            "inverted": prepared.inverted,
            "seen": _data_url(prepared.pixels),
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a page that was closed before it had its answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Stop listening, and predicting."""
        super().server_close()
        self.predictor.shutdown(cancel_futures=True)


class _Handler(BaseHTTPRequestHandler):
    server: DrawingServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "samebits", ""
    timeout = SECONDS

    def do_GET(self) -> None:
        """Answer with the page or its script."""
        if not self._is_allowed():
            return
        kind, content = self.server.served.get(self.path, ("", b""))
        if not kind:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        self._send(HTTPStatus.OK, kind, content)

    def do_POST(self) -> None:
        """Answer an image with its prediction."""
        if not self._is_allowed():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/predict":
            self._refuse(HTTPStatus.NOT_FOUND)
        elif not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif len(length) > len(str(MAX_BYTES)) or int(length) > MAX_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            answer = self.server.answer(self.rfile.read(int(length)))
            content = json.dumps(answer, allow_nan=False).encode("utf-8")
            self._send(HTTPStatus.OK, "application/json", content)

    def _is_allowed(self) -> bool:
        """Refuse requests to another host name, and from other pages than our own.

        A site can point its own name to this computer (DNS rebinding), or let its page
        send requests here: these headers show both. The port may differ from ours, as
        it does behind an SSH tunnel.
        """
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if host.partition(":")[0] in NAMES and origin in (None, f"http://{host}"):
            return True
        self._refuse(HTTPStatus.FORBIDDEN)
        return False

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True  # the rest of the request is not read
        self._send(status, "text/plain; charset=utf-8", f"{status.phrase}\n".encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: there are twenty requests a second."""


def _data_url(pixels: Any) -> str:
    """Return a data URL of pixels, (H, W, C), as a PNG."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    image.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def main(revision: str | None, port: int, browser: bool) -> None:
    """Serve the page until Ctrl-C."""
    model = loaded_model.load(revision)
    edits = [] if revision else loaded_model.edits()
    if edits:
        print(loaded_model.note(edits))
    with DrawingServer(model, port) as server:
        print(f"{model.name}, trained on {model.dataset}: draw {model.preprocessing.subject} at")
        print(f"  {server.url}")
        print("Ctrl-C ends it", flush=True)
        if browser:  # one in the terminal returns only when it is closed
            threading.Thread(target=webbrowser.open, args=[server.url], daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, found {text}")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, and where the page is served."""
    loaded_model.add_revision(parser)
    parser.add_argument("--port", type=_port, default=0, help="to serve on; default: a free one")
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="only print the address"
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    run(main, add_arguments)
