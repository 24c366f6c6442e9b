"""Guesses why a rebuild gave other bytes."""

import platform

from ruamel.yaml import YAML

from tools.repository import packages

MOST_PACKAGES = 10


def likely(requirements: str, params: str, *, cpu: str | None, hostile: bool) -> list[str]:
    """Name what is known to change bits, and is so here.

    Args:
        requirements: the text of requirements.lock.
        params: the text of params.yaml.
        cpu: the emulated processor, if one is.
        hostile: the rebuild ran in a hostile environment.

    Returns:
        One sentence a cause, without a full stop; at least one.
    """
    causes = []
    if others := list(packages.other_versions(requirements)):
        shown = ", ".join(others[:MOST_PACKAGES])
        more = f" and {len(others) - MOST_PACKAGES} more" if others[MOST_PACKAGES:] else ""
        causes.append(
            f"other packages than requirements.lock: {shown}{more}; "
            "python -m pip install -r requirements.lock"
        )
    numerics = (YAML(typ="safe").load(params) or {}).get("numerics", "not set")
    if numerics != "portable":
        causes.append(
            f"numerics: {numerics} in params.yaml, whose bits hold on one kind of processor "
            "with one number of threads; those of portable hold on all"
        )
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        causes.append(f"another architecture: {machine}; the promise is for x86-64")
    if cpu:
        causes.append(
            f"the processor: a stage ran as on a {cpu}; if it gives the committed bytes "
            "without --cpu, a library in it chooses its code by the processor"
        )
    if hostile:
        causes.append(
            "the environment: a stage depends on its time zone, language, folder or another "
            "thing that --hostile changes, if it gives the committed bytes without it"
        )
    return causes or [
        "unknown: the packages are those of requirements.lock, the numerics portable, the "
        f"processor {machine}; if two rebuilds differ from each other too, look in the stage "
        "for a time, a path, the order of a set, or randomness without a seed"
    ]
