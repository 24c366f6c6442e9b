"""Installs the packages that requirements.lock pins into .venv.

    python3 -m tools.environment

Needs the standard library alone. The copy of the lock that lies in .venv says what is
installed: while it equals requirements.lock, there is nothing to do. Otherwise .venv.new
is built beside .venv, from hard links to its files where the Python is the same, and takes
its place once it is complete. So an interruption, a full disk or a missing network leaves
.venv as it was. Names of extras that were added are kept in .venv too, and installed again.

uv installs, at the version that the lock pins, with pip's configuration. Where uv cannot,
pip does. Modules are compiled in advance only where PYTHONDONTWRITEBYTECODE keeps Python
from doing so: importing torch takes twice as long then.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.pipeline import files
from core.pipeline.errors import SetupError
from core.pipeline.runner import run

ENVIRONMENT = Path(".venv")
NEW = Path(".venv.new")
OLD = Path(".venv.old")
LOCK = Path("requirements.lock")
EXTRAS_LOCK = Path("requirements-extras.lock")
PROJECT = Path("pyproject.toml")
PYTHON = Path("bin/python")

# What pip's options are called by uv, which does not read pip's configuration.
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_OFFLINE",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "trusted-host": "UV_INSECURE_HOST",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
    "proxy": "ALL_PROXY",
}
# Lets every process of this Python start the others of its environment, as activation
# does: `.venv/bin/dvc repro` runs its stages by the same Python. A folder that is on the
# path already keeps its place.
PATH_FILE = "samebits.pth"
PATH_LINE = (
    "import os, sys; b = os.path.join(sys.prefix, 'bin'); "
    "p = os.environ.get('PATH', os.defpath).split(os.pathsep); "
    "b in p or os.environ.update(PATH=os.pathsep.join([b, *p]))\n"
)


def main() -> None:
    """Install what is missing."""
    install()


def install(extras: Iterable[str] = ()) -> bool:
    """Have the pinned packages in .venv.

    Args:
        extras: names of optional packages to add to those that are there.

    Returns:
        Whether anything had to be installed.

    Raises:
        SetupError: it failed; .venv is as it was.
    """
    if os.name == "nt":
        raise SetupError(
            "this command does not install on Windows",
            todo=rf"pip install -r {LOCK} -c {EXTRAS_LOCK} PACKAGES, after .venv\Scripts\activate",
        )
    if _is_current(extras):
        return False
    if ENVIRONMENT.is_symlink():
        raise SetupError(
            ".venv is a link to an environment that other folders may share, and it does not "
            "hold what is needed here",
            expected=f"the packages of {LOCK}"
            + "".join(f", {name}" for name in _names(extras))
            + f", for Python {_running_version()}",
            found="other packages, or another Python" if ENVIRONMENT.exists() else "nothing",
            where=str(ENVIRONMENT.resolve()),
            todo="rm .venv && make environment makes one for this folder alone; "
            "make environment in the folder that owns the other changes it for all",
        )
    with _one_at_a_time():
        if not ENVIRONMENT.exists() and OLD.exists():  # killed between two renames
            OLD.rename(ENVIRONMENT)
        if _is_current(extras):  # by now
            return False
        names = _names(extras)
        started = time.monotonic()
        _tell(f"installing the packages of {LOCK} into .venv: from nothing 1 to 2 min and 6 GB")
        try:
            if not _with_uv(names):
                _with_pip(names)
            _make_movable()
            _swap()
        finally:
            shutil.rmtree(NEW, ignore_errors=True)
        _tell(f"installed in {time.monotonic() - started:.0f} s: Python {_running_version()}")
    return True


def optional_packages() -> dict[str, list[str]]:
    """Return the requirements that pyproject.toml lists for each name of an extra."""
    import tomllib  # missing in a Python that core refuses

    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    return extras


def uv_environment(python: Path) -> dict[str, str]:
    """Return this process's variables, and with them pip's configuration in uv's words.

    What is set for uv already stays. Nothing is written to a file: an address may hold
    a password.

    Args:
        python: whose pip to ask.
    """
    listed = subprocess.run(
        [str(python), "-m", "pip", "config", "list"], capture_output=True, text=True
    ).stdout
    found = re.findall(r"^(global|install|:env:)\.([\w-]+)=(.*)$", listed, re.MULTILINE)
    # The last of these sections is the one that pip obeys.
    found.sort(key=lambda entry: ("global", "install", ":env:").index(entry[0]))
    # As pip: the best version of all indexes, and the certificates of the system.
    handed_on = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "true"}
    if "REQUESTS_CA_BUNDLE" in os.environ:
        handed_on["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"]
    for _, option, value in found:
        if option in UV_VARIABLES:
            separator = "," if option == "find-links" else " "
            words = str(ast.literal_eval(value)).split()
            handed_on[UV_VARIABLES[option]] = separator.join(words)
    for former, name in {"INDEX_URL": "DEFAULT_INDEX", "EXTRA_INDEX_URL": "INDEX"}.items():
        if f"UV_{former}" in os.environ:
            handed_on.pop(f"UV_{name}", None)
    return handed_on | dict(os.environ)


def _tell(text: str) -> None:
    print(f"environment: {text}", file=sys.stderr, flush=True)


def _is_current(extras: Iterable[str]) -> bool:
    names = _names(extras)
    return (
        _read(ENVIRONMENT / LOCK) == LOCK.read_bytes()
        and _read(ENVIRONMENT / EXTRAS_LOCK) == _extras_record(names)
        and _version() == _running_version()
    )


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _names(added: Iterable[str]) -> list[str]:
    """The extras that .venv has, and those to add."""
    first_line = _read(ENVIRONMENT / EXTRAS_LOCK).decode("utf-8").partition("\n")[0]
    return sorted({*first_line.removeprefix("# installed:").split(), *added})


def _extras_record(names: list[str]) -> bytes:
    """What .venv keeps of its extras: their names, and the lock that pinned them."""
    if not names:
        return b""
    return f"# installed: {' '.join(names)}\n".encode() + EXTRAS_LOCK.read_bytes()


def _running_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _version() -> str:
    """The version of Python that .venv was made for; none if that Python is gone."""
    if not (ENVIRONMENT / PYTHON).exists():
        return ""
    settings = _read(ENVIRONMENT / "pyvenv.cfg").decode("utf-8")
    version = re.search(r"^version(?:_info)? *= *(\d+\.\d+)", settings, re.MULTILINE)
    return version[1] if version else ""


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with Path(".venv.lock").open("w") as file:
        if not files.lock(file, wait=False):
            _tell("waiting for another process, which installs in this folder")
            files.lock(file)
        yield


def _with_uv(names: list[str]) -> bool:
    """Build .venv.new with uv; say why it could not, if so."""
    if _version() != _running_version() or not _link_files():
        _make_empty()
    uv, python = NEW / "bin/uv", NEW / PYTHON
    pin = re.search(r"^uv==[^\s;]+", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    if pin and not uv.exists():
        options = ("--quiet", "--disable-pip-version-check", "--only-binary", "uv")
        subprocess.run([str(python), "-m", "pip", "install", *options, pin[0]])
    if not uv.exists():
        _tell("uv could not be installed; pip installs, which takes longer")
        return False
    lock, extras = _note(names)
    # Either removes what is not asked for.
    command = ["install", "--exact", "--requirement", lock, *extras] if extras else ["sync", lock]
    # Otherwise each module is compiled when it is first imported, and most never are.
    if sys.dont_write_bytecode:
        command.append("--compile-bytecode")
    command = [str(uv), "pip", *command, "--python", str(python)]
    try:
        failed = subprocess.run(command, env=uv_environment(python)).returncode != 0
    except OSError:  # it may not be run here
        failed = True
    if failed:
        _tell("uv could not install the packages; pip tries, which takes longer")
    return not failed


def _with_pip(names: list[str]) -> None:
    """Build .venv.new with pip.

    Raises:
        SetupError: pip could not install the packages either.
    """
    _make_empty()
    pip = (str(NEW / PYTHON), "-m", "pip", "install", "--disable-pip-version-check")
    lock, extras = _note(names)
    if subprocess.run([*pip, "--requirement", lock, *extras]).returncode != 0:
        raise SetupError(
            "the packages could not be installed",
            expected=f"what {LOCK} pins" + (f", and {', '.join(names)}" if names else ""),
            found=f"{shutil.disk_usage('.').free / 1e9:.1f} GB free on this disk",
            where=f"{ENVIRONMENT}, which is as it was"
            if ENVIRONMENT.exists()
            else f"{ENVIRONMENT}, which does not exist yet",
            todo="read what pip says above; it needs a Python package index "
            "(pip config list shows which), and room on the disk",
        )


def _note(names: list[str]) -> tuple[str, list[str]]:
    """Write in .venv.new what it will hold.

    Returns:
        The lock to install, and what to install besides: copies, so that what is noted is
        installed even if somebody switches to another commit meanwhile.
    """
    files.write_bytes(NEW / LOCK, LOCK.read_bytes())
    files.remove(NEW / EXTRAS_LOCK)
    if not names:
        return str(NEW / LOCK), []
    files.write_bytes(NEW / EXTRAS_LOCK, _extras_record(names))
    optional = optional_packages()  # of this commit, which may lack one that another has
    packages = [package for name in names for package in optional.get(name, [])]
    return str(NEW / LOCK), ["--constraint", str(NEW / EXTRAS_LOCK), *packages]


def _link_files() -> bool:
    """Begin .venv.new with hard links to the files of .venv, where the file system has them."""
    shutil.rmtree(NEW, ignore_errors=True)
    try:
        shutil.copytree(ENVIRONMENT, NEW, symlinks=True, copy_function=os.link)
    except OSError:
        return False
    return True


def _make_empty() -> None:
    """Begin .venv.new with Python and pip alone."""
    shutil.rmtree(NEW, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", "--prompt", ENVIRONMENT.name, str(NEW)])
    if made.returncode != 0:
        raise SetupError(
            f"{sys.executable} could not make an environment",
            todo="read what it says above",
        )


def _make_movable() -> None:
    """Make .venv.new fit for its final name, which its commands and scripts hold."""
    now, then = (os.fsencode(path.absolute()) for path in (NEW, ENVIRONMENT))
    for file in [NEW / "pyvenv.cfg", *(NEW / "bin").iterdir()]:
        if file.is_file() and not file.is_symlink() and now in (content := file.read_bytes()):
            mode = file.stat().st_mode
            files.write_bytes(file, content.replace(now, then))
            file.chmod(mode)
    (packages,) = (NEW / "lib").glob("python*/site-packages")
    files.write_text(packages / PATH_FILE, PATH_LINE)


def _swap() -> None:
    shutil.rmtree(OLD, ignore_errors=True)
    if ENVIRONMENT.exists():
        ENVIRONMENT.rename(OLD)
    NEW.rename(ENVIRONMENT)
    shutil.rmtree(OLD, ignore_errors=True)


if __name__ == "__main__":
    run(main)
