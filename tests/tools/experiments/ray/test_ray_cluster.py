"""A comparison on a real Ray cluster of several nodes gives what it gives on one machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from core.pipeline.errors import DataError, SetupError
from tests.support.project import ROOT, Project
from tests.tools.experiments.ray.cluster import Cluster, cluster, needs_ray
from tools.experiments import checkouts, outputs
from tools.experiments.choose_executor import chosen
from tools.experiments.local_executor import LocalExecutor
from tools.experiments.outputs import Cache
from tools.experiments.ray import on_node
from tools.experiments.ray.on_node import Shipment
from tools.experiments.store import Snapshot
from tools.repository import git

COMPARE = ("python", "-m", "tools.compare")
TWELVE = ("train.lr=0.01,0.03,0.1,0.3,1,3", "--seeds", "2")
SECONDS = 240  # far more than any wait here takes


@pytest.fixture(scope="module")
def rebuilt(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`, with everything committed."""
    return built.copy(tmp_path_factory.mktemp("copy") / "project")


@pytest.fixture
def project(rebuilt: Project, tmp_path: Path) -> Project:
    """A copy of it, for one test to change."""
    return rebuilt.copy(tmp_path / "a project with spaces")


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Cluster]:
    with cluster(3) as started:
        yield started


def start(
    project: Project, nodes: Cluster, *arguments: str, address: str = ""
) -> subprocess.Popen[str]:
    """Start a comparison on a cluster as a shell would, in a process group of its own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [*COMPARE, *arguments, "--ray", address or nodes.address],
        cwd=project.folder,
        env={**os.environ, **nodes.environment, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def compare(project: Project, nodes: Cluster, *arguments: str) -> tuple[int, str, str]:
    """Run a comparison on a cluster; return its status, and what it printed and complained."""
    done = start(project, nodes, *arguments)
    printed, problems = done.communicate(timeout=SECONDS)
    return done.returncode, printed, problems


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def trees(project: Project, namespace: str = "refs/exps") -> dict[str, str]:
    """Git's hash of all files of each experiment, by its name: params, lock and metrics."""
    form = "--format=%(refname:lstrip=4) %(tree)"
    listed = project.must("git", "for-each-ref", form, namespace)
    return dict(line.split() for line in listed.splitlines())


def left_on(nodes: Cluster) -> list[Path]:
    """What comparisons have left on the nodes."""
    return list((nodes.folder / f"samebits-{os.getuid()}").glob("*"))


@needs_ray
@pytest.mark.slow
def test_twelve_are_what_they_are_on_one_machine_though_a_node_dies_in_the_middle(
    project: Project, rebuilt: Project, three_nodes: Cluster, tmp_path: Path
) -> None:
    here = rebuilt.copy(tmp_path / "here")
    here.must(*COMPARE, *TWELVE)

    victim = three_nodes.nodes[-1]
    comparison = start(project, three_nodes, *TWELVE)
    wait_for(lambda: len(trees(project)) >= 2, "the first results")
    wait_for(lambda: three_nodes.runs_something(victim), "a training on the node")
    three_nodes.kill(victim)
    printed, problems = comparison.communicate(timeout=SECONDS)

    assert (comparison.returncode, problems) == (0, "")
    assert printed.startswith(
        f"12 experiments, 0 of them ran before; 12 to run, by Ray at {three_nodes.address}\n"
    )
    assert len(re.findall(r"^ *\d+/12  done ", printed, re.MULTILINE)) == 12
    assert len(trees(here)) == 12
    assert trees(project) == trees(here)
    assert project.read("reports/compare.md") == here.read("reports/compare.md")
    assert project.must("git", "status", "--porcelain") == ""

    project.must("dvc", "exp", "apply", "lr-0.3-seed-2")  # all that it computed is here
    assert "Running stage" not in project.must("dvc", "repro")
    assert (project.folder / "models/model.pt").exists()
    shutil.rmtree(project.folder / "models")
    project.must("git", "checkout", "--quiet", "--force", "HEAD")
    again = project.must("dvc", "exp", "run", "-S", "train.lr=0.1", "-S", "train.seed=1")
    assert "Running stage" not in again


@needs_ray
@pytest.mark.slow
def test_ctrl_c_stops_the_nodes_and_keeps_what_is_done(
    project: Project, three_nodes: Cluster
) -> None:
    arguments = ("train.lr=0.05,0.2", "--seeds", "2")
    comparison = start(project, three_nodes, *arguments)
    wait_for(lambda: len(trees(project)) >= 1, "the first result")
    wait_for(lambda: any(map(three_nodes.runs_something, three_nodes.nodes)), "a training")
    os.killpg(comparison.pid, signal.SIGINT)
    _, errors = comparison.communicate(timeout=SECONDS)

    assert comparison.returncode == 130
    assert errors == (
        "stopped; the same command continues from here\n"
        "interrupted; nothing half-written was left behind\n"
    )
    assert not any(map(three_nodes.runs_something, three_nodes.nodes))
    assert left_on(three_nodes) == []
    kept = trees(project)
    assert 1 <= len(kept) < 4

    status, printed, problems = compare(project, three_nodes, *arguments)
    assert (status, problems) == (0, "")
    assert printed.startswith(f"4 experiments, {len(kept)} of them ran before; {4 - len(kept)} to")
    assert kept.items() <= trees(project).items()
    assert len(trees(project)) == 4
    assert left_on(three_nodes) == []


@needs_ray
@pytest.mark.slow
def test_local_data_files_travel_and_failures_come_back(
    project: Project, three_nodes: Cluster
) -> None:
    with (project.folder / ".gitignore").open("a") as ignored:
        ignored.write("/data/mirror/tiny/\n")
    project.must("git", "rm", "--quiet", "-r", "--cached", "data/mirror/tiny")
    project.replace("params.yaml", "tiny: [data/mirror/tiny]", "tiny: [data/mirror/tiny]  # own")
    project.commit("The data set is too large for git")
    shutil.rmtree(project.folder / ".dvc/cache")
    shutil.rmtree(project.folder / "data/raw")
    comparison = start(
        project,
        three_nodes,
        *("train.lr=0.1,1e38", "dataset.name=tiny,kmnist", "dataset.mirrors.kmnist=[data/none]"),
        address=three_nodes.client,
    )
    printed, problems = comparison.communicate(timeout=SECONDS)

    assert comparison.returncode == 1, printed
    own = "name-tiny-kmnist-data-none"
    assert set(trees(project)) == {f"lr-0.1-{own}"}, problems
    assert set(trees(project, "refs/diverged")) == {f"lr-1e+38-{own}"}
    assert problems.startswith("error: 2 of 4 experiments failed; the others are kept\n")
    assert "data/none" in problems
    log = project.read(".dvc/tmp/compare/lr-0.1-name-kmnist-kmnist-data-none.log")
    assert "stages.download" in log
    assert left_on(three_nodes) == []


@needs_ray
@pytest.mark.slow
def test_a_node_with_other_packages_is_refused_with_the_difference(
    project: Project, three_nodes: Cluster, tmp_path: Path
) -> None:
    other = tmp_path / "tqdm-4.0.0.dist-info/METADATA"
    other.parent.mkdir()
    other.write_text("Metadata-Version: 2.1\nName: tqdm\nVersion: 4.0.0\n")
    three_nodes.add(PYTHONPATH=str(tmp_path))

    status, _, problems = compare(project, three_nodes, "train.lr=0.03")

    assert status == 0, problems
    (refused,) = problems.splitlines()
    assert re.fullmatch(
        r"refused, other packages than pinned: .*: tqdm 4\.0\.0 \(locked 4\.\d+\.\d+\)", refused
    )
    assert set(trees(project)) == {"lr-0.03"}

    while len(three_nodes.nodes) > 2:  # the head keeps the cluster, and the refused one
        three_nodes.kill(three_nodes.nodes[1])
    status, _, problems = compare(
        project, three_nodes, "train.lr=0.04", "numerics=fast", "train.device=cuda"
    )
    assert status == 1
    assert (
        "error: no node of the Ray cluster can run lr-0.04-numerics-fast-device-cuda\n" in problems
    )
    assert "expected: a GPU\n" in problems


@needs_ray
@pytest.mark.slow
def test_a_cluster_of_only_this_machine_is_started_and_ended(project: Project) -> None:
    before = {each.pid for each in psutil.process_iter() if each.name() == "raylet"}
    done = project.run(*COMPARE, "train.lr=0.1", "--seeds", "2", "--ray", "local")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2 experiments, 0 of them ran before; 2 to run, by Ray on this")
    assert set(trees(project)) == {"lr-0.1-seed-1", "lr-0.1-seed-2"}
    after = {each.pid for each in psutil.process_iter() if each.name() == "raylet"}
    assert after <= before


def test_without_an_address_experiments_run_here() -> None:
    executor = chosen(ROOT, 2, None)
    assert isinstance(executor, LocalExecutor)


@needs_ray
@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("nowhere", "this is not the address of a Ray cluster"),
        ("nowhere:port", "this is not the address of a Ray cluster"),
        ("127.0.0.1:1", "no Ray cluster answers"),
        ("ray://127.0.0.1:1", "no Ray cluster answers"),
        ("127.0.0.1:100000", "no Ray cluster answers"),
        ("no such host:1", "no Ray cluster answers"),
    ],
)
def test_an_address_where_no_cluster_answers_is_an_error_at_once(
    tmp_path: Path, address: str, what: str
) -> None:
    before = time.monotonic()
    run = chosen(tmp_path, None, address).run([], Snapshot("", ""))
    with pytest.raises(SetupError, match=what) as caught:
        next(run)
    assert time.monotonic() - before < 10
    assert address in (caught.value.details["where"], caught.value.details["found"])


def test_what_is_shipped_is_there_when_it_is_unpacked(built: Project, tmp_path: Path) -> None:
    commit = built.must("git", "rev-parse", "HEAD").strip()
    shipped = Shipment(
        Snapshot(commit, commit),
        "",
        on_node.pack(built.folder, commit),
        on_node.objects(built.folder, outputs.opened(built.folder)),
        {"data/mirror/kmnist/a file": b"placed"},
    )
    root = tmp_path / "node"
    on_node._unpack(shipped, root)
    assert git.line("rev-parse", "HEAD", cwd=root) == commit
    assert git.line("status", "--porcelain", cwd=root) == ""
    assert (root / "data/mirror/kmnist/a file").read_bytes() == b"placed"
    assert checkouts.local_data_files(root) == ["data/mirror/kmnist/a file"]
    node = Project(root)
    node.must("dvc", "checkout")  # every object is in the cache of the node
    for name in ("models/model.pt", "data/raw/train_images.npy", "reports/test_report.html"):
        assert (root / name).read_bytes() == (built.folder / name).read_bytes()


def test_an_object_that_arrives_damaged_is_not_kept(tmp_path: Path) -> None:
    cache, md5 = Cache(tmp_path), "5d41402abc4b2a76b9719d911017c592"
    with pytest.raises(DataError, match="an object was damaged in transfer"):
        cache.add(md5, b"world")
    assert not cache.has(md5)
    cache.add(md5, b"hello")
    assert cache.object(md5).read_bytes() == b"hello"
    assert cache.object(md5).stat().st_mode & 0o777 == 0o444
