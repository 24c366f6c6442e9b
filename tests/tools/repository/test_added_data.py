"""Data of `dvc add`, a file or a folder, is checked, compared and shared like any other."""

import json
import re
from pathlib import Path

import pytest

from core.pipeline.errors import SetupError
from tests.support.project import Project, needs
from tools.experiments import store
from tools.repository import added_data, freshness
from tools.repository.snapshots import Snapshot

# printf a | md5sum; printf b | md5sum
A, B = "0cc175b9c0f1b6a831c399e269772661", "92eb5ffee6ae2fec3ad71c777531578f"


@pytest.fixture(scope="module")
def added(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project, one stage of which depends on a folder and a file of `dvc add`.

    Nothing of it is committed.
    """
    project = built.copy(tmp_path_factory.mktemp("copy") / "project")
    (project.folder / "data/own/inner").mkdir(parents=True)
    (project.folder / "data/own/inner/a.txt").write_text("a")
    (project.folder / "data/own/b.txt").write_text("b")
    (project.folder / "data/one.csv").write_text("1\n")
    (project.folder / "docs/note").mkdir(parents=True)  # a folder in git
    (project.folder / "docs/note/c.txt").write_text("c\n")
    project.must("git", "add", "docs/note")
    project.must("dvc", "add", "--quiet", "data/own", "data/one.csv")
    first = "    - core/data/splitting.py\n"
    more = "".join(f"    - {name}\n" for name in ("data/one.csv", "data/own", "docs/note"))
    project.replace("dvc.yaml", first, first + more)
    project.must("dvc", "repro")
    return project


def fresh(project: Project, *revision: str) -> str:
    return project.run("python", "-m", "tools.fresh", *revision).stdout


def test_the_hash_of_a_folder_is_that_of_dvc(added: Project) -> None:
    recorded = added_data.recorded(Snapshot("here", None, folder=added.folder))
    listed = f'[{{"md5": "{B}", "relpath": "b.txt"}}, {{"md5": "{A}", "relpath": "inner/a.txt"}}]'
    md5 = freshness.md5(listed.encode()) + ".dir"
    assert added_data.folder_md5({"inner/a.txt": A, "b.txt": B}) == md5
    assert recorded["data/own"] == (md5, "data/own.dvc")
    assert recorded["data/one.csv"].recorded_in == "data/one.csv.dvc"
    assert set(recorded) == {"data/own", "data/one.csv"}


def test_uncommitted_it_is_fresh_until_it_changes(added: Project, tmp_path: Path) -> None:
    assert "belong to the code" in fresh(added)
    record = added.folder / "data/own.dvc"
    text = record.read_text()
    record.write_text(re.sub("md5: .*dir", f"md5: {A}.dir", text))
    (added.folder / "docs/note/c.txt").write_text("d\n")
    stale = fresh(added)
    assert re.search(r"split +data/own +differs from data/own\.dvc\n", stale)
    assert re.search(r"split +docs/note +was changed\n", stale)
    assert "one.csv" not in stale
    record.write_text(text)
    (added.folder / "docs/note/c.txt").write_text("c\n")


def test_a_file_in_a_folder_that_was_added_is_found_in_its_listing(
    added: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = Snapshot("here", None, folder=added.folder)
    outside = {"data/own": added_data.recorded(snapshot)["data/own"].md5}
    monkeypatch.chdir(added.folder)
    inner = freshness.md5(json.dumps([{"md5": A, "relpath": "a.txt"}]).encode())
    for path, md5, how in (
        ("data/own/b.txt", B, ""),
        ("data/own/b.txt", A, "was changed"),
        ("data/own/inner", f"{inner}.dir", ""),
        ("data/own/none.txt", A, "is missing"),
    ):
        entry = {"hash": "md5", "md5": md5}
        assert freshness._changed(snapshot, path, entry, outside) == how
    outside["data/own"] = f"{B}.dir"  # in no cache
    with pytest.raises(SetupError, match="the files in data/own are not known here"):
        freshness._changed(snapshot, "data/own/b.txt", {"hash": "md5", "md5": B}, outside)


def test_experiments_start_from_what_was_added_last(added: Project) -> None:
    snapshot = store.take_snapshot(added.folder)
    files = added.must("git", "ls-tree", "-r", "--name-only", snapshot.commit, "data").split()
    assert {"data/own.dvc", "data/one.csv.dvc", "data/.gitignore"} <= set(files)
    (added.folder / "data/own/b.txt").write_text("c")
    with pytest.raises(SetupError, match="data has changed since dvc add") as caught:
        store.take_snapshot(added.folder)
    assert caught.value.details["found"] == "data/own"
    assert caught.value.details["next"].startswith("dvc add data/own ")
    (added.folder / "data/own/b.txt").write_text("b")


@pytest.mark.slow
def test_uncommitted_it_is_compared(added: Project) -> None:
    compare = ("python", "-m", "tools.compare", "train.lr=0.3")
    assert "1/1  done" in added.must(*compare)
    assert "1 of them ran before" in added.must(*compare)


@needs("share")
@pytest.mark.slow
def test_committed_it_is_shared(added: Project, tmp_path: Path) -> None:
    ana = added.copy(tmp_path / "ana")
    origin, clone = tmp_path / "origin.git", Project(tmp_path / "clone")
    (tmp_path / "store").mkdir()
    ana.must("git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin))
    ana.must("git", "remote", "add", "origin", str(origin))
    ana.must("python", "-m", "tools.share.remote", str(tmp_path / "store"))
    ana.commit("Data of our own")
    ana.must("git", "push", "--quiet", "origin", "main")
    ana.must("python", "-m", "tools.share")
    assert "0 files, " in ana.must("python", "-m", "tools.share", "--verify")  # all is there

    ana.must("git", "clone", "--quiet", str(origin), str(clone.folder))
    assert "belong to the code" in fresh(clone)  # without any data
    clone.must("python", "-m", "tools.share.pull")
    assert (clone.folder / "data/own/inner/a.txt").read_text() == "a"
    assert (clone.folder / "data/one.csv").read_text() == "1\n"
    assert json.loads(clone.must("dvc", "status", "--json")) == {}
