"""Looks up all pinned packages, optional ones too, among known vulnerabilities.

uv runs pip-audit, of the Python Packaging Authority, in a separate environment.
pip-audit succeeds even if it could look up no package at all, so packages that it
skipped are counted here as not audited.
"""

import json
import subprocess
from typing import Any

from core.pipeline import wording
from core.pipeline.errors import PipelineError, SetupError
from core.pipeline.runner import run

LOCK = "requirements-extras.lock"  # holds those of requirements.lock too
COMMAND = (
    *("uvx", "pip-audit==2.10.1", "--requirement", LOCK, "--no-deps", "--disable-pip"),
    *("--format", "json", "--progress-spinner", "off"),
)


def main() -> None:
    """Print how many packages have no known vulnerability.

    Raises:
        PipelineError: some have one; names each with its version and its fix.
        SetupError: the database could not be reached, or some packages were not looked up.
    """
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True)
    except FileNotFoundError:
        raise SetupError(
            "uv is not installed", todo="run make audit: its environment has uv"
        ) from None
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        raise SetupError(
            "pip-audit could not look up known vulnerabilities",
            found="\n".join(done.stderr.strip().splitlines()[-3:]) or "nothing printed",
            todo="run it again with a network; nothing is known about the packages until then",
        ) from None
    print(summary(packages))


def summary(packages: list[dict[str, Any]]) -> str:
    """Summarize what pip-audit found.

    Args:
        packages: the `dependencies` of its report.

    Raises:
        PipelineError: packages have known vulnerabilities.
        SetupError: none has, but not all could be looked up.
    """
    known = [
        f"{package['name']} {package['version']}: {flaw['id']}, "
        + (f"fixed in {', '.join(flaw['fix_versions'])}" if flaw["fix_versions"] else "no fix yet")
        for package in packages
        for flaw in package.get("vulns", [])
    ]
    skipped = [package["skip_reason"] for package in packages if "skip_reason" in package]
    if known:
        raise PipelineError(
            f"{wording.count(len(known), 'known vulnerability')} in {LOCK}",
            found="\n".join(known),
            todo="make lock pins the newest versions; then make test and make repro",
        )
    if skipped or not packages:
        raise SetupError(
            f"{len(skipped)} of {wording.count(len(packages), 'package')} could not be looked up",
            expected=f"an answer about every package in {LOCK}",
            found=skipped[0] if skipped else "a report without packages",
            todo="run it again with a network that reaches the package index",
        )
    return f"no known vulnerability in the {wording.count(len(packages), 'package')} of {LOCK}"


if __name__ == "__main__":
    run(main)
