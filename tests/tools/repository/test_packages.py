"""Installed packages are compared with those of requirements.lock."""

from importlib import metadata

import pytest

from tests.support.project import ROOT
from tools.repository import packages


def test_packages_for_other_systems_and_missing_ones_are_no_cause() -> None:
    lock = "tqdm==1.2.3 ; sys_platform == 'win32'\nno-such-package==1.0\n"
    assert list(packages.other_versions(lock)) == []


def test_a_version_with_a_local_label_is_the_locked_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "2.14.1+cpu")
    assert list(packages.other_versions("torch==2.14.1\n")) == []


def test_this_environment_is_that_of_requirements_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert list(packages.other_versions(lock)) == []
