"""Reads a YAML file as plain values, each with its position and its source text.

Only the parser of ruamel.yaml is used: the few kinds of values that a file of
parameters needs are built here, so that no tag in it constructs anything, and a
number that YAML's versions read differently (010) is refused. PyYAML does not
work: it reads the `1e-05` that DVC writes as a string.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from core.pipeline.errors import ParamsError
from core.pipeline.files import regular

MAX_BYTES = 100_000  # far more than any params.yaml has
MAX_DEPTH = 10  # of sections and lists; deeper than any parameter
MAX_BRACKETS = 500  # [ and { in all: the parser takes half a minute for 2,000 in a row
YAML_TAG = "tag:yaml.org,2002:"  # of the kinds of values that YAML itself defines

Location = tuple[str | int, ...]


@dataclass
class Document:
    """A parsed YAML file: its values, and the position and source text of each."""

    text: str
    values: Any = None  # dicts, lists and scalars
    positions: dict[Location, tuple[int, int]] = field(default_factory=dict)  # line, column from 1
    source: dict[Location, str] = field(default_factory=dict)
    problems: dict[Location, str] = field(default_factory=dict)  # not allowed here
    seen: set[int] = field(default_factory=set)

    def name(self, location: Location) -> str:
        """Return the key at `location` with its line and column, for a message."""
        name = _shortened(".".join(str(part) for part in location)) or "the file"
        if location in self.positions:
            name += " (line {}, column {})".format(*self.positions[location])
        return name

    def _value(self, node: Node | None, location: Location = ()) -> Any:
        """Turn nodes into dicts, lists and scalars; anything else into NaN, which is never valid.

        What YAML allows but a file of parameters may not hold is noted as a problem.
        """
        self.source[location] = self._as_written(node)
        if node is None:
            return None
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if id(node) in self.seen:  # expanding it might never end
            self.problems[location] = "an alias of a whole section or list; write it out"
            return math.nan
        self.seen.add(id(node))
        if len(location) > MAX_DEPTH:
            return math.nan
        if node.tag == YAML_TAG + "seq":
            return [self._item(item, (*location, index)) for index, item in enumerate(node.value)]
        if node.tag == YAML_TAG + "map":
            return self._section(node, location)
        return math.nan

    def _section(self, node: Node, location: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            line, column = key.start_mark.line + 1, key.start_mark.column + 1
            if key.tag == YAML_TAG + "str" and key.value.isprintable():
                where = (*location, key.value)
                if key.value in values:
                    self.problems[where] = f"stands twice, here and on line {line}"
                else:
                    self.positions[where] = (line, column)
                    values[key.value] = self._value(value, where)
                continue
            where = (*location, self._as_written(key))
            self.positions[where] = (line, column)
            if key.tag == YAML_TAG + "merge":
                self.problems[where] = "a merge key; write its keys out"
            elif key.tag == YAML_TAG + "str":
                self.problems[where] = "a key with a character that cannot be seen; type it again"
            else:
                self.problems[where] = "a key must be a name; put it in quotes if it is one"
        return values

    def _item(self, node: Node, location: Location) -> Any:
        if id(node) not in self.seen:  # an alias has only the position of its anchor
            self.positions[location] = (node.start_mark.line + 1, node.start_mark.column + 1)
        return self._value(node, location)

    def _as_written(self, node: Node | None) -> str:
        if node is None:
            return "nothing"
        if isinstance(node, MappingNode) and node.tag == YAML_TAG + "map":
            return "a section"
        if isinstance(node, SequenceNode) and node.tag == YAML_TAG + "seq":
            return "a list" if node.value else "an empty list"
        text = self.text[node.start_mark.index : node.end_mark.index]
        # Only what ends a line: other white space may be what is wrong.
        return _shortened(re.sub(r" *[\r\n]+ *", " ", text).strip(" ")) or "nothing"


def load(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        ParamsError: the file is missing, unreadable, too large, or not YAML in UTF-8.
    """
    text = _read_text(path)
    document = Document(text)
    document.values = document._value(_parse(path, text))
    return document


def _read_text(path: Path) -> str:
    try:
        with regular(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ParamsError(
            f"there is no {path} in this folder",
            where=str(Path.cwd()),
            todo="run the command from the root of the repository",
        ) from None
    except OSError as error:
        raise ParamsError(
            f"{path} cannot be read",
            found=error.strerror or str(error),
            where=str(Path.cwd()),
            todo=f"make {path} a file that you may read",
        ) from error
    if len(content) > MAX_BYTES:
        raise ParamsError(
            f"{path} is too large to be a file of parameters",
            expected=f"at most {MAX_BYTES:,} bytes",
            found=f"{path.stat().st_size:,} bytes",
            todo=f"git diff {path} shows what was changed",
        )
    brackets = content.count(b"[") + content.count(b"{")
    if brackets > MAX_BRACKETS:
        raise ParamsError(
            f"{path} holds too many brackets to be a file of parameters",
            expected=f"at most {MAX_BRACKETS:,} of [ and {{",
            found=f"{brackets:,}",
            todo=f"git diff {path} shows what was changed",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParamsError(
            f"{path} is not text in UTF-8",
            found=f"the byte 0x{content[error.start]:02x}",
            where=f"{path}, line {content[: error.start].count(10) + 1}",
            todo=f"save {path} as UTF-8",
        ) from error


def _parse(path: Path, text: str) -> Node | None:
    """Parse `text` into the nodes of one YAML document, or None if it is empty."""
    try:
        root: Node | None = YAML().compose(text)
        return root
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        found = error.problem or str(error)
        position = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    except ReaderError as error:
        before = text[: error.position].split("\n")
        found = f"the character U+{ord(text[error.position]):04X}"
        position = f", line {len(before)}, column {len(before[-1]) + 1}"
    except RecursionError:
        found, position = "hundreds of lists or sections within each other", ""
    raise ParamsError(
        f"{path} is not valid YAML",
        found=found,
        where=f"{path}{position}",
        todo=f"fix that line; git diff {path} shows what was changed",
    )


def _scalar(node: ScalarNode) -> Any:
    """Return the int, float, bool, None or str of a node, or NaN."""
    kind = str(node.tag).removeprefix(YAML_TAG)
    try:
        if kind == "int":
            return int(node.value, 0)
        if kind == "float":
            return float(node.value)
    except ValueError:  # YAML's .inf and .nan, 010, thousands of digits
        return math.nan
    if kind == "bool":
        return {"true": True, "false": False}.get(node.value.lower(), math.nan)
    return {"null": None, "str": node.value}.get(kind, math.nan)


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
