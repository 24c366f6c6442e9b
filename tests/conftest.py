"""What all tests share: numerics pinned before anything imports torch."""

import os
import signal

import hypothesis
import pytest
from filelock import FileLock

from core.training import numerics
from tests.support.project import ROOT, Project, copy_project, make_tiny

numerics.pin("portable", None)

# A shell's background job ignores Ctrl-C, and so would every process of the tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, none saved on disk.
hypothesis.settings.register_profile("suite", derandomize=True, database=None, deadline=None)
# The number and seed of `make fuzz`.
hypothesis.settings.register_profile(
    "fuzz",
    parent=hypothesis.settings.get_profile("suite"),
    derandomize=False,
    max_examples=int(os.environ.get("EXAMPLES", "1000")),
)
hypothesis.settings.load_profile("suite")
# Hypothesis also saves what it learns of the code: not beside the code.
hypothesis.configuration.set_hypothesis_home_dir(ROOT / ".pytest_cache/hypothesis")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`, its results committed: to be copied, and not changed.

    The first worker that needs it builds it, for all.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with FileLock(shared / "built.lock"):
        project = Project(shared / "built")
        if not (shared / "built.whole").exists():
            project.folder.mkdir()
            make_tiny(copy_project(project.folder))
            (project.folder / "dvc.lock").unlink()
            project.must("dvc", "repro")
            project.commit("Results")
            (shared / "built.whole").touch()
    return project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a GPU where there is none."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU: none found here"))
