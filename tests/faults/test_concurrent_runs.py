"""Concurrent runs: rebuilds of one folder, experiments during one, clones with one cache.

Two comparisons at once, and one that is killed, are in test_compare.py.
"""

from pathlib import Path

import pytest
import yaml

from tests.support.faults import outputs, stages_below, start, sums, wait_for
from tests.support.project import Project

pytestmark = pytest.mark.slow  # all of them together


def assert_same(project: Project, built: Project) -> None:
    assert project.read("dvc.lock") == built.read("dvc.lock")
    for path in outputs(built):
        assert (project.folder / path).read_bytes() == (built.folder / path).read_bytes(), path


def test_a_second_rebuild_of_a_folder_is_refused_and_names_the_first(
    built: Project, tmp_path: Path
) -> None:
    project = built.copy(tmp_path / "project")
    first = start(project, "dvc", "repro", "--force", "--no-run-cache")
    wait_for(lambda: stages_below(project.folder), "a stage of the first")

    second = project.run("dvc", "repro", "--force", "--no-run-cache")

    assert second.returncode != 0
    assert " is busy, it is being blocked by:\n" in second.stderr
    assert f"  (PID {first.pid}): " in second.stderr
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 0, output
    assert_same(project, built)
    assert "Data and pipelines are up to date" in project.must("dvc", "repro")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("dvc", "exp", "run", "--temp", "--name", "lr-0.2", "--set-param", "train.lr=0.2"),
        ("python", "-m", "tools.compare", "train.lr=0.2"),
    ],
    ids=["dvc exp run", "tools.compare"],
)
def test_a_rebuild_next_to_an_experiment_disturbs_neither(
    built: Project, tmp_path: Path, command: tuple[str, ...]
) -> None:
    project = built.copy(tmp_path / "project")
    experiment = start(project, *command)
    wait_for(lambda: stages_below(project.folder / ".dvc/tmp"), "a stage of the experiment")

    project.must("dvc", "repro", "--force", "--no-run-cache")

    output, _ = experiment.communicate(timeout=120)
    assert experiment.returncode == 0, output
    assert_same(project, built)
    assert project.must("git", "status", "--porcelain") == ""
    listed = project.must("git", "for-each-ref", "--format=%(refname)", "refs/exps")
    (reference,) = [name for name in listed.split() if name.endswith("/lr-0.2")]
    project.replace("params.yaml", "  lr: 0.1", "  lr: 0.2")
    project.must("dvc", "repro", "--no-run-cache")
    for path in ("metrics/evaluate.json", "metrics/test.json", "metrics/history.csv"):
        assert project.must("git", "show", f"{reference}:{path}") == project.read(path)


@pytest.mark.slow
@pytest.mark.parametrize("link", ["symlink", "hardlink"])
def test_clones_that_share_a_cache_by_links_change_nothing_in_it(
    built: Project, tmp_path: Path, link: str
) -> None:
    cache = tmp_path / "cache"
    clones = []
    for name in ("one", "two"):
        clone = Project(tmp_path / name)
        built.must("git", "clone", "--quiet", str(built.folder), str(clone.folder))
        clone.must("dvc", "config", "--local", "cache.dir", str(cache))
        clone.must("dvc", "config", "--local", "cache.type", link)
        clone.must("dvc", "repro")
        clones.append(clone)
    one, two = clones
    before = sums(cache / "files")
    assert len(before) >= 9
    model = two.folder / "models/model.pt"
    assert model.is_symlink() if link == "symlink" else model.stat().st_nlink > 1

    for file in ("data/raw/train_images.npy", "models/model.pt", "reports/test_report.html"):
        assert (two.folder / file).stat().st_mode & 0o222 == 0  # as DVC protects its cache
    for stage in ("download", "split", "train", "evaluate", "test_report"):
        two.must("python", "-m", f"stages.{stage}")  # directly: DVC would unlink first
    assert sums(cache / "files") == before

    two.must("dvc", "checkout", "--force")
    two.replace("params.yaml", "  lr: 0.1", "  lr: 0.2")
    two.replace("params.yaml", "  val_fraction: 0.2", "  val_fraction: 0.25")
    two.replace("params.yaml", "  most_wrong: 20", "  most_wrong: 3")
    two.must("dvc", "repro")

    after = sums(cache / "files")
    assert after.items() > before.items()
    assert_same(one, built)
    assert "up to date" in one.must("dvc", "status")
    for path, md5 in ((out["path"], out["md5"]) for out in outs(two) if out.get("cache", True)):
        if not path.startswith("metrics/"):
            assert f"md5/{md5[:2]}/{md5[2:]}" in after, path


def outs(project: Project) -> list[dict[str, str]]:
    lock = yaml.safe_load(project.read("dvc.lock"))
    return [out for stage in lock["stages"].values() for out in stage["outs"]]


def test_two_clones_that_fill_one_cache_at_once_end_alike(built: Project, tmp_path: Path) -> None:
    clones = []
    for name in ("one", "two"):
        clone = Project(tmp_path / name)
        built.must("git", "clone", "--quiet", str(built.folder), str(clone.folder))
        clone.must("dvc", "config", "--local", "cache.dir", str(tmp_path / "cache"))
        clones.append(clone)
    running = [start(clone, "dvc", "repro", "--force", "--no-run-cache") for clone in clones]
    for clone, process in zip(clones, running, strict=True):
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
        assert_same(clone, built)
