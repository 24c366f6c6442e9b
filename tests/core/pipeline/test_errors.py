"""An error says what went wrong, and then only what is known about it."""

import pytest

from core.pipeline import errors
from core.pipeline.errors import DataError, PipelineError


def test_an_error_without_details_is_its_sentence() -> None:
    assert str(PipelineError("the disk is full")) == "the disk is full"


def test_details_stand_below_each_other_in_a_fixed_order() -> None:
    error = DataError("a is not b", todo="dvc repro", where="a.npy", found="2", expected="1")

    assert str(error) == (
        "a is not b\n  expected: 1\n  found:    2\n  where:    a.npy\n  next:     dvc repro"
    )


def test_the_lines_of_a_long_detail_stay_below_each_other() -> None:
    assert str(PipelineError("two problems", found="first\nsecond", todo="fix both")) == (
        "two problems\n"
        "  found:    first\n"
        "            second\n"
        "  next:     fix both"
    )  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    ["ParamsError", "SetupError", "DownloadError", "DataError", "ModelError", "TrainingError"],
)
def test_every_kind_of_error_is_a_pipeline_error(kind: str) -> None:
    assert issubclass(getattr(errors, kind), PipelineError)
    assert f"── {kind} " in (errors.__doc__ or "")  # and stands in the drawing
