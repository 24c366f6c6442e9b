"""The options of every command that runs experiments."""

import pytest

from core.pipeline.runner import Parser
from tools.experiments import run_experiments


def parser() -> Parser:
    made = Parser()
    run_experiments.add_arguments(made)
    return made


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("0", "0"),
        ("-1", "-1"),
        ("1.5", "1.5"),
        ("x", "x"),
        ("3\u200b", "3<U+200B ZERO WIDTH SPACE>"),
    ],
)
def test_a_number_of_seeds_that_is_none_is_shown_as_it_was_given(
    given: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([f"--seeds={given}"])

    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.endswith(f"error: argument --seeds: expected an integer >= 1, found {shown}\n")


def test_a_number_of_seeds_is_read() -> None:
    assert parser().parse_args(["--seeds", "3"]).seeds == 3
