"""The notebook shows its output, runs from both folders, and writes into neither."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.pipeline.errors import SetupError
from core.training import numerics
from tests.support.project import ROOT, Project, copy_project
from tools import notebook

DATA = [
    *(f"data/raw/{part}_{what}.npy" for part in ("train", "test") for what in ("images", "labels")),
    "data/raw/classes.json",
    "data/split/train_indices.npy",
    "data/split/val_indices.npy",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy in which no data were made, and an environment in which nothing is pinned."""
    for name in numerics.PORTABLE_KERNELS:
        monkeypatch.delenv(name, raising=False)
    return copy_project(tmp_path)


def cells(text: str) -> list[dict[str, Any]]:
    """The cells of a notebook, with their outputs."""
    found: list[dict[str, Any]] = json.loads(text)["cells"]
    return found


@pytest.mark.skipif(
    not all((ROOT / name).exists() for name in DATA), reason="needs the images: make repro"
)
def test_a_rerun_of_the_notebook_elsewhere_gives_the_same_file_and_writes_no_other(
    project: Project,
) -> None:
    for name in DATA:
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).symlink_to(ROOT / name)
    committed = project.read(str(notebook.NOTEBOOK))

    rerun = notebook.executed(
        project.folder / notebook.NOTEBOOK, folder=project.folder / "notebooks"
    )

    differ = [
        before["id"]
        for before, after in zip(cells(committed), cells(rerun), strict=True)
        if before != after
    ]
    assert not differ, "make notebook"
    same = rerun == committed  # apart: pytest would compare the pictures letter by letter
    assert same, "make notebook"
    seen = project.must("git", "status", "--porcelain", "--ignored", "--untracked-files=all")
    made = [line[3:] for line in seen.splitlines() if "__pycache__" not in line]
    assert sorted(made) == sorted(DATA)


@pytest.mark.parametrize("folder", [".", "notebooks"])
def test_without_images_the_notebook_says_what_to_run(project: Project, folder: str) -> None:
    with pytest.raises(SetupError, match="There are no images yet: run `make repro`"):
        notebook.executed(project.folder / notebook.NOTEBOOK, folder=project.folder / folder)


def test_the_notebook_is_small_enough_for_git() -> None:
    assert (ROOT / notebook.NOTEBOOK).stat().st_size < 300_000
