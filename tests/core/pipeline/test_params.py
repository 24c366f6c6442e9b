"""params.yaml is read strictly: right values, or one error that names every problem."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from ruamel.yaml import YAML

from core.data.split_params import SplitParams
from core.pipeline import params
from core.pipeline.errors import ParamsError
from core.pipeline.params import Params
from core.report import test_report_params
from core.training.model_params import ModelParams, architectures
from core.training.numerics_params import NumericsParams
from core.training.train_params import TrainParams
from tests.support import parameters
from tests.support.project import ROOT, Project

COMMITTED = ROOT / "params.yaml"
Values = dict[str, Any]

# The number of each line is asserted below. What else params.yaml has is
# added by `completed`, so that a new parameter changes none of these numbers.
VALID = """\
numerics: fast
dataset:
  name: mnist
  mirrors:
    mnist:
      - data/mirror/mnist
split:
  seed: 1
  val_fraction: 0.25
  stratify: false
  train_size: null
model:
  name: logistic_regression
  standardize: true
  mlp:
    hidden_sizes: [512, 256]
    dropout: 0.2
  cnn:
    channels:
      - [16]
      - [32, 33]
    dropout: 0
train:
  seed: 2
  optimizer: sgd
  lr: 0.1
  schedule: cosine
  momentum: 0.9
  nesterov: true
  weight_decay: 5e-4
  epochs: 3
  batch_size: 100
  shards: 4
  label_smoothing: 0.05
  augment:
    shift: 2
    crop: 0
    flip: true
  patience: null
  keep: last
  threads: null
  device: cpu
test_report:
  most_wrong: 20
launcher: python
"""

Check = Callable[[str | bytes], Params]


def additions(values: Values, known: Values, name: str = "") -> Iterator[tuple[str, Values]]:
    """Yield for each section what VALID lacks in it, innermost first."""
    lacking = {key: value for key, value in values.items() if key not in known}
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(known.get(key), dict) and key != "mirrors":
            yield from additions(value, known[key], f"{name}.{key}" if name else key)
    if lacking:
        yield name, lacking


ADDITIONS = list(
    additions(parameters.checked().model_dump(), YAML(typ="safe", pure=True).load(VALID))
)


def completed(text: str) -> tuple[str, list[int]]:
    """Add what VALID lacks, at the head of each section that is there, and say to which lines."""
    lines = text.split("\n")
    added: list[int] = []
    for name, values in ADDITIONS:
        depth = name.count(".")
        head = "  " * depth + name.rpartition(".")[2] + ":" if name else ""
        if lines.count(head if name else "dataset:") != 1:  # another file altogether
            continue
        place = lines.index(head) + 1 if name else 0
        indent = "  " * (depth + 1) if name else ""
        new = [f"{indent}{key}: {json.dumps(value)}" for key, value in values.items()]
        added = [line + len(new) if line > place else line for line in added]
        added += range(place + 1, place + 1 + len(new))
        lines[place:place] = new
    return "\n".join(lines), added


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Check the given text, completed, as the params.yaml of the working directory.

    An error names the lines of the text as it was given. Bytes are checked as they are.
    """
    monkeypatch.chdir(tmp_path)

    def write_and_check(content: str | bytes) -> Params:
        if isinstance(content, bytes):
            Path("params.yaml").write_bytes(content)
            return params.check()
        text, added = completed(content)
        Path("params.yaml").write_bytes(text.encode())

        def given(line: re.Match[str]) -> str:
            return f"line {int(line[1]) - sum(each < int(line[1]) for each in added)}"

        try:
            return params.check()
        except ParamsError as error:
            details = {
                key: re.sub(r"\bline (\d+)", given, value) for key, value in error.details.items()
            }
            todo = details.pop("next")
            raise ParamsError(error.what, todo=todo, **details) from None

    return write_and_check


def keys(section: type[BaseModel]) -> str:
    """The keys of a section, as an error lists them."""
    return ", ".join(section.model_fields)


def changed(old: str, new: str) -> str:
    assert VALID.count(old) == 1, old
    return VALID.replace(old, new)


def test_what_valid_lacks_is_added_and_lines_are_counted_without_it() -> None:
    text, added = completed(VALID)

    assert {"  logistic_regression: {}", "  resnet18: {}"} <= set(text.split("\n"))
    assert [line for number, line in enumerate(text.split("\n"), 1) if number not in added] == (
        VALID.split("\n")
    )


def test_the_committed_file_holds_what_a_yaml_library_reads_in_it() -> None:
    assert params.check(COMMITTED).model_dump() == YAML(typ="safe", pure=True).load(COMMITTED)


def test_every_value_of_a_valid_file_is_read_with_its_type(check: Check) -> None:
    expected: Values = {
        "numerics": "fast",
        "launcher": "python",
        "dataset": {"name": "mnist", "mirrors": {"mnist": ["data/mirror/mnist"]}},
        "split": {"seed": 1, "val_fraction": 0.25, "stratify": False, "train_size": None},
        "model": {
            "name": "logistic_regression",
            "standardize": True,
            "mlp": {"hidden_sizes": [512, 256], "dropout": 0.2},
            "cnn": {"channels": [[16], [32, 33]], "dropout": 0.0},
        },
        "train": {
            "seed": 2,
            "optimizer": "sgd",
            "lr": 0.1,
            "schedule": "cosine",
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.0005,
            "epochs": 3,
            "batch_size": 100,
            "shards": 4,
            "label_smoothing": 0.05,
            "augment": {"shift": 2, "crop": 0, "flip": True},
            "patience": None,
            "keep": "last",
            "threads": None,
            "device": "cpu",
        },
        "test_report": {"most_wrong": 20},
    }
    for name, values in ADDITIONS:
        section = expected
        for part in filter(None, name.split(".")):
            section = section[part]
        section |= values

    assert check(VALID).model_dump() == expected


@pytest.mark.parametrize(
    ("written", "lr"),
    [("1e-3", 0.001), ("1e-05", 0.00001), ("1.5E+1", 15.0), (".5", 0.5), ("1", 1.0), ("+2", 2.0)],
)
def test_a_number_may_be_written_in_any_usual_way(check: Check, written: str, lr: float) -> None:
    read = check(changed("lr: 0.1", f"lr: {written}")).section(TrainParams).lr

    assert (read, type(read)) == (lr, float)


INTEGER = "expected an integer from 1 to 2^31 - 1, found"
NUMBER = "expected a number above 0, at most 1e38, found"
SEED = "expected an integer from 0 to 2^63 - 1, found"
SHARE = "expected a number from 0 to below 1, found"
LISTS = "expected a list with at least one list of integers >= 1, found"
LIST = "expected a list with at least one integer >= 1, found"
UNSEEN = "a key with a character that cannot be seen; type it again"
NO_NAME = "a key must be a name; put it in quotes if it is one"


@pytest.mark.parametrize(
    ("old", "new", "name", "line", "column", "problem"),
    [
        ("epochs: 3", "epochs: true", "train.epochs", 31, 3, f"{INTEGER} true"),
        ("epochs: 3", "epochs: 3.0", "train.epochs", 31, 3, f"{INTEGER} 3.0"),
        ("epochs: 3", "epochs: 0", "train.epochs", 31, 3, f"{INTEGER} 0"),
        ("epochs: 3", f"epochs: {2**31}", "train.epochs", 31, 3, f"{INTEGER} 2147483648"),
        ("epochs: 3", "epochs:", "train.epochs", 31, 3, f"{INTEGER} nothing"),
        ("epochs: 3", "epochs: 010", "train.epochs", 31, 3, f"{INTEGER} 010"),
        ("epochs: 3", "epochs: 2001-99-99", "train.epochs", 31, 3, f"{INTEGER} 2001-99-99"),
        ("epochs: 3", "epochs: !!int x", "train.epochs", 31, 3, f"{INTEGER} !!int x"),
        ("epochs: 3", f"epochs: {'9' * 5000}", "train.epochs", 31, 3, f"{INTEGER} {'9' * 57}..."),
        ("lr: 0.1", "lr: '0.1'", "train.lr", 26, 3, f"{NUMBER} '0.1'"),
        ("lr: 0.1", "lr: [0.1]", "train.lr", 26, 3, f"{NUMBER} a list"),
        ("lr: 0.1", "lr: {a: 1}", "train.lr", 26, 3, f"{NUMBER} a section"),
        ("lr: 0.1", "lr: .nan", "train.lr", 26, 3, f"{NUMBER} .nan"),
        ("lr: 0.1", "lr: .inf", "train.lr", 26, 3, f"{NUMBER} .inf"),
        ("lr: 0.1", "lr: 1e400", "train.lr", 26, 3, f"{NUMBER} 1e400"),
        ("lr: 0.1", "lr: 1e39", "train.lr", 26, 3, f"{NUMBER} 1e39"),
        ("lr: 0.1", "lr: -0.1", "train.lr", 26, 3, f"{NUMBER} -0.1"),
        ("seed: 1", "seed: -1", "split.seed", 8, 3, f"{SEED} -1"),
        ("seed: 1", f"seed: {2**63}", "split.seed", 8, 3, f"{SEED} 9223372036854775808"),
        ("fraction: 0.25", "fraction: 1", "split.val_fraction", 9, 3,
         "expected a number above 0 and below 1, found 1"),
        ("stratify: false", "stratify: yes", "split.stratify", 10, 3,
         "expected true or false, found yes"),
        ("stratify: false", "stratify: 0", "split.stratify", 10, 3,
         "expected true or false, found 0"),
        ("train_size: null", "train_size: all", "split.train_size", 11, 3,
         "expected an integer >= 1, or null for all, found all"),
        ("standardize: true", "standardize: 1", "model.standardize", 14, 3,
         "expected true or false, found 1"),
        ("name: logistic_regression", "name: resnet", "model.name", 13, 3,
         f"expected {' or '.join(architectures())}, found resnet; did you mean resnet18?"),
        ("  mlp:\n", "  mpl: {}\n  mlp:\n", "model.mpl", 15, 3, "unknown; did you mean mlp?"),
        ("[512, 256]", "512", "model.mlp.hidden_sizes", 16, 5,
         "expected a list of integers >= 1, found 512"),
        ("[512, 256]", "[512, 1.5]", "model.mlp.hidden_sizes.1", 16, 25, f"{INTEGER} 1.5"),
        ("[512, 256]", "[0]", "model.mlp.hidden_sizes.0", 16, 20, f"{INTEGER} 0"),
        ("dropout: 0.2", "dropout: 1", "model.mlp.dropout", 17, 5, f"{SHARE} 1"),
        ("dropout: 0.2", "dropout: -0.1", "model.mlp.dropout", 17, 5, f"{SHARE} -0.1"),
        ("\n      - [16]\n      - [32, 33]", " 5", "model.cnn.channels", 19, 5, f"{LISTS} 5"),
        ("\n      - [16]\n      - [32, 33]", " []", "model.cnn.channels", 19, 5,
         f"{LISTS} an empty list"),
        ("- [16]", "- 16", "model.cnn.channels.0", 20, 9, f"{LIST} 16"),
        ("- [16]", "- []", "model.cnn.channels.0", 20, 9, f"{LIST} an empty list"),
        ("- [32, 33]", "- [32, 0]", "model.cnn.channels.1.1", 21, 14, f"{INTEGER} 0"),
        ("- [32, 33]", "- [32, [33]]", "model.cnn.channels.1.1", 21, 14, f"{INTEGER} a list"),
        ("- [32, 33]", "- {a: 1}", "model.cnn.channels.1", 21, 9, f"{LIST} a section"),
        ("optimizer: sgd", "optimizer: adam", "train.optimizer", 25, 3,
         "expected sgd or adamw, found adam; did you mean adamw?"),
        ("optimizer: sgd", "optimizer: SGD", "train.optimizer", 25, 3,
         "expected sgd or adamw, found SGD; did you mean sgd?"),
        ("schedule: cosine", "schedule: linear", "train.schedule", 27, 3,
         "expected constant or cosine or one_cycle, found linear"),
        ("momentum: 0.9", "momentum: 1.0", "train.momentum", 28, 3, f"{SHARE} 1.0"),
        ("nesterov: true", "nesterov: null", "train.nesterov", 29, 3,
         "expected true or false, found null"),
        ("weight_decay: 5e-4", "weight_decay: -1e-4", "train.weight_decay", 30, 3,
         "expected a number from 0 to 1e38, found -1e-4"),
        ("shards: 4", "shards: 1001", "train.shards", 33, 3,
         "expected an integer from 1 to 1000, found 1001"),
        ("patience: null", f"patience: {2**31}", "train.patience", 39, 3,
         "expected an integer >= 1, or null for never, found 2147483648"),
        ("label_smoothing: 0.05", "label_smoothing: 1", "train.label_smoothing", 34, 3,
         f"{SHARE} 1"),
        ("shift: 2", "shift: 0.5", "train.augment.shift", 36, 5,
         "expected an integer from 0 to 2^31 - 1, in pixels, found 0.5"),
        ("crop: 0", "crop: -1", "train.augment.crop", 37, 5,
         "expected an integer from 0 to 2^31 - 1, in pixels, found -1"),
        ("flip: true", "flip: 0.5", "train.augment.flip", 38, 5,
         "expected true or false, found 0.5"),
        ("flip: true", "flap: true\n    flip: true", "train.augment.flap", 38, 5,
         "unknown; did you mean flip?"),
        ("patience: null", "patience: 0", "train.patience", 39, 3,
         "expected an integer >= 1, or null for never, found 0"),
        ("threads: null", "threads: 0", "train.threads", 41, 3,
         "expected an integer >= 1, or null for one a processor, found 0"),
        # Right by themselves, but not with each other.
        ("momentum: 0.9", "momentum: 0", "train.nesterov", 29, 3,
         "expected false without sgd and a momentum above 0, found true with sgd and 0"),
        ("optimizer: sgd", "optimizer: adamw", "train.nesterov", 29, 3,
         "expected false without sgd and a momentum above 0, found true with adamw and 0.9"),
        ("crop: 0", "crop: 3", "train.augment.crop", 37, 5,
         "expected 0 with a shift, found 3; both move the image"),
        ("batch_size: 100", "batch_size: 3", "train.shards", 33, 3,
         "expected at most train.batch_size = 3, found 4"),
        ("keep: last", "keep: lst", "train.keep", 40, 3,
         "expected last or best, found lst; did you mean last?"),
        ("most_wrong: 20", "most_wrong: 101", "test_report.most_wrong", 44, 3,
         "expected an integer from 1 to 100, found 101"),
        ("- data/mirror/mnist", "- 7", "dataset.mirrors.mnist.0", 6, 9,
         "expected a folder or an http(s) address, found 7"),
        ("\n      - data/mirror/mnist", " []", "dataset.mirrors.mnist", 5, 5,
         "expected a list with at least one folder or address, found an empty list"),
        ("    mnist:", "    mnst:", "dataset.mirrors.mnst", 5, 5, "unknown; did you mean mnist?"),
        ("\n    mnist:\n      - data/mirror/mnist", " {}", "dataset.mirrors", 4, 3,
         "expected a list for the data set mnist, found lists for none"),
        ("\ntest_report:\n  most_wrong: 20", "\ntest_report: 3", "test_report", 43, 1,
         f"expected the keys {keys(test_report_params.TestReportParams)}, found 3"),
        ("lr: 0.1", "lr: 0.1\n  lrr: 1", "train.lrr", 27, 3, "unknown; did you mean lr?"),
        ("lr: 0.1", "lr: 0.1\n  LR: 1", "train.LR", 27, 3, "unknown; did you mean lr?"),
        ("lr: 0.1", "lr: 0.1\n  zzz: 1", "train.zzz", 27, 3,
         f"unknown; known are {keys(TrainParams)}"),
        ("lr: 0.1", "lr: 0.1\n  lr: 0.1", "train.lr", 26, 3,
         "stands twice, here and on line 27"),
        ("lr: 0.1", "lr: 0.1\n  1: 2", "train.1", 27, 3, NO_NAME),
        ("lr: 0.1", "lr: 0.1\n  null: 2", "train.null", 27, 3, NO_NAME),
        ("lr: 0.1", "lr: 0.1\n  [a]: 2", "train.a list", 27, 3, NO_NAME),
        ("lr: 0.1", 'lr: 0.1\n  "\\e[1m": 2', 'train."\\e[1m"', 27, 3, UNSEEN),
        ("lr: 0.1", "l\u200br: 0.1\n  lr: 0.1", "train.l<U+200B ZERO WIDTH SPACE>r", 26, 3, UNSEEN),
        ("lr: 0.1", "lr: 0.1\u00a0", "train.lr", 26, 3, f"{NUMBER} 0.1<U+00A0 NO-BREAK SPACE>"),
        ("lr: 0.1", "lr: ０.1", "train.lr", 26, 3, f"{NUMBER} <U+FF10 FULLWIDTH DIGIT ZERO>.1"),
        ("lr: 0.1", "lr: 0.1 \u200b", "train.lr", 26, 3,
         f"{NUMBER} 0.1 <U+200B ZERO WIDTH SPACE>"),
        ("lr: 0.1", "lr: О.1", "train.lr", 26, 3,
         f"{NUMBER} <U+041E CYRILLIC CAPITAL LETTER O>.1"),
        ("optimizer: sgd", "optimizer: s\ufeffgd", "train.optimizer", 25, 3,
         "expected sgd or adamw, found s<U+FEFF BYTE ORDER MARK>gd; did you mean sgd?"),
        ("optimizer: sgd", "optimizer: 'sgd '", "train.optimizer", 25, 3,
         "expected sgd or adamw, found 'sgd '; did you mean sgd?"),
        ("lr: 0.1", "lr: 0.1\n  <<: {a: 1}", "train.<<", 27, 3,
         "a merge key; write its keys out"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named_with_its_position_what_was_expected_and_what_was_found(
    check: Check, old: str, new: str, name: str, line: int, column: int, problem: str
) -> None:
    with pytest.raises(ParamsError) as caught:
        check(changed(old, new))

    assert str(caught.value) == (
        "params.yaml has a problem\n"
        f"  found:    {name} (line {line}, column {column}): {problem}\n"
        "  next:     fix params.yaml; each parameter is explained there"
    )


def test_a_missing_parameter_is_named_with_the_position_of_its_section(check: Check) -> None:
    content = changed("  lr: 0.1\n", "").replace("numerics: fast\n", "")

    with pytest.raises(ParamsError) as caught:
        check(content)

    assert caught.value.details["found"] == (
        "numerics: missing from the file; expected portable or fast\n"
        "train.lr: missing from train (line 22, column 1); expected a number above 0, at most 1e38"
    )


def test_all_problems_are_reported_at_once(check: Check) -> None:
    content = changed("lr: 0.1", "lrr: abc").replace("epochs: 3", "epochs: 0")
    content = content.replace("  stratify: false\n", "").replace("numerics: fast", "numerics: fats")

    with pytest.raises(ParamsError) as caught:
        check(content + "train: 3\n")

    assert caught.value.details["found"].split("\n") == [
        "train (line 22, column 1): stands twice, here and on line 45",
        "numerics (line 1, column 1): expected portable or fast, found fats; did you mean fast?",
        "split.stratify: missing from split (line 7, column 1); expected true or false",
        "train.lr: missing from train (line 22, column 1); expected a number above 0, at most 1e38",
        "train.epochs (line 30, column 3): expected an integer from 1 to 2^31 - 1, found 0",
        "train.lrr (line 25, column 3): unknown; did you mean lr?",
    ]


def test_of_a_thousand_problems_the_first_are_reported_and_none_at_length(check: Check) -> None:
    content = f"{'k' * 1000}: 1\n" + "".join(f"key{number}: 1\n" for number in range(999))
    count = 1000 + len(params.schemas())  # all sections are missing

    with pytest.raises(ParamsError, match=f"has {count:,} problems") as caught:
        check(content)

    reported = caught.value.details["found"].split("\n")
    assert reported[-1] == f"and {count - 20:,} more"
    assert len(reported) == 21
    assert max(map(len, reported)) < 500


def test_a_gpu_is_refused_with_portable_numerics(check: Check) -> None:
    content = changed("device: cpu", "device: cuda")
    assert check(content).section(TrainParams).device == "cuda"  # with fast numerics
    with pytest.raises(
        ParamsError, match="expected cpu with portable numerics, found cuda; set numerics: fast"
    ):
        check(content.replace("fast", "portable"))


def test_several_threads_are_accepted_with_both_numerics(check: Check) -> None:
    # With portable numerics they compute shards in parallel, which changes no bit.
    content = changed("threads: null", "threads: 4")

    assert check(content).section(TrainParams).threads == 4
    assert check(content.replace("fast", "portable")).section(TrainParams).threads == 4


@pytest.mark.parametrize(
    ("content", "found"),
    [("", "nothing"), ("# only a comment\n", "nothing"), ("- a\n- b\n", "a list"), ("hi", "hi")],
)
def test_a_file_without_sections_is_refused_with_those_expected(
    check: Check, content: str, found: str
) -> None:
    with pytest.raises(ParamsError) as caught:
        check(content)

    assert caught.value.details["found"] == (
        f"the file: expected the keys {', '.join(params.schemas())}, found {found}"
    )


@pytest.mark.parametrize(
    ("content", "what", "found", "where"),
    [
        (changed("  lr", "\tlr"), "valid YAML", r"character '\\t'", "line 26, column 1"),
        (changed("fast", "'fast"), "valid YAML", "unexpected end", "line 46, column 1"),
        (changed("lr: 0.1", "lr: *x"), "valid YAML", "undefined alias 'x'", "line 26, column 7"),
        (VALID + "---\na: 1\n", "valid YAML", "another document", "line 46, column 1"),
        (changed("0.1", "\x01"), "valid YAML", r"character U\+0001", "line 26, column 7"),
        (changed("0.1", "é").encode("latin-1"), "text in UTF-8", "byte 0xe9", "line 26"),
        (VALID.encode("utf-16"), "text in UTF-8", "byte 0xff", "line 1"),
    ],
)
def test_text_that_is_not_yaml_is_refused_with_its_position(
    check: Check, content: str | bytes, what: str, found: str, where: str
) -> None:
    with pytest.raises(ParamsError, match=rf"params\.yaml is not {what}\n  found: .*{found}") as e:
        check(content)

    assert e.value.details["where"] == f"params.yaml, {where}"


def test_lists_nested_without_end_are_refused(check: Check) -> None:
    with pytest.raises(ParamsError, match="hundreds of lists or sections within each other"):
        check("- " * 3000)


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(check: Check) -> None:
    plain = check(VALID).model_dump()
    whole = completed(VALID)[0].encode()

    assert check(b"\xef\xbb\xbf" + whole).model_dump() == plain
    assert check(whole.replace(b"\n", b"\r\n")).model_dump() == plain


def test_an_alias_of_a_value_stands_for_the_value(check: Check) -> None:
    content = changed("seed: 1", "seed: &seed 7").replace("seed: 2", "seed: *seed")

    chosen = check(content)
    assert (chosen.section(SplitParams).seed, chosen.section(TrainParams).seed) == (7, 7)


def test_an_alias_of_a_section_is_refused_even_inside_itself(check: Check) -> None:
    for content in (
        changed("train:", "train: &t").replace("lr: 0.1", "lr: *t"),
        changed("split:", "split: &t").replace("lr: 0.1", "lr: *t"),
    ):
        with pytest.raises(
            ParamsError, match=r"train\.lr \(line 26, column 3\): an alias of a whole section"
        ):
            check(content)


def test_aliases_of_aliases_are_not_expanded(check: Check) -> None:
    # Written out, the last list would hold 9^12 values.
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )

    with pytest.raises(ParamsError, match="an alias of a whole section or list; write it out"):
        check(VALID + bomb)


def test_a_tag_in_the_file_runs_nothing(check: Check) -> None:
    command = '!!python/object/apply:pathlib.Path.touch ["made"]'

    with pytest.raises(
        ParamsError, match=r"above 0, at most 1e38, found !!python/object/apply:pathlib\.Path"
    ):
        check(changed("lr: 0.1", f"lr: {command}"))

    assert not Path("made").exists()


def test_a_file_of_ten_megabytes_is_refused_unparsed(check: Check) -> None:
    with pytest.raises(ParamsError) as caught:
        check(VALID + "#" * 10_000_000)

    assert caught.value.details["expected"] == "at most 100,000 bytes"
    assert caught.value.details["found"] == f"{10_000_000 + len(WHOLE):,} bytes"


def test_a_missing_file_is_reported_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ParamsError) as caught:
        params.check()

    assert str(caught.value) == (
        "there is no params.yaml in this folder\n"
        f"  where:    {tmp_path}\n"
        "  next:     run the command from the root of the repository"
    )


def test_a_folder_in_its_place_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"cannot be read\n  found:    Is a directory"):
        params.check(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_reported(check: Check) -> None:
    check(VALID)
    Path("params.yaml").chmod(0)

    with pytest.raises(ParamsError, match=r"cannot be read\n  found:    Permission denied"):
        params.check()


def test_a_section_is_read_whole_or_only_the_parameters_that_were_asked_for(check: Check) -> None:
    chosen = check(VALID)

    assert chosen.section(NumericsParams).root == "fast"
    assert chosen.section(TrainParams).batch_size == 100
    some = chosen.section(TrainParams, "lr", "keep")
    assert (some.lr, some.keep) == (0.1, "last")
    for name in ("seed", "epochs"):
        with pytest.raises(AttributeError, match=name):
            getattr(some, name)


def test_the_parameters_of_the_architecture_are_asked_for_as_dvc_yaml_does(check: Check) -> None:
    model = check(changed("logistic_regression", "mlp")).section(
        ModelParams, "name", "${model.name}"
    )

    assert model.own.model_dump() == {"hidden_sizes": [512, 256], "dropout": 0.2}
    assert model.model_dump() == {"name": "mlp", "mlp": model.own.model_dump()}
    for name in ("standardize", "cnn"):
        with pytest.raises(AttributeError, match=name):
            getattr(model, name)


def test_what_was_read_cannot_be_changed(check: Check) -> None:
    train = check(VALID).section(TrainParams)

    with pytest.raises(ValueError, match="frozen"):
        train.lr = 0.5


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    """The code and params.yaml in a folder, without git."""
    for part in ("core", "stages"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "params.yaml").write_text(parameters.text(), encoding="utf-8")
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("core/report/extra_params.py", "", "does not define the section extra of params.yaml"),
        ("core/report/extra_params.py", "ExtraParams = 3\n", "class ExtraParams"),
        (
            "core/report/train_params.py",
            "from core.training.train_params import TrainParams as TrainParams\n",
            "two files define the section train of params.yaml",
        ),
    ],
)
def test_a_file_that_is_named_like_a_section_but_is_none_is_refused(
    bare: Project, file: str, content: str, said: str
) -> None:
    (bare.folder / file).write_text(content)

    done = bare.run("python", "-m", "stages.split")

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr


def test_a_section_is_added_by_a_file_in_any_room_and_its_lines_in_params_yaml(
    bare: Project,
) -> None:
    (bare.folder / "core/statistics/planted_params.py").write_text(
        "from core.pipeline.params import Count, Section\n\n\n"
        "class PlantedParams(Section):\n    count: Count\n"
    )
    show = ("python", "-c", "from core.pipeline import params; print(params.check().model_dump())")

    missing = bare.run(*show)
    bare.replace("params.yaml", "\ntrain:\n", "\nplanted:\n  count: 3\n\ntrain:\n")

    assert "planted: missing from the file; expected the keys count" in missing.stderr
    assert "'planted': {'count': 3}" in bare.must(*show)


# Each example rewrites the same file.
writes = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

SNIPPETS = [
    *("!!int ", "!!bool ", "!foo ", "!!set ", "!!merge ", "&a ", "*a", "<<: ", "? ", ": ", "- "),
    *("[", "]", "{", "}", "|\n", ">\n", '"', "'", "%YAML 1.1\n---\n", "---\n", "...\n", "#", "\t"),
    *(
        "\r",
        "\0",
        "\u2028",
        "\ufeff",
        ".nan",
        "0x_",
        "-_",
        "1_",
        "~",
        "yes",
        '"\\ud800"',
        "=",
        "\n",
    ),
    *("2001-99-99", "1:30", "9" * 5000, "0x" + "f" * 5000, "[" * 500, "\n  ", "@", "`", "é"),
]
WHOLE, _ = completed(VALID)
any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def assert_read_as_by_a_yaml_library_or_refused(check: Check, content: str | bytes) -> None:
    """Any exception but ParamsError fails the test, and so does a value that was misread."""
    read = None
    with contextlib.suppress(ParamsError):
        read = check(content)
    if read is not None:
        text = Path("params.yaml").read_bytes().decode("utf-8-sig")
        assert read.model_dump() == YAML(typ="safe", pure=True).load(text)


@pytest.mark.fuzz
@writes
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), st.sampled_from(SNIPPETS))))
def test_a_file_mangled_anywhere_is_read_right_or_refused(
    check: Check, edits: list[tuple[float, int, str]]
) -> None:
    content = VALID
    for position, removed, inserted in edits:
        start = int(position * len(content))
        content = content[:start] + inserted + content[start + removed :]

    assert_read_as_by_a_yaml_library_or_refused(check, content)


@pytest.mark.fuzz
@writes
@given(position=st.integers(0, len(WHOLE)), junk=st.binary(max_size=20))
def test_a_file_with_any_bytes_in_it_is_read_right_or_refused(
    check: Check, position: int, junk: bytes
) -> None:
    content = WHOLE.encode()

    assert_read_as_by_a_yaml_library_or_refused(
        check, content[:position] + junk + content[position:]
    )


@pytest.mark.fuzz
@writes
@given(line=st.sampled_from(range(VALID.count("\n"))), value=any_value)
def test_any_value_in_any_place_is_read_right_or_refused(
    check: Check, line: int, value: Any, tmp_path: Path
) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.width = 100_000
    yaml.dump(value, tmp_path / "value.yaml")
    written = (tmp_path / "value.yaml").read_text(encoding="utf-8").removesuffix("...\n").strip()
    lines = VALID.splitlines()
    lines[line] = lines[line].split(":")[0] + ": " + written

    assert_read_as_by_a_yaml_library_or_refused(check, "\n".join(lines) + "\n")
