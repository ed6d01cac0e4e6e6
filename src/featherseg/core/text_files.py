"""Text files by people or strangers, TOML, JSON and YAML: with limits on all that could take time or memory.

Everything that is wrong with one is a :class:`ValueError` of one line; the caller says which file it is.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .errors import first_line, require

T = TypeVar("T")

MAX_TEXT_BYTES = 256 << 10
"""Largest recipe or class file that is read; real ones have a few kB."""
MAX_DEPTH = 50
"""Sections and lists within each other; real files have about five."""

# tomllib's time grows with the square of a key's parts: 50,000 of them, 100 kB, take a minute. A line of class weights
# has 255 dots at most.
_MAX_DOTS = 500


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """Return the text of a UTF-8 file, without the byte order mark that some editors put before it.

    Raises:
        ValueError: it is larger than `limit` bytes, or no UTF-8.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has over {limit} bytes, too many to be real")
    return content.decode("utf-8-sig")


def parse_toml(text: str) -> dict[str, Any]:
    """Return what TOML says.

    Raises:
        ValueError: it is no TOML, or nested too deeply.
    """
    if any(line.count(".") > _MAX_DOTS for line in text.splitlines()):
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    try:
        tree = tomllib.loads(text.replace("\r\n", "\n"))
    except RecursionError as error:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from error
    except ValueError as error:  # of int() too, which takes 4300 digits at most
        raise ValueError(shortened(first_line(error), 200)) from error
    check_tree(tree)
    return tree


def parse_json(text: str, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Return what JSON says.

    Args:
        text: of the file.
        hook: what each object becomes, the innermost first; may raise a ValueError.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        tree = json.loads(text, object_hook=hook)
    except RecursionError as error:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from error
    check_tree(tree)
    return tree


def parse_typed(content: bytes, kind: type[T]) -> T:
    """Return what large JSON says of what `kind` asks for; all else in it is passed over without being built.

    Raises:
        ValueError: it is no JSON, says something else, or is nested too deeply.
    """
    try:
        return msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=kind, strict=True)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(shortened(first_line(error), 200)) from error


def parse_yaml(text: str) -> Any:
    """Return what YAML says, of plain values only.

    Aliases are refused: a file of 200 bytes can name a tree of billions of values with them.

    Raises:
        MissingExtraError: YAML needs the extra ``labels``.
        ValueError: it is no YAML, has aliases or tags that run code, or is nested too deeply.
    """
    yaml = require("yaml", "labels", "Reading YAML")
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):  # one after the other: its time grows with depth squared
            if isinstance(event, yaml.events.AliasEvent):
                raise ValueError("it has aliases (*name); write out what they stand for")
            depth += isinstance(event, yaml.events.CollectionStartEvent)
            depth -= isinstance(event, yaml.events.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        tree = yaml.load(text, yaml.SafeLoader)
    except RecursionError as error:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from error
    except (yaml.YAMLError, ArithmeticError, LookupError, TypeError, AttributeError, ValueError) as error:
        # Of yaml's constructors too: dates of month 13, numbers of 5000 digits, keys that are lists.
        raise ValueError(shortened(" ".join(str(error).split()) or type(error).__name__, 200)) from error
    check_tree(tree)
    return tree


def check_tree(tree: Any) -> None:
    """Refuse a tree of dictionaries and lists that would break what walks through it or passes its texts on.

    Raises:
        ValueError: it is nested too deeply, or holds a text with a character that no path or message can.
    """
    for depth, node in _walk(tree):
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        if isinstance(node, str) and "\0" in node:
            raise ValueError(f"the text {shortened(repr(node))} holds a zero byte")
        if isinstance(node, str) and not node.isascii() and any("\ud800" <= letter <= "\udfff" for letter in node):
            raise ValueError(f"the text {shortened(repr(node))} holds half a character")


def shortened(text: str, most: int = 80) -> str:
    """Return `text`, its middle left out where it has more than `most` characters."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) :]}"


def plain(text: object, most: int = 80) -> str:
    """Return what strangers wrote as it can stand in a line: shortened, and nothing in it that cannot be printed."""
    return shortened("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text)), most)


def _walk(tree: Any) -> Iterator[tuple[int, Any]]:
    """Give all keys and values with their depth, without recursion, which deep trees would exhaust."""
    waiting = [(0, tree)]
    while waiting:
        depth, node = waiting.pop()
        yield depth, node
        if isinstance(node, dict):
            waiting += [(depth + 1, part) for pair in node.items() for part in pair]
        elif isinstance(node, list | tuple):
            waiting += [(depth + 1, part) for part in node]
