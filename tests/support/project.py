"""A copy of the project in the working tree, for a test to run and to break."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import parameters, quick_python

ROOT = Path(__file__).resolve().parents[2]
MIRROR = Path("data/mirror/mnist")

TINY_TRAIN = 400  # images
TINY_TEST = 120


def needs(tool: str) -> pytest.MarkDecorator:
    """Skip a test where a team has deleted a folder of tools/."""
    return pytest.mark.skipif(
        not (ROOT / "tools" / tool).exists(), reason=f"this project has no tools/{tool}"
    )


class Project:
    """A git and DVC repository of its own, with an empty cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder; never raises.

        Args:
            command: its `python` is that of tests/support/quick_python.py, which does
                not inherit what a shell or another program changes for a process, nor
                variables that count when Python starts: such commands get this Python.
            environment: variables to add.
        """
        folders = [Path(sys.executable).parent, os.environ["PATH"]]
        if command[0] in ("python", "dvc") and not environment:
            folders.insert(0, quick_python.folder())
        path = os.pathsep.join(map(str, folders))
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "PATH": path, **environment},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )

    def must(self, *command: str, **environment: str) -> str:
        """Run a command that must succeed, and return its output."""
        done = self.run(*command, **environment)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def replace(self, file: str, old: str, new: str) -> None:
        """Replace the only occurrence of `old` in a file."""
        text = self.read(file)
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        (self.folder / file).write_text(text.replace(old, new), encoding="utf-8")

    def read(self, file: str) -> str:
        """Return the text of a file."""
        return (self.folder / file).read_text(encoding="utf-8")

    def copy(self, folder: Path) -> "Project":
        """Copy it, with its cache."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def start_history(self) -> None:
        """Create its git repository, with nothing in it yet."""
        self.must("git", "init", "--quiet", "--initial-branch=main")
        self.must("git", "config", "user.name", "Test")
        self.must("git", "config", "user.email", "test@example.org")

    def commit(self, message: str) -> None:
        """Commit everything."""
        self.must("git", "add", "--all")
        self.must("git", "commit", "--quiet", "--message", message)


def copy_project(folder: Path) -> Project:
    """Copy every file that git tracks or would track, and commit them.

    The copy's params.yaml has the values of the tests.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(parameters.text(), encoding="utf-8")
    project = Project(folder)
    project.start_history()
    project.commit("The project as it stands")
    return project


def make_tiny(project: Project) -> Project:
    """Give a copy its own data set: the first few hundred images of MNIST.

    What this takes is what any new data set takes: an entry in
    core/data/datasets.py, a name in core/data/dataset_params.py, sources in params.yaml.
    """
    cut = {
        "train-images-idx3-ubyte": (16, TINY_TRAIN, 784),
        "train-labels-idx1-ubyte": (8, TINY_TRAIN, 1),
        "t10k-images-idx3-ubyte": (16, TINY_TEST, 784),
        "t10k-labels-idx1-ubyte": (8, TINY_TEST, 1),
    }
    sums = []
    mirror = project.folder / "data/mirror/tiny"
    mirror.mkdir(parents=True)
    for name, (header, count, size) in cut.items():
        content = gzip.decompress((ROOT / MIRROR / f"{name}.gz").read_bytes())
        count_bytes = np.array(count, dtype=">i4").tobytes()  # the second word of the header
        content = content[:4] + count_bytes + content[8 : header + count * size]
        (mirror / name).write_bytes(content)
        sums.append(hashlib.sha256(content).hexdigest())

    project.replace(
        "core/data/datasets.py",
        "DATASETS: dict[str, Dataset] = {\n",
        "DATASETS: dict[str, Dataset] = {\n"
        '    "tiny": mnist_like(\n'
        '        ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),\n'
        f'        train_images="{sums[0]}",\n'
        f'        train_labels="{sums[1]}",\n'
        f'        test_images="{sums[2]}",\n'
        f'        test_labels="{sums[3]}",\n'
        f"        train_count={TINY_TRAIN},\n"
        f"        test_count={TINY_TEST},\n"
        "    ),\n",
    )
    project.replace(
        "core/data/dataset_params.py", "DatasetName = Literal[", 'DatasetName = Literal["tiny", '
    )
    project.replace("params.yaml", "name: mnist", "name: tiny")
    project.replace("params.yaml", "  mirrors:\n", "  mirrors:\n    tiny: [data/mirror/tiny]\n")
    project.replace("params.yaml", "  lr: 0.001", "  lr: 0.1")
    project.commit("A tiny data set")
    return project
