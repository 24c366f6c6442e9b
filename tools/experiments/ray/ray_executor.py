"""Runs experiments on the nodes of a Ray cluster: `python -m tools.compare … --ray ADDRESS`.

Each experiment is a Ray task in a checkout of the caller's revision
(tools/experiments/ray/on_node.py); Ray chooses the node. A node with other packages than the
pinned ones gets no experiment. If a node dies, its experiments run again on another.
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

from core.pipeline import wording
from core.pipeline.errors import PipelineError, SetupError
from core.training import numerics
from tools import environment
from tools.experiments import checkouts, outputs
from tools.experiments.executor_interface import WORK, exclusive
from tools.experiments.grid import Experiment
from tools.experiments.outputs import Cache
from tools.experiments.ray import on_node
from tools.experiments.ray.on_node import Ended, Shipment
from tools.experiments.store import PIPELINE, Outcome, Snapshot
from tools.repository import git

LOCAL = "local"  # the address that starts a cluster on this machine
CODE = ("core", "tools")  # the packages that Ray copies to the nodes
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
        """Describe where they run."""
        del experiments
        cluster = "Ray on this machine" if self.address == LOCAL else f"Ray at {self.address}"
        return f"by {cluster}" + (f", {self.jobs} at a time" if self.jobs else "")

    def run(
        self, experiments: Sequence[Experiment], snapshot: Snapshot
    ) -> Generator[Outcome, None, None]:
        """Run each experiment from `snapshot` and yield how it ended, as soon as it did.

        The log of one that failed is kept in .dvc/tmp/compare/NAME.log.

        Raises:
            SetupError: another comparison runs in this repository; the cluster
                cannot be reached, or none of its nodes can run an experiment.
        """
        with exclusive(self.root / WORK), _connected(self.root, self.address):
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
        _check_reachable(address)
    try:
        ray.init(address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise SetupError(
            "the Ray cluster cannot be used",
            found=str(error).strip().splitlines()[0],
            where=address,
            todo="ray status --address HOST:PORT says whether it runs; the versions of Ray and "
            "Python have to be the same everywhere; RAY_AUTH_MODE=token if it wants a token",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Fail at once if nothing listens at an address; Ray would retry for a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        raise SetupError(
            "this is not the address of a Ray cluster",
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
        """Say whether it has the resources for an experiment."""
        if experiment.device != "cpu":
            return self.gpus >= 1
        return self.processors >= (experiment.processors or 1)


@dataclass
class _Cluster:
    """The nodes of the cluster, each checked when it appears.

    Args:
        requirements: the pinned packages; no node may have other versions.
        needed: the packages that every node has to have.
    """

    requirements: str
    needed: list[str]
    alive: set[str] = field(default_factory=set)
    fit: dict[str, _Node] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # why, by id
    checking: dict[Any, tuple[str, _Node]] = field(default_factory=dict)  # by Ray's references

    def update(self) -> None:
        """Update the nodes, and print why one is refused.

        Raises:
            SetupError: all of them are refused or lost.
        """
        listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call, unused-ignore]
        nodes = {node["NodeID"]: node for node in listed if node["Alive"]}
        self.alive = set(nodes)
        self.fit = {known: node for known, node in self.fit.items() if known in nodes}
        being_checked = {known for known, _ in self.checking.values()}
        for known in self.alive - self.fit.keys() - self.refused.keys() - being_checked:
            resources = nodes[known]["Resources"]
            name = f"{nodes[known]['NodeManagerHostname']}, {nodes[known]['NodeManagerAddress']}"
            node = _Node(name, resources.get("CPU", 0), resources.get("GPU", 0))
            check = _task(on_node.packages_that_differ, [known], num_cpus=0)
            self.checking[check.remote(self.requirements, self.needed)] = (known, node)
        for reference, (known, node) in list(self.checking.items()):
            if known not in self.alive:
                del self.checking[reference]
            elif _done([reference], timeout=0):
                del self.checking[reference]
                self._admit(known, node, reference)
        if not self.fit and not self.checking:
            raise SetupError(
                "no node of the Ray cluster can run experiments",
                expected="the packages of requirements.lock",
                found="\n".join(self.refused.values()) or "no node is left",
                todo="on each node: make extra NAME=ray, and "
                "start Ray from this environment (.venv/bin/ray start)",
            )

    def _admit(self, known: str, node: _Node, reference: Any) -> None:

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
        """Return the nodes that can run an experiment, by id; empty while others are checked.

        Raises:
            SetupError: there are none.
        """
        able = sorted(known for known, node in self.fit.items() if node.can_run(experiment))
        if not able and not self.checking:
            on_gpu = experiment.device != "cpu"
            raise SetupError(
                f"no node of the Ray cluster can run {experiment.name}",
                expected="a GPU"
                if on_gpu
                else wording.count(experiment.processors or 1, "processor"),
                found="\n".join(
                    f"{node.name}: {node.processors:g} processors, {node.gpus:g} GPUs"
                    for node in self.fit.values()
                ),
                todo="add one; ray start --num-cpus and --num-gpus say what a node has",
            )
        return able

    def room_for(self, experiment: Experiment) -> int:
        """Return how many experiments like this one fit on the cluster."""
        nodes = [self.fit[known] for known in self.nodes_for(experiment)]
        if experiment.device != "cpu":
            return sum(int(node.gpus) for node in nodes)
        if experiment.processors is None:
            return len(nodes)
        return sum(int(node.processors // experiment.processors) for node in nodes)

    def reservation(self, experiment: Experiment) -> tuple[dict[str, float], list[str]]:
        """Return the resources of an experiment, and the nodes that have them."""
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
    """Runs experiments on the cluster."""

    root: Path
    jobs: int | None
    snapshot: Snapshot
    call: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    # Running experiments and their possible nodes, by Ray's references.
    running: dict[Any, tuple[Experiment, list[str]]] = field(default_factory=dict)
    crashes: Counter[str] = field(default_factory=Counter)  # by the names of experiments

    def run(self, experiments: Sequence[Experiment]) -> Generator[Outcome, None, None]:
        """Run experiments and yield how each ended."""
        cluster = self._cluster()
        cache = outputs.opened(self.root)
        shipment = self._shipment(cache)
        held = set(shipment.objects)
        shipped = [ray.put(shipment)]
        waiting = deque(experiments)
        try:
            while waiting or self.running:
                cluster.update()
                waiting.extendleft(self._stranded(cluster))
                while waiting and self._has_room(cluster, waiting[0]):
                    experiment = waiting.popleft()
                    needed, able = cluster.reservation(experiment)
                    task = _task(on_node.run, able, **needed)
                    reference = task.remote(self.call, shipped, experiment, frozenset(held))
                    self.running[reference] = experiment, able
                if not self.running:
                    time.sleep(POLL_SECONDS)  # until a node is checked
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
        """Return how an experiment ended; None if its node died and it has to run again."""
        try:
            return ray.get(reference)  # type: ignore[no-any-return]
        except ray.exceptions.RayTaskError as error:  # raised by our own code
            cause = error.cause
            problem = f"error: {cause}" if isinstance(cause, PipelineError) else repr(cause)
        except ray.exceptions.RayError as error:
            self.crashes[experiment.name] += 1
            if self.crashes[experiment.name] < MOST_CRASHES:
                return None
            problem = f"its node died {MOST_CRASHES} times: {_first_line(error)}"
        return Ended(Outcome(experiment, 0, {}, problem=problem), b"", {})

    def _stranded(self, cluster: _Cluster) -> list[Experiment]:
        """Cancel and return the experiments whose possible nodes are all lost."""
        stranded = []
        for reference, (experiment, able) in list(self.running.items()):
            if not cluster.alive.intersection(able) and not _done([reference], timeout=0):
                ray.cancel(reference)
                del self.running[reference]
                stranded.append(experiment)
        return stranded

    def _cluster(self) -> _Cluster:
        """Return the cluster, with no node checked yet."""

        def committed(name: str) -> str:
            return git.content(self.snapshot.commit, name).decode("utf-8")

        project = tomllib.loads(committed(str(environment.PROJECT)))["project"]
        needed = [Requirement(line).name for line in project["dependencies"]]
        return _Cluster(committed(str(environment.EXTRAS_LOCK)), needed)

    def _shipment(self, cache: Cache) -> Shipment:
        data_files = {
            name: (self.root / name).read_bytes() for name in checkouts.local_data_files(self.root)
        }
        pack = on_node.pack(self.root, self.snapshot.commit)
        objects = on_node.objects(self.root, cache)
        return Shipment(self.snapshot, git.prefix(self.root), pack, objects, data_files)

    def _has_room(self, cluster: _Cluster, experiment: Experiment) -> bool:
        room = cluster.room_for(experiment)
        return len(self.running) < (min(self.jobs, room) if self.jobs else room)

    def _keep(self, ended: Ended, cache: Cache) -> None:
        """Store the results of a node as if the experiment had run here."""
        for md5, content in ended.objects.items():
            cache.add(md5, content)
        made = outputs.of_outcome(ended.outcome, git.content(self.snapshot.commit, PIPELINE.name))
        cache.add_entries(cache.entries([made], filter(cache.has, made.objects())))
        log = self.root / WORK / f"{ended.outcome.experiment.name}.log"
        if ended.log:
            log.write_bytes(ended.log)
        else:
            log.unlink(missing_ok=True)

    def _stop(self, cluster: _Cluster) -> None:
        """Cancel running tasks, and remove the files of this comparison from every node."""
        for reference in self.running:
            ray.cancel(reference)
        _done([*self.running], STOP_SECONDS, everything=True)
        clean = [_task(on_node.clean, [known], num_cpus=0) for known in cluster.fit]
        _done([task.remote(self.call) for task in clean], STOP_SECONDS, everything=True)


def _task(function: Any, nodes: Sequence[str], **needed: float) -> Any:
    """Return a function of tools/experiments/ray/on_node.py as a Ray task without retries.

    Args:
        function: what runs.
        nodes: where it may run, by their ids.
        needed: its resources.
    """
    where = {"ray.io/node-id": f"in({','.join(nodes)})"}
    return ray.remote(function).options(max_retries=0, label_selector=where, **needed)


def _done(references: list[Any], timeout: float, *, everything: bool = False) -> list[Any]:
    """Wait for tasks, and return the finished ones.

    Args:
        references: Ray's, of the tasks.
        timeout: the longest time to wait, in seconds.
        everything: wait for all of them instead of one.
    """
    if not references:
        return []
    done, _ = ray.wait(
        references, num_returns=len(references) if everything else 1, timeout=timeout
    )
    return list(done)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
