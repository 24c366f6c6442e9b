"""Chooses where experiments run: on this machine, or on the nodes of a Ray cluster."""

import importlib
import importlib.util
from pathlib import Path

from core.pipeline.errors import SetupError
from tools import extra
from tools.experiments.executor_interface import Executor
from tools.experiments.local_executor import LocalExecutor

RAY_EXECUTOR = "tools.experiments.ray"  # may be deleted where there is no cluster


def chosen(root: Path, jobs: int | None, ray: str | None) -> Executor:
    """Return the executor that the command line asks for.

    Args:
        root: of the repository.
        jobs: how many at a time; None for as many as the processors allow.
        ray: the address of a Ray cluster, or `local`; None for no Ray.

    Raises:
        SetupError: Ray, an optional package, is not installed, or its executor was deleted.
    """
    if ray is None:
        return LocalExecutor(root, jobs)
    if importlib.util.find_spec(RAY_EXECUTOR) is None:
        raise SetupError(
            "this project has no Ray executor",
            expected=f"the folder {RAY_EXECUTOR.replace('.', '/')}",
            todo="run it without --ray",
        )
    extra.require("ray", "ray", "--ray")
    module = importlib.import_module(f"{RAY_EXECUTOR}.ray_executor")
    executor: Executor = module.RayExecutor(root, jobs, ray)
    return executor
