"""Corrupted files and bad inputs: every stage refuses each in a few lines, and changes nothing.

What a reader makes of each kind of damage is tested next to it (test_arrays.py,
test_weights.py, test_params.py, test_archives.py); here the stages must
report it, as commands, before they write anything.
"""

import functools
import gzip
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from core.data import arrays
from core.data.datasets import DATASETS, mnist_like
from core.pipeline import params, runner
from core.pipeline.errors import PipelineError
from core.training import architectures, weights
from stages import download, evaluate, split, train
from stages import test_report as report
from tests.support import measured, parameters, sections
from tests.support.project import ROOT
from tools.experiments import recipe_files

STAGES: dict[str, Callable[[], None]] = {
    "download": download.main,
    "split": split.main,
    "train": train.main,
    "evaluate": evaluate.main,
    "test_report": report.main,
}
CLASSES = "data/raw/classes.json"
TRAIN_IMAGES = "data/raw/train_images.npy"
TRAIN_LABELS = "data/raw/train_labels.npy"
TEST_IMAGES = "data/raw/test_images.npy"
TEST_LABELS = "data/raw/test_labels.npy"
TRAIN_INDICES = "data/split/train_indices.npy"
VAL_INDICES = "data/split/val_indices.npy"
MODEL = "models/model.pt"
EVALUATION, HISTORY, VAL_PREDICTIONS = measured.INPUTS
READ_BY = {
    CLASSES: ("split", "train", "evaluate", "test_report"),
    TRAIN_IMAGES: ("train", "evaluate", "test_report"),
    TRAIN_LABELS: ("split", "train", "evaluate"),
    TRAIN_INDICES: ("train", "evaluate", "test_report"),
    VAL_INDICES: ("train", "evaluate"),
    TEST_IMAGES: ("test_report",),
    TEST_LABELS: ("test_report",),
    MODEL: ("evaluate", "test_report"),
    EVALUATION: ("test_report",),
    HISTORY: ("test_report",),
    VAL_PREDICTIONS: ("test_report",),
}
SHAPE = (8, 8, 1)
NAMES = ["zero", "one", "two", "three"]
ARCHITECTURES = ("logistic_regression", "mlp", "cnn", "resnet18")

# What every user's mistake looks like: what happened, then at least one of four labels.
FORM = re.compile(
    r"error: \S[^\n]*\n(?:  (?:expected|found|where|next): +\S[^\n]*\n(?: {12}\S[^\n]*\n)*)+"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the stages read: 40 images to train on, 20 to test on."""
    folder = tmp_path_factory.mktemp("whole")
    generator = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 20)):
        images = generator.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
        arrays.write(folder / f"data/raw/{part}_images.npy", images)
        arrays.write(folder / f"data/raw/{part}_labels.npy", np.arange(count) % 4)
    (folder / CLASSES).write_text(json.dumps(NAMES))
    arrays.write(folder / TRAIN_INDICES, np.arange(30))
    arrays.write(folder / VAL_INDICES, np.arange(30, 40))
    weights.save(folder / MODEL, state("logistic_regression"))
    (folder / "params.yaml").write_text(parameters.text(), encoding="utf-8")
    (folder / "stages").mkdir()
    for source in (ROOT / "stages").glob("test_report.*"):
        shutil.copy(source, folder / "stages")
    measured.write(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it for a test to break, as the working directory."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "check_source", lambda *_: None)  # the code is not copied
    return tmp_path


def state(name: str) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in _state(name).items()}


@functools.cache
def _state(name: str) -> dict[str, torch.Tensor]:
    return architectures.build(sections.model(name), SHAPE, len(NAMES)).state_dict()


def contents(folder: Path) -> dict[str, str]:
    """What lies in a folder: for each file its bytes, in short."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(stage: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a stage as its command does; return its status."""
    monkeypatch.setattr(sys, "argv", [f"stages/{stage}.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runner.run(STAGES[stage])
    assert isinstance(ended.value.code, int)
    return ended.value.code


Refused = Callable[..., str]


@pytest.fixture
def refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    """Run a stage that must refuse; return what it said."""

    def run_and_check(stage: str) -> str:
        before = contents(folder)
        status = run(stage, monkeypatch)
        said = capsys.readouterr().err
        assert status == 1
        assert FORM.fullmatch(said), said
        assert len(said.splitlines()) <= 15
        assert contents(folder) == before
        return said

    return run_and_check


@pytest.mark.parametrize("stage", ["split", "train", "evaluate", "test_report"])
def test_without_a_fault_the_stages_end_well(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    assert run(stage, monkeypatch) == 0


def npy(array: NDArray[Any], *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def npz(good: bytes) -> bytes:
    file = io.BytesIO()
    np.savez(file, np.load(io.BytesIO(good)))
    return file.getvalue()


# Damage to any array: the change of the file, and the error message.
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda good: b"", "found:    0 bytes; EOF"),
    "a text": (lambda good: b"hello, world", "found:    12 bytes; the magic string"),
    "a web page": (lambda good: b"<!DOCTYPE html>" * 20, "found:    300 bytes; the magic string"),
    "truncated in the header": (lambda good: good[:60], "found:    60 bytes; EOF"),
    "a byte short": (lambda good: good[:-1], "mmap length is greater than file size"),
    "half": (lambda good: good[: len(good) // 2 + 64], "mmap length is greater"),
    "a byte long": (lambda good: good + b"\0", "1 byte too many"),
    "another byte order": (
        lambda good: npy(np.load(io.BytesIO(good)).astype(">u4")),
        "holds another kind of array",
    ),
    "floats": (
        lambda good: npy(np.load(io.BytesIO(good)).astype(np.float64)),
        "found:    float64 (",
    ),
    "another dimension": (
        lambda good: npy(np.load(io.BytesIO(good))[np.newaxis]),
        "holds another kind of array",
    ),
    "no rows": (lambda good: npy(np.load(io.BytesIO(good))[:0]), "holds another kind of array"),
    "objects": (lambda good: npy(np.array([{}], object), allow_pickle=True), "Python objects"),
    "an archive": (npz, "the magic string is not correct"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("file", "stage"),
    [(file, stage) for file, stages in READ_BY.items() for stage in stages if file[-1] == "y"],
)
def test_a_damaged_array_is_refused_by_every_stage_that_reads_it(
    folder: Path, refused: Refused, file: str, stage: str, damage: str
) -> None:
    spoil, found = DAMAGES[damage]
    (folder / file).write_bytes(spoil((folder / file).read_bytes()))
    said = refused(stage)
    assert file in said.splitlines()[0]
    assert found in said
    assert "expected: " in said
    assert f"next:     dvc checkout --force {file}, or dvc repro" in said


@pytest.mark.parametrize(
    ("file", "stage"), [(file, stage) for file, stages in READ_BY.items() for stage in stages]
)
def test_a_missing_file_is_named_with_what_makes_it(
    folder: Path, refused: Refused, file: str, stage: str
) -> None:
    (folder / file).unlink()
    said = refused(stage)
    assert said.startswith(f"error: {file} is missing\n")
    assert "next:     dvc repro " in said


@dataclass
class Wrong:
    """Complete arrays with wrong content."""

    file: str
    change: Callable[[NDArray[Any]], NDArray[Any]]
    expected: str
    found: str


def put(position: int, value: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(array: NDArray[Any]) -> NDArray[Any]:
        array[position] = value
        return array

    return change


WRONG = {
    "a label below": Wrong(TRAIN_LABELS, put(7, -1), "from 0 to 3", "from -1 to 3"),
    "a label above": Wrong(TRAIN_LABELS, put(7, 4), "from 0 to 3", "from 0 to 4"),
    "a test label above": Wrong(TEST_LABELS, put(0, 2**40), "from 0 to 3", f"to {2**40}"),
    "a label too many": Wrong(
        TRAIN_LABELS, lambda labels: np.append(labels, 0), "a label for each", "40 images and 41"
    ),
    "a test image too few": Wrong(
        TEST_IMAGES, lambda images: images[1:], "a label for each", "19 images and 20 labels"
    ),
    "an index past the end": Wrong(TRAIN_INDICES, put(29, 40), "from 0 to 39", "from 0 to 40"),
    "an index below": Wrong(VAL_INDICES, put(0, -1), "from 0 to 39", "from -1 to 39"),
    "an index twice": Wrong(VAL_INDICES, put(0, 31), "10 different", "9 different indices"),
    "an image in both files": Wrong(VAL_INDICES, put(0, 3), "no index in both", "the first is 3"),
}


@pytest.mark.parametrize(
    ("case", "stage"),
    [
        (case, stage)
        for case, wrong in WRONG.items()
        for stage in READ_BY[wrong.file]
        if (case, stage) != ("a label too many", "split")  # it sees no images
    ],
)
def test_whole_arrays_with_wrong_values_are_refused_with_the_numbers(
    folder: Path, refused: Refused, case: str, stage: str
) -> None:
    wrong = WRONG[case]
    arrays.write(folder / wrong.file, wrong.change(np.load(folder / wrong.file)))
    said = refused(stage)
    assert wrong.file in said
    assert re.search(rf"expected: .*{re.escape(wrong.expected)}", said)
    assert re.search(rf"found: .*{re.escape(wrong.found)}", said)
    assert "next:     dvc " in said


@pytest.mark.parametrize("stage", READ_BY[CLASSES])
@pytest.mark.parametrize(
    "content", [b"", b"[", b"[]", b'{"0": "zero"}', b'["a", 1]', b'["\xff"]', b"[" * 100_000]
)
def test_names_of_classes_that_are_none_are_refused(
    folder: Path, refused: Refused, stage: str, content: bytes
) -> None:
    (folder / CLASSES).write_bytes(content)
    said = refused(stage)
    assert said.startswith(f"error: {CLASSES} does not hold the names of the classes\n")
    assert "next:     dvc repro --force download" in said


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        (EVALUATION, b"", "JSONDecodeError"),
        (EVALUATION, b"[" * 100_000, "RecursionError"),
        (EVALUATION, b'{"train": {"loss": 1, "accuracy": 1}}', "KeyError: 'val'"),
        (EVALUATION, b'{"train": 1, "val": 1}', "TypeError"),
        (EVALUATION, b'{"train": {"loss": NaN, "accuracy": 1}, "val": {}}', "KeyError"),
        (HISTORY, b"", "not enough values"),
        (HISTORY, b"epoch,loss\n0,1\n", "1 row below epoch,loss"),
        (VAL_PREDICTIONS, b"index,label,prediction,probability\n", "0 rows below"),
        (VAL_PREDICTIONS, b"index,label,prediction,probability\n1,2,3\n", "row 1: "),
        (VAL_PREDICTIONS, b"index,label,prediction,probability\n1,2,3,inf\n", "row 1: "),
        (VAL_PREDICTIONS, b"index,label,prediction,probability\n1,2,3,x\n", "could not convert"),
        (VAL_PREDICTIONS, b"\xff", "'utf-8' codec"),
    ],
)
def test_results_of_other_stages_that_are_none_are_refused(
    folder: Path, refused: Refused, file: str, content: bytes, found: str
) -> None:
    (folder / file).write_bytes(content)
    said = refused("test_report")
    assert said.startswith(f"error: {file} does not hold what its stage writes\n")
    assert f"found:    {found}" in said
    assert f"next:     git checkout {file}, or dvc repro" in said


class Trap:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("sprung"),))


def saved(value: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def with_value(good: dict[str, torch.Tensor], value: float) -> dict[str, torch.Tensor]:
    key = next(iter(good))
    good[key].view(-1)[0] = value
    return good


def flipped(good: dict[str, torch.Tensor]) -> bytes:
    """A model file with one bit of a weight flipped, and the rest as it was written."""
    good = {key: value.contiguous() for key, value in good.items()}
    content = bytearray(saved(good))
    value = max(good.values(), key=torch.numel).view(-1)[:2]
    content[content.index(value.numpy().tobytes())] ^= 1
    return bytes(content)


def packed(good: dict[str, torch.Tensor]) -> bytes:
    """The same members, compressed, with one more that unpacks to twenty million zeros."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved(good))) as source,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
        target.writestr("archive/zeros", bytes(20_000_000))
    return file.getvalue()


# Replacements for an architecture's weights, and the error message.
SPOILED: dict[str, tuple[Callable[[dict[str, torch.Tensor]], bytes], str]] = {
    "empty": (lambda good: b"", "found:    0 bytes; File is not a zip file"),
    "a text": (lambda good: b"hello", "found:    5 bytes; File is not a zip file"),
    "half": (lambda good: saved(good)[: len(saved(good)) // 2], "File is not a zip file"),
    "a flipped bit": (flipped, "does not match its checksum"),
    "code in an archive": (lambda good: saved(good | {"x": Trap()}), "torch.load refuses them"),
    "code in an old archive": (
        lambda good: saved(good | {"x": Trap()}, _use_new_zipfile_serialization=False),
        "File is not a zip file",
    ),
    "code in a pickle": (lambda good: pickle.dumps({"x": Trap()}), "File is not a zip file"),
    "a list": (lambda good: saved(list(good.values())), "found:    list"),
    "numbers": (lambda good: saved(dict.fromkeys(good, 1.0)), "found:    dict"),
    "NaN": (lambda good: saved(with_value(good, torch.nan)), "weights that are not finite"),
    "infinite": (lambda good: saved(with_value(good, -torch.inf)), "weights that are not finite"),
    "a weight too few": (lambda good: saved(dict(list(good.items())[1:])), "for these images"),
    "a weight too many": (lambda good: saved(good | {"x": torch.zeros(1)}), "x float32 (1,)"),
    "doubles": (
        lambda good: saved({key: value.double() for key, value in good.items()}),
        "float64",
    ),
    "a bomb": (packed, "compressed"),
}


def choose(folder: Path, architecture: str) -> None:
    text = (folder / "params.yaml").read_text()
    chosen = text.replace("name: logistic_regression", f"name: {architecture}")
    (folder / "params.yaml").write_text(chosen)


@pytest.mark.parametrize("stage", READ_BY[MODEL])
@pytest.mark.parametrize(
    ("architecture", "case"),
    [
        (architecture, case)
        for architecture in ARCHITECTURES
        for case in SPOILED
        # The largest, of 45 MB, with a few only: to keep the tests short.
        if architecture != "resnet18" or case in ("a flipped bit", "code in an archive", "NaN")
    ],
)
def test_a_corrupted_model_is_refused_and_nothing_in_it_is_run(
    folder: Path, refused: Refused, case: str, architecture: str, stage: str
) -> None:
    spoil, found = SPOILED[case]
    choose(folder, architecture)
    (folder / MODEL).write_bytes(spoil(state(architecture)))
    said = refused(stage)
    assert said.startswith(f"error: {MODEL} ")
    assert found in said
    assert "next:     dvc " in said
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize("stage", READ_BY[MODEL])
@pytest.mark.parametrize("chosen", ARCHITECTURES)
@pytest.mark.parametrize("trained", ARCHITECTURES)
def test_the_weights_of_another_architecture_are_refused_by_name(
    folder: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    trained: str,
    chosen: str,
    stage: str,
) -> None:
    choose(folder, chosen)
    (folder / MODEL).write_bytes(saved(state(trained)))
    if trained == chosen:
        assert run(stage, monkeypatch) == 0
        return
    said = refused(stage)
    assert said.startswith(f"error: {MODEL} is not a {chosen} for these images\n")
    assert f"(model.name: {chosen})" in said
    assert "next:     dvc repro trains the model that params.yaml names" in said


@pytest.mark.parametrize("stage", READ_BY[MODEL])
def test_a_model_for_images_of_another_size_is_refused(
    folder: Path, refused: Refused, stage: str
) -> None:
    for file in (TRAIN_IMAGES, TEST_IMAGES):
        arrays.write(folder / file, np.load(folder / file)[:, :4])
    assert re.search(r"expected: .*linear\.weight float32 \(4, 32\)", refused(stage))


GOOD = parameters.text()


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


SEED = "  lr: 0.001"
# Contents of params.yaml, and the error message: with the line, and mostly the column.
PARAMS: dict[str, tuple[str | bytes, str]] = {
    "a tab": (changed(SEED, "\tlr: 0.001"), f"line {line_of(GOOD, SEED)}, column 1"),
    "a key twice": (
        changed(SEED, f"{SEED}\n{SEED}"),
        f"train.lr (line {line_of(GOOD, SEED)}, column 3): stands twice",
    ),
    "NaN": (
        changed(SEED, "  lr: .nan"),
        "column 3): expected a number above 0, at most 1e38, found .nan",
    ),
    "1e400": (changed(SEED, "  lr: 1e400"), "expected a number above 0, at most 1e38, found 1e400"),
    "a list for a number": (changed(SEED, "  lr: [1]"), "above 0, at most 1e38, found a list"),
    "a section for a number": (
        changed(SEED, "  lr: {a: 1}"),
        "above 0, at most 1e38, found a section",
    ),
    "a text for a number": (changed(SEED, "  lr: '0.1'"), "above 0, at most 1e38, found '0.1'"),
    "an alias of a section": (
        changed("\ntrain:\n", "\ntrain: &t\n").replace(SEED, "  lr: *t"),
        "column 3): an alias of a whole section or list; write it out",
    ),
    "an anchor that is nowhere": (changed(SEED, "  lr: *x"), "undefined alias 'x'"),
    "ten megabytes": (GOOD + "#" * 10_000_000, "at most 100,000 bytes"),
    "a merge key": (changed(SEED, f"{SEED}\n  <<: {{a: 1}}"), "a merge key; write its keys out"),
    "two documents": (f"{GOOD}---\na: 1\n", "another document"),
    "latin-1": (changed("±", "é").encode("latin-1", "replace"), "byte 0xe9"),
    "utf-16": (GOOD.encode("utf-16"), "byte 0xff"),
    "NUL": (changed(SEED, "  lr: \0"), "the character U+0000"),
    "10,000 brackets": (changed(SEED, "  lr: " + "[" * 10_000), "found:    10,0"),
    "2,000 braces": (changed(SEED, "  lr: " + "{a: " * 2_000), "found:    2,0"),
    "10,000 dashes": (f"{GOOD}x:\n  " + "- " * 10_000, "within each other"),
    "nothing": ("", f"expected the keys {', '.join(params.schemas())}"),
    "a tag": (changed(SEED, "  lr: !!python/name:os.system"), "found !!python/name:os.system"),
    "a misspelt key": (changed(SEED, "  lrr: 0.001"), "unknown; did you mean lr?"),
    "a merge that git left": (
        changed(SEED, f"<<<<<<< HEAD\n{SEED}\n=======\n  lr: 1\n>>>>>>> b"),
        "is not valid YAML",
    ),
    "only git's markers": (changed(SEED, f"{SEED}\n>>>>>>> b"), "is not valid YAML"),
}
READ_RIGHT: dict[str, bytes] = {
    "a byte-order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "Windows line ends": GOOD.replace("\n", "\r\n").encode(),
    "old Mac line ends": GOOD.replace("\n", "\r").encode(),
    "no last line end": GOOD.rstrip("\n").encode(),
    "an alias of a value": GOOD.replace("  seed: 42", "  seed: &s 42", 1)
    .replace("  seed: 42", "  seed: *s", 1)
    .encode(),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", PARAMS)
def test_bad_parameters_are_refused_by_every_stage_with_their_position(
    folder: Path, refused: Refused, case: str, stage: str
) -> None:
    content, found = PARAMS[case]
    (folder / "params.yaml").write_bytes(
        content if isinstance(content, bytes) else content.encode("utf-8")
    )
    said = refused(stage)
    assert said.startswith("error: params.yaml ")
    assert found in said
    assert "next:     " in said
    if case not in ("ten megabytes", "10,000 brackets", "2,000 braces", "10,000 dashes", "nothing"):
        assert re.search(r"line \d+", said)


@pytest.mark.parametrize("case", READ_RIGHT)
def test_parameters_written_unusually_are_read_right(
    folder: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    assert run("split", monkeypatch) == 0
    expected = contents(folder / "data/split")
    (folder / "params.yaml").write_bytes(READ_RIGHT[case])
    assert run("split", monkeypatch) == 0
    assert contents(folder / "data/split") == expected


@pytest.mark.parametrize("stage", STAGES)
def test_a_folder_or_a_circle_of_links_for_params_yaml_is_refused(
    folder: Path, refused: Refused, stage: str
) -> None:
    path = folder / "params.yaml"
    path.unlink()
    assert refused(stage).startswith("error: there is no params.yaml in this folder\n")
    path.symlink_to("params.yaml")
    assert "cannot be read\n  found:    Too many levels of symbolic links\n" in refused(stage)
    path.unlink()
    path.mkdir()
    assert "cannot be read\n  found:    Is a directory\n" in refused(stage)


@pytest.mark.parametrize(
    ("file", "stage"),
    [(file, stage) for file, stages in READ_BY.items() for stage in stages]
    + [("params.yaml", stage) for stage in STAGES],
)
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    stage: str,
) -> None:
    (folder / file).unlink()
    os.mkfifo(folder / file)
    assert run(stage, monkeypatch) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {file}")
    assert "not a file but a pipe, a socket or a device\n" in said


@pytest.mark.parametrize("case", [case for case in PARAMS if case != "nothing"])
def test_bad_recipes_are_refused_as_bad_parameters_are(folder: Path, case: str) -> None:
    content, found = PARAMS[case]
    (folder / "recipes").mkdir()
    (folder / "recipes/bad.yaml").write_bytes(
        content if isinstance(content, bytes) else content.encode("utf-8")
    )
    with pytest.raises(PipelineError) as caught:
        recipe_files.read("bad", folder / "params.yaml")
    said = f"error: {caught.value}\n"
    assert FORM.fullmatch(said)
    assert said.startswith("error: recipes/bad.yaml ")
    assert found in said


def test_a_flipped_bit_in_a_bundled_file_is_refused_until_the_file_is_brought_back(
    folder: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = b"\0\0\x08\x03\0\0\0\4\0\0\0\x1c\0\0\0\x1c"
    images, labels = header + bytes(4 * 784), b"\0\0\x08\x01\0\0\0\4" + bytes(range(4))
    sums = [hashlib.sha256(content).hexdigest() for content in (images, labels)]
    small = mnist_like(
        tuple(NAMES),
        train_images=sums[0], train_labels=sums[1], test_images=sums[0], test_labels=sums[1],
        train_count=4, test_count=4,
    )  # fmt: skip
    monkeypatch.setitem(DATASETS, "mnist", small)
    mirror = folder / "data/mirror/mnist"
    mirror.mkdir(parents=True)
    for name in small.files:
        content = images if "images" in name else labels
        (mirror / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
    (folder / "params.yaml").write_text(re.sub(r"    - https?://.*\n", "", GOOD))
    assert run("download", monkeypatch) == 0
    written = contents(folder / "data/raw")

    for path in sorted(mirror.iterdir()):
        whole = path.read_bytes()
        for position in (0, len(whole) // 2, len(whole) - 6):  # head, body, checksum
            damaged = bytearray(whole)
            damaged[position] ^= 1
            path.write_bytes(damaged)
            said = refused("download")
            assert said.startswith(f"error: no source served {path.stem}\n")
            assert f"SHA-256 {small.files[path.stem].sha256}" in said
            assert f"data/mirror/mnist: {path.name}: " in said
            assert "git restore data/mirror/mnist" in said
        path.write_bytes(whole)

    assert run("download", monkeypatch) == 0
    assert contents(folder / "data/raw") == written


@pytest.mark.parametrize("stage", STAGES)
def test_debug_adds_the_traceback_and_keeps_the_status(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
) -> None:
    (folder / "params.yaml").write_text("")
    assert run(stage, monkeypatch, "--debug") == 1
    traceback, error = re.split(r"^(?=error: )", capsys.readouterr().err, flags=re.MULTILINE)
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert FORM.fullmatch(error)
