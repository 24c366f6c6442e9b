"""Optional packages are pinned with all others, and an error says how to install one."""

import re

import pytest

from core.pipeline.errors import ParamsError, SetupError
from tools import environment, extra
from tools.pin import pinned

EXTRAS = environment.optional_packages()


def test_adding_an_extra_changes_no_other_package() -> None:
    base, all_of_them = pinned(environment.LOCK), pinned(environment.EXTRAS_LOCK)
    assert base["torch"] == "2.14.1"
    assert base.items() <= all_of_them.items()
    assert base.keys() < all_of_them.keys()


@pytest.mark.parametrize("name", EXTRAS)
def test_every_extra_is_pinned(name: str) -> None:
    for package in EXTRAS[name]:
        assert re.split(r"[\[=]", package)[0] in pinned(environment.EXTRAS_LOCK)


@pytest.mark.parametrize("names", [[], ["s4"], ["s3", "s4"]])
def test_a_name_that_is_none_is_refused_with_those_there_are(names: list[str]) -> None:
    with pytest.raises(ParamsError, match=r"no (such )?optional package") as refused:
        extra.main(names)
    assert refused.value.details["expected"] == ", ".join(EXTRAS)


def test_what_is_missing_is_named_with_the_command_that_installs_it() -> None:
    extra.require("ray", "json", "a test")
    with pytest.raises(SetupError, match="a test needs the package nowhere") as caught:
        extra.require("ray", "nowhere", "a test")
    assert caught.value.details["next"] == "make extra NAME=ray"
