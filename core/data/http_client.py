"""Downloads from an http(s) address, or says in plain words why it cannot.

A socket's own timeout restarts with every byte, so a slow server could block a
rebuild for days. The transfer therefore runs in a thread of its own, and its
throughput is checked: each span of time must deliver enough bytes.
"""

import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import requests
import urllib3
from tqdm import tqdm

from core.pipeline import wording

PIECE = 64 * 1024  # bytes at a time
BROKEN = "the connection broke off"


class TransferError(Exception):
    """Why nothing came from an address, in a few plain words."""


def receive(
    address: str, *, at_most: int, connect_seconds: float, span_seconds: float, span_bytes: int
) -> bytes:
    """Return the bytes at `address`, without unpacking them.

    Draws a progress bar on standard error, if that is a terminal.

    Args:
        address: beginning with http:// or https://.
        at_most: how many bytes to accept.
        connect_seconds: how long a connection may take.
        span_seconds: how long the answer may take, and then how long each span is.
        span_bytes: how many bytes each span except the last must deliver.

    Raises:
        TransferError: there is no such host, no answer, no such file, an HTML
            page instead, too many bytes, too few, or they come too slowly.
    """
    arrivals: queue.Queue[int | bytes | Exception | None] = queue.Queue()
    given_up = threading.Event()

    def work() -> None:
        try:
            for arrival in _transfer(address, at_most, (connect_seconds, span_seconds)):
                arrivals.put(arrival)
                if given_up.is_set():
                    return
            arrivals.put(None)
        except Exception as error:  # re-raised in the waiting thread
            arrivals.put(error)

    # A daemon: waiting for a server must not keep the process alive.
    threading.Thread(target=work, daemon=True).start()
    try:
        return _watch(arrivals, address.rpartition("/")[2], span_seconds, span_bytes)
    finally:
        given_up.set()


def _watch(
    arrivals: "queue.Queue[int | bytes | Exception | None]",
    name: str,
    span_seconds: float,
    span_bytes: int,
) -> bytes:
    """Collect the pieces; give up when a span of time delivers too few bytes."""
    content = io.BytesIO()
    answered = False
    span_end, span_start = time.monotonic() + span_seconds, 0
    with tqdm(desc=name, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        while True:
            try:
                arrival = arrivals.get(timeout=max(0.0, span_end - time.monotonic()))
            except queue.Empty:
                if not answered:
                    raise TransferError(f"no answer within {span_seconds:g} s") from None
                arrival = b""
            if arrival is None:
                return content.getvalue()
            if isinstance(arrival, Exception):
                raise arrival
            if isinstance(arrival, int):  # the headers, with the announced length
                answered = True
                bar.reset(total=arrival or None)
                span_end = time.monotonic() + span_seconds
                continue
            content.write(arrival)
            bar.update(len(arrival))
            if time.monotonic() >= span_end:
                brought = content.tell() - span_start
                if brought < span_bytes:
                    raise TransferError(
                        f"stalled: {wording.count(brought, 'byte')} in {span_seconds:g} s"
                    )
                span_end, span_start = time.monotonic() + span_seconds, content.tell()


def _transfer(address: str, at_most: int, timeout: tuple[float, float]) -> Iterator[int | bytes]:
    """Yield the announced length (0: none), then the body in pieces."""
    count = length = 0
    try:
        # identity: the file is packed already.
        with requests.get(
            address, headers={"Accept-Encoding": "identity"}, stream=True, timeout=timeout
        ) as response:
            length = _announced_length(response, at_most)
            yield length
            # read1 returns what has arrived; read waits until a piece is full.
            while piece := response.raw.read1(PIECE, decode_content=False):
                count += len(piece)
                if count > at_most:
                    raise TransferError(f"too large: more than {at_most:,} bytes")
                yield piece
    # ValueError: a redirect to an address that cannot be parsed.
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        reason = _plainly(error, *timeout)
        if reason == BROKEN and length:
            reason += f" after {count:,} of {wording.count(length, 'byte')}"
        raise TransferError(reason) from error


def _announced_length(response: requests.Response, at_most: int) -> int:
    """Return the length in the headers, or 0; refuse what cannot be the file."""
    if response.status_code != 200:
        phrase = http.client.responses.get(response.status_code, "")
        raise TransferError(f"answered {response.status_code} {phrase}".strip())
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise TransferError("an HTML page, not the file")
    announced = response.headers.get("Content-Length", "")
    length = int(announced) if announced.isdecimal() else 0
    if length > at_most:
        raise TransferError(f"too large: {length:,} bytes, where at most {at_most:,} can be right")
    return length


def _plainly(error: BaseException, connect_seconds: float, read_seconds: float) -> str:
    """Say why a transfer failed; the reason lies somewhere in the chain of causes."""
    reasons: list[tuple[type[BaseException], str]] = [
        (ssl.SSLCertVerificationError, "its certificate is not valid"),
        (ssl.SSLError, "no secure connection"),
        (socket.gaierror, "unknown host, or no network"),
        (ConnectionRefusedError, "connection refused"),
        (urllib3.exceptions.ConnectTimeoutError, f"no connection within {connect_seconds:g} s"),
        (requests.ReadTimeout, f"no answer within {read_seconds:g} s"),
        (urllib3.exceptions.ReadTimeoutError, f"stalled: 0 bytes in {read_seconds:g} s"),
        (requests.TooManyRedirects, "redirected too often"),
        (requests.exceptions.InvalidSchema, "redirected to an address that is not http(s)"),
        (ConnectionError, BROKEN),
        (http.client.IncompleteRead, BROKEN),
        (urllib3.exceptions.IncompleteRead, BROKEN),
        (http.client.HTTPException, "its answer is not HTTP"),
        (ValueError, "not a valid address"),
    ]
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    by_proxy = "the proxy: " if isinstance(error, requests.exceptions.ProxyError) else ""
    for kind, reason in reasons:
        if any(isinstance(cause, kind) for cause in chain):
            return by_proxy + reason
    last = chain[-1]
    text = last.strerror if isinstance(last, OSError) else None
    return by_proxy + (text or str(last) or type(last).__name__).lower()
