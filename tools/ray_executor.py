"""Runs experiments on the nodes of a Ray cluster: `python -m tools.compare … --ray ADDRESS`.

Each experiment is a task of Ray, which chooses the node, in a checkout of the
caller's revision (tools/ray_node.py). A node whose packages are not those that are
pinned gets none. An experiment whose node died runs again on another.
"""

import logging
import socket
import sys
import time
import tomllib
import uuid
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from packaging.requirements import Requirement

from core import numerics
from core.errors import PipelineError, SetupError
from tools import checkouts, computed, environment, git, ray_node
from tools.computed import Cache
from tools.executors import WORK, alone
from tools.experiments import LOCK, Outcome, Snapshot
from tools.grid import Experiment
from tools.ray_node import Ended, Shipment

LOCAL = "local"  # the address that starts a cluster of this machine alone
CODE = ("core", "tools")  # what Ray brings to the nodes
POLL_SECONDS = 0.5
CONNECT_SECONDS = 5
STOP_SECONDS = 30
MOST_CRASHES = 3  # of the processes or nodes that run an experiment


class RayExecutor:
    """Runs experiments on a Ray cluster.

    Args:
        root: of the repository.
        jobs: how many at a time; None for as many as the cluster has processors for.
        address: HOST:PORT of a cluster that this machine is a node of,
            ray://HOST:PORT of any, or `local`.

    """

    def __init__(self, root: Path, jobs: int | None, address: str) -> None:
        self.root = root
        self.jobs = jobs
        self.address = address

    def how(self, experiments: Sequence[Experiment]) -> str:
        """Say where they run."""
        del experiments
        place = "Ray on this machine" if self.address == LOCAL else f"Ray at {self.address}"
        return f"by {place}" + (f", {self.jobs} at a time" if self.jobs else "")

    def run(
        self, experiments: Sequence[Experiment], snapshot: Snapshot
    ) -> Generator[Outcome, None, None]:
        """Run each experiment from `snapshot` and yield how it ended, as soon as it did.

        The output of one that failed stays in .dvc/tmp/compare/NAME.log.

        Raises:
            SetupError: another comparison runs in this repository; the cluster can
                not be reached, or none of its nodes can run an experiment.
        """
        with alone(self.root / WORK), _connected(self.root, self.address):
            yield from _Comparison(self.root, self.jobs, snapshot).run(experiments)


@contextmanager
def _connected(root: Path, address: str) -> Iterator[None]:
    """Connect to a cluster, or start one, until the end of the block.

    Raises:
        SetupError: that is not possible.
    """
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.CRITICAL,
        "runtime_env": {"py_modules": [str(root / name) for name in CODE]},
    }
    if address == LOCAL:
        options |= {"num_cpus": numerics.processors(), "include_dashboard": False}
    else:
        _check_somebody_listens(address)
    try:
        ray.init(address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise SetupError(
            "the Ray cluster can not be used",
            found=str(error).strip().splitlines()[0],
            where=address,
            todo="ray status --address HOST:PORT says whether it runs; the versions of Ray and "
            "Python have to be the same everywhere; RAY_AUTH_MODE=token if it wants a token",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_somebody_listens(address: str) -> None:
    """Say so at once if there is nobody at an address; Ray itself would try for a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        raise SetupError(
            "this is no address of a Ray cluster",
            expected=f"HOST:PORT, ray://HOST:PORT or {LOCAL}",
            found=address,
            todo="ray start --head prints the address of the cluster that it starts",
        )
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SetupError(
            "no Ray cluster answers",
            found=str(error),
            where=address,
            todo="ray start --head prints the address of the cluster that it starts",
        ) from error


@dataclass
class _Node:
    """A node of the cluster that may run experiments."""

    name: str
    processors: float
    gpus: float

    def can_run(self, experiment: Experiment) -> bool:
        """Say whether it has what an experiment needs."""
        if experiment.device != "cpu":
            return self.gpus >= 1
        return self.processors >= (experiment.processors or 1)


@dataclass
class _Cluster:
    """The nodes of the cluster, each looked at when it appears.

    Args:
        requirements: the pinned packages, of which no node may have others.
        needed: those that every node has to have.
    """

    requirements: str
    needed: list[str]
    alive: set[str] = field(default_factory=set)
    fit: dict[str, _Node] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # why, by id
    asked: dict[Any, tuple[str, _Node]] = field(default_factory=dict)  # by Ray's references

    def look(self) -> None:
        """Take note of the nodes that came and went, and print why one is refused.

        Raises:
            SetupError: all of them are refused, or gone.
        """
        listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call, unused-ignore]
        nodes = {node["NodeID"]: node for node in listed if node["Alive"]}
        self.alive = set(nodes)
        self.fit = {known: node for known, node in self.fit.items() if known in nodes}
        being_asked = {known for known, _ in self.asked.values()}
        for known in self.alive - self.fit.keys() - self.refused.keys() - being_asked:
            resources = nodes[known]["Resources"]
            name = f"{nodes[known]['NodeManagerHostname']}, {nodes[known]['NodeManagerAddress']}"
            node = _Node(name, resources.get("CPU", 0), resources.get("GPU", 0))
            ask = _task(ray_node.packages_that_differ, [known], num_cpus=0)
            self.asked[ask.remote(self.requirements, self.needed)] = (known, node)
        for reference, (known, node) in list(self.asked.items()):
            if known not in self.alive:
                del self.asked[reference]
            elif _done([reference], timeout=0):
                del self.asked[reference]
                self._judge(known, node, reference)
        if not self.fit and not self.asked:
            raise SetupError(
                "no node of the Ray cluster can run experiments",
                expected="the packages of requirements.lock",
                found="\n".join(self.refused.values()) or "no node is left",
                todo="on each node: make extra NAME=ray, and "
                "start Ray from this environment (.venv/bin/ray start)",
            )

    def _judge(self, known: str, node: _Node, reference: Any) -> None:

        try:
            differing = ray.get(reference)
        except ray.exceptions.RayError as error:
            differing = [_first_line(error)]
        if differing:
            self.refused[known] = f"{node.name}: {'; '.join(differing)}"
            print(f"refused, other packages than pinned: {self.refused[known]}", file=sys.stderr)
        else:
            self.fit[known] = node

    def nodes_for(self, experiment: Experiment) -> list[str]:
        """Return the nodes that can run an experiment, by their ids; none while one may come.

        Raises:
            SetupError: there are none.
        """
        able = sorted(known for known, node in self.fit.items() if node.can_run(experiment))
        if not able and not self.asked:
            on_gpu = experiment.device != "cpu"
            raise SetupError(
                f"no node of the Ray cluster can run {experiment.name}",
                expected="a GPU" if on_gpu else f"{experiment.processors} processors",
                found="\n".join(
                    f"{node.name}: {node.processors:g} processors, {node.gpus:g} GPUs"
                    for node in self.fit.values()
                ),
                todo="add one; ray start --num-cpus and --num-gpus say what a node has",
            )
        return able

    def room_for(self, experiment: Experiment) -> int:
        """Return how many experiments like this one have processors of their own."""
        nodes = [self.fit[known] for known in self.nodes_for(experiment)]
        if experiment.device != "cpu":
            return sum(int(node.gpus) for node in nodes)
        if experiment.processors is None:
            return len(nodes)
        return sum(int(node.processors // experiment.processors) for node in nodes)

    def reservation(self, experiment: Experiment) -> tuple[dict[str, float], list[str]]:
        """Return what Ray has to reserve for an experiment, and on which nodes."""
        able = self.nodes_for(experiment)
        if experiment.device != "cpu":
            needed = {"num_cpus": 1.0, "num_gpus": 1.0}
        elif experiment.processors is None:  # a whole node: the largest, if they differ
            most = max(self.fit[known].processors for known in able)
            able = [known for known in able if self.fit[known].processors == most]
            needed = {"num_cpus": most}
        else:
            needed = {"num_cpus": float(experiment.processors)}
        return needed, able


@dataclass
class _Comparison:
    """Experiments on their way through the cluster."""

    root: Path
    jobs: int | None
    snapshot: Snapshot
    call: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    # By Ray's references: what runs, and on which of these nodes.
    running: dict[Any, tuple[Experiment, list[str]]] = field(default_factory=dict)
    crashes: Counter[str] = field(default_factory=Counter)  # by the names of experiments

    def run(self, experiments: Sequence[Experiment]) -> Generator[Outcome, None, None]:
        """Run experiments and yield how each ended."""
        cluster = self._cluster()
        cache = computed.opened(self.root)
        shipment = self._shipment(cache)
        held = set(shipment.objects)
        shipped = [ray.put(shipment)]
        waiting = deque(experiments)
        try:
            while waiting or self.running:
                cluster.look()
                waiting.extendleft(self._stranded(cluster))
                while waiting and self._has_room(cluster, waiting[0]):
                    experiment = waiting.popleft()
                    needed, able = cluster.reservation(experiment)
                    task = _task(ray_node.run, able, **needed)
                    reference = task.remote(self.call, shipped, experiment, frozenset(held))
                    self.running[reference] = experiment, able
                if not self.running:
                    time.sleep(POLL_SECONDS)  # until a node is looked at
                for reference in _done([*self.running], POLL_SECONDS):
                    experiment, _ = self.running.pop(reference)
                    ended = self._ended(experiment, reference)
                    if ended is None:
                        waiting.appendleft(experiment)
                        continue
                    self._keep(ended, cache)
                    held |= ended.objects.keys()
                    yield ended.outcome
        finally:
            self._stop(cluster)

    def _ended(self, experiment: Experiment, reference: Any) -> Ended | None:
        """Return how an experiment ended; None if it has to run again, for its node died."""
        try:
            return ray.get(reference)  # type: ignore[no-any-return]
        except ray.exceptions.RayTaskError as error:  # what we ourselves raised there
            cause = error.cause
            problem = f"error: {cause}" if isinstance(cause, PipelineError) else repr(cause)
        except ray.exceptions.RayError as error:
            self.crashes[experiment.name] += 1
            if self.crashes[experiment.name] < MOST_CRASHES:
                return None
            problem = f"its node died {MOST_CRASHES} times: {_first_line(error)}"
        return Ended(Outcome(experiment, 0, {}, problem=problem), b"", {})

    def _stranded(self, cluster: _Cluster) -> list[Experiment]:
        """Take back the experiments that wait for nodes of which none is left."""
        stranded = []
        for reference, (experiment, able) in list(self.running.items()):
            if not cluster.alive.intersection(able) and not _done([reference], timeout=0):
                ray.cancel(reference)
                del self.running[reference]
                stranded.append(experiment)
        return stranded

    def _cluster(self) -> _Cluster:
        """Return the cluster, of which no node has been looked at."""

        def committed(name: str) -> str:
            return git.content(self.snapshot.commit, name).decode("utf-8")

        project = tomllib.loads(committed(str(environment.PROJECT)))["project"]
        needed = [Requirement(line).name for line in project["dependencies"]]
        return _Cluster(committed(str(environment.EXTRAS_LOCK)), needed)

    def _shipment(self, cache: Cache) -> Shipment:
        placed = {
            name: (self.root / name).read_bytes() for name in checkouts.placed_by_hand(self.root)
        }
        pack = ray_node.pack(self.root, self.snapshot.commit)
        lock_file = self.root / LOCK
        objects = ray_node.objects(lock_file, cache) if lock_file.exists() else {}
        return Shipment(self.snapshot, pack, objects, placed)

    def _has_room(self, cluster: _Cluster, experiment: Experiment) -> bool:
        room = cluster.room_for(experiment)
        return len(self.running) < (min(self.jobs, room) if self.jobs else room)

    def _keep(self, ended: Ended, cache: Cache) -> None:
        """Keep what a node sent back as if the experiment had run here."""
        for md5, content in ended.objects.items():
            cache.add(md5, content)
        made = computed.of_outcome(ended.outcome)
        cache.add_entries(cache.entries([made], filter(cache.has, made.objects())))
        log = self.root / WORK / f"{ended.outcome.experiment.name}.log"
        if ended.log:
            log.write_bytes(ended.log)
        else:
            log.unlink(missing_ok=True)

    def _stop(self, cluster: _Cluster) -> None:
        """End what still runs, and remove from every node what this comparison left there."""
        for reference in self.running:
            ray.cancel(reference)
        _done([*self.running], STOP_SECONDS, everything=True)
        clean = [_task(ray_node.clean, [known], num_cpus=0) for known in cluster.fit]
        _done([task.remote(self.call) for task in clean], STOP_SECONDS, everything=True)


def _task(function: Any, nodes: Sequence[str], **needed: float) -> Any:
    """Return a function of tools/ray_node.py as a task of Ray that is tried once.

    Args:
        function: what runs.
        nodes: where it may run, by their ids.
        needed: what Ray has to reserve for it.
    """
    where = {"ray.io/node-id": f"in({','.join(nodes)})"}
    return ray.remote(function).options(max_retries=0, label_selector=where, **needed)


def _done(references: list[Any], timeout: float, *, everything: bool = False) -> list[Any]:
    """Wait for tasks, and return those that are done.

    Args:
        references: Ray's, of the tasks.
        timeout: the longest time to wait, in seconds.
        everything: whether to wait for all of them, and not for one.
    """
    if not references:
        return []
    done, _ = ray.wait(
        references, num_returns=len(references) if everything else 1, timeout=timeout
    )
    return list(done)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
