"""What stages and tools share.

Every command loads this module before any package that has to be installed, so that a
Python which is too old or lacks the packages says so, and says what to type. It changes no
result, so it is not in dvc.yaml.
"""

import importlib.util
import sys
from pathlib import Path
from types import TracebackType

TOO_OLD = sys.version_info < (3, 11)


def _say(what: str, expected: str) -> None:
    """Print an error as core/pipeline/errors.py formats it: that module needs a newer Python."""
    environment = Path(__file__).resolve().parents[1] / ".venv"
    if not (environment / "requirements.lock").exists():
        newer = " PYTHON=python3.12" if TOO_OLD else ""
        todo = f"make environment{newer} && . .venv/bin/activate"
    elif Path(sys.prefix).resolve() != environment.resolve():
        todo = ". .venv/bin/activate, then run the command again"
    else:
        todo = "rm -r .venv && make environment"
    print(
        f"error: {what}",
        f"  expected: {expected}",
        f"  found:    {sys.executable} (Python {sys.version.split()[0]})",
        f"  next:     {todo}",
        sep="\n",
        file=sys.stderr,
    )


if TOO_OLD:
    _say("this Python is too old for samebits", "Python 3.11 or newer")
    sys.exit(1)

_other_errors = sys.excepthook


def _explain_missing_package(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    package = (getattr(error, "name", None) or "").partition(".")[0]
    if issubclass(kind, ModuleNotFoundError) and package and not importlib.util.find_spec(package):
        _say(f"this Python lacks the package {package}", "the packages of requirements.lock")
    else:
        _other_errors(kind, error, trace)


sys.excepthook = _explain_missing_package
