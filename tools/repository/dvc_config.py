"""DVC's settings, with a writer that takes any characters.

DVC writes its settings in ASCII: a path with other letters ends it, and leaves the file empty.
It reads them in UTF-8.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configobj import ConfigObj
from dvc.config import Config, _pack_named

from core.pipeline import files


class Utf8Config(Config):  # type: ignore[misc]
    """As DVC's, but it writes in UTF-8, and the whole file or nothing."""

    def __init__(self, folder: Path) -> None:
        """Read the settings in a folder .dvc, without checking them."""
        super().__init__(str(folder.absolute()), validate=False)

    def _save_config(self, level: str, settings: Mapping[str, Any]) -> None:
        lines = ConfigObj(_pack_named(settings)).write()
        files.write_text(Path(self.files[level]), "\n".join([*lines, ""]))
