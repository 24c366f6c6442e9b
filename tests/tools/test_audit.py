"""What make audit says about a report; no answer is not a good one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.pipeline.errors import PipelineError, SetupError
from tests.support.project import ROOT
from tools.audit import summary

GOOD = {"name": "numpy", "version": "2.0.0", "vulns": []}
BAD = {
    "name": "jinja2",
    "version": "2.4.1",
    "vulns": [
        {"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"], "aliases": [], "description": ""},
        {"id": "PYSEC-2021-66", "fix_versions": [], "aliases": [], "description": ""},
    ],
}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI: torch (2.14.1)"}


def test_packages_without_a_known_vulnerability_are_counted() -> None:
    packages = "no known vulnerability in the 2 packages of requirements-extras.lock"
    assert summary([GOOD, GOOD]) == packages


def test_each_vulnerability_is_named_with_its_fix() -> None:
    with pytest.raises(PipelineError) as caught:
        summary([GOOD, BAD, SKIPPED])
    assert str(caught.value) == (
        "2 known vulnerabilities in requirements-extras.lock\n"
        "  found:    jinja2 2.4.1: PYSEC-2019-217, fixed in 2.10.1\n"
        "            jinja2 2.4.1: PYSEC-2021-66, no fix yet\n"
        "  next:     make lock pins the newest versions; then make test and make repro"
    )


@pytest.mark.parametrize(
    ("packages", "what"),
    [
        ([GOOD, SKIPPED], "1 of 2 packages could not be looked up"),
        ([SKIPPED], "1 of 1 package could not be looked up"),
        ([], "0 of 0 packages could not be looked up"),
    ],
)
def test_packages_that_were_not_looked_up_are_not_called_safe(
    packages: list[dict[str, object]], what: str
) -> None:
    with pytest.raises(SetupError, match=what):
        summary(packages)


@pytest.mark.skipif(not shutil.which("uvx"), reason="needs uv, which make installs")
def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.audit"],
        cwd=ROOT,
        env={**os.environ, "UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "error: pip-audit could not look up known vulnerabilities\n  found:    "
    )
    assert "next:     run it again with a network" in done.stderr
    assert "Traceback" not in done.stderr
