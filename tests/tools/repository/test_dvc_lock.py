"""dvc.lock is read in the order of the pipeline, and two of them are compared by meaning."""

import pytest

from core.pipeline.errors import DataError
from tools.repository import dvc_lock
from tools.repository.dvc_lock import Difference, Stage

# As DVC writes it; `train`, although it stands first, reads what `split` writes.
LOCK = b"""
schema: '2.0'
stages:
  train:
    cmd: python -m stages.train
    deps:
    - path: data/split
      hash: md5
      md5: d2.dir
      size: 4
      nfiles: 2
    params:
      params.yaml:
        train:
          lr: 0.1
        train.threads:
    outs:
    - path: models/model.pt
      hash: md5
      md5: m1
      size: 3
  split:
    cmd: python -m stages.split
    outs:
    - path: data/split/train_indices.npy
      hash: md5
      md5: s1
      size: 5
"""


def test_stages_come_after_those_that_they_read_from() -> None:
    split, train = dvc_lock.read(LOCK, None, "a test")
    assert split == Stage(
        "split",
        {"cmd of split in dvc.yaml": "python -m stages.split"},
        {},
        {"data/split/train_indices.npy": "s1"},
    )
    assert train == Stage(
        "train",
        {
            "cmd of train in dvc.yaml": "python -m stages.train",
            "train in params.yaml": {"lr": 0.1},
            "train.threads in params.yaml": None,
        },
        {"data/split": "d2.dir"},
        {"models/model.pt": "m1"},
    )


def test_a_stage_that_dvc_yaml_no_longer_has_is_left_out() -> None:
    pipeline = b"stages:\n  train:\n    cmd: python -m stages.train\n"
    assert [stage.name for stage in dvc_lock.read(LOCK, pipeline, "a test")] == ["train"]


@pytest.mark.parametrize(
    "content",
    [b"", b"stages: [", b"stages: 3", b"stages: {train: {}}", b"\xff", b"<<<<<<< HEAD\nstages:\n"],
)
def test_what_is_not_a_lock_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match=r"dvc\.lock is not in the format of DVC"):
        dvc_lock.read(content, None, "a test")


def stages(**outputs: str) -> list[Stage]:
    """A pipeline of two: `first` writes a and b, `second` reads a and writes c."""
    hashes = {"a": "1", "b": "1", "c": "1", **outputs}
    return [
        Stage("first", {"cmd": "one"}, {"code": "1"}, {"a": hashes["a"], "b": hashes["b"]}),
        Stage("second", {"cmd": "two"}, {"a": hashes["a"]}, {"c": hashes["c"]}),
    ]


def test_the_same_locks_have_no_differences() -> None:
    assert dvc_lock.compare(stages(), stages()) == []


def test_what_a_stage_writes_differently_shows_in_it_and_in_those_that_read_it() -> None:
    first, second = dvc_lock.compare(stages(), stages(a="2", c="2"))
    assert first == Difference("first", [], [], ["a"])
    assert second == Difference("second", [], ["a"], ["c"])
    assert first.began
    assert not second.began


def test_a_stage_that_read_something_else_and_wrote_the_same_did_not_begin_it() -> None:
    _, second = dvc_lock.compare(stages(), stages(a="2"))
    assert second == Difference("second", [], ["a"], [])
    assert not second.began


def test_an_output_that_is_known_to_differ_differs_whatever_its_hash() -> None:
    (second,) = dvc_lock.compare(stages(), stages(), changed={"c", "elsewhere"})
    assert second == Difference("second", [], [], ["c"])


def test_a_stage_that_one_lock_lacks_differs_in_everything() -> None:
    (second,) = dvc_lock.compare(stages(), stages()[:1])
    assert second == Difference("second", ["cmd"], ["a"], ["c"])
    assert dvc_lock.compare(stages()[:1], stages()) == [second]


def test_a_changed_parameter_is_a_difference_even_between_null_and_missing() -> None:
    old = [Stage("train", {"train.threads": None}, {}, {})]
    new = [Stage("train", {}, {}, {})]
    assert dvc_lock.compare(old, new) == [Difference("train", ["train.threads"], [], [])]


@pytest.mark.parametrize(
    ("path", "folder", "inside"),
    [
        ("data/raw/a", "data/raw", True),
        ("data/raw", "data/raw", True),
        ("data/raw/a", "data/raw/", True),
        ("data/rawest", "data/raw", False),
        ("data", "data/raw", False),
    ],
)
def test_a_folder_holds_what_is_below_it(path: str, folder: str, inside: bool) -> None:
    assert dvc_lock.within(path, folder) is inside
