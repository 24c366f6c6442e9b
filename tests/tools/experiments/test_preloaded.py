"""A preloaded Python behaves as Python does, without the time of its imports."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.experiments import preloaded

CASES = {
    "writes to both": "import sys; print('out', 1); print('err', file=sys.stderr)",
    "gets arguments": "import sys; print(sys.argv[1:])",
    "reads its input": "print(input()[::-1])",
    "knows its folder": "import os, pathlib; print(pathlib.Path.cwd().name, os.environ['TRIED'])",
    "comes from its folder": "import sys; print(sys.path[0].rpartition('/')[2], __spec__.name)",
    "imports its neighbours": "import neighbour; print(neighbour.NAME)",
    "ends with a status": "raise SystemExit(3)",
    "ends with a message": "raise SystemExit('output')",
    "fails": "print(1 / 0)",
    "is killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "is ended": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "says goodbye": "import atexit; atexit.register(print, 'goodbye')",
}


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """The program `python` of a preloaded Python that knows `sqlite3`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preloaded, "LIBRARIES", ("sqlite3", "no_such_library"))
        with preloaded.preloaded({"KEPT": "as it was"}, os.environ) as folder:
            yield folder / "python"


def run(
    python: str | Path, folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *arguments],
        cwd=folder,
        env={**os.environ, "TRIED": "é", **environment},
        input="drawer\n",
        capture_output=True,
        text=True,
        timeout=60,
    )


def package(folder: Path, source: str, neighbour: str = "near") -> Path:
    """Write `trial/case.py`, and a module next to it to import."""
    (folder / "trial").mkdir(parents=True)
    (folder / "trial/case.py").write_text(f"{source}\n")
    (folder / "neighbour.py").write_text(f"NAME = {neighbour!r}\n")
    return folder


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("source", CASES.values(), ids=CASES)
def test_a_module_runs_and_ends_as_it_would_under_python_itself(
    python: Path, tmp_path: Path, source: str
) -> None:
    folder = package(tmp_path / "a folder", source)
    command = ("-m", "trial.case", "--lr", "0.1")

    expected, found = run(sys.executable, folder, *command), run(python, folder, *command)

    assert found.returncode == expected.returncode
    assert found.stdout == expected.stdout
    assert found.stderr.splitlines()[-3:] == expected.stderr.splitlines()[-3:]


def test_the_cases_end_in_every_way(tmp_path: Path) -> None:
    ends = {
        run(sys.executable, package(tmp_path / str(number), source), "-m", "trial.case").returncode
        for number, source in enumerate(CASES.values())
    }
    assert ends == {0, 1, 3, -signal.SIGKILL, -signal.SIGTERM}


def test_each_folder_runs_its_own_code(python: Path, tmp_path: Path) -> None:
    source = "import neighbour; print(neighbour.NAME)"
    folders = [package(tmp_path / name, source, neighbour=name) for name in ("one", "two")]
    ran = [run(python, folder, "-m", "trial.case").stdout for folder in [*folders, *folders]]
    assert ran == ["one\n", "two\n", "one\n", "two\n"]


def test_libraries_are_there_already_and_the_variables_they_read_are_kept(
    python: Path, tmp_path: Path
) -> None:
    source = "import os, sys; print('sqlite3' in sys.modules, os.environ['KEPT'])"
    folder = package(tmp_path / "folder", source)
    assert run(python, folder, "-m", "trial.case", KEPT="another").stdout == "True as it was\n"


def test_anything_but_a_module_is_left_to_python_itself(python: Path, tmp_path: Path) -> None:
    program = "import sys; print('sqlite3' in sys.modules)"
    assert run(python, tmp_path, "-c", program).stdout == "False\n"


def test_without_the_process_that_waits_python_itself_runs(tmp_path: Path) -> None:
    folder = package(tmp_path / "folder", "import sys; print('sqlite3' in sys.modules)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preloaded, "LIBRARIES", ("sqlite3",))
        with preloaded.preloaded({}, os.environ) as made:
            shell = made / "python"
            address = made / "socket"
            address.unlink()
            assert run(shell, folder, "-m", "trial.case").stdout == "False\n"


def test_where_no_socket_can_be_made_python_itself_is_offered(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 110)  # longer than an address of a socket may be
    deep.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(deep))
        with preloaded.preloaded({}, os.environ) as folder:
            assert folder == Path(sys.executable).parent
    assert list(deep.iterdir()) == []


def test_when_its_caller_was_killed_it_is_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = package(tmp_path / "a folder", "print(flush=True); input()")
    with preloaded.preloaded({}, os.environ, ()) as programs:
        caller = subprocess.Popen(
            [programs / "python", "-m", "trial.case"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        assert caller.stdin
        assert caller.stdout
        assert caller.stdout.readline() == b"\n"
        caller.kill()
        caller.stdin.write(b"\n")
        caller.stdin.close()
        caller.stdout.close()
        caller.wait()
        end = time.monotonic() + 30
        while group_exists(caller.pid):
            assert time.monotonic() < end
            time.sleep(0.01)
    assert capfd.readouterr().err == ""


def test_nothing_is_left_of_it() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preloaded, "LIBRARIES", ())
        with preloaded.preloaded({}, os.environ) as folder:
            assert (folder / "python").exists()
    assert not folder.exists()


def test_nothing_is_left_of_it_when_who_started_it_is_killed() -> None:
    program = (
        "import os, signal; from tools.experiments import preloaded\n"
        "preloaded.LIBRARIES = ()\n"
        "with preloaded.preloaded({}, os.environ) as folder:\n"
        "    print(folder, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = run(sys.executable, Path(preloaded.__file__).parents[2], "-c", program)
    assert killed.returncode == -signal.SIGKILL
    folder = Path(killed.stdout.strip())
    end = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
