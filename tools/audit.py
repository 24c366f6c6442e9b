"""Asks for known vulnerabilities of all packages that are pinned, the optional ones too.

The asking is done by pip-audit of the Python Packaging Authority, which uv runs
in an environment of its own. It calls it a success when it could look up no
package at all, so what it did not look up is counted here as not audited.
"""

import json
import subprocess
from typing import Any

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
        SetupError: the database could not be asked, or not about every package.
    """
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True)
    except FileNotFoundError:
        raise SetupError("uv is not installed", todo="make audit, which has it") from None
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        raise SetupError(
            "pip-audit could not ask for known vulnerabilities",
            found="\n".join(done.stderr.strip().splitlines()[-3:]) or "nothing printed",
            todo="run it again with a network; nothing is known about the packages until then",
        ) from None
    print(judged(packages))


def judged(packages: list[dict[str, Any]]) -> str:
    """Say what pip-audit found.

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
            f"{len(known)} known vulnerabilities in {LOCK}",
            found="\n".join(known),
            todo="make lock pins the newest versions; then make test and make repro",
        )
    if skipped or not packages:
        raise SetupError(
            f"{len(skipped)} of {len(packages)} packages could not be looked up",
            expected=f"an answer about every package in {LOCK}",
            found=skipped[0] if skipped else "a report without packages",
            todo="run it again with a network that reaches the package index",
        )
    return f"no known vulnerability in the {len(packages)} packages of {LOCK}"


if __name__ == "__main__":
    run(main)
