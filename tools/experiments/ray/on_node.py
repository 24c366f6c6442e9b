"""What the nodes of a Ray cluster do: run experiments, each in its own checkout.

`tools.experiments.ray.ray_executor` calls these functions as Ray tasks; Ray copies the caller's
code to every node. A node needs only the pinned packages: the caller sends everything
that experiments start from, and gets their outputs back.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from core.pipeline import files
from tools.experiments import checkouts, outputs
from tools.experiments.checkouts import POLL_SECONDS, Checkout
from tools.experiments.grid import Experiment
from tools.experiments.outputs import Cache
from tools.experiments.store import LOCK, PIPELINE, Outcome, Snapshot
from tools.repository import added_data, dvc_lock, git, packages, snapshots

# Variables that Ray sets for its own processes, and that would affect stages.
OF_RAY = ("OMP_NUM_THREADS", "PYTHONBREAKPOINT", "PYTHONPATH", "SPT_NOENV")

_pythons: dict[str, Path] = {}  # of this process, as its preloaded libraries are
_until_exit = ExitStack()
_in_use: dict[Path, IO[str]] = {}


class Shipment(NamedTuple):
    """Everything that experiments start from.

    Args:
        snapshot: the commits.
        prefix: the folder of the project in its repository, as `git.prefix` returns it.
        pack: the files of `snapshot.commit`, as `git pack-objects` writes them.
        objects: of DVC's cache, by their MD5.
        data_files: the local files of data sets, by their paths.
    """

    snapshot: Snapshot
    prefix: str
    pack: bytes
    objects: dict[str, bytes]
    data_files: dict[str, bytes]


class Ended(NamedTuple):
    """How an experiment ended on a node.

    Args:
        outcome: of the experiment.
        log: its output; empty if it did not fail.
        objects: that it left in DVC's cache, by their MD5.
    """

    outcome: Outcome
    log: bytes
    objects: dict[str, bytes]


def packages_that_differ(requirements: str, needed: list[str]) -> list[str]:
    """Return which packages of this node are others than those that are pinned.

    Args:
        requirements: the text of a lock of packages.
        needed: names of those that have to be there.
    """
    return [
        *(f"{name} is missing" for name in packages.missing(needed)),
        *packages.other_versions(requirements),
    ]


def pack(root: Path, commit: str) -> bytes:
    """Return the files of a commit as a git pack, without its history."""
    listed = git.run("rev-list", "--objects", "--no-walk", commit, cwd=root)
    return git.run("pack-objects", "--stdout", "--quiet", cwd=root, stdin=listed)


def run(call: str, shipment: Sequence[Any], experiment: Experiment, held: frozenset[str]) -> Ended:
    """Run an experiment on this node.

    Args:
        call: names the comparison, among others on this node.
        shipment: Ray's reference to the `Shipment` that it starts from, in a sequence,
            because Ray would fetch it for every task otherwise, and not once a node.
        experiment: what to run.
        held: the MD5 of objects that the caller has and does not want back.
    """
    for name in list(os.environ):
        if name.startswith("RAY_") or name in OF_RAY:
            del os.environ[name]
    place = folder(call)
    root, snapshot = _prepare(place, shipment)
    if experiment.numerics not in _pythons:
        python = checkouts.python_for(experiment.numerics)
        _pythons[experiment.numerics] = _until_exit.enter_context(python)
    checkout = Checkout(root, place / "checkouts" / str(os.getpid()), snapshot)
    log = place / f"{experiment.name}.log"
    running = checkout.start(experiment, _pythons[experiment.numerics], log)
    try:
        while not running.ended():
            time.sleep(POLL_SECONDS)  # here Ray can cancel it
        outcome = running.outcome()
    except BaseException:
        running.stop()
        raise
    if outcome.problem:
        return Ended(outcome, log.read_bytes(), {})
    written = objects(checkout.folder, outputs.opened(root))
    return Ended(outcome, b"", {md5: each for md5, each in written.items() if md5 not in held})


def folder(call: str) -> Path:
    """Return the folder of a comparison on this node."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    return Path(tempfile.gettempdir()) / f"samebits-{os.getuid()}" / f"{call}-{node}"


def _prepare(place: Path, shipment: Sequence[Any]) -> tuple[Path, Snapshot]:
    """Create the repository that the checkouts of this node share, unless it exists.

    Returns:
        The folder of the project in it, and what experiments start from.
    """
    import ray

    if place not in _in_use:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_abandoned(place.parent)
        _in_use[place] = _use(place)
    kept = place / "snapshot"
    with (place / "preparing").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)  # one process of this node creates it
        if not kept.exists():
            shipped: Shipment = ray.get(shipment[0])
            _unpack(shipped, place / "root")
            (place / "checkouts").mkdir()
            files.write_text(kept, "\n".join([shipped.prefix, *shipped.snapshot]))
    prefix, baseline, commit = kept.read_text().split("\n")
    return place / "root" / prefix, Snapshot(baseline, commit)


def _use(place: Path) -> IO[str]:
    """Create a folder, and protect it from `_remove_abandoned` until this process ends."""
    while True:
        with suppress(FileNotFoundError):  # it was just removed as abandoned
            place.mkdir(exist_ok=True)
            used = (place / "used").open("w")
            fcntl.flock(used, fcntl.LOCK_SH)
            if os.path.samestat(os.fstat(used.fileno()), (place / "used").stat()):
                return used


def _remove_abandoned(folder: Path) -> None:
    """Remove the folders of comparisons whose processes were all killed."""
    for used in folder.glob("*/used"):
        with suppress(FileNotFoundError, BlockingIOError), used.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            checkouts.remove(used.parent)


def _unpack(shipped: Shipment, top: Path) -> None:
    checkouts.remove(top)
    top.mkdir()
    git.run("init", "--quiet", cwd=top)
    git.run("index-pack", "--stdin", cwd=top, stdin=shipped.pack)
    commit = shipped.snapshot.commit
    (top / ".git/shallow").write_text(f"{commit}\n")  # its parents are not here
    git.run("checkout", "--quiet", "--detach", commit, cwd=top)
    root = top / shipped.prefix
    cache = outputs.opened(root)
    for md5, content in shipped.objects.items():
        cache.add(md5, content)
    for name, content in shipped.data_files.items():
        files.write_bytes(root / name, content)


def clean(call: str) -> None:
    """Remove the files of a comparison from this node."""
    place = folder(call)
    if place.exists():
        checkouts.remove(place)


def objects(folder: Path, cache: Cache) -> dict[str, bytes]:
    """Read from DVC's cache the outputs of a working tree's dvc.lock, and what `dvc add` tracks.

    Returns:
        The content of each object that the cache has, by its MD5.
    """
    snapshot = snapshots.Snapshot(str(folder), None, folder=folder)
    named = {each.md5: path for path, each in added_data.recorded(snapshot).items()}
    lock_file = folder / LOCK
    if lock_file.exists():
        pipeline = (folder / PIPELINE).read_bytes()
        for stage in dvc_lock.read(lock_file.read_bytes(), pipeline, str(lock_file)):
            named |= {md5: path for path, md5 in stage.outputs.items()}
    written = cache.expanded(named)
    return {md5: cache.object(md5).read_bytes() for md5 in sorted(written) if cache.has(md5)}
