"""Values of settings as people type them on a command line, read by the type that the setting has."""

from __future__ import annotations

import re
from contextlib import suppress
from types import UnionType
from typing import Any, Union, get_args, get_origin

from .errors import ConfigError
from .text_files import parse_toml, shortened

_WINDOWS_PATH = re.compile(r'''"([A-Za-z]:\\(?!\\)[^"]*|\\\\[^\\"][^"]*)"''')


_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_value(text: str, kind: Any) -> Any:
    """Return what the right side of ``key=value`` says: TOML, or a bare text, which paths and names may be.

    Args:
        text: as it was typed.
        kind: type of the setting; None of an option, of which only its builder knows the type.

    Raises:
        ConfigError: quotes around what TOML does not take for a text.
    """
    quoted = text[:1] in ('"', "'")
    # Between double quotes TOML takes \t of C:\tiles for a tab; who means one backslash with two writes two.
    if path := _WINDOWS_PATH.fullmatch(text):
        return path[1]
    takes_texts = get_origin(kind) in (Union, UnionType) and str in get_args(kind)
    if (kind is str or (takes_texts and text[:1] != "[")) and not quoted:
        return text  # a folder may be called 2024, 1e3, true or 2024-05-01
    try:
        parsed = parse_toml(f"value = {text}")
    except ValueError:
        parsed = {}
    if list(parsed) == ["value"]:  # a second line would be lost without a word
        return parsed["value"]
    if quoted and text[-1:] == text[:1]:
        raise ConfigError(f"{shortened(text)} is no text as TOML has it; leave the quotes out, or use single ones")
    if text in ("True", "False"):
        return text == "True"
    for number in (int, float):  # 007, .5 and 5. are no TOML
        if _NUMBER.fullmatch(text):
            with suppress(ValueError):
                return number(text)
    return text
