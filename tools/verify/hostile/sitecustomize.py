"""Lists every folder in reverse order; Python imports this module when it starts.

`tools.verify --hostile` puts this folder on the PYTHONPATH of the stages. File systems list
files in any order, and a result must not depend on it. Few use a reversed sorted order.
"""

import os
from typing import Any

_listdir, _scandir = os.listdir, os.scandir


class _Backwards:
    """What os.scandir returns, but in reversed order of names."""

    def __init__(self, *arguments: Any) -> None:
        with _scandir(*arguments) as entries:
            self._entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

    def __iter__(self) -> "_Backwards":
        return self

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> "_Backwards":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


def _listdir_backwards(*arguments: Any) -> Any:
    return sorted(_listdir(*arguments), reverse=True)


os.listdir, os.scandir = _listdir_backwards, _Backwards  # type: ignore[assignment]
