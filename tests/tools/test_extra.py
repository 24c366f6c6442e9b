"""Optional packages are pinned with all others, and whoever lacks one is told how to get it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from core.pipeline.errors import ParamsError, SetupError
from tools import extra

EXTRAS = tomllib.loads(extra.PROJECT.read_text())["project"]["optional-dependencies"]


def pinned(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def test_adding_an_extra_changes_no_other_package() -> None:
    base, all_of_them = pinned(Path("requirements.lock")), pinned(extra.LOCK)
    assert base["torch"] == "2.14.1"
    assert base.items() <= all_of_them.items()
    assert base.keys() < all_of_them.keys()


@pytest.mark.parametrize("name", EXTRAS)
def test_every_extra_is_pinned(name: str) -> None:
    for package in EXTRAS[name]:
        assert re.split(r"[\[=]", package)[0] in pinned(extra.LOCK)


def test_the_packages_are_installed_at_the_versions_of_the_lock(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def install(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", install)
    extra.main(["s3", "ray"])
    assert asked[0][:4] == [sys.executable, "-m", "pip", "install"]
    assert asked[0][-4:] == ["--constraint", str(extra.LOCK), *EXTRAS["s3"], *EXTRAS["ray"]]
    assert capsys.readouterr().out == f"installed: {EXTRAS['s3'][0]}, {EXTRAS['ray'][0]}\n"


def test_what_pip_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: subprocess.CompletedProcess[bytes] = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(subprocess, "run", lambda command: failed)
    with pytest.raises(SetupError, match="pip could not install dvc-ssh"):
        extra.main(["ssh"])


@pytest.mark.parametrize("names", [[], ["s4"], ["s3", "s4"]])
def test_a_name_that_is_none_is_refused_with_those_there_are(names: list[str]) -> None:
    with pytest.raises(ParamsError, match=r"no (such )?optional package") as refused:
        extra.main(names)
    assert refused.value.details["expected"] == ", ".join(EXTRAS)


def test_what_is_missing_is_named_with_the_command_that_installs_it() -> None:
    extra.require("ray", "json", "a test")
    with pytest.raises(SetupError, match="a test needs the package nowhere") as told:
        extra.require("ray", "nowhere", "a test")
    assert told.value.details["next"] == "make extra NAME=ray"
