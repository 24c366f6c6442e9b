"""Adds optional packages to the environment, at the versions that requirements-extras.lock pins.

    python3 -m tools.extra s3 ssh ray

What there is stands in pyproject.toml. tools/environment.py installs them, and keeps them
when the locks change.
"""

import argparse
import importlib.util

from core.pipeline.errors import ParamsError, SetupError
from core.pipeline.runner import run
from tools import environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="of optional packages")


def main(names: list[str]) -> None:
    """Install what the names stand for.

    Raises:
        ParamsError: pyproject.toml has no such name.
        SetupError: it could not be installed.
    """
    extras = environment.optional_packages()
    unknown = [name for name in names if name not in extras]
    if unknown or not names:
        raise ParamsError(
            "there are no such optional packages" if unknown else "no optional package is named",
            expected=", ".join(extras),
            found=", ".join(unknown),
            where=f"project.optional-dependencies in {environment.PROJECT}",
            todo="python -m tools.extra s3, or make extra NAME=s3",
        )
    installed = environment.install(names)
    packages = ", ".join(package for name in names for package in extras[name])
    print(f"installed{'' if installed else ' already'}: {packages}")


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
