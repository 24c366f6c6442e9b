"""Remotes of each kind, on real servers: transfers are complete and correct, or an error."""

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from core.pipeline.errors import PipelineError, SetupError, StorageError
from tests.tools.share.servers import (
    S3,
    SSH,
    free_port,
    needs_s3,
    needs_sshd,
    s3_server,
    ssh_server,
)
from tools.share.storage import Storage

REFUSED = ("the remote may not be written", "the remote rejects what is written")
CONTENTS = [b"one", b"two" * 100_000, b""]
KINDS = [
    "folder",
    pytest.param("s3", marks=needs_s3),
    pytest.param("ssh", marks=needs_sshd),
]


class Remote(NamedTuple):
    """A remote, and a function that writes to it directly."""

    settings: dict[str, Any]
    write: Callable[[str, bytes], object]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSH]:
    with ssh_server(tmp_path_factory.mktemp("ssh")) as server:
        yield server


def settings_of(server: S3) -> dict[str, Any]:
    return {
        "url": server.url,
        "endpointurl": server.endpoint,
        "access_key_id": "testing",
        "secret_access_key": "testing",
    }


@pytest.fixture
def remote(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Remote:
    """A remote of the kind that the test asks for."""
    if request.param == "s3":
        server: S3 = request.getfixturevalue("s3")
        return Remote(
            settings_of(server), lambda path, content: server.write(path.split("/", 1)[1], content)
        )
    if request.param == "ssh":
        sshd: SSH = request.getfixturevalue("sshd")
        monkeypatch.setenv("HOME", str(sshd.home))
        return Remote({"url": sshd.url}, lambda path, content: replace(Path(path), content))
    folder = tmp_path / "remote"
    folder.mkdir()
    return Remote({"url": str(folder)}, lambda path, content: replace(Path(path), content))


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def files_of(folder: Path) -> dict[str, Path]:
    """Some files, by their MD5."""
    folder.mkdir(exist_ok=True)
    for content in CONTENTS:
        (folder / md5(content)).write_bytes(content)
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("remote", KINDS, indirect=True)
def test_what_was_sent_comes_back_and_what_was_changed_there_is_named(
    remote: Remote, tmp_path: Path
) -> None:
    storage = Storage(remote.settings)
    sources = files_of(tmp_path / "ours")
    sums = {storage.object(name): name for name in sources}
    gone = storage.object("f" * 32)
    storage.send({storage.object(name): path for name, path in sources.items()})
    assert storage.sizes([*sums, gone]) == {
        storage.object(name): path.stat().st_size for name, path in sources.items()
    }
    theirs = {path: tmp_path / "theirs" / name[:2] / name[2:] for path, name in sums.items()}
    assert storage.get(sums, theirs) == {}
    assert sorted(path.read_bytes() for path in theirs.values()) == sorted(CONTENTS)
    assert {path.stat().st_mode & 0o777 for path in theirs.values()} == {0o444}

    flipped = storage.object(md5(CONTENTS[1]))
    truncated = storage.object(md5(CONTENTS[0]))
    remote.write(flipped, b"Two" + CONTENTS[1][3:])
    remote.write(truncated, b"on")
    for path in theirs.values():
        path.unlink()
    damaged = {
        flipped: md5(b"Two" + CONTENTS[1][3:]),
        truncated: md5(b"on"),
        gone: "",
    }
    assert storage.get({**sums, gone: "f" * 32}, theirs) == damaged
    assert [path.read_bytes() for path in theirs.values() if path.exists()] == [b""]
    assert not list((tmp_path / "theirs").glob("*/*.*")), "something half-written"

    storage.send({flipped: sources[md5(CONTENTS[1])], truncated: sources[md5(CONTENTS[0])]})
    assert storage.get(sums, {}) == {}


@pytest.mark.parametrize("remote", KINDS, indirect=True)
def test_trying_a_remote_out_leaves_nothing_there(remote: Remote) -> None:
    storage = Storage(remote.settings)
    storage.check_access()
    name = f"{storage.path}/.samebits-{os.uname().nodename}"
    assert storage.sizes([name]) == {}


def refused(settings: dict[str, Any], *, write: bool = False) -> PipelineError:
    """Return how a remote is refused when it is reached, or when it is written."""
    try:
        storage = Storage(settings)
        if write:
            storage.check_access()
    except PipelineError as error:
        return error
    pytest.fail("the remote refused nothing")


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    error = refused({"url": str(tmp_path / "mnt")})
    assert error.what == "the remote's folder does not exist"
    assert not (tmp_path / "mnt").exists()


@needs_s3
def test_a_bucket_that_is_not_there_is_named(s3: S3) -> None:
    error = refused({**settings_of(s3), "url": "s3://nobody"})
    assert error.what == "the remote's bucket does not exist"
    assert error.details["where"] == "s3://nobody"


@needs_s3
def test_without_keys_s3_says_where_they_go(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nowhere")
    error = refused({"url": s3.url, "endpointurl": s3.endpoint})
    assert error.what == "the remote denies access"
    assert "AWS_ACCESS_KEY_ID" in error.details["next"]


@needs_s3
@pytest.mark.parametrize(
    ("answer", "kind", "what"),
    [
        ("507 InsufficientStorage", StorageError, "the remote is full"),
        ("403 AccessDenied", SetupError, "the remote may not be written"),
    ],
    ids=["full", "read-only"],
)
def test_an_s3_server_that_takes_nothing_is_understood(
    s3: S3, answer: str, kind: type[PipelineError], what: str
) -> None:
    s3.refuse(answer)
    try:
        error = refused(settings_of(s3), write=True)
    finally:
        s3.refuse("")
    assert (type(error), error.what) == (kind, what)


@needs_s3
@pytest.mark.slow  # the library retries for eight seconds
def test_an_s3_server_that_is_away_is_said_to_be(s3: S3) -> None:
    error = refused({**settings_of(s3), "endpointurl": f"http://127.0.0.1:{free_port()}"})
    assert error.what == "the remote cannot be reached"


@needs_sshd
@pytest.mark.parametrize(
    ("host", "found"),
    [("127.0.0.1", "Connect call failed"), ("nowhere.invalid", "not known|resolution")],
    ids=["refused", "unknown"],
)
def test_a_machine_that_is_away_is_said_to_be(host: str, found: str) -> None:
    error = refused({"url": f"ssh://{host}:{free_port()}/srv"})
    assert error.what == "the remote cannot be reached"
    assert any(words in error.details["found"] for words in found.split("|"))


@needs_sshd
def test_a_machine_whose_key_is_not_known_is_refused(
    sshd: SSH, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / ".ssh"
    keys.mkdir()
    (keys / "id_ed25519").write_bytes((sshd.home / ".ssh/id_ed25519").read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    error = refused({"url": sshd.url})
    assert error.what == "the host key of the remote is unknown"
    assert f"ssh -p {sshd.port} " in error.details["next"]


@needs_sshd
def test_who_has_no_key_is_told_how_to_get_in(
    sshd: SSH, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    known = (sshd.home / ".ssh/known_hosts").read_text()
    (tmp_path / ".ssh/known_hosts").write_text(known)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert refused({"url": sshd.url}).what == "the remote denies access"


@needs_sshd
def test_an_ssh_server_that_only_lets_read_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ssh_server(tmp_path, sftp="internal-sftp -R") as server:
        monkeypatch.setenv("HOME", str(server.home))
        error = refused({"url": server.url}, write=True)
    assert error.what == "the remote may not be written"


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """Mounts a small file system; needs root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system takes root: no full or read-only disk was tried")
    with ExitStack() as mounted:

        def mount(name: str, options: str) -> Path:
            folder = tmp_path / name
            folder.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
            mounted.callback(subprocess.run, ["umount", str(folder)], check=True)
            return folder

        yield mount


@pytest.mark.parametrize("kind", ["folder", pytest.param("ssh", marks=needs_sshd)])
def test_a_disk_that_is_full_there_is_reported_and_nothing_half_written_stays(
    kind: str,
    mount: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = mount("server/store" if kind == "ssh" else "disk", "size=64k")
    sources = files_of(tmp_path / "ours")
    with ExitStack() as stack:
        url = str(disk)
        if kind == "ssh":
            server = stack.enter_context(ssh_server(tmp_path / "server"))
            monkeypatch.setenv("HOME", str(server.home))
            url = server.url
        storage = Storage({"url": url})
        with pytest.raises(StorageError, match=r"no room|rejects"):
            storage.send({storage.object(name): path for name, path in sources.items()})
        left = [path for path in disk.rglob("*") if path.is_file()]
        assert all(md5(path.read_bytes()) == path.parent.name + path.name for path in left)
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        storage.send({storage.object(name): path for name, path in sources.items()})
        assert storage.get({storage.object(name): name for name in sources}, {}) == {}


@pytest.mark.parametrize("kind", ["folder", pytest.param("ssh", marks=needs_sshd)])
def test_a_disk_that_is_read_only_there_is_reported(
    kind: str,
    mount: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = mount("server/store" if kind == "ssh" else "disk", "ro")
    with ExitStack() as stack:
        url = str(disk)
        if kind == "ssh":
            server = stack.enter_context(ssh_server(tmp_path / "server"))
            monkeypatch.setenv("HOME", str(server.home))
            url = server.url
        error = refused({"url": url}, write=True)
    assert error.what in REFUSED
    assert "read-only" in str(error).lower()
