"""A file is written whole or not at all, replaces links, and holds rounded numbers."""

import errno
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.pipeline import files


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let no file of this process grow beyond 1,000 bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, failure: BaseException
) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("old")

    with pytest.raises(type(failure)), files.replacing(path) as file:  # noqa: PT012
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
        raise failure

    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["metrics.json"]


def test_a_failure_leaves_no_file_where_there_was_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), files.replacing(tmp_path / "a" / "new"):
        raise ValueError("no")

    assert names_in(tmp_path / "a") == []


def test_missing_folders_are_made(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "models" / "deep" / "model.pt", b"\x00\xff")

    assert (tmp_path / "models" / "deep" / "model.pt").read_bytes() == b"\x00\xff"
    assert names_in(tmp_path / "models" / "deep") == ["model.pt"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_into_the_cache_is_replaced_and_not_written_through(
    tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    cached = tmp_path / "cached"
    cached.write_text("cached")
    cached.chmod(0o444)  # as DVC protects what it links to
    path = tmp_path / "model.pt"
    link(cached, path)

    files.write_text(path, "new")

    assert path.read_text() == "new"
    assert not path.is_symlink()
    assert cached.read_text() == "cached"
    assert cached.stat().st_mode & 0o777 == 0o444
    assert path.stat().st_mode & 0o200  # the new file may be written again


def test_a_link_to_nowhere_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.symlink_to(tmp_path / "gone")

    files.write_text(path, "new")

    assert (path.read_text(), path.is_symlink()) == ("new", False)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_permissions_that_the_user_wants(
    tmp_path: Path, mask: int, mode: int
) -> None:
    old = os.umask(mask)
    try:
        files.write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(old)

    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("old")

    with pytest.raises(OSError, match="File too large") as caught:
        files.write_bytes(path, b"x" * 2000)

    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["model.pt"]


def test_a_folder_in_its_place_is_reported_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.mkdir()

    with pytest.raises(IsADirectoryError) as caught:
        files.write_text(path, "new")

    assert caught.value.filename == str(path)
    assert names_in(tmp_path) == ["model.pt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_folder_that_may_not_be_written_to_is_reported_with_the_name_of_the_file(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o555)

    with pytest.raises(PermissionError) as caught:
        files.write_text(tmp_path / "model.pt", "new")

    assert caught.value.filename == str(tmp_path / "model.pt")


def test_an_error_that_is_not_about_the_file_keeps_its_name(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError) as caught,
        files.replacing(tmp_path / "copy") as file,
    ):
        file.write((tmp_path / "original").read_bytes())

    assert caught.value.filename == str(tmp_path / "original")


def test_json_keeps_the_order_of_its_keys_and_rounds_its_numbers(tmp_path: Path) -> None:
    content = {
        "loss": 1 / 3,
        "accuracy": np.float64(2 / 3),
        "nested": {"b": [0.1 + 0.2, (1, True, None)], "a": -0.0000001},
        "single": np.float32(0.1),
        "large": 123456789.123456789,
        "name": "é",
    }

    files.write_json(tmp_path / "a.json", content)

    assert (tmp_path / "a.json").read_bytes() == (
        b"{\n"
        b'  "loss": 0.333333,\n'
        b'  "accuracy": 0.666667,\n'
        b'  "nested": {\n'
        b'    "b": [\n'
        b"      0.3,\n"
        b"      [\n"
        b"        1,\n"
        b"        true,\n"
        b"        null\n"
        b"      ]\n"
        b"    ],\n"
        b'    "a": 0.0\n'
        b"  },\n"
        b'  "single": 0.1,\n'
        b'  "large": 123456789.123457,\n'
        b'  "name": "\\u00e9"\n'
        b"}\n"
    )


def test_csv_has_unix_line_ends_and_rounds_its_numbers(tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [
        (0, 2.3025850929940455, "plain"),
        (np.int64(1), np.float32(0.1), 'a "quoted", one'),
        (2, np.float64(-1e-9), "é"),
    ]

    files.write_csv(tmp_path / "a.csv", ("epoch", "train_loss", "note"), iter(rows))

    assert (tmp_path / "a.csv").read_bytes() == (
        "epoch,train_loss,note\n"
        "0,2.302585,plain\n"
        '1,0.1,"a ""quoted"", one"\n'
        "2,0.0,é\n"
    ).encode()  # fmt: skip


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float32("-inf")])
def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValueError, match="is not a number that is written to a file"):
        files.write_json(tmp_path / "a.json", {"loss": number})
    with pytest.raises(ValueError, match="is not a number that is written to a file"):
        files.write_csv(tmp_path / "a.csv", ["loss"], [[number]])

    assert names_in(tmp_path) == []


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".model.pt.4711.partial").write_text("half")
    (tmp_path / ".other.pt.4711.partial").write_text("of another file")

    files.write_text(tmp_path / "model.pt", "new")

    assert names_in(tmp_path) == [".other.pt.4711.partial", "model.pt"]


def test_a_file_is_removed_with_what_a_killed_writer_left(tmp_path: Path) -> None:
    for name in ("checkpoint.pt", ".checkpoint.pt.4711.partial", "model.pt"):
        (tmp_path / name).write_text("x")

    files.remove(tmp_path / "checkpoint.pt")
    files.remove(tmp_path / "checkpoint.pt")  # not there any more

    assert names_in(tmp_path) == ["model.pt"]


def test_on_a_file_system_without_locks_files_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:  # as the system answers there
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    (tmp_path / ".a.txt.1.partial").touch()  # of a writer that was killed
    files.write_text(tmp_path / "a.txt", "whole")

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "whole"}


def test_what_a_living_writer_has_written_so_far_is_left_to_him(tmp_path: Path) -> None:
    path = tmp_path / "[a] model*.pt"
    writer = multiprocessing.get_context("spawn").Process(target=write_slowly, args=[path])
    writer.start()
    while not (tmp_path / "half").exists():
        assert writer.is_alive()
    (partial,) = tmp_path.glob(".*.partial")

    files.write_text(path, "of the quick one")

    assert partial.read_text() == "half of "
    assert path.read_text() == "of the quick one"
    (tmp_path / "continue").touch()
    writer.join(timeout=60)
    assert path.read_text() == "half of the slow one"
    assert writer.exitcode == 0


def write_slowly(path: Path) -> None:
    with files.replacing(path) as file:
        file.write(b"half of ")
        file.flush()
        (path.parent / "half").touch()
        while not (path.parent / "continue").exists():
            time.sleep(0.01)
        file.write(b"the slow one")
