"""Real local servers: OpenSSH's sshd, S3 by moto, and a slow line to either."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import wait_for
from tests.support.project import ROOT

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
SSHD_FOLDER = Path("/run/sshd")  # as root, sshd does not start without it
BUCKET = "team"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}

needs_sshd = pytest.mark.skipif(
    not SSHD or not find_spec("dvc_ssh"),
    reason="needs OpenSSH's sshd, Debian's package openssh-server, and make extra NAME=ssh",
)
needs_s3 = pytest.mark.skipif(
    not find_spec("moto") or not find_spec("dvc_s3"),
    reason="needs a server that speaks S3: make extra NAME='s3 tests'",
)


class S3:
    """An S3 server in a process of its own, with one bucket."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.url = f"s3://{BUCKET}/samebits"
        self.endpoint = f"http://127.0.0.1:{port}"
        self._answer = folder / "answer"

    def refuse(self, answer: str) -> None:
        """Answer whatever writes by this status and code, as `507 InsufficientStorage`.

        Args:
            answer: empty to take it again.
        """
        self._answer.write_text(answer)

    def client(self) -> Any:
        """Return a client that reads and writes the bucket directly."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",  # noqa: S106 - of a server of this test
        )

    def names(self) -> list[str]:
        """Return the names of all objects."""
        listed = self.client().list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return sorted(each["Key"] for each in listed)

    def read(self, name: str) -> bytes:
        """Return the bytes of an object."""
        content: bytes = self.client().get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Replace the bytes of an object."""
        self.client().put_object(Bucket=BUCKET, Key=name, Body=content)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """Start an S3 server."""
    server = S3(folder, free_port())
    command = [
        sys.executable,
        "-m",
        "tests.tools.share.s3_server",
        str(server.port),
        str(folder / "answer"),
    ]
    with started(command, server.port, folder / "s3.log"):
        server.client().create_bucket(Bucket=BUCKET)
        yield server


class SSH:
    """An sshd with one key, for users whose home folder is `home`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.home = folder / "home"
        self.store = folder / "store"
        self.host_key = ""
        self.url = self.url_by(port)

    def url_by(self, port: int) -> str:
        """Return the address of what is stored, by another port that leads here."""
        return f"ssh://{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1:{port}{self.store}"

    def know(self, port: int) -> None:
        """Let the user know the key of this machine at a port."""
        with (self.home / ".ssh/known_hosts").open("a") as known:
            known.write(f"[127.0.0.1]:{port} {self.host_key}\n")


@contextmanager
def ssh_server(folder: Path, *, sftp: str = "internal-sftp") -> Iterator[SSH]:
    """Start an sshd with a host key of its own.

    Args:
        folder: for its keys, the home of its user and what is stored.
        sftp: how it serves files: `internal-sftp -R` only lets them be read.
    """
    server = SSH(folder, free_port())
    keys = server.home / ".ssh"
    keys.mkdir(parents=True)
    keys.chmod(0o700)
    server.store.mkdir(exist_ok=True)
    for key in (folder / "host_key", keys / "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = (folder / "host_key.pub").read_text().split()
    server.host_key = " ".join(public[:2])
    server.know(server.port)
    (folder / "sshd_config").write_text(
        f"Port {server.port}\n"
        "ListenAddress 127.0.0.1\n"
        f"HostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {keys}/id_ed25519.pub\n"
        f"PidFile {folder}/sshd.pid\n"
        "PasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\n"
        "StrictModes no\n"  # everybody may write to /tmp
        "UsePAM no\n"
        f"Subsystem sftp {sftp}\n"
    )
    if os.geteuid() == 0:
        SSHD_FOLDER.mkdir(exist_ok=True)
    assert SSHD
    command = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
    with started(command, server.port, folder / "sshd.log"):
        yield server


@contextmanager
def started(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a server until this ends, from when it answers at its port."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **KEYS}, stdout=output, stderr=output
        )
    try:
        wait_for(lambda: answers(port) or process.poll() is not None, command[0])
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait()


class Line:
    """A line to a server: a port of this machine that leads to another.

    Args:
        port: of the server.
        bytes_per_second: that it lets through in each direction; None for all.
    """

    def __init__(self, port: int, bytes_per_second: int | None) -> None:
        self._to = port
        self._rate = bytes_per_second
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.carried = 0  # bytes, to the server
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(4096):
                if self._rate:
                    time.sleep(len(content) / self._rate)
                target.sendall(content)
                if target.getpeername()[1] == self._to:
                    self.carried += len(content)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def line_to(port: int, bytes_per_second: int | None = None) -> Iterator[Line]:
    """Open a line to a server."""
    line = Line(port, bytes_per_second)
    try:
        yield line
    finally:
        line.close()


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def answers(port: int) -> bool:
    """Return whether a process listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
