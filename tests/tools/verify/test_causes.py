"""Likely causes of different bits: each is named if it applies, and only then."""

import platform
from importlib import metadata

import pytest

from tests.support.project import ROOT
from tools.verify import causes

PORTABLE = "numerics: portable\n"


def likely(lock: str = "", params: str = PORTABLE, *, cpu: str | None = None) -> list[str]:
    return causes.likely(lock, params, cpu=cpu, hostile=False)


def test_without_any_known_cause_it_says_unknown() -> None:
    (cause,) = likely()
    assert cause.startswith("unknown: the packages are those of requirements.lock")


def test_a_package_of_another_version_is_named_with_both() -> None:
    installed = metadata.version("tqdm")
    (cause,) = likely(f"# by uv\ntqdm==1.2.3\n    # via dvc\nnumpy=={metadata.version('numpy')}\n")
    assert cause.startswith(
        f"other packages than requirements.lock: tqdm {installed} (locked 1.2.3); "
    )


def test_of_many_packages_the_first_ten_are_named() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = [line.split("==")[0] for line in lock.splitlines() if "==" in line and ";" not in line]
    (cause,) = likely("".join(f"{name}==0.0.1\n" for name in pins))
    assert cause.count("(locked 0.0.1)") == 10
    assert f" and {len(pins) - 10} more; " in cause


@pytest.mark.parametrize(("params", "found"), [("numerics: fast\n", "fast"), ("", "not set")])
def test_numerics_other_than_portable_are_a_cause(params: str, found: str) -> None:
    (cause,) = likely(params=params)
    assert cause.startswith(f"numerics: {found} in params.yaml")


def test_another_architecture_is_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert likely() == ["another architecture: aarch64; the promise is for x86-64"]


def test_an_emulated_processor_and_hostile_environment_are_causes() -> None:
    processor, environment = causes.likely("", PORTABLE, cpu="Nehalem", hostile=True)
    assert processor.startswith("the processor: a stage ran as on a Nehalem")
    assert environment.startswith("the environment: ")
