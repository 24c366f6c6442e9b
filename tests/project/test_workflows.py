"""The workflows of GitHub: official actions, pinned, with narrow permissions."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.support.project import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_official_and_pinned_and_permissions_narrow(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    for action in uses:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    content = yaml.safe_load(text)
    assert content["permissions"] == {}
    assert "secrets." not in text
    assert "pull_request_target" not in text
    for name, job in content["jobs"].items():
        runs_code = any("run" in step for step in job["steps"])
        assert job["permissions"] == (
            {"contents": "read"} if runs_code else {"pull-requests": "write"}
        ), name
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False


def test_the_same_actions_are_pinned_to_the_same_commits() -> None:
    pins = {
        tuple(action.split("@"))
        for workflow in WORKFLOWS
        for action in re.findall(r"uses: (.*)", workflow.read_text(encoding="utf-8"))
    }
    assert len({name for name, _ in pins}) == len(pins)


def test_the_oldest_python_of_the_tests_is_the_oldest_that_is_promised() -> None:
    tests = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    pythons = tests["jobs"]["tests"]["strategy"]["matrix"]["python"]
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert promised == f">={pythons[0]}"
    minors = [int(python.removeprefix("3.")) for python in pythons]
    assert minors == list(range(minors[0], minors[-1] + 1))
