"""Prints what the last rebuild found: `make repro` ends with it.

Reads: metrics/evaluate.json and metrics/test.json
"""

import json
from pathlib import Path

EVALUATION = Path("metrics/evaluate.json")
TEST = Path("metrics/test.json")
REPORT = Path("reports/test_report.html")


def main() -> None:
    """Print a table of loss and accuracy, where the report is, and what to try next."""
    val = json.loads(EVALUATION.read_text(encoding="utf-8"))["val"]
    test = json.loads(TEST.read_text(encoding="utf-8"))
    print()
    print("              loss  accuracy")
    print(f"validation  {val['loss']:6.4f}    {val['accuracy']:6.4f}")
    print(
        f"test        {test['loss']:6.4f}    {test['accuracy']:6.4f}  "
        f"(95 % interval {test['accuracy_low']:.4f} to {test['accuracy_high']:.4f})"
    )
    print()
    print(f"report  {REPORT}")
    print("next    . .venv/bin/activate && dvc exp run -S train.lr=0.1")


if __name__ == "__main__":
    main()
