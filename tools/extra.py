"""Adds optional packages to the environment, at the versions that requirements-extras.lock pins.

    python -m tools.extra s3 ssh ray

What there is stands in pyproject.toml. pip takes extras from a package only, and
this repository is none.
"""

import argparse
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

from core.pipeline.errors import ParamsError, SetupError
from core.pipeline.runner import run

PROJECT = Path("pyproject.toml")
LOCK = Path("requirements-extras.lock")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="of optional packages")


def main(names: list[str]) -> None:
    """Install what the names stand for.

    Raises:
        ParamsError: pyproject.toml has no such name.
        SetupError: pip could not install it.
    """
    extras: dict[str, list[str]] = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    unknown = [name for name in names if name not in extras]
    if unknown or not names:
        raise ParamsError(
            "there are no such optional packages" if unknown else "no optional package is named",
            expected=", ".join(extras),
            found=", ".join(unknown),
            where=f"project.optional-dependencies in {PROJECT}",
            todo="python -m tools.extra s3, or make extra NAME=s3",
        )
    wanted = [package for name in names for package in extras[name]]
    pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet")
    if subprocess.run([*pip, "--constraint", str(LOCK), *wanted]).returncode != 0:
        raise SetupError(
            f"pip could not install {' '.join(wanted)}",
            todo="read what it says above; it needs a Python package index",
        )
    print(f"installed: {', '.join(wanted)}")


def require(name: str, module: str, purpose: str) -> None:
    """Say what to install if an optional package is not there.

    Args:
        name: of the extra.
        module: that it brings.
        purpose: what needs it.

    Raises:
        SetupError: the module is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise SetupError(
            f"{purpose} needs the package {module}, which is not installed",
            todo=f"make extra NAME={name}",
        )


if __name__ == "__main__":
    run(main, add_arguments)
