"""What can go wrong for a user, as exceptions that say what to do about it.

    PipelineError
    ├── ParamsError     params.yaml does not hold what it should
    ├── SetupError      started from the wrong folder, or with the wrong environment
    ├── StorageError    the disk or the memory is full
    ├── DownloadError   no source served the expected bytes
    ├── DataError       an array on disk is not what a stage needs
    ├── ModelError      a model file does not fit params.yaml
    └── TrainingError   the training itself failed: its loss is no longer a number

Stages and tools print these in a few lines and exit with status 1; any other
exception is a bug of ours and keeps its traceback.
"""

from core.pipeline.visible import visible


class PipelineError(Exception):
    """An error that a user can act on.

    Args:
        what: what went wrong, in one sentence without a full stop.
        expected: what should have been there.
        found: what was there instead.
        where: the file, the key or the step.
        todo: what to do next.
    """

    def __init__(
        self, what: str, *, expected: str = "", found: str = "", where: str = "", todo: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.details = {"expected": expected, "found": found, "where": where, "next": todo}

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in self.details.items():
            if text:
                lines.append(f"  {label + ':':<10}" + text.replace("\n", "\n" + " " * 12))
        return visible("\n".join(lines))


class ParamsError(PipelineError):
    """params.yaml does not hold what it should."""


class SetupError(PipelineError):
    """Started from the wrong folder, or with the wrong environment."""


class StorageError(PipelineError):
    """The disk or the memory is full."""


class DownloadError(PipelineError):
    """No source served the expected bytes."""


class DataError(PipelineError):
    """An array on disk is not what a stage needs."""


class ModelError(PipelineError):
    """A model file does not fit params.yaml."""


class TrainingError(PipelineError):
    """The training itself failed: its loss is no longer a number."""
