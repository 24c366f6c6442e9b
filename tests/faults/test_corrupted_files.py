"""A flipped bit is noticed before anything is computed from it, and repaired.

DVC itself trusts a file of a known size and time, and whatever lies
write-protected in its cache: each of the faults here is one that it lets pass.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml

from core.pipeline import provenance
from core.pipeline.errors import DataError
from tests.support.project import ROOT, Project, copy_project

slow = pytest.mark.slow


def flip(path: Path, position: int) -> None:
    """Change one bit of a file as a failing disk does: size, time and mode stay."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def sums(project: Project) -> dict[str, str]:
    """The MD5 of each output that lies in the folder."""
    lock = yaml.safe_load(project.read("dvc.lock"))["stages"]
    outputs = [output["path"] for stage in lock.values() for output in stage["outs"]]
    return {
        name: hashlib.md5((project.folder / name).read_bytes()).hexdigest()  # noqa: S324
        for name in outputs
        if (project.folder / name).exists()
    }


def cached(project: Project, md5: str) -> Path:
    return project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


@pytest.fixture(scope="module")
def rebuilt(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`. Each test repairs what it breaks."""
    return built.copy(tmp_path_factory.mktemp("copy") / "project")


@pytest.mark.parametrize(
    ("name", "stage", "place"),
    [
        pytest.param("data/raw/train_images.npy", "train", "cache", marks=slow),
        pytest.param("data/raw/train_labels.npy", "split", "folder", marks=slow),
        pytest.param("data/split/val_indices.npy", "evaluate", "cache", marks=slow),
        pytest.param("data/raw/test_images.npy", "test_report", "folder", marks=slow),
        pytest.param("models/model.pt", "evaluate", "folder", marks=slow),
        pytest.param("models/model.pt", "test_report", "cache", marks=slow),
    ],
)
def test_a_flipped_bit_is_refused_and_the_command_that_is_named_repairs_it(
    rebuilt: Project, name: str, stage: str, place: str
) -> None:
    right = sums(rebuilt)
    path, cache = rebuilt.folder / name, cached(rebuilt, right[name])
    flip(path if place == "folder" else cache, cache.stat().st_size - 12)
    if place == "cache":
        path.unlink()
        rebuilt.must("dvc", "checkout", name)
    assert "up to date" in rebuilt.must("dvc", "status")  # DVC sees nothing
    found = sums(rebuilt)[name]
    assert found != right[name]

    refused = rebuilt.run("dvc", "repro", "--single-item", "--force", stage)

    assert refused.returncode != 0
    assert (
        f"error: {name} changed since a stage wrote it\n"
        f"  expected: MD5 {right[name]}\n"
        f"  found:    MD5 {found}\n"
    ) in refused.stderr
    assert "next:     python -m tools.repair" in refused.stderr
    assert "Traceback" not in refused.stderr

    printed = rebuilt.must("python", "-m", "tools.repair")
    kept = rebuilt.folder / ".dvc/tmp/damaged" / Path(name).name
    assert f"{name}: MD5 {found}, expected {right[name]}; now .dvc/tmp/damaged/" in printed
    assert cache.exists() == (place == "folder")
    assert hashlib.md5(kept.read_bytes()).hexdigest() == found  # noqa: S324
    shutil.rmtree(kept.parent)
    assert printed.endswith("next: dvc repro\n")
    rebuilt.must("dvc", "repro")
    assert sums(rebuilt) == right
    assert rebuilt.must("git", "status", "--porcelain") == ""


@slow
def test_metrics_corrupted_in_the_cache_are_not_shown_as_a_result(rebuilt: Project) -> None:
    right = sums(rebuilt)
    rebuilt.replace("params.yaml", "most_wrong: 20", "most_wrong: 3")
    rebuilt.must("dvc", "repro")
    rebuilt.must("python", "-m", "tools.summary")
    flip(cached(rebuilt, right["metrics/test.json"]), len('{\n  "loss": 1.'))
    rebuilt.must("git", "checkout", "--quiet", "params.yaml")
    assert "Stage 'test_report' is cached" in rebuilt.must("dvc", "repro")
    assert sums(rebuilt) != right
    assert "up to date" in rebuilt.must("dvc", "status")  # DVC sees nothing

    refused = rebuilt.run("python", "-m", "tools.summary")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(
        "error: metrics/test.json changed since a stage wrote it\n"
        f"  expected: MD5 {right['metrics/test.json']}\n"
    )
    rebuilt.must("python", "-m", "tools.repair")
    rebuilt.must("dvc", "repro")
    assert sums(rebuilt) == right
    accuracy = json.loads(rebuilt.read("metrics/test.json"))["accuracy"]
    assert f"{accuracy:.4f}" in rebuilt.must("python", "-m", "tools.summary")
    assert rebuilt.must("git", "status", "--porcelain") == ""


@slow
def test_an_experiment_in_a_checkout_of_its_own_refuses_what_the_cache_gives_it(
    rebuilt: Project,
) -> None:
    right = sums(rebuilt)
    name = "data/raw/train_images.npy"
    flip(cached(rebuilt, right[name]), 5000)
    experiment = ("dvc", "exp", "run", "--temp", "--name", "lr", "--set-param", "train.lr=0.3")

    refused = rebuilt.run(*experiment)

    assert refused.returncode != 0
    assert f"{name} changed since a stage wrote it" in refused.stdout + refused.stderr
    rebuilt.must("python", "-m", "tools.repair")
    rebuilt.must("dvc", "repro")
    assert sums(rebuilt) == right
    rebuilt.must(*experiment)
    assert "[lr]" in rebuilt.must("dvc", "exp", "list")


def test_where_nothing_is_damaged_nothing_is_moved(rebuilt: Project) -> None:
    before = sums(rebuilt)
    objects = sorted((rebuilt.folder / ".dvc/cache").rglob("*"))
    assert rebuilt.must("python", "-m", "tools.repair") == (
        "nothing is damaged, neither outputs nor cache\n"
    )
    assert sums(rebuilt) == before
    assert sorted((rebuilt.folder / ".dvc/cache").rglob("*")) == objects


def test_what_a_stage_that_dvc_runs_has_just_written_is_not_taken_for_damaged(
    rebuilt: Project,
) -> None:
    indices = rebuilt.folder / "data/split/train_indices.npy"
    before = indices.read_bytes()
    indices.write_bytes(before[::-1])  # not what dvc.lock has
    writer = {"pid": os.getpid(), "cmd": "dvc repro"}
    lock = rebuilt.folder / ".dvc/tmp/rwlock"
    lock.write_text(json.dumps({"write": {str(indices): writer}}))

    refused = rebuilt.run("python", "-m", "tools.repair")

    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "error: outputs and cache cannot be repaired now\n"
        f"  found:    '{indices}' is busy, it is being blocked by:\n"
        f"              (PID {os.getpid()}): dvc repro\n"
    )
    assert indices.read_bytes() == before[::-1]
    lock.unlink()
    indices.write_bytes(before)


def test_repairing_without_a_lock_says_where_to_start_it(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    (tmp_path / "dvc.lock").unlink()
    refused = project.run("python", "-m", "tools.repair")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: there is no dvc.lock in this folder\n")


def test_metrics_that_were_truncated_are_named_where_no_lock_has_them(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    (tmp_path / "dvc.lock").unlink()
    (tmp_path / "metrics/test.json").write_text('{\n  "loss":')
    refused = project.run("python", "-m", "tools.summary")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: metrics/test.json is not in JSON\n  found: ")
    assert refused.stderr.endswith("next:     git checkout metrics/test.json, or make repro\n")


def test_the_sums_are_those_that_yaml_reads_in_the_lock(rebuilt: Project) -> None:
    for folder in (ROOT, rebuilt.folder):
        text = (folder / "dvc.lock").read_text(encoding="utf-8")
        assert provenance.outputs(text) == {
            name: {output["path"]: output["md5"] for output in stage["outs"]}
            for name, stage in yaml.safe_load(text)["stages"].items()
        }


@pytest.mark.parametrize(
    "md5",
    [
        "9610756238294460e255179339182206",  # could be a number; metrics/history.csv had it
        "12345678901234567890123456789012",
        "00000000000000000000000000000000",
        "01234567012345670123456701234567",
        "5d41402abc4b2a76b9719d911017c592",
    ],
)
def test_a_sum_that_could_be_a_number_is_read_as_dvc_writes_it(md5: str) -> None:
    out = {"path": "a.npy", "hash": "md5", "md5": md5, "size": 5}
    text = dumps_yaml({"schema": "2.0", "stages": {"one": {"cmd": "true", "outs": [out]}}})
    assert provenance.outputs(text) == {"one": {"a.npy": md5}}


LOCK = """\
schema: '2.0'
stages:
  one:
    cmd: python -m stages.one
    deps:
    - path: code.py
      hash: md5
      md5: 00000000000000000000000000000000
      size: 1
    outs:
    - path: a b.npy
      hash: md5
      md5: 5d41402abc4b2a76b9719d911017c592
      size: 5
  two:
    cmd: python -m stages.two
    deps:
    - path: a b.npy
      hash: md5
      md5: ffffffffffffffffffffffffffffffff
      size: 5
    params:
      params.yaml:
        md5: 3
    outs:
    - path: b.npy
      hash: md5
      md5: 7d793037a0760186574b0282f2f435e7
      size: 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a lock and what it lists, in which DVC runs a stage."""
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "a b.npy").write_text("hello")
    (tmp_path / "b.npy").write_text("world")
    (tmp_path / "code.py").write_text("!")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "two")
    return tmp_path


def test_inputs_as_they_were_written_pass(folder: Path) -> None:
    provenance.check(Path("a b.npy"), Path("b.npy"))


def test_code_and_files_that_the_lock_does_not_list_as_outputs_are_not_compared(
    folder: Path,
) -> None:
    (folder / "new.npy").write_text("new")
    provenance.check(Path("code.py"), Path("new.npy"))


def test_each_input_that_changed_is_named_with_both_sums(folder: Path) -> None:
    (folder / "a b.npy").write_text("jello")
    (folder / "b.npy").write_text("")
    with pytest.raises(DataError) as caught:
        provenance.check(Path("a b.npy"), Path("b.npy"))
    assert str(caught.value) == (
        "a b.npy, b.npy changed since a stage wrote it\n"
        "  expected: MD5 5d41402abc4b2a76b9719d911017c592\n"
        "            MD5 7d793037a0760186574b0282f2f435e7\n"
        "  found:    MD5 7aa6991a62353dd2761280cf592542dc\n"
        "            MD5 d41d8cd98f00b204e9800998ecf8427e\n"
        "  where:    dvc.lock has the expected MD5\n"
        "  next:     python -m tools.repair moves it out of the way, here and in DVC's cache; "
        "then dvc repro"
    )


def test_a_stage_that_dvc_yaml_no_longer_has_is_not_believed(folder: Path) -> None:
    before = "".join(line for line in LOCK.splitlines(keepends=True) if "schema" not in line)
    renamed = (
        before.replace("stages:\n", "").replace("  two:", "  old:").replace("  one:", "  x@1:")
    )
    stale = renamed.replace("5d41402abc4b2a76b9719d911017c592", "0" * 32)
    (folder / "dvc.lock").write_text(
        LOCK + stale.replace("7d793037a0760186574b0282f2f435e7", "1" * 32)
    )
    with pytest.raises(DataError, match=r"a b\.npy, b\.npy changed since"):
        provenance.check(Path("a b.npy"), Path("b.npy"))  # without dvc.yaml all stages count
    (folder / "dvc.yaml").write_text("stages:\n  one:\n    cmd: a\n  'two': {cmd: b}\n")
    provenance.check(Path("a b.npy"), Path("b.npy"))
    assert provenance.damages() == []
    assert provenance.written() == {
        Path("a b.npy"): "5d41402abc4b2a76b9719d911017c592",
        Path("b.npy"): "7d793037a0760186574b0282f2f435e7",
    }


@pytest.mark.parametrize(
    ("pipeline", "kept"),
    [
        (b"stages:\n  a: {cmd: x}\n", {"a": 1}),
        (b"stages:\n  b:\n    foreach: [1, 2]\n    do: {cmd: x}\n", {"b@1": 2, "b@2": 3}),
        (b"stages: {c: {cmd: a}}\n", {}),
        (b"vars: [a]\n", {}),
        (b"", {}),
        (None, {"a": 1, "b@1": 2, "b@2": 3}),
    ],
)
def test_the_current_stages_are_those_of_dvc_yaml(
    pipeline: bytes | None, kept: dict[str, int]
) -> None:
    assert provenance.current({"a": 1, "b@1": 2, "b@2": 3}, pipeline) == kept


def test_a_dvc_yaml_that_is_not_yaml_is_named() -> None:
    with pytest.raises(DataError, match=r"dvc\.yaml cannot be read"):
        provenance.current({}, b"stages: [")


def test_a_missing_input_is_left_to_its_reader(folder: Path) -> None:
    (folder / "b.npy").unlink()
    provenance.check(Path("b.npy"))


def test_a_stage_that_is_run_directly_compares_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "b.npy").write_text("mine")
    monkeypatch.delenv("DVC_STAGE")
    provenance.check(Path("b.npy"))


def test_without_a_lock_there_is_nothing_to_compare_with(folder: Path) -> None:
    (folder / "b.npy").write_text("mine")
    (folder / "dvc.lock").unlink()
    provenance.check(Path("b.npy"))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (LOCK.encode() + b"\xff", "not UTF-8"),
        (LOCK.replace("  two:", "<<<<<<< HEAD\n  two:").encode(), "conflict markers"),
    ],
)
def test_a_lock_that_dvc_did_not_write_is_refused_with_the_next_step(
    folder: Path, content: bytes, found: str
) -> None:
    (folder / "dvc.lock").write_bytes(content)
    with pytest.raises(DataError) as caught:
        provenance.check_outputs()
    assert str(caught.value) == (
        "dvc.lock is not as DVC wrote it\n"
        f"  found:    {found}\n"
        "  next:     git checkout HEAD dvc.lock, then dvc repro"
    )
