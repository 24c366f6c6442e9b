"""Lists every folder backwards; Python imports it at its start.

`tools.verify --hostile` puts this folder on the stages' PYTHONPATH: file
systems list in any order, and a result must not depend on it. A reversed
sorted order is one that few of them use.
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
