"""Prints the results of the last rebuild: `make repro` ends with it.

Reads: metrics/evaluate.json and metrics/test.json; and all outputs, to compare
them with dvc.lock: DVC may have restored one that was corrupted in its cache.
"""

import json
from pathlib import Path
from typing import Any

from core.pipeline import provenance
from core.pipeline.errors import DataError
from core.pipeline.runner import run

EVALUATION = Path("metrics/evaluate.json")
TEST = Path("metrics/test.json")
REPORT = Path("reports/test_report.html")


def main() -> None:
    """Print a table of loss and accuracy, where the report is, and what to try next."""
    provenance.check_outputs()
    val, test = _read(EVALUATION)["val"], _read(TEST)
    print()
    print("              loss  accuracy")
    print(f"validation  {val['loss']:6.4f}    {val['accuracy']:6.4f}")
    print(
        f"test        {test['loss']:6.4f}    {test['accuracy']:6.4f}  "
        f"(95 % interval {test['accuracy_low']:.4f} to {test['accuracy_high']:.4f})"
    )
    print()
    print(f"report  {REPORT if REPORT.exists() else 'make repro writes it'}")
    print("next    . .venv/bin/activate && dvc exp run --temp -n lr-0.1 -S train.lr=0.1")
    print("        make experiments lists them")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing", todo="make repro writes it") from None
    except ValueError as error:
        raise DataError(
            f"{path} is not in JSON", found=str(error), todo=f"git checkout {path}, or make repro"
        ) from error


if __name__ == "__main__":
    run(main)
