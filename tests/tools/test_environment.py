"""The environment is created once, replaced when it is complete, and never through a link.

Each test works in a folder with tiny wheels as its only package index. Its uv is the real
one behind a script, so that a test can replace it by a failing or a slow one.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.support.project import ROOT
from tools import environment, pin

UV = Path(sys.executable).with_name("uv")
PROJECT = """\
[project]
name = "tiny"
version = "1.0"
requires-python = ">=3.11"
dependencies = ["one"]
[project.optional-dependencies]
more = ["two==1.0"]
[dependency-groups]
dev = ["uv"]
"""
SLOW = 'echo "$@" >> "$CALLS"; sleep 30'


def wheel(folder: Path, name: str, version: str, contents: dict[str, str]) -> None:
    info = f"{name}-{version}.dist-info"
    contents = contents | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        for path, content in (contents | {f"{info}/RECORD": record}).items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o100755 if "/scripts/" in path else 0o100644) << 16
            file.writestr(entry, content)


class Folder:
    """A folder with the commands of this project and packages of its own."""

    def __init__(self, path: Path, index: Path) -> None:
        self.path = path
        self.variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "UV_", "PYTHON"))
        } | {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(index),
            "UV_CACHE_DIR": str(index / "cache"),
            "CALLS": str(path / "calls"),
        }

    def lock(self, one: str, *, uv: bool = True) -> None:
        text = f"one=={one}\n" + ("uv==1.0\n" if uv else "")
        (self.path / environment.LOCK).write_text(text)
        (self.path / environment.EXTRAS_LOCK).write_text(text + "two==1.0\n")

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *(words or ["tools.environment"])],
            cwd=self.path,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def must(self, *words: str) -> str:
        process = self.start(*words)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0, printed
        return printed

    def refused(self, *words: str) -> str:
        process = self.start(*words)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 1, printed
        return printed

    def answer(self, program: str = "one") -> str:
        """What a command of the environment prints: the version of its package."""
        done = subprocess.run([self.path / ".venv/bin" / program], capture_output=True, text=True)
        return done.stdout.strip() or done.stderr

    def replace_uv(self, script: str) -> None:
        uv = self.path / ".venv/bin/uv"
        uv.unlink()
        uv.write_text(f"#!/bin/sh\n{script}\n")
        uv.chmod(0o755)

    def wait_for_call(self) -> None:
        while not (self.path / "calls").exists():
            time.sleep(0.02)

    def state(self) -> object:
        """Which folder .venv is, and which of these files are next to it."""
        found = sorted(path.name for path in self.path.glob(".venv*") if path.name != ".venv.lock")
        return found, (self.path / ".venv").stat().st_ino, self.answer()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder after its first installation."""
    index, path = tmp_path_factory.mktemp("index"), tmp_path_factory.mktemp("first")
    for version in ("1.0", "2.0"):
        contents = {
            "one.py": f"def main(): print('one {version}')\n",
            f"one-{version}.dist-info/entry_points.txt": "[console_scripts]\none = one:main\n",
        }
        wheel(index, "one", version, contents)
    contents = {
        "two.py": "def main(): print('two 1.0')\n",
        "two-1.0.dist-info/entry_points.txt": "[console_scripts]\ntwo = two:main\n",
    }
    wheel(index, "two", "1.0", contents)
    wheel(index, "uv", "1.0", {"uv-1.0.data/scripts/uv": f'#!/bin/sh\nexec "{UV}" "$@"\n'})
    for package in ("core", "tools"):
        shutil.copytree(ROOT / package, path / package, ignore=shutil.ignore_patterns("*.pyc"))
    (path / "pyproject.toml").write_text(PROJECT)
    folder = Folder(path, index)
    folder.lock("1.0")
    folder.printed = folder.must()  # type: ignore[attr-defined]
    return folder


@pytest.fixture
def folder(first: Folder, tmp_path: Path) -> Folder:
    """A copy of it."""
    path = tmp_path / "folder"
    shutil.copytree(first.path, path, symlinks=True)
    for script in (path / ".venv/bin").iterdir():
        if script.is_file() and not script.is_symlink():
            script.write_text(script.read_text().replace(str(first.path), str(path)))
    return Folder(path, Path(first.variables["PIP_FIND_LINKS"]))


def test_an_environment_from_nothing_is_installed_by_uv_with_the_configuration_of_pip(
    first: Folder,
) -> None:
    printed: str = first.printed  # type: ignore[attr-defined]
    assert " + one==1.0\n" in printed, printed  # as uv says it
    assert first.answer() == "one 1.0"
    assert (first.path / ".venv/bin/pip").exists()
    assert not (first.path / ".venv.new").exists()


def test_contents_are_compared_and_not_times(folder: Folder) -> None:
    before = folder.state()
    for lock in (environment.LOCK, environment.EXTRAS_LOCK):
        os.utime(folder.path / lock, (2**31, 2**31))
    assert folder.must() == ""
    assert folder.state() == before


def test_another_lock_installs_what_differs_and_back_again(folder: Folder) -> None:
    folder.lock("2.0")
    assert " - one==1.0\n + one==2.0\n" in folder.must()
    assert folder.answer() == "one 2.0"
    assert folder.must() == ""
    folder.lock("1.0")
    folder.must()
    assert folder.state()[::2] == ([".venv"], "one 1.0")  # type: ignore[index]


@pytest.mark.parametrize("unwritten", ["", "1"])
def test_modules_are_compiled_in_advance_where_python_may_not_do_so(
    folder: Folder, unwritten: str
) -> None:
    folder.variables["PYTHONDONTWRITEBYTECODE"] = unwritten
    folder.lock("2.0")
    folder.must()
    compiled = [*folder.path.glob(".venv/lib/*/site-packages/__pycache__/one.*.pyc")]
    assert len(compiled) == len(unwritten)


def test_extras_stay_when_the_lock_changes(folder: Folder) -> None:
    assert "installed: two==1.0" in folder.must("tools.extra", "more")
    assert "installed already: two==1.0" in folder.must("tools.extra", "more")
    assert folder.must() == ""
    folder.lock("2.0")
    printed = folder.must()
    assert " - one==1.0\n + one==2.0\n" in printed
    assert "two" not in printed  # needs no network again
    assert (folder.answer("one"), folder.answer("two")) == ("one 2.0", "two 1.0")
    assert (folder.path / ".venv/bin/pip").exists()


@pytest.mark.slow
def test_an_extra_is_installed_again_when_its_own_lock_changes(folder: Folder) -> None:
    (folder.path / environment.EXTRAS_LOCK).write_text("one==1.0\nuv==1.0\ntwo==1.0  # again\n")
    assert folder.must() == ""  # nothing of it is here
    folder.must("tools.extra", "more")
    (folder.path / environment.EXTRAS_LOCK).write_text("one==1.0\nuv==1.0\ntwo==1.0\n")
    assert "installed in" in folder.must()


def test_a_shared_environment_is_used_through_a_link_as_it_is(
    folder: Folder, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    (folder.path / ".venv").rename(shared)
    (folder.path / ".venv").symlink_to(shared)
    assert folder.must() == ""


@pytest.mark.parametrize("change", ["lock", "extra", "python"])
def test_nothing_is_changed_through_a_link(folder: Folder, tmp_path: Path, change: str) -> None:
    shared = tmp_path / "shared"
    (folder.path / ".venv").rename(shared)
    (folder.path / ".venv").symlink_to(shared)
    if change == "lock":
        folder.lock("2.0")
    if change == "python":
        (shared / "pyvenv.cfg").write_text("version = 3.9.1\n")
    before = {path: path.lstat().st_mtime_ns for path in shared.rglob("*")}
    printed = folder.refused(*(["tools.extra", "more"] if change == "extra" else []))
    assert "error: .venv is a link to an environment that other folders may share" in printed
    assert f"  where:    {shared}\n  next:     rm .venv && make environment makes" in printed
    assert {path: path.lstat().st_mtime_ns for path in shared.rglob("*")} == before
    assert (folder.path / ".venv").is_symlink()


def test_a_link_that_leads_nowhere_is_an_error(folder: Folder, tmp_path: Path) -> None:
    shutil.rmtree(folder.path / ".venv")
    (folder.path / ".venv").symlink_to(tmp_path / "nowhere")
    assert f"  found:    nothing\n  where:    {tmp_path / 'nowhere'}\n" in folder.refused()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.slow
def test_without_the_packages_the_environment_stays_as_it_was(folder: Folder) -> None:
    before = folder.state()
    folder.lock("3.0")
    printed = folder.refused()
    assert "error: the packages could not be installed\n" in printed
    assert "  where:    .venv, which is as it was\n" in printed
    assert folder.state() == before


@pytest.mark.slow
def test_where_uv_fails_pip_installs(folder: Folder) -> None:
    folder.replace_uv("exit 2")
    folder.lock("2.0")
    printed = folder.must()
    assert "uv could not install the packages; pip tries" in printed
    assert "Successfully installed one-2.0 uv-1.0\n" in printed
    assert folder.state()[::2] == ([".venv"], "one 2.0")  # type: ignore[index]


@pytest.mark.slow
def test_where_uv_cannot_be_installed_pip_installs_extras_too(folder: Folder) -> None:
    folder.must("tools.extra", "more")
    shutil.rmtree(folder.path / ".venv/bin")
    folder.lock("2.0", uv=False)
    assert "uv could not be installed; pip installs" in folder.must()
    assert (folder.answer("one"), folder.answer("two")) == ("one 2.0", "two 1.0")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_the_environment_as_it_was(
    folder: Folder, how: signal.Signals
) -> None:
    folder.replace_uv(SLOW)
    before = folder.state()
    folder.lock("2.0")
    process = folder.start()
    folder.wait_for_call()
    os.killpg(process.pid, how)
    printed, _ = process.communicate(timeout=60)
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert printed.endswith("interrupted; nothing half-written was left behind\n")
        assert folder.state() == before
    assert folder.answer() == "one 1.0"
    folder.replace_uv(f'exec "{UV}" "$@"')
    folder.must()
    assert folder.state()[::2] == ([".venv"], "one 2.0")  # type: ignore[index]


@pytest.mark.slow
def test_a_first_installation_that_was_killed_is_not_believed(folder: Folder) -> None:
    (folder.path / ".venv").rename(folder.path / ".venv.new")  # its lock is noted in it already
    (folder.path / ".venv.new/bin/one").unlink()
    folder.must()
    assert folder.state()[::2] == ([".venv"], "one 1.0")  # type: ignore[index]


def test_an_environment_that_was_put_aside_when_the_machine_stopped_comes_back(
    folder: Folder,
) -> None:
    before = folder.state()
    (folder.path / ".venv").rename(folder.path / ".venv.old")
    assert folder.must() == ""
    assert folder.state() == before


@pytest.mark.slow
def test_of_two_at_once_one_waits_and_then_has_nothing_to_do(folder: Folder) -> None:
    folder.replace_uv(f'echo "$2" >> "$CALLS"; sleep 1; exec "{UV}" "$@"')
    folder.lock("2.0")
    one = folder.start()
    folder.wait_for_call()
    other = folder.must()
    one.communicate(timeout=60)
    assert one.returncode == 0
    assert other == "environment: waiting for another process, which installs in this folder\n"
    assert (folder.path / "calls").read_text() == "sync\n"


@pytest.mark.slow
@pytest.mark.parametrize("change", ["another version", "its Python is gone"])
def test_an_environment_whose_python_is_another_is_made_from_nothing(
    folder: Folder, change: str
) -> None:
    if change == "another version":
        (folder.path / ".venv/pyvenv.cfg").write_text("version = 3.9.1\n")
    else:
        (folder.path / ".venv/bin/python").unlink()
        (folder.path / ".venv/bin/python").symlink_to("/nowhere/python3")
    (folder.path / ".venv/old").touch()
    folder.must()
    assert folder.state()[::2] == ([".venv"], "one 1.0")  # type: ignore[index]
    assert not (folder.path / ".venv/old").exists()


def test_uv_is_told_what_pip_is_configured_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.delenv(name)
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        "[global]\nindex-url = https://name:secret@packages.example.org/simple\n"
        "extra-index-url = https://one.example.org\n    https://two.example.org\n"
        "find-links = /a\ntimeout = 60\ntrusted-host = one.example.org\n"
        "[install]\nfind-links = /b /c\n[list]\nformat = columns\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("PIP_CERT", "/company.pem")
    variables = environment.uv_environment(Path(sys.executable))
    expected = {
        "UV_DEFAULT_INDEX": "https://name:secret@packages.example.org/simple",
        "UV_INDEX": "https://one.example.org https://two.example.org",
        "UV_FIND_LINKS": "/b,/c",
        "UV_HTTP_TIMEOUT": "60",
        "UV_INSECURE_HOST": "one.example.org",
        "SSL_CERT_FILE": "/company.pem",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_SYSTEM_CERTS": "true",
    }
    assert expected.items() <= variables.items()
    monkeypatch.setenv("UV_INDEX_URL", "https://mine.example.org")  # uv's older name
    monkeypatch.setenv("UV_FIND_LINKS", "/mine")
    variables = environment.uv_environment(Path(sys.executable))
    assert "UV_DEFAULT_INDEX" not in variables
    assert variables["UV_FIND_LINKS"] == "/mine"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An environment without packages."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    return tmp_path / "bare"


@pytest.fixture
def bare_python(bare: Path) -> Path:
    return bare / "bin/python"


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "tools.fresh"],
        ["-m", "stages.train"],
        ["-m", "benchmarks.logistic"],
        ["stages/train.py"],
        ["-c", "import core, torch"],
    ],
    ids=" ".join,
)
def test_a_python_without_the_packages_says_what_to_type(
    tmp_path: Path, bare_python: Path, words: list[str]
) -> None:
    for package in ("core", "stages", "tools", "benchmarks"):
        shutil.copytree(ROOT / package, tmp_path / package)

    def said() -> list[str]:
        done = subprocess.run(
            [bare_python, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr.splitlines()

    first, *details = said()
    assert first.startswith("error: this Python lacks the package ")
    assert details == [
        "  expected: the packages of requirements.lock",
        f"  found:    {bare_python} (Python {sys.version.split()[0]})",
        "  next:     make environment && . .venv/bin/activate",
    ]
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/requirements.lock").touch()
    assert said()[-1] == "  next:     . .venv/bin/activate, then run the command again"


def test_a_python_that_is_too_old_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.version_info = (3, 10, 9); import tools"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "error: this Python is too old for samebits\n  expected: Python 3.11" in done.stderr


def test_other_errors_keep_their_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import core.nothing"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr.startswith("Traceback (most recent call last):\n")


def test_dvc_of_an_environment_that_is_not_activated_starts_its_python(
    tmp_path: Path, bare: Path
) -> None:
    packages = next((bare / "lib").glob("python*/site-packages"))
    (packages / "these.pth").write_text(f"{Path(np.__file__).parents[1]}\n")
    (packages / environment.PATH_FILE).write_text(environment.PATH_LINE)
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  which:\n    cmd: python -c 'import sys; print(sys.prefix)' > out\n"
        "    outs: [out]\n"
    )
    for command in (["init", "--no-scm", "--quiet"], ["repro", "--quiet"]):
        subprocess.run([bare / "bin/python", "-m", "dvc", *command], cwd=tmp_path, check=True)
    assert (tmp_path / "out").read_text() == f"{bare}\n"


@pytest.mark.parametrize("path", ["/usr/bin", "{bin}:/usr/bin", "/wrapper:{bin}:/usr/bin"])
def test_a_path_that_has_the_environment_stays_as_it_is(bare: Path, path: str) -> None:
    packages = next((bare / "lib").glob("python*/site-packages"))
    (packages / environment.PATH_FILE).write_text(environment.PATH_LINE)
    given = path.format(bin=bare / "bin")
    found = subprocess.run(
        [bare / "bin/python", "-c", "import os; print(os.environ['PATH'])"],
        env={"PATH": given},
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert found == (given if "bare" in given else f"{bare / 'bin'}:/usr/bin")


@pytest.mark.slow
def test_pinning_keeps_what_is_pinned_adds_what_is_missing_and_moves_what_is_named(
    folder: Folder,
) -> None:
    for name in environment.LOCK, environment.EXTRAS_LOCK:
        (folder.path / name).write_text("one==1.0\n")

    def pins(*options: str) -> tuple[dict[str, str], dict[str, str]]:
        folder.must("tools.pin", *options)
        return pin.pinned(folder.path / environment.LOCK), pin.pinned(
            folder.path / environment.EXTRAS_LOCK
        )

    base, extras = pins()
    assert base == {"one": "1.0", "uv": "1.0"}
    assert extras == base | {"two": "1.0"}
    assert pins("--upgrade-package", "uv")[0]["one"] == "1.0"
    assert pins("--upgrade-package", "one")[0]["one"] == "2.0"
    for name in environment.LOCK, environment.EXTRAS_LOCK:
        (folder.path / name).write_text("one==1.0\n")
    assert pins("--upgrade")[1] == {"one": "2.0", "two": "1.0", "uv": "1.0"}


def test_what_cannot_be_resolved_changes_no_lock(folder: Folder) -> None:
    (folder.path / "pyproject.toml").write_text(PROJECT.replace('"one"', '"nowhere"'))
    before = (folder.path / environment.LOCK).read_text()
    assert "error: requirements-extras.lock could not be resolved" in folder.refused("tools.pin")
    assert (folder.path / environment.LOCK).read_text() == before


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["lock"], "tools.pin"),
        (["lock", "UPGRADE=1"], "tools.pin --upgrade"),
        (
            ["lock", "UPGRADE=torch torchvision"],
            "tools.pin --upgrade-package torch --upgrade-package torchvision",
        ),
        (["environment", "PYTHON=python3.12"], "tools.environment"),
        (["extra", "NAME=s3 ray"], "tools.extra s3 ray"),
    ],
)
def test_make_runs_these_commands(words: list[str], command: str) -> None:
    printed = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", *words],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert printed[-1].split("-m ")[-1].strip() == command
    if "PYTHON=python3.12" in words:
        assert printed == ['"python3.12" -m tools.environment']
