import gzip
import hashlib
import io
import random
import re
import socket
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.data import http_client
from core.data.fetch import Patience, fetch, manual_steps
from core.pipeline.errors import DownloadError
from tests.support.misbehaving_server import MisbehavingServer, serving

NAME = "digits-ubyte"
CONTENT = random.Random(0).randbytes(20_000)  # noqa: S311 (bytes that do not compress)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PACKED = gzip.compress(CONTENT)
IMPATIENT = Patience(connect_seconds=0.6, span_seconds=0.6, span_bytes=1000)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with serving(PACKED) as running:
        yield running


@pytest.fixture
def good(tmp_path: Path) -> str:
    """A folder that has the file."""
    folder = tmp_path / "good"
    folder.mkdir()
    (folder / f"{NAME}.gz").write_bytes(PACKED)
    return str(folder)


def reason(source: str, patience: Patience = IMPATIENT) -> str:
    """Why `source` alone does not serve the file."""
    with pytest.raises(DownloadError, match=f"no source served {NAME}") as caught:
        fetch(NAME, SHA256, len(CONTENT), [source], patience=patience)
    found = caught.value.details["found"]
    assert found.startswith(f"{source}: ")
    assert "\n" not in found
    return found.removeprefix(f"{source}: ")


# Each way in which a server can fail, and the error message.
FAILURES = {
    "not_found": "answered 404 Not Found",
    "forbidden": "answered 403 Forbidden",
    "out_of_order": "answered 500 Internal Server Error",
    "page": "an HTML page, not the file",
    "unlabelled_page": "an HTML page, not the file",
    "stall": r"no answer within 0\.6 s",
    "stall_midway": r"stalled: 0 bytes in 0\.6 s",
    "trickle": r"stalled: \d\d? bytes in 0\.6 s",
    "trickle_headers": r"no answer within 0\.6 s",
    "break_off": r"the connection broke off after 5,000 of 20,\d\d\d bytes",
    "break_off_chunked": "the connection broke off",
    "hang_up": "the connection broke off",
    "gibberish": "its answer is not HTTP",
    "announce_too_much": r"too large: 1,000,000,000,000 bytes, where at most 85,736 can be right",
    "endless": r"too large: more than 85,736 bytes",
    "redirect_for_ever": "redirected too often",
    "redirect_to_a_file": r"redirected to an address that is not http\(s\)",
    "redirect_to_nonsense": "not a valid address",
}


@pytest.mark.parametrize("way", FAILURES)
def test_a_server_that_fails_is_named_with_its_reason_and_the_next_source_is_tried(
    way: str, server: MisbehavingServer, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = server.address(way)
    patience = IMPATIENT if "stall" in way or "trickle" in way else Patience()
    content = fetch(NAME, SHA256, len(CONTENT), [address, good], patience=patience)
    assert content == CONTENT
    skipped, taken = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{NAME}: skipped {re.escape(address)}: {FAILURES[way]}", skipped)
    assert taken == f"{NAME}: from {good}"


@pytest.mark.parametrize("way", ["right", "chunked", "said_to_be_encoded", "redirect"])
def test_a_server_that_serves_the_bytes_in_whatever_way_is_enough(
    way: str, server: MisbehavingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    address = server.address(way)
    assert fetch(NAME, SHA256, len(CONTENT), [address + "/", "never asked"]) == CONTENT
    assert server.asked_for[0] == f"/{way}/{NAME}.gz"
    printed = capsys.readouterr()
    assert printed.out == f"{NAME}: from {address}/\n"
    assert printed.err == ""  # no progress bar without a terminal


def test_a_slow_server_is_waited_for_as_long_as_each_span_brings_enough(
    server: MisbehavingServer,
) -> None:
    patience = Patience(connect_seconds=1, span_seconds=0.6, span_bytes=1000)
    begun = time.monotonic()
    assert fetch(NAME, SHA256, len(CONTENT), [server.address("steady")], patience=patience)
    assert time.monotonic() - begun > 0.9  # seven pieces: longer than one span


def test_a_refused_connection_and_an_unknown_host_are_distinguished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resolve(*_: object) -> None:  # as the system does, but without asking the network
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but nobody listens
        assert reason(f"http://127.0.0.1:{closed.getsockname()[1]}") == "connection refused"
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert reason("http://mirror.invalid") == "unknown host, or no network"


def test_a_host_that_does_not_take_the_connection_is_given_up() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):  # fill the queue of connections not yet accepted
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        patience = Patience(connect_seconds=0.2, span_seconds=5)
        address = f"http://127.0.0.1:{full.getsockname()[1]}"
        assert reason(address, patience) == "no connection within 0.2 s"


def test_a_server_without_encryption_is_no_secure_source(server: MisbehavingServer) -> None:
    address = server.address("right").replace("http:", "https:")
    assert reason(address) == "no secure connection"


def test_a_proxy_that_fails_is_not_taken_for_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert reason("http://mirror.invalid") == "the proxy: connection refused"


def test_a_user_name_and_password_in_an_address_are_not_shown(
    server: MisbehavingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    address = server.address("forbidden").replace("http://", "http://ann:hunter2@")
    with pytest.raises(DownloadError) as caught:
        fetch(NAME, SHA256, len(CONTENT), [address])
    shown = capsys.readouterr().out + str(caught.value)
    assert "forbidden: answered 403" in shown
    assert "ann" not in shown
    assert "hunter2" not in shown


def test_an_address_of_another_kind_is_refused() -> None:
    assert reason("ftp://127.0.0.1/mnist") == "neither a folder nor an http(s) address"


def other_packings() -> dict[str, bytes]:
    named = io.BytesIO()
    with gzip.GzipFile("some name.bin", "wb", 1, named, mtime=12345) as file:
        file.write(CONTENT)
    return {
        "stored": gzip.compress(CONTENT, 0),
        "named and dated": named.getvalue(),
        "in two members": gzip.compress(CONTENT[:7]) + gzip.compress(CONTENT[7:]),
    }


@pytest.mark.parametrize("packing", other_packings())
def test_the_same_bytes_in_another_packing_are_accepted(packing: str) -> None:
    packed = other_packings()[packing]
    assert packed != PACKED
    with serving(packed) as server:
        assert fetch(NAME, SHA256, len(CONTENT), [server.address("right")]) == CONTENT


FLIPPED = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
DAMAGED = PACKED[:-8] + bytes([PACKED[-8] ^ 1]) + PACKED[-7:]  # the checksum of RFC 1952

WRONG_FILES = {
    "a flipped bit": (
        gzip.compress(FLIPPED),
        f"wrong bytes: SHA-256 {hashlib.sha256(FLIPPED).hexdigest()}, expected {SHA256}",
    ),
    "too few": (gzip.compress(CONTENT[1:]), "wrong bytes: 19,999 unpacked, expected 20,000"),
    "too many": (
        gzip.compress(CONTENT + b"!"),
        "wrong bytes: more than 20,000 unpacked, expected 20,000",
    ),
    "truncated": (PACKED[:-100], "a truncated gzip file"),
    "damaged": (DAMAGED, "a damaged gzip file"),
    "not packed by gzip": (b"BZh9" + PACKED, "not a gzip file"),
    "empty": (b"", "not a gzip file"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_wrong_file_is_refused_from_a_server_and_from_a_folder(case: str, tmp_path: Path) -> None:
    packed, why = WRONG_FILES[case]
    with serving(packed) as server:
        assert reason(server.address("right"), Patience()) == why
    (tmp_path / f"{NAME}.gz").write_bytes(packed)
    assert reason(str(tmp_path)) == f"{NAME}.gz: {why}"


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    tracemalloc.start()
    try:
        why = reason(str(tmp_path))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert why == f"{NAME}.gz: wrong bytes: more than 20,000 unpacked, expected 20,000"
    assert peak_bytes < 2_000_000


def fetch_published(source: str, content: bytes = PACKED) -> bytes:
    sha256 = hashlib.sha256(content).hexdigest()
    return fetch(f"{NAME}.gz", sha256, len(content), [source], patience=IMPATIENT)


def test_of_a_name_that_ends_in_gz_the_packed_bytes_count(
    server: MisbehavingServer, good: str
) -> None:
    assert fetch_published(server.address("right")) == PACKED
    assert server.asked_for == [f"/right/{NAME}.gz"]
    assert fetch_published(good) == PACKED


def published_reason(source: str) -> str:
    with pytest.raises(DownloadError, match=rf"^no source served {NAME}\.gz\n") as caught:
        fetch_published(source)
    return caught.value.details["found"].removeprefix(f"{source}: ")


@pytest.mark.parametrize("level", [0, 1])  # longer and shorter than as published
def test_the_same_bytes_packed_again_are_refused_where_only_the_packed_ones_are_known(
    level: int, tmp_path: Path
) -> None:
    again = gzip.compress(CONTENT, level, mtime=1)
    (tmp_path / f"{NAME}.gz").write_bytes(again)
    (tmp_path / NAME).write_bytes(CONTENT)
    assert published_reason(str(tmp_path)).endswith(
        "; repacked or damaged: only the published file is accepted"
    )
    same_size = PACKED[:4] + b"\1\2\3\4" + PACKED[8:]  # another time in gzip's header
    (tmp_path / f"{NAME}.gz").write_bytes(same_size)
    assert published_reason(str(tmp_path)) == (
        f"{NAME}.gz: wrong bytes: SHA-256 {hashlib.sha256(same_size).hexdigest()}, expected "
        f"{hashlib.sha256(PACKED).hexdigest()}; repacked or damaged: only the published "
        "file is accepted"
    )


def test_a_folder_with_only_the_unpacked_file_does_not_hold_the_packed_one(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    assert published_reason(str(tmp_path)) == f"holds no {NAME}.gz"


def test_of_a_published_file_no_byte_too_many_is_received(server: MisbehavingServer) -> None:
    assert (
        published_reason(server.address("endless")) == f"too large: more than {len(PACKED):,} bytes"
    )
    assert published_reason(server.address("unlabelled_page")) == "an HTML page, not the file"


def test_files_that_must_be_as_published_are_described_so() -> None:
    assert manual_steps({"some.tar.gz": "0" * 64}, ["folder"]).splitlines() == [
        "download these files manually into folder,",
        "exactly as published; SHA-256 of the packed file:",
        f"some.tar.gz  {'0' * 64}",
    ]


def test_a_large_file_is_received_without_a_second_copy() -> None:
    with serving(bytes(40_000_000)) as large:
        tracemalloc.start()
        try:
            received = http_client.receive(
                large.address("right"),
                at_most=40_000_000,
                connect_seconds=1,
                span_seconds=30,
                span_bytes=1,
            )
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(received) == 40_000_000
    assert peak_bytes < 60_000_000


def test_a_folder_may_hold_the_file_unpacked(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    assert fetch(NAME, SHA256, len(CONTENT), [str(tmp_path)]) == CONTENT


def test_a_right_file_next_to_a_wrong_one_is_found(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.gz").write_bytes(PACKED[:50])
    (tmp_path / NAME).write_bytes(CONTENT)
    assert fetch(NAME, SHA256, len(CONTENT), [str(tmp_path)]) == CONTENT


def test_a_folder_is_relative_to_the_working_directory(
    good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(good).parent)
    assert fetch(NAME, SHA256, len(CONTENT), ["good"]) == CONTENT


def test_a_folder_that_is_missing_and_one_that_is_empty_are_distinguished(tmp_path: Path) -> None:
    assert reason(str(tmp_path / "nowhere")) == "no such folder"
    assert reason(str(tmp_path)) == f"holds neither {NAME}.gz nor {NAME}"


def test_a_file_that_cannot_be_read_is_said_to_be_there(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.gz").mkdir()
    assert reason(str(tmp_path)) == f"{NAME}.gz cannot be read: is a directory"


def test_when_all_sources_fail_each_is_listed_with_the_manual_steps(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    address = server.address("forbidden")
    with pytest.raises(DownloadError) as caught:
        fetch(NAME, SHA256, len(CONTENT), [address, str(tmp_path)])
    assert str(caught.value) == "\n".join(
        [
            f"no source served {NAME}",
            f"  expected: 20,000 bytes, SHA-256 {SHA256}",
            f"  found:    {address}: answered 403 Forbidden",
            f"            {tmp_path}: holds neither {NAME}.gz nor {NAME}",
            f"  next:     download these files manually into {tmp_path},",
            "            packed as NAME.gz or unpacked as NAME; SHA-256 of the unpacked bytes:",
            f"            {NAME}  {SHA256}",
        ]
    )


def test_without_a_folder_among_the_sources_the_manual_steps_say_where_to_name_one(
    server: MisbehavingServer,
) -> None:
    with pytest.raises(DownloadError, match=r"into a folder that dataset\.mirrors in params"):
        fetch(NAME, SHA256, len(CONTENT), [server.address("forbidden")])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_download_draws_a_progress_bar_on_a_terminal_and_a_folder_none(
    server: MisbehavingServer, good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    fetch(NAME, SHA256, len(CONTENT), [good])
    assert terminal.getvalue() == ""
    fetch(NAME, SHA256, len(CONTENT), [server.address("steady")])
    assert f"{NAME}.gz: " in terminal.getvalue()
    assert "/20.0k [" in terminal.getvalue()  # the length that the server announced
    assert terminal.getvalue().endswith("\r")  # it is erased


def test_a_connection_that_was_given_up_is_closed(server: MisbehavingServer) -> None:
    assert reason(server.address("trickle")).startswith("stalled")
    assert server.abandoned.wait(5)  # seconds; the whole trickle would take 400


def test_a_mistake_of_ours_in_the_transfer_is_not_taken_for_a_failing_server(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "PIECE", "a mistake")
    with pytest.raises(TypeError):
        fetch(NAME, SHA256, len(CONTENT), [server.address("right")])
