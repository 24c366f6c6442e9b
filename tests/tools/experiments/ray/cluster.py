"""A real Ray cluster for tests: every node is a `ray start` of its own on this machine."""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

SECONDS = 60  # far more than a node takes to start

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="needs the optional package ray: make extra NAME=ray",
)


class Cluster:
    """Nodes on the loopback, with a token that keeps other users of the machine out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.client_port = _free_ports(2)
        self.address = f"127.0.0.1:{self.port}"
        self.client = f"ray://127.0.0.1:{self.client_port}"
        self.nodes: list[psutil.Popen] = []
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
            "TMPDIR": str(folder),  # where the nodes keep what experiments need
        }

    def add(self, **environment: str) -> psutil.Popen:
        """Start a node with one processor; the first one becomes the head."""
        if self.nodes:
            connection = ["--address", self.address]
        else:
            connection = ["--head", "--port", str(self.port), "--include-dashboard", "false"]
            connection += ["--ray-client-server-port", str(self.client_port)]
            connection += ["--temp-dir", str(self.folder / "ray")]
        count = self._registered()
        options = ["--num-cpus", "1", "--object-store-memory", "200000000", "--block"]
        node = psutil.Popen(
            [Path(sys.executable).with_name("ray"), "start", *connection, *options],
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.nodes.append(node)
        end = time.monotonic() + SECONDS
        while self._registered() == count:
            assert node.poll() is None, "the node ended"
            assert time.monotonic() < end, "waited in vain for the node"
            time.sleep(0.2)
        return node

    def _registered(self) -> int:
        """How many nodes run, by the processes that Ray has for them."""
        processes = [each for node in self.nodes for each in _descendants(node)]
        return sum(each.name() == "raylet" for each in processes if each.is_running())

    def runs_something(self, node: psutil.Popen) -> bool:
        """Whether an experiment trains on a node."""
        for process in _descendants(node):
            with suppress(psutil.Error):
                if "stages.train" in process.cmdline():
                    return True
        return False

    def kill(self, node: psutil.Popen) -> None:
        """End a node as a machine does that loses its power: everything at once."""
        processes = [node, *_descendants(node)]
        for process in processes:
            with suppress(psutil.Error):
                process.suspend()  # or it would start others
        for process in [*processes, *_descendants(node)]:
            with suppress(psutil.Error):
                process.kill()
        node.wait()
        self.nodes.remove(node)


def _descendants(node: psutil.Popen) -> list[psutil.Process]:
    try:
        return list(node.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _free_ports(count: int) -> list[int]:
    with_sockets = [socket.socket() for _ in range(count)]
    for each in with_sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in with_sockets]
    for each in with_sockets:
        each.close()
    return ports


@contextmanager
def cluster(nodes: int) -> Iterator[Cluster]:
    """Start a cluster of so many nodes, and end all of its processes in the end."""
    # Not pytest's folder: its path is too long for the names of Ray's sockets.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    started = Cluster(folder)
    try:
        for _ in range(nodes):
            started.add()
        yield started
    finally:
        for node in reversed(list(started.nodes)):
            started.kill(node)
        shutil.rmtree(folder, ignore_errors=True)
