"""A real local HTTP server that fails in every way that servers do.

The first part of an address chooses the failure: `http://127.0.0.1:PORT/stall/x.gz`
is answered by `stall`. The answers are written byte for byte, so that they
may also be invalid HTTP.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class MisbehavingServer(ThreadingHTTPServer):
    """Serves `body`, or the files in `folder`, in the way that the address asks for."""

    def __init__(self, body: bytes = b"", folder: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.folder = folder
        self.asked_for: list[str] = []  # the paths, in the order of the requests
        self.closing = threading.Event()
        self.abandoned = threading.Event()  # a client closed its end before the answer's

    def address(self, way: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{way}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note a client that gave up, without a message: the tests expect it."""
        if isinstance(sys.exception(), ConnectionError):
            self.abandoned.set()
        else:
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Each method but `do_GET` and the last three is a way to answer."""

    server: MisbehavingServer

    def do_GET(self) -> None:
        self.server.asked_for.append(self.path)
        getattr(self, self.path.split("/")[1])()

    def right(self) -> None:
        self.begin(length=len(self.server.body))
        self.wfile.write(self.server.body)

    def from_folder(self) -> None:
        assert self.server.folder
        self.server.body = (self.server.folder / self.path.split("/")[-1]).read_bytes()
        self.right()

    def chunked(self) -> None:
        self.begin("Transfer-Encoding: chunked")
        for start in range(0, len(self.server.body), 1000):
            piece = self.server.body[start : start + 1000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def said_to_be_encoded(self) -> None:
        self.begin("Content-Encoding: gzip", length=len(self.server.body))
        self.wfile.write(self.server.body)

    def steady(self) -> None:
        self.begin(length=len(self.server.body))
        for start in range(0, len(self.server.body), 3000):
            self.wfile.write(self.server.body[start : start + 3000])
            self.server.closing.wait(0.15)

    def not_found(self) -> None:
        self.begin(status="404 Not Found")

    def forbidden(self) -> None:
        self.begin(status="403 Forbidden")

    def out_of_order(self) -> None:
        self.begin(status="500 Because I Say So")

    def page(self) -> None:
        html = b"<!DOCTYPE html><html><body>Please log in</body></html>".ljust(1_000_000)
        self.begin("Content-Type: text/html; charset=utf-8", length=len(html))
        self.wfile.write(html)

    def unlabelled_page(self) -> None:
        html = b"\n<HTML><body>Please log in</body></html>"
        self.begin(length=len(html))
        self.wfile.write(html)

    def stall(self) -> None:
        self.server.closing.wait()

    def stall_midway(self) -> None:
        self.begin(length=len(self.server.body))
        self.wfile.write(self.server.body[:5000])
        self.server.closing.wait()

    def trickle(self) -> None:
        self.begin(length=len(self.server.body))
        for byte in self.server.body:
            self.wfile.write(bytes([byte]))
            if self.server.closing.wait(0.02):
                break

    def trickle_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Story: ")
        while not self.server.closing.wait(0.02):
            self.wfile.write(b"a")

    def break_off(self) -> None:
        self.begin(length=len(self.server.body))
        self.wfile.write(self.server.body[:5000])

    def break_off_chunked(self) -> None:
        self.begin("Transfer-Encoding: chunked")
        self.wfile.write(b"ffff\r\n" + self.server.body[:5000])

    def hang_up(self) -> None:
        """Close the connection without an answer."""

    def gibberish(self) -> None:
        self.wfile.write(b"220 mail.example.org ESMTP\r\n")

    def announce_too_much(self) -> None:
        self.begin(length=10**12)
        self.wfile.write(self.server.body)

    def endless(self) -> None:
        self.begin()
        while not self.server.closing.is_set():
            self.wfile.write(bytes(10_000))

    def redirect(self) -> None:
        self.begin("Location: /right/" + self.path.split("/")[-1], status="302 Found")

    def redirect_for_ever(self) -> None:
        self.begin("Location: " + self.path, status="302 Found")

    def redirect_to_a_file(self) -> None:
        self.begin("Location: file:///etc/passwd", status="302 Found")

    def redirect_to_nonsense(self) -> None:
        self.begin("Location: http://[half/an/address", status="302 Found")

    def begin(self, *headers: str, status: str = "200 OK", length: int | None = None) -> None:
        lines = [f"HTTP/1.1 {status}", "Connection: close", *headers]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        self.wfile.write("\r\n".join([*lines, "", ""]).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@contextmanager
def serving(body: bytes = b"", folder: Path | None = None) -> Iterator[MisbehavingServer]:
    """Run a server in a thread until the block ends."""
    server = MisbehavingServer(body, folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
