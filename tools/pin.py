"""Pins in requirements.lock and requirements-extras.lock what pyproject.toml asks for.

    python -m tools.pin [--upgrade | --upgrade-package NAME ...]

What is pinned stays, unless pyproject.toml no longer allows it; what is missing is added.
The extras are resolved first, with all other packages, so that adding one to an
environment changes no other package.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from core.pipeline import files
from core.pipeline.errors import SetupError
from core.pipeline.runner import run
from tools import environment
from tools.environment import EXTRAS_LOCK, LOCK, PROJECT

COMPILE = (
    *("pip", "compile", "--quiet", "--universal", "--fork-strategy", "fewest"),
    *("--python-version", "3.11", "--no-emit-index-url", "--no-emit-find-links"),
    *("--custom-compile-command", "make lock", "--group", "dev", str(PROJECT)),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("--upgrade", action="store_true", help="pin the newest of every package")
    parser.add_argument(
        "--upgrade-package", action="append", default=[], metavar="NAME", help="of this package"
    )


def main(upgrade: bool, upgrade_package: list[str]) -> None:
    """Resolve both locks, and replace them once both are complete.

    Raises:
        SetupError: uv found no versions that fit together.
    """
    moved = ["--upgrade"] if upgrade else []
    moved += [f"--upgrade-package={name}" for name in upgrade_package]
    with tempfile.TemporaryDirectory() as folder:
        extras, base = Path(folder) / EXTRAS_LOCK, Path(folder) / LOCK
        shutil.copy(EXTRAS_LOCK, extras)
        _compile(extras, "--all-extras", *moved)
        shutil.copy(extras, base)
        _compile(base)
        for lock, new in ((EXTRAS_LOCK, extras), (LOCK, base)):
            before, after = pinned(lock), pinned(new)
            for name in sorted(before.keys() | after.keys()):
                if before.get(name) != after.get(name):
                    change = f"{before.get(name, 'none')} -> {after.get(name, 'none')}"
                    print(f"{lock}: {name} {change}")
            files.write_bytes(lock, new.read_bytes())


def pinned(lock: Path) -> dict[str, str]:
    """Return the version that a lock pins of each package; several if it depends on the system."""
    pins: dict[str, str] = {}
    for name, version in re.findall(r"^([\w.-]+)(?:\[.*?\])?==([^\s;]+)", lock.read_text(), re.M):
        pins[name] = f"{pins[name]}, {version}" if name in pins else version
    return pins


def _compile(lock: Path, *options: str) -> None:
    python = Path(sys.executable)
    command = [str(python.with_name("uv")), *COMPILE, *options, "--output-file", str(lock)]
    if subprocess.run(command, env=environment.uv_environment(python)).returncode != 0:
        raise SetupError(
            f"{lock.name} could not be resolved",
            where=str(PROJECT),
            todo="read what uv says above; it needs a Python package index",
        )


if __name__ == "__main__":
    run(main, add_arguments)
