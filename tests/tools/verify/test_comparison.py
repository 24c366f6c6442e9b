"""Differences between two versions of a file, in a reader's words."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from tools.verify.comparison import MOST_LINES, differences


def npy(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def model(**tensors: torch.Tensor) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


def png(image: Image.Image, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.npy", "a.pt", "a.png", "a.html", "a"])
def test_the_same_bytes_do_not_differ_whatever_they_are(name: str) -> None:
    assert differences(name, b"\xff", b"\xff") == []


def test_a_json_differs_by_its_fields() -> None:
    old = {"val": {"loss": 0.5, "accuracy": 0.9}, "names": ["a", "b"], "gone": None}
    new = {"val": {"loss": 0.25, "accuracy": 0.9}, "names": ["a", "c"], "added": True}
    assert differences("test.json", json.dumps(old).encode(), json.dumps(new).encode()) == [
        "val.loss: 0.5 → 0.25",
        'names.1: "b" → "c"',
        "gone: null → missing",
        "added: missing → true",
    ]


def test_a_json_with_the_same_values_in_other_bytes_is_said_to_be_so() -> None:
    assert differences("a.json", b'{"a": 1}', b'{"a":1}') == [
        "the same values in other bytes",
        "8 → 7 bytes, the same up to byte 5",
    ]


def test_a_csv_differs_by_row_and_column() -> None:
    old = b"epoch,train_loss,val_loss\n0,2.5,2.5\n1,1.5,1.6\n"
    new = b"epoch,train_loss,val_loss\n0,2.5,2.5\n1,1.25,1.75\n2,1.0,1.0\n"
    assert differences("metrics/history.csv", old, new) == [
        "rows: 2 → 3",
        "row 2 (epoch 1), train_loss: 1.5 → 1.25",
        "row 2 (epoch 1), val_loss: 1.6 → 1.75",
    ]


def test_a_csv_with_other_columns_is_not_compared_field_by_field() -> None:
    assert differences("a.csv", b"epoch,loss\n0,1\n", b"epoch,accuracy\n0,2\n") == [
        "columns: epoch,loss → epoch,accuracy"
    ]


def test_of_many_differences_the_first_are_shown_and_the_rest_counted() -> None:
    old = "x\n" + "0\n" * 1500
    new = "x\n" + "1\n" * 1500
    lines = differences("a.csv", old.encode(), new.encode())
    assert len(lines) == MOST_LINES + 1
    assert lines[0] == "row 1 (x 0), x: 0 → 1"
    assert lines[-1] == "and 1,488 more"


def test_an_array_differs_in_elements_by_an_amount() -> None:
    old = np.zeros((3, 4), dtype=np.float32)
    new = old.copy()
    new[0, 1], new[2, 3] = 0.5, -0.75
    assert differences("a.npy", npy(old), npy(new)) == [
        "float32 (3, 4): 2 of 12 differ, by at most 0.75"
    ]


def test_unsigned_elements_do_not_wrap_around() -> None:
    old, new = npy(np.array([0], dtype=np.uint8)), npy(np.array([255], dtype=np.uint8))
    assert differences("a.npy", old, new) == ["uint8 (1,): 1 of 1 differ, by at most 255"]


def test_arrays_of_another_shape_or_dtype_are_named_by_both() -> None:
    old, new = npy(np.zeros((2, 3), dtype=np.uint8)), npy(np.zeros(6, dtype=np.int64))
    assert differences("a.npy", old, new) == ["uint8 (2, 3) → int64 (6,)"]


def test_a_model_differs_by_tensors_and_the_largest_difference_comes_first() -> None:
    old = model(bias=torch.zeros(3), weight=torch.zeros(2, 2), same=torch.ones(1))
    new = model(
        bias=torch.tensor([0.0, 0.0, 0.125]),
        weight=torch.tensor([[0.0, -2.0], [1.0, 0.0]]),
        same=torch.ones(1),
    )
    assert differences("models/model.pt", old, new) == [
        "weight, float32 (2, 2): 2 of 4 differ, by at most 2",
        "bias, float32 (3,): 1 of 3 differ, by at most 0.125",
    ]


def test_a_model_with_other_tensors_is_said_to_have_them() -> None:
    old = model(weight=torch.zeros(2), steps=torch.tensor(3))
    new = model(weight=torch.zeros(2, dtype=torch.bfloat16), scale=torch.zeros(1))
    assert differences("model.pt", old, new) == [
        "weight: float32 (2,) → bfloat16 (2,)",
        "steps: int64 () → missing",
        "scale: missing → float32 (1,)",
    ]


def test_weights_that_became_nan_are_a_difference_and_those_that_stay_nan_are_none() -> None:
    nan = float("nan")
    old = model(weight=torch.tensor([nan, 1.0]), other=torch.tensor([1e9]))
    new = model(weight=torch.tensor([nan, nan]), other=torch.tensor([2e9]))
    assert differences("model.pt", old, new) == [
        "weight, float32 (2,): 1 of 2 differ, by at most nan",
        "other, float32 (1,): 1 of 1 differ, by at most 1e+09",
    ]


def test_negative_zero_is_the_same_value_in_other_bytes() -> None:
    lines = differences("a.npy", npy([0.0]), npy([-0.0]))
    assert lines[0] == "the same values in other bytes"


def test_an_image_differs_in_pixels_and_not_in_channels() -> None:
    old = Image.new("RGB", (5, 4), (10, 20, 30))
    new = old.copy()
    new.putpixel((0, 0), (11, 22, 33))
    new.putpixel((4, 3), (10, 20, 130))
    assert differences("a.png", png(old), png(new)) == [
        "5 × 4 RGB: 2 of 20 pixels differ, by at most 100 of 255"
    ]


def test_an_image_that_is_only_packed_otherwise_has_the_same_values() -> None:
    image = Image.effect_noise((64, 64), 50)
    lines = differences("a.png", png(image, compress_level=1), png(image, compress_level=9))
    assert lines[0] == "the same values in other bytes"


def test_an_image_of_another_size_or_mode_is_named_by_both() -> None:
    old, new = Image.new("L", (5, 4)), Image.new("RGB", (6, 4))
    assert differences("a.png", png(old), png(new)) == ["5 × 4 L → 6 × 4 RGB"]


def test_a_text_differs_by_lines_shown_around_the_first_difference() -> None:
    old = f"<p>same</p>\n{'-' * 100}one{'-' * 100}\n".encode()
    new = f"<p>same</p>\n{'-' * 100}two{'-' * 100}\n".encode()
    assert differences("a.html", old, new) == [
        f"line 2: '{'-' * 20}one{'-' * 37}' → '{'-' * 20}two{'-' * 37}'"
    ]


def test_a_longer_text_differs_by_its_number_of_lines() -> None:
    assert differences("a.txt", b"a\n", b"a\nb\n") == ["lines: 2 → 3", "line 2: '' → 'b'"]


def test_other_bytes_differ_from_the_first_that_does() -> None:
    assert differences("a.bin", b"\xff\x00\x01", b"\xff\x00\x02\x03") == [
        "3 → 4 bytes, the same up to byte 2"
    ]


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("a.json", b'{"a": 1}'),
        ("a.npy", npy([1.0, 2.0])),
        ("a.pt", model(weight=torch.zeros(9))),
        ("a.png", png(Image.effect_noise((9, 9), 50))),
    ],
)
def test_a_file_that_is_truncated_is_said_to_be_unreadable(name: str, whole: bytes) -> None:
    half = len(whole) // 2
    lines = differences(name, whole, whole[:half])
    assert lines[0].startswith("cannot be read: ")
    assert lines[1] == f"{len(whole):,} → {half:,} bytes, the same up to byte {half:,}"
